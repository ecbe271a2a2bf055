#pragma once
// ZPG on a bandit whose labels are drawn from their exact law.

#include <algorithm>
#include <vector>

#include "lab/support.hpp"
#include "rlhf/theory/zeroth_order.hpp"

namespace lab {

/// What M labels on a pair of responses may say: the law of the estimated difference of their rewards.
struct label_law {
  rlhf::theory::vector cumulative, estimate;
  double mean = 0, variance = 0;

  /// Differences are at most `range`, which says where estimates are clipped: at half the smallest probability there is.
  label_law(std::int64_t labels, double range, double difference) {
    constexpr rlhf::theory::logistic_link link;
    const auto n = static_cast<double>(labels);
    const double q = link(difference);
    vector p(labels + 1);
    for (std::int64_t k = 0; k <= labels; ++k) {
      const auto j = static_cast<double>(k);
      p[k] =
          std::lgamma(n + 1) - std::lgamma(j + 1) - std::lgamma(n - j + 1) + j * std::log(q) + (n - j) * std::log1p(-q);
    }
    p = rlhf::theory::probabilities(rlhf::theory::log_softmax(p));
    cumulative = p, estimate = p;
    double below = 0;
    for (Eigen::Index k = 0; k < p.size(); ++k) {
      cumulative[k] = below += p[k];
      const double wins[] = {static_cast<double>(k)};
      estimate[k] = rlhf::theory::value_difference(wins, n, link, link(-range) / 2);
    }
    mean = p.dot(estimate);
    variance = p.dot((estimate.array() - mean).square().matrix());
  }
  /// One draw from u in [0, 1), by bisection: the same law as M labels, at the price of a few comparisons.
  [[nodiscard]] double draw(double u) const {
    const auto* const end = cumulative.data() + cumulative.size() - 1;
    return estimate[std::upper_bound(cumulative.data(), end, u) - cumulative.data()];
  }
};

/// The table of these laws for all pairs of responses.
class preference_gradient {
 public:
  preference_gradient(vector reward, std::int64_t pairs, std::int64_t labels, double range)
      : reward_(std::move(reward)), pairs_(pairs) {
    for (Eigen::Index a = 0; a < reward_.size(); ++a)
      for (Eigen::Index b = 0; b < reward_.size(); ++b) laws_.emplace_back(labels, range, reward_[b] - reward_[a]);
  }
  [[nodiscard]] const label_law& law(Eigen::Index a, Eigen::Index b) const {
    return laws_[static_cast<std::size_t>(a * reward_.size() + b)];
  }
  /// The estimated difference of the values of two policies from N pairs of rollouts. Positions 0 ... N - 1 of `at`.
  [[nodiscard]] double difference(const vector& logp, const vector& other, const rlhf::random_numbers& numbers,
                                  rlhf::random_index at) const {
    double sum = 0;
    for (std::int64_t n = 0; n < pairs_; ++n) {
      at.position = static_cast<std::uint32_t>(n);
      const auto uniform = [&](std::uint32_t draw) {
        at.draw = draw;
        return numbers.uniform(at);
      };
      const Eigen::Index a = rlhf::theory::draw(logp, uniform(0)), b = rlhf::theory::draw(other, uniform(1));
      sum += law(a, b).draw(uniform(2));
    }
    return sum / static_cast<double>(pairs_);
  }
  /// Its exact mean and variance.
  [[nodiscard]] std::pair<double, double> moments(const vector& logp, const vector& other) const {
    double mean = 0, square = 0;
    for (Eigen::Index a = 0; a < reward_.size(); ++a)
      for (Eigen::Index b = 0; b < reward_.size(); ++b) {
        const double w = std::exp(logp[a] + other[b]);
        const label_law& l = law(a, b);
        mean += w * l.mean;
        square += w * (l.variance + l.mean * l.mean);
      }
    return {mean, (square - mean * mean) / static_cast<double>(pairs_)};
  }

 private:
  vector reward_;
  std::int64_t pairs_;
  std::vector<label_law> laws_;
};

/// The radius that balances the errors of M labels and N pairs, (M^-1/2 + N^-1/2)^1/2, in units of theta.
[[nodiscard]] inline double balanced_radius(std::int64_t pairs, std::int64_t labels) {
  return std::sqrt(1 / std::sqrt(static_cast<double>(labels)) + 1 / std::sqrt(static_cast<double>(pairs)));
}

}  // namespace lab
