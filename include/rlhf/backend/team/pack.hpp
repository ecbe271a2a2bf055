#pragma once
// A few adjacent elements as one number: what a thread of a device reads with one load of 16 bytes.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "rlhf/math/memory.hpp"

namespace rlhf::inline v1 {

/// What a comparison of two packs gives.
template <int N>
struct pack_mask {
  bool v[static_cast<unsigned>(N)];

  pack_mask() = default;
  RLHF_HD RLHF_INLINE explicit pack_mask(bool everywhere) {
    for (int j = 0; j < N; ++j) v[j] = everywhere;
  }
  friend RLHF_HD RLHF_INLINE pack_mask operator&(const pack_mask& a, const pack_mask& b) {
    pack_mask out;
    for (int j = 0; j < N; ++j) out.v[j] = a.v[j] && b.v[j];
    return out;
  }
  friend RLHF_HD RLHF_INLINE pack_mask operator|(const pack_mask& a, const pack_mask& b) {
    pack_mask out;
    for (int j = 0; j < N; ++j) out.v[j] = a.v[j] || b.v[j];
    return out;
  }
  friend RLHF_HD RLHF_INLINE pack_mask operator!(const pack_mask& a) {
    pack_mask out;
    for (int j = 0; j < N; ++j) out.v[j] = !a.v[j];
    return out;
  }
};

/// How a pack goes to and from memory.
enum class access {
  any,      ///< at any address: in one piece where that is aligned, else one by one
  aligned,  ///< in one piece; whoever walks has seen to it
  paired,  ///< as `any`, 32 bytes a thread; its neighbour 2k or 2k + 1 has the next 32 and works with it, the even one the later
  dry  ///< as `any`, but stores write nothing: a kernel is run only for what it passes to a scan
};

/// `N` elements of `T`, computed one by one: a number of the library, on the host and in kernels alike.
template <class T, int N, access How = access::any>
struct pack {
  using mask = pack_mask<N>;
  static constexpr int size = N;
  T v[static_cast<unsigned>(N)];

  pack() = default;
  /// x in every element.
  RLHF_HD RLHF_INLINE explicit pack(T x) {
    for (int j = 0; j < N; ++j) v[j] = x;
  }

  friend RLHF_HD RLHF_INLINE pack operator-(const pack& a) {
    pack out;
    for (int j = 0; j < N; ++j) out.v[j] = -a.v[j];
    return out;
  }
  friend RLHF_HD RLHF_INLINE pack operator+(const pack& a, const pack& b) {
    pack out;
    for (int j = 0; j < N; ++j) out.v[j] = a.v[j] + b.v[j];
    return out;
  }
  friend RLHF_HD RLHF_INLINE pack operator-(const pack& a, const pack& b) {
    pack out;
    for (int j = 0; j < N; ++j) out.v[j] = a.v[j] - b.v[j];
    return out;
  }
  friend RLHF_HD RLHF_INLINE pack operator*(const pack& a, const pack& b) {
    pack out;
    for (int j = 0; j < N; ++j) out.v[j] = a.v[j] * b.v[j];
    return out;
  }
  friend RLHF_HD RLHF_INLINE pack operator/(const pack& a, const pack& b) {
    pack out;
    for (int j = 0; j < N; ++j) out.v[j] = a.v[j] / b.v[j];
    return out;
  }
  friend RLHF_HD RLHF_INLINE mask operator<(const pack& a, const pack& b) {
    mask out;
    for (int j = 0; j < N; ++j) out.v[j] = a.v[j] < b.v[j];
    return out;
  }
  friend RLHF_HD RLHF_INLINE mask operator<=(const pack& a, const pack& b) {
    mask out;
    for (int j = 0; j < N; ++j) out.v[j] = a.v[j] <= b.v[j];
    return out;
  }
  friend RLHF_HD RLHF_INLINE mask operator>(const pack& a, const pack& b) { return b < a; }
  friend RLHF_HD RLHF_INLINE mask operator>=(const pack& a, const pack& b) { return b <= a; }
};

template <class T, int N, access How>
struct number_traits<pack<T, N, How>> {
  using scalar = T;
  using value = pack<T, N, How>;
  using mask = pack_mask<N>;
  using one = number_traits<T>;

