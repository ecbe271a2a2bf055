#pragma once
// A baseline for each position of a group's responses: the optimal token baseline.

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// OTB: \f$ A_{it} = G_{it} - B_t,\quad B_t = \frac{\sum_i W_{it}G_{it}}{\sum_i W_{it} + \epsilon},\quad
/// W_{it} = \sum_{s\le t} q_{is} \f$ over the responses i of a group that have a token at position t.
///
/// q is what the forward pass tells of a token's squared gradient in the logits, \f$ (1 - 2\pi + \sum_v \pi_v^2)\,w^2 \f$, pi the
/// probability of the token and w its importance weight (1 without one); G is the undiscounted reward to go.
///
/// A group of one has the baseline 0. `zero_tail`: so has the only longest response from the position that is the length of the
/// second-longest, where it would be compared with itself; false: its advantage is 0 there, but for epsilon.
/// `compact`: positions count valid tokens only, so that the turns of a conversation line up whatever tools wrote between
/// them (verl's variant for tool use); else a position is a slot.
/// Source: Li et al. 2026, The Optimal Token Baseline; verl. Catalogue E-14.
struct optimal_token_baseline {
  double epsilon = 1e-8;  ///< added to the summed weights
  bool compact = false;   ///< positions count valid tokens only
  bool zero_tail = true;  ///< baseline 0 where only one response is left

  [[nodiscard]] constexpr status check() const {
    if (!(epsilon >= 0)) return remark::argument("optimal_token_baseline", "epsilon", epsilon, "0 or more");
    return {};
  }
  /// q of a token; `square_sum` is the sum of the squared probabilities of the vocabulary (`token_logp` gives it).
  /// Of a token that is certain, the rounding of both may leave a little less than 0: that is 0, since weights of both signs make
  /// baselines far outside the returns. More than that says that these are no probabilities, and is taken as it is.
  [[nodiscard]] RLHF_HD RLHF_INLINE double squared_gradient(double logp, double square_sum, double importance) const {
    const double q = 1 - 2 * exp(logp) + square_sum;
    return (q < 0 && q > -1e-5 ? 0 : q) * importance * importance;
  }
  /// B from the sums of W and of W G at a position.
  [[nodiscard]] RLHF_HD RLHF_INLINE double baseline(double weight, double weighted) const {
    const double divisor = weight + epsilon;
    return divisor != 0 ? weighted / divisor : 0;
  }
};

}  // namespace rlhf::inline v1
