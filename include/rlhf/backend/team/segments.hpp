#pragma once
// The bodies of the primitives that know their sequences, but the scan: segment_map and segment_reduce.

#include <cstdint>

#include "rlhf/backend/team/bodies.hpp"
#include "rlhf/backend/team/cursor.hpp"
#include "rlhf/backend/team/pack.hpp"

namespace rlhf::inline v1::team_detail {

/// Elements that a thread takes at a time, where lanes may walk: 16 bytes. One in a kernel that adds up much, which needs its
/// registers for that, and in one that knows no lanes.
template <class Kernel>
[[nodiscard]] RLHF_HD constexpr int lanes_of() {
  if constexpr (requires(const Kernel& kernel) { kernel.unit_stride(); })
    return Kernel::sums + Kernel::maxima > 4 ? 1 : static_cast<int>(16 / sizeof(typename Kernel::scalar));
  else
    return 1;
}
template <class Kernel>
concept says_if_aligned = requires(const Kernel& kernel) { kernel.aligned(); };
/// The packs of a kernel. One that says where its arrays lie is walked in packs only where they are aligned: without a test of each
/// address a thread has several loads on their way.
template <class Kernel>
using pack_of =
    pack<typename Kernel::scalar, lanes_of<Kernel>(), says_if_aligned<Kernel> ? access::aligned : access::any>;

/// Do threads take packs? Where lanes may walk, and sequences are not too short for it.
template <class Kernel, class Space>
[[nodiscard]] RLHF_HD constexpr bool by_packs(const Kernel& kernel, const layout<Space>& sequences,
                                              std::int64_t least_average) {
  if (lanes_of<Kernel>() == 1 || !backend_detail::lanes_may_walk(kernel)) return false;
  if constexpr (says_if_aligned<Kernel>)
    if (!kernel.aligned()) return false;
  return sequences.tokens / launch::larger(1, sequences.sequences) >= least_average;
}

/// Packs that are summed in T before they go into a total.
inline constexpr int packs_in_lanes = 8;

/// segment_map: each group has a range of its own, whose threads go side by side in packs. A pack that reaches into another
/// sequence goes element by element.
template <class Kernel, class Space>
struct segment_map_body {
  using T = typename Kernel::scalar;
  using total = totals_of<Kernel>;
  static constexpr int lanes = lanes_of<Kernel>();
  static constexpr std::int64_t least_average = 4 * lanes;  ///< shorter sequences cut too many packs
  Kernel kernel;
  layout<Space> sequences;
  bool packs;
  std::int64_t range;   ///< elements of a group: tiles of one pack (or element) a thread
  std::int64_t passed;  ///< sequences in a tile
  total* partial;

  [[nodiscard]] static segment_map_body of(const Kernel& kernel, const layout<Space>& sequences, std::int64_t groups) {
    const bool packs = by_packs(kernel, sequences, least_average);
    const std::int64_t tile = std::int64_t{launch::block_threads} * (packs ? lanes : 1);
    return {kernel,
            sequences,
            packs,
            launch::range_of_group(sequences.tokens, tile, groups),
            sequence_cursor<Space>::passed_by(sequences, tile),
            nullptr};
  }

  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t) const {
    Kernel own = kernel;
    backend_detail::prepare(own);
    typename Group::template per<total> mine;
    group.run([&](int t) {
      total sum;
      const std::int64_t begin = index * range, end = launch::smaller(begin + range, sequences.tokens);
      if constexpr (lanes > 1)
        if (packs) along<Group::width, pack_of<Kernel>>(own, begin + t * lanes, end, sum);
      if (!packs) along<Group::width, pack<T, 1>>(own, begin + t, end, sum);
      mine[t] = sum;
    });
    leave(group, mine, partial, index);
  }

