#pragma once
// Matrix products on lanes: tiles of the result, each from packed blocks of the factors.
//
// Not Eigen's own product: its templates have the same names whatever the instruction set, so two translation units with
// different -m flags could not be linked together, and it sums an element in an order that depends on where its row stands.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "rlhf/backend/concept.hpp"
#include "rlhf/backend/eigen/lane_math.hpp"
#include "rlhf/backend/eigen/lane_memory.hpp"
#include "rlhf/math/product.hpp"

namespace rlhf::inline v1 {

namespace lane_detail {

/// One tile of C is a "row" of the backend's: whoever takes it packs what it needs of A and B on its own stack.
template <class T, class L, class C, class Space, unsigned Isa>
struct product_tile {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  using number = lane<T, 2, Isa>;
  static constexpr std::int64_t width = number::size;                           // columns of one register block
  static constexpr std::int64_t height = packet<T, Isa>::bytes == 64 ? 12 : 6;  // rows of it: both fill the registers
  static constexpr std::int64_t tile_rows = 96, tile_columns = 128, depth = 128;
  static_assert(tile_rows % height == 0 && tile_columns % width == 0);

  factor<L, Space> a, b;
  view<C, 2, Space> c;
  bool add;

  [[nodiscard]] static std::int64_t tiles(const view<C, 2, Space>& of) {
    return (of.rows + tile_rows - 1) / tile_rows * ((of.columns + tile_columns - 1) / tile_columns);
  }

  template <class Team>
  void operator()(std::int64_t tile, Team&, accumulator<T, 0, 0>&) const {
    alignas(64) T from_a[tile_rows * depth];
    alignas(64) T from_b[depth * tile_columns];
    alignas(64) T sum[tile_rows * tile_columns];
    // Tiles above one another follow one another: they take the same columns of B.
    const std::int64_t down = (c.rows + tile_rows - 1) / tile_rows;
    const std::int64_t i = tile % down * tile_rows, j = tile / down * tile_columns;
    const std::int64_t rows = std::min(tile_rows, c.rows - i), columns = std::min(tile_columns, c.columns - j);
    std::fill(sum, sum + tile_rows * tile_columns, T(0));
    for (std::int64_t k = 0; k < a.columns(); k += depth) {
      const std::int64_t deep = std::min(depth, a.columns() - k);
      pack_a(from_a, i, rows, k, deep);
      pack_b(from_b, j, columns, k, deep);
      for (std::int64_t y = 0; y < columns; y += width)
        for (std::int64_t x = 0; x < rows; x += height)
          block(deep, from_a + x * deep, from_b + y * deep, sum + x * tile_columns + y);
    }
    for (std::int64_t x = 0; x < rows; ++x) write(c.row(i + x) + j, sum + x * tile_columns, columns);
  }

 private:
  /// Blocks of `height` rows, in each the rows side by side; rows beyond the end are 0.
  RLHF_INLINE void pack_a(T* to, std::int64_t i, std::int64_t rows, std::int64_t k, std::int64_t deep) const {
    for (std::int64_t x = 0; x < rows; x += height, to += height * deep) {
      const std::int64_t some = std::min(height, rows - x);
      if (some < height) std::fill(to, to + height * deep, T(0));
      if (a.transposed) {
        for (std::int64_t q = 0; q < deep; ++q)
          for (std::int64_t r = 0; r < some; ++r) to[q * height + r] = memory_traits<T>::load(a.at(i + x + r, k + q));
      } else {
        for (std::int64_t r = 0; r < some; ++r) {
          const L* const row = a.at(i + x + r, k);
          for (std::int64_t q = 0; q < deep; ++q) to[q * height + r] = memory_traits<T>::load(row + q);
        }
      }
    }
  }
  /// Blocks of `width` columns, in each the columns side by side; columns beyond the end are 0.
  RLHF_INLINE void pack_b(T* to, std::int64_t j, std::int64_t columns, std::int64_t k, std::int64_t deep) const {
    for (std::int64_t y = 0; y < columns; y += width, to += width * deep) {
      const std::int64_t some = std::min(width, columns - y);
      if (some < width) std::fill(to, to + width * deep, T(0));
      if (b.transposed) {
        for (std::int64_t r = 0; r < some; ++r) {
          const L* const row = b.at(k, j + y + r);
          for (std::int64_t q = 0; q < deep; ++q) to[q * width + r] = memory_traits<T>::load(row + q);
        }
      } else {
        for (std::int64_t q = 0; q < deep; ++q) {
          const L* const row = b.at(k + q, j + y);
          if (some == width)
            memory_traits<number>::store(to + q * width, memory_traits<number>::load(row));
          else
            for (std::int64_t r = 0; r < some; ++r) to[q * width + r] = memory_traits<T>::load(row + r);
        }
      }
    }
  }
  /// sum [height, width] += a [deep, height] transposed * b [deep, width].
  RLHF_INLINE static void block(std::int64_t deep, const T* from_a, const T* from_b, T* sum) {
    number kept[static_cast<unsigned>(height)];
#pragma GCC unroll 12
    for (int r = 0; r < static_cast<int>(height); ++r) kept[r] = memory_traits<number>::load(sum + r * tile_columns);
    for (std::int64_t q = 0; q < deep; ++q) {
      const number row = memory_traits<number>::load(from_b + q * width);
#pragma GCC unroll 12
      for (int r = 0; r < static_cast<int>(height); ++r) kept[r] = kept[r] + number(from_a[q * height + r]) * row;
    }
#pragma GCC unroll 12
    for (int r = 0; r < static_cast<int>(height); ++r) memory_traits<number>::store(sum + r * tile_columns, kept[r]);
  }
  RLHF_INLINE void write(C* to, const T* sum, std::int64_t columns) const {
    std::int64_t y = 0;
    for (; columns - y >= width; y += width) {
      number x = memory_traits<number>::load(sum + y);
      if (add) x = memory_traits<number>::load(to + y) + x;
      memory_traits<number>::store(to + y, x);
    }
    for (; y < columns; ++y) memory_traits<T>::store(to + y, add ? memory_traits<T>::load(to + y) + sum[y] : sum[y]);
  }
};

}  // namespace lane_detail

/// Matrix products for the Eigen backend: SIMD tiles on the backend's threads, any stored type, factors as they lie or
/// transposed. An element is summed along k in one order wherever it stands, so a row's bits do not depend on which rows are
/// beside it, nor on the number of threads. Memory: about 160 KiB of each thread's stack (320 KiB for double).
template <unsigned Isa = instruction_set>
struct basic_eigen_product {
  template <class B, class L, class C>
    requires(backend<B> && std::is_same_v<typename B::space, host_space>)
  status operator()(B& be, const factor<L>& a, const factor<L>& b, const view<C, 2>& c, bool add) const {
    using kernel = lane_detail::product_tile<compute_t<L>, L, C, host_space, Isa>;
    return be.rows(kernel::tiles(c), kernel{a, b, c, add}, nullptr);
  }
};
using eigen_product = basic_eigen_product<>;

}  // namespace rlhf::inline v1
