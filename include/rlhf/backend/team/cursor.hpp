#pragma once
// Which sequence an element is of, for a thread whose elements rise: found once, then by steps.

#include <cstdint>

#include "rlhf/core/layout.hpp"

namespace rlhf::inline v1::team_detail {

/// The sequence of an element. One division (padded) or one search (packed) at the start; from there on a padded layout takes
/// additions, a packed one a comparison where the sequence stays the same and else a search that begins nearby.
///
/// A 64-bit division is 70 to 100 instructions of a device: none may stand in a loop over elements.
template <class Space>
class sequence_cursor {
 public:
  /// At element i of the layout; `passed`: whole sequences in `step` elements of a padded layout (`passed_by`).
  RLHF_HD RLHF_INLINE sequence_cursor(const layout<Space>& sequences, std::int64_t i, std::int64_t passed)
      : offsets_(sequences.offsets), sequences_(sequences.sequences), width_(sequences.width), passed_(passed) {
    if (offsets_ == nullptr) {
      sequence_ = static_cast<std::int64_t>(static_cast<std::uint64_t>(i) / static_cast<std::uint64_t>(width_));
      end_ = (sequence_ + 1) * width_;
    } else {
      search(0, sequences_, i);
    }
  }
  [[nodiscard]] RLHF_HD static constexpr std::int64_t passed_by(const layout<Space>& sequences, std::int64_t step) {
    return sequences.offsets == nullptr && sequences.width > 0 ? step / sequences.width : 0;
  }

  [[nodiscard]] RLHF_HD RLHF_INLINE std::int64_t sequence() const { return sequence_; }
  /// The first element after the sequence.
  [[nodiscard]] RLHF_HD RLHF_INLINE std::int64_t end() const { return end_; }

  /// The element went up by `step`, to i.
  RLHF_HD RLHF_INLINE void step_to(std::int64_t i) {
    if (offsets_ == nullptr) {
      sequence_ += passed_;
      end_ += passed_ * width_;
    }
    rise_to(i);
  }
  /// The element went up by one, to i.
  RLHF_HD RLHF_INLINE void rise_to(std::int64_t i) {
    if (i < end_) return;
    if (offsets_ == nullptr) {
      ++sequence_;
      end_ += width_;
      return;
    }
    // In strides that double, then between the last two.
    std::int64_t low = sequence_, stride = 1;
    while (low + stride < sequences_ && offsets_[low + stride] <= i) {
      low += stride;
      stride *= 2;
    }
    search(low, low + stride < sequences_ ? low + stride : sequences_, i);
  }

 private:
  /// The last sequence of [first, last) that begins at i or before; it is not empty, since i is in the layout.
  RLHF_HD RLHF_INLINE void search(std::int64_t first, std::int64_t last, std::int64_t i) {
    while (last - first > 1) {
      const std::int64_t middle = first + (last - first) / 2;
      if (offsets_[middle] <= i)
        first = middle;
      else
        last = middle;
    }
    sequence_ = first;
    end_ = offsets_[first + 1];
  }

  const std::int64_t* offsets_;
  std::int64_t sequences_, width_, passed_, sequence_ = 0, end_ = 0;
};

}  // namespace rlhf::inline v1::team_detail
