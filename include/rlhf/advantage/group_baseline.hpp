#pragma once
// Other baselines and scales of a group: OPO, GPG, MaxRL.

#include "rlhf/advantage/group.hpp"

namespace rlhf::inline v1 {

/// OPO: \f$ A_i = r_i - \frac{\sum_j n_j r_j}{\sum_j n_j} \f$, n the lengths of the responses, which are their `weight`.
///
/// The baseline that minimises the variance of the gradient where the squared gradient of a response grows with its length. A
/// group of one keeps its reward, as does one without length. NaN rewards are left out, advantage 0.
/// Source: Hao et al. 2025, arXiv 2505.23585; verl. Catalogue E-11.
struct optimal_baseline {
  static constexpr bool weighed = true;
  [[nodiscard]] static constexpr bool looks_at_batch() { return false; }
  [[nodiscard]] constexpr status check() const { return {}; }

  template <class Reward, class Set>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, const Reward& reward, const Set& set,
                                      const reward_moments&) const {
    double scored = 0, weight = 0, sum = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      const double r = reward(j);
      if (!(r == r)) continue;
      scored += 1;
      weight += reward.weight(j);
      sum += reward.weight(j) * r;
    }
    const double baseline = scored > 1 && weight > 0 ? sum / weight : 0;
    for (std::int64_t j = 0; j < n; ++j) {
      const double r = reward(j);
      set(j, r == r ? r - baseline : 0.0);
    }
  }
};

/// GPG: \f$ A_i = \frac{\alpha}{f}(r_i - \bar r_g) \f$, alpha = the scored responses of the call / those whose reward is not 0.
///
/// alpha makes up for responses that carry no signal; with none but 0 it is their number. A group of one keeps its reward times
/// alpha / f. NaN rewards are left out, advantage 0. `divisor` is f.
/// Source: Chu et al. 2025, arXiv 2504.02546; verl. Catalogue E-12.
struct group_policy_gradient {
  double divisor = 1;  ///< f

  [[nodiscard]] constexpr status check() const {
    if (!(divisor > 0 && divisor < infinity))
      return remark::argument("group_policy_gradient", "divisor", divisor, "a finite number above 0");
    return {};
  }
  template <class Reward, class Set>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, const Reward& reward, const Set& set,
                                      const reward_moments& batch) const {
    const moments group = moments_of(n, reward);
    const double center = group.count == 1 ? 0 : group.mean;
    const double alpha = batch.count / (batch.nonzero > 1 ? batch.nonzero : 1);
    for (std::int64_t j = 0; j < n; ++j) {
      const double r = reward(j);
      set(j, r == r ? alpha * (r - center) / divisor : 0.0);
    }
  }
};

/// MaxRL: \f$ A_i = (r_i - \bar r_g)/(\bar r_g + \epsilon) \f$, the gradient of the log-probability of success for rewards 0 and 1.
///
/// `zero_if_nonpositive`: divides by the mean itself, and a group whose mean is 0 or less gives 0 (prime-rl); else epsilon is
/// added whatever the mean is (SkyRL), and only a mean of exactly -epsilon gives 0. NaN rewards are left out, advantage 0.
/// Source: Tajwar et al. 2026, arXiv 2602.02710. Catalogue E-15.
struct mean_normalized {
  bool zero_if_nonpositive = false;  ///< divide by the mean itself
  double epsilon = 1e-6;             ///< added to the mean

  [[nodiscard]] constexpr status check() const {
    if (!(epsilon >= 0)) return remark::argument("mean_normalized", "epsilon", epsilon, "0 or more");
    return {};
  }
  [[nodiscard]] static constexpr bool looks_at_batch() { return false; }
  template <class Reward, class Set>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, const Reward& reward, const Set& set,
                                      const reward_moments&) const {
    const double mean = moments_of(n, reward).mean;
    const double divisor = zero_if_nonpositive ? (mean > 0 ? mean : 0) : mean + epsilon;
    for (std::int64_t j = 0; j < n; ++j) {
      const double r = reward(j);
      set(j, r == r && divisor != 0 ? (r - mean) / divisor : 0.0);
    }
  }
};

}  // namespace rlhf::inline v1
