#pragma once
// A score trained on outcomes instead of comparisons.

#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Binary outcome: the cross-entropy \f$ -y\log\sigma(r) - (1-y)\log\sigma(-r) \f$ of a score's sigmoid and an outcome y in
/// [0, 1], given as `returns`: one score a response, or one a step for a process reward model. Use it in a value_loss.
/// Source: Cobbe et al. 2021, arXiv 2110.14168; catalogue R-06.
struct binary_outcome {
  static constexpr unsigned reads = field::returns;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const value_item<V>& v) const {
    return softplus(-v.value) * v.returns + softplus(v.value) * (constant<V>(1) - v.returns);
  }
};

}  // namespace rlhf::inline v1
