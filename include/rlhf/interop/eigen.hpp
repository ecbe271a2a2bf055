#pragma once
// Eigen's matrices, arrays, maps and blocks as views, without a copy. Includes no header of Eigen.

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "rlhf/interop/strided.hpp"

namespace rlhf::inline v1 {

/// What is read of an expression: those that stand for memory have it.
template <class X>
concept eigen_array = requires(X& x) {
  typename X::Scalar;
  { X::IsRowMajor } -> std::convertible_to<bool>;
  { X::IsVectorAtCompileTime } -> std::convertible_to<bool>;
  { x.data() } -> std::convertible_to<const volatile void*>;
  { x.rows() } -> std::convertible_to<std::int64_t>;
  { x.cols() } -> std::convertible_to<std::int64_t>;
  { x.innerStride() } -> std::convertible_to<std::int64_t>;
  { x.outerStride() } -> std::convertible_to<std::int64_t>;
};

namespace eigen_detail {

/// Rows, then columns, wherever they lie.
template <class Array>
struct dimensions_of {
  const Array& array;
  static constexpr std::int64_t count = 2;
  [[nodiscard]] std::int64_t extent(std::int64_t k) const {
    return static_cast<std::int64_t>(k == 0 ? array.rows() : array.cols());
  }
  [[nodiscard]] std::int64_t stride(std::int64_t k) const {
    return static_cast<std::int64_t>((k == 1) == bool(Array::IsRowMajor) ? array.innerStride() : array.outerStride());
  }
};

}  // namespace eigen_detail

/// A view of an expression's memory, as strided.hpp has it. Rank 2 wants rows whose columns are adjacent, RowMajor: with Eigen's own
/// order, a column for each row of logits, give `x.transpose()`. `bool` elements are a mask of `const std::uint8_t`.
template <class T, int Rank, class Space, class Array>
  requires(eigen_array<std::remove_reference_t<Array>> && (Rank == 1 || Rank == 2))
status as_view(Array&& array, view<T, Rank, Space>& out, const char* argument = "array",
               const char* function = "as_view") {
  using plain = std::remove_cvref_t<Array>;
  using scalar = typename plain::Scalar;
  constexpr bool mask = std::same_as<T, const std::uint8_t> && std::same_as<scalar, bool>;
  static_assert(std::same_as<Space, host_space>, "rlhf: Eigen's memory is the host's");
  static_assert(mask || std::same_as<std::remove_const_t<T>, scalar>,
                "rlhf: as_view wants a view of the array's own element type");
  static_assert(std::is_const_v<T> || !std::is_const_v<std::remove_pointer_t<decltype(array.data())>>,
                "rlhf: an array that is const wants a view of const elements");
  static_assert(
      Rank == 1 || bool(plain::IsRowMajor) || bool(plain::IsVectorAtCompileTime),
      "rlhf: a view of rank 2 wants rows whose columns are adjacent: a RowMajor array, or the transpose of this one");
  if constexpr (mask)
    return interop_detail::make_view(reinterpret_cast<T*>(array.data()), eigen_detail::dimensions_of<plain>{array}, out,
                                     function, argument);
  else
    return interop_detail::make_view(static_cast<T*>(array.data()), eigen_detail::dimensions_of<plain>{array}, out,
                                     function, argument);
}

}  // namespace rlhf::inline v1
