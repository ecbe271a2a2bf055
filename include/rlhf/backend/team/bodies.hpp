#pragma once
// The bodies of the primitives but those along sequences (segments.hpp, scan.hpp): what a group does with its part of the work.
//
// Every body is a plain aggregate with `operator()(group, index, count)`: group `index` of `count`. Groups walk in steps of their
// number, each leaves one partial total, and fold_partials adds those in their order: the same bits on every run.

#include <cstdint>

#include "rlhf/backend/serial.hpp"
#include "rlhf/backend/team/launch.hpp"
#include "rlhf/backend/team/walk.hpp"

namespace rlhf::inline v1::team_detail {

template <class Total>
struct merge_totals {
  RLHF_HD RLHF_INLINE Total operator()(Total a, const Total& b) const {
    a.merge(b);
    return a;
  }
};

/// Adds what a thread has in the lanes of an accumulator to its total.
template <class T, int N, access How, int K, int M>
RLHF_HD RLHF_INLINE void flush(totals<K, M>& total, const accumulator<pack<T, N, How>, K, M>& lanes) {
  for (int j = 0; j < N; ++j) {
    accumulator<T, K, M> one;
    for (int k = 0; k < K; ++k) one.sum[k] = lanes.sum[k].v[j];
    for (int m = 0; m < M; ++m) one.max[m] = lanes.max[m].v[j];
    total.add(one);
  }
}

/// Leaves the total of a group where it belongs, if anybody wants it.
template <class Group, class Total>
RLHF_HD RLHF_INLINE void leave(Group& group, typename Group::template per<Total>& mine, Total* partial,
                               std::int64_t index) {
  if (partial == nullptr) return;
  const Total total = group.fold(mine, merge_totals<Total>{});
  group.once([&] { partial[index] = total; });
}

/// Blocks of a kernel that a multiprocessor should hold at once: what the kernel says, else 2.
template <class Kernel>
[[nodiscard]] RLHF_HD constexpr int resident_of() {
  if constexpr (requires { Kernel::resident; })
    return Kernel::resident;
  else
    return 2;
}

/// map: tiles of one pack a thread where the kernel lets lanes walk, else of one element a thread. A kernel that adds up much
/// needs its registers for that: no packs there.
template <class Kernel>
struct map_body {
  using T = typename Kernel::scalar;
  using total = totals_of<Kernel>;
  static constexpr bool heavy = Kernel::sums + Kernel::maxima > 4;
  static constexpr int lanes = heavy ? 1 : static_cast<int>(16 / sizeof(T));
  static constexpr int tiles_in_lanes = 8;  ///< tiles that are summed in T before they go into the total
  Kernel kernel;
  std::int64_t n;
  total* partial;

  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t count) const {
    Kernel own = kernel;
    backend_detail::prepare(own);
    typename Group::template per<total> mine;
    group.run([&](int t) {
      total sum;
      bool packs = false;
      if constexpr (requires { own.unit_stride(); }) {
        packs = own.unit_stride();
        if (packs) by_packs(own, index * Group::width + t, count * Group::width, sum);
      }
      if (!packs)
        for (std::int64_t i = index * Group::width + t; i < n; i += count * Group::width) element(own, i, sum);
      mine[t] = sum;
    });
    leave(group, mine, partial, index);
  }

 private:
  RLHF_HD RLHF_INLINE static void element(const Kernel& own, std::int64_t i, total& sum) {
    accumulator_of<Kernel> one;
    own.template operator()<T>(i, one);
    sum.add(one);
  }
  RLHF_HD RLHF_INLINE void by_packs(const Kernel& own, std::int64_t thread, std::int64_t threads, total& sum) const {
    using V = pack<T, lanes>;
    const std::int64_t packs = n / lanes;
    std::int64_t p = thread;
    while (p < packs) {
      accumulator<V, Kernel::sums, Kernel::maxima> some;
      for (int tile = 0; tile < tiles_in_lanes && p < packs; ++tile, p += threads)
        own.template operator()<V>(p * lanes, some);
      if constexpr (Kernel::sums + Kernel::maxima > 0) flush(sum, some);
    }
    const std::int64_t rest = packs * lanes + thread;
    if (rest < n) element(own, rest, sum);
  }
};

/// rows: a group for each row. What the kernel does between the calls of its team all threads do alike; one of them counts.
template <class Kernel>
struct rows_body {
  using total = totals_of<Kernel>;
  static constexpr int resident = resident_of<Kernel>();
  Kernel kernel;
  std::int64_t n;
  total* partial;

  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t count) const {
    Kernel own = kernel;
    backend_detail::prepare(own);
    walking_team<typename Kernel::scalar, Group> team(group);
    total sum;
    for (std::int64_t r = index; r < n; r += count) {
      accumulator_of<Kernel> one;
      own(r, team, one);
      sum.add(one);
    }
    if (partial != nullptr) group.once([&] { partial[index] = sum; });
  }
};

/// The second step of a total: all partial ones, in their order, by one group.
template <class Total>
struct fold_partials {
  const Total* partial;
  std::int64_t cells;
  Total* out;

  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t) const {
    if (index != 0) return;
    typename Group::template per<Total> mine;
    group.run([&](int t) {
      Total sum;
      for (std::int64_t i = t; i < cells; i += Group::width) sum.merge(partial[i]);
      mine[t] = sum;
    });
    const Total all = group.fold(mine, merge_totals<Total>{});
    group.once([&] { *out = all; });
  }
};

template <class F>
struct once_body {
  F f;
  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group& group, std::int64_t index, std::int64_t) const {
    if (index == 0) group.once([&] { f(); });
  }
};

/// A sequence by one thread, for kernels that no lane may walk.
template <class Kernel, class Space>
struct serial_scan_body {
  Kernel kernel;
  layout<Space> sequences;
  template <class Group>
  RLHF_HD RLHF_INLINE void operator()(Group&, std::int64_t index, std::int64_t count) const {
    static_assert(Group::width == 1);
    Kernel own = kernel;
    backend_detail::prepare(own);
    for (std::int64_t s = index; s < sequences.sequences; s += count) serial_segment_scan(sequences, s, own);
  }
};

}  // namespace rlhf::inline v1::team_detail
