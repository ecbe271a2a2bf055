#pragma once
// One SIMD register: its width, its masks, its shuffles.
//
// Eigen says how wide a native packet of this translation unit is. The arithmetic is that of the compilers' vector types
// (GCC, Clang): they see through it, and Eigen's own exp and min give other results at infinity and NaN than ours must.

#if defined(__CUDACC__)
#error \
    "rlhf: the Eigen backend is for C++ compilers; Eigen has no SIMD in a .cu file. Keep <rlhf/backend/eigen.hpp> in a .cpp, or use <rlhf/backend/thrust.hpp> here."
#endif
#if !defined(__GNUC__) && !defined(__clang__)
#error "rlhf: the Eigen backend needs the vector types of GCC or Clang; use <rlhf/backend/reference.hpp> here."
#endif

#include <Eigen/Core>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "rlhf/backend/instruction_set.hpp"
#include "rlhf/core/numeric.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace rlhf::inline v1 {

namespace lane_detail {

/// The width in bytes of Eigen's packets of T; 16 where Eigen does not vectorise, which the compiler then splits.
template <class T>
constexpr int packet_bytes = sizeof(typename Eigen::internal::packet_traits<T>::type) > 16
                                 ? static_cast<int>(sizeof(typename Eigen::internal::packet_traits<T>::type))
                                 : 16;

}  // namespace lane_detail

/// What this translation unit is compiled for, one bit for each thing that changes the code of a lane. Lanes and the backend
/// carry it in their type, so that units with other -m flags can be linked together and each keeps its own code.
constexpr unsigned instruction_set = compiled_instruction_set | static_cast<unsigned>(lane_detail::packet_bytes<float>)
                                                                    << 8;

namespace lane_detail {

/// One register of Ts as static functions.
template <class T, unsigned Isa>
struct packet {
  static constexpr int bytes = packet_bytes<T>;
  static constexpr int size = bytes / static_cast<int>(sizeof(T));
  using bits = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  typedef T type __attribute__((vector_size(bytes)));
  typedef bits mask __attribute__((vector_size(bytes)));  ///< all bits of an element set, or none
  typedef std::make_unsigned_t<bits> words __attribute__((vector_size(bytes)));

  static RLHF_INLINE type all(T x) { return x - type{}; }
  static RLHF_INLINE mask all_bits(bits x) { return x | mask{}; }
  static RLHF_INLINE type select(mask m, type a, type b) { return m ? a : b; }
  /// The larger one, and the smaller one; the second where either is NaN. One instruction on x86, which GCC does not always
  /// find by itself. (Its plain AVX-512 intrinsics warn of an undefined register; the zeroing ones compile to the same.)
  static RLHF_INLINE type larger(type a, type b) {
#if defined(__AVX512F__)
    if constexpr (bytes == 64 && sizeof(T) == 4) return _mm512_maskz_max_ps(0xffff, a, b);
    if constexpr (bytes == 64 && sizeof(T) == 8) return _mm512_maskz_max_pd(0xff, a, b);
#endif
#if defined(__AVX__)
    if constexpr (bytes == 32 && sizeof(T) == 4) return _mm256_max_ps(a, b);
    if constexpr (bytes == 32 && sizeof(T) == 8) return _mm256_max_pd(a, b);
#endif
    return a > b ? a : b;
  }
  static RLHF_INLINE type smaller(type a, type b) {
#if defined(__AVX512F__)
    if constexpr (bytes == 64 && sizeof(T) == 4) return _mm512_maskz_min_ps(0xffff, a, b);
    if constexpr (bytes == 64 && sizeof(T) == 8) return _mm512_maskz_min_pd(0xff, a, b);
#endif
#if defined(__AVX__)
    if constexpr (bytes == 32 && sizeof(T) == 4) return _mm256_min_ps(a, b);
    if constexpr (bytes == 32 && sizeof(T) == 8) return _mm256_min_pd(a, b);
#endif
    return a < b ? a : b;
  }

