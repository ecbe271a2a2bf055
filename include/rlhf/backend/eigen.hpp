#pragma once
// The CPU backend: SIMD lanes of the width Eigen gives its packets, and a pool of threads for large work.

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "rlhf/backend/eigen/lane_scan.hpp"
#include "rlhf/backend/eigen/lane_sums.hpp"
#include "rlhf/backend/eigen/lane_team.hpp"
#include "rlhf/backend/eigen/tasks.hpp"
#include "rlhf/backend/eigen/workspace.hpp"
#include "rlhf/backend/serial.hpp"

namespace rlhf::inline v1 {

namespace eigen_detail {

/// A kernel of segment_map with its sequence bound.
template <class Kernel>
struct in_sequence {
  const Kernel& kernel;
  std::int64_t sequence;
  template <class V, class Accumulator>
  RLHF_INLINE void operator()(std::int64_t i, Accumulator& sums) const {
    kernel.template operator()<V>(sequence, i, sums);
  }
};

/// Sequences in chunks of about the same number of elements; the cut depends on the layout alone.
class sequence_chunks {
 public:
  static constexpr std::int64_t elements = 8192;

  explicit sequence_chunks(const layout<>& sequences)
      : sequences_(sequences), each_(std::max<std::int64_t>(1, elements / std::max<std::int64_t>(1, sequences.width))) {
    if (sequences.sequences <= 0)
      count_ = 0;
    else if (sequences.offsets != nullptr)
      count_ = sequences.tokens / elements + 1;
    else
      count_ = (sequences.sequences + each_ - 1) / each_;
  }
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] std::int64_t first(std::int64_t chunk) const {
    if (chunk == count_) return sequences_.sequences;
    if (sequences_.offsets == nullptr) return chunk * each_;
    const std::int64_t* const offsets = sequences_.offsets;
    return std::lower_bound(offsets, offsets + sequences_.sequences, chunk * elements) - offsets;
  }

 private:
  layout<> sequences_;
  std::int64_t each_;
  std::int64_t count_;
};

/// The sequence that element i belongs to.
[[nodiscard]] inline std::int64_t sequence_of(const layout<>& sequences, std::int64_t i) {
  if (sequences.offsets == nullptr) return i / sequences.width;
  return std::upper_bound(sequences.offsets, sequences.offsets + sequences.sequences, i) - sequences.offsets - 1;
}

}  // namespace eigen_detail

/// The backend for CPUs. `Isa` keeps the code of translation units with different -m flags apart.
///
/// Work is cut into chunks that depend on its size alone, and sums are folded in double in the order of the chunks: the same
/// bits for any number of threads. Kernels that may walk on lanes do; the others go one element at a time. Scratch memory is
/// kept between calls. One object belongs to one thread at a time.
template <unsigned Isa = instruction_set>
class basic_eigen_backend {
 public:
  using space = host_space;
  static constexpr bool deterministic = true;
  static constexpr bool synchronous = true;

  /// `threads` counts the caller: 1 starts no thread. The others are woken for work that takes longer than `patience`.
  explicit basic_eigen_backend(int threads = 1, std::chrono::nanoseconds patience = std::chrono::microseconds(100))
      : tasks_(threads, patience) {}
  [[nodiscard]] int threads() const { return tasks_.threads(); }

  template <class Kernel>
  status map(std::int64_t n, Kernel kernel, totals_of<Kernel>* out) {
    backend_detail::prepare(kernel);
    const bool lanes = backend_detail::lanes_may_walk(kernel);
    return total("map", (n + chunk_elements - 1) / chunk_elements, out, [&](std::int64_t chunk) {
      const Kernel own = kernel;  // a copy that no store can reach stays in registers
      lane_sums<Kernel, Isa> found;
      found.run(chunk * chunk_elements, std::min(n, (chunk + 1) * chunk_elements), lanes, own);
      return found.result();
    });
  }

  template <class Kernel>
  status segment_map(const layout<>& sequences, Kernel kernel, totals_of<Kernel>* out) {
    backend_detail::prepare(kernel);
    const bool lanes = backend_detail::lanes_may_walk(kernel);
    const std::int64_t n = sequences.tokens;
    return total("segment_map", (n + chunk_elements - 1) / chunk_elements, out, [&](std::int64_t chunk) {
      const Kernel own = kernel;
      lane_sums<Kernel, Isa> found;
      const std::int64_t end = std::min(n, (chunk + 1) * chunk_elements);
      std::int64_t i = chunk * chunk_elements;
      for (std::int64_t s = eigen_detail::sequence_of(sequences, i); i < end; ++s) {
        const std::int64_t stop = std::min(end, sequences[s].end);
        found.run(i, stop, lanes, eigen_detail::in_sequence<Kernel>{own, s});
        i = stop;
      }
      return found.result();
    });
  }

