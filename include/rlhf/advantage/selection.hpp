#pragma once
// Which responses of a group are learnt from. A selection is an estimator of a group that gives the rewards back, NaN ("no
// reward") for what is left out: any other estimator then leaves them out of its statistics and gives them advantage 0.

#include "rlhf/advantage/group.hpp"

namespace rlhf::inline v1 {

/// Keeps the groups that can teach something: \f$ s_g > s_{min} \f$ and \f$ low \le \bar r_g \le high \f$, rewards that
/// differ by more than `minimum_deviation` (Bessel-corrected standard deviation), and a mean that is neither too hard
/// nor too easy.
///
/// The default drops groups whose rewards are all equal: DAPO's dynamic sampling. Source: Yu et al. 2025, arXiv 2503.14476;
/// catalogue E-22.
struct group_filter {
  double minimum_deviation = 0;  ///< a group's deviation must be larger
  double low = -infinity;        ///< of the group's mean
  double high = infinity;        ///< of the group's mean

  [[nodiscard]] constexpr status check() const {
    if (!(minimum_deviation >= 0))
      return remark::argument("group_filter", "minimum_deviation", minimum_deviation, "0 or more");
    if (!(low <= high)) return remark::argument("group_filter", "low", low, "at most high");
    return {};
  }
  [[nodiscard]] static constexpr bool looks_at_batch() { return false; }
  template <class Reward, class Set>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, const Reward& reward, const Set& set,
                                      const reward_moments&) const {
    const moments group = moments_of(n, reward);
    const bool keep = sqrt(group.variance()) > minimum_deviation && group.mean >= low && group.mean <= high;
    for (std::int64_t j = 0; j < n; ++j) set(j, keep ? reward(j) : not_a_number);
  }
};

/// Keeps the `keep` responses of each group whose `weight` is the smallest, or the largest; at a tie those that come first.
///
/// GFPO: with the lengths as weights, or minus the reward per token, groups are sampled large and the short responses kept.
/// Responses without a reward are not counted. A smaller group is kept whole. O(n^2) in the size of a group.
/// Source: Shrivastava et al. 2025, arXiv 2508.09726; catalogue E-22.
struct best_of_group {
  std::int64_t keep = 8;  ///< responses of a group
  bool largest = false;   ///< keep those with the largest weight instead

  static constexpr bool weighed = true;
  [[nodiscard]] constexpr status check() const {
    if (keep < 1) return remark::argument("best_of_group", "keep", static_cast<double>(keep), "1 or more");
    return {};
  }
  [[nodiscard]] static constexpr bool looks_at_batch() { return false; }
  template <class Reward, class Set>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, const Reward& reward, const Set& set,
                                      const reward_moments&) const {
    for (std::int64_t j = 0; j < n; ++j) {
      const double own = reward.weight(j);
      std::int64_t ahead = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const double other = reward.weight(i);
        const bool scored = reward(i) == reward(i);
        if (scored && ((largest ? other > own : other < own) || (other == own && i < j))) ++ahead;
      }
      set(j, ahead < keep ? reward(j) : not_a_number);
    }
  }
};

}  // namespace rlhf::inline v1
