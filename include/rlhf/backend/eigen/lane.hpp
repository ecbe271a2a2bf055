#pragma once
// A SIMD number: a pack of K registers, with the operators that formulas need.

#include "rlhf/backend/eigen/packet.hpp"

namespace rlhf::inline v1 {

/// What a comparison of two lanes gives.
template <class T, int K, unsigned Isa>
struct lane_mask {
  using packet = lane_detail::packet<T, Isa>;
  typename packet::mask v[static_cast<unsigned>(K)];

  lane_mask() = default;
  // Copied register by register: GCC would copy the array in pieces, through memory, and stall on reading it back.
  RLHF_INLINE lane_mask(const lane_mask& other) { *this = other; }
  RLHF_INLINE lane_mask& operator=(const lane_mask& other) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) v[k] = other.v[k];
    return *this;
  }
  RLHF_INLINE explicit lane_mask(bool everywhere) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) v[k] = packet::all_bits(everywhere ? -1 : 0);
  }
  friend RLHF_INLINE lane_mask operator&(const lane_mask& a, const lane_mask& b) {
    lane_mask out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = a.v[k] & b.v[k];
    return out;
  }
  friend RLHF_INLINE lane_mask operator|(const lane_mask& a, const lane_mask& b) {
    lane_mask out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = a.v[k] | b.v[k];
    return out;
  }
  friend RLHF_INLINE lane_mask operator!(const lane_mask& a) {
    lane_mask out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = ~a.v[k];
    return out;
  }
};

/// `K` native registers of `T`, added, compared and selected element by element. Several registers hide the latency of one.
///
/// A number of the library (number_traits in lane_math.hpp), walks arrays by lane_memory.hpp. `Isa` keeps the code of
/// translation units with different -m flags apart.
template <class T, int K, unsigned Isa = instruction_set>
struct lane {
  using packet = lane_detail::packet<T, Isa>;
  using mask = lane_mask<T, K, Isa>;
  static constexpr int size = K * packet::size;
  typename packet::type v[static_cast<unsigned>(K)];

  lane() = default;
  RLHF_INLINE lane(const lane& other) { *this = other; }
  RLHF_INLINE lane& operator=(const lane& other) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) v[k] = other.v[k];
    return *this;
  }
  /// x in every element.
  RLHF_INLINE explicit lane(T x) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) v[k] = packet::all(x);
  }
  [[nodiscard]] RLHF_INLINE T operator[](int j) const { return v[j / packet::size][j % packet::size]; }

  friend RLHF_INLINE lane operator-(const lane& a) {
    lane out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = -a.v[k];
    return out;
  }
  friend RLHF_INLINE lane operator+(const lane& a, const lane& b) {
    lane out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = a.v[k] + b.v[k];
    return out;
  }
  friend RLHF_INLINE lane operator-(const lane& a, const lane& b) {
    lane out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = a.v[k] - b.v[k];
    return out;
  }
  friend RLHF_INLINE lane operator*(const lane& a, const lane& b) {
    lane out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = a.v[k] * b.v[k];
    return out;
  }
  friend RLHF_INLINE lane operator/(const lane& a, const lane& b) {
    lane out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = a.v[k] / b.v[k];
    return out;
  }
  friend RLHF_INLINE mask operator<(const lane& a, const lane& b) {
    mask out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = a.v[k] < b.v[k];
    return out;
  }
  friend RLHF_INLINE mask operator<=(const lane& a, const lane& b) {
    mask out;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) out.v[k] = a.v[k] <= b.v[k];
    return out;
  }
  friend RLHF_INLINE mask operator>(const lane& a, const lane& b) { return b < a; }
  friend RLHF_INLINE mask operator>=(const lane& a, const lane& b) { return b <= a; }
};

namespace lane_detail {

/// f applied to each register of one or more lanes.
template <class F, class T, int K, unsigned Isa, class... More>
[[nodiscard]] RLHF_INLINE lane<T, K, Isa> each_packet(F f, const lane<T, K, Isa>& x, const More&... more) {
  lane<T, K, Isa> out;
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) out.v[k] = f(x.v[k], more.v[k]...);
  return out;
}

/// All registers folded into one, neighbours first.
template <class F, class T, int K, unsigned Isa>
[[nodiscard]] RLHF_INLINE auto fold_packets(F f, lane<T, K, Isa> x) {
#pragma GCC unroll 4
  for (int distance = 1; distance < K; distance *= 2)
#pragma GCC unroll 8
    for (int k = 0; k + distance < K; k += 2 * distance) x.v[k] = f(x.v[k], x.v[k + distance]);
  return x.v[0];
}

}  // namespace lane_detail

}  // namespace rlhf::inline v1
