#pragma once
// What a type needs to be a number of this library.
//
// A formula is a template over its number type V. float and double are numbers; so are lanes of a SIMD register, duals of
// either (value and partial derivatives), and whatever a user admits by specialising number_traits.

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

// As constants, because device code may not call the functions of std::numeric_limits.
inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Everything the library asks of a number type V; specialise it to admit a type.
///
/// - `scalar`: the type of one lane (float, double, ...); `value`: the type of a constant of V, which is V itself unless V
///   carries derivatives; `mask`: what comparing two V gives, with `&`, `|`, `!`.
/// - `constant(double) -> value`, `value_of(V) -> value`, `chain(x, f, slope)`: the number with value f and the derivative
///   slope times that of x.
/// - `exp log log1p expm1 tanh sqrt abs min max select`, and `clamp(V, value, value)`.
/// - `exceeds(V, V) -> bool`: is any lane larger than the second argument, which is the same in all lanes;
///   `largest(V) -> V`: the largest lane, in every lane. Both of V without derivatives; where there is a NaN, anything.
/// - optionally `larger`, see there; `exp2_weight`, and `exp2_finite` with `all_below(V, V) -> bool`: see exp2_weight below.
/// And V itself has `+ - * /`, unary `-`, and `< <= > >=`.
template <class V>
struct number_traits;

/// A type that formulas can be instantiated with.
template <class V>
concept number = requires(const V& x) {
  typename number_traits<V>::scalar;
  typename number_traits<V>::value;
  typename number_traits<V>::mask;
  { number_traits<V>::exp(x) } -> std::same_as<V>;
};

template <class V>
using scalar_t = typename number_traits<V>::scalar;  ///< the type of one lane
template <class V>
using value_t = typename number_traits<V>::value;  ///< the type of constants: no derivative is carried through them
/// Do the constants of V carry derivatives of their own, as those of a dual of duals do?
template <class V>
inline constexpr bool nested_derivatives = !std::same_as<value_t<value_t<V>>, value_t<V>>;
template <class V>
using mask_t = typename number_traits<V>::mask;  ///< the type of a comparison

/// float and double: plain C++ arithmetic with the standard functions, on the host and in kernels.
template <std::floating_point T>
struct number_traits<T> {
  using scalar = T;
  using value = T;
  using mask = bool;

  static RLHF_HD RLHF_INLINE T constant(double c) { return static_cast<T>(c); }
  static RLHF_HD RLHF_INLINE T value_of(T x) { return x; }
  static RLHF_HD RLHF_INLINE T chain(T, T f, T) { return f; }
  static RLHF_HD RLHF_INLINE T exp(T x) { return std::exp(x); }
  static RLHF_HD RLHF_INLINE T exp2_weight(T x) {
#if defined(__CUDA_ARCH__)
    if constexpr (sizeof(T) == sizeof(float)) {  // one instruction; 0 below 2^-126
      float y;
      asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(static_cast<float>(x)));
      return y;
    }
#endif
    return std::exp2(x);
  }
  static RLHF_HD RLHF_INLINE T log(T x) { return std::log(x); }
  static RLHF_HD RLHF_INLINE T log1p(T x) { return std::log1p(x); }
  static RLHF_HD RLHF_INLINE T expm1(T x) { return std::expm1(x); }
  static RLHF_HD RLHF_INLINE T tanh(T x) { return std::tanh(x); }
  static RLHF_HD RLHF_INLINE T sqrt(T x) { return std::sqrt(x); }
  static RLHF_HD RLHF_INLINE T abs(T x) { return std::fabs(x); }
  // A NaN on either side comes through; std::min and std::max drop it in one position.
  static RLHF_HD RLHF_INLINE T min(T a, T b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    if constexpr (sizeof(T) == sizeof(float)) {  // one instruction of the device's
      float y;
      asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(static_cast<float>(a)), "f"(static_cast<float>(b)));
      return y;
    }
#endif
    return (a < b || a != a) ? a : b;
  }
  static RLHF_HD RLHF_INLINE T max(T a, T b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    if constexpr (sizeof(T) == sizeof(float)) {
      float y;
      asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(static_cast<float>(a)), "f"(static_cast<float>(b)));
      return y;
    }
