#pragma once
// How numbers come from arrays and go back: one element for a scalar, several adjacent ones for a SIMD lane type.

#include <concepts>
#include <cstdint>

#include "rlhf/core/numeric.hpp"
#include "rlhf/core/view.hpp"
#include "rlhf/math/dual.hpp"

namespace rlhf::inline v1 {

/// How a number type V without derivatives is read from and written to arrays. `lanes` adjacent elements at a time.
template <class V>
struct memory_traits;

template <std::floating_point T>
struct memory_traits<T> {
  static constexpr int lanes = 1;

  template <class S>
  static RLHF_HD RLHF_INLINE T load(const S* p) {
    return static_cast<T>(static_cast<compute_t<S>>(*p));
  }
  template <class S>
  static RLHF_HD RLHF_INLINE void store(S* p, T x) {
    *p = S(static_cast<compute_t<S>>(x));
  }
  static RLHF_HD RLHF_INLINE bool load_mask(const std::uint8_t* p) { return *p != 0; }
};

/// Where element i is; lanes walk views of unit stride only, and need not multiply.
template <class V, class S, class Space>
[[nodiscard]] RLHF_HD RLHF_INLINE S* element(const view<S, 1, Space>& v, std::int64_t i) {
  return memory_traits<V>::lanes > 1 ? v.data + i : v.data + i * v.stride;
}

/// Elements i, i + 1, ... of `v` as a number; a lane type needs unit stride.
template <class V, class S, class Space>
[[nodiscard]] RLHF_HD RLHF_INLINE V load(const view<S, 1, Space>& v, std::int64_t i) {
  return memory_traits<V>::load(element<V>(v, i));
}

/// The same, and `fallback` where the view is absent.
template <class V, class S, class Space>
[[nodiscard]] RLHF_HD RLHF_INLINE V load_or(const view<S, 1, Space>& v, std::int64_t i, double fallback) {
  return v.data != nullptr ? load<V>(v, i) : V(number_traits<V>::constant(fallback));
}

/// The elements from p in an order that memory_traits may choose, where one is quicker: for what is only summed, or stored in
/// the same order again.
template <class V, class S>
[[nodiscard]] RLHF_HD RLHF_INLINE V load_in_any_order(const S* p) {
  if constexpr (requires { memory_traits<V>::load_in_any_order(p); })
    return memory_traits<V>::load_in_any_order(p);
  else
    return memory_traits<V>::load(p);
}
/// Writes elements in the order in which load_in_any_order reads an array of S. It may write 0 for a subnormal number.
template <class V, class S>
RLHF_HD RLHF_INLINE void store_in_any_order(S* p, const V& x) {
  if constexpr (requires { memory_traits<V>::store_in_any_order(p, x); })
    memory_traits<V>::store_in_any_order(p, x);
  else
    memory_traits<V>::store(p, x);
}

/// Which of the elements i, i + 1, ... are in; all of them where there is no mask.
template <class V, class Space>
[[nodiscard]] RLHF_HD RLHF_INLINE mask_t<V> load_mask(const view<const std::uint8_t, 1, Space>& v, std::int64_t i) {
  return v.data != nullptr ? memory_traits<V>::load_mask(element<V>(v, i)) : mask_t<V>(true);
}

/// Writes elements i, i + 1, ...; an absent view takes nothing.
template <class V, class S, class Space>
RLHF_HD RLHF_INLINE void store(const view<S, 1, Space>& v, std::int64_t i, const V& x) {
  if (v.data != nullptr) memory_traits<V>::store(element<V>(v, i), x);
}

/// Can a lane type walk this view? (An absent view is no obstacle.)
template <class S, class Space>
[[nodiscard]] RLHF_HD constexpr bool unit_stride(const view<S, 1, Space>& v) {
  return v.data == nullptr || v.stride == 1;
}
/// Does this view begin at a multiple of 16 bytes? (An absent one is no obstacle.)
template <class S, class Space>
[[nodiscard]] RLHF_HD RLHF_INLINE bool begins_aligned(const view<S, 1, Space>& v) {
  return reinterpret_cast<std::uintptr_t>(v.data) % 16 == 0;
}

}  // namespace rlhf::inline v1
