#pragma once
// The recurrences of a sequence by a group of threads: y_i = b_i + a_i y_{i+1}, from the last element to the first.
//
// A tile is a share of 32 bytes for each thread, the first thread having the last one. A thread first runs the kernel on it to
// find the map from what comes in to what goes out (an affine one; nothing is stored), the group composes those, and the thread
// runs the kernel again on what really comes in. A recurrence that reads another one's results is right once that one is: so
// maps are found in passes, one for each level of the kernel's recurrences. Shifts need no map: a thread hands its first element
// to the next one. Everything is done in an order that depends on the lengths alone.

#include <cstdint>
#include <type_traits>
#include <utility>

#include "rlhf/backend/concept.hpp"
#include "rlhf/backend/team/launch.hpp"
#include "rlhf/backend/team/pack.hpp"

namespace rlhf::inline v1::team_detail {

/// The maps of some recurrences over some elements.
template <class T, int K>
struct affine_maps {
  T a[static_cast<unsigned>(K)];
  T b[static_cast<unsigned>(K)];

  [[nodiscard]] RLHF_HD RLHF_INLINE static affine_maps identity() {
    affine_maps m;
    for (int k = 0; k < K; ++k) m.a[k] = T(1), m.b[k] = T(0);
    return m;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE T operator()(int k, T y) const { return affine<T>{a[k], b[k]}(y); }
};
/// First the earlier one, then the later one.
template <class T, int K>
struct compose_maps {
  RLHF_HD RLHF_INLINE affine_maps<T, K> operator()(const affine_maps<T, K>& earlier,
                                                   const affine_maps<T, K>& later) const {
    affine_maps<T, K> out;
    for (int k = 0; k < K; ++k) {
      const affine<T> both = affine<T>{later.a[k], later.b[k]}.after({earlier.a[k], earlier.b[k]});
      out.a[k] = both.a;
      out.b[k] = both.b;
    }
    return out;
  }
};
template <class T, int K>
struct carried {
  T y[static_cast<unsigned>(K)];
};

/// In which pass each recurrence of a kernel is found: at its level where the kernel tells levels; else in all passes, as many
/// as there are recurrences. Shifts, of level -1, are found in a pass -1 of their own.
template <class Kernel>
struct recurrences {
  static constexpr bool leveled = requires { Kernel::level(0); };

  [[nodiscard]] RLHF_HD static constexpr int level(int k) {
    if constexpr (leveled)
      return Kernel::level(k);
    else
      return 0 * k;
  }
  [[nodiscard]] RLHF_HD static constexpr int passes() {
    int most = leveled ? 0 : Kernel::scans;
    if (leveled)
      for (int k = 0; k < Kernel::scans; ++k) most = level(k) + 1 > most ? level(k) + 1 : most;
    return most;
  }
  [[nodiscard]] RLHF_HD static constexpr bool found(int k, int pass) {
    return leveled ? level(k) == pass : pass >= 0 && pass < passes();
  }
  [[nodiscard]] RLHF_HD static constexpr int count(int pass) {
    int n = 0;
    for (int k = 0; k < Kernel::scans; ++k) n += found(k, pass) ? 1 : 0;
    return n;
  }
  /// Its place among those that are found in that pass.
  template <int Pass>
  [[nodiscard]] RLHF_HD static constexpr int place(int k) {
    constexpr std::uint64_t all = places(Pass);
    return static_cast<int>(all >> (4 * k) & 15);
  }
  /// The pass that knows most of it before `pass`; negative where none does.
  [[nodiscard]] RLHF_HD static constexpr int known(int k, int pass) {
    return !leveled ? pass - 1 : level(k) < pass ? level(k) : -1;
  }
  static constexpr int shifts = count(-1);

