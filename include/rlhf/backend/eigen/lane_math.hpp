#pragma once
// exp, log, log1p, expm1 and tanh of a register, and lanes as numbers.
//
// Branch-free; right at zero, infinity and NaN; largest errors in the tests (about 1 ulp, tanh 2.5). Without AVX-512 the
// results of exp below 2.4e-38 (float; 4.5e-308 for double) are 0.

#include <limits>

#include "rlhf/backend/eigen/lane.hpp"
#include "rlhf/math/number.hpp"

namespace rlhf::inline v1 {

namespace lane_detail {

/// Constants by precision. `quadratic`: (e^r - 1 - r) / r^2 on |r| <= log(2) / 2, minimax of the relative error of e^r (Remez;
/// 3.1e-9 and 3.6e-18). `binary`: (2^r - 1) / r on |r| <= 1/2 (1.7e-7), `parabola` on |r| <= 1/32 (4.2e-7); `powers`: 2^(j/16). `reciprocals`: the terms 2 / (2k + 1) of log((1 + s) / (1 - s)) / s that count for
/// |s| <= 0.172.
template <class T>
struct constants;
template <>
struct constants<float> {
  static constexpr int mantissa = 23, bias = 127;
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  static constexpr float exp_lowest = -104.0f, exp_highest = 89.0f, exp_normal = -86.98f, expm1_lowest = -20.0f,
                         tanh_one = 9.5f;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr std::int32_t sqrt_half = 0x3f3504f3;
  static constexpr float quadratic[] = {0.49999994f, 0.166665211f, 0.041668389f, 0.00836874545f, 0.00138145394f};
  static constexpr float binary[] = {0.6931470037f, 0.2402224243f, 0.05550733581f, 0.009671512991f, 0.001326472731f};
  static constexpr float sixteenth = 0.0625f, magic_sixteenths = 786432.0f, parabola[] = {0.693187714f, 0.240226433f};
  static constexpr float powers[] = {1.0f,        1.04427373f, 1.09050775f, 1.13878858f, 1.18920708f, 1.24185777f,
                                     1.29683959f, 1.35425556f, 1.41421354f, 1.47682619f, 1.54221082f, 1.61049032f,
                                     1.68179286f, 1.75625217f, 1.8340081f,  1.91520655f};
  static constexpr float reciprocals[] = {2.f / 3, 2.f / 5, 2.f / 7, 2.f / 9};
};
template <>
struct constants<double> {
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double magic = 6755399441055744.0;
  static constexpr double exp_lowest = -746, exp_highest = 710, exp_normal = -708.0, expm1_lowest = -40, tanh_one = 20;
  static constexpr double ln2_high = 0.693145751953125, ln2_low = 1.42860682030941723212e-6;
  static constexpr std::int64_t sqrt_half = 0x3fe6a09e667f3bcd;
  static constexpr double quadratic[] = {0.5000000000000011,    0.1666666666666641,     0.04166666666652973,
                                         0.008333333333494985,  0.0013888888943759845,  0.0001984126950575503,
                                         2.480149294973432e-05, 2.7557586821248588e-06, 2.763030622072864e-07,
                                         2.5000013184090018e-08};
  static constexpr double reciprocals[] = {2. / 3,  2. / 5,  2. / 7,  2. / 9,  2. / 11,
                                           2. / 13, 2. / 15, 2. / 17, 2. / 19, 2. / 21};
};

template <class T, unsigned Isa>
struct functions {
  using P = packet<T, Isa>;
  using V = typename P::type;
  using M = typename P::mask;
  using W = typename P::words;
  using c = constants<T>;
  static constexpr T infinity = std::numeric_limits<T>::infinity();

  template <int Factor = 1, std::size_t N>
  static RLHF_INLINE V polynomial(V x, const T (&coefficient)[N]) {
    V sum = P::all(Factor * coefficient[N - 1]);
#pragma GCC unroll 16
    for (std::size_t k = 2; k <= N; ++k) sum = sum * x + Factor * coefficient[N - k];
    return sum;
  }

  /// A number in every word. Bits of numbers are added as unsigned words: those of NaN may wrap.
  static RLHF_INLINE W word(typename P::bits x, int shift = 0) {
    return W{} + (static_cast<std::make_unsigned_t<typename P::bits>>(x) << shift);
  }

