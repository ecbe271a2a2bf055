#pragma once
// Short sequences that one thread each walks, from memory that its block shares.
//
// Neighbouring threads that walk neighbouring sequences in memory touch addresses a sequence apart: of each 32 bytes that move, 4
// are wanted. So a block copies the elements of some sequences side by side, each thread walks one there, and what they wrote goes
// back side by side. A row of shared memory has an odd number of elements: threads at the same place of theirs meet no bank twice.

#include <cstdint>

#include "rlhf/backend/team/segments.hpp"

namespace rlhf::inline v1::team_detail {

/// segment_reduce of a kernel that finishes alone and says which arrays it reads and writes.
template <class Kernel, class Space>
struct staged_reduce_body {
  using S = typename Kernel::stored;
  static constexpr int arrays = Kernel::staged;
  static constexpr int lanes = static_cast<int>(16 / sizeof(S));
  static constexpr int room = launch::shared_bytes / static_cast<int>(sizeof(S)) / (arrays + 1);  ///< elements an array

  Kernel kernel;
  layout<Space> sequences;
  std::int64_t tile = 0;  ///< sequences that a block stages at a time; 0: they are too long for that
  bool packs = false;     ///< padded: 16 bytes at a time
  float rows = 0;         ///< padded: rows in what is copied at a time

  [[nodiscard]] static staged_reduce_body of(const Kernel& kernel, const layout<Space>& sequences) {
    staged_reduce_body body{kernel, sequences};
    std::uintptr_t any = reinterpret_cast<std::uintptr_t>(kernel.staged_output());
    bool all = any != 0;
    for (int k = 0; k < arrays; ++k) {
      all = all && kernel.staged_input(k) != nullptr;
      any |= reinterpret_cast<std::uintptr_t>(kernel.staged_input(k));
    }
    if (!all || sequences.sequences <= 0) return body;
    if (sequences.offsets == nullptr) {
      body.tile = launch::staged_tile(room, sequences.width | 1);
      body.packs = sequences.width % lanes == 0 && any % 16 == 0;
      body.rows = static_cast<float>(body.packs ? lanes : 1) / static_cast<float>(sequences.width);
    } else {
      // Some are longer than others.
      const std::int64_t average = launch::ceil_div(sequences.tokens, sequences.sequences);
      body.tile = launch::staged_tile(room, average + average / 4 + 1);
    }
    return body;
  }

  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t count) const {
    Kernel own = kernel;
    backend_detail::prepare(own);
    typename Group::template common<S, (arrays + 1) * room> memory;
    S* const shared = memory.data();
    for (std::int64_t first = index * tile; first < sequences.sequences; first += count * tile) {
      const int some = static_cast<int>(launch::smaller(tile, sequences.sequences - first));
      if (sequences.offsets == nullptr)
        stage(group, own, shared, padded_tile{static_cast<int>(sequences.width), rows, packs, first}, first, some);
      else if (const packed_tile tile_of{sequences.offsets + first}; tile_of.elements(some) + some <= room)
        stage(group, own, shared, tile_of, first, some);
      else  // longer ones than the average: where they are
        group.run([&](int t) {
          for (int r = t; r < some; r += Group::width) own.finish(first + r, totals_of<Kernel>{});
        });
    }
  }

 private:
  template <int N>
  using words = pack_detail::words<S, N>;

  /// Sequences of one length: copied in packs, where each row is a whole number of those.
  struct padded_tile {
    int width;
    float rows;
    bool packs;
    std::int64_t first;
    [[nodiscard]] RLHF_HD RLHF_INLINE std::int64_t begin() const { return first * width; }
    [[nodiscard]] RLHF_HD RLHF_INLINE int length(int) const { return width; }
    [[nodiscard]] RLHF_HD RLHF_INLINE int row(int r) const { return r * (width | 1); }