 private:
  // Four bits each: a compiler for devices sees through a shift by a constant at once, through a loop too late to keep arrays
  // of carries in registers.
  [[nodiscard]] RLHF_HD static constexpr std::uint64_t places(int pass) {
    static_assert(Kernel::scans <= 16);
    std::uint64_t all = 0, next = 0;
    for (int k = 0; k < Kernel::scans; ++k) {
      all |= next << (4 * k);
      next += found(k, pass) ? 1u : 0u;
    }
    return all;
  }
};

template <class V>
struct lanes_of_number {
  static constexpr int size = 1;
  template <class W>
  [[nodiscard]] static RLHF_HD RLHF_INLINE auto& at(W& x, int) {
    return x;
  }
};
template <class T, int N, access How>
struct lanes_of_number<pack<T, N, How>> {
  static constexpr int size = N;
  template <class W>
  [[nodiscard]] static RLHF_HD RLHF_INLINE auto& at(W& x, int j) {
    return x.v[j];
  }
};

/// The scan argument of a kernel in one thread. It composes the maps that are found in that pass, or notes what is shifted.
template <class Kernel, int Pass>
struct thread_scan {
  using T = typename Kernel::scalar;
  using all = recurrences<Kernel>;
  static constexpr int K = all::count(Pass) > 0 ? all::count(Pass) : 1;
  carried<T, Kernel::scans> carry;
  affine_maps<T, K> map = affine_maps<T, K>::identity();
  carried<T, K> first{};

  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V inclusive(int k, const V& a, const V& b) {
    using lane = lanes_of_number<V>;
    V y;
    for (int j = lane::size - 1; j >= 0; --j) {
      step(k, lane::at(a, j), lane::at(b, j));
      lane::at(y, j) = carry.y[k];
    }
    return y;
  }
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V exclusive(int k, const V& a, const V& b) {
    using lane = lanes_of_number<V>;
    V y;
    for (int j = lane::size - 1; j >= 0; --j) {
      lane::at(y, j) = carry.y[k];
      step(k, lane::at(a, j), lane::at(b, j));
    }
    return y;
  }
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V next(int k, const V& x) {
    static_assert(all::shifts > 0,
                  "rlhf: a kernel, or estimator, that calls scan.next(k, x) has a member `static int level(int k)` "
                  "that is -1 for it");
    using lane = lanes_of_number<V>;
    V y;
    for (int j = lane::size - 1; j >= 0; --j) {
      lane::at(y, j) = carry.y[k];
      carry.y[k] = lane::at(x, j);
    }
    if constexpr (Pass == -1) first.y[all::template place<Pass>(k)] = carry.y[k];
    return y;
  }

 private:
  RLHF_HD RLHF_INLINE void step(int k, T a, T b) {
    const affine<T> one{a, b};
    carry.y[k] = one(carry.y[k]);
    if (all::found(k, Pass)) {
      const int at = all::template place<Pass>(k);
      const affine<T> both = one.after({map.a[at], map.b[at]});
      map.a[at] = both.a;
      map.b[at] = both.b;
    }
  }
};

/// A kernel in three steps: `fetch<V>(i)`, `solve(s, fetched, scan)`, `place(s, i, fetched, solved)`.
template <class Kernel>
concept scan_in_steps =
    requires(const Kernel& kernel) { kernel.template fetch<typename Kernel::scalar>(std::int64_t{}); };
/// May a thread walk its share as one number of several lanes?
template <class Kernel>
[[nodiscard]] bool walks_shares(const Kernel& kernel) {
  if constexpr (scan_in_steps<Kernel>)
    return kernel.unit_stride();
  else
    return false;
}

/// What such a kernel fetches.
template <class Kernel, class V>
struct fetched_by {
  struct type {};
};
template <class Kernel, class V>
  requires scan_in_steps<Kernel>
struct fetched_by<Kernel, V> {
  using type = decltype(std::declval<const Kernel&>().template fetch<V>(std::int64_t{}));
};
template <class Kernel, class V>
using fetched_of = typename fetched_by<Kernel, V>::type;

/// A part of a sequence walked by a group from its end.
template <class Kernel>
struct sequence_walk {
  using T = typename Kernel::scalar;
  using all_of = recurrences<Kernel>;
  static constexpr int K = Kernel::scans, S = all_of::shifts;
  static constexpr int share_of_thread = static_cast<int>(32 / sizeof(T));
  using carries = carried<T, K>;
  using wide = pack<T, share_of_thread, access::paired>;

