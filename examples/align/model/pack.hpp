#pragma once
// Short vectors of numbers, as wide as the machine's registers, and the few functions of them that the model needs.
// For .cpp files only: the width depends on the compiler's flags, so nothing in a public header may mention it.

#include <cstddef>
#include <cstdint>

#include "rlhf/core/config.hpp"
#include "rlhf/core/numeric.hpp"

namespace align {

#if defined(__AVX512F__)
inline constexpr std::size_t pack_bytes = 64;
#elif defined(__AVX__)
inline constexpr std::size_t pack_bytes = 32;
#else
inline constexpr std::size_t pack_bytes = 16;
#endif

template <class Scalar>
struct pack_types;

template <>
struct pack_types<float> {
  typedef float real __attribute__((vector_size(pack_bytes)));
  typedef std::int32_t integer __attribute__((vector_size(pack_bytes)));
  typedef std::uint16_t halves __attribute__((vector_size(pack_bytes / 2)));
  typedef std::uint32_t words __attribute__((vector_size(pack_bytes)));
  typedef real floats;
};

template <>
struct pack_types<double> {
  typedef double real __attribute__((vector_size(pack_bytes)));
  typedef std::int64_t integer __attribute__((vector_size(pack_bytes)));
  typedef std::uint16_t halves __attribute__((vector_size(pack_bytes / 4)));
  typedef std::uint32_t words __attribute__((vector_size(pack_bytes / 2)));
  typedef float floats __attribute__((vector_size(pack_bytes / 2)));
};

/// A register of Scalars; + - * / work lane by lane, also with a Scalar on one side.
template <class Scalar>
using pack = typename pack_types<Scalar>::real;

/// Lanes of a pack. Rows of all internal arrays are padded with zeros to a multiple of it.
template <class Scalar>
inline constexpr std::ptrdiff_t lanes = static_cast<std::ptrdiff_t>(pack_bytes / sizeof(Scalar));

template <class Scalar>
constexpr std::ptrdiff_t padded(std::ptrdiff_t n) {
  return (n + lanes<Scalar> - 1) / lanes<Scalar> * lanes<Scalar>;
}

template <class Scalar>
RLHF_INLINE pack<Scalar> load(const Scalar* from) {
  pack<Scalar> x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

template <class Scalar>
RLHF_INLINE void store(Scalar* to, const pack<Scalar>& x) {
  __builtin_memcpy(to, &x, sizeof x);
}

namespace pack_detail {

/// Words that hold the bits of floats, one per lane, as numbers.
template <class Scalar>
RLHF_INLINE pack<Scalar> numbers(const typename pack_types<Scalar>::words& bits) {
  typename pack_types<Scalar>::floats x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return __builtin_convertvector(x, pack<Scalar>);
}

}  // namespace pack_detail

/// lanes<Scalar> bfloat16s in a row, widened: their bits are the upper half of a float's.
template <class Scalar>
RLHF_INLINE pack<Scalar> load_widened(const rlhf::bfloat16* from) {
  typename pack_types<Scalar>::halves x;
  __builtin_memcpy(&x, from, sizeof x);
  return pack_detail::numbers<Scalar>(__builtin_convertvector(x, typename pack_types<Scalar>::words) << 16);
}

/// The first or the second ones of lanes<Scalar> pairs of bfloat16s, widened. Where both are needed, that takes one instruction for
/// each of them beside a common load; to widen what lies in a row takes a shuffle more.
template <class Scalar, bool Second>
RLHF_INLINE pack<Scalar> load_of_pairs(const rlhf::bfloat16* from) {
  typename pack_types<Scalar>::words x;
  __builtin_memcpy(&x, from, sizeof x);
  return pack_detail::numbers<Scalar>(Second ? x & 0xffff0000u : x << 16);  // of little-endian words
}

/// The sum of the lanes, in a fixed order.
template <class Scalar>
RLHF_INLINE Scalar sum_of_lanes(const pack<Scalar>& x) {
  Scalar part[lanes<Scalar>];
  store(part, x);
  for (std::ptrdiff_t half = lanes<Scalar> / 2; half > 0; half /= 2)
    for (std::ptrdiff_t i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}

template <class Scalar>
RLHF_INLINE Scalar largest_lane(const pack<Scalar>& x) {
  Scalar part[lanes<Scalar>];
  store(part, x);
  for (std::ptrdiff_t half = lanes<Scalar> / 2; half > 0; half /= 2)
    for (std::ptrdiff_t i = 0; i < half; ++i) part[i] = part[i] < part[i + half] ? part[i + half] : part[i];
  return part[0];
}

/// What exp needs to know of a format. ln 2 = high + low, where high times any exponent is exact.
template <class Scalar>
struct exponential;

template <>
struct exponential<float> {
  static constexpr float lowest = -87.0f, highest = 88.0f, round = 0x1.8p23f;
  static constexpr float high = 0x1.62ep-1f, low = 0x1.0bfbe8p-15f;
  static constexpr std::int32_t bias = 127, shift = 23;
  static constexpr int degree = 7;
};

template <>
struct exponential<double> {
  static constexpr double lowest = -708.0, highest = 709.0, round = 0x1.8p52;
  static constexpr double high = 0x1.62e42feep-1, low = 0x1.a39ef35793c76p-33;
  static constexpr std::int64_t bias = 1023, shift = 52;
  static constexpr int degree = 13;
};

/// e^x per lane, within 2 units in the last place; x is first clamped to where the result is a normal number. NaN
/// stays.
template <class Scalar>
RLHF_INLINE pack<Scalar> exp(pack<Scalar> x) {
  using format = exponential<Scalar>;
  using integer = typename pack_types<Scalar>::integer;
  constexpr auto reciprocals = [] {
    struct {
      Scalar factorial[format::degree + 1];
    } table{};
    double factorial = 1;
    for (int k = 0; k <= format::degree; factorial *= ++k) table.factorial[k] = static_cast<Scalar>(1 / factorial);
    return table;
  }();
  const pack<Scalar> zero{}, lowest = zero + format::lowest, highest = zero + format::highest;
  x = x < lowest ? lowest : x;
  x = x > highest ? highest : x;
  // x = n ln 2 + r with |r| <= ln(2) / 2; adding `round` leaves n in the low bits of the significand.
  const pack<Scalar> shifted = x * static_cast<Scalar>(1.442695040888963407) + format::round;
  const pack<Scalar> n = shifted - format::round;
  const pack<Scalar> r = (x - n * format::high) - n * format::low;
  pack<Scalar> y = zero + reciprocals.factorial[format::degree];
  for (int k = format::degree; k-- > 0;) y = y * r + reciprocals.factorial[k];
  const pack<Scalar> origin = zero + format::round;
  integer exponent, start;
  __builtin_memcpy(&exponent, &shifted, sizeof exponent);
  __builtin_memcpy(&start, &origin, sizeof start);
  exponent = (exponent - start + format::bias) << format::shift;
  pack<Scalar> scale;
  __builtin_memcpy(&scale, &exponent, sizeof scale);
  return y * scale;
}

}  // namespace align
