#pragma once
// Token objectives of methods that compare responses without a log-ratio.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Bidirectional negative feedback (BNF): cross entropy to a target distribution that is 1 at most where the policy already
/// is above the reference, \f$ -A[\mathrm{sg}(t)\log\pi + \mathrm{sg}(o) H] \f$ with \f$ t = \min(\frac{p}{p_{ref}+g}, 1) \f$ and
/// \f$ o = \frac{1-t+g}{1-p+g} \f$, g the guard.
///
/// A is +1 / n on the tokens of chosen responses and -1 / n on those of rejected ones, n the length of the batch's shortest
/// response; the loss of a pair is the sum over both. Gradients in the log-probability and the entropy.
/// Source: Mao et al. 2024 (BNF), as in oat's loss; catalogue P-35.
struct bidirectional_negative_feedback {
  double guard = 1e-6;  ///< g, keeps both fractions finite
  static constexpr unsigned reads = field::ref_logp | field::advantage | field::entropy;
  static constexpr int partials = 2;
  [[nodiscard]] constexpr status check() const {
    return guard > 0 ? status{} : remark::argument("bidirectional_negative_feedback", "guard", guard, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const value_t<V> one = constant<V>(1), small = constant<V>(guard);
    const value_t<V> p = exp(stop_gradient(t.logp));
    const value_t<V> target = min(p / (exp(t.ref_logp) + small), one);
    const value_t<V> others = (one - target + small) / (one - p + small);
    return (t.logp * target + t.entropy * others) * -t.advantage;
  }
};

/// Nash mirror descent (Nash-MD) token by token: \f$ -\log\pi\,(A - \beta\,\mathrm{sg}(\log\pi - \log\pi_{ref})) \f$, A the win
/// probability against the geometric mixture of policy and reference, less one half. Summed over a response it drops the
/// cross terms of the KL's gradient, as TRL does; nash_md of a whole response has them.
/// Source: Munos et al. 2023, arXiv 2312.00886, section 7; catalogue N-03.
struct nash_md_token {
  double beta = 0.1;  ///< price of a nat of KL
  static constexpr unsigned reads = field::ref_logp | field::advantage;
  [[nodiscard]] constexpr status check() const {
    return beta >= 0 ? status{} : remark::argument("nash_md_token", "beta", beta, "0 or more");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return t.logp * ((stop_gradient(t.logp) - t.ref_logp) * constant<V>(beta) - t.advantage);
  }
};

}  // namespace rlhf::inline v1