  const Kernel& kernel;
  bool shares;  ///< walks_shares

  /// From `carry`, which what comes after the part has left, to what the part leaves. Without `Store` the passes up to `pass`,
  /// and in `found` the maps of the whole part by the last of them.
  template <bool Store, class Group>
  RLHF_HD RLHF_INLINE void walk(Group& group, std::int64_t s, segment part, carries& carry, int pass,
                                affine_maps<T, K>& found) const {
    if (part.begin >= part.end) return;
    const std::int64_t first = part.begin / share_of_thread, last = launch::ceil_div(part.end, share_of_thread);
    const std::int64_t whole_first = launch::ceil_div(part.begin, share_of_thread);
    const std::int64_t whole_last = shares ? part.end / share_of_thread : 0;
    tile<Group> now(group, s, part, first);
    for (now.top = last; now.top > first; now.top -= Group::width) {
      group.run([&](int t) {
        const std::int64_t p = now.top - 1 - t, low = p - (t % 2 == 0 ? 1 : 0);
        now.in[t] = carry;
        now.whole[t] = low >= whole_first && low + 2 <= whole_last;
        if constexpr (scan_in_steps<Kernel>)
          if (now.whole[t]) now.x[t] = kernel.template fetch<wide>(p * share_of_thread);
      });
      shift(now, carry);
      solve<Store, 0>(now, carry, pass, found);
      if constexpr (Store)
        group.run([&](int t) {
          thread_scan<Kernel, all_of::passes()> scan{now.in[t]};
          share<true>(now, t, scan);
        });
    }
  }
  /// What element i shifts to the one before it.
  RLHF_HD RLHF_INLINE void shifted(std::int64_t s, std::int64_t i, carries& carry) const {
    thread_scan<Kernel, -1> scan{carry};
    element<false>(s, i, scan);
    set_shifts(scan.first, carry);
  }

 private:
  template <class Group>
  struct tile {
    RLHF_HD RLHF_INLINE tile(Group& group_, std::int64_t s_, segment part_, std::int64_t first_)
        : group(group_), s(s_), part(part_), first(first_) {}
    Group& group;
    std::int64_t s;
    segment part;
    std::int64_t first;                        ///< the last share that there is
    std::int64_t top = 0;                      ///< behind the first thread's share
    typename Group::template per<carries> in;  ///< what comes into each thread's share
    typename Group::template per<bool> whole;  ///< is a share, and its neighbour's, all within the part?
    typename Group::template per<fetched_of<Kernel, wide>> x;
  };

