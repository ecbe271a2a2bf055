#pragma once
// Advantages of responses relative to the others of their group (prompt): what an estimator of a group is, and GRPO.
//
// An estimator is an aggregate with `operator()(n, reward, set, batch) const`, called once for each group: `reward(j)` is the
// reward of its j-th response (NaN: it has none), `reward.weight(j)` its weight where the estimator says `weighed = true`,
// `set(j, advantage)` must be called for each j in [0, n), and `batch` is what the rewards of the whole call add up to. One whose
// `looks_at_batch()` is false is spared the passes that find that: `batch` is then empty. Without the member it is true.

#include "rlhf/core/status.hpp"
#include "rlhf/math/monoids.hpp"

namespace rlhf::inline v1 {

/// What a group's centred rewards are divided by.
enum class group_scale {
  group,  ///< the group's standard deviation (GRPO)
  batch,  ///< that of all rewards of the call
  none    ///< nothing (Dr. GRPO)
};

/// What a group of a single response gives.
enum class lone_response {
  zero,  ///< advantage 0 (TRL)
  raw    ///< its reward: mean 0, deviation 1 (verl)
};

/// The moments of the rewards of a call, and how many of them are neither 0 nor missing.
struct reward_moments : moments {
  double nonzero = 0;
};

/// Does an estimator look at the moments of the batch? One that does not say: yes.
template <class Estimator>
[[nodiscard]] constexpr bool looks_at_batch(const Estimator& estimator) {
  if constexpr (requires { estimator.looks_at_batch(); })
    return estimator.looks_at_batch();
  else
    return true;
}

/// Moments of the rewards of a group; a response without a reward is left out.
template <class Reward>
[[nodiscard]] RLHF_HD RLHF_INLINE moments moments_of(std::int64_t n, const Reward& reward) {
  moments group;
  for (std::int64_t j = 0; j < n; ++j) {
    const double r = reward(j);
    if (r == r) group.add(r);
  }
  return group;
}

/// GRPO: \f$ A_i = (r_i - \bar r_g)/(s_g + \epsilon) \f$ over the group g of response i.
///
/// s is Bessel-corrected unless `biased`, and computed in two passes. A NaN reward is "no reward": it is left out of the
/// statistics and has advantage 0. Groups whose rewards are all equal give 0.
/// Source: Shao et al. 2024, arXiv 2402.03300; Dr. GRPO: Liu et al. 2025, arXiv 2503.20783. Epsilon: TRL 1e-4, verl 1e-6.
/// Catalogue E-03 to E-05.
struct group_advantage {
  group_scale scale = group_scale::group;    ///< what the centred rewards are divided by
  double epsilon = 1e-4;                     ///< added to the deviation
  lone_response lone = lone_response::zero;  ///< what a group of one gives
  bool biased = false;                       ///< squares are divided by n instead of n - 1

  [[nodiscard]] constexpr status check() const {
    if (!(epsilon >= 0)) return remark::argument("group_advantage", "epsilon", epsilon, "0 or more");
    return {};
  }

  [[nodiscard]] constexpr bool looks_at_batch() const { return scale == group_scale::batch; }

  /// Advantages of one group; `reward(j)` and `set(j, advantage)` for j in [0, n); `batch` the moments of all rewards.
  template <class Reward, class Set>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, const Reward& reward, const Set& set,
                                      const moments& batch) const {
    const moments group = moments_of(n, reward);
    const bool alone = group.count == 1;
    const double center = alone && lone == lone_response::raw ? 0 : group.mean;
    double divisor = 1;
    if (scale == group_scale::group)
      divisor = (alone && lone == lone_response::raw ? 1 : sqrt(group.variance(biased))) + epsilon;
    if (scale == group_scale::batch) divisor = sqrt(batch.variance(biased)) + epsilon;
    for (std::int64_t j = 0; j < n; ++j) {
      const double r = reward(j);
      const double centred = r - center;
      set(j, r == r && centred != 0 ? centred / divisor : 0.0);
    }
  }
};

}  // namespace rlhf::inline v1
