#pragma once
// The normal distribution function, far into its tails.

#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Mills' ratio (1 - Phi(x)) / phi(x) for x >= 0, to 5e-16: a Chebyshev series of (1 + x) times it in (x - 3.5) / (x + 3.5),
/// in which it is smooth up to infinity. Without derivatives.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V mills_ratio(const V& x) {
  constexpr double series[] = {
      1.172393455532457,       -0.15886590183330635,    -0.036487534254121308,  0.030950942391140116,
      -0.0092892602254433575,  0.0012977851006954148,   3.8681712374716254e-5,  -4.1169373209947886e-5,
      1.8164546608482848e-6,   1.3248620638832655e-6,   -9.3315170096438427e-8, -5.20800564476838e-8,
      2.7556948017586288e-9,   2.3836758103984539e-9,   6.2181270745013568e-12, -1.1349554719854006e-10,
      -9.9117444503373336e-12, 4.8847083673651783e-12,  1.0659311695923002e-12, -1.3943087514462558e-13,
      -7.8934474887485779e-14, -3.1436735184794766e-15, 4.2465226499422087e-15, 8.8152045681525268e-16,
      -1.1603762231301812e-16, -7.7516236347054311e-17};
  constexpr int terms = static_cast<int>(sizeof series / sizeof series[0]);
  const V t = (x - constant<V>(3.5)) / (x + constant<V>(3.5)), twice = t + t;
  V b(constant<V>(0)), before(constant<V>(0));
  for (int i = terms - 1; i > 0; --i) {  // Clenshaw
    const V next = twice * b - before + constant<V>(series[i]);
    before = b;
    b = next;
  }
  return (t * b - before + constant<V>(series[0])) / (x + constant<V>(1));
}

/// log Phi(x), Phi the standard normal distribution function; derivative phi(x) / Phi(x). Finite wherever x^2 is, where
/// log(Phi(x)) would be minus infinity from -38 on; a tail above 0 is a small negative number, not 0.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V log_normal_cdf(const V& x) {
  using U = value_t<V>;
  constexpr double log_sqrt_two_pi = 0.91893853320467274;
  if constexpr (nested_derivatives<V>) {
    const U u = stop_gradient(x), whole = log_normal_cdf(u);
    return chain(x, whole, exp(u * u * constant<V>(-0.5) - constant<V>(log_sqrt_two_pi) - whole));
  }
  const U v = stop_gradient(x), far = constant<V>(1e15), magnitude = min(abs(v), far);
  const U mills = mills_ratio(magnitude);
  const U log_density = v * v * constant<V>(-0.5) - constant<V>(log_sqrt_two_pi);
  const U tail = exp(log_density) * mills;  // Phi(-|x|)
  const auto lower = v < constant<V>(0);
  const U above = log1p(-tail);
  return chain(x, select(lower, log_density + log(mills), above),
               select(lower, constant<V>(1) / mills, exp(log_density - above)));
}

}  // namespace rlhf::inline v1