  template <class X>
  RLHF_HD RLHF_INLINE static void set_shifts(const X& from, carries& to) {
    for (int k = 0; k < K; ++k)
      if (all_of::found(k, -1)) to.y[k] = from.y[all_of::template place<-1>(k)];
  }
  template <class Tile>
  RLHF_HD RLHF_INLINE void shift(Tile& now, carries& carry) const {
    if constexpr (S > 0) {
      using shifted = carried<T, S>;
      typename std::remove_reference_t<decltype(now.group)>::template per<shifted> x;
      now.group.run([&](int t) {
        thread_scan<Kernel, -1> scan{carry};
        const std::int64_t p = now.top - 1 - t;
        if (now.whole[t])
          share<false>(now, t, scan);
        else if (p >= now.first)
          element<false>(now.s, launch::larger(now.part.begin, p * share_of_thread), scan);
        x[t] = scan.first;
      });
      shifted before;
      for (int k = 0; k < K; ++k)
        if (all_of::found(k, -1)) before.y[all_of::template place<-1>(k)] = carry.y[k];
      const shifted last = now.group.shift(x, before);
      now.group.run([&](int t) { set_shifts(x[t], now.in[t]); });
      set_shifts(last, carry);
    }
  }
  template <bool Store, int Pass, class Tile>
  RLHF_HD RLHF_INLINE void solve(Tile& now, carries& carry, int last_pass, affine_maps<T, K>& found) const {
    if constexpr (Pass < all_of::passes()) {
      if (!Store && Pass > last_pass) return;
      using scan_type = thread_scan<Kernel, Pass>;
      using maps = affine_maps<T, scan_type::K>;
      typename std::remove_reference_t<decltype(now.group)>::template per<maps> map;
      now.group.run([&](int t) {
        scan_type scan{now.in[t]};
        share<false>(now, t, scan);
        map[t] = scan.map;
      });
      const maps all = now.group.scan(map, maps::identity(), compose_maps<T, scan_type::K>{});
      now.group.run([&](int t) {
        for (int k = 0; k < K; ++k)
          if (all_of::found(k, Pass)) now.in[t].y[k] = map[t](all_of::template place<Pass>(k), carry.y[k]);
      });
      for (int k = 0; k < K; ++k) {
        if (!all_of::found(k, Pass)) continue;
        const int at = all_of::template place<Pass>(k);
        if (!Store && Pass == last_pass) {
          const affine<T> both = affine<T>{all.a[at], all.b[at]}.after({found.a[k], found.b[k]});
          found.a[k] = both.a;
          found.b[k] = both.b;
        }
        // All passes of a kernel without levels start from what came into the tile; the last one that is done goes on from it.
        if (all_of::leveled || Pass == (Store ? all_of::passes() - 1 : last_pass)) carry.y[k] = all(at, carry.y[k]);
      }
      solve<Store, Pass + 1>(now, carry, last_pass, found);
    }
  }
  /// The elements of a thread's share that lie in the part, from the last to the first.
  template <bool Store, class Tile, class Scan>
  RLHF_HD RLHF_INLINE void share(Tile& now, int t, Scan& scan) const {
    const std::int64_t p = now.top - 1 - t;
    if constexpr (scan_in_steps<Kernel>) {
      if (now.whole[t]) {
        const auto y = kernel.solve(now.s, now.x[t], scan);
        if constexpr (Store) kernel.place(now.s, p * share_of_thread, now.x[t], y);
        return;
      }
    }
    if (p < now.first) return;
    const std::int64_t begin = launch::larger(now.part.begin, p * share_of_thread);
    for (std::int64_t i = launch::smaller(now.part.end, (p + 1) * share_of_thread); i > begin;)
      element<Store>(now.s, --i, scan);
  }
  template <bool Store, class Scan>
  RLHF_HD RLHF_INLINE void element(std::int64_t s, std::int64_t i, Scan& scan) const {
    if constexpr (scan_in_steps<Kernel>) {
      const auto x = kernel.template fetch<T>(i);
      const auto y = kernel.solve(s, x, scan);
      if constexpr (Store) kernel.place(s, i, x, y);
    } else {
      kernel.template operator()<pack<T, 1, Store ? access::any : access::dry>>(s, i, scan);
    }
  }
};
template <class Kernel>
[[nodiscard]] RLHF_HD RLHF_INLINE carried<typename Kernel::scalar, Kernel::scans> beyond_the_end(const Kernel& kernel,
                                                                                                 std::int64_t s) {
  carried<typename Kernel::scalar, Kernel::scans> carry;
  for (int k = 0; k < Kernel::scans; ++k) carry.y[k] = static_cast<typename Kernel::scalar>(kernel.initial(s, k));
  return carry;
}

/// segment_scan: a group for each sequence.
template <class Kernel, class Space>
struct scan_body {
  Kernel kernel;
  layout<Space> sequences;
  bool shares;

  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t count) const {
    Kernel own = kernel;
    backend_detail::prepare(own);
    const sequence_walk<Kernel> all{own, shares};
    for (std::int64_t s = index; s < sequences.sequences; s += count) {
      auto carry = beyond_the_end(own, s);
      auto none = affine_maps<typename Kernel::scalar, Kernel::scans>::identity();
      all.template walk<true>(group, s, sequences[s], carry, 0, none);
    }
  }
};

/// What a chunk of a sequence leaves behind for the others: the maps of each pass, and what is shifted into it.
template <class Kernel>
struct chunk_maps {
  using T = typename Kernel::scalar;
  static constexpr int K = Kernel::scans;
  affine_maps<T, K>* map = nullptr;    ///< [passes, sequences, chunks]
  carried<T, K>* shifted = nullptr;    ///< [sequences, chunks]
  std::int64_t chunks = 1, parts = 0;  ///< of a sequence, of all

