#pragma once
// Whitening: zero mean and unit variance over the valid elements. Every peer divides by something else; all are choices.

#include "rlhf/core/status.hpp"
#include "rlhf/math/monoids.hpp"

namespace rlhf::inline v1 {

/// What the centred values are divided by.
enum class spread {
  rsqrt,    ///< sqrt(variance + epsilon) (TRL, verl)
  clamped,  ///< sqrt(max(variance, epsilon)) (OpenRLHF)
  plus      ///< standard deviation + epsilon (AReaL)
};

/// \f$ y = (x - \mu)/s \f$, s from the variance as `divisor` says. `biased` divides the squares by n, else by n - 1.
///
/// `shift_mean` false adds the mean back (reward scaling of Ziegler et al. 2019). Fewer than two valid elements, or one
/// where it is biased, have variance 0. The moments may come from elsewhere: merge those of all shards and give them to the driver.
/// verl also adds 1e-8 to the count; that is not copied.
/// Who takes which: docs/formulas/whitening.md.
struct whiten {
  bool biased = false;             ///< squares are divided by n instead of n - 1
  spread divisor = spread::rsqrt;  ///< what the centred values are divided by
  double epsilon = 1e-8;           ///< keeps the divisor from 0
  bool shift_mean = true;          ///< false adds the mean back

  [[nodiscard]] constexpr status check() const {
    if (!(epsilon >= 0)) return remark::argument("whiten", "epsilon", epsilon, "0 or more");
    return {};
  }
  /// The scale and the shift of y = (x - mean) * scale + shift.
  struct map {
    double scale = 0;
    double shift = 0;
  };
  [[nodiscard]] RLHF_HD RLHF_INLINE map of(const moments& m) const {
    const double variance = m.variance(biased);
    const double s = divisor == spread::rsqrt     ? sqrt(variance + epsilon)
                     : divisor == spread::clamped ? sqrt(variance > epsilon ? variance : epsilon)
                                                  : sqrt(variance) + epsilon;
    return {s > 0 ? 1 / s : 0, shift_mean ? 0 : m.mean};
  }
};

}  // namespace rlhf::inline v1
