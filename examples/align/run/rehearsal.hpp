#pragma once
// What rehearsals of a run need: a clock, and a folder that goes away again.

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <system_error>

#include "align/files/reward_safetensors.hpp"
#include "align/model/policy.hpp"
#include "align/run/run_folder.hpp"

namespace align {

[[nodiscard]] inline double clock_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class F>
[[nodiscard]] double seconds_of(F&& f) {
  const double begun = clock_seconds();
  f();
  return clock_seconds() - begun;
}

/// A run of this process in a folder of its own, of which nothing stays.
class passing_run {
 public:
  passing_run()
      : path_(std::filesystem::temp_directory_path() /
              ("rlhf-align-plan-" + std::to_string(static_cast<long long>(getpid())))),
        folder_({.folder = path_.string(), .anew = true}) {}
  passing_run(const passing_run&) = delete;
  passing_run& operator=(const passing_run&) = delete;
  ~passing_run() {
    std::error_code none;
    std::filesystem::remove_all(path_, none);
  }
  [[nodiscard]] run_folder& folder() { return folder_; }
  /// The run finds its reward model there, finished.
  void leave_reward(const transformer_options& shape, scalar_policy& model) {
    save_reward_model(folder_.model("reward"), shape, model.parameters());
    folder_.finish("reward", {}, 0);
  }

 private:
  std::filesystem::path path_;
  run_folder folder_;
};

}  // namespace align
