#pragma once
// Which two responses the labeller is shown: laws of pairs, exactly, over all responses to a prompt.

#include "rlhf/theory/distributions.hpp"

namespace rlhf::inline v1::theory {

/// A law of ordered pairs [y, y'], with sum 1.
using pair_law = matrix;

/// Two independent responses of the policy.
[[nodiscard]] inline pair_law vanilla_pairs(const vector& logp) {
  return probabilities(logp) * probabilities(logp).transpose();
}
/// One of the policy, one of the reference (XPO).
[[nodiscard]] inline pair_law hybrid_pairs(const vector& logp, const vector& ref_logp) {
  return probabilities(logp) * probabilities(ref_logp).transpose();
}

/// PILAF for whole responses: the two derived policies, how often they are used, and the weight of the prompt's loss.
///
/// \f$ \pi_\pm\propto\pi\,e^{\pm\beta\log(\pi/\pi_{ref})} \f$ with normalisers Z+-; both responses from the policy with probability
/// 1/(1 + Z+ Z-), else one of each. With weight 1 + Z+ Z- the gradient of DPO's loss is then -beta times that of the regularised
/// value, up to the square of the error of the implicit reward.
/// Source: Feng et al. 2025, arXiv 2502.04270, T-PILAF; practical: one half instead, weight 1.
struct pilaf_sampler {
  vector logp, plus, minus;
  double log_z_plus = 0, log_z_minus = 0;
  pilaf_pairs pairs{};

  pilaf_sampler(const vector& policy, const vector& ref_logp, double beta) : logp(policy) {
    detail::want_beta(beta, "pilaf_sampler");
    for (Eigen::Index y = 0; y < logp.size(); ++y)
      detail::want(ref_logp[y] > -infinity || logp[y] == -infinity, "pilaf_sampler",
                   "a log-probability of the reference", ref_logp[y], "a finite number where the policy has mass");
    const auto side = [&](bool up, vector& out) {
      const logit_mixture mixture = pilaf(beta, up);
      vector z(logp.size());
      for (Eigen::Index y = 0; y < z.size(); ++y) z[y] = mixture(logp[y], ref_logp[y]);
      const double log_z = log_sum_exp(z);
      out = z.array() - log_z;
      return log_z;
    };
    log_z_plus = side(true, plus);
    log_z_minus = side(false, minus);
    pairs = pilaf_pairs_of(log_z_plus, log_z_minus);
  }
  /// The law with a given probability that both come from the policy.
  [[nodiscard]] pair_law law(double from_policy) const {
    return from_policy * vanilla_pairs(logp) +
           (1 - from_policy) * probabilities(plus) * probabilities(minus).transpose();
  }
  [[nodiscard]] pair_law exact() const { return law(pairs.from_policy); }
  [[nodiscard]] pair_law practical() const { return law(0.5); }
};

/// The best and the worst of n responses of the policy by a score without ties (max_min): [best, worst].
[[nodiscard]] inline pair_law best_and_worst(const vector& logp, const vector& score, int n) {
  detail::want(n >= 2, "best_and_worst", "n", n, "at least 2");
  const Eigen::Index k = logp.size();
  // P(all n within [low, high] by score) = (their mass)^n; the law is its mixed difference at both ends.
  const auto within = [&](double low, bool low_in, double high, bool high_in) {
    double mass = 0;
    for (Eigen::Index y = 0; y < k; ++y)
      if ((low_in ? score[y] >= low : score[y] > low) && (high_in ? score[y] <= high : score[y] < high))
        mass += std::exp(logp[y]);
    return std::pow(mass, n);
  };
  pair_law out = pair_law::Zero(k, k);
  for (Eigen::Index a = 0; a < k; ++a)
    for (Eigen::Index b = 0; b < k; ++b) {
      detail::want(a == b || score[a] != score[b], "best_and_worst", "a score", score[a], "scores without ties");
      if (score[a] < score[b]) continue;
      out(a, b) = within(score[b], true, score[a], true) - within(score[b], false, score[a], true) -
                  within(score[b], true, score[a], false) + within(score[b], false, score[a], false);
    }
  return out;
}

/// KL of the best of n samples by a score without ties to one sample, where no response has much mass: log n - (n - 1)/n, and an
/// upper bound everywhere. Source: Beirami et al. 2024, arXiv 2401.01879.
[[nodiscard]] inline double best_of_n_kl(double n) {
  detail::want(n >= 1, "best_of_n_kl", "n", n, "at least 1");
  return std::log(n) - (n - 1) / n;
}

/// The pair that tells most (the enhancer of iterative preference learning): among the responses that are not clearly worse,
/// \f$ \hat r(y) \ge \max\hat r - c\,\Gamma(y) \f$, the one whose feature difference to the main policy's mean is least known,
/// \f$ \Gamma(y) = \|\phi(y) - E_{\pi_1}\phi\|_{\Sigma^{-1}} \f$; `uncertainty` is Gamma of each response.
/// Source: Xiong et al. 2023, arXiv 2312.11456, with single responses as the set of policies.
[[nodiscard]] inline Eigen::Index enhancer(const vector& estimated_reward, const vector& uncertainty, double c) {
  detail::want(c >= 0, "enhancer", "c", c, "0 or more");
  const double best = estimated_reward.maxCoeff();
  Eigen::Index choice = -1;
  for (Eigen::Index y = 0; y < uncertainty.size(); ++y)
    if (estimated_reward[y] >= best - c * uncertainty[y] && (choice < 0 || uncertainty[y] > uncertainty[choice]))
      choice = y;
  return choice;
}

}  // namespace rlhf::inline v1::theory