  template <class Kernel>
  status segment_reduce(const layout<>& sequences, Kernel kernel) {
    backend_detail::prepare(kernel);
    const bool lanes = backend_detail::lanes_may_walk(kernel);
    return each_sequence(sequences, kernel, [&](const Kernel& own, std::int64_t s) {
      lane_sums<Kernel, Isa> found;
      found.run(sequences[s].begin, sequences[s].end, lanes, own);
      own.finish(s, found.result());
    });
  }

  template <class Kernel>
  status segment_scan(const layout<>& sequences, Kernel kernel) {
    backend_detail::prepare(kernel);
    if constexpr (requires { kernel.unit_stride(); })
      if (kernel.unit_stride())
        return each_sequence(sequences, kernel, [&](const Kernel& own, std::int64_t s) { scan(sequences[s], own, s); });
    return each_sequence(sequences, kernel,
                         [&](const Kernel& own, std::int64_t s) { serial_segment_scan(sequences, s, own); });
  }

  template <class Kernel>
  status rows(std::int64_t n, Kernel kernel, totals_of<Kernel>* out) {
    backend_detail::prepare(kernel);
    if constexpr (Kernel::sums + Kernel::maxima == 0 && requires { kernel.nanoseconds(); }) {
      tasks_.run(n, kernel.nanoseconds(), [&](std::int64_t row) {
        const Kernel own = kernel;
        lane_team<typename Kernel::scalar, Isa> team;
        accumulator_of<Kernel> none;
        own(row, team, none);
      });
      return {};
    }
    return total("rows", (n + chunk_rows - 1) / chunk_rows, out, [&](std::int64_t chunk) {
      const Kernel own = kernel;
      lane_team<typename Kernel::scalar, Isa> team;
      totals_of<Kernel> found;
      for (std::int64_t row = chunk * chunk_rows; row < std::min(n, (chunk + 1) * chunk_rows); ++row) {
        accumulator_of<Kernel> one;
        own(row, team, one);
        found.add(one);
      }
      return found;
    });
  }

  template <class T>
  status argsort(std::int64_t n, const T* keys, std::int64_t* order) {
    host_argsort(n, keys, order);
    return {};
  }
  template <class F>
  status once(F f) {
    f();
    return {};
  }
  template <class T>
  [[nodiscard]] workspace_scratch<T, Isa> scratch(std::int64_t n) {
    return {workspace_, n};
  }
  template <class T>
  [[nodiscard]] T read(const T* cell) {
    return *cell;
  }

 private:
  static constexpr std::int64_t chunk_elements = 16384, chunk_rows = 4;

  /// Runs chunks that each give a total, and folds those in order.
  template <class Total, class F>
  [[nodiscard]] status total(const char* function, std::int64_t chunks, Total* out, const F& f) {
    if (out == nullptr) {
      tasks_.run(chunks, [&](std::int64_t chunk) { f(chunk); });
      return {};
    }
    const auto cells = scratch<Total>(chunks);
    Total* const found = cells.data();
    if (found == nullptr) return remark::memory(function);
    tasks_.run(chunks, [&](std::int64_t chunk) { found[chunk] = f(chunk); });
    Total sum;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) sum.merge(found[chunk]);
    *out = sum;
    return {};
  }

  template <class Kernel, class F>
  [[nodiscard]] status each_sequence(const layout<>& sequences, const Kernel& kernel, const F& f) {
    const eigen_detail::sequence_chunks chunks(sequences);
    tasks_.run(chunks.count(), [&](std::int64_t chunk) {
      const Kernel own = kernel;
      const std::int64_t end = chunks.first(chunk + 1);
      for (std::int64_t s = chunks.first(chunk); s < end; ++s) f(own, s);
    });
    return {};
  }

  /// A sequence from its end: the elements that fill no register, then pairs of registers, then the last one.
  template <class Kernel>
  static RLHF_INLINE void scan(segment range, const Kernel& kernel, std::int64_t s) {
    using T = typename Kernel::scalar;
    using wide = lane<T, 2, Isa>;
    using narrow = lane<T, 1, Isa>;
    serial_scan<T, Kernel::scans> odd;
    for (int k = 0; k < Kernel::scans; ++k) odd.carry[k] = kernel.initial(s, k);
    std::int64_t i = range.end;
    for (const std::int64_t stop = i - (i - range.begin) % narrow::size; i > stop;)
      kernel.template operator()<T>(s, --i, odd);
    if (i == range.begin) return;
    lane_scan<T, Kernel::scans, Isa> full;
    for (int k = 0; k < Kernel::scans; ++k) full.set_carry(k, odd.carry[k]);
    for (; i - range.begin >= wide::size;) kernel.template operator()<wide>(s, i -= wide::size, full);
    if (i > range.begin) kernel.template operator()<narrow>(s, i - narrow::size, full);
  }

  tasks tasks_;
  workspace<Isa> workspace_;
};

using eigen_backend = basic_eigen_backend<>;

static_assert(backend<eigen_backend>);

}  // namespace rlhf::inline v1
