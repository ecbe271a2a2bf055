#pragma once
// Matrix products on lanes: tiles of the result, each from packed blocks of the factors.
//
// Not Eigen's own product: its templates have the same names whatever the instruction set, so two translation units with
// different -m flags could not be linked together, and it sums an element in an order that depends on where its row stands.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "rlhf/backend/concept.hpp"
#include "rlhf/backend/eigen/lane_math.hpp"
#include "rlhf/backend/eigen/product_panels.hpp"
#include "rlhf/math/product.hpp"

namespace rlhf::inline v1 {

namespace lane_detail {

/// One tile of C is a "row" of the backend's: whoever takes it packs what it needs of A and B on its own stack.
template <class T, class L, class C, class Space, unsigned Isa>
struct product_tile {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  using number = lane<T, 2, Isa>;
  static constexpr int width = number::size;                           // columns of one register block
  static constexpr int height = packet<T, Isa>::bytes == 64 ? 12 : 6;  // rows of it: both fill the registers
  static constexpr std::int64_t most_rows = 768 / static_cast<std::int64_t>(sizeof(T)), most_columns = 128, depth = 128;
  static_assert(most_rows % height == 0 && most_columns % width == 0);

  factor<L, Space> a, b;
  view<C, 2, Space> c;
  bool add;
  std::int64_t down, across;  // tiles above and beside one another
  std::int64_t tall, broad;   // the rows and columns of one

  product_tile(const factor<L, Space>& a_, const factor<L, Space>& b_, const view<C, 2, Space>& c_, bool add_,
               std::int64_t threads)
      : a(a_), b(b_), c(c_), add(add_) {
    cut((c.rows + most_rows - 1) / most_rows, (c.columns + most_columns - 1) / most_columns);
    // The smaller a tile, the more is packed for each number: only where threads would have none or wait for the last one.
    constexpr std::int64_t each = 4;
    while (threads > 1 && down * across < each * threads && (tall > height || broad > width))
      tall > height && (tall >= broad || broad <= width) ? cut(2 * down, across) : cut(down, 2 * across);
  }
  [[nodiscard]] std::int64_t tiles() const { return down * across; }
  /// About what one takes, at two registers of products a nanosecond.
  [[nodiscard]] std::int64_t nanoseconds() const { return tall * broad * a.columns() / number::size; }

  template <class Team>
  void operator()(std::int64_t tile, Team&, accumulator<T, 0, 0>&) const {
    alignas(64) T from_a[static_cast<std::size_t>(most_rows * depth)];
    alignas(64) T from_b[static_cast<std::size_t>(depth * most_columns)];
    alignas(64) T sum[static_cast<std::size_t>(most_rows * most_columns)];
    // Tiles above one another follow one another: they take the same columns of B.
    const std::int64_t i = tile % down * tall, j = tile / down * broad;
    const std::int64_t rows = std::min(tall, c.rows - i), columns = std::min(broad, c.columns - j);
    std::fill(sum, sum + rows * most_columns, T(0));
    for (std::int64_t k = 0; k < a.columns(); k += depth) {
      const std::int64_t deep = std::min(depth, a.columns() - k), then = k + deep;
      panels<height, T, L, Isa>::pack(from_a, a.at(i, k), a.matrix.pitch, a.transposed, rows, deep);
      panels<width, T, L, Isa>::pack(from_b, b.at(k, j), b.matrix.pitch, !b.transposed, columns, deep);
      const std::int64_t next = std::min(depth, a.columns() - then);
      for (std::int64_t y = 0; y < columns; y += width) {
        // What comes after this block, a part at a time: the processor does not foresee it in time.
        const part some{y, y + width, columns};
        if (next > 0) {
          fetch(a.at(i, then), a.matrix.pitch, a.transposed ? next : rows, a.transposed ? rows : next, some);
          fetch(b.at(then, j), b.matrix.pitch, b.transposed ? columns : next, b.transposed ? next : columns, some);
        } else {
          fetch(c.row(i) + j, c.pitch, rows, columns, some);
        }
        for (std::int64_t x = 0; x < rows; x += height)
          block(deep, from_a + x * deep, from_b + y * deep, sum + x * most_columns + y);
      }
    }
    for (std::int64_t x = 0; x < rows; ++x) write(c.row(i + x) + j, sum + x * most_columns, columns);
  }

 private:
  /// Tiles as even as whole register blocks allow.
  void cut(std::int64_t rows, std::int64_t columns) {
    const auto up = [](std::int64_t n, std::int64_t by) { return by > 0 ? (n + by - 1) / by : 0; };
    tall = up(up(c.rows, rows), height) * height;
    broad = up(up(c.columns, columns), width) * width;
    down = up(c.rows, tall);
    across = up(c.columns, broad);
  }
  /// From `begin` to `end`, of `all`.
  struct part {
    std::int64_t begin, end, all;
  };
  /// Asks for some of the rows of a matrix. Inlined: GCC drops the call of a function that does nothing but this.
  template <class E>
  RLHF_INLINE static void fetch(const E* from, std::int64_t pitch, std::int64_t rows, std::int64_t columns, part some) {
    constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(E));
    for (std::int64_t r = rows * some.begin / some.all; r < rows * std::min(some.end, some.all) / some.all; ++r)
      for (std::int64_t q = 0; q < columns; q += line) __builtin_prefetch(from + r * pitch + q, 0, 2);
  }
  /// sum [height, width] += a [deep, height] transposed * b [deep, width].
  RLHF_INLINE static void block(std::int64_t deep, const T* from_a, const T* from_b, T* sum) {
    number kept[static_cast<unsigned>(height)];
#pragma GCC unroll 12
    for (int r = 0; r < static_cast<int>(height); ++r) kept[r] = memory_traits<number>::load(sum + r * most_columns);
    for (std::int64_t q = 0; q < deep; ++q) {
      const number row = memory_traits<number>::load(from_b + q * width);
#pragma GCC unroll 12
      for (int r = 0; r < static_cast<int>(height); ++r) kept[r] = kept[r] + number(from_a[q * height + r]) * row;
    }
#pragma GCC unroll 12
    for (int r = 0; r < static_cast<int>(height); ++r) memory_traits<number>::store(sum + r * most_columns, kept[r]);
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
/// beside it, nor on the number of threads. Memory: about 256 KiB of each thread's stack (320 KiB for double).
template <unsigned Isa = instruction_set>
struct basic_eigen_product {
  template <class B, class L, class C>
    requires(backend<B> && std::is_same_v<typename B::space, host_space>)
  status operator()(B& be, const factor<L>& a, const factor<L>& b, const view<C, 2>& c, bool add) const {
    using kernel = lane_detail::product_tile<compute_t<L>, L, C, host_space, Isa>;
    std::int64_t threads = 1;
    if constexpr (requires { be.threads(); }) threads = be.threads();
    const kernel tile(a, b, c, add, threads);
    return be.rows(tile.tiles(), tile, nullptr);
  }
};
using eigen_product = basic_eigen_product<>;

}  // namespace rlhf::inline v1