#endif
    return (a > b || a != a) ? a : b;
  }
  static RLHF_HD RLHF_INLINE T larger(T a, T b) {
#if defined(__CUDA_ARCH__)
    if constexpr (sizeof(T) == sizeof(float)) return fmaxf(a, b);
#endif
    return a > b ? a : b;
  }
  static RLHF_HD RLHF_INLINE T clamp(T x, T lo, T hi) { return x < lo ? lo : (x > hi ? hi : x); }
  static RLHF_HD RLHF_INLINE T select(bool m, T a, T b) { return m ? a : b; }
  static RLHF_HD RLHF_INLINE bool exceeds(T x, T bound) { return x > bound; }
  static RLHF_HD RLHF_INLINE T largest(T x) { return x; }
};

namespace number_detail {

template <class A, class B>
struct promoted {};
template <class A>
struct promoted<A, A> {
  using type = A;
};
template <class A, class B>
  requires(!std::same_as<A, B> && std::same_as<value_t<A>, B>)
struct promoted<A, B> {
  using type = A;
};
template <class A, class B>
  requires(!std::same_as<A, B> && std::same_as<value_t<B>, A>)
struct promoted<A, B> {
  using type = B;
};

}  // namespace number_detail

/// The common type of a number and another of the same type or a constant of it.
template <class A, class B>
using promote_t = typename number_detail::promoted<A, B>::type;

/// `c` as a constant of V. Literals in formulas are written so, because float times a double literal would be a double.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE value_t<V> constant(double c) {
  return number_traits<V>::constant(c);
}

/// x without its derivatives.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE value_t<V> stop_gradient(const V& x) {
  return number_traits<V>::value_of(x);
}

/// The number with value `f` and `slope` times the derivatives of `x`: how a stable function states its own derivative.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V chain(const V& x, const value_t<V>& f, const value_t<V>& slope) {
  return number_traits<V>::chain(x, f, slope);
}

// One function template per operation: found whatever the include order, qualified or not.

template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V exp(const V& x) {
  return number_traits<V>::exp(x);
}
/// 2^x of x up to 127, for probabilities that are summed or stored: number_traits may offer one that is quicker than exp and
/// has a relative error of a few roundings more. A still quicker `exp2_finite` of any finite x may give infinity, or anything
/// above 2^100, for x above 100, and NaN for an infinite one.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V exp2_weight(const V& x) {
  if constexpr (requires { number_traits<V>::exp2_weight(x); })
    return number_traits<V>::exp2_weight(x);
  else
    return number_traits<V>::exp(x * constant<V>(0.6931471805599453));
}
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V log(const V& x) {
  return number_traits<V>::log(x);
}
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V log1p(const V& x) {
  return number_traits<V>::log1p(x);
}
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V expm1(const V& x) {
  return number_traits<V>::expm1(x);
}
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V tanh(const V& x) {
  return number_traits<V>::tanh(x);
}
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V sqrt(const V& x) {
  return number_traits<V>::sqrt(x);
}
/// Slope 0 at 0.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V abs(const V& x) {
  return number_traits<V>::abs(x);
}
/// The smaller one; NaN if either is. At a tie each side takes half of the derivative.
template <number A, number B>
[[nodiscard]] RLHF_HD RLHF_INLINE promote_t<A, B> min(const A& a, const B& b) {
  using V = promote_t<A, B>;
  return number_traits<V>::min(V(a), V(b));
}
/// The larger one; NaN if either is. At a tie each side takes half of the derivative.
template <number A, number B>
[[nodiscard]] RLHF_HD RLHF_INLINE promote_t<A, B> max(const A& a, const B& b) {
  using V = promote_t<A, B>;
  return number_traits<V>::max(V(a), V(b));
}
/// The larger of two, at the least cost; where one is NaN, one of them.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V larger(const V& a, const V& b) {
  if constexpr (requires { number_traits<V>::larger(a, b); })
    return number_traits<V>::larger(a, b);
  else
    return number_traits<V>::select(a > b, a, b);
}
/// `a` where the mask holds, else `b`. Both are evaluated; neither's NaN reaches the other.
template <number A, number B>
[[nodiscard]] RLHF_HD RLHF_INLINE promote_t<A, B> select(const mask_t<promote_t<A, B>>& m, const A& a, const B& b) {
  using V = promote_t<A, B>;
  return number_traits<V>::select(m, V(a), V(b));
}

/// Neither NaN nor infinite.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE mask_t<V> is_finite(const V& x) {
  const value_t<V> v = stop_gradient(x);
  const value_t<V> zero = constant<V>(0), difference = v - v;
  return (difference <= zero) & (difference >= zero);
}

}  // namespace rlhf::inline v1
