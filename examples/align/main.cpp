// rlhf-align: a language model aligned by DPO, REBEL, PPO, RTO and many others, from data to report.

#if __has_include(<malloc.h>)
#include <malloc.h>
#endif

#include <cstdio>
#include <exception>
#include <string>

#include "align/compare/comparison.hpp"
#include "align/compare/plan.hpp"
#include "align/compare/value_study.hpp"
#include "align/files/save.hpp"
#include "align/model/subnormals.hpp"
#include "align/report/report.hpp"
#include "align/run/peak_memory.hpp"
#include "align/run/pipeline.hpp"

namespace {

using namespace align;

void print(const run_plan& plan) {
  std::printf("%-20s %10s %10s\n", "stage", "steps", "seconds");
  for (const stage_plan& stage : plan.stages)
    std::printf("%-20s %10lld %10.1f\n", stage.name.c_str(), static_cast<long long>(stage.steps), stage.seconds);
  std::printf("time %.0f s, memory %.0f MiB, disk %.1f MiB\n", plan.seconds, plan.peak_bytes / 1048576,
              plan.disk_bytes / 1048576);
}

void print(const plan_of_runs& plan) {
  std::printf("%-24s %6s %6s %10s %10s\n", "one run of", "runs", "left", "seconds", "peak MiB");
  for (const kind_plan& kind : plan.kinds)
    std::printf("%-24s %6zu %6zu %10.1f %10.0f\n", kind.name.c_str(), kind.runs, kind.left, kind.seconds,
                kind.peak_bytes / 1048576);
  std::printf("time %.0f s, memory %.0f MiB, disk %.1f MiB\n", plan.seconds, plan.peak_bytes / 1048576,
              plan.disk_bytes / 1048576);
}

void align_model(settings s) {
  const task t = task_of(s);
  if (s.plan) return print(plan_pipeline(s, t));
  require_writable(s.out);
  require_room(s.out, disk_need(s, t));
  run_folder folder({.folder = s.out, .identity = identity(s), .resume = s.resume, .anew = s.anew, .keep = s.keep});
  const run_results results = run_pipeline(s, t, folder);
  write_report(s, t, results);
  std::printf("report: %s/report.html (%.0f s, %.0f MiB)\n", s.out.c_str(), results.seconds,
              static_cast<double>(peak_of_all()) / 1048576);
}

}  // namespace

int main(int argc, char** argv) {
#if defined(M_MMAP_THRESHOLD)
  mallopt(M_MMAP_THRESHOLD, 1 << 18);  // large arrays go back to the system, so that a run takes what --plan says
#endif
  const request asked = read_command_line(argc, argv);
  if (asked.exit >= 0) return asked.exit;
  try {
    flush_subnormals();
    if (!asked.compare.empty()) {
      write_comparison(asked.compare, asked.run.out);
      std::printf("report: %s/report.html\n", asked.run.out.c_str());
    } else if (!asked.variants.empty() && asked.run.plan) {
      print(plan_comparison(asked));
    } else if (!asked.variants.empty()) {
      run_comparison(asked);
      std::printf("report: %s/report.html\n", asked.run.out.c_str());
    } else if (asked.values && asked.run.plan) {
      print(plan_value_study(asked));
    } else if (asked.values) {
      run_value_study(asked);
      std::printf("report: %s/report.html\n", asked.run.out.c_str());
    } else {
      align_model(asked.run);
    }
  } catch (const std::exception& trouble) {
    std::fprintf(stderr, "rlhf-align: %s\n", trouble.what());
    return 1;
  }
  return 0;
}
