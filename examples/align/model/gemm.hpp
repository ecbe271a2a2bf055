#pragma once
// Matrix products of row-major arrays whose every element is summed in one fixed order, whatever the number of rows.
//
// That is why they are written here: a general library (Eigen, a BLAS) sums an element in an order that depends on
// where its row falls in the batch, so a batch split in another way would give other bits, and a sampler other tokens.

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include "align/model/pack.hpp"
#include "rlhf/core/numeric.hpp"

namespace align {

/// Columns of one panel: a cache line.
template <class Scalar>
inline constexpr std::ptrdiff_t panel_columns = static_cast<std::ptrdiff_t>(64 / sizeof(Scalar));

/// Packs of a row of a panel.
template <class Scalar>
inline constexpr int panel_packs = static_cast<int>(panel_columns<Scalar> / lanes<Scalar>);

/// A right-hand matrix [depth, columns] laid out for `multiply`: panels of columns, each depth x panel_columns
/// contiguous. It holds its elements as they are or rounded to bfloat16, to nearest even, in half the memory; products widen
/// them again in registers, so that they are those of the rounded elements to the bit.
///
/// Where a row of a panel is several packs, a bfloat16 of its first half lies beside that of its second half which has the same
/// index there: see load_of_pairs.
template <class Scalar>
struct packed_matrix {
  std::ptrdiff_t depth = 0;
  std::ptrdiff_t columns = 0;
  std::vector<Scalar> panels = {};
  std::vector<rlhf::bfloat16> rounded = {};  ///< instead of `panels`

  [[nodiscard]] static std::ptrdiff_t elements(std::ptrdiff_t depth, std::ptrdiff_t columns) {
    return (columns + panel_columns<Scalar> - 1) / panel_columns<Scalar> * depth * panel_columns<Scalar>;
  }

  void resize(std::ptrdiff_t new_depth, std::ptrdiff_t new_columns, bool as_bfloat16 = false) {
    depth = new_depth, columns = new_columns;
    const auto count = static_cast<std::size_t>(elements(depth, columns));
    panels.assign(as_bfloat16 ? 0 : count, Scalar{0});
    rounded.assign(as_bfloat16 ? count : 0, rlhf::bfloat16{});
  }

  /// What products read there.
  [[nodiscard]] Scalar at(std::ptrdiff_t row, std::ptrdiff_t column) const {
    return rounded.empty() ? panels[index<Scalar>(row, column)]
                           : static_cast<Scalar>(static_cast<float>(rounded[index<rlhf::bfloat16>(row, column)]));
  }

  /// Takes `weight` [rows, width] as it is, at (first_row, first_column).
  void set(const Scalar* weight, std::ptrdiff_t rows, std::ptrdiff_t width, std::ptrdiff_t first_row = 0,
           std::ptrdiff_t first_column = 0) {
    fill([&]<class Stored>(Stored* to) {
      for (std::ptrdiff_t i = 0; i < rows; ++i)
        for (std::ptrdiff_t j = 0; j < width; ++j)
          to[index<Stored>(first_row + i, first_column + j)] = as<Stored>(weight[i * width + j]);
    });
  }

  /// Takes the transpose of `weight` [rows, width], at (first_row, first_column).
  void set_transposed(const Scalar* weight, std::ptrdiff_t rows, std::ptrdiff_t width, std::ptrdiff_t first_row = 0,
                      std::ptrdiff_t first_column = 0) {
    fill([&]<class Stored>(Stored* all) {
      for (std::ptrdiff_t i = 0; i < rows; ++i) {
        Stored* const to = all + index<Stored>(first_row, first_column + i);
        for (std::ptrdiff_t j = 0; j < width; ++j) to[j * panel_columns<Scalar>] = as<Stored>(weight[i * width + j]);
      }
    });
  }

