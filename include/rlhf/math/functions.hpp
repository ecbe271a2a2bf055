#pragma once
// Functions of the field that must not overflow, cancel or lose their derivative.

#include "rlhf/math/number.hpp"

namespace rlhf::inline v1 {

/// x between lo and hi; the derivative passes on both closed bounds and is 0 outside. NaN stays NaN.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V clamp(const V& x, const value_t<V>& lo, const value_t<V>& hi) {
  return number_traits<V>::clamp(x, lo, hi);
}

/// max(x, 0) with slope 0 at 0. NaN stays NaN.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V relu(const V& x) {
  return select(x <= constant<V>(0), constant<V>(0), x);
}

template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V square(const V& x) {
  return x * x;
}

/// 1 / (1 + e^-x): no overflow on either side, and exact in the tails.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V sigmoid(const V& x) {
  const value_t<V> v = stop_gradient(x), one = constant<V>(1);
  // The kink of |x| cancels in the value and the slope, not in the slope of the slope.
  if constexpr (nested_derivatives<V>) return chain(x, sigmoid(v), sigmoid(v) * sigmoid(-v));
  const value_t<V> e = exp(-abs(v));
  const value_t<V> inverse = one / (one + e);
  const value_t<V> small = e * inverse;  // the smaller of sigmoid(x) and sigmoid(-x), without cancellation
  return chain(x, select(v < constant<V>(0), small, inverse), small * inverse);
}

/// log(1 / (1 + e^-x)) = min(x, 0) - log1p(e^-|x|); derivative sigmoid(-x). Finite for every finite x.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V log_sigmoid(const V& x) {
  const value_t<V> v = stop_gradient(x), zero = constant<V>(0), one = constant<V>(1);
  if constexpr (nested_derivatives<V>) return chain(x, log_sigmoid(v), sigmoid(-v));
  const value_t<V> e = exp(-abs(v));
  const value_t<V> inverse = one / (one + e);
  return chain(x, min(v, zero) - log1p(e), select(v < zero, inverse, e * inverse));
}

/// log(1 + e^x) = -log_sigmoid(-x); derivative sigmoid(x).
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V softplus(const V& x) {
  return -log_sigmoid(-x);
}

/// log(1 - e^x) for x <= 0: log(-expm1(x)) near 0, log1p(-e^x) below -log 2. At 0 it is -infinity with slope -infinity.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V log1mexp(const V& x) {
  const value_t<V> v = stop_gradient(x);
  const value_t<V> near = log(-expm1(v));
  const value_t<V> far = log1p(-exp(v));
  // abs: expm1 of a zero keeps its sign, and both zeros must give minus infinity.
  return chain(x, select(v > constant<V>(-0.6931471805599453), near, far), constant<V>(-1) / abs(expm1(-v)));
}

/// numerator / denominator, and 0 where the denominator is not positive (an empty set's mean).
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V safe_ratio(const V& numerator, const value_t<V>& denominator) {
  const value_t<V> one = constant<V>(1), zero = constant<V>(0);
  const auto valid = denominator > zero;
  return select(valid, numerator / select(valid, denominator, one), zero);
}

/// -log(e^(-sharpness a) + e^(-sharpness b)) / sharpness: a smooth lower bound of min(a, b), within log(2) / sharpness of it.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V soft_min(const V& a, const V& b, double sharpness) {
  const value_t<V> k = constant<V>(sharpness);
  return min(a, b) - softplus(-abs(a - b) * k) / k;
}

}  // namespace rlhf::inline v1
