#pragma once
// Advantages after the fact: bounded, or replaced where a response broke a rule.

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// \f$ [A]_{low}^{high} \f$, or `flagged` where a token or response is flagged, whatever its reward was (an invalid tool call,
/// malformed reasoning). The replacement is not bounded. Source: NeMo RL; catalogue E-21.
struct advantage_bounds {
  double low = -infinity;  ///< of the advantage
  double high = infinity;  ///< of the advantage
  double flagged = -5;     ///< what a flagged one is replaced by

  [[nodiscard]] constexpr status check() const {
    if (!(low <= high)) return remark::argument("advantage_bounds", "low", low, "at most high");
    if (!(flagged > -infinity && flagged < infinity))
      return remark::argument("advantage_bounds", "flagged", flagged, "a finite number");
    return {};
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(const V& advantage, const mask_t<V>& flag) const {
    return select(flag, V(constant<V>(flagged)), clamp(advantage, constant<V>(low), constant<V>(high)));
  }
};

}  // namespace rlhf::inline v1
