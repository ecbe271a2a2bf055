#pragma once
// Labels on pairs of responses: drawn one by one, and what a label is worth in the end.

#include "rlhf/math/random.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/population.hpp"

namespace rlhf::inline v1::theory {

/// Probabilities [y, y'] that y is preferred, of Bradley and Terry's model with these rewards.
[[nodiscard]] inline matrix bradley_terry_matrix(const vector& reward) {
  matrix out(reward.size(), reward.size());
  for (Eigen::Index a = 0; a < out.rows(); ++a)
    for (Eigen::Index b = 0; b < out.cols(); ++b) out(a, b) = sigmoid(reward[a] - reward[b]);
  return out;
}

/// A KL-regularised bandit with labels of Bradley and Terry's model of its rewards.
struct labelled_bandit {
  regularised_bandit bandit;
  matrix preference;

  explicit labelled_bandit(regularised_bandit b)
      : bandit(std::move(b)), preference(bradley_terry_matrix(bandit.reward)) {
    bandit.check();
  }
  /// Adds a labelled pair of `law` [y, y'] to the counts of wins, by draws 0 and 1 of `at`. Two equal responses are shown and
  /// tell nothing.
  void ask(const matrix& law, matrix& wins, const random_numbers& numbers, random_index at) const {
    const Eigen::Index n = law.rows();
    detail::want_size(static_cast<std::size_t>(law.size()), preference.size(), "labelled_bandit: ask", "law");
    at.draw = 0;
    const double u = numbers.uniform(at) * law.sum();
    double below = 0;
    Eigen::Index a = 0, b = 0;
    for (Eigen::Index k = 0; k < law.size(); ++k) {
      if (!(law(k % n, k / n) > 0)) continue;
      a = k % n, b = k / n;
      if (u < (below += law(a, b))) break;
    }
    if (a == b) return;
    at.draw = 1;
    const bool first = numbers.uniform(at) < preference(a, b);
    wins(first ? a : b, first ? b : a) += 1;
  }
};

/// The limit of n times the mean shortfall \f$ J(\pi^*)-J(\hat\pi) \f$ of DPO on n labelled pairs of `law`:
/// \f$ \frac\beta2\,\mathrm{tr}(F H^+) \f$, H the second derivatives of the expected loss at the best policy, F its Fisher matrix.
/// The shortfall is beta times a divergence, so quadratic in the error of the parameters, whose covariance is H^+ / n. Under
/// T-PILAF it is \f$ (1+Z_+Z_-)(|Y|-1)/(2\beta) \f$.
[[nodiscard]] inline double shortfall_per_label(const regularised_bandit& bandit, const matrix& law) {
  const log_linear best = log_linear::tabular(bandit.best());
  const pair_population pairs{.weight = pair_population::labelled(law, bradley_terry_matrix(bandit.reward)),
                              .ref_logp = bandit.ref_logp};
  const matrix h = expected_loss(dpo_sigmoid{.beta = bandit.beta}, pairs, best).hessian, f = best.fisher();
  double trace = 0;
  for (Eigen::Index k = 0; k < f.cols(); ++k) trace += log_linear::pseudo_solve(h, f.col(k))[k];
  return bandit.beta / 2 * trace;
}

}  // namespace rlhf::inline v1::theory
