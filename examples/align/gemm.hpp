#pragma once
// Matrix products of row-major arrays whose every element is summed in one fixed order, whatever the number of rows.
//
// That is why they are written here: a general library (Eigen, a BLAS) sums an element in an order that depends on
// where its row falls in the batch, so a batch split in another way would give other bits, and a sampler other tokens.

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "align/pack.hpp"

namespace align {

/// Columns of one panel: a cache line.
template <class Scalar>
inline constexpr std::ptrdiff_t panel_columns = static_cast<std::ptrdiff_t>(64 / sizeof(Scalar));

/// A right-hand matrix [depth, columns] laid out for `multiply`: panels of columns, each depth x panel_columns
/// contiguous.
template <class Scalar>
struct packed_matrix {
  std::ptrdiff_t depth = 0;
  std::ptrdiff_t columns = 0;
  std::vector<Scalar> panels = {};

  void resize(std::ptrdiff_t new_depth, std::ptrdiff_t new_columns) {
    depth = new_depth, columns = new_columns;
    const std::ptrdiff_t count = (columns + panel_columns<Scalar> - 1) / panel_columns<Scalar>;
    panels.assign(static_cast<std::size_t>(count * depth * panel_columns<Scalar>), Scalar{0});
  }

  Scalar& at(std::ptrdiff_t row, std::ptrdiff_t column) {
    const std::ptrdiff_t panel = column / panel_columns<Scalar>, lane = column % panel_columns<Scalar>;
    return panels[static_cast<std::size_t>((panel * depth + row) * panel_columns<Scalar> + lane)];
  }

  /// Takes `weight` [rows, width] as it is, at (first_row, first_column).
  void set(const Scalar* weight, std::ptrdiff_t rows, std::ptrdiff_t width, std::ptrdiff_t first_row = 0,
           std::ptrdiff_t first_column = 0) {
    for (std::ptrdiff_t i = 0; i < rows; ++i)
      for (std::ptrdiff_t j = 0; j < width; ++j) at(first_row + i, first_column + j) = weight[i * width + j];
  }

  /// Takes the transpose of `weight` [rows, width], at (first_row, first_column).
  void set_transposed(const Scalar* weight, std::ptrdiff_t rows, std::ptrdiff_t width, std::ptrdiff_t first_row = 0,
                      std::ptrdiff_t first_column = 0) {
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      Scalar* const to = &at(first_row, first_column + i);
      for (std::ptrdiff_t j = 0; j < width; ++j) to[j * panel_columns<Scalar>] = weight[i * width + j];
    }
  }
};

