// X1: the token MDP's soft-optimal policy pays its return back as log-ratios.

#include "lab/support.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

struct errors {
  double bellman = 0, telescoping = 0, sequence = 0, labels = 0;
};

errors errors_of(const random_numbers& numbers, std::int64_t end, double beta) {
  const token_mdp mdp = random_tree(numbers, 3, 4, end);
  const table ref = random_policy(mdp, numbers, 1);
  const soft_solution best = soft_optimal(mdp, ref, beta);
  errors out;
  for (std::int64_t p = 0; p < mdp.prefixes(); ++p)
    for (std::int64_t a = 0; a < mdp.vocabulary(); ++a) {
      const auto c = static_cast<std::size_t>(mdp.cell(0, p, a));
      const double after = mdp.completes(p, a) ? 0 : best.value[static_cast<std::size_t>(mdp.child(p, a))];
      const double advantage = mdp.rewards()[c] + after - best.value[static_cast<std::size_t>(p)];
      out.bellman = std::max(out.bellman, std::fabs(beta * (best.policy[c] - ref[c]) - advantage));
    }
  const vector returns = vector_of(over_responses(mdp, mdp.rewards()));
  const vector ref_logp = vector_of(over_responses(mdp, ref));
  const vector implicit = beta * (vector_of(over_responses(mdp, best.policy)) - ref_logp);
  out.telescoping = distance(implicit, (returns.array() - best.value[0]).matrix());
  const regularised_bandit sequences{returns, ref_logp, beta};
  out.sequence = std::max(distance(sequences.best(), implicit / beta + ref_logp),
                          std::fabs(sequences.best_value() - best.value[0]));
  for (Eigen::Index a = 0; a < returns.size(); ++a)
    for (Eigen::Index b = 0; b < a; ++b)
      out.labels =
          std::max(out.labels, std::fabs(sigmoid(implicit[a] - implicit[b]) - sigmoid(returns[a] - returns[b])));
  return out;
}

outcome run(const laboratory& lab) {
  const double betas[] = {0.1, 0.3, 1.0, 3.0};
  const auto all = lab.repeat(80, [&](std::size_t i) {
    return errors_of(lab.numbers(i), i % 2 ? 0 : -1, betas[i / 2 % 4]);  // half of the trees have an end-of-text token
  });
  errors worst;
  for (const errors& e : all) {
    worst.bellman = std::max(worst.bellman, e.bellman);
    worst.telescoping = std::max(worst.telescoping, e.telescoping);
    worst.sequence = std::max(worst.sequence, e.sequence);
    worst.labels = std::max(worst.labels, e.labels);
  }
  outcome out;
  out.checks = {
      identity("largest error of &beta; log(&pi;*/&pi;<sub>ref</sub>) = r + V(s&prime;) &minus; V(s)", worst.bellman,
               1e-12),
      identity("of its sum over a response, return &minus; V(prompt)", worst.telescoping, 1e-12),
      identity("of token-level against sequence-level optimum", worst.sequence, 1e-12),
      identity("of Bradley-Terry's probabilities from log-ratios against those from returns", worst.labels, 1e-12)};

  const token_mdp mdp = random_tree(lab.numbers(0), 3, 4);
  const table ref = random_policy(mdp, lab.numbers(0), 1);
  const soft_solution best = soft_optimal(mdp, ref, 0.3);
  curve points{"responses", over_responses(mdp, mdp.rewards()), over_responses(mdp, log_ratio(best.policy, ref)), true};
  for (double& y : points.y) y *= 0.3;
  const auto [low, high] = std::minmax_element(points.x.begin(), points.x.end());
  out.plots = {
      {"The 81 responses of one tree",
       "return",
       "beta * sum of log-ratios",
       {points, {"return less V(prompt)", {*low, *high}, {*low - best.value[0], *high - best.value[0]}, false}}}};
  return out;
}

}  // namespace

experiment x01_soft_bellman() {
  return {
      "X1",
      "A soft-optimal policy is its own token reward",
      "The log-ratio of the soft-optimal policy to the reference is the token's reward up to a potential, and sums to "
      "the "
      "response's return less a constant of the prompt: so preferences see no difference.",
      "Zhong et al. 2024, arXiv 2404.18922; Rafailov et al. 2024, arXiv 2404.12358",
      "&beta; log <i>&pi;*(a|s)/&pi;<sub>ref</sub>(a|s)</i> = <i>r(s,a) + V*(s&prime;) &minus; V*(s)</i>",
      "80 random trees over 3 tokens and 4 steps, half of them with a token that ends the text; normal rewards and "
      "reference "
      "logits; &beta; of 0.1, 0.3, 1 and 3. Solved by recursion over the tree, and as a bandit over whole responses.",
      run};
}

}  // namespace lab
