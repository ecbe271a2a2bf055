#pragma once
// Lanes and arrays: adjacent elements of any stored type to registers and back, rounded once to nearest even. A NaN stays one.

#include <cstring>

#include "rlhf/backend/eigen/lane.hpp"
#include "rlhf/math/memory.hpp"

namespace rlhf::inline v1 {

namespace lane_detail {

/// How one register of T is read from and written to arrays of S. Element by element; the formats that matter follow.
template <class T, unsigned Isa, class S>
struct stored {
  using P = packet<T, Isa>;
  static RLHF_INLINE typename P::type load(const S* p) {
    typename P::type x{};
    for (int j = 0; j < P::size; ++j) x[j] = memory_traits<T>::load(p + j);
    return x;
  }
  static RLHF_INLINE void store(S* p, typename P::type x) {
    for (int j = 0; j < P::size; ++j) memory_traits<T>::store(p + j, x[j]);
  }
};

template <class T, unsigned Isa>
struct stored<T, Isa, T> {
  using P = packet<T, Isa>;
  static RLHF_INLINE typename P::type load(const T* p) {
    typename P::type x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static RLHF_INLINE void store(T* p, typename P::type x) { std::memcpy(p, &x, sizeof x); }
};

/// 16-bit patterns as halves of 32-bit elements, and bytes as masks.
template <unsigned Isa>
struct narrow {
  using P = packet<float, Isa>;
  using words = typename P::words;

  static RLHF_INLINE words load16(const std::uint16_t* p) {
#if defined(__AVX512F__)
    if constexpr (P::bytes == 64)
      return reinterpret_cast<words>(
          _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#endif
#if defined(__AVX2__)
    if constexpr (P::bytes == 32)
      return reinterpret_cast<words>(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#endif
#if defined(__SSE2__)
    if constexpr (P::bytes == 16)
      return reinterpret_cast<words>(
          _mm_unpacklo_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), _mm_setzero_si128()));
#endif
    words x{};
    for (int j = 0; j < P::size; ++j) x[j] = p[j];
    return x;
  }
  /// The high halves of one register, or of two.
  static RLHF_INLINE void store_high(std::uint16_t* p, words x) {
#if defined(__AVX512F__)
    if constexpr (P::bytes == 64) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                          _mm512_maskz_cvtepi32_epi16(0xffff, reinterpret_cast<__m512i>(x >> 16)));
      return;
    }
#endif
#if defined(__AVX2__)
    if constexpr (P::bytes == 32) {
      const __m256i y = reinterpret_cast<__m256i>(x >> 16);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                       _mm_packus_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)));
      return;
    }
#endif
#if defined(__SSE2__)
    if constexpr (P::bytes == 16) {
      const __m128i y = _mm_srai_epi32(reinterpret_cast<__m128i>(x), 16);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(y, y));
      return;
    }
#endif
    for (int j = 0; j < P::size; ++j) p[j] = static_cast<std::uint16_t>(x[j] >> 16);
  }
  static RLHF_INLINE void store_high(std::uint16_t* p, words x, words y) {
#if defined(__AVX512BW__)
    if constexpr (P::bytes == 64) {
      typedef short halves __attribute__((vector_size(64)));
      const auto both = [&]<int... j>(std::integer_sequence<int, j...>) {
        return __builtin_shufflevector(reinterpret_cast<halves>(x), reinterpret_cast<halves>(y), (2 * j + 1)...);
      }(std::make_integer_sequence<int, 32>{});
      std::memcpy(static_cast<void*>(p), &both, sizeof both);
      return;
    }
#endif
#if defined(__AVX2__)
    if constexpr (P::bytes == 32) {
      const __m256i both = _mm256_packus_epi32(reinterpret_cast<__m256i>(x >> 16), reinterpret_cast<__m256i>(y >> 16));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(both, 0xd8));
      return;
    }
#endif
    store_high(p, x);
    store_high(p + P::size, y);
  }
  static RLHF_INLINE typename P::mask load_mask(const std::uint8_t* p) {
#if defined(__AVX512F__)
    if constexpr (P::bytes == 64)
      return reinterpret_cast<typename P::mask>(
                 _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))) != 0;
#endif
#if defined(__AVX2__)
    if constexpr (P::bytes == 32)
      return reinterpret_cast<typename P::mask>(
                 _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))) != 0;
#endif
    typename P::mask m{};
    for (int j = 0; j < P::size; ++j) m[j] = p[j] != 0 ? -1 : 0;
    return m;
  }
};

