#pragma once
// Objectives of single responses that steer where a policy looks, or what it thinks of a prompt.
//
// h = log pi(y|x) - log ref(y|x), sums over tokens, in nats.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Optimism or pessimism about responses: \f$ c\,h \f$, gradient c.
///
/// VPO adds it to DPO with c = alpha beta over calibration samples (online: they are pushed down) or c = -alpha beta
/// (offline: pulled up); SELM with c = alpha beta over one more response to each prompt.
/// Source: Cen et al. 2024 (VPO), arXiv 2405.19320; Zhang et al. 2024 (SELM), arXiv 2405.19332; catalogue V-VPO, P-31.
struct optimism {
  double coefficient = 1e-4;  ///< c
  static constexpr unsigned reads = field::ref_logp;
  [[nodiscard]] constexpr status check() const {
    if (!(coefficient > -infinity && coefficient < infinity))
      return remark::argument("optimism", "coefficient", coefficient, "a finite number");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const labelled_response<V>& r) const {
    return r.log_ratio() * constant<V>(coefficient);
  }
};

/// Nash mirror descent (Nash-MD) on a whole response: \f$ -L\,(P - \frac12 - \beta\,\mathrm{sg}(h)) \f$, P the `label`: the
/// probability of beating a sample of the geometric mixture of policy and reference. Its mean gradient over samples is that
/// of the win rate less beta KL. Source: Munos et al. 2023, arXiv 2312.00886, section 7; catalogue N-03.
struct nash_md {
  double beta = 0.1;  ///< price of a nat of KL
  static constexpr unsigned reads = field::ref_logp | field::label;
  [[nodiscard]] constexpr status check() const {
    return beta >= 0 ? status{} : remark::argument("nash_md", "beta", beta, "0 or more");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const labelled_response<V>& r) const {
    const value_t<V> pull = stop_gradient(r.log_ratio()) * constant<V>(beta);
    return r.logp * (pull - (r.label - constant<V>(0.5)));
  }
};

/// A*-PO: regress the log-ratio on the optimal advantage, \f$ (\beta h - (r - V^*))^2 \f$, r the `label`, V* the
/// `reference_point`: see optimal_value in advantage/. Source: Brantley et al. 2025, arXiv 2505.20686, eq. 4; catalogue N-04.
struct optimal_advantage_regression {
  double beta = 1e-3;  ///< scale of the log-ratio, in units of reward
  static constexpr unsigned reads = field::ref_logp | field::label | field::reference_point;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("optimal_advantage_regression", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const labelled_response<V>& r) const {
    return square(r.log_ratio() * constant<V>(beta) - (r.label - r.reference_point));
  }
};

}  // namespace rlhf::inline v1
