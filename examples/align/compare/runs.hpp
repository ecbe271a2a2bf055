#pragma once
// The single runs of a comparison: which there are, what they share, and what is left of them when they are over.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "align/run/results.hpp"
#include "align/run/settings.hpp"

namespace align {

/// A run of a comparison: its settings, and the run that it goes on after.
struct planned_run {
  settings how = {};
  std::filesystem::path after = {};
  std::vector<std::string> after_identity = {};
  bool only_shared = false;
  std::string name = {};
};

/// Everything that some variants need, in order: for each seed what is shared first. Folders are below the one of `all`:
///
///   shared/seed-S      what comes before all methods: the start, its reward, best-of-n; made once
///   guide/seed-S       DPO's policy, where one of the variants is guided by it or is it; made once
///   LABEL/seed-S       the rest of a run; its curve is the one of a run of its own
class schedule {
 public:
  /// `all`: the settings that every variant has; it outlives the schedule.
  schedule(const settings& all, const std::vector<variant>& variants, const std::vector<std::uint64_t>& seeds);
  [[nodiscard]] const std::vector<planned_run>& runs() const { return runs_; }
  [[nodiscard]] settings settings_of(const variant& v, std::uint64_t seed) const;

 private:
  using lines = std::vector<std::string>;

  [[nodiscard]] settings placed(settings s, const std::string& folder, std::uint64_t seed) const;
  void add(const variant& v, std::uint64_t seed);
  settings add_shared(const variant& v, std::uint64_t seed, bool guide);
  std::string name_of(const std::string& stage, const lines& kind);
  [[nodiscard]] std::map<std::string, lines> on_disk(const std::string& stage) const;

  const settings& all_;
  std::map<std::string, std::map<std::string, lines>> names_;  ///< by stage, then by name: settings
  std::vector<planned_run> runs_;
};

/// Nothing of it is left to do. Throws std::runtime_error: its folder holds a run with other settings.
[[nodiscard]] bool is_finished(const planned_run& run);

/// Runs what is not finished yet; what was interrupted goes on. `number` of `of` runs is said on standard error. Throws
/// std::runtime_error: a folder with a run of other settings, and what single runs throw.
void finish(const planned_run& run, std::size_t number, std::size_t of);

/// A finished run from its folder, with the seconds of its clock and what is known of its memory.
struct finished_run {
  run_results results;
  std::string title, unit;
  std::uint64_t seed = 0;
  std::vector<std::string> recorded;  ///< its settings as it recorded them; empty where its checkpoints are gone
};
/// Throws std::runtime_error: a folder without a finished run.
[[nodiscard]] finished_run read_run(const std::filesystem::path& folder);

}  // namespace align
