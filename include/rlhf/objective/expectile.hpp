#pragma once
// A value that is an expectile of its targets: the critic of implicit Q-learning.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// \f$ |\tau - 1[Q < V]|\,(Q - V)^2 \f$: targets above the value weigh tau, targets below 1 - tau, so that V tends to what the
/// better actions reach. tau 0.5 is half the squared error.
///
/// The rest of ILQL is composed: the temporal difference is squared_value with r + gamma V' as returns; its conservative and
/// its imitating term are negative_log_likelihood of the Q-values and of the policy's logits, by token_logp. Q is a constant
/// here. Source: Snell et al. 2022, arXiv 2206.11871, eq. 4 (tau 0.7); catalogue G-32.
struct expectile_value {
  double tau = 0.7;  ///< weight of targets above the value
  double scale = 1;  ///< factor in front

  static constexpr unsigned reads = field::returns;
  [[nodiscard]] constexpr status check() const {
    return tau > 0 && tau < 1 ? status{} : remark::argument("expectile_value", "tau", tau, "0 < tau < 1");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const value_item<V>& v) const {
    const auto above = stop_gradient(v.value) > v.returns;
    const value_t<V> weight = select(above, constant<V>((1 - tau) * scale), constant<V>(tau * scale));
    return square(v.value - v.returns) * weight;
  }
};

}  // namespace rlhf::inline v1
