#pragma once
// Forward-mode derivatives: a number that carries its partial derivatives through a formula.

#include "rlhf/math/number.hpp"

namespace rlhf::inline v1 {

/// A value of type V and its derivatives with respect to N differentiable fields.
///
/// V may be float, double, a SIMD lane, or a dual again (second derivatives). Constants of a formula stay plain V: they mix
/// with duals in every operation and carry no zeros along.
template <class V, int N = 1>
struct dual {
  static_assert(N >= 1, "a dual without partial derivatives is a plain number: use V itself");

  V value{};
  V partial[static_cast<unsigned>(N)]{};

  dual() = default;
  RLHF_HD RLHF_INLINE dual(const V& constant) : value(constant) {}

  /// The variable number `index` of the formula, at `v`.
  [[nodiscard]] static RLHF_HD RLHF_INLINE dual variable(const V& v, int index) {
    dual x(v);
    x.partial[index] = V(number_traits<V>::constant(1));
    return x;
  }
};

namespace dual_detail {

template <class V, int N, class F>
[[nodiscard]] RLHF_HD RLHF_INLINE dual<V, N> make(const V& value, F&& partial) {
  dual<V, N> out(value);
  for (int i = 0; i < N; ++i) out.partial[i] = partial(i);
  return out;
}

}  // namespace dual_detail

template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator-(const dual<V, N>& a) {
  return dual_detail::make<V, N>(-a.value, [&](int i) { return -a.partial[i]; });
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator+(const dual<V, N>& a, const dual<V, N>& b) {
  return dual_detail::make<V, N>(a.value + b.value, [&](int i) { return a.partial[i] + b.partial[i]; });
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator-(const dual<V, N>& a, const dual<V, N>& b) {
  return dual_detail::make<V, N>(a.value - b.value, [&](int i) { return a.partial[i] - b.partial[i]; });
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator*(const dual<V, N>& a, const dual<V, N>& b) {
  return dual_detail::make<V, N>(a.value * b.value,
                                 [&](int i) { return a.partial[i] * b.value + a.value * b.partial[i]; });
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator/(const dual<V, N>& a, const dual<V, N>& b) {
  const V quotient = a.value / b.value;
  return dual_detail::make<V, N>(quotient, [&](int i) { return (a.partial[i] - quotient * b.partial[i]) / b.value; });
}

// With a constant on either side. type_identity keeps V from being deduced twice, so that conversions to V still apply.
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator+(const dual<V, N>& a, const std::type_identity_t<V>& b) {
  return dual_detail::make<V, N>(a.value + b, [&](int i) { return a.partial[i]; });
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator+(const std::type_identity_t<V>& a, const dual<V, N>& b) {
  return b + a;
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator-(const dual<V, N>& a, const std::type_identity_t<V>& b) {
  return dual_detail::make<V, N>(a.value - b, [&](int i) { return a.partial[i]; });
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator-(const std::type_identity_t<V>& a, const dual<V, N>& b) {
  return dual_detail::make<V, N>(a - b.value, [&](int i) { return -b.partial[i]; });
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator*(const dual<V, N>& a, const std::type_identity_t<V>& b) {
  return dual_detail::make<V, N>(a.value * b, [&](int i) { return a.partial[i] * b; });
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator*(const std::type_identity_t<V>& a, const dual<V, N>& b) {
  return b * a;
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator/(const dual<V, N>& a, const std::type_identity_t<V>& b) {
  return dual_detail::make<V, N>(a.value / b, [&](int i) { return a.partial[i] / b; });
}
template <class V, int N>
RLHF_HD RLHF_INLINE dual<V, N> operator/(const std::type_identity_t<V>& a, const dual<V, N>& b) {
  const V quotient = a / b.value;
  return dual_detail::make<V, N>(quotient, [&](int i) { return -quotient * b.partial[i] / b.value; });
}

// Comparisons look at values.
template <class V, int N>
RLHF_HD RLHF_INLINE mask_t<V> operator<(const dual<V, N>& a, const dual<V, N>& b) {
  return a.value < b.value;
}
template <class V, int N>
RLHF_HD RLHF_INLINE mask_t<V> operator>(const dual<V, N>& a, const dual<V, N>& b) {
  return a.value > b.value;
}
template <class V, int N>
RLHF_HD RLHF_INLINE mask_t<V> operator<=(const dual<V, N>& a, const dual<V, N>& b) {
  return a.value <= b.value;
}
template <class V, int N>
RLHF_HD RLHF_INLINE mask_t<V> operator>=(const dual<V, N>& a, const dual<V, N>& b) {
  return a.value >= b.value;
}
template <class V, int N>
RLHF_HD RLHF_INLINE mask_t<V> operator<(const dual<V, N>& a, const std::type_identity_t<V>& b) {
  return a.value < b;
}
template <class V, int N>
RLHF_HD RLHF_INLINE mask_t<V> operator>(const dual<V, N>& a, const std::type_identity_t<V>& b) {
  return a.value > b;
}
template <class V, int N>
RLHF_HD RLHF_INLINE mask_t<V> operator<=(const dual<V, N>& a, const std::type_identity_t<V>& b) {
  return a.value <= b;
}
template <class V, int N>
RLHF_HD RLHF_INLINE mask_t<V> operator>=(const dual<V, N>& a, const std::type_identity_t<V>& b) {
  return a.value >= b;
}

template <class V, int N>
struct number_traits<dual<V, N>> {
  using scalar = scalar_t<V>;
  using value = V;
  using mask = mask_t<V>;
  using number = dual<V, N>;
  using inner = number_traits<V>;

  static RLHF_HD RLHF_INLINE V constant(double c) { return V(inner::constant(c)); }
  static RLHF_HD RLHF_INLINE V value_of(const number& x) { return x.value; }
  static RLHF_HD RLHF_INLINE number chain(const number& x, const V& f, const V& slope) {
    return dual_detail::make<V, N>(f, [&](int i) { return slope * x.partial[i]; });
  }
  static RLHF_HD RLHF_INLINE number exp(const number& x) {
    const V e = inner::exp(x.value);
    return chain(x, e, e);
  }
  static RLHF_HD RLHF_INLINE number log(const number& x) {
    return chain(x, inner::log(x.value), constant(1) / x.value);
  }
  static RLHF_HD RLHF_INLINE number log1p(const number& x) {
    return chain(x, inner::log1p(x.value), constant(1) / (constant(1) + x.value));
  }
  static RLHF_HD RLHF_INLINE number expm1(const number& x) {
    return chain(x, inner::expm1(x.value), inner::exp(x.value));
  }
  static RLHF_HD RLHF_INLINE number tanh(const number& x) {
    const V t = inner::tanh(x.value);
    return chain(x, t, constant(1) - t * t);
  }
  static RLHF_HD RLHF_INLINE number sqrt(const number& x) {
    const V root = inner::sqrt(x.value);
    return chain(x, root, constant(0.5) / root);
  }
  static RLHF_HD RLHF_INLINE number abs(const number& x) {
    const V zero = constant(0), one = constant(1);
    return chain(x, inner::abs(x.value), inner::select(x.value > zero, one, inner::select(x.value < zero, -one, zero)));
  }
  static RLHF_HD RLHF_INLINE number min(const number& a, const number& b) {
    return extremum(inner::min(a.value, b.value), a.value < b.value, b.value < a.value, a, b);
  }
  static RLHF_HD RLHF_INLINE number max(const number& a, const number& b) {
    return extremum(inner::max(a.value, b.value), a.value > b.value, b.value > a.value, a, b);
  }
  static RLHF_HD RLHF_INLINE number clamp(const number& x, const V& lo, const V& hi) {
    const mask inside = !((x.value < lo) | (x.value > hi));  // NaN keeps its derivative
    return dual_detail::make<V, N>(inner::clamp(x.value, inner::value_of(lo), inner::value_of(hi)),
                                   [&](int i) { return inner::select(inside, x.partial[i], constant(0)); });
  }
  static RLHF_HD RLHF_INLINE number select(const mask& m, const number& a, const number& b) {
    return dual_detail::make<V, N>(inner::select(m, a.value, b.value),
                                   [&](int i) { return inner::select(m, a.partial[i], b.partial[i]); });
  }

 private:
  static RLHF_HD RLHF_INLINE number extremum(const V& value, const mask& first, const mask& second, const number& a,
                                             const number& b) {
    const V half = constant(0.5);
    return dual_detail::make<V, N>(value, [&](int i) {
      return inner::select(first, a.partial[i],
                           inner::select(second, b.partial[i], half * (a.partial[i] + b.partial[i])));
    });
  }
};

/// The derivative of `x` with respect to variable `index`; 0 for a plain number.
template <class V, int N>
[[nodiscard]] RLHF_HD RLHF_INLINE V derivative(const dual<V, N>& x, int index = 0) {
  return x.partial[index];
}

}  // namespace rlhf::inline v1
