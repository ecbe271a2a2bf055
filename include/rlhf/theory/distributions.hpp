#pragma once
// Distributions over few things, kept as log-probabilities; what is exact about them.

#include <Eigen/Core>

#include "rlhf/core/throw.hpp"
#include "rlhf/formulation/check.hpp"
#include "rlhf/objective/sampling.hpp"

namespace rlhf::inline v1::theory {

using vector = Eigen::VectorXd;
using matrix = Eigen::MatrixXd;

namespace detail {
using namespace formulation_detail;

inline void want_beta(double beta, const char* function) {
  want(beta > 0 && std::isfinite(beta), function, "beta", beta, "more than 0");
}
}  // namespace detail

/// A list of numbers as a vector.
[[nodiscard]] inline vector vector_of(std::span<const double> x) {
  return Eigen::Map<const vector>(x.data(), static_cast<Eigen::Index>(x.size()));
}
/// The same, the other way.
[[nodiscard]] inline std::span<const double> span_of(const vector& x) {
  return {x.data(), static_cast<std::size_t>(x.size())};
}

/// log sum exp, exact at minus infinity and without overflow.
[[nodiscard]] inline double log_sum_exp(const vector& z) {
  const double top = z.maxCoeff();
  return std::isfinite(top) ? top + std::log((z.array() - top).exp().sum()) : top;
}
/// Logits as log-probabilities.
[[nodiscard]] inline vector log_softmax(const vector& z) {
  if (z.size() == 0) detail::refuse("log_softmax", "the number of actions", 0, "at least 1");
  return z.array() - log_sum_exp(z);
}
[[nodiscard]] inline vector probabilities(const vector& logp) { return logp.array().exp(); }
[[nodiscard]] inline vector uniform_logp(Eigen::Index n) {
  return vector::Constant(n, -std::log(static_cast<double>(n)));
}

/// Mean of f under p = e^logp; what has no mass is not looked at.
[[nodiscard]] inline double expectation(const vector& logp, const vector& f) {
  double sum = 0;
  for (Eigen::Index y = 0; y < logp.size(); ++y)
    if (logp[y] > -infinity) sum += std::exp(logp[y]) * f[y];
  return sum;
}
/// KL(p || q), nats; infinite where q excludes what p allows.
[[nodiscard]] inline double kl(const vector& logp, const vector& logq) { return expectation(logp, logp - logq); }
[[nodiscard]] inline double entropy(const vector& logp) { return -expectation(logp, logp); }
/// The largest difference less the smallest: 0 exactly where x is constant.
[[nodiscard]] inline double range_of(const vector& x) { return x.maxCoeff() - x.minCoeff(); }

/// The library's mixtures of log-probabilities (`pilaf`, `geometric_mixture`, `gibbs`, ...), normalised.
[[nodiscard]] inline vector mixed(const logit_mixture& mixture, const vector& logp, const vector& other) {
  or_throw(mixture.check());
  vector z(logp.size());
  for (Eigen::Index y = 0; y < z.size(); ++y) z[y] = mixture(logp[y], other[y]);
  return log_softmax(z);
}

/// The KL-regularised bandit of one context: \f$ J(\pi) = E_\pi r - \beta\,KL(\pi\|\pi_{ref}) \f$. Its maximum is \f$ \beta\log Z \f$ at
/// \f$ \pi^*\propto\pi_{ref}e^{r/\beta} \f$, and \f$ J(\pi^*) - J(\pi) = \beta\,KL(\pi\|\pi^*) \f$ for every policy.
struct regularised_bandit {
  vector reward;
  vector ref_logp;
  double beta = 1;

  void check() const {
    detail::want_beta(beta, "regularised_bandit");
    detail::want(reward.size() >= 1, "regularised_bandit", "the number of actions", static_cast<double>(reward.size()),
                 "at least 1");
    detail::want_size(static_cast<std::size_t>(ref_logp.size()), reward.size(), "regularised_bandit", "ref_logp");
  }
  [[nodiscard]] vector best() const {
    check();
    return mixed(gibbs(beta), ref_logp, reward);
  }
  [[nodiscard]] double best_value() const {
    check();
    return beta * log_sum_exp(ref_logp + reward / beta);
  }
  [[nodiscard]] double value(const vector& logp) const {
    detail::want_size(static_cast<std::size_t>(logp.size()), reward.size(), "regularised_bandit", "logp");
    detail::want_size(static_cast<std::size_t>(ref_logp.size()), reward.size(), "regularised_bandit", "ref_logp");
    return expectation(logp, reward) - beta * kl(logp, ref_logp);
  }
  [[nodiscard]] double gap(const vector& logp) const {
    detail::want_size(static_cast<std::size_t>(logp.size()), reward.size(), "regularised_bandit", "logp");
    return beta * kl(logp, best());
  }
};

/// The element at which the running sum of e^logp passes u in [0, 1).
[[nodiscard]] inline Eigen::Index draw(const vector& logp, double u) {
  double below = 0;
  Eigen::Index last = 0;
  for (Eigen::Index y = 0; y < logp.size(); ++y) {
    const double p = std::exp(logp[y]);
    if (p > 0) last = y;
    if (u < (below += p)) return y;
  }
  return last;
}

}  // namespace rlhf::inline v1::theory
