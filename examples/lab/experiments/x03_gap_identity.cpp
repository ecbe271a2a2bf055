// X3: what a policy lacks is its divergence to the best one.

#include "lab/support.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

struct pairing {
  double gap = 0, divergence = 0;
};

pairing compare(const random_numbers& numbers, double beta, double scale) {
  const token_mdp mdp = random_tree(numbers, 3, 4, 0);
  const table ref = random_policy(mdp, numbers, 1), policy = random_policy(mdp, numbers, 2, scale);
  const soft_solution best = soft_optimal(mdp, ref, beta);
  return {best.value[0] - regularised_value(mdp, policy, ref, beta)[0],
          beta * response_kl(mdp, policy, best.policy)[0]};
}

outcome run(const laboratory& lab) {
  const double betas[] = {0.1, 0.3, 1.0, 3.0};
  const auto all = lab.repeat(400, [&](std::size_t i) {
    return compare(lab.numbers(i), betas[i % 4], 0.5 + 0.25 * static_cast<double>(i / 4 % 8));
  });
  double worst = 0;
  curve points{"random policies", {}, {}, true};
  for (const pairing& p : all) {
    worst = std::max(worst, std::fabs(p.gap - p.divergence));
    points.x.push_back(p.divergence);
    points.y.push_back(p.gap);
  }
  outcome out;
  out.checks = {identity("largest difference of the two sides", worst, 1e-12),
                at_least("smallest gap: no policy is better than the best",
                         *std::min_element(points.y.begin(), points.y.end()), 0)};
  const double most = largest(points.x);
  out.plots = {{"400 policies",
                "beta KL(policy || best)",
                "J(best) - J(policy)",
                {points, {"equal", {0, most}, {0, most}, false}}}};
  return out;
}

}  // namespace

experiment x03_gap_identity() {
  return {"X3",
          "Suboptimality is a divergence",
          "Every policy's shortfall in regularised value is exactly &beta; times its divergence, over whole responses, "
          "to the best "
          "policy.",
          "folklore; derived from the soft Bellman equations of arXiv 2404.18922",
          "<i>J(&pi;*) &minus; J(&pi;) = &beta; E<sub>x</sub> KL(&pi;(&middot;|x) || &pi;*(&middot;|x))</i>",
          "400 random policies on random trees over 3 tokens, up to 4 steps, one token ending the text; &beta; of 0.1 "
          "to 3.",
          run};
}

}  // namespace lab
