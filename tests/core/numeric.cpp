// The 16-bit storage formats, every pattern of them, against the definitions of the formats.

#include "rlhf/core/numeric.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>

#include "support/catch.hpp"

namespace {

/// The number that the bits stand for, from sign, exponent and fraction.
double meaning(unsigned bits, int exponent_bits, int fraction_bits) {
  const unsigned exponent = (bits >> fraction_bits) & ((1u << exponent_bits) - 1),
                 fraction = bits & ((1u << fraction_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits >> 15) != 0 ? -1 : 1;
  if (exponent == (1u << exponent_bits) - 1)
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(1.0 + std::ldexp(fraction, -fraction_bits), static_cast<int>(exponent) - bias);
}

template <class Half>
constexpr int exponent_bits = std::is_same_v<Half, rlhf::bfloat16> ? 8 : 5;

template <class Half>
double meaning(Half h) {
  return meaning(h.bits, exponent_bits<Half>, 15 - exponent_bits<Half>);
}

template <class Half>
Half from_bits(unsigned bits) {
  Half h;
  h.bits = static_cast<std::uint16_t>(bits);
  return h;
}

/// The nearest pattern to a finite positive x, by looking at both neighbours; ties go to the even one.
template <class Half>
unsigned nearest(double x) {
  const unsigned infinite = ((1u << exponent_bits<Half>)-1) << (15 - exponent_bits<Half>);
  unsigned low = 0, high = infinite;  // meaning(low) <= x; patterns of positive numbers are ordered
  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;
    (meaning(from_bits<Half>(middle)) <= x ? low : high) = middle;
  }
  const double below = meaning(from_bits<Half>(low));
  // Infinity counts as the next step of the same size.
  const double above =
      high == infinite ? below + (below - meaning(from_bits<Half>(low - 1))) : meaning(from_bits<Half>(high));
  if (x - below != above - x) return x - below < above - x ? low : high;
  return low % 2 == 0 ? low : high;
}

bool negative(double x) { return std::signbit(x); }

}  // namespace

TEMPLATE_TEST_CASE("all 65536 patterns widen to what they mean, and come back", "", rlhf::bfloat16, rlhf::float16) {
  static_assert(sizeof(TestType) == 2 && std::is_trivially_copyable_v<TestType> && std::is_standard_layout_v<TestType>);
  static_assert(std::is_same_v<rlhf::compute_t<TestType>, float>);
  int wrong = 0;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const auto h = from_bits<TestType>(bits);
    const float wide = static_cast<float>(h);
    const double want = meaning(h);
    const TestType back(wide);
    if (std::isnan(want))
      wrong += !(std::isnan(wide) && std::isnan(static_cast<float>(back)) && (back.bits >> 15) == (bits >> 15));
    else
      wrong += !(static_cast<double>(wide) == want && negative(wide) == negative(want) && back.bits == bits);
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("floats round to the nearest pattern, ties to even", "", rlhf::bfloat16, rlhf::float16) {
  int wrong = 0;
  const auto check = [&](float x) {
    const unsigned sign = std::signbit(x) ? 0x8000u : 0u;
    wrong += TestType(x).bits != (nearest<TestType>(std::abs(static_cast<double>(x))) | sign);
  };
  // The middle between neighbours and one float to either side of it, over the whole range and both signs.
  for (unsigned bits = 0; bits < 0x7fff; ++bits) {
    const double a = meaning(from_bits<TestType>(bits)), b = meaning(from_bits<TestType>(bits + 1));
    if (!std::isfinite(a) || !std::isfinite(b)) continue;
    const auto middle = static_cast<float>((a + b) / 2);
    if (static_cast<double>(middle) != (a + b) / 2) continue;  // below the smallest float
    for (const float x : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e38f)}) {
      check(x);
      check(-x);
    }
  }
  std::mt19937 random(3);
  for (int i = 0; i < 100000; ++i) {
    const auto bits = static_cast<std::uint32_t>(random());
    float x;
    std::memcpy(&x, &bits, sizeof x);
    if (std::isfinite(x)) check(x);
  }
  CHECK(wrong == 0);
}

TEST_CASE("the largest halves and what lies beyond") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(static_cast<float>(rlhf::float16(65504.0f)) == 65504.0f);
  CHECK(static_cast<float>(rlhf::float16(65519.996f)) == 65504.0f);
  CHECK(static_cast<float>(rlhf::float16(65520.0f)) == infinity);
  CHECK(static_cast<float>(rlhf::float16(-infinity)) == -infinity);
  CHECK(static_cast<float>(rlhf::float16(5.9604645e-8f)) == 5.9604645e-8f);  // the smallest
  CHECK(rlhf::float16(2.9802322e-8f).bits == 0);                             // half of it: even is 0
  CHECK(rlhf::float16(-1e-30f).bits == 0x8000u);
  CHECK(static_cast<float>(rlhf::bfloat16(3.38953139e38f)) == 3.38953139e38f);
  CHECK(static_cast<float>(rlhf::bfloat16(std::numeric_limits<float>::max())) == infinity);
  CHECK(rlhf::bfloat16(1.0f).bits == 0x3f80u);
  CHECK(rlhf::float16(1.0f).bits == 0x3c00u);
  CHECK(std::is_same_v<rlhf::compute_t<double>, double>);
}
