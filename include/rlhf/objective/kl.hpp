#pragma once
// KL divergence to the reference from one sample: estimators, what their gradients estimate, and the penalty.
//
//   estimator   value (d = log pi - log pi_ref)   E[value]        gradient as a loss   E[gradient], on policy
//   k1          d                                 KL(pi||ref)     1                    0: trains nothing
//   absolute    |d|                               -               sign d               -
//   k2          d^2 / 2                           KL + O(d^3)     d                    grad KL(pi||ref)
//   k3          e^-d - 1 + d                      KL(pi||ref)     1 - e^-d             grad KL(ref||pi)
//   value_and_gradient<E, k2>                     of E            d                    grad KL(pi||ref)
//   importance_weighted<k3>, rho = pi / pi_old    KL(pi||ref)     rho d                grad KL(pi||ref), off policy too

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

namespace kl_detail {

template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V bounded(const V& x, double bound) {
  return bound < infinity ? clamp(x, constant<V>(-bound), constant<V>(bound)) : x;
}
}  // namespace kl_detail

/// \f$ k_1 = \log\pi - \log\pi_{ref} \f$, nats; may be negative by design. Unbiased for KL(pi||ref) on policy.
/// Source: Schulman 2020 (blog, "Approximating KL divergence"); catalogue K-01. `bound`: |value| (OpenRLHF: 10).
struct k1 {
  double bound = infinity;  ///< clamps the value on both sides
  static constexpr unsigned reads = field::ref_logp;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return kl_detail::bounded(t.logp - t.ref_logp, bound);
  }
};

/// \f$ |\log\pi - \log\pi_{ref}| \f$; slope 0 at 0. Catalogue K-02.
struct absolute {
  static constexpr unsigned reads = field::ref_logp;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return abs(t.logp - t.ref_logp);
  }
};

/// \f$ k_2 = \frac12 (\log\pi - \log\pi_{ref})^2 \f$; its gradient is that of KL(pi||ref) on policy. Catalogue K-03.
struct k2 {
  double bound = infinity;  ///< clamps the value
  static constexpr unsigned reads = field::ref_logp;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return kl_detail::bounded(square(t.logp - t.ref_logp) * constant<V>(0.5), bound);
  }
};

/// \f$ k_3 = e^{d} - d - 1,\ d = \log\pi_{ref} - \log\pi \f$; never negative, unbiased for KL(pi||ref) on policy.
/// `log_ratio_bound` clamps d, `bound` the value (verl: 20 and 10; TRL: neither). The gradient stops outside a bound.
/// Source: Schulman 2020; catalogue K-04.
struct k3 {
  double log_ratio_bound = infinity;  ///< clamps d on both sides
  double bound = infinity;            ///< clamps the value
  static constexpr unsigned reads = field::ref_logp;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const V d = kl_detail::bounded(t.ref_logp - t.logp, log_ratio_bound);
    // The slope of the sum is formed before it cancels.
    const value_t<V> v = stop_gradient(d), e = expm1(v);
    return kl_detail::bounded(chain(d, e - v, e), bound);
  }
};

/// The value of one estimator with the gradient of another, \f$ g + \mathrm{sg}(v - g) \f$: the two choices are
/// independent. Source: verl (its `k3+` is k3 with k2); catalogue K-06.
template <class Value, class Gradient = k2>
struct value_and_gradient {
  Value value{};
  Gradient gradient{};
  static constexpr unsigned reads = reads_of<Value>() | reads_of<Gradient>();
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const V slope = gradient(t);
    return slope + (stop_gradient(value(t)) - stop_gradient(slope));
  }
};
template <class Value>
value_and_gradient(Value) -> value_and_gradient<Value>;
template <class Value, class Gradient>
value_and_gradient(Value, Gradient) -> value_and_gradient<Value, Gradient>;

/// An estimator times the ratio \f$ \rho = \pi/\pi_{old} \f$, differentiated through both factors. With k3 the gradient is
/// exactly \f$ \rho\,(\log\pi - \log\pi_{ref}) \f$. Source: DeepSeek-V3.2; catalogue K-05, K-08.
template <class Estimator>
struct importance_weighted {
  Estimator estimator{};
  static constexpr unsigned reads = reads_of<Estimator>() | field::old_logp;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return exp(t.logp - t.old_logp) * estimator(t);
  }
};
template <class Estimator>
importance_weighted(Estimator) -> importance_weighted<Estimator>;

/// An estimator times the ratio of the sequence, \f$ s\,k,\ s = \exp(\frac1n\sum_t\log\pi_t - \log\pi_{old,t}) \f$,
/// beside a sequence_ratio objective: differentiated through both factors, so that its gradient reaches all tokens of
/// the sequence. Source: TRL's bias correction at level "sequence"; catalogue K-05.
template <class Estimator>
struct sequence_weighted {
  Estimator estimator{};
  static constexpr unsigned reads = reads_of<Estimator>() | field::old_logp;
  static constexpr bool beside_sequence_ratio = true;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return exp(t.variable_sequence_log_ratio()) * estimator(t);
  }
};
template <class Estimator>
sequence_weighted(Estimator) -> sequence_weighted<Estimator>;

/// Jensen-Shannon divergence to the sampler from one sample, a metric of the mismatch:
/// \f$ \frac12 k_3(\pi\|m) + \frac12 k_3(\pi_{rollout}\|m) \f$, m the mean of both probabilities. Never negative; 0 where
/// they agree. Source: NeMo RL; catalogue K-11.
struct sampler_jensen_shannon {
  static constexpr unsigned reads = field::rollout_logp;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    // log m - log p = log((1 + q / p) / 2), from the larger side so that nothing overflows.
    const V d = t.logp - t.rollout_logp, half = constant<V>(-0.6931471805599453);
    const V to_policy = softplus(-d) + half, to_sampler = softplus(d) + half;
    return (expm1(to_policy) - to_policy + expm1(to_sampler) - to_sampler) * constant<V>(0.5);
  }
};

/// KL in the loss: \f$ c\,k(t) \f$, a coefficient times an estimator, added to each token's loss after importance
/// weights. A coefficient of 0 is none: exactly 0 where the estimator overflows, and no reference is needed. Source: Shao et al. 2024 (GRPO), arXiv 2402.03300, with k3; catalogue K-14.
template <class Estimator = k3>
struct kl_penalty {
  Estimator estimator{};
  double coefficient = 0.05;  ///< price of a nat
  static constexpr unsigned reads = reads_of<Estimator>();
  static constexpr bool beside_sequence_ratio = beside_sequence_ratio_of<Estimator>();

  [[nodiscard]] constexpr unsigned needs() const { return coefficient != 0 ? needs_of(estimator) : 0; }
  [[nodiscard]] constexpr status check() const {
    if (!(coefficient >= 0)) return remark::argument("kl_penalty", "coefficient", coefficient, "0 or more");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    if (coefficient == 0) return constant<V>(0);
    return estimator(t) * constant<V>(coefficient);
  }
  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"kl_mean"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const token<V>& t, V (&out)[1]) const {
    out[0] = estimator(t);
  }
};
template <class Estimator>
kl_penalty(Estimator) -> kl_penalty<Estimator>;
template <class Estimator>
kl_penalty(Estimator, double) -> kl_penalty<Estimator>;

}  // namespace rlhf::inline v1
