#pragma once
// Rewards and transitions that are linear in known features.

#include <numeric>
#include <vector>

#include "rlhf/formulation/bandit.hpp"
#include "rlhf/formulation/tabular.hpp"

namespace rlhf::inline v1 {

/// Features [items, dimension]: one row for each response, or each (state, action).
class feature_map {
 public:
  feature_map(std::int64_t items, std::int64_t dimension, std::vector<double> values)
      : items_(items), dimension_(dimension), values_(std::move(values)) {
    using namespace formulation_detail;
    want(items >= 1, "feature_map", "items", static_cast<double>(items), "at least 1");
    want(dimension >= 1, "feature_map", "dimension", static_cast<double>(dimension), "at least 1");
    want_size(values_.size(), items * dimension, "feature_map", "values");
    for (const double v : values_) want(std::isfinite(v), "feature_map", "a feature", v, "a finite number");
  }
  [[nodiscard]] std::int64_t items() const { return items_; }
  [[nodiscard]] std::int64_t dimension() const { return dimension_; }
  [[nodiscard]] std::span<const double> operator()(std::int64_t item) const {
    return std::span(values_).subspan(static_cast<std::size_t>(item * dimension_),
                                      static_cast<std::size_t>(dimension_));
  }
  [[nodiscard]] std::span<const double> values() const { return values_; }
  /// The linear reward \f$ \langle\theta,\phi\rangle \f$ of every item.
  [[nodiscard]] std::vector<double> rewards(std::span<const double> theta) const {
    formulation_detail::want_size(theta.size(), dimension_, "feature_map: rewards", "theta");
    std::vector<double> out;
    for (std::int64_t i = 0; i < items_; ++i) {
      const auto row = (*this)(i);
      out.push_back(std::inner_product(row.begin(), row.end(), theta.begin(), 0.0));
    }
    return out;
  }

 private:
  std::int64_t items_, dimension_;
  std::vector<double> values_;
};

/// A bandit with linear rewards: item x * actions + y of the features is response y to context x.
[[nodiscard]] inline tabular_bandit linear_bandit(const feature_map& features, std::int64_t actions,
                                                  std::span<const double> theta, std::vector<double> weights = {}) {
  formulation_detail::want(actions >= 1 && features.items() % actions == 0, "linear_bandit", "actions",
                           static_cast<double>(actions), "a divisor of the number of items");
  return {features.items() / actions, actions, features.rewards(theta), std::move(weights)};
}

/// A linear MDP: \f$ P(s'|s,a) = \langle\phi(s,a),\mu(s')\rangle \f$, \f$ r = \langle\phi,\theta\rangle \f$. Item s * actions + a of the
/// features is (s, a); `measures` [dimension, states]. Refused where the products are not probabilities: no clipping.
/// Source: Jin et al. 2020, arXiv 1907.05388, assumption A.
[[nodiscard]] inline dense_mdp linear_mdp(const feature_map& features, std::int64_t actions,
                                          std::span<const double> measures, std::span<const double> theta) {
  using namespace formulation_detail;
  want(actions >= 1 && features.items() % actions == 0, "linear_mdp", "actions", static_cast<double>(actions),
       "a divisor of the number of items");
  const std::int64_t states = features.items() / actions;
  want_size(measures.size(), features.dimension() * states, "linear_mdp", "measures");
  std::vector<double> p;
  for (std::int64_t item = 0; item < features.items(); ++item)
    for (std::int64_t next = 0; next < states; ++next) {
      double sum = 0;
      for (std::int64_t k = 0; k < features.dimension(); ++k)
        sum += features(item)[static_cast<std::size_t>(k)] * at(measures, k * states + next);
      want(sum > -1e-12, "linear_mdp", "a transition probability", sum, "0 or more");
      p.push_back(sum > 0 ? sum : 0);
    }
  return {states, actions, std::move(p), features.rewards(theta)};
}

}  // namespace rlhf::inline v1
