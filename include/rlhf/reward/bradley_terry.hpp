#pragma once
// The pairwise reward-model loss.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Bradley-Terry: \f$ -\log\sigma(r_c - r_r - m) \f$, m the margin where the data have one.
///
/// `label_smoothing` e mixes in the flipped label; `center` kappa adds \f$ \kappa (r_c + r_r)^2 \f$ so that scores stay near
/// 0 (Eisenstein et al. 2023, arXiv 2312.09244; 0.01). With `soft_labels` the field `probability` replaces the label:
/// \f$ -q\log\sigma(u) - (1-q)\log\sigma(-u) \f$.
/// Source: Bradley and Terry 1952; margin: Touvron et al. 2023, arXiv 2307.09288, eq. 2. Catalogue.
struct bradley_terry {
  double label_smoothing = 0;  ///< e: probability that a label is flipped
  double center = 0;           ///< kappa, of the squared sum of the scores
  bool use_margin = false;     ///< subtract the field margin
  bool soft_labels = false;    ///< the field probability is the label

  [[nodiscard]] constexpr status check() const {
    if (!(label_smoothing >= 0 && label_smoothing < 0.5))
      return remark::argument("bradley_terry", "label_smoothing", label_smoothing, "0 <= label_smoothing < 0.5");
    if (!(center >= 0)) return remark::argument("bradley_terry", "center", center, "0 or more");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const score_pair<V>& p) const {
    V u = p.chosen - p.rejected;
    if (use_margin) u = u - p.margin;
    V loss = -log_sigmoid(u);
    // -log sigma(-u) = -log sigma(u) + u: mixing in the other label adds its weight times u.
    if (soft_labels) loss = loss + u * (constant<V>(1) - p.probability);
    if (label_smoothing > 0) loss = loss + u * constant<V>(label_smoothing);
    if (center > 0) loss = loss + square(p.chosen + p.rejected) * constant<V>(center);
    return loss;
  }
};

}  // namespace rlhf::inline v1
