#pragma once
// The job: a start, a reward, then the chosen ways to align, with best-of-n beside them.

#include <string>
#include <vector>

#include "align/run/run_folder.hpp"
#include "align/run/settings.hpp"
#include "align/run/task.hpp"

namespace align {

/// Runs everything, or what is left of it, in `folder`. Throws std::exception with a message fit for a user.
[[nodiscard]] run_results run_pipeline(const settings& s, const task& t, run_folder& folder);

/// Only what comes before all methods: the start, its reward and best-of-n.
[[nodiscard]] run_results prepare_pipeline(const settings& s, const task& t, run_folder& folder);

/// What a stage of the run will take.
struct stage_plan {
  std::string name;
  std::int64_t steps = 0;
  double seconds = 0;
};
struct run_plan {
  std::vector<stage_plan> stages = {};
  double seconds = 0;
  double peak_bytes = 0;          ///< resident memory of the process
  double disk_bytes = 0;          ///< of all that stays in the folder
  std::vector<float> start = {};  ///< what it was rehearsed with: a start of about the real one's manners
};

/// A run that is one part of a larger one.
struct run_part {
  bool only_shared = false;            ///< as prepare_pipeline
  std::vector<std::string> made = {};  ///< stages that an earlier part has made; the task has their start
};

/// Rehearses each kind of work once, at its real size, and adds up.
[[nodiscard]] run_plan plan_pipeline(const settings& s, const task& t, const run_part& part = {});
/// Bytes that a run needs on disk at once, without rehearsal.
[[nodiscard]] double disk_need(const settings& s, const task& t);

}  // namespace align
