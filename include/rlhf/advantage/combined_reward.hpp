#pragma once
// One reward of a response from several reward functions.

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// \f$ r = \left[\sum_k w_k r_k\right]_{low}^{high} - \beta p \f$ over the reward functions k that gave a number.
///
/// NaN says that a function does not apply to the response; where none does the reward is NaN: "no reward". `penalty` is beta,
/// p what the response pays, such as the KL of its tokens added up: subtracted after the clip.
/// Source: TRL's GRPO and RLOO trainers; catalogue S-11, K-13, E-23.
struct combined_reward {
  double penalty = 0;      ///< beta, the price of what was paid
  double low = -infinity;  ///< of the sum, before the penalty
  double high = infinity;  ///< of the sum, before the penalty

  [[nodiscard]] constexpr status check() const {
    if (!(penalty > -infinity && penalty < infinity))
      return remark::argument("combined_reward", "penalty", penalty, "a finite number");
    if (!(low <= high)) return remark::argument("combined_reward", "low", low, "at most high");
    return {};
  }
  /// `reward(k)` and `weight(k)` for k in [0, n); `paid` is p.
  template <class Reward, class Weight>
  [[nodiscard]] RLHF_HD RLHF_INLINE double operator()(std::int64_t n, const Reward& reward, const Weight& weight,
                                                      double paid) const {
    double sum = 0;
    bool any = false;
    for (std::int64_t k = 0; k < n; ++k) {
      const double r = reward(k);
      if (!(r == r)) continue;
      sum += weight(k) * r;
      any = true;
    }
    if (!any) return not_a_number;
    const double bounded = sum < low ? low : sum > high ? high : sum;
    return penalty != 0 ? bounded - penalty * paid : bounded;
  }
};

}  // namespace rlhf::inline v1