 private:
  template <class Stored>
  [[nodiscard]] std::size_t index(std::ptrdiff_t row, std::ptrdiff_t column) const {
    const std::ptrdiff_t panel = column / panel_columns<Scalar>, lane = column % panel_columns<Scalar>;
    constexpr std::ptrdiff_t half = panel_columns<Scalar> / 2;
    constexpr bool paired = !std::is_same_v<Stored, Scalar> && panel_packs<Scalar> > 1;
    return static_cast<std::size_t>((panel * depth + row) * panel_columns<Scalar> +
                                    (paired ? lane % half * 2 + lane / half : lane));
  }
  template <class Stored>
  [[nodiscard]] static Stored as(Scalar x) {
    if constexpr (std::is_same_v<Stored, Scalar>)
      return x;
    else
      return Stored(static_cast<float>(x));
  }
  template <class F>
  void fill(F&& f) {
    if (rounded.empty())
      f(panels.data());
    else
      f(rounded.data());
  }
};

namespace gemm_detail {

/// Rows of one block: with the panel's vectors they fill the registers and hide the latency of the multiply-adds.
inline constexpr int block_rows = pack_bytes == 64 ? 12 : pack_bytes == 32 ? 6 : 3;

/// Pack `Part` of a row of a panel.
template <int Part, class Scalar>
RLHF_INLINE pack<Scalar> load_part(const Scalar* row) {
  return load(row + Part * lanes<Scalar>);
}
template <int Part, class Scalar>
RLHF_INLINE pack<Scalar> load_part(const rlhf::bfloat16* row) {
  constexpr int half = panel_packs<Scalar> / 2;
  if constexpr (half == 0)
    return load_widened<Scalar>(row);
  else
    return load_of_pairs<Scalar, (Part >= half)>(row + Part % half * 2 * lanes<Scalar>);
}

/// c [Rows, columns] (+)= a [Rows, depth] * b [depth, Parts packs]. A transposed `a` is stored [depth, Rows].
template <int Rows, int Parts, bool Transposed, bool Accumulate, class Scalar, class Stored>
RLHF_INLINE void block(std::ptrdiff_t depth, const Scalar* a, std::ptrdiff_t a_pitch, const Stored* b,
                       std::ptrdiff_t b_pitch, Scalar* c, std::ptrdiff_t c_pitch, std::ptrdiff_t columns) {
  constexpr std::ptrdiff_t width = lanes<Scalar>;
  const auto cell = [&](int r, std::ptrdiff_t k) -> const Scalar& {
    return Transposed ? a[k * a_pitch + r] : a[r * a_pitch + k];
  };
  // Folds instead of loops, so that the sums stay in registers at every optimization level.
  [&]<int... I>(std::integer_sequence<int, I...>) {
    pack<Scalar> sum[sizeof...(I)] = {};
    for (std::ptrdiff_t k = 0; k < depth; ++k) {
      const Stored* const row = b + k * b_pitch;
      ((sum[I] += cell(I / Parts, k) * load_part<I % Parts, Scalar>(row)), ...);
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
template <int Rows, int Parts, bool Transposed, bool Accumulate, class Scalar, class Stored>
RLHF_INLINE void block_of(std::ptrdiff_t rows, std::ptrdiff_t depth, const Scalar* a, std::ptrdiff_t a_pitch,
                          const Stored* b, std::ptrdiff_t b_pitch, Scalar* c, std::ptrdiff_t c_pitch,
                          std::ptrdiff_t columns) {
  if (rows >= Rows)
    block<Rows, Parts, Transposed, Accumulate>(depth, a, a_pitch, b, b_pitch, c, c_pitch, columns);
  else if constexpr (Rows > 1)
    block_of<Rows - 1, Parts, Transposed, Accumulate>(rows, depth, a, a_pitch, b, b_pitch, c, c_pitch, columns);
}

/// One panel of columns for all rows. A last panel that fits in one pack does not compute the others.
template <bool Transposed, bool Accumulate, class Scalar, class Stored>
void panel(std::ptrdiff_t rows, std::ptrdiff_t depth, const Scalar* a, std::ptrdiff_t a_pitch, const Stored* b,
           std::ptrdiff_t b_pitch, Scalar* c, std::ptrdiff_t c_pitch, std::ptrdiff_t columns) {
  constexpr int parts = panel_packs<Scalar>;
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
  const auto by = [&](const auto* panels) {
    for (std::ptrdiff_t i = 0; i < rows; i += cached)
      for (std::ptrdiff_t j = 0; j < b.columns; j += panel_columns<Scalar>)
        gemm_detail::panel<false, Accumulate>(std::min(cached, rows - i), b.depth, a + i * a_pitch, a_pitch,
                                              panels + j * b.depth, panel_columns<Scalar>, c + i * c_pitch + j, c_pitch,
                                              b.columns - j);
  };
  if (b.rounded.empty())
    by(b.panels.data());
  else
    by(b.rounded.data());
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
