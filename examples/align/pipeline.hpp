#pragma once
// The job: supervised fine-tuning, a reward model from real labels, then four ways to align, and best-of-n beside them.

#include <cstdint>
#include <string>
#include <vector>

namespace align {

struct pipeline_options {
  std::uint64_t seed = 1;
  int threads = 2;
  bool quick = false;     ///< a run of well under a minute, for tests: fewer updates of everything
  std::string data = {};  ///< folder of female.txt and male.txt; empty: the one of the source tree
};

/// A point of a method's curve.
struct curve_point {
  std::string method;
  std::uint64_t seed = 0;
  std::int64_t iteration = 0;  ///< 0 before training; for best_of_n, n - 1
  double reward = 0;           ///< mean on fresh samples that no update has seen
  double kl = 0;               ///< log pi / pi_sft per name, nats, on the same samples
  std::int64_t tokens = 0;     ///< response tokens the method has learned from so far
  double seconds = 0;          ///< time the method has taken so far, without evaluation
};

struct sample_text {
  std::string method;
  std::vector<std::string> names;
};

struct pipeline_result {
  std::vector<curve_point> points;
  std::vector<sample_text> samples;  ///< the same random numbers for every method
  double sft_loss = 0;               ///< held out, nats per character
  double reward_accuracy = 0;        ///< held-out pairs
  std::int64_t reward_pairs = 0;
  double reward_deviation = 0;  ///< of the SFT samples' rewards
  double seconds = 0;
};

/// Runs everything. Throws std::exception with a message fit for a user.
[[nodiscard]] pipeline_result run_pipeline(const pipeline_options& options);

}  // namespace align