 private:
  template <int Width, class V>
  RLHF_HD RLHF_INLINE void along(const Kernel& own, std::int64_t i, std::int64_t end, total& sum) const {
    constexpr int size = V::size;
    if (i >= end) return;
    sequence_cursor<Space> at(sequences, i, passed);
    while (i < end) {
      accumulator<V, Kernel::sums, Kernel::maxima> some;
      for (int tile = 0; tile < packs_in_lanes && i < end; ++tile) {
        if constexpr (size > 1) {
          if (i + size <= launch::smaller(end, at.end()))
            own.template operator()<V>(at.sequence(), i, some);
          else
            one_by_one(own, at, i, launch::smaller(i + size, end), sum);
        } else {
          element(own, at.sequence(), i, sum);
        }
        i += Width * size;
        if (i < end) at.step_to(i);
      }
      if constexpr (size > 1 && Kernel::sums + Kernel::maxima > 0) flush(sum, some);
    }
  }
  RLHF_HD RLHF_INLINE static void one_by_one(const Kernel& own, sequence_cursor<Space> at, std::int64_t i,
                                             std::int64_t end, total& sum) {
    for (; i < end; ++i) {
      at.rise_to(i);
      element(own, at.sequence(), i, sum);
    }
  }
  RLHF_HD RLHF_INLINE static void element(const Kernel& own, std::int64_t s, std::int64_t i, total& sum) {
    accumulator_of<Kernel> one;
    own.template operator()<T>(s, i, one);
    sum.add(one);
  }
};

/// Is all that a kernel of segment_reduce does in its `finish`, which one thread calls? It then adds nothing up and knows no lanes.
template <class Kernel>
[[nodiscard]] RLHF_HD constexpr bool finishes_alone() {
  return Kernel::sums + Kernel::maxima == 0 && !requires(const Kernel& kernel) { kernel.unit_stride(); };
}

/// segment_reduce: a group for each sequence; single elements up to the first multiple of a pack, packs, single elements.
template <class Kernel, class Space>
struct segment_reduce_body {
  using T = typename Kernel::scalar;
  using total = totals_of<Kernel>;
  static constexpr int lanes = lanes_of<Kernel>();
  Kernel kernel;
  layout<Space> sequences;
  bool packs;

  /// Packs where an average sequence has one for each thread.
  [[nodiscard]] static segment_reduce_body of(const Kernel& kernel, const layout<Space>& sequences, int width) {
    return {kernel, sequences, by_packs(kernel, sequences, std::int64_t{width} * lanes)};
  }

  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t count) const {
    Kernel own = kernel;
    backend_detail::prepare(own);
    for (std::int64_t s = index; s < sequences.sequences; s += count) {
      const segment part = sequences[s];
      typename Group::template per<total> mine;
      group.run([&](int t) {
        total sum;
        if constexpr (lanes > 1)
          if (packs) in_packs<Group::width, pack_of<Kernel>>(own, part, t, sum);
        if (!packs) single<Group::width>(own, part.begin + t, part.end, sum);
        mine[t] = sum;
      });
      total all;
      if constexpr (Kernel::sums + Kernel::maxima > 0) all = group.fold(mine, merge_totals<total>{});
      group.barrier();  // `finish` may look at what was written
      group.once([&] { own.finish(s, all); });
    }
  }

 private:
  template <int Width>
  RLHF_HD RLHF_INLINE static void single(const Kernel& own, std::int64_t i, std::int64_t end, total& sum) {
    for (; i < end; i += Width) {
      accumulator_of<Kernel> one;
      own.template operator()<T>(i, one);
      sum.add(one);
    }
  }
  template <int Width, class V>
  RLHF_HD RLHF_INLINE static void in_packs(const Kernel& own, segment part, int t, total& sum) {
    constexpr std::int64_t size = V::size;
    static_assert(Width >= size, "the head and the tail are one element a thread");
    const std::int64_t head = launch::smaller(launch::ceil_div(part.begin, size) * size, part.end);
    const std::int64_t tail = head + (part.end - head) / size * size;
    single<Width>(own, part.begin + t, head, sum);
    std::int64_t i = head + t * size;
    while (i < tail) {
      accumulator<V, Kernel::sums, Kernel::maxima> some;
      if (i + (packs_in_lanes - 1) * Width * size < tail) {  // nothing to ask in between: loads go together
        for (int tile = 0; tile < packs_in_lanes; ++tile, i += Width * size) own.template operator()<V>(i, some);
      } else {
        for (; i < tail; i += Width * size) own.template operator()<V>(i, some);
      }
      if constexpr (Kernel::sums + Kernel::maxima > 0) flush(sum, some);
    }
    single<Width>(own, tail + t, part.end, sum);
  }
};

}  // namespace rlhf::inline v1::team_detail
