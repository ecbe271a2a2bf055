#pragma once
// Pessimistic policies for linear bandits: the best one by the lower end of its value.

#include "rlhf/theory/confidence.hpp"

namespace rlhf::inline v1::theory {

/// The pessimistic value of one response: \f$ \langle\hat\theta,\phi-\nu\rangle - f\,\|\phi-\nu\|_{\Sigma^{-1}} \f$. Comparisons know no
/// absolute level, so both are taken relative to a reference nu that the data cover.
/// Source: Zhu, Jordan, Jiao 2023, arXiv 2301.11270, algorithm 1.
struct pessimistic_bandit {
  matrix features;  ///< [responses, d]
  vector theta;
  vector reference;  ///< nu [d]
  double radius = 0;

  [[nodiscard]] vector lower_values(const design_matrix& design) const {
    vector out(features.rows());
    for (Eigen::Index y = 0; y < out.size(); ++y) {
      const vector x = features.row(y).transpose() - reference;
      out[y] = theta.dot(x) - radius * design.uncertainty(x);
    }
    return out;
  }
  /// The best single response.
  [[nodiscard]] Eigen::Index choose(const design_matrix& design) const {
    Eigen::Index best = 0;
    lower_values(design).maxCoeff(&best);
    return best;
  }
  /// The best distribution, with the uncertainty of its MEAN feature: a concave problem, by mirror ascent with a step that falls.
  [[nodiscard]] vector randomise(const design_matrix& design, int rounds = 2000) const {
    vector logp = uniform_logp(features.rows()), sum = vector::Zero(features.rows());
    double weight = 0;
    for (int t = 1; t <= rounds; ++t) {
      const vector x = features.transpose() * probabilities(logp) - reference;
      const double size = design.uncertainty(x);
      vector slope = theta;
      if (size > 0) slope -= radius / size * design.solve(x);
      const vector payoff = features * slope;
      const double step = 1 / (std::sqrt(static_cast<double>(t)) * std::max(1e-12, range_of(payoff)));
      logp = log_softmax(logp + step * payoff);
      sum += probabilities(logp);
      weight += 1;
    }
    return (sum / weight).array().log();
  }
  /// With KL regularisation: Gibbs policy of the per-response lower values.
  [[nodiscard]] vector gibbs_policy(const design_matrix& design, const vector& ref_logp, double beta) const {
    return regularised_bandit{lower_values(design), ref_logp, beta}.best();
  }
};

}  // namespace rlhf::inline v1::theory
