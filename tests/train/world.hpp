#pragma once
// What the tests of the loops share: a reference that is not uniform, a reward with structure, the policy they imply.

#include "rlhf/backend/reference.hpp"
#include "rlhf/train/update.hpp"
#include "support/catch.hpp"
#include "train/tabular.hpp"

namespace rlhf_test {

inline constexpr std::int64_t vocabulary = 4;

inline rlhf::parameter_update<> steps_of(double rate) { return {{rate}, {{.weight_decay = 0}}, 1e9}; }

inline rlhf::prompt_list prompts(std::size_t n) { return rlhf::prompt_list(n, {0}); }

inline std::vector<float> bits(std::span<const float> x) { return {x.begin(), x.end()}; }

struct world {
  rlhf::reference_backend cpu;
  rlhf::tabular_policy reference;
  tabular_reward reward;

  explicit world(std::int64_t tokens = vocabulary, std::int64_t length = 2)
      : reference(1, tokens, length), reward(tokens, length) {
    const rlhf::random_numbers numbers({7, 1});
    std::uint32_t i = 0;
    for (float& x : reference.parameters()) x = static_cast<float>(numbers.normal({i++}) * 0.5);
    for (float& x : reward.parameters()) x = static_cast<float>(numbers.normal({i++}));
  }
  /// The optimum of reward less beta KL, and how far a policy is from it.
  [[nodiscard]] std::vector<double> best(double beta) { return tilted(distribution(reference), reward, beta); }
  [[nodiscard]] double distance(rlhf::tabular_policy& policy, double beta) {
    return total_variation(distribution(policy), best(beta));
  }
  /// beta log E_ref e^(reward / beta): what makes reward less this a normalised log-ratio.
  [[nodiscard]] double log_normaliser(double beta) {
    double sum = 0;
    const std::vector<double> p = distribution(reference);
    for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] * std::exp(reward.at(i) / beta);
    return beta * std::log(sum);
  }
};

/// A test that takes its world from here runs twice: on a bandit of eight answers, and on `length` tokens out of `tokens`.
inline world bandit_or_tokens(std::int64_t tokens = vocabulary, std::int64_t length = 2) {
  const bool bandit = GENERATE(true, false);
  CAPTURE(bandit);
  return bandit ? world(8, 1) : world(tokens, length);
}

}  // namespace rlhf_test