  static RLHF_INLINE bool any_greater(type a, type b) {
#if defined(__AVX512F__)
    if constexpr (bytes == 64 && sizeof(T) == 4) return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0;
    if constexpr (bytes == 64 && sizeof(T) == 8) return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ) != 0;
#endif
    const mask m = a > b;
#if defined(__AVX__)
    if constexpr (bytes == 32) return _mm256_movemask_ps(reinterpret_cast<__m256>(m)) != 0;
#endif
#if defined(__SSE2__)
    if constexpr (bytes == 16) return _mm_movemask_ps(reinterpret_cast<__m128>(m)) != 0;
#endif
    bits found = 0;
    for (int j = 0; j < size; ++j) found |= m[j];
    return found != 0;
  }

  /// Every element of a at most that of b; false where there is a NaN.
  static RLHF_INLINE bool all_below(type a, type b) {
#if defined(__AVX512F__)
    if constexpr (bytes == 64 && sizeof(T) == 4) return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ) == 0;
    if constexpr (bytes == 64 && sizeof(T) == 8) return _mm512_cmp_pd_mask(a, b, _CMP_NLE_UQ) == 0;
#endif
    const mask m = ~(a <= b);
#if defined(__AVX__)
    if constexpr (bytes == 32) return _mm256_movemask_ps(reinterpret_cast<__m256>(m)) == 0;
#endif
#if defined(__SSE2__)
    if constexpr (bytes == 16) return _mm_movemask_ps(reinterpret_cast<__m128>(m)) == 0;
#endif
    bits found = 0;
    for (int j = 0; j < size; ++j) found |= m[j];
    return found == 0;
  }

  static RLHF_INLINE type sqrt(type x) {
#if defined(__AVX512F__)
    if constexpr (bytes == 64 && sizeof(T) == 4) return _mm512_maskz_sqrt_ps(0xffff, x);
    if constexpr (bytes == 64 && sizeof(T) == 8) return _mm512_maskz_sqrt_pd(0xff, x);
#endif
#if defined(__AVX__)
    if constexpr (bytes == 32 && sizeof(T) == 4) return _mm256_sqrt_ps(x);
    if constexpr (bytes == 32 && sizeof(T) == 8) return _mm256_sqrt_pd(x);
#endif
#if defined(__SSE2__)
    if constexpr (bytes == 16 && sizeof(T) == 4) return _mm_sqrt_ps(x);
    if constexpr (bytes == 16 && sizeof(T) == 8) return _mm_sqrt_pd(x);
#endif
    for (int j = 0; j < size; ++j) x[j] = std::sqrt(x[j]);
    return x;
  }

  /// Element j of the result is element j + D of `low` followed by `high`.
  template <int D>
  static RLHF_INLINE type shift(type low, type high) {
    return [&]<int... j>(std::integer_sequence<int, j...>) {
      return __builtin_shufflevector(low, high, (j + D)...);
    }(std::make_integer_sequence<int, size>{});
  }
  /// The first element in every place.
  static RLHF_INLINE type first_everywhere(type x) {
    return [&]<int... j>(std::integer_sequence<int, j...>) {
      return __builtin_shufflevector(x, x, (0 * j)...);
    }(std::make_integer_sequence<int, size>{});
  }

  /// Elements [Begin, Begin + N) as a shorter vector.
  template <int Begin, int N>
  static RLHF_INLINE auto part(type x) {
    return [&]<int... j>(std::integer_sequence<int, j...>) {
      return __builtin_shufflevector(x, x, (j + Begin)...);
    }(std::make_integer_sequence<int, N>{});
  }

  /// Adds the elements to a register of doubles, without rounding to T again.
  typedef double doubles __attribute__((vector_size(bytes)));
  static RLHF_INLINE doubles widen(doubles sum, type x) {
    if constexpr (sizeof(T) == 8) {
      return sum + x;
    } else {
#if defined(__AVX512F__)
      if constexpr (bytes == 64)
        return (sum + _mm512_maskz_cvtps_pd(0xff, part<0, 8>(x))) + _mm512_maskz_cvtps_pd(0xff, part<8, 8>(x));
#endif
      return (sum + __builtin_convertvector((part<0, size / 2>(x)), doubles)) +
             __builtin_convertvector((part<size / 2, size / 2>(x)), doubles);
    }
  }
};

}  // namespace lane_detail

}  // namespace rlhf::inline v1
