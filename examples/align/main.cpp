// rlhf-align: a language model aligned by DPO, REBEL, PPO, RTO and many others, from data to report.

#if __has_include(<malloc.h>)
#include <malloc.h>
#endif

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include "align/files/save.hpp"
#include "align/pipeline.hpp"
#include "align/report.hpp"
#include "align/subnormals.hpp"

namespace {

using namespace align;

task task_of(const settings& s) {
  switch (s.subject()) {
    case subject::names:
      return names_task(s);
    case subject::stories:
      return stories_task(s);
    case subject::pairs:
      return pairs_task(s);
  }
  throw std::logic_error("no such subject");
}

void print(const run_plan& plan) {
  std::printf("%-20s %10s %10s\n", "stage", "steps", "seconds");
  for (const stage_plan& stage : plan.stages)
    std::printf("%-20s %10lld %10.1f\n", stage.name.c_str(), static_cast<long long>(stage.steps), stage.seconds);
  std::printf("time %.0f s, memory %.0f MiB, disk %.1f MiB\n", plan.seconds, plan.peak_bytes / 1048576,
              plan.disk_bytes / 1048576);
}

void align_model(settings s) {
  const task t = task_of(s);
  if (s.plan) return print(plan_pipeline(s, t));
  require_writable(s.out);
  const double need = disk_need(s, t), room = static_cast<double>(free_bytes(s.out));
  if (room < need)
    throw std::runtime_error("--out: the run needs about " +
                             std::to_string(static_cast<long long>(need / 1048576) + 1) + " MiB in " + s.out +
                             ", where " + std::to_string(static_cast<long long>(room / 1048576)) + " MiB are free");
  run_folder folder({.folder = s.out, .identity = identity(s), .resume = s.resume, .anew = s.anew, .keep = s.keep});
  const run_results results = run_pipeline(s, t, folder);
  write_report(s, t, results);
  std::printf("report: %s/report.html (%.0f s)\n", s.out.c_str(), results.seconds);
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
    } else {
      align_model(asked.run);
    }
  } catch (const std::exception& trouble) {
    std::fprintf(stderr, "rlhf-align: %s\n", trouble.what());
    return 1;
  }
  return 0;
}
