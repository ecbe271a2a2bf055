#pragma once
// Ellipsoids around an estimated reward: how sure the data make us of a feature, and rewards at their lower or upper end.

#include <Eigen/Cholesky>

#include "rlhf/theory/distributions.hpp"

namespace rlhf::inline v1::theory {

/// \f$ \Sigma = \sum_i x_i x_i^T + \lambda I \f$ and the norms that belong to it, by Cholesky factor.
class design_matrix {
 public:
  design_matrix(const matrix& rows, double ridge)
      : design_matrix(matrix(rows.transpose() * rows), rows.cols(), ridge) {}
  [[nodiscard]] static design_matrix of_sum(const matrix& sum, double ridge) { return {sum, sum.cols(), ridge}; }

  /// \f$ \|x\|_{\Sigma^{-1}} \f$: how uncertain the reward of the feature x is.
  [[nodiscard]] double uncertainty(const vector& x) const { return factor_.matrixL().solve(x).norm(); }
  /// \f$ \|x\|_{\Sigma} \f$: how far apart two parameters are, as the data see it.
  [[nodiscard]] double distance(const vector& x) const { return (factor_.matrixU() * x).norm(); }
  /// \f$ \Sigma^{-1}x \f$.
  [[nodiscard]] vector solve(const vector& x) const { return factor_.solve(x); }
  [[nodiscard]] const matrix& values() const { return values_; }

 private:
  design_matrix(matrix sum, Eigen::Index d, double ridge) : values_(std::move(sum)) {
    detail::want(ridge > 0 && std::isfinite(ridge), "design_matrix", "ridge", ridge, "more than 0");
    detail::want(values_.rows() == d && values_.allFinite(), "design_matrix", "an element", not_a_number,
                 "finite numbers");
    values_.diagonal().array() += ridge;
    factor_.compute(values_);
    detail::want(factor_.info() == Eigen::Success, "design_matrix", "the smallest eigenvalue", 0, "more than 0");
  }
  matrix values_;
  Eigen::LLT<matrix> factor_;
};

/// A linear reward at the end of its confidence interval: \f$ \langle\phi,\hat\theta\rangle + c\,\|\phi-\nu\|_{\Sigma^{-1}} \f$, c = -radius
/// for pessimism, + radius for optimism. The reference nu (none: 0) takes away what comparisons cannot see.
[[nodiscard]] inline vector bounded_rewards(const matrix& features, const vector& theta, const design_matrix& design,
                                            double radius, const vector& reference = {}) {
  detail::want(std::isfinite(radius), "bounded_rewards", "radius", radius, "a finite number");
  vector out = features * theta;
  for (Eigen::Index i = 0; i < out.size(); ++i) {
    vector x = features.row(i).transpose();
    if (reference.size() > 0) x -= reference;
    out[i] += radius * design.uncertainty(x);
  }
  return out;
}

/// The smallest slope of the logistic function on margins up to `margin`: \f$ \kappa = 1/(2+e^{m}+e^{-m}) \f$.
[[nodiscard]] inline double least_logistic_slope(double margin) { return sigmoid(margin) * sigmoid(-margin); }

/// A radius that holds |theta_hat - theta*|_Sigma with probability 1 - delta, of the order
/// \f$ \sqrt{d+\log(1/\delta)}/\kappa + \sqrt\lambda\,B \f$, times `constant`.
/// Source: Zhu, Jordan, Jiao 2023, arXiv 2301.11270, lemma 3.1 (their constant is not explicit).
[[nodiscard]] inline double confidence_radius(double dimension, double delta, double kappa, double ridge, double bound,
                                              double constant = 1) {
  detail::want(delta > 0 && delta < 1, "confidence_radius", "delta", delta, "0 < delta < 1");
  detail::want(kappa > 0, "confidence_radius", "kappa", kappa, "more than 0");
  return constant * (std::sqrt(dimension + std::log(1 / delta)) / kappa + std::sqrt(ridge) * bound);
}

}  // namespace rlhf::inline v1::theory
