#pragma once
// std::mdspan as a view, without a copy. Includes no header of it: cuda::std::mdspan and Kokkos' serve as well.

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "rlhf/interop/strided.hpp"

namespace rlhf::inline v1 {

/// What is read of a span: extents, strides, and a plain pointer to its elements.
template <class X>
concept mdspan_like = requires(const X& x) {
  typename X::element_type;
  typename X::accessor_type;
  { X::rank() } -> std::convertible_to<std::size_t>;
  { x.extent(0) } -> std::convertible_to<std::int64_t>;
  { x.is_strided() } -> std::convertible_to<bool>;
  { x.data_handle() } -> std::convertible_to<const volatile void*>;
};

namespace mdspan_detail {

template <class Span>
struct dimensions_of {
  const Span& span;
  static constexpr std::int64_t count = static_cast<std::int64_t>(Span::rank());
  [[nodiscard]] constexpr std::int64_t extent(std::int64_t k) const {
    return static_cast<std::int64_t>(span.extent(static_cast<typename Span::rank_type>(k)));
  }
  [[nodiscard]] constexpr std::int64_t stride(std::int64_t k) const {
    return static_cast<std::int64_t>(span.stride(static_cast<typename Span::rank_type>(k)));
  }
};

}  // namespace mdspan_detail

/// A view of a span's elements, as strided.hpp has it. A span does not tell where its memory lies: that is `Space`, taken on the
/// caller's word. `bool` elements are a mask of `const std::uint8_t`.
template <class T, int Rank, class Space, mdspan_like Span>
  requires(Rank == 1 || Rank == 2)
status as_view(const Span& span, view<T, Rank, Space>& out, const char* argument = "span",
               const char* function = "as_view") {
  using element = typename Span::element_type;
  using pointer = typename Span::data_handle_type;
  static_assert(std::is_pointer_v<pointer>, "rlhf: as_view wants an mdspan whose accessor gives plain pointers");
  constexpr bool mask = std::same_as<T, const std::uint8_t> && std::same_as<std::remove_const_t<element>, bool>;
  static_assert(mask || std::same_as<std::remove_const_t<T>, std::remove_const_t<element>>,
                "rlhf: as_view wants a view of the span's own element type");
  static_assert(std::is_const_v<T> || !std::is_const_v<element>,
                "rlhf: a span of const elements wants a view of const elements");
  if (!span.is_strided()) return remark::type(function, argument, "not strided", "a strided layout");
  if constexpr (mask)
    return interop_detail::make_view(reinterpret_cast<T*>(span.data_handle()), mdspan_detail::dimensions_of<Span>{span},
                                     out, function, argument);
  else
    return interop_detail::make_view(static_cast<T*>(span.data_handle()), mdspan_detail::dimensions_of<Span>{span}, out,
                                     function, argument);
}

}  // namespace rlhf::inline v1
