#pragma once
// Log-linear policies over the responses to one prompt, with exact gradients, Fisher matrix and natural gradient.

#include <Eigen/QR>

#include "rlhf/theory/distributions.hpp"

namespace rlhf::inline v1::theory {

/// \f$ \pi_\theta(y)\propto e^{\langle\theta,\phi(y)\rangle} \f$. With the identity as features it is the tabular softmax.
struct log_linear {
  matrix features;  ///< [responses, parameters]
  vector theta;

  [[nodiscard]] static log_linear tabular(const vector& logits) {
    return {matrix::Identity(logits.size(), logits.size()), logits};
  }
  [[nodiscard]] vector logp() const {
    detail::want_size(static_cast<std::size_t>(theta.size()), features.cols(), "log_linear", "theta");
    return log_softmax(features * theta);
  }
  /// Row y is the gradient of log pi(y).
  [[nodiscard]] matrix scores() const {
    const vector p = probabilities(logp());
    return features.rowwise() - (p.transpose() * features).eval().row(0);
  }
  /// Gradient of \f$ E_\pi r \f$.
  [[nodiscard]] vector gradient(const vector& reward) const {
    const vector p = probabilities(logp());
    return features.transpose() * (p.array() * (reward.array() - p.dot(reward))).matrix();
  }
  /// Gradient of \f$ E_\pi r - \beta\,KL(\pi\|\pi_{ref}) \f$.
  [[nodiscard]] vector gradient(const vector& reward, const vector& ref_logp, double beta) const {
    return gradient(reward - beta * (logp() - ref_logp));
  }
  /// The Fisher matrix \f$ E\,\nabla\log\pi\,\nabla\log\pi^T \f$.
  [[nodiscard]] matrix fisher() const {
    const matrix s = scores();
    return s.transpose() * probabilities(logp()).asDiagonal() * s;
  }
  /// The natural gradient \f$ F^+ g \f$, of smallest norm where the Fisher matrix is singular (a tabular policy's always is).
  [[nodiscard]] vector natural(const vector& gradient) const { return pseudo_solve(fisher(), gradient); }

  /// A^+ b.
  [[nodiscard]] static vector pseudo_solve(const matrix& a, const vector& b) {
    return a.completeOrthogonalDecomposition().solve(b);
  }
};

}  // namespace rlhf::inline v1::theory
