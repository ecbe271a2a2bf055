#pragma once
// The baseline of a response is the mean of the others of its group: RLOO.

#include "rlhf/advantage/group.hpp"

namespace rlhf::inline v1 {

/// RLOO: \f$ A_i = r_i - \frac{1}{n-1}\sum_{j \ne i} r_j = \frac{n}{n-1}(r_i - \bar r_g) \f$, n the scored responses of the group.
///
/// `normalize` divides by s + epsilon, s the Bessel-corrected deviation of the *others*, where s is defined and above 0: with
/// three or more scored responses (NeMo RL's default). It is computed from the others themselves, in O(n^2), so that an outlier
/// does not cancel. A NaN reward is "no reward": left out, advantage 0. `lone` says what the only reward of a group gives.
/// Source: Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740. TRL's `normalize_advantages` is `whiten` over the call
/// instead. Catalogue E-07.
struct leave_one_out {
  lone_response lone = lone_response::zero;  ///< what the only reward of a group gives
  bool normalize = false;                    ///< divide by the deviation of the others
  double epsilon = 1e-6;                     ///< added to that deviation

  [[nodiscard]] constexpr status check() const {
    if (!(epsilon >= 0)) return remark::argument("leave_one_out", "epsilon", epsilon, "0 or more");
    return {};
  }
  [[nodiscard]] static constexpr bool looks_at_batch() { return false; }

  template <class Reward, class Set>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, const Reward& reward, const Set& set,
                                      const reward_moments&) const {
    const moments group = moments_of(n, reward);
    for (std::int64_t j = 0; j < n; ++j) {
      const double r = reward(j);
      if (!(r == r)) {
        set(j, 0.0);
      } else if (group.count == 1) {
        set(j, lone == lone_response::raw ? r : 0.0);
      } else {
        const double a = group.count / (group.count - 1) * (r - group.mean);
        const double s = normalize ? sqrt(others(n, reward, j).variance()) : 0;
        set(j, s > 0 ? a / (s + epsilon) : a);
      }
    }
  }

 private:
  template <class Reward>
  [[nodiscard]] static RLHF_HD RLHF_INLINE moments others(std::int64_t n, const Reward& reward, std::int64_t without) {
    moments rest;
    for (std::int64_t j = 0; j < n; ++j) {
      const double r = reward(j);
      if (j != without && r == r) rest.add(r);
    }
    return rest;
  }
};

}  // namespace rlhf::inline v1
