#include "align/compare/plan.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <utility>

#include "align/compare/runs.hpp"
#include "align/compare/tuning.hpp"
#include "align/run/pipeline.hpp"

namespace align {
namespace {

namespace fs = std::filesystem;

/// What one run of a kind takes, and what those that go on after it find.
struct rehearsed {
  run_plan plan = {};
  std::vector<std::string> made = {};  ///< all stages that are over then
};

class rehearsals {
 public:
  explicit rehearsals(const std::vector<planned_run>& runs) : runs_(runs) {}

  /// The folder above those of its seeds.
  [[nodiscard]] static fs::path kind_of(const planned_run& run) { return fs::path(run.how.out).parent_path(); }

  const rehearsed& of(const planned_run& run) {
    const fs::path kind = kind_of(run);
    if (const auto known = known_.find(kind); known != known_.end()) return known->second;
    const rehearsed* before = nullptr;
    if (!run.after.empty())
      before = &of(*std::find_if(runs_.begin(), runs_.end(), [&](const auto& r) { return r.how.out == run.after; }));
    task t = task_of(run.how);
    run_part part{run.only_shared, {}};
    if (before != nullptr) {
      t.start = before->plan.start;
      part.made = before->made;
    }
    std::fprintf(stderr, "%s: ", run.name.c_str());
    rehearsed out{plan_pipeline(run.how, t, part), part.made};
    for (const stage_plan& stage : out.plan.stages)
      if (!each_makes(stage.name)) out.made.push_back(stage.name);
    return known_[kind] = std::move(out);
  }

 private:
  /// Stages that leave nothing: every run has its own.
  [[nodiscard]] static bool each_makes(const std::string& stage) { return stage == "beginnings" || stage == "pairs"; }

  const std::vector<planned_run>& runs_;
  std::map<fs::path, rehearsed> known_;
};

}  // namespace

plan_of_runs plan_comparison(const request& asked) {
  // What settings will be chosen is not known: each label counts as it is.
  std::vector<planned_run> runs = schedule(asked.run, candidates_of(asked), asked.tuning_seeds).runs();
  const schedule reported(asked.run, asked.variants, asked.seeds);
  runs.insert(runs.end(), reported.runs().begin(), reported.runs().end());
  std::vector<kind_plan> kinds;
  std::map<fs::path, std::size_t> index;
  std::vector<const planned_run*> left;
  for (const planned_run& run : runs) {
    const auto [at, fresh] = index.try_emplace(rehearsals::kind_of(run), kinds.size());
    if (fresh) kinds.push_back({.name = run.name});
    ++kinds[at->second].runs;
    if (!is_finished(run)) left.push_back(&run);
  }
  rehearsals all(runs);
  for (const planned_run* run : left) {
    const run_plan& plan = all.of(*run).plan;
    kind_plan& kind = kinds[index.at(rehearsals::kind_of(*run))];
    ++kind.left;
    kind.seconds = plan.seconds;
    kind.peak_bytes = plan.peak_bytes;
    kind.disk_bytes = plan.disk_bytes;
  }
  return added_up(std::move(kinds));
}

}  // namespace align
