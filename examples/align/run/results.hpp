#pragma once
// What a run has found out, and its form on disk.

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace align {

/// A point of a method's curve.
struct curve_point {
  std::string method = {};
  std::uint64_t seed = 0;
  std::int64_t iteration = 0;  ///< 0 before training; for best_of_n, n - 1
  double reward = 0;           ///< mean on fresh samples that no update has seen
  double kl = 0;               ///< log pi / pi_start per response, nats, on the same samples
  /// Samples, the same for all methods: response tokens that it has sampled so far, whether it learned from them or only chose
  /// by them, or read of a fixed set for the first time; each once, whatever the number of epochs. What a guide, a value or a
  /// reward model learned from before the method is not counted. For best_of_n: of n samples.
  std::int64_t tokens = 0;
  double seconds = 0;  ///< time the method has taken so far, without evaluation
  double proxy = 0;    ///< where a method learns from a learned reward: that one, on the same samples
  bool has_proxy = false;
  double length =
      std::numeric_limits<double>::quiet_NaN();  ///< mean response tokens on the same samples; NaN: not known
  /// How often a response scores higher than one of the start to the same prompt, ties half; NaN: not known.
  double win_rate = std::numeric_limits<double>::quiet_NaN();
};

/// A sample as text.
struct sample_pair {
  std::string prompt = {}, response = {};
};

struct sample_text {
  std::string method = {};
  std::vector<sample_pair> samples = {};
};

/// Memory of a method's loop, bytes.
struct method_memory {
  std::int64_t trainable = 0;  ///< parameters, gradients and two moments of all that it trains
  std::int64_t frozen =
      0;  ///< parameters of the models that it only reads: reference, reward model, guide, frozen values
  std::int64_t activations =
      0;  ///< most that passes needed beside them, activations and workspaces; without evaluation
};

struct run_results {
  std::vector<curve_point> points = {};
  std::vector<sample_text> samples = {};           ///< the same prompts and random numbers for every method
  std::map<std::string, double> figures = {};      ///< numbers of single stages, as "sft_loss", "reward_accuracy"
  double seconds = 0;                              ///< of all of it
  std::map<std::string, std::string> tables = {};  ///< JSON of single stages, as the judgement of a reward model
  std::map<std::string, std::int64_t> peaks = {};  ///< most memory that the process held during each method, bytes
  std::map<std::string, method_memory> memory = {};
};

/// Results as JSON text, without what a clock or the system's count of memory said.
[[nodiscard]] std::string to_text(const run_results& results);
/// The memory of methods as a JSON object, and the inverse; what is not like it is left out.
[[nodiscard]] std::string memory_text(const std::map<std::string, method_memory>& memory);
[[nodiscard]] std::map<std::string, method_memory> memory_of(const std::string& text);
/// The inverse of `to_text`; `name` is for errors (std::runtime_error).
[[nodiscard]] run_results results_of(const std::string& text, const std::string& name);

}  // namespace align
