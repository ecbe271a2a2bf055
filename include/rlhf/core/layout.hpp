#pragma once
// How a flat array of tokens falls into sequences.

#include <cstdint>

#include "rlhf/core/status.hpp"
#include "rlhf/core/view.hpp"

namespace rlhf::inline v1 {

/// The half-open range of elements of one sequence.
struct segment {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// Sequences of tokens inside flat arrays, in one of two forms.
///
/// `padded(rows, width)`: every sequence has `width` slots; a mask says which are tokens. `packed(offsets)`: sequence `i`
/// is `[offsets[i], offsets[i + 1])`, nothing is wasted. Both give the same results for the same tokens. All token
/// arrays of one call share one layout. Masked slots may hold anything (NaN too): they are selected away, never multiplied.
///
/// Only the padded form knows columns; "the last column" of a packed sequence is its last slot.
template <class Space = host_space>
struct layout {
  using space = Space;

  const std::int64_t* offsets = nullptr;  ///< [sequences + 1], or null for the padded form
  std::int64_t sequences = 0;
  std::int64_t width = 0;   ///< padded form: slots in a row
  std::int64_t tokens = 0;  ///< elements of a token array

  [[nodiscard]] RLHF_HD constexpr segment operator[](std::int64_t i) const {
    if (offsets != nullptr) return {offsets[i], offsets[i + 1]};
    return {i * width, (i + 1) * width};
  }
};

/// `rows` sequences of `width` slots each, row after row.
[[nodiscard]] constexpr layout<> padded(std::int64_t rows, std::int64_t width) {
  return {nullptr, rows, width, rows * width};
}

/// Sequences one after the other; `offsets` has one more element than there are sequences, starts at 0, and is contiguous
/// (anything else gives a layout that `check` refuses).
[[nodiscard]] constexpr layout<> packed(view<const std::int64_t> offsets) {
  if (offsets.extent == 0) return {};
  if (offsets.data == nullptr || offsets.stride != 1) return {nullptr, -1, 0, 0};
  return {offsets.data, offsets.extent - 1, 0, offsets.data[offsets.extent - 1]};
}

/// Is the layout one that can be walked? O(sequences) for the packed form. `argument` and `offsets` are its names in the call.
[[nodiscard]] constexpr status check(const layout<>& sequences, const char* function, const char* argument = "layout",
                                     const char* offsets = "layout.offsets") {
  if (sequences.sequences < 0 || sequences.width < 0)
    return {errc::shape,
            function,
            argument,
            "has an extent of",
            static_cast<double>(sequences.sequences < 0 ? sequences.sequences : sequences.width),
            0,
            "0 or more, and offsets that are contiguous"};
  if (sequences.offsets == nullptr) {
    const std::int64_t slots = sequences.sequences * sequences.width;
    if (sequences.tokens == slots) return {};
    return remark::shape(function, argument, sequences.tokens, slots, "tokens");
  }
  if (sequences.offsets[0] != 0)
    return {errc::index, function, offsets, "starts at", static_cast<double>(sequences.offsets[0]), 0, nullptr};
  for (std::int64_t i = 0; i < sequences.sequences; ++i)
    if (sequences.offsets[i + 1] < sequences.offsets[i])
      return {errc::index,
              function,
              offsets,
              "decreases at element",
              static_cast<double>(i + 1),
              0,
              "offsets that never decrease"};
  // A layout remembers its tokens, and sees no later change of the offsets.
  const std::int64_t end = sequences.offsets[sequences.sequences];
  if (end != sequences.tokens)
    return {errc::index, function, offsets, "ends at", static_cast<double>(end), static_cast<double>(sequences.tokens),
            nullptr};
  return {};
}

}  // namespace rlhf::inline v1
