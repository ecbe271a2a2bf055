#pragma once
// The paired comparison of Thurstone: scores with normal noise.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/normal.hpp"

namespace rlhf::inline v1 {

/// Thurstone's case V: \f$ -\log\Phi\bigl((r_c - r_r)/(\sqrt2\,s)\bigr) \f$, s the standard deviation of the noise on each score.
/// Grows with the square of the gap where Bradley-Terry grows linearly: one wrong label weighs more.
/// Source: Thurstone 1927; Mosteller 1951. Catalogue spec-b-9.
struct thurstone {
  double standard_deviation = 1;  ///< s, of the noise on each score
  [[nodiscard]] constexpr status check() const {
    if (!(standard_deviation > 0 && standard_deviation < infinity))
      return remark::argument("thurstone", "standard_deviation", standard_deviation, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const score_pair<V>& p) const {
    return -log_normal_cdf((p.chosen - p.rejected) * constant<V>(0.70710678118654752 / standard_deviation));
  }
};

}  // namespace rlhf::inline v1
