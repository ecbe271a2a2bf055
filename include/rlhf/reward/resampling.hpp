#pragma once
// Responses drawn anew by their scores, so that an update sees the ones a reward model is surest of more often.

#include <cmath>
#include <cstdint>

#include "rlhf/core/status.hpp"
#include "rlhf/math/random.hpp"

namespace rlhf::inline v1 {

/// Which rows weigh how much: |r|^power (PF-PPO, Shen et al. 2024, arXiv 2409.06957), only those with the highest or the
/// lowest score, or the highest four times as much as the others. Rows are drawn with replacement, as a function of the key;
/// where all weights are 0, uniformly. Source: verl; catalogue G-33.
struct filtered_resampling {
  enum class rule { power, extremes, best };
  rule how = rule::power;  ///< which rows weigh how much
  double power = 2;        ///< of the reward's size

  [[nodiscard]] constexpr status check() const {
    return power >= 0 ? status{} : remark::argument("filtered_resampling", "power", power, "0 or more");
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double weight(double reward, double lowest, double highest) const {
    switch (how) {
      case rule::extremes:
        return reward >= highest || reward <= lowest ? 1 : 0;
      case rule::best:
        return reward >= highest ? 0.4 : 0.1;
      default:
        return std::pow(std::fabs(reward), power);
    }
  }
  /// Draws `count` of n rows: `reward(i)` of row i, `take(k, i)` receives the k-th draw.
  template <class Reward, class Take>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t n, std::int64_t count, const Reward& reward,
                                      const random_numbers& random, const Take& take) const {
    if (n <= 0) return;
    double lowest = reward(0), highest = lowest, total = 0;
    for (std::int64_t i = 1; i < n; ++i) {
      const double r = reward(i);
      lowest = r < lowest ? r : lowest;
      highest = r > highest ? r : highest;
    }
    for (std::int64_t i = 0; i < n; ++i) total += weight(reward(i), lowest, highest);
    const bool uniform = !(total > 0);
    for (std::int64_t k = 0; k < count; ++k) {
      const auto at = static_cast<std::uint64_t>(k);
      const double u =
          random.uniform({.sample = static_cast<std::uint32_t>(at >> 32), .position = static_cast<std::uint32_t>(at)});
      double left = u * (uniform ? static_cast<double>(n) : total);
      std::int64_t chosen = -1;
      for (std::int64_t i = 0; i < n; ++i) {
        const double w = uniform ? 1 : weight(reward(i), lowest, highest);
        if (w > 0) chosen = i;  // the last one that may be drawn is where rounding ends
        left -= w;
        if (left < 0 && w > 0) break;
      }
      take(k, chosen);
    }
  }
};

}  // namespace rlhf::inline v1