    template <int Width>
    RLHF_HD RLHF_INLINE void copy_in(int t, int some, const S* from, S* shared) const {
      const int n = some * width;
      if (lanes > 1 && packs) {
        words<lanes> w[rounds<Width>] = {};  // all on their way before the first is stored
        for (int k = 0; k < rounds<Width>; ++k)
          if (const int i = (k * Width + t) * lanes; i < n) w[k] = pack_detail::read<words<lanes>>(from + i);
        for (int k = 0; k < rounds<Width>; ++k)
          if (const int p = k * Width + t; p * lanes < n)
            for (int j = 0; j < lanes; ++j) shared[place(p, p * lanes) + j] = w[k].s[j];
      } else {
        for (int i = t; i < n; i += Width) shared[place(i, i)] = from[i];
      }
    }
    template <int Width>
    RLHF_HD RLHF_INLINE void copy_out(int t, int some, const S* shared, S* to) const {
      const int n = some * width;
      if (lanes > 1 && packs) {
        for (int k = 0; k < rounds<Width>; ++k)
          if (const int p = k * Width + t; p * lanes < n) {
            words<lanes> w;
            for (int j = 0; j < lanes; ++j) w.s[j] = shared[place(p, p * lanes) + j];
            pack_detail::write(to + p * lanes, w);
          }
      } else {
        for (int i = t; i < n; i += Width) to[i] = shared[place(i, i)];
      }
    }

   private:
    template <int Width>
    static constexpr int rounds = (room / lanes + Width - 1) / Width;
    /// Where element i lies, the first of what is copied as number p. Exact: the middle of it is half a piece away from the next
    /// row, and there are less than 2^20 of them.
    [[nodiscard]] RLHF_HD RLHF_INLINE int place(int p, int i) const {
      const int row = static_cast<int>((static_cast<float>(p) + 0.5f) * rows);
      return i + ((width | 1) - width) * row;
    }
  };

  /// Sequences of any length: eight threads copy one.
  struct packed_tile {
    const std::int64_t* offsets;
    static constexpr int together = 8;
    [[nodiscard]] RLHF_HD RLHF_INLINE std::int64_t begin() const { return offsets[0]; }
    [[nodiscard]] RLHF_HD RLHF_INLINE std::int64_t elements(int some) const { return offsets[some] - offsets[0]; }
    [[nodiscard]] RLHF_HD RLHF_INLINE int length(int r) const { return static_cast<int>(offsets[r + 1] - offsets[r]); }
    /// One element of room between two: rows of one length then lie an odd number apart where that is even.
    [[nodiscard]] RLHF_HD RLHF_INLINE int row(int r) const { return static_cast<int>(offsets[r] - offsets[0]) + r; }

    template <int Width>
    RLHF_HD RLHF_INLINE void copy_in(int t, int some, const S* from, S* shared) const {
      for (int r = t / together; r < some; r += Width / together) {
        const int at = row(r), n = length(r);
        for (int j = t % together; j < n; j += together) shared[at + j] = from[at - r + j];
      }
    }
    template <int Width>
    RLHF_HD RLHF_INLINE void copy_out(int t, int some, const S* shared, S* to) const {
      for (int r = t / together; r < some; r += Width / together) {
        const int at = row(r), n = length(r);
        for (int j = t % together; j < n; j += together) to[at - r + j] = shared[at + j];
      }
    }
  };

  template <class Group, class Tile>
  RLHF_HD RLHF_INLINE static void stage(Group& group, const Kernel& own, S* shared, const Tile& rows_of,
                                        std::int64_t first, int some) {
    S* const written = shared + arrays * room;
    const std::int64_t begin = rows_of.begin();
    group.run([&](int t) {
      for (int k = 0; k < arrays; ++k)
        rows_of.template copy_in<Group::width>(t, some, own.staged_input(k) + begin, shared + k * room);
    });
    group.barrier();
    group.run([&](int t) {
      for (int r = t; r < some; r += Group::width) {
        staged_row<S, arrays> row;
        for (int k = 0; k < arrays; ++k) row.in[k] = shared + k * room + rows_of.row(r);
        row.out = written + rows_of.row(r);
        row.n = rows_of.length(r);
        own.finish(first + r, row);
      }
    });
    group.barrier();
    group.run([&](int t) { rows_of.template copy_out<Group::width>(t, some, written, own.staged_output() + begin); });
    group.barrier();  // the memory is used again
  }
};

}  // namespace rlhf::inline v1::team_detail
