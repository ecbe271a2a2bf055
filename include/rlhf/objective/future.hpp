#pragma once
// FIPO: a token weighs by what the update does to the tokens after it.

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// \f$ w_t = [\exp(\sum_{u\ge t}\gamma^{u-t}\,1[\rho_u \le \delta]\,\log\rho_u)]_{low}^{high},\ \gamma = 2^{-1/decay} \f$: a
/// constant weight of PPO's loss, above 1 where the rest of the response is being reinforced.
///
/// `ratio_bound` delta leaves outliers out of the sum. Where A < 0 and the token's own ratio is above `safety`, the weight is
/// kept in [0.8, 1], so that no token is pushed away harder for it. Distances count valid tokens; gaps are passed over.
/// Source: Ma et al. 2026, arXiv 2603.19835; ms-swift (low 1: only amplified); catalogue G-25.
struct future_weight {
  double decay = 32;              ///< valid tokens after which a token counts half
  double low = 1;                 ///< of the weight
  double high = 1.2;              ///< of the weight
  double ratio_bound = infinity;  ///< delta: tokens with a larger ratio are left out of the sum
  double safety = infinity;       ///< own ratio from which a token with A < 0 is held in [0.8, 1]

  [[nodiscard]] constexpr status check() const {
    if (!(decay > 0)) return remark::argument("future_weight", "decay", decay, "more than 0");
    if (!(low >= 0 && low <= high)) return remark::argument("future_weight", "low", low, "0 <= low <= high");
    if (!(ratio_bound > 0)) return remark::argument("future_weight", "ratio_bound", ratio_bound, "more than 0");
    if (!(safety > 0)) return remark::argument("future_weight", "safety", safety, "more than 0");
    return {};
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double discount() const { return rlhf::exp(-0.6931471805599453 / decay); }
  /// What a token adds to the sum.
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V term(const V& log_ratio) const {
    return select(exp(log_ratio) <= constant<V>(ratio_bound), log_ratio, constant<V>(0));
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(const V& sum, const V& log_ratio, const V& advantage) const {
    const V zero = constant<V>(0), weight = clamp(exp(sum), constant<V>(low), constant<V>(high));
    const auto risky = (advantage < zero) & (exp(log_ratio) > constant<V>(safety));
    return select(risky, clamp(weight, constant<V>(0.8), constant<V>(1)), weight);
  }
};

}  // namespace rlhf::inline v1
