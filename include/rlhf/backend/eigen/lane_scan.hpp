#pragma once
// The recurrences of a sequence on lanes: y_i = b_i + a_i y_{i+1} for a register of adjacent i at once.

#include "rlhf/backend/eigen/lane_math.hpp"

namespace rlhf::inline v1 {

/// The scan argument of a kernel that walks lanes. Within a register the affine maps are composed in log2(size) steps of
/// shifts; what lies beyond it comes in as one number, so that registers are chained by one multiply-add.
template <class T, int Scans, unsigned Isa = instruction_set>
class lane_scan {
  using P = lane_detail::packet<T, Isa>;
  using packet = typename P::type;

 public:
  /// y (or x) of the element behind the last one that was walked.
  RLHF_INLINE void set_carry(int k, T y) { carry_[k] = P::all(y); }
  [[nodiscard]] RLHF_INLINE T carry(int k) const { return carry_[k][0]; }

  template <int K>
  [[nodiscard]] RLHF_INLINE lane<T, K, Isa> inclusive(int k, const lane<T, K, Isa>& a, const lane<T, K, Isa>& b) {
    lane<T, K, Isa> y;
#pragma GCC unroll 8
    for (int j = K - 1; j >= 0; --j) {
      y.v[j] = solve(a.v[j], b.v[j], carry_[k]);
      carry_[k] = P::first_everywhere(y.v[j]);
    }
    return y;
  }
  template <int K>
  [[nodiscard]] RLHF_INLINE lane<T, K, Isa> exclusive(int k, const lane<T, K, Isa>& a, const lane<T, K, Isa>& b) {
    lane<T, K, Isa> out;
#pragma GCC unroll 8
    for (int j = K - 1; j >= 0; --j) {
      const packet y = solve(a.v[j], b.v[j], carry_[k]);
      out.v[j] = P::template shift<1>(y, carry_[k]);
      carry_[k] = P::first_everywhere(y);
    }
    return out;
  }
  template <int K>
  [[nodiscard]] RLHF_INLINE lane<T, K, Isa> next(int k, const lane<T, K, Isa>& x) {
    lane<T, K, Isa> out;
#pragma GCC unroll 8
    for (int j = K - 1; j >= 0; --j) {
      out.v[j] = P::template shift<1>(x.v[j], carry_[k]);
      carry_[k] = P::first_everywhere(x.v[j]);
    }
    return out;
  }

 private:
  /// Each element's map composed with those of the next D elements, for D = 1, 2, 4, ...; then applied to the carry.
  template <int D = 1>
  [[nodiscard]] static RLHF_INLINE packet solve(packet a, packet b, packet carry) {
    if constexpr (D >= P::size)
      return b + a * carry;
    else
      return solve<2 * D>(a * P::template shift<D>(a, P::all(T(1))), b + a * P::template shift<D>(b, packet{}), carry);
  }

  packet carry_[static_cast<unsigned>(Scans > 0 ? Scans : 1)];
};

}  // namespace rlhf::inline v1
