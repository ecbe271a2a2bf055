#pragma once
// Rewards from rankings by maximum likelihood.

#include <algorithm>
#include <vector>

#include "rlhf/reward/ranking.hpp"
#include "rlhf/theory/reward_learning.hpp"

namespace rlhf::inline v1::theory {

/// A ranking of items by their rows of features, the best first.
using ranking_features = matrix;

/// Maximum likelihood of linear rewards from rankings under Plackett and Luce's model, all places or the first `loss.top`.
[[nodiscard]] inline fitted_reward fit_rankings(const plackett_luce& loss, const std::vector<ranking_features>& lists,
                                                const fit_options& options = {}) {
  or_throw(loss.check());
  detail::want(!lists.empty(), "fit_rankings", "the number of rankings", 0, "at least 1");
  const Eigen::Index d = lists.front().cols();
  const auto choices = [&](Eigen::Index n) {
    return loss.top > 0 && loss.top < n - 1 ? static_cast<Eigen::Index>(loss.top) : n - 1;
  };
  struct scored_list {
    vector s;
    mutable vector slopes, cells;  // a formula writes through a constant list
    [[nodiscard]] std::int64_t size() const { return s.size(); }
    [[nodiscard]] double score(std::int64_t k) const { return s[k]; }
    void slope(std::int64_t k, double v) const { slopes[k] = v; }
    double& work(std::int64_t k) const { return cells[k]; }
  };
  const auto f = [&](const vector& theta) {
    detail::likelihood out{options.ridge / 2 * theta.squaredNorm(), options.ridge * theta,
                           matrix(options.ridge * matrix::Identity(d, d))};
    const double share = 1 / static_cast<double>(lists.size());
    for (const matrix& phi : lists) {
      scored_list list{phi * theta, vector(phi.rows()), vector(phi.rows())};
      out.loss += share * loss(list);
      out.gradient += share * (phi.transpose() * list.slopes);
      for (Eigen::Index k = 0; k < choices(phi.rows()); ++k) {  // each choice bends by the covariance of what was left
        const auto rest = phi.bottomRows(phi.rows() - k);
        const vector p = probabilities(log_softmax(list.s.tail(phi.rows() - k)));
        const vector mean = rest.transpose() * p;
        out.hessian += share * (rest.transpose() * p.asDiagonal() * rest - mean * mean.transpose());
      }
    }
    return out;
  };
  const auto recedes = [&](const vector& direction) {
    double least = infinity, size = 0;
    for (const matrix& phi : lists) {
      const vector along = phi * direction;
      for (Eigen::Index k = 0; k < choices(phi.rows()); ++k)
        for (Eigen::Index j = k + 1; j < phi.rows(); ++j) {
          least = std::min(least, along[k] - along[j]);
          size = std::max(size, std::fabs(along[k] - along[j]));
        }
    }
    return size > 0 && least >= -1e-9 * size;
  };
  return detail::newton(f, recedes, vector::Zero(d), options);
}

}  // namespace rlhf::inline v1::theory