namespace gemm_detail {

/// Rows of one block: with the panel's vectors they fill the registers and hide the latency of the multiply-adds.
inline constexpr int block_rows = pack_bytes == 64 ? 12 : pack_bytes == 32 ? 6 : 3;

/// c [Rows, columns] (+)= a [Rows, depth] * b [depth, Parts packs]. A transposed `a` is stored [depth, Rows].
template <int Rows, int Parts, bool Transposed, bool Accumulate, class Scalar>
RLHF_INLINE void block(std::ptrdiff_t depth, const Scalar* a, std::ptrdiff_t a_pitch, const Scalar* b,
                       std::ptrdiff_t b_pitch, Scalar* c, std::ptrdiff_t c_pitch, std::ptrdiff_t columns) {
  constexpr std::ptrdiff_t width = lanes<Scalar>;
  const auto cell = [&](int r, std::ptrdiff_t k) -> const Scalar& {
    return Transposed ? a[k * a_pitch + r] : a[r * a_pitch + k];
  };
  // Folds instead of loops, so that the sums stay in registers at every optimization level.
  [&]<int... I>(std::integer_sequence<int, I...>) {
    pack<Scalar> sum[sizeof...(I)] = {};
    for (std::ptrdiff_t k = 0; k < depth; ++k) {
      const Scalar* const row = b + k * b_pitch;
      ((sum[I] += cell(I / Parts, k) * load(row + I % Parts * width)), ...);
    }
    const auto put = [&](int i) {
      Scalar* const to = c + i / Parts * c_pitch + i % Parts * width;
      const std::ptrdiff_t left = columns - i % Parts * width;
      if (left >= width) {
        store(to, Accumulate ? load(to) + sum[i] : sum[i]);
      } else {
        Scalar lane[static_cast<std::size_t>(width)];
        store(lane, sum[i]);
        for (std::ptrdiff_t j = 0; j < left; ++j) to[j] = Accumulate ? to[j] + lane[j] : lane[j];
      }
    };
    (put(I), ...);
  }(std::make_integer_sequence<int, Rows * Parts>{});
}

/// Calls the block of exactly `rows` rows, 1 ... Rows.
template <int Rows, int Parts, bool Transposed, bool Accumulate, class Scalar>
RLHF_INLINE void block_of(std::ptrdiff_t rows, std::ptrdiff_t depth, const Scalar* a, std::ptrdiff_t a_pitch,
                          const Scalar* b, std::ptrdiff_t b_pitch, Scalar* c, std::ptrdiff_t c_pitch,
                          std::ptrdiff_t columns) {
  if (rows >= Rows)
    block<Rows, Parts, Transposed, Accumulate>(depth, a, a_pitch, b, b_pitch, c, c_pitch, columns);
  else if constexpr (Rows > 1)
    block_of<Rows - 1, Parts, Transposed, Accumulate>(rows, depth, a, a_pitch, b, b_pitch, c, c_pitch, columns);
}

/// One panel of columns for all rows. A last panel that fits in one pack does not compute the others.
template <bool Transposed, bool Accumulate, class Scalar>
void panel(std::ptrdiff_t rows, std::ptrdiff_t depth, const Scalar* a, std::ptrdiff_t a_pitch, const Scalar* b,
           std::ptrdiff_t b_pitch, Scalar* c, std::ptrdiff_t c_pitch, std::ptrdiff_t columns) {
  constexpr int parts = static_cast<int>(panel_columns<Scalar> / lanes<Scalar>);
  for (std::ptrdiff_t i = 0; i < rows; i += block_rows) {
    const Scalar* const from = a + (Transposed ? i : i * a_pitch);
    if (parts > 1 && columns <= lanes<Scalar>)
      block_of<block_rows, 1, Transposed, Accumulate>(rows - i, depth, from, a_pitch, b, b_pitch, c + i * c_pitch,
                                                      c_pitch, columns);
    else
      block_of<block_rows, parts, Transposed, Accumulate>(rows - i, depth, from, a_pitch, b, b_pitch, c + i * c_pitch,
                                                          c_pitch, columns);
  }
}

}  // namespace gemm_detail

/// c [rows, b.columns] = a [rows, b.depth] * b, or += with Accumulate. Pitches are the elements from a row to the next.
template <bool Accumulate = false, class Scalar>
void multiply(std::ptrdiff_t rows, const Scalar* a, std::ptrdiff_t a_pitch, const packed_matrix<Scalar>& b, Scalar* c,
              std::ptrdiff_t c_pitch) {
  constexpr std::ptrdiff_t cached = 8 * gemm_detail::block_rows;  // rows that stay in cache while the panels pass by
  for (std::ptrdiff_t i = 0; i < rows; i += cached)
    for (std::ptrdiff_t j = 0; j < b.columns; j += panel_columns<Scalar>)
      gemm_detail::panel<false, Accumulate>(std::min(cached, rows - i), b.depth, a + i * a_pitch, a_pitch,
                                            b.panels.data() + j * b.depth, panel_columns<Scalar>, c + i * c_pitch + j,
                                            c_pitch, b.columns - j);
}

/// The same with b [depth, columns] as it lies in memory. This one and the next read up to one panel past the end of a
/// row of b and throw those lanes away, so b's memory must extend that far (align::buffer's does).
template <class Scalar>
void multiply(std::ptrdiff_t rows, std::ptrdiff_t depth, std::ptrdiff_t columns, const Scalar* a,
              std::ptrdiff_t a_pitch, const Scalar* b, std::ptrdiff_t b_pitch, Scalar* c, std::ptrdiff_t c_pitch) {
  for (std::ptrdiff_t j = 0; j < columns; j += panel_columns<Scalar>)
    gemm_detail::panel<false, false>(rows, depth, a, a_pitch, b + j, b_pitch, c + j, c_pitch, columns - j);
}

/// c [m, n] += transpose(a [rows, m]) * b [rows, n]: the gradient of a weight from that of its output and from its
/// input.
template <class Scalar>
void multiply_transposed(std::ptrdiff_t rows, std::ptrdiff_t m, std::ptrdiff_t n, const Scalar* a,
                         std::ptrdiff_t a_pitch, const Scalar* b, std::ptrdiff_t b_pitch, Scalar* c,
                         std::ptrdiff_t c_pitch) {
  for (std::ptrdiff_t j = 0; j < n; j += panel_columns<Scalar>)
    gemm_detail::panel<true, true>(m, rows, a, a_pitch, b + j, b_pitch, c + j, c_pitch, n - j);
}

}  // namespace align
