#pragma once
// The logistic loss with a smoothed label.

#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Smoothed logistic loss of a logit: \f$ -(1-e)\log\sigma(u) - e\log\sigma(-u) \f$.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V smoothed_logistic(const V& u, double smoothing) {
  const V loss = -log_sigmoid(u);
  // -log sigma(-u) = -log sigma(u) + u
  return smoothing > 0 ? loss + u * constant<V>(smoothing) : loss;
}

}  // namespace rlhf::inline v1