  /// x = n log(2) + r with |r| <= log(2) / 2; `shifted` holds the integer n in its low bits.
  struct reduced {
    V shifted, n, r;
  };
  static RLHF_INLINE reduced reduce(V x) {
    const V shifted = x * static_cast<T>(1.4426950408889634) + c::magic;
    const V n = shifted - c::magic;
    return {shifted, n, (x - n * c::ln2_high) - n * c::ln2_low};
  }
  /// Factor * (1 + r + r^2 polynomial(r)).
  template <int Factor, std::size_t N>
  static RLHF_INLINE V one_plus(V r, const T (&coefficient)[N]) {
    return (polynomial<Factor>(r, coefficient) * r + T(Factor)) * r + T(Factor);
  }
  /// 2^(n + Bias - bias), where that is a normal number.
  template <int Bias>
  static RLHF_INLINE V power(V shifted) {
    return reinterpret_cast<V>((reinterpret_cast<W>(shifted) << c::mantissa) + word(Bias, c::mantissa));
  }
#if defined(__AVX512F__)
  static RLHF_INLINE V scale(V x, V n) {
    if constexpr (sizeof(T) == 4)
      return _mm512_maskz_scalef_ps(0xffff, x, n);
    else
      return _mm512_maskz_scalef_pd(0xff, x, n);
  }
#endif

#if defined(__AVX512DQ__)
  /// x where |x| is at most `bound`, else `bound` with its sign; `bound` for NaN.
  static RLHF_INLINE V within(V x, T bound) {
    constexpr int smaller_magnitude_with_sign_of_first = 0b0010;
    return _mm512_maskz_range_ps(0xffff, x, P::all(bound), smaller_magnitude_with_sign_of_first);
  }
#endif

  static RLHF_INLINE V exp(V x) {
    // Beyond the bounds the result is 0 or infinity; NaN stays.
    const V bounded = P::smaller(P::all(c::exp_highest), P::larger(P::all(c::exp_lowest), x));
    const reduced a = reduce(bounded);
#if defined(__AVX512F__)
    if constexpr (P::bytes == 64) return scale(one_plus<1>(a.r, c::quadratic), a.n);
#endif
    // Twice e^r and half of the power: 2^128 would not be a float.
    return x < c::exp_normal ? V{} : one_plus<2>(a.r, c::quadratic) * power<c::bias - 1>(a.shifted);
  }

  /// 2^x for x up to 127, with a relative error of 5e-7. With `Finite`: for any finite x, more than 2^100 or infinite for
  /// large ones.
  template <bool Finite>
  static RLHF_INLINE V exp2(V x)
    requires(sizeof(T) == 4)
  {
#if defined(__AVX512DQ__)
    // x = n + r with n in sixteenths: 2^n from a table by its fraction, 2^r by a parabola.
    if constexpr (P::bytes == 64) {
      const V shifted = x + c::magic_sixteenths, n = shifted - c::magic_sixteenths;
      const V r = Finite ? x - n : within(x - n, c::sixteenth);
      const V power =
          _mm512_maskz_permutexvar_ps(0xffff, reinterpret_cast<__m512i>(shifted), _mm512_loadu_ps(c::powers));
      return scale(power * ((c::parabola[1] * r + c::parabola[0]) * r + T(1)), n);
    }
#endif
    V bounded = P::larger(P::all(T(-c::bias)), x);  // whose power is 0
    if constexpr (Finite) bounded = P::smaller(P::all(T(c::bias)), bounded);
    const V shifted = bounded + (c::magic + T(c::bias));
    const V r = bounded - (shifted - (c::magic + T(c::bias)));
    return (polynomial(r, c::binary) * r + T(1)) * reinterpret_cast<V>(reinterpret_cast<W>(shifted) << c::mantissa);
  }

  static RLHF_INLINE V expm1(V x) {
    const reduced a = reduce(P::smaller(P::all(c::exp_highest), P::larger(P::all(c::expm1_lowest), x)));
    const V q = a.r + a.r * a.r * polynomial(a.r, c::quadratic);
    const V half_power = power<c::bias - 1>(a.shifted);
    const V half = half_power * q + (half_power - T(0.5));
    return half + half;
  }

  /// u = (1 + f) 2^k with 1 + f from sqrt(1/2) to sqrt(2); `unit` is 2^-k as long as that is a normal number.
  struct parts {
    V f, unit;
    M k;
  };
  static RLHF_INLINE parts split(V u) {
    const W bits = reinterpret_cast<W>(u);
    const M k = reinterpret_cast<M>(bits - word(c::sqrt_half)) >> c::mantissa;
    const W scale = reinterpret_cast<W>(k) << c::mantissa;
    return {reinterpret_cast<V>(bits - scale) - T(1), reinterpret_cast<V>(word(c::bias, c::mantissa) - scale), k};
  }
  /// log(1 + f) + k log(2): with s = f / (2 + f), log(1 + f) = f - f^2/2 + s (f^2/2 + 2 s^2 (1/3 + s^2/5 + ...)).
  static RLHF_INLINE V log_of_parts(V f, M exponent) {
    const V k = reinterpret_cast<V>(exponent + reinterpret_cast<M>(P::all(c::magic))) - c::magic;
    const V s = f / (f + T(2)), z = s * s, half = f * f * T(0.5);
    const V tail = z * polynomial(z, c::reciprocals);
    return k * c::ln2_high - ((half - (s * (half + tail) + k * c::ln2_low)) - f);
  }
  /// Infinity and NaN are their own logarithms; at `pole` it is -infinity and below NaN.
  static RLHF_INLINE V log_edges(V x, V y, T pole) {
    y = x < infinity ? y : x;
    const V at_pole = x < pole ? P::all(std::numeric_limits<T>::quiet_NaN()) : P::all(-infinity);
    return x <= pole ? at_pole : y;
  }

