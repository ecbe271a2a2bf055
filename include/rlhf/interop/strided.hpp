#pragma once
// Views of other libraries' arrays: what their as_view have in common.

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "rlhf/core/status.hpp"
#include "rlhf/core/view.hpp"
#if defined(__cpp_exceptions)
#include "rlhf/core/throw.hpp"
#endif

namespace rlhf::inline v1 {

/// Where a call may use an array that another library describes. Each `as_view(array, out, argument, function)` of this folder gives
/// the array's own memory, with its strides (in elements); nothing is copied, and nothing is kept alive. `out` is set where all is
/// well, and left alone where it is not.
///
/// Rank 1 wants one stride between all elements, rank 2 adjacent columns (the last dimension) and one distance between all rows:
/// dimensions that follow one another without a gap count as one, dimensions of extent 1 as none. So a batch of logits
/// [sequences, tokens, vocabulary] is rows of logits, and log-probabilities [sequences, tokens] are the slots of a padded layout.
/// What is written to must not share memory with itself, as a broadcast array does.
///
/// Errors name `function` and `argument`: null, type (elements, memory), shape (dimensions), stride.
namespace interop_detail {

/// Extents and strides of an array, the outermost dimension first: `extent(k)` and `stride(k)`, in elements, for k below `count`.
template <class D>
concept dimensions = requires(const D& d, std::int64_t k) {
  { d.count } -> std::convertible_to<std::int64_t>;
  { d.extent(k) } -> std::convertible_to<std::int64_t>;
  { d.stride(k) } -> std::convertible_to<std::int64_t>;
};

/// Dimensions as one.
struct merged {
  std::int64_t extent = 1;
  std::int64_t stride = 1;
  bool regular = true;  ///< one stride between all neighbours

  template <dimensions D>
  [[nodiscard]] static constexpr merged of(const D& d, std::int64_t count) {
    merged all;
    for (std::int64_t k = count; k-- > 0;) {
      const std::int64_t n = d.extent(k);
      if (n == 0) return {0, 1, true};
      if (n == 1) continue;
      if (all.extent == 1)
        all.stride = d.stride(k);
      else if (d.stride(k) != all.extent * all.stride)
        all.regular = false;
      all.extent *= n;
    }
    return all;
  }
};

[[nodiscard]] RLHF_INLINE constexpr status gaps(const char* function, const char* argument, std::int64_t dimensions,
                                                const char* wants) {
  return {errc::stride,
          function,
          argument,
          "has gaps between dimensions, of which it has",
          static_cast<double>(dimensions),
          0,
          wants};
}

template <class T, class Space, dimensions D>
status make_view(T* data, const D& d, view<T, 1, Space>& out, const char* function, const char* argument) {
  const merged all = merged::of(d, d.count);
  if (data == nullptr && all.extent > 0) return remark::null(function, argument);
  if (!all.regular) return gaps(function, argument, d.count, "one stride between all elements, for a view of rank 1");
  if (!std::is_const_v<T> && all.extent > 1 && all.stride == 0)
    return {errc::stride, function, argument, "has stride", 0, 0, "1 or more, to be written to"};
  out = view<T, 1, Space>(data, all.extent, all.stride);
  return {};
}

template <class T, class Space, dimensions D>
status make_view(T* data, const D& d, view<T, 2, Space>& out, const char* function, const char* argument) {
  if (d.count < 2) return remark::shape(function, argument, d.count, 2, "dimensions");
  const std::int64_t columns = d.extent(d.count - 1);
  merged rows = merged::of(d, d.count - 1);
  if (data == nullptr && rows.extent * columns > 0) return remark::null(function, argument);
  if (columns > 1 && d.stride(d.count - 1) != 1)
    return {
        errc::stride, function, argument, "has columns at a distance of", static_cast<double>(d.stride(d.count - 1)), 1,
        nullptr};
  if (!rows.regular) return gaps(function, argument, d.count, "one distance between all rows, for a view of rank 2");
  if (rows.extent < 2) rows.stride = columns;
  if (!std::is_const_v<T> && rows.extent > 1 && rows.stride < columns)
    return {errc::stride,
            function,
            argument,
            "has rows at a distance of",
            static_cast<double>(rows.stride),
            0,
            "at least the columns, to be written to"};
  out = view<T, 2, Space>(data, rows.extent, columns, rows.stride);
  return {};
}

}  // namespace interop_detail

#if defined(__cpp_exceptions)
/// The same as a value, for use within a call: `as_view<const float, 2>(logits, "logits")`. Throws rlhf::error.
template <class T, int Rank = 1, class Space = host_space, class Array>
  requires requires(Array& array, view<T, Rank, Space>& out) {
    { as_view(array, out, "", "") } -> std::same_as<status>;
  }
[[nodiscard]] view<T, Rank, Space> as_view(Array&& array, const char* argument = "array",
                                           const char* function = "as_view") {
  view<T, Rank, Space> out;
  or_throw(as_view(array, out, argument, function));
  return out;
}
#endif

}  // namespace rlhf::inline v1
