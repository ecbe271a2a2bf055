#pragma once
// The recurrences of a sequence by a group of threads: y_i = b_i + a_i y_{i+1}, from the last element to the first.
//
// A tile is a few packs for each thread, the first thread having the last ones. A thread first runs the kernel on them to find the
// map from what comes in to what goes out (an affine one for each recurrence; nothing is stored), the group composes those,
// and the thread runs the kernel again on what really comes in. A recurrence that reads another one's results is right once
// that one is: so the maps are found `depth` times. Everything is done in an order that depends on the lengths alone.

#include <cstdint>

#include "rlhf/backend/concept.hpp"
#include "rlhf/backend/team/launch.hpp"
#include "rlhf/backend/team/pack.hpp"

namespace rlhf::inline v1::team_detail {

/// The maps of all recurrences over some elements. A map that was cut passes nothing on, not even a NaN.
template <class T, int K>
struct affine_maps {
  T a[static_cast<unsigned>(K)];
  T b[static_cast<unsigned>(K)];
  unsigned cut;

  [[nodiscard]] RLHF_HD RLHF_INLINE static affine_maps identity() {
    affine_maps m;
    for (int k = 0; k < K; ++k) m.a[k] = T(1), m.b[k] = T(0);
    m.cut = 0;
    return m;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool is_cut(int k) const { return ((cut >> k) & 1u) != 0; }
  [[nodiscard]] RLHF_HD RLHF_INLINE T operator()(int k, T y) const {
    return is_cut(k) ? b[k] : affine<T>{a[k], b[k]}(y);
  }
};
/// First the earlier one, then the later one.
template <class T, int K>
struct compose_maps {
  RLHF_HD RLHF_INLINE affine_maps<T, K> operator()(const affine_maps<T, K>& earlier,
                                                   const affine_maps<T, K>& later) const {
    affine_maps<T, K> out = later;
    for (int k = 0; k < K; ++k) {
      if (later.is_cut(k)) continue;
      const affine<T> both = affine<T>{later.a[k], later.b[k]}.after({earlier.a[k], earlier.b[k]});
      out.a[k] = earlier.is_cut(k) ? T(0) : both.a;
      out.b[k] = both.b;
    }
    out.cut = later.cut | earlier.cut;
    return out;
  }
};
template <class T, int K>
struct carried {
  T y[static_cast<unsigned>(K)];
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

/// The scan argument of a kernel in one thread. Recording, it also composes the map of all it has seen.
template <class T, int K, bool Recording>
struct thread_scan {
  carried<T, K> carry;
  affine_maps<T, K> map = affine_maps<T, K>::identity();

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
    using lane = lanes_of_number<V>;
    V y;
    for (int j = lane::size - 1; j >= 0; --j) {
      lane::at(y, j) = carry.y[k];
      carry.y[k] = lane::at(x, j);
    }
    if constexpr (Recording) {
      map.a[k] = T(0);
      map.b[k] = carry.y[k];
      map.cut |= 1u << k;
    }
    return y;
  }

 private:
  RLHF_HD RLHF_INLINE void step(int k, T a, T b) {
    const affine<T> one{a, b};
    carry.y[k] = one(carry.y[k]);
    if constexpr (Recording) {
      const affine<T> both = one.after({map.a[k], map.b[k]});
      map.a[k] = both.a;
      map.b[k] = both.b;
    }
  }
};

/// How often the maps are found: `depth` of the kernel where it says that fewer of its recurrences read one another.
template <class Kernel>
[[nodiscard]] RLHF_HD constexpr int scan_depth() {
  if constexpr (requires { Kernel::depth; })
    return Kernel::depth;
  else
    return Kernel::scans;
}

/// A part of a sequence walked by a group from its end.
template <class Kernel>
struct sequence_walk {
  using T = typename Kernel::scalar;
  static constexpr int K = Kernel::scans;
  static constexpr int lanes = static_cast<int>(16 / sizeof(T));
  static constexpr int share_of_thread = 2 * lanes;  ///< more would cost registers, less more steps of the group's scan
  using maps = affine_maps<T, K>;
  using carries = carried<T, K>;

  const Kernel& kernel;
  bool packs;  ///< may lanes walk?