  /// What comes into chunk c of sequence s, as far as the passes before `pass` know: the maps of the chunks that are walked
  /// before it, one after the other.
  template <int k = 0>
  RLHF_HD RLHF_INLINE void come_into(std::int64_t s, std::int64_t c, int pass, carried<T, K>& carry) const {
    constexpr int some = 8;  // loads on their way together
    if constexpr (k < K) {
      if (const int known = recurrences<Kernel>::known(k, pass); known >= 0) {
        const affine_maps<T, K>* const of = map + known * parts + s * chunks;
        T y = carry.y[k];
        for (std::int64_t at = 0; at < c; at += some) {
          affine<T> one[some];
          for (int j = 0; j < some; ++j)
            one[j] = at + j < c ? affine<T>{of[at + j].a[k], of[at + j].b[k]} : affine<T>{T(0), T(0)};
          for (int j = 0; j < some; ++j)
            if (at + j < c) y = one[j](y);
        }
        carry.y[k] = y;
      }
      come_into<k + 1>(s, c, pass, carry);
    }
  }
};

/// segment_scan of few long sequences: groups share a sequence in chunks, numbered from its end. First (`Store` false) each
/// chunk leaves its maps, in as many launches as there are passes; then each is written.
template <class Kernel, class Space, bool Store>
struct scan_chunks_body {
  using T = typename Kernel::scalar;
  static constexpr int K = Kernel::scans;
  Kernel kernel;
  layout<Space> sequences;
  bool shares;
  chunk_maps<Kernel> maps;
  int pass;

  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t count) const {
    Kernel own = kernel;
    backend_detail::prepare(own);
    using all_of = recurrences<Kernel>;
    const sequence_walk<Kernel> all{own, shares};
    for (std::int64_t g = index; g < maps.parts; g += count) {
      const std::int64_t s = g / maps.chunks, c = g - s * maps.chunks;
      const segment whole = sequences[s];
      const launch::range part =
          launch::chunk(whole.begin, whole.end, c, maps.chunks, sequence_walk<Kernel>::share_of_thread);
      carried<T, K> carry = beyond_the_end(own, s);
      maps.come_into(s, c, pass, carry);
      if constexpr (Store) {
        // Another group may have written over what is shifted in: it was kept.
        if constexpr (all_of::shifts > 0)
          for (int k = 0; k < K; ++k)
            if (all_of::found(k, -1)) carry.y[k] = maps.shifted[g].y[k];
      } else if constexpr (all_of::shifts > 0) {
        if (part.end < whole.end) all.shifted(s, part.end, carry);
        group.once([&] { maps.shifted[g] = carry; });
      }
      auto found = affine_maps<T, K>::identity();
      all.template walk<Store>(group, s, {part.begin, part.end}, carry, pass, found);
      if constexpr (!Store) group.once([&] { maps.map[pass * maps.parts + g] = found; });
    }
  }
};

}  // namespace rlhf::inline v1::team_detail
