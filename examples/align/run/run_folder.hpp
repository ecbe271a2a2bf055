#pragma once
// A run on disk: checkpoints from which it goes on to the same bits, and its metrics.

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "align/run/results.hpp"
#include "rlhf/core/statistics.hpp"
#include "rlhf/train/optimizer.hpp"

namespace align {

/// Something that training changes: an array, the optimiser that changes it, and what else a run keeps count of.
struct trained_part {
  std::string name;
  std::span<float> values;
  rlhf::adamw* optimiser;
  std::vector<double*> numbers = {};  ///< as the moments of a reward's running scale
};

/// Where a stage stands.
struct stage_position {
  std::int64_t steps = 0;   ///< updates or iterations done
  std::int64_t tokens = 0;  ///< as curve_point has them
};

/// A loss or a gradient norm was not finite: training has left all reason, and nothing after it would be worth its time.
struct diverged : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct run_folder_options {
  std::string folder = {};
  std::vector<std::string> identity = {};  ///< what must be equal for a run to go on
  bool resume = false;
  bool anew = false;
  std::int64_t keep = 2;
  std::filesystem::path after = {};  ///< a finished run whose stages and results a new one begins with; empty: none
};

/// The folder holds a run that is over. One with other settings is an error that says which; std::runtime_error.
[[nodiscard]] bool holds_finished(const std::filesystem::path& folder, const std::vector<std::string>& identity);
/// The settings that the newest checkpoint of a folder was made with; empty where there is none.
[[nodiscard]] std::vector<std::string> recorded_settings(const std::filesystem::path& folder);

/// The folder of a run.
///
///   checkpoints/000007.safetensors   all that training changes, the results so far and where the metrics end
///   models/                          what finished stages made, for anyone to load
///   metrics.csv, metrics.jsonl       every number of every update
///   timing.json                      what the clock said; it and the pages and numbers made of it (report.html, report.json,
///                                    summary.json) are all that differs between equal runs
///
/// A checkpoint is written new, synced and renamed, and holds no clock and no path. A run that was killed and goes on ends
/// with the same bytes as one that was not. Errors are std::runtime_error.
class run_folder {
 public:
  explicit run_folder(run_folder_options options);

  [[nodiscard]] const std::filesystem::path& path() const { return folder_; }
  [[nodiscard]] std::filesystem::path model(const std::string& name) const {
    return folder_ / "models" / (name + ".safetensors");
  }
  /// The results that the run goes on with; their seconds included.
  [[nodiscard]] const run_results& results() const { return results_; }
  /// Nothing is left to do.
  [[nodiscard]] bool complete() const { return stage_ == "run"; }
  /// Seconds that earlier parts of the run took.
  [[nodiscard]] double seconds_before() const { return seconds_before_; }
  /// The newest checkpoint; empty before the first.
  [[nodiscard]] std::filesystem::path newest() const;

  [[nodiscard]] bool finished(const std::string& stage) const;
  /// Fills the parts with what was saved if `stage` was in progress; where it goes on.
  stage_position restore(const std::string& stage, const std::vector<trained_part>& parts);
  /// A checkpoint. `seconds` is the whole run's time so far.
  void save(const std::string& stage, stage_position at, const std::vector<trained_part>& parts,
            const run_results& results, double seconds);
  /// A checkpoint that says that the stage is over.
  void finish(const std::string& stage, const run_results& results, double seconds);
  /// One that says that the run is.
  void finish_run(const run_results& results, double seconds);

  /// Adds the means of some statistics to the metrics. Throws `diverged`: a loss or a gradient norm that is not finite, with the
  /// step and the newest checkpoint.
  void log(const std::string& stage, std::int64_t step, const rlhf::statistics& metrics);

 private:
  struct saved_part {
    std::vector<float> values, first_moment, second_moment;
    std::int64_t steps = 0;
    std::vector<double> numbers;
  };
  void open_checkpoint(const std::filesystem::path& file);
  void begin_after(const std::filesystem::path& other);
  double read_timing(const std::filesystem::path& of);
  void write_checkpoint(const std::string& stage, stage_position at, const std::vector<trained_part>& parts,
                        const run_results& results, double seconds);
  void write_timing(const run_results& results, double seconds) const;
  void drop_old_checkpoints() const;
  void flush_metrics();

  run_folder_options options_;
  std::filesystem::path folder_;
  run_results results_;
  std::vector<std::string> finished_;
  std::string stage_;
  stage_position at_;
  std::map<std::string, saved_part> parts_;
  std::int64_t saved_ = 0;  ///< number of the newest checkpoint
  double seconds_before_ = 0;
  std::string csv_, jsonl_;  ///< lines not yet written
  std::uint64_t csv_size_ = 0, jsonl_size_ = 0;
};

}  // namespace align
