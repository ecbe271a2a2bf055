// X4: RTO's theoretical algorithm, whole.

#include "lab/support.hpp"
#include "rlhf/theory/token_learning.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr std::int64_t dimension = 6;
constexpr double beta = 0.3;

/// What one number of comparisons gave.
struct trial {
  double error = 0, visited = 0, greedy = 0, pessimistic = 0, slack = 0;
};

std::vector<trial> trials(const random_numbers& numbers, const std::vector<double>& sizes) {
  token_mdp mdp(1, 3, 3);
  const matrix features = normal_matrix(numbers, mdp.cells(), dimension, 1, 1 / std::sqrt(6.0));
  const vector theta = normal_vector(numbers, dimension, 2);
  const vector true_rewards = features * theta;
  mdp.set_rewards({true_rewards.data(), true_rewards.data() + true_rewards.size()});
  const table ref = uniform_tokens(mdp);
  const soft_solution best = soft_optimal(mdp, ref, beta);
  const matrix whole = response_features(mdp, features);
  const vector returns = whole * theta;
  const auto lacks = [&](const soft_solution& plan) {
    return best.value[0] - regularised_value(mdp, plan.policy, ref, beta)[0];
  };

  std::vector<trial> out;
  matrix wins = matrix::Zero(whole.rows(), whole.rows());
  std::uint32_t drawn = 0;
  for (const double size : sizes) {
    for (; drawn < static_cast<std::uint32_t>(size); ++drawn) {
      const auto n = static_cast<std::uint32_t>(whole.rows());
      const Eigen::Index a = numbers.integer(n, {.sample = 10, .position = drawn, .draw = 0});
      const Eigen::Index b = numbers.integer(n, {.sample = 10, .position = drawn, .draw = 1});
      const bool first =
          numbers.uniform({.sample = 10, .position = drawn, .draw = 2}) < sigmoid(returns[a] - returns[b]);
      if (a != b) wins(first ? a : b, first ? b : a) += 1;  // a response is not compared with itself
    }
    comparisons data = comparisons_of(wins);
    data.difference = (data.difference * whole).eval();
    const token_learning greedy = reinforced_token_optimisation(mdp, features, data, ref, beta, 0);
    trial t;
    t.error = greedy.design.distance(greedy.fit.theta - theta);
    t.greedy = lacks(greedy.plan);
    // The theorem speaks of any radius that holds the error; the smallest one that does makes the hardest test.
    const token_learning careful = reinforced_token_optimisation(mdp, features, data, ref, beta, t.error);
    const suboptimality_bound bound = bound_of(mdp, features, careful, best.policy, beta, t.error);
    t.visited = bound.visited;
    t.pessimistic = lacks(careful.plan);
    t.slack = bound.bound - t.pessimistic;
    out.push_back(t);
  }
  return out;
}

outcome run(const laboratory& lab) {
  const std::vector<double> sizes = {100, 400, 1600, 6400, 25600};
  const int groups = lab.repetitions(60, 36), in_group = 10;
  const auto all = lab.repeat(groups * in_group, [&](std::size_t i) { return trials(lab.numbers(i), sizes); });

  // Slopes of the means over groups of repetitions: in one repetition the suboptimality jumps about.
  const auto mean_of = [&](std::size_t begin, std::size_t end, double trial::*what, std::size_t k) {
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += all[i][k].*what;
    return sum / static_cast<double>(end - begin);
  };
  const auto slopes = [&](double trial::*what, std::size_t from) {
    std::vector<double> out;
    for (std::size_t g = 0; g < static_cast<std::size_t>(groups); ++g) {
      std::vector<double> x, y;
      for (std::size_t k = from; k < sizes.size(); ++k) {
        x.push_back(sizes[k]);
        y.push_back(mean_of(g * in_group, (g + 1) * in_group, what, k));
      }
      out.push_back(log_slope(x, y));
    }
    return out;
  };
  double least = infinity;
  for (const auto& repetition : all)
    for (const trial& t : repetition) least = std::min(least, t.slack);

  outcome out;
  out.checks = {close("slope in n of the bonus E &sum;||&phi;||<sub>&Sigma;<sup>-1</sup></sub>",
                      slopes(&trial::visited, 0), -0.5, 0.02, 0.02),
                close("slope of the suboptimality, greedy, from n = 400", slopes(&trial::greedy, 1), -1, 0.15, 0.2),
                close("the same, pessimistic", slopes(&trial::pessimistic, 1), -1, 0.15, 0.2),
                close("slope of the error ||&theta;&#770; &minus; &theta;*||<sub>&Sigma;</sub>, from n = 400",
                      slopes(&trial::error, 1), 0, 0.05, 0.08),
                at_least("smallest slack of the theorem's bound in all trials", least, 0)};
  const auto curve_of = [&](const char* name, double trial::*what) {
    curve c{name, sizes, {}, false};
    for (std::size_t k = 0; k < sizes.size(); ++k) c.y.push_back(mean_of(0, all.size(), what, k));
    return c;
  };
  out.plots = {{"Means over " + std::to_string(all.size()) + " problems",
                "comparisons",
                "",
                {curve_of("error norm", &trial::error), curve_of("bonus of the best policy", &trial::visited),
                 curve_of("suboptimality, greedy", &trial::greedy), curve_of("pessimistic", &trial::pessimistic)},
                true,
                true}};
  out.note =
      "The theorem's leading term falls like n<sup>&minus;1/2</sup>; the suboptimality itself falls like 1/n, because "
      "it is &beta; "
      "times a divergence (X3), which is quadratic in the error. The radius is each trial's own error, the smallest "
      "that the "
      "theorem speaks of.";
  return out;
}

}  // namespace

experiment x04_token_reward_learning() {
  return {"X4",
          "Token rewards from response preferences",
          "Maximum likelihood with a bonus per token learns at the rate of the theorem, and the pessimistic plan is "
          "never worse than "
          "its bound.",
          "Zhong et al. 2024, arXiv 2404.18922, theorem on algorithm 1",
          "<i>J(&pi;*) &minus; J(&pi;&#770;) &le; 2&rho; E<sub>d*</sub> &sum;<sub>h</sub> "
          "||&phi;(s<sub>h</sub>,a<sub>h</sub>)||"
          "<sub>&Sigma;<sup>&minus;1</sup></sub> &minus; &beta; KL(&pi;* || &pi;&#770;)</i>",
          "3 tokens, 3 steps, random features of dimension 6 and random reward; pairs of uniform responses, labels of "
          "Bradley and "
          "Terry; &beta; 0.3, ridge 1 in &Sigma;.",
          run};
}

}  // namespace lab