  static RLHF_INLINE V log(V x) {
    const M subnormal = x < std::numeric_limits<T>::min();
    const parts u = split(subnormal ? x * static_cast<T>(std::int64_t{1} << c::mantissa) : x);
    return log_edges(x, log_of_parts(u.f, u.k - (subnormal & P::all_bits(c::mantissa))), T(0));
  }

  static RLHF_INLINE V log1p(V x) {
    const V u = x + T(1);
    const parts p = split(u);
    const V lost = x - (u - T(1));  // to the rounding of 1 + x; counts where x is not large
    return log_edges(x, log_of_parts(x < c::magic ? p.f + lost * p.unit : p.f, p.k), T(-1));
  }

  static RLHF_INLINE V abs(V x) {
    return reinterpret_cast<V>(reinterpret_cast<M>(x) & P::all_bits(std::numeric_limits<typename P::bits>::max()));
  }

  static RLHF_INLINE V tanh(V x) {
    const V magnitude = P::smaller(P::all(c::tanh_one), abs(x));
    const V e = expm1(magnitude + magnitude);
    const M sign = reinterpret_cast<M>(x) & P::all_bits(std::numeric_limits<typename P::bits>::min());
    return reinterpret_cast<V>(reinterpret_cast<M>(e / (e + T(2))) | sign);
  }
};

}  // namespace lane_detail

template <class T, int K, unsigned Isa>
struct number_traits<lane<T, K, Isa>> {
  using scalar = T;
  using value = lane<T, K, Isa>;
  using mask = lane_mask<T, K, Isa>;
  using f = lane_detail::functions<T, Isa>;
  using P = lane_detail::packet<T, Isa>;
  using packet = typename P::type;

  static RLHF_INLINE value constant(double c) { return value(static_cast<T>(c)); }
  static RLHF_INLINE value value_of(const value& x) { return x; }
  static RLHF_INLINE value chain(const value&, const value& y, const value&) { return y; }
  static RLHF_INLINE value exp(const value& x) {
    return lane_detail::each_packet([](packet a) { return f::exp(a); }, x);
  }
  static RLHF_INLINE value exp2_weight(const value& x)
    requires(sizeof(T) == 4)
  {
    return lane_detail::each_packet([](packet a) { return f::template exp2<false>(a); }, x);
  }
  static RLHF_INLINE value exp2_finite(const value& x)
    requires(sizeof(T) == 4)
  {
    return lane_detail::each_packet([](packet a) { return f::template exp2<true>(a); }, x);
  }
  static RLHF_INLINE value log(const value& x) {
    return lane_detail::each_packet([](packet a) { return f::log(a); }, x);
  }
  static RLHF_INLINE value log1p(const value& x) {
    return lane_detail::each_packet([](packet a) { return f::log1p(a); }, x);
  }
  static RLHF_INLINE value expm1(const value& x) {
    return lane_detail::each_packet([](packet a) { return f::expm1(a); }, x);
  }
  static RLHF_INLINE value tanh(const value& x) {
    return lane_detail::each_packet([](packet a) { return f::tanh(a); }, x);
  }
  static RLHF_INLINE value sqrt(const value& x) {
    return lane_detail::each_packet([](packet a) { return P::sqrt(a); }, x);
  }
  static RLHF_INLINE value abs(const value& x) {
    return lane_detail::each_packet([](packet a) { return f::abs(a); }, x);
  }
  static RLHF_INLINE value min(const value& a, const value& b) {
    return lane_detail::each_packet([](packet x, packet y) { return ((x < y) | (x != x)) ? x : y; }, a, b);
  }
  static RLHF_INLINE value max(const value& a, const value& b) {
    return lane_detail::each_packet([](packet x, packet y) { return ((x > y) | (x != x)) ? x : y; }, a, b);
  }
  static RLHF_INLINE value clamp(const value& x, const value& lo, const value& hi) {
    return lane_detail::each_packet([](packet v, packet a, packet b) { return P::smaller(b, P::larger(a, v)); }, x, lo,
                                    hi);
  }
  static RLHF_INLINE value select(const mask& m, const value& a, const value& b) {
    value out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = P::select(m.v[k], a.v[k], b.v[k]);
    return out;
  }
  static RLHF_INLINE bool exceeds(const value& x, const value& bound) { return P::any_greater(top(x), bound.v[0]); }
  static RLHF_INLINE bool all_below(const value& x, const value& bound) {
    bool all = true;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) all = all && P::all_below(x.v[k], bound.v[k]);
    return all;
  }
  static RLHF_INLINE value largest(const value& x) {
    const packet rest = top(x);
    T one = rest[0];
    for (int j = 1; j < P::size; ++j) one = one > rest[j] ? one : rest[j];
    return value(one);
  }

 private:
  static RLHF_INLINE packet top(const value& x) {
    return lane_detail::fold_packets([](packet a, packet b) { return P::larger(a, b); }, x);
  }
};

}  // namespace rlhf::inline v1
