#pragma once
// Token rewards learned from preferences between whole responses, and the policy that plans with their pessimistic end.

#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/theory/confidence.hpp"
#include "rlhf/theory/reward_learning.hpp"
#include "rlhf/theory/token_tree.hpp"

namespace rlhf::inline v1::theory {

/// Sums features of the cells [cells, d] along every response: [prompts * responses, d].
[[nodiscard]] inline matrix response_features(const token_mdp& mdp, const matrix& features) {
  detail::want_size(static_cast<std::size_t>(features.rows()), mdp.cells(), "response_features", "features");
  matrix out;
  for (Eigen::Index k = 0; k < features.cols(); ++k) {
    const vector column = features.col(k);
    const vector sums = vector_of(over_responses(mdp, span_of(column)));
    if (k == 0) out.resize(sums.size(), features.cols());
    out.col(k) = sums;
  }
  return out;
}

/// What reinforced token optimisation has learned.
struct token_learning {
  fitted_reward fit;
  design_matrix design;
  table rewards;  ///< of the cells, at the chosen end of their intervals
  soft_solution plan;
};

/// RTO's theoretical algorithm: maximum likelihood of a linear token reward from response preferences, the lower end of each
/// token's confidence interval, \f$ \hat r = \langle\phi,\hat\theta\rangle - \rho\|\phi\|_{\Sigma^{-1}} \f$ with
/// \f$ \Sigma=\sum z z^T+\lambda I \f$, and soft-optimal planning with it. A negative radius is optimistic; 0 is greedy.
/// The bound is for each token and not for each response: that is what keeps planning a recursion.
/// Where the data are separated the reward is the most likely one in the ball of radius `bound`.
/// Source: Zhong et al. 2024, arXiv 2404.18922, algorithm 1.
[[nodiscard]] inline token_learning reinforced_token_optimisation(const token_mdp& mdp, const matrix& features,
                                                                  const comparisons& data, std::span<const double> ref,
                                                                  double beta, double radius, double ridge = 1,
                                                                  double bound = 10) {
  fitted_reward fit = fit_reward(bradley_terry{}, data);
  if (!fit.converged) fit = fit_reward_in_ball(bradley_terry{}, data, bound);
  vector weight = data.count.size() > 0 ? data.count : vector(vector::Ones(data.difference.rows()));
  design_matrix design =
      design_matrix::of_sum(data.difference.transpose() * weight.asDiagonal() * data.difference, ridge);
  const vector rewards = bounded_rewards(features, fit.theta, design, -radius);
  table r(rewards.data(), rewards.data() + rewards.size());
  soft_solution plan = soft_optimal(mdp, ref, beta, r);
  return {std::move(fit), std::move(design), std::move(r), std::move(plan)};
}

/// The theorem's bound on the suboptimality of a pessimistic plan: \f$ 2\rho\,E_{d^*}\sum_h\|\phi\|_{\Sigma^{-1}} -
/// \beta\,KL(\pi^*\|\hat\pi) \f$ for the best policy of the true rewards. `visited`: the expectation.
struct suboptimality_bound {
  double visited = 0;  ///< \f$ E_{d^*}\sum_h\|\phi(s_h,a_h)\|_{\Sigma^{-1}} \f$
  double bound = 0;
};
[[nodiscard]] inline suboptimality_bound bound_of(const token_mdp& mdp, const matrix& features,
                                                  const token_learning& learned, std::span<const double> best,
                                                  double beta, double radius) {
  suboptimality_bound out;
  const table visits = occupancy(mdp, best);
  for (std::size_t c = 0; c < visits.size(); ++c)
    if (visits[c] > 0)
      out.visited += visits[c] * learned.design.uncertainty(features.row(static_cast<Eigen::Index>(c)).transpose());
  const double divergence = response_kl(mdp, best, learned.plan.policy)[0];
  out.bound = 2 * radius * out.visited - beta * divergence;
  return out;
}

}  // namespace rlhf::inline v1::theory
