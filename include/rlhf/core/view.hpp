#pragma once
// Views of memory that somebody else owns.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <type_traits>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

/// Memory the CPU reads and writes.
struct host_space {};
/// Memory of a CUDA device. A host view is not convertible to a device view: passing one is a compile error.
struct cuda_space {};

/// Something with `data()` and `size()`: std::vector, std::array, std::span, Eigen::VectorXf, ...
template <class R, class T>
concept contiguous_of = requires(R& r) {
  { r.data() } -> std::convertible_to<T*>;
  { r.size() } -> std::convertible_to<std::int64_t>;
};

/// A view of `T`s: pointer, extents and strides (in elements). It never owns, never copies, never checks.
///
/// Rank 1: `view(pointer, n)` or from anything contiguous. Rank 2: `view(pointer, rows, columns)` or with the distance
/// between rows as a fourth argument. A default view is absent (null): optional inputs and outputs are left so.
template <class T, int Rank = 1, class Space = host_space>
struct view;

template <class T, class Space>
struct view<T, 1, Space> {
  using value_type = std::remove_const_t<T>;
  using space = Space;

  T* data = nullptr;
  std::int64_t extent = 0;
  std::int64_t stride = 1;

  constexpr view() = default;
  template <std::integral I>
  RLHF_HD constexpr view(T* pointer, I elements, std::int64_t step = 1)
      : data(pointer), extent(static_cast<std::int64_t>(elements)), stride(step) {}
  /// A view of mutable elements is also a view of const ones.
  template <class U>
    requires std::same_as<const U, T>
  RLHF_HD constexpr view(const view<U, 1, Space>& other)
      : data(other.data), extent(other.extent), stride(other.stride) {}
  /// Anything contiguous in host memory.
  template <class R>
    requires(std::same_as<Space, host_space> && contiguous_of<R, T> && !std::is_same_v<std::remove_cv_t<R>, view> &&
             !std::is_same_v<std::remove_cv_t<R>, view<value_type, 1, Space>>)
  constexpr view(R&& range) : data(range.data()), extent(static_cast<std::int64_t>(range.size())) {}

  [[nodiscard]] RLHF_HD constexpr explicit operator bool() const { return data != nullptr; }
  [[nodiscard]] RLHF_HD constexpr T& operator[](std::int64_t i) const { return data[i * stride]; }
};

template <class T, class Space>
struct view<T, 2, Space> {
  using value_type = std::remove_const_t<T>;
  using space = Space;

  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t pitch = 0;  ///< elements from one row to the next; columns are adjacent

  constexpr view() = default;
  RLHF_HD constexpr view(T* pointer, std::int64_t rows_, std::int64_t columns_)
      : data(pointer), rows(rows_), columns(columns_), pitch(columns_) {}
  RLHF_HD constexpr view(T* pointer, std::int64_t rows_, std::int64_t columns_, std::int64_t pitch_)
      : data(pointer), rows(rows_), columns(columns_), pitch(pitch_) {}
  template <class U>
    requires std::same_as<const U, T>
  RLHF_HD constexpr view(const view<U, 2, Space>& other)
      : data(other.data), rows(other.rows), columns(other.columns), pitch(other.pitch) {}

  [[nodiscard]] RLHF_HD constexpr explicit operator bool() const { return data != nullptr; }
  [[nodiscard]] RLHF_HD constexpr T* row(std::int64_t i) const { return data + i * pitch; }
};

/// A mask of one byte an element: 0 is out, anything else is in. Made from bytes or from bools.
template <class Space = host_space>
struct mask_view : view<const std::uint8_t, 1, Space> {
  using base = view<const std::uint8_t, 1, Space>;
  using base::base;
  constexpr mask_view() = default;
  RLHF_HD constexpr mask_view(const base& other) : base(other) {}
  template <std::integral I>
  mask_view(const bool* pointer, I elements, std::int64_t step = 1)
      : base(reinterpret_cast<const std::uint8_t*>(pointer), elements, step) {
    static_assert(sizeof(bool) == 1);
  }
};

}  // namespace rlhf::inline v1
