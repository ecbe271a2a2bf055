#pragma once
// Sequences as one action: how the log-ratios of tokens become one of the sequence, and losses of groups of sequences.
//
// The loss of a sequence is any token objective of (log-ratio as logp, 0 as old_logp, advantage of the sequence).

#include <cstdint>

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// \f$ \sum_t \log\pi - \log\pi_{old} \f$: the ratio of the whole response. With ppo_clip it is the objective of RLOO
/// (Ahmadian et al. 2024, arXiv 2402.14740, in TRL's clipped form). Catalogue G-27.
struct summed_log_ratio {
  static constexpr bool mean = false;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return t.logp - t.old_logp;
  }
};

/// \f$ \frac1n\sum_t \log\pi - \log\pi_{old} \f$: the logarithm of the geometric mean of the ratios. Source: as
/// sequence_ratio, Zheng et al. 2025, arXiv 2507.18071, eq. 7.
struct averaged_log_ratio {
  static constexpr bool mean = true;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return t.logp - t.old_logp;
  }
};

/// \f$ \frac1n\sum_t c_t \f$, c the token's log-ratio held back on the one side where the advantage rewards it for going on: at
/// most `high` where A > 0, at least -`low` where A < 0, 0 where A is 0. The bounds are of the logarithm.
///
/// With importance_sampling it is GMPO: a geometric mean of ratios in place of PPO's arithmetic one. Gradient: none through
/// tokens beyond their bound, which is closed. Source: Zhao et al. 2025, arXiv 2507.20673, eq. 4; catalogue G-10.
struct one_sided_log_ratio {
  double low = 0.4;   ///< bound of the log-ratio below, where A < 0
  double high = 0.4;  ///< and above, where A > 0
  static constexpr bool mean = true;

  [[nodiscard]] constexpr status check() const {
    if (!(low >= 0)) return remark::argument("one_sided_log_ratio", "low", low, "0 or more");
    if (!(high >= 0)) return remark::argument("one_sided_log_ratio", "high", high, "0 or more");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const value_t<V> zero = constant<V>(0), none = constant<V>(infinity);
    const value_t<V> lowest = select(t.advantage < zero, constant<V>(-low), -none);
    const value_t<V> highest = select(t.advantage > zero, constant<V>(high), none);
    const V c = clamp(t.logp - t.old_logp, lowest, highest);
    return select((t.advantage < zero) | (t.advantage > zero), c, V(zero));
  }
};

/// REAL: responses of a prompt as examples of two classes, their scores S = (mean log-ratio) / tau pushed above 0 where the
/// reward is positive and below 0 elsewhere: \f$ \log(1 + \sum_{neg} e^{S}) + \log(1 + \sum_{pos} e^{-S}) \f$.
///
/// A group without both classes gives 0, and counts in the mean over groups. Gradient: a soft-max over each class and a 0.
/// Source: ms-swift; catalogue G-24.
struct real_classification {
  double temperature = 0.5;  ///< tau, divides the mean log-ratio

  [[nodiscard]] constexpr status check() const {
    return temperature > 0 ? status{}
                           : remark::argument("real_classification", "temperature", temperature, "more than 0");
  }
  /// The loss of a group of n: `log_ratio(j)` and `reward(j)` of its responses; `slope(j, d)` takes d loss / d log_ratio.
  template <class LogRatio, class Reward, class Slope>
  RLHF_HD RLHF_INLINE double operator()(std::int64_t n, const LogRatio& log_ratio, const Reward& reward,
                                        const Slope& slope) const {
    std::int64_t positives = 0;
    for (std::int64_t j = 0; j < n; ++j) positives += reward(j) > 0 ? 1 : 0;
    const bool both = positives > 0 && positives < n;
    double loss = 0;
    for (int side = 0; side < 2; ++side) {
      const bool positive = side == 1;
      const double sign = positive ? -1 : 1;
      double largest = 0, sum = 0;  // of the exponents, with the 0 that is always there
      const auto exponent = [&](std::int64_t j) { return sign * log_ratio(j) / temperature; };
      for (std::int64_t j = 0; j < n; ++j)
        if ((reward(j) > 0) == positive && exponent(j) > largest) largest = exponent(j);
      sum = rlhf::exp(-largest);
      for (std::int64_t j = 0; j < n; ++j)
        if ((reward(j) > 0) == positive) sum += rlhf::exp(exponent(j) - largest);
      for (std::int64_t j = 0; j < n; ++j)
        if ((reward(j) > 0) == positive)
          slope(j, both ? sign * rlhf::exp(exponent(j) - largest) / (sum * temperature) : 0.0);
      loss += largest + rlhf::log(sum);
    }
    return both ? loss : 0;
  }
};

}  // namespace rlhf::inline v1
