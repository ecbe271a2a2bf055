#pragma once
// Floating-point numbers as integers that sort like them: what a search for an order statistic walks, bit by bit.

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "rlhf/core/numeric.hpp"

namespace rlhf::inline v1 {

/// The unsigned integer of the size of T.
template <std::floating_point T>
using sortable_t = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

template <std::floating_point T>
inline constexpr int sortable_bits = static_cast<int>(8 * sizeof(T));

/// x < y exactly where sortable(x) < sortable(y); both zeros are one. NaNs lie beyond the infinities.
template <std::floating_point T>
[[nodiscard]] RLHF_HD RLHF_INLINE sortable_t<T> sortable(T x) {
  using U = sortable_t<T>;
  constexpr U sign = U{1} << (sortable_bits<T> - 1);
  const auto bits = numeric_detail::bits_as<U>(x + T(0));
  return static_cast<U>((bits & sign) != 0 ? ~bits : bits | sign);
}
template <std::floating_point T>
[[nodiscard]] RLHF_HD RLHF_INLINE T from_sortable(sortable_t<T> key) {
  using U = sortable_t<T>;
  constexpr U sign = U{1} << (sortable_bits<T> - 1);
  return numeric_detail::bits_as<T>(static_cast<U>((key & sign) != 0 ? key & ~sign : ~key));
}

}  // namespace rlhf::inline v1
