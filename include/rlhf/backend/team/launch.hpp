#pragma once
// How much work goes to how many threads: numbers only, so that they are tested without a device.

#include <cstddef>
#include <cstdint>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1::launch {

/// Threads of a block; also the widest group of threads that works together.
inline constexpr int block_threads = 256;
/// Groups of one launch at most: each leaves one partial total, and a single block folds those.
inline constexpr std::int64_t most_partials = 16384;
/// Blocks of a walk over elements at most. A number of its own, not the device's: the same cut, so the same bits, everywhere.
inline constexpr std::int64_t most_map_blocks = 2048;
/// Blocks that CUDA takes in one dimension of a grid.
inline constexpr std::int64_t most_blocks = 2147483647;
/// Blocks that keep a device of today busy: a launch with fewer is worth splitting.
inline constexpr std::int64_t busy_blocks = 256;

[[nodiscard]] RLHF_HD constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0); }
[[nodiscard]] RLHF_HD constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
[[nodiscard]] RLHF_HD constexpr std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

/// Groups of `width` threads that one block holds.
[[nodiscard]] RLHF_HD constexpr std::int64_t groups_in_block(int width) {
  return width >= block_threads ? 1 : block_threads / width;
}
/// Blocks that hold so many groups.
[[nodiscard]] constexpr std::int64_t blocks(std::int64_t groups, int width) {
  return ceil_div(groups, groups_in_block(width));
}
/// `groups`, but no more than `most`, in full blocks. A group walks from its number in steps of this.
[[nodiscard]] constexpr std::int64_t groups(std::int64_t wanted, int width, std::int64_t most) {
  return blocks(smaller(wanted, most), width) * groups_in_block(width);
}

/// Groups of a walk over n elements, `lanes` for each thread at a time.
[[nodiscard]] constexpr std::int64_t map_groups(std::int64_t n, int lanes) {
  return smaller(ceil_div(n, std::int64_t{block_threads} * lanes), most_map_blocks);
}

/// Elements of each of `groups` groups that have a range of their own: whole tiles, all but the last range alike.
[[nodiscard]] constexpr std::int64_t range_of_group(std::int64_t n, std::int64_t tile, std::int64_t groups) {
  return groups > 0 ? ceil_div(ceil_div(n, tile), groups) * tile : 0;
}

/// Shared memory of a block that stages sequences: all it may have without asking for more. Four blocks fit on a processor.
inline constexpr int shared_bytes = 49152;
/// Sequences of `row` elements that a block stages in `room` elements, at most two for each thread; 0 where fewer than half a
/// warp fit.
[[nodiscard]] constexpr std::int64_t staged_tile(std::int64_t room, std::int64_t row) {
  const std::int64_t fit = row > 0 ? room / row : 0;
  return fit < 16 ? 0 : smaller(fit, 2 * block_threads);
}

/// Threads for each row: a warp where a row is no more than a few loads of a warp's, else a block. `columns` 0: not known.
[[nodiscard]] constexpr int row_width(std::int64_t columns) {
  return columns > 0 && columns <= 2048 ? 32 : block_threads;
}
[[nodiscard]] constexpr std::int64_t row_groups(std::int64_t rows, int width) {
  return groups(rows, width, most_partials);
}

/// Threads for the sum of each sequence, by their average length; what is long, or there are few of, gets a block.
[[nodiscard]] constexpr int reduce_width(std::int64_t sequences, std::int64_t elements) {
  const std::int64_t average = sequences > 0 ? elements / sequences : 0;
  if (average <= 64) return 8;
  return average <= 4096 && sequences >= 8 * busy_blocks ? 32 : average <= 256 ? 32 : block_threads;
}

/// How sequences are scanned: so many threads for each, and each cut into so many chunks.
struct scan_plan {
  int width = 32;
  std::int64_t chunks = 1;
};
/// Many short ones: a warp each. Fewer and longer: a block each. Few and long: blocks share a sequence, in chunks of no fewer
/// than two tiles; the carries between the chunks then go through memory.
[[nodiscard]] constexpr scan_plan plan_scan(std::int64_t sequences, std::int64_t elements, int lanes) {
  if (sequences <= 0) return {};
  const std::int64_t average = elements / sequences, tile = std::int64_t{block_threads} * lanes;
  if (average <= tile / 2 || sequences >= 16 * busy_blocks) return {32, 1};
  const std::int64_t wanted = busy_blocks / sequences, room = average / (2 * tile);
  return {block_threads, larger(1, smaller(smaller(wanted, room), 64))};
}
/// The part of [begin, end) in chunk c of `chunks`, counted from the end; cuts lie on multiples of `lanes`.
struct range {
  std::int64_t begin = 0, end = 0;
};
[[nodiscard]] RLHF_HD constexpr range chunk(std::int64_t begin, std::int64_t end, std::int64_t c, std::int64_t chunks,
                                            int lanes) {
  const std::int64_t first = begin / lanes, packs = ceil_div(end, lanes) - first, each = ceil_div(packs, chunks);
  const std::int64_t high = larger(first + packs - c * each, first), low = larger(high - each, first);
  const range cut{larger(low * lanes, begin), smaller(high * lanes, end)};
  return cut.begin < cut.end ? cut : range{begin, begin};
}

/// Bytes of scratch memory for the partial totals of a launch; none where one group writes the total itself.
[[nodiscard]] constexpr std::size_t partial_bytes(std::int64_t groups, std::size_t cell) {
  return groups > 1 ? static_cast<std::size_t>(groups) * cell : 0;
}

}  // namespace rlhf::inline v1::launch