  /// From `carry`, which what comes after the part has left, to what the part leaves. Returns the map of the whole part.
  template <bool Store, class Group>
  RLHF_HD RLHF_INLINE maps walk(Group& group, std::int64_t s, segment part, carries& carry) const {
    maps all = maps::identity();
    if (part.begin >= part.end) return all;
    const std::int64_t first = part.begin / share_of_thread, last = launch::ceil_div(part.end, share_of_thread);
    for (std::int64_t top = last; top > first; top -= Group::width) {
      typename Group::template per<maps> map;
      typename Group::template per<carries> in;
      group.run([&](int t) { in[t] = carry; });
      maps tile = maps::identity();
      for (int pass = 0; pass < scan_depth<Kernel>(); ++pass) {
        group.run([&](int t) {
          thread_scan<T, K, true> scan{in[t]};
          if (top - 1 - t >= first) share<false>(s, part, top - 1 - t, scan);
          map[t] = scan.map;
        });
        tile = group.scan(map, maps::identity(), compose_maps<T, K>{});
        group.run([&](int t) {
          for (int k = 0; k < K; ++k) in[t].y[k] = map[t](k, carry.y[k]);
        });
      }
      if constexpr (Store)
        group.run([&](int t) {
          thread_scan<T, K, false> scan{in[t]};
          if (top - 1 - t >= first) share<true>(s, part, top - 1 - t, scan);
        });
      for (int k = 0; k < K; ++k) carry.y[k] = tile(k, carry.y[k]);
      if constexpr (!Store) all = compose_maps<T, K>{}(all, tile);
    }
    return all;
  }

 private:
  /// The elements of a thread's share p that lie in the part, from the last to the first.
  template <bool Store, class Scan>
  RLHF_HD RLHF_INLINE void share(std::int64_t s, segment part, std::int64_t p, Scan& scan) const {
    constexpr access how = Store ? access::any : access::dry;
    const std::int64_t begin = launch::larger(part.begin, p * share_of_thread);
    for (std::int64_t i = launch::smaller(part.end, (p + 1) * share_of_thread); i > begin;) {
      if (packs && i % lanes == 0 && i - lanes >= begin)
        kernel.template operator()<pack<T, lanes, how>>(s, i -= lanes, scan);
      else
        kernel.template operator()<pack<T, 1, how>>(s, --i, scan);
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
  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t count) const {
    Kernel own = kernel;
    backend_detail::prepare(own);
    const sequence_walk<Kernel> all{own, own.unit_stride()};
    for (std::int64_t s = index; s < sequences.sequences; s += count) {
      auto carry = beyond_the_end(own, s);
      static_cast<void>(all.template walk<true>(group, s, sequences[s], carry));
    }
  }
};

/// segment_scan of few long sequences: groups share a sequence in chunks, numbered from its end. First (`Store` false, `depth`
/// times) each chunk leaves its map, and chain_chunks turns those into what comes into each; then each is written.
template <class Kernel, class Space, bool Store>
struct scan_chunks_body {
  using T = typename Kernel::scalar;
  static constexpr int K = Kernel::scans;
  Kernel kernel;
  layout<Space> sequences;
  std::int64_t chunks;
  affine_maps<T, K>* map;     ///< [sequences, chunks]
  const carried<T, K>* into;  ///< [sequences, chunks]

  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t count) const {
    Kernel own = kernel;
    backend_detail::prepare(own);
    const sequence_walk<Kernel> all{own, own.unit_stride()};
    for (std::int64_t g = index; g < sequences.sequences * chunks; g += count) {
      const std::int64_t s = g / chunks;
      const segment whole = sequences[s];
      const launch::range part =
          launch::chunk(whole.begin, whole.end, g - s * chunks, chunks, sequence_walk<Kernel>::share_of_thread);
      carried<T, K> carry = into[g];
      const affine_maps<T, K> found = all.template walk<Store>(group, s, {part.begin, part.end}, carry);
      if constexpr (!Store) group.once([&] { map[g] = found; });
    }
  }
};

/// What comes into each chunk of a sequence: by one thread a sequence, chunk after chunk. Without maps: nothing known yet.
template <class Kernel, class Space>
struct chain_chunks {
  using T = typename Kernel::scalar;
  static constexpr int K = Kernel::scans;
  Kernel kernel;
  layout<Space> sequences;
  std::int64_t chunks;
  const affine_maps<T, K>* map;
  carried<T, K>* into;

  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group&, std::int64_t index, std::int64_t count) const {
    static_assert(Group::width == 1);
    Kernel own = kernel;
    backend_detail::prepare(own);
    for (std::int64_t s = index; s < sequences.sequences; s += count) {
      auto carry = beyond_the_end(own, s);
      for (std::int64_t c = 0; c < chunks; ++c) {
        into[s * chunks + c] = carry;
        if (map == nullptr) continue;
        for (int k = 0; k < K; ++k) carry.y[k] = map[s * chunks + c](k, carry.y[k]);
      }
    }
  }
};

}  // namespace rlhf::inline v1::team_detail