  static RLHF_HD RLHF_INLINE value constant(double c) { return value(static_cast<T>(c)); }
  static RLHF_HD RLHF_INLINE value value_of(const value& x) { return x; }
  static RLHF_HD RLHF_INLINE value chain(const value&, const value& y, const value&) { return y; }
  static RLHF_HD RLHF_INLINE value exp(const value& x) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::exp(x.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value exp2_weight(const value& x) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::exp2_weight(x.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value log(const value& x) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::log(x.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value log1p(const value& x) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::log1p(x.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value expm1(const value& x) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::expm1(x.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value tanh(const value& x) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::tanh(x.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value sqrt(const value& x) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::sqrt(x.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value abs(const value& x) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::abs(x.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value min(const value& a, const value& b) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::min(a.v[j], b.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value max(const value& a, const value& b) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::max(a.v[j], b.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value clamp(const value& x, const value& lo, const value& hi) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = one::clamp(x.v[j], lo.v[j], hi.v[j]);
    return out;
  }
  static RLHF_HD RLHF_INLINE value select(const mask& m, const value& a, const value& b) {
    value out;
    for (int j = 0; j < N; ++j) out.v[j] = m.v[j] ? a.v[j] : b.v[j];
    return out;
  }
  static RLHF_HD RLHF_INLINE bool exceeds(const value& x, const value& bound) {
    bool any = false;
    for (int j = 0; j < N; ++j) any = any || x.v[j] > bound.v[j];
    return any;
  }
  static RLHF_HD RLHF_INLINE value largest(const value& x) {
    T top = x.v[0];
    for (int j = 1; j < N; ++j) top = x.v[j] > top ? x.v[j] : top;
    return value(top);
  }
};

namespace pack_detail {

/// N stored elements as one piece of memory, aligned so that it moves in as few loads as the hardware has.
template <class S, int N>
struct alignas(sizeof(S) * N < 16 ? sizeof(S) * N : 16) words {
  S s[static_cast<unsigned>(N)];
};

template <class S, int N>
[[nodiscard]] RLHF_HD RLHF_INLINE bool aligned(const S* p) {
  return reinterpret_cast<std::uintptr_t>(p) % alignof(words<S, N>) == 0;
}

#if defined(__CUDA_ARCH__)
// CUDA's own vectors. nvcc takes a struct apart, and mostly does not find its elements together again when they are stored: then
// a warp writes 16 bytes of every 64, four times over. So a store is an instruction of its own, of global memory.
template <std::size_t Bytes>
struct vector_of {
  using type = uint4;
};
template <>
struct vector_of<8> {
  using type = uint2;
};
template <>
struct vector_of<4> {
  using type = unsigned;
};
template <>
struct vector_of<2> {
  using type = unsigned short;
};
template <>
struct vector_of<1> {
  using type = unsigned char;
};
__device__ __forceinline__ void store_piece(uint4* p, const uint4& x) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(__cvta_generic_to_global(p)), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w)
               : "memory");
}
__device__ __forceinline__ void store_piece(uint2* p, const uint2& x) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" : : "l"(__cvta_generic_to_global(p)), "r"(x.x), "r"(x.y) : "memory");
}
template <class Number>
__device__ __forceinline__ void store_piece(Number* p, Number x) {
  *p = x;
}
template <class Words>
struct pieces {
  using vector = typename vector_of<(sizeof(Words) < 16 ? sizeof(Words) : 16)>::type;
  static constexpr unsigned count = sizeof(Words) / sizeof(vector);
  vector piece[count];
};

// Two neighbouring threads with 32 bytes each, the odd one's first. A thread's loads and stores are of 16 bytes at most, and one
// that takes the halves of its own 32 leaves, at each, half of every sector of memory untouched. So both take the first 32
// bytes together and then the second 32, and hand one another what is the other's.
struct halves {
  uint4 first, second;
};
[[nodiscard]] __device__ __forceinline__ uint4 of_the_other(uint4 mine) {
  const unsigned both = 3u << (threadIdx.x % 32 / 2 * 2);
  return {__shfl_xor_sync(both, mine.x, 1), __shfl_xor_sync(both, mine.y, 1), __shfl_xor_sync(both, mine.z, 1),
          __shfl_xor_sync(both, mine.w, 1)};
}
[[nodiscard]] __device__ __forceinline__ uint4 either(bool one, uint4 a, uint4 b) {
  return {one ? a.x : b.x, one ? a.y : b.y, one ? a.z : b.z, one ? a.w : b.w};
}
template <class Words, class S>
[[nodiscard]] __device__ __forceinline__ Words read_paired(const S* p) {
  const bool later = threadIdx.x % 2 == 0;
  const auto* q = reinterpret_cast<const uint4*>(p) - (later ? 1 : 0);
  const uint4 first = q[0], second = q[2];
  const uint4 got = of_the_other(either(later, first, second));
  return __builtin_bit_cast(Words, halves{either(later, got, first), either(later, second, got)});
}
template <class S, class Words>
__device__ __forceinline__ void write_paired(S* p, const Words& w) {
  const bool later = threadIdx.x % 2 == 0;
  const auto mine = __builtin_bit_cast(halves, w);
  const uint4 got = of_the_other(either(later, mine.first, mine.second));
  auto* q = reinterpret_cast<uint4*>(p) - (later ? 1 : 0);
  store_piece(q, either(later, got, mine.first));
  store_piece(q + 2, either(later, mine.second, got));
}
#endif

template <class Words, class S>
[[nodiscard]] RLHF_HD RLHF_INLINE Words read(const S* p) {
#if defined(__CUDA_ARCH__)
  pieces<Words> all;
  for (unsigned k = 0; k < all.count; ++k) all.piece[k] = reinterpret_cast<const typename pieces<Words>::vector*>(p)[k];
  return __builtin_bit_cast(Words, all);
#else
  Words w;
  __builtin_memcpy(static_cast<void*>(&w), p, sizeof w);
  return w;
#endif
}
template <class S, class Words>
RLHF_HD RLHF_INLINE void write(S* p, const Words& w) {
#if defined(__CUDA_ARCH__)
  const auto all = __builtin_bit_cast(pieces<Words>, w);
  for (unsigned k = 0; k < all.count; ++k)
    store_piece(reinterpret_cast<typename pieces<Words>::vector*>(p) + k, all.piece[k]);
#else
  __builtin_memcpy(static_cast<void*>(p), &w, sizeof w);
#endif
}

#if defined(__CUDA_ARCH__)
/// Both bfloat16 of a register by one instruction each: the upper one is a float with the lower one cleared.
template <int N>
__device__ __forceinline__ void widen(const words<bfloat16, N>& w, float (&x)[static_cast<unsigned>(N)])
  requires(N % 2 == 0)
{
  struct registers {
    std::uint32_t pair[static_cast<unsigned>(N / 2)];
  };
  const auto both = __builtin_bit_cast(registers, w);
  for (int k = 0; k < N / 2; ++k) {
    x[2 * k] = __uint_as_float(both.pair[k] << 16);
    x[2 * k + 1] = __uint_as_float(both.pair[k] & 0xffff0000u);
  }
}
#endif
template <class T, class S, int N>
RLHF_HD RLHF_INLINE void widen(const words<S, N>& w, T (&x)[static_cast<unsigned>(N)]) {
  for (int j = 0; j < N; ++j) x[j] = memory_traits<T>::load(w.s + j);
}

}  // namespace pack_detail

template <class T, int N, access How>
struct memory_traits<pack<T, N, How>> {
  using P = pack<T, N, How>;
  static constexpr int lanes = N;

  template <class S>
  static RLHF_HD RLHF_INLINE P load(const S* p) {
    P x;
    if (in_one_piece(p)) {
      pack_detail::widen(read(p), x.v);
    } else {
      for (int j = 0; j < N; ++j) x.v[j] = memory_traits<T>::load(p + j);
    }
    return x;
  }
  template <class S>
  static RLHF_HD RLHF_INLINE void store(S* p, const P& x) {
    if constexpr (How != access::dry) {
      if (in_one_piece(p)) {
        pack_detail::words<S, N> w;
        for (int j = 0; j < N; ++j) memory_traits<T>::store(w.s + j, x.v[j]);
        write(p, w);
      } else {
        for (int j = 0; j < N; ++j) memory_traits<T>::store(p + j, x.v[j]);
      }
    }
  }
  static RLHF_HD RLHF_INLINE pack_mask<N> load_mask(const std::uint8_t* p) {
    pack_mask<N> m;
    if (in_one_piece(p)) {
      const auto w = pack_detail::read<pack_detail::words<std::uint8_t, N>>(p);
      for (int j = 0; j < N; ++j) m.v[j] = w.s[j] != 0;
    } else {
      for (int j = 0; j < N; ++j) m.v[j] = p[j] != 0;
    }
    return m;
  }

 private:
  template <class S>
  [[nodiscard]] static RLHF_HD RLHF_INLINE bool in_one_piece(const S* p) {
    return How == access::aligned || pack_detail::aligned<S, N>(p);
  }
  template <class S>
  static constexpr bool halved = How == access::paired && sizeof(S) * static_cast<unsigned>(N) == 32;
  template <class S>
  [[nodiscard]] static RLHF_HD RLHF_INLINE pack_detail::words<S, N> read(const S* p) {
#if defined(__CUDA_ARCH__)
    if constexpr (halved<S>) return pack_detail::read_paired<pack_detail::words<S, N>>(p);
#endif
    return pack_detail::read<pack_detail::words<S, N>>(p);
  }
  template <class S>
  static RLHF_HD RLHF_INLINE void write(S* p, const pack_detail::words<S, N>& w) {
#if defined(__CUDA_ARCH__)
    if constexpr (halved<S>) return pack_detail::write_paired(p, w);
#endif
    pack_detail::write(p, w);
  }
};

}  // namespace rlhf::inline v1
