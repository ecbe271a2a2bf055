// X13: values from rollouts, as VinePPO has them.

#include "lab/advantages.hpp"
#include "lab/support.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr std::int64_t length = 4;

/// A tree whose responses are right or wrong, and a policy.
struct tree {
  token_mdp mdp{1, 3, length};
  table policy, value;
  explicit tree(const random_numbers& numbers) : policy(random_policy(mdp, numbers, 1, 0.7)) {
    std::uint32_t next = 0;
    mdp.set_scores([&](std::int64_t, std::span<const std::int32_t>) {
      return numbers.uniform({.sample = 2, .position = next++}) < 0.4 ? 1.0 : 0.0;
    });
    value = policy_value(mdp, policy, mdp.rewards());
  }
  [[nodiscard]] std::int64_t step(std::int64_t prefix, double u) const {
    double below = 0;
    for (std::int64_t k = 0; k + 1 < mdp.vocabulary(); ++k)
      if (u < (below += std::exp(policy[static_cast<std::size_t>(mdp.cell(0, prefix, k))]))) return k;
    return mdp.vocabulary() - 1;
  }
  /// The score of a rollout from a prefix.
  [[nodiscard]] double rollout(std::int64_t prefix, const random_numbers& numbers, random_index at) const {
    for (;; ++at.draw) {
      const std::int64_t token = step(prefix, numbers.uniform(at));
      if (mdp.completes(prefix, token)) return mdp.reward(0, prefix, token);
      prefix = mdp.child(prefix, token);
    }
  }
  /// V_hat of a prefix from k rollouts.
  [[nodiscard]] rollout_value estimate(std::int64_t prefix, std::int64_t k, const random_numbers& numbers,
                                       std::uint32_t list) const {
    moments returns;
    for (std::int64_t i = 0; i < k; ++i)
      returns.merge({1,
                     rollout(prefix, numbers,
                             {.prompt = static_cast<std::uint32_t>(prefix),
                              .sample = list,
                              .position = static_cast<std::uint32_t>(i)}),
                     0});
    return rollout_value::of(returns);
  }
};

struct trial {
  std::vector<double> bias, variance, error,
      own;  // for each K: mean error, variance over V(1-V)/K, mean |error|, own estimate
  double sum = 0, range = 0;
};

outcome run(const laboratory& lab) {
  const std::vector<double> counts = {1, 3, 9, 27, 81};
  constexpr std::uint32_t estimates = 60;
  const auto all = lab.repeat(lab.repetitions(400, 120), [&](std::size_t i) {
    const random_numbers numbers = lab.numbers(i);
    const tree problem(numbers);
    // A prefix whose outcome is open; the empty one if there is no better.
    const std::int64_t prefix = problem.value[1] > 0.1 && problem.value[1] < 0.9 ? 1 : 0;
    const double v = problem.value[static_cast<std::size_t>(prefix)];
    trial t;
    for (std::size_t c = 0; c < counts.size(); ++c) {
      double sum = 0, square = 0, absolute = 0, own = 0;
      for (std::uint32_t e = 0; e < estimates; ++e) {
        const rollout_value found = problem.estimate(prefix, static_cast<std::int64_t>(counts[c]), numbers,
                                                     1000 * static_cast<std::uint32_t>(c + 1) + e);
        const double error = found.value - v;
        sum += error / estimates, square += error * error / estimates, absolute += std::fabs(error) / estimates;
        own += found.variance / estimates;
      }
      const double exact = v * (1 - v) / counts[c];
      t.bias.push_back(sum / std::sqrt(exact));
      t.variance.push_back(square / exact);
      t.error.push_back(absolute);
      t.own.push_back(own / exact);
    }
    // Step advantages of one response, one estimate for each prefix.
    std::vector<double> values;
    std::int64_t p = 0, token = 0;
    for (std::uint32_t h = 0;; ++h) {
      values.push_back(problem.estimate(p, 9, numbers, 900000).value);
      token = problem.step(p, numbers.uniform({.sample = 800000, .position = h}));
      if (problem.mdp.completes(p, token)) break;
      p = problem.mdp.child(p, token);
    }
    const double score = problem.mdp.reward(0, p, token);
    const auto a = advantages(step_advantage{}, length, std::vector<double>(length, 0.0), values, {score});
    double sum = 0;
    for (const double x : a) sum += x, t.range = std::max(t.range, std::fabs(x));
    t.sum = std::fabs(sum - (score - values[0]));
    return t;
  });
  const auto gather = [&](std::vector<double> trial::*what, std::size_t c) {
    std::vector<double> out;
    for (const trial& t : all) out.push_back((t.*what)[c]);
    return out;
  };
  double worst_sum = 0, worst_range = 0;
  std::vector<double> errors, slopes;
  for (const trial& t : all) worst_sum = std::max(worst_sum, t.sum), worst_range = std::max(worst_range, t.range);
  for (std::size_t c = 0; c < counts.size(); ++c) errors.push_back(estimate_of(gather(&trial::error, c)).mean);
  outcome out;
  out.checks = {close("variance of V&#770; over V(1&minus;V)/K, K = 9", gather(&trial::variance, 2), 1, 0, 0.1),
                close("the same, K = 81", gather(&trial::variance, 4), 1, 0, 0.1),
                close("bias of V&#770; in its own deviations, K = 9", gather(&trial::bias, 2), 0, 0, 0.1),
                close("the variance it reports itself over V(1&minus;V)/K, K = 9: 1 &minus; 1/K",
                      gather(&trial::own, 2), 8.0 / 9, 0, 0.1),
                identity("sum of a response's step advantages less (score &minus; V&#770;(prompt))", worst_sum, 1e-12),
                at_most("largest step advantage", worst_range, 1),
                close("slope in K of the mean |error|, K of 9 to 81",
                      log_slope({9, 27, 81}, {errors[2], errors[3], errors[4]}), -0.5, 0.04)};
  curve spread{"variance, mean of all", counts, {}, false}, line{"1/K", counts, {}, false},
      absolute{"mean |error|", counts, errors, false};
  for (std::size_t c = 0; c < counts.size(); ++c) {
    spread.y.push_back(estimate_of(gather(&trial::variance, c)).mean / counts[c]);
    line.y.push_back(1 / counts[c]);
  }
  out.plots = {
      {"Values of K rollouts", "rollouts K", "variance / V(1-V), and |error|", {spread, line, absolute}, true, true}};
  return out;
}

}  // namespace

experiment x13_vine_values() {
  return {
      "X13",
      "Monte Carlo values of reasoning steps",
      "Values from K rollouts are unbiased with variance V(1&minus;V)/K for scores of 0 and 1, and step advantages add "
      "up to the score "
      "less the prompt's value.",
      "Kazemnejad et al. 2024, arXiv 2410.01679",
      "<i>Var V&#770; = V(1&minus;V)/K</i>, &nbsp; <i>&sum;<sub>i</sub> A<sub>i</sub> = score &minus; V&#770;(x)</i>",
      "Random trees of 3 tokens and 4 steps, 40 % of the responses right, random policies; 60 estimates for each K on "
      "each tree.",
      run};
}

}  // namespace lab
