#pragma once
// How the tokens of a response add up to its log-probability before a pair objective sees it.

#include <limits>

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"
#include "rlhf/math/number.hpp"

namespace rlhf::inline v1 {

/// One token on its way into a response's sum.
template <number V>
struct response_token {
  V logp{};
  value_t<V> ref_logp{};
  value_t<V> position{};  ///< 1 for the first valid token of the response
  value_t<V> shorter{};   ///< valid tokens of the shorter response of the pair
};

/// What one token adds to the response's log-probability and to the reference's.
template <number V>
struct contribution {
  V logp;
  value_t<V> ref_logp;
};

/// The plain sum of the tokens, \f$ \log\pi(y|x) = \sum_t \log\pi(y_t) \f$, and the reference's likewise. Its slope is 1 in every
/// token (`unit_slope`): none need be kept.
struct sum_of_tokens {
  static constexpr bool unit_slope = true;
  static constexpr bool needs_position = false;
  static constexpr bool needs_reference = false;
  template <number V>
  RLHF_HD RLHF_INLINE contribution<V> operator()(const response_token<V>& t) const {
    return {t.logp, t.ref_logp};
  }
};

/// Length-desensitised: \f$ \sum_{t\le m}\log\pi(y_t) + \alpha\sum_{t>m}\log\pi(y_t) \f$, m the length of the shorter
/// response: tokens beyond it count `alpha`, in policy and reference alike. Source: Liu et al. 2024, arXiv 2409.06411
/// (LLaMA-Factory scales the policy only). Catalogue P-21.
struct length_desensitised {
  double alpha = 0.5;  ///< weight of the tokens beyond the shorter response
  static constexpr bool needs_position = true;
  static constexpr bool needs_reference = false;

  [[nodiscard]] constexpr status check() const {
    if (!(alpha >= 0 && alpha <= 1)) return remark::argument("length_desensitised", "alpha", alpha, "0 <= alpha <= 1");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE contribution<V> operator()(const response_token<V>& t) const {
    const value_t<V> weight = select(t.position > t.shorter, constant<V>(alpha), constant<V>(1));
    return {t.logp * weight, t.ref_logp * weight};
  }
};

/// Each token's log-ratio clamped before it is summed, \f$ \sum_t [\log\pi(y_t) - \log\pi_{ref}(y_t)]_{low}^{high} \f$.
/// Gradient: 1 on the closed bounds and between them, else 0. Source: HALOs ("humanline"). Catalogue P-36.
struct clamped_log_ratio {
  double low = -1;    ///< of the log-ratio of a token, nats
  double high = 1.5;  ///< of the log-ratio of a token, nats
  static constexpr bool needs_position = false;
  static constexpr bool needs_reference = true;

  [[nodiscard]] constexpr status check() const {
    if (!(low <= high)) return remark::argument("clamped_log_ratio", "low", low, "at most high");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE contribution<V> operator()(const response_token<V>& t) const {
    return {clamp(t.logp - t.ref_logp, constant<V>(low), constant<V>(high)) + t.ref_logp, t.ref_logp};
  }
};

}  // namespace rlhf::inline v1
