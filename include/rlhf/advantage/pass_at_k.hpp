#pragma once
// Only the best response of a group is paid, by what it adds: pass@k.

#include "rlhf/advantage/group.hpp"

namespace rlhf::inline v1 {

/// pass@k: the best response of a group has \f$ A = (r_{(1)} - r_{(2)})/(s_g + \epsilon) \f$, the others 0.
///
/// r_(1) and r_(2) are the two largest rewards, s the Bessel-corrected deviation of the group; `normalize` false divides by
/// nothing. A tie for the best pays nothing, so which of them is "the best" does not matter. Fewer than two rewards give 0
/// (verl raises). NaN rewards are left out.
/// Source: Tang et al. 2025, arXiv 2503.19595; verl's grpo_passk. Catalogue E-13.
struct pass_at_k {
  bool normalize = true;  ///< divide by the deviation of the group
  double epsilon = 1e-6;  ///< added to the deviation

  [[nodiscard]] constexpr status check() const {
    if (!(epsilon >= 0)) return remark::argument("pass_at_k", "epsilon", epsilon, "0 or more");
    return {};
  }
  [[nodiscard]] static constexpr bool looks_at_batch() { return false; }
  template <class Reward, class Set>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, const Reward& reward, const Set& set,
                                      const reward_moments&) const {
    std::int64_t best = -1;
    double first = -infinity, second = -infinity;
    for (std::int64_t j = 0; j < n; ++j) {
      const double r = reward(j);
      if (!(r == r)) continue;
      if (best < 0 || r > first) {
        second = first;
        first = r;
        best = j;
      } else if (r > second) {
        second = r;
      }
    }
    const moments group = moments_of(n, reward);
    const double gap = group.count > 1 && first > second ? first - second : 0;
    const double divisor = normalize ? sqrt(group.variance()) + epsilon : 1;
    for (std::int64_t j = 0; j < n; ++j) set(j, j == best && gap > 0 ? gap / divisor : 0.0);
  }
};

}  // namespace rlhf::inline v1
