#pragma once
// Optimism and pessimism by the value of the best policy: VPO's reward and policy forms for the responses to one prompt.

#include <Eigen/Eigenvalues>

#include "rlhf/objective/exploration.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/population.hpp"

namespace rlhf::inline v1::theory {

/// The likelihood of labels, moved by the value of the best policy: \f$ \sum NLL - \mathrm{sign}\,\alpha\,J^*(r) \f$ with
/// \f$ E_{cal}\,r = 0 \f$. `alpha` stands beside the SUM over labels; negative: pessimism (offline), positive: optimism (online).
///
/// Written in the policy, r = beta log(pi/ref) up to a constant, it is the sum of DPO's losses plus alpha beta E_cal log(pi/ref):
/// the same number, J* = -beta E_cal log(pi_r/ref). Both forms are here, so that a test can hold one against the other.
/// Source: Cen et al. 2024, arXiv 2405.19320; with the reference as `calibration` Xie et al. 2024 (XPO), arXiv 2405.21046.
struct value_incentive {
  double beta = 0.1;
  double alpha = 0;
  vector ref_logp;
  vector calibration;  ///< probabilities
  matrix wins;         ///< how often y was preferred to y'

  void check() const {
    detail::want_beta(beta, "value_incentive");
    detail::want(std::isfinite(alpha), "value_incentive", "alpha", alpha, "a finite number");
    const Eigen::Index n = ref_logp.size();
    detail::want_size(static_cast<std::size_t>(calibration.size()), n, "value_incentive", "calibration");
    detail::want_distribution(span_of(calibration), "value_incentive", "calibration");
    detail::want_size(static_cast<std::size_t>(wins.size()), n * n, "value_incentive", "wins");
  }
  /// The policy that a reward stands for.
  [[nodiscard]] vector policy_of(const vector& reward) const { return mixed(gibbs(beta), ref_logp, reward); }
  /// A reward shifted so that its mean under the calibration policy is 0.
  [[nodiscard]] vector calibrated(const vector& reward) const {
    return (reward.array() - calibration.dot(reward)).matrix();
  }

  /// The reward form.
  [[nodiscard]] double loss_of_reward(const vector& reward) const {
    double sum = 0;
    for (Eigen::Index a = 0; a < wins.rows(); ++a)
      for (Eigen::Index b = 0; b < wins.cols(); ++b)
        if (wins(a, b) > 0) sum += wins(a, b) * softplus(reward[b] - reward[a]);
    return sum - alpha * regularised_bandit{calibrated(reward), ref_logp, beta}.best_value();
  }
  /// The policy form, from the library's own losses; value, gradient and second derivatives in the policy's logits.
  [[nodiscard]] population_loss loss_of_policy(const vector& logits) const {
    check();
    const log_linear policy = log_linear::tabular(logits);
    return expected_loss(dpo_sigmoid{.beta = beta}, pair_population{.weight = wins, .ref_logp = ref_logp}, policy) +
           expected_loss(optimism{.coefficient = alpha * beta},
                         response_population{.weight = calibration, .ref_logp = ref_logp}, policy);
  }
  /// Minimises the policy form from given rewards by damped Newton steps (with the curvature's absolute values, since optimism is
  /// not convex), keeping |r - E_cal r| <= `bound`. Returns calibrated rewards.
  [[nodiscard]] vector fit(vector reward, double bound, int most = 60, double tolerance = 1e-10) const {
    detail::want(bound > 0, "value_incentive: fit", "bound", bound, "more than 0");
    reward = calibrated(reward).cwiseMax(-bound).cwiseMin(bound);
    // Logits that stand for a reward: log ref + r / beta.
    const auto at = [&](const vector& r) { return loss_of_policy(ref_logp + r / beta); };
    population_loss here = at(reward);
    for (int i = 0; i < most; ++i) {
      // What a bound holds back does not move.
      vector free = vector::Ones(reward.size());
      for (Eigen::Index y = 0; y < reward.size(); ++y)
        if ((reward[y] >= bound && here.gradient[y] < 0) || (reward[y] <= -bound && here.gradient[y] > 0)) free[y] = 0;
      const vector g = here.gradient.cwiseProduct(free) / beta;
      if (g.cwiseAbs().maxCoeff() <= tolerance) break;
      const matrix h = free.asDiagonal() * here.hessian * free.asDiagonal() / (beta * beta);
      const Eigen::SelfAdjointEigenSolver<matrix> modes(h);
      const double floor = std::max(1e-8, 1e-6 * modes.eigenvalues().cwiseAbs().maxCoeff());
      const vector scale = modes.eigenvalues().cwiseAbs().cwiseMax(floor).cwiseInverse();
      const vector step = modes.eigenvectors() * (scale.asDiagonal() * (modes.eigenvectors().transpose() * g));
      double share = 1;
      bool moved = false;
      for (int k = 0; k < 40 && !moved; ++k, share /= 2) {
        vector next = calibrated(reward - share * free.cwiseProduct(step)).cwiseMax(-bound).cwiseMin(bound);
        population_loss there = at(next);
        // At the bottom the loss itself no longer tells; then the gradient does.
        if (there.loss < here.loss ||
            (there.loss <= here.loss + 1e-12 * std::fabs(here.loss) &&
             there.gradient.cwiseProduct(free).cwiseAbs().maxCoeff() < beta * g.cwiseAbs().maxCoeff())) {
          reward = std::move(next), here = std::move(there);
          moved = true;
        }
      }
      if (!moved) break;
    }
    return calibrated(reward);
  }
};

}  // namespace rlhf::inline v1::theory
