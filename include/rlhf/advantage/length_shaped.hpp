#pragma once
// Rewards that fall with the length of a response relative to its group's, before the group's own estimator.

#include <concepts>

#include "rlhf/advantage/group.hpp"

namespace rlhf::inline v1 {

/// Every reward is divided by the response's length relative to the group's: \f$ r_i / (1 + \alpha n_i/\bar n) \f$, n the
/// lengths in tokens, the mean over the scored responses of the group.
///
/// A group without length keeps its rewards. A negative reward rises with length, so give it rewards of 0 or more.
/// Source: prime-rl's `gr3`, alpha 0.33. Catalogue E-16.
struct relative_length {
  double alpha = 0.33;  ///< how much of the reward length may take

  [[nodiscard]] constexpr status check() const {
    if (!(alpha >= 0 && alpha < infinity))
      return remark::argument("relative_length", "alpha", alpha, "a finite number, 0 or more");
    return {};
  }
  /// What the group is measured by: the mean length.
  template <class Reward>
  RLHF_HD RLHF_INLINE double measure(std::int64_t n, const Reward& reward) const {
    double count = 0, sum = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      const double r = reward(j);
      if (r == r) count += 1, sum += reward.weight(j);
    }
    return count > 0 ? sum / count : 0;
  }
  RLHF_HD RLHF_INLINE double shaped(double r, double length, double mean) const {
    return mean > 0 ? r / (1 + alpha * length / mean) : r;
  }
};

/// Right answers are paid by their brevity: \f$ r_i\, n_{min}/n_i \f$ where \f$ r_i \ge c \f$, the shortest right answer of the
/// group keeps its reward; wrong ones stay as they are.
///
/// Lengths are in tokens; a right answer without length keeps its reward. Ties: every shortest right answer keeps it.
/// Source: prime-rl's `brevity_bonus`, c = 1. Catalogue E-16.
struct brevity_bonus {
  double correct = 1;  ///< c: a reward from here on is that of a right answer

  [[nodiscard]] constexpr status check() const {
    if (!(correct == correct)) return remark::argument("brevity_bonus", "correct", correct, "a number");
    return {};
  }
  /// What the group is measured by: the length of the shortest right answer.
  template <class Reward>
  RLHF_HD RLHF_INLINE double measure(std::int64_t n, const Reward& reward) const {
    double shortest = infinity;
    for (std::int64_t j = 0; j < n; ++j)
      if (reward(j) >= correct && reward.weight(j) < shortest) shortest = reward.weight(j);
    return shortest;
  }
  RLHF_HD RLHF_INLINE double shaped(double r, double length, double shortest) const {
    return r >= correct && length > 0 ? r * (shortest / length) : r;
  }
};

/// Length-shaped groups: an estimator of `grouped` on rewards that a shape has made of the group's rewards and lengths, by
/// default \f$ A_i = r'_i - \bar r' \f$. Lengths are the responses' `weight`. NaN rewards are left out, advantage 0.
///
/// The moments of the batch are those of the rewards before shaping, so an estimator that divides by them is refused.
/// Source: prime-rl. Catalogue E-16.
template <class Shape = relative_length, class Estimator = group_advantage>
struct length_shaped {
  Shape shape = {};
  Estimator estimator = default_estimator();  ///< of the shaped rewards

  static constexpr bool weighed = true;

  [[nodiscard]] static constexpr Estimator default_estimator() {
    if constexpr (std::same_as<Estimator, group_advantage>)
      return {.scale = group_scale::none};
    else
      return {};
  }
  [[nodiscard]] constexpr status check() const {
    if constexpr (requires { estimator.scale; })
      if (estimator.scale == group_scale::batch)
        return remark::argument("length_shaped", "estimator.scale", static_cast<double>(estimator.scale),
                                "none or group: the batch's moments are of rewards before shaping");
    if (const status s = shape.check(); !s) return s;
    return estimator.check();
  }
  [[nodiscard]] constexpr bool looks_at_batch() const { return rlhf::looks_at_batch(estimator); }
  template <class Reward, class Set>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, const Reward& reward, const Set& set,
                                      const reward_moments& batch) const {
    estimator(n, shaped_reward<Reward>{shape, reward, shape.measure(n, reward)}, set, batch);
  }

 private:
  template <class Reward>
  struct shaped_reward {
    const Shape& shape;
    const Reward& reward;
    double measure;
    RLHF_HD RLHF_INLINE double operator()(std::int64_t j) const {
      return shape.shaped(reward(j), reward.weight(j), measure);
    }
    RLHF_HD RLHF_INLINE double weight(std::int64_t j) const { return reward.weight(j); }
  };
};
template <class Shape>
length_shaped(Shape) -> length_shaped<Shape>;
template <class Shape, class Estimator>
length_shaped(Shape, Estimator) -> length_shaped<Shape, Estimator>;

}  // namespace rlhf::inline v1
