#pragma once
// Storage formats of 16 bits and the types that arithmetic on a stored type is done in.

#include <cstdint>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

namespace numeric_detail {

/// std::bit_cast, also in device code without a compiler flag.
template <class To, class From>
[[nodiscard]] RLHF_HD RLHF_INLINE constexpr To bits_as(const From& x) {
  return __builtin_bit_cast(To, x);
}

}  // namespace numeric_detail

/// A bfloat16 in memory: the upper half of a float. Storage only; arithmetic is done in float and rounded once, to nearest
/// even, on the store. Same bits as every other bfloat16, so foreign memory can be viewed as it.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  RLHF_HD RLHF_INLINE explicit bfloat16(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
    const auto u = numeric_detail::bits_as<std::uint32_t>(x);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
#endif
  }
  RLHF_HD RLHF_INLINE explicit operator float() const {
    return numeric_detail::bits_as<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

/// An IEEE half-precision number in memory; storage only, as bfloat16.
struct float16 {
  std::uint16_t bits = 0;

  float16() = default;
  RLHF_HD RLHF_INLINE explicit float16(float x) {
#if defined(__CUDA_ARCH__)
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
    const auto u = numeric_detail::bits_as<std::uint32_t>(x);
    const std::uint32_t sign = (u >> 16) & 0x8000u;
    const std::uint32_t magnitude = u & 0x7fffffffu;
    std::uint32_t half;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u;  // NaN
    } else if (magnitude >= 0x477ff000u) {
      half = 0x7c00u;  // rounds past 65504
    } else if (magnitude >= 0x38800000u) {
      half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    } else {
      // Subnormal halves: adding 0.5 lets the hardware round at the right bit.
      half = numeric_detail::bits_as<std::uint32_t>(numeric_detail::bits_as<float>(magnitude) + 0.5f) - 0x3f000000u;
    }
    bits = static_cast<std::uint16_t>(sign | half);
#endif
  }
  RLHF_HD RLHF_INLINE explicit operator float() const {
#if defined(__CUDA_ARCH__)
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
#else
    const std::uint32_t sign = (static_cast<std::uint32_t>(bits) & 0x8000u) << 16;
    const std::uint32_t magnitude = static_cast<std::uint32_t>(bits) & 0x7fffu;
    if (magnitude >= 0x7c00u) return numeric_detail::bits_as<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    if (magnitude >= 0x400u) return numeric_detail::bits_as<float>(sign | ((magnitude << 13) + 0x38000000u));
    const float subnormal = static_cast<float>(magnitude) * 5.9604644775390625e-8f;  // units of 2^-24
    return sign != 0 ? -subnormal : subnormal;
#endif
  }
};

namespace numeric_detail {

template <class T>
struct compute {
  using type = T;
};
template <>
struct compute<bfloat16> {
  using type = float;
};
template <>
struct compute<float16> {
  using type = float;
};

}  // namespace numeric_detail

/// The type that arithmetic on stored `T`s is done in: never narrower than float.
template <class T>
using compute_t = typename numeric_detail::compute<T>::type;

}  // namespace rlhf::inline v1
