#pragma once
// The value of a prompt under the best policy, from samples of the reference.

#include "rlhf/advantage/group.hpp"

namespace rlhf::inline v1 {

/// The soft-optimal value, \f$ V^* = \beta\log\frac1n\sum_j e^{r_j/\beta} \f$ over the scored responses of a group: every member
/// gets it (the group's value, not an advantage). Between the mean (beta to infinity) and the maximum (beta to 0) of the
/// rewards; it rises with n towards the true value. A NaN reward is left out; a group without rewards gives 0.
/// Source: Brantley et al. 2025 (A*-PO), arXiv 2505.20686, eq. 3; catalogue N-04.
struct optimal_value {
  double beta = 0.5;  ///< temperature, in units of reward

  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("optimal_value", "beta", beta, "more than 0");
  }
  [[nodiscard]] static constexpr bool looks_at_batch() { return false; }

  template <class Reward, class Set>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, const Reward& reward, const Set& set,
                                      const reward_moments&) const {
    double top = -infinity, sum = 0, count = 0;
    for (std::int64_t j = 0; j < n; ++j) top = reward(j) > top ? reward(j) : top;
    for (std::int64_t j = 0; j < n; ++j) {
      const double r = reward(j);
      if (!(r == r)) continue;
      sum += exp((r - top) / beta);
      count += 1;
    }
    const double value = count > 0 ? top + beta * log(sum / count) : 0;
    for (std::int64_t j = 0; j < n; ++j) set(j, value);
  }
};

}  // namespace rlhf::inline v1