template <unsigned Isa>
struct stored<float, Isa, bfloat16> {
  using P = packet<float, Isa>;
  using words = typename narrow<Isa>::words;
  static RLHF_INLINE typename P::type load(const bfloat16* p) {
    return reinterpret_cast<typename P::type>(narrow<Isa>::load16(&p->bits) << 16);
  }
  /// Twice as many elements: those at even places to x, those at odd places to y. One instruction for each.
  static RLHF_INLINE void load_apart(const bfloat16* p, typename P::type& x, typename P::type& y) {
    words both;
    std::memcpy(&both, p, sizeof both);
    x = reinterpret_cast<typename P::type>(both << 16);
    y = reinterpret_cast<typename P::type>(both & 0xffff0000u);
  }
  /// The way back; below the smallest normal number it may write 0.
  static RLHF_INLINE void store_apart(bfloat16* p, typename P::type x, typename P::type y) {
#if defined(__AVX512BF16__)
    if constexpr (P::bytes == 64) {
      typedef short halves __attribute__((vector_size(64)));
      const halves pair = reinterpret_cast<halves>(_mm512_cvtne2ps_pbh(y, x));
      const auto both = [&]<int... j>(std::integer_sequence<int, j...>) {
        return __builtin_shufflevector(pair, pair, (j / 2 + j % 2 * 16)...);
      }(std::make_integer_sequence<int, 32>{});
      std::memcpy(static_cast<void*>(p), &both, sizeof both);
      return;
    }
#endif
    const words both = (rounded(x) >> 16) | (rounded(y) & 0xffff0000u);
    std::memcpy(static_cast<void*>(p), &both, sizeof both);
  }
  static RLHF_INLINE void store(bfloat16* p, typename P::type x) { narrow<Isa>::store_high(&p->bits, rounded(x)); }
  static RLHF_INLINE void store(bfloat16* p, typename P::type x, typename P::type y) {
#if defined(__AVX512BF16__)
    // The instruction takes subnormals for zero: those go the long way.
    if constexpr (P::bytes == 64) {
      constexpr int subnormal = 0x20;
      if (__builtin_expect((_mm512_fpclass_ps_mask(x, subnormal) | _mm512_fpclass_ps_mask(y, subnormal)) == 0, 1)) {
        const __m512bh both = _mm512_cvtne2ps_pbh(y, x);
        std::memcpy(static_cast<void*>(p), &both, sizeof both);
        return;
      }
    }
#endif
    narrow<Isa>::store_high(&p->bits, rounded(x), rounded(y));
  }

 private:
  static RLHF_INLINE words rounded(typename P::type x) {
    const words u = reinterpret_cast<words>(x);
    return x != x ? words{} + 0x7fc00000u : u + (((u >> 16) & 1u) + 0x7fffu);
  }
};

#if defined(__F16C__)
template <unsigned Isa>
struct stored<float, Isa, float16> {
  using P = packet<float, Isa>;
  static RLHF_INLINE typename P::type load(const float16* p) {
    constexpr auto bytes = P::bytes;
#if defined(__AVX512F__)
    if constexpr (bytes == 64)
      return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#endif
    if constexpr (bytes == 32) return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    if constexpr (bytes == 16) return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static RLHF_INLINE void store(float16* p, typename P::type x) {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    constexpr auto bytes = P::bytes;
#if defined(__AVX512F__)
    if constexpr (bytes == 64)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtps_ph(0xffff, x, nearest));
#endif
    if constexpr (bytes == 32) _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, nearest));
    if constexpr (bytes == 16) _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_cvtps_ph(x, nearest));
  }
};
#endif

}  // namespace lane_detail

template <class T, int K, unsigned Isa>
struct memory_traits<lane<T, K, Isa>> {
  using packet = lane_detail::packet<T, Isa>;
  static constexpr int lanes = lane<T, K, Isa>::size;

  template <class S>
  static RLHF_INLINE lane<T, K, Isa> load(const S* p) {
    lane<T, K, Isa> x;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k)
      x.v[k] = lane_detail::stored<T, Isa, std::remove_const_t<S>>::load(p + k * packet::size);
    return x;
  }
  template <class S>
  static RLHF_INLINE lane<T, K, Isa> load_in_any_order(const S* p) {
    using format = lane_detail::stored<T, Isa, std::remove_const_t<S>>;
    if constexpr (K % 2 == 0 && requires(typename packet::type& x) { format::load_apart(p, x, x); }) {
      lane<T, K, Isa> x;
#pragma GCC unroll 8
      for (int k = 0; k < K; k += 2) format::load_apart(p + k * packet::size, x.v[k], x.v[k + 1]);
      return x;
    } else {
      return load(p);
    }
  }
  template <class S>
  static RLHF_INLINE void store_in_any_order(S* p, const lane<T, K, Isa>& x) {
    using format = lane_detail::stored<T, Isa, S>;
    if constexpr (K % 2 == 0 && requires { format::store_apart(p, x.v[0], x.v[0]); }) {
#pragma GCC unroll 8
      for (int k = 0; k < K; k += 2) format::store_apart(p + k * packet::size, x.v[k], x.v[k + 1]);
    } else {
      store(p, x);
    }
  }
  template <class S>
  static RLHF_INLINE void store(S* p, const lane<T, K, Isa>& x) {
    using format = lane_detail::stored<T, Isa, S>;
    if constexpr (K % 2 == 0 && requires { format::store(p, x.v[0], x.v[1]); }) {
#pragma GCC unroll 8
      for (int k = 0; k < K; k += 2) format::store(p + k * packet::size, x.v[k], x.v[k + 1]);
    } else {
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) format::store(p + k * packet::size, x.v[k]);
    }
  }
  static RLHF_INLINE lane_mask<T, K, Isa> load_mask(const std::uint8_t* p) {
    lane_mask<T, K, Isa> m;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      if constexpr (sizeof(T) == 4) {
        m.v[k] = lane_detail::narrow<Isa>::load_mask(p + k * packet::size);
      } else {
        m.v[k] = typename packet::mask{};
        for (int j = 0; j < packet::size; ++j) m.v[k][j] = p[k * packet::size + j] != 0 ? -1 : 0;
      }
    }
    return m;
  }
};

}  // namespace rlhf::inline v1
