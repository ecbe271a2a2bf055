#pragma once
// A block of a factor, packed for a product: panels of a few lines beside one another, turned in registers where they must be.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "rlhf/backend/eigen/lane_memory.hpp"

namespace rlhf::inline v1 {

namespace lane_detail {

/// A square of elements in registers.
template <class T, unsigned Isa>
struct square {
  using P = packet<T, Isa>;
  static constexpr int size = P::size;
  typename P::type row[static_cast<unsigned>(size)];

  RLHF_INLINE void transpose() { swap_blocks<1>(); }

 private:
  /// In every block of 2H x 2H: exchanges the two blocks of H x H beside its diagonal. Done for H = 1, 2, 4, ... everything
  /// has changed sides.
  template <int H>
  RLHF_INLINE void swap_blocks() {
#pragma GCC unroll 16
    for (int i = 0; i < size; ++i) {
      if ((i & H) != 0) continue;
      const typename P::type upper = row[i], lower = row[i + H];
      row[i] = [&]<int... j>(std::integer_sequence<int, j...>) {
        return __builtin_shufflevector(upper, lower, ((j & H) != 0 ? size + j - H : j)...);
      }(std::make_integer_sequence<int, size>{});
      row[i + H] = [&]<int... j>(std::integer_sequence<int, j...>) {
        return __builtin_shufflevector(upper, lower, ((j & H) != 0 ? size + j : j + H)...);
      }(std::make_integer_sequence<int, size>{});
    }
    if constexpr (2 * H < size) swap_blocks<2 * H>();
  }
};

/// Lines (rows of the left factor, columns of the right one) in panels of `Width`: element k of line x goes to
/// `to[x / Width * Width * deep + k * Width + x % Width]`. Lines that the last panel lacks repeat the last line: nobody reads
/// what comes of them.
template <int Width, class T, class L, unsigned Isa>
struct panels {
  using format = stored<T, Isa, L>;
  static constexpr int size = packet<T, Isa>::size;
  static constexpr int whole = Width / size * size;

  /// `beside`: the lines lie beside one another, rows of memory go along them; else each line lies in a row of memory.
  static RLHF_INLINE void pack(T* to, const L* from, std::int64_t pitch, bool beside, std::int64_t lines,
                               std::int64_t deep) {
    if (beside)
      copy(to, from, pitch, lines, deep);
    else
      turn(to, from, pitch, lines, deep);
  }

 private:
  static RLHF_INLINE void copy(T* to, const L* from, std::int64_t pitch, std::int64_t lines, std::int64_t deep) {
    for (std::int64_t k = 0; k < deep; ++k) {
      const L* const row = from + k * pitch;
      T* at = to + k * Width;
      std::int64_t x = 0;
      for (; lines - x >= Width; x += Width, at += Width * deep) {
#pragma GCC unroll 16
        for (int r = 0; r < whole; r += size) stored<T, Isa, T>::store(at + r, format::load(row + x + r));
        T rest[static_cast<unsigned>(size)];  // loaded before stored, that both be one instruction
#pragma GCC unroll 16
        for (int r = whole; r < Width; ++r) rest[r - whole] = memory_traits<T>::load(row + x + r);
        std::memcpy(at + whole, rest, sizeof(T) * static_cast<unsigned>(Width - whole));
      }
      if (x < lines)
        for (std::int64_t r = 0; r < Width; ++r) at[r] = memory_traits<T>::load(row + std::min(x + r, lines - 1));
    }
  }
  static RLHF_INLINE void turn(T* to, const L* from, std::int64_t pitch, std::int64_t lines, std::int64_t deep) {
    for (std::int64_t x = 0; x < lines; x += Width, to += Width * deep) {
      const L* line[static_cast<unsigned>(Width)];
      for (int r = 0; r < Width; ++r) line[r] = from + std::min(x + r, lines - 1) * pitch;
      std::int64_t k = 0;
      for (; deep - k >= size; k += size) turn_squares<0>(to + k * Width, line, k);
      for (; k < deep; ++k)
        for (int r = 0; r < Width; ++r) to[k * Width + r] = memory_traits<T>::load(line[r] + k);
    }
  }
  /// Elements [k, k + size) of the lines from `First` on.
  template <int First>
  static RLHF_INLINE void turn_squares(T* to, const L* const* line, std::int64_t k) {
    constexpr int count = std::min(size, Width - First);
    square<T, Isa> s;
#pragma GCC unroll 16
    for (int r = 0; r < size; ++r) s.row[r] = format::load(line[First + std::min(r, count - 1)] + k);
    s.transpose();
#pragma GCC unroll 16
    for (int q = 0; q < size; ++q)
      std::memcpy(to + q * Width + First, &s.row[q], sizeof(T) * static_cast<unsigned>(count));
    if constexpr (First + count < Width) turn_squares<First + count>(to, line, k);
  }
};

}  // namespace lane_detail

}  // namespace rlhf::inline v1
