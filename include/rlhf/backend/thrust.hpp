#pragma once
// Any system of the Thrust library: one algorithm of Thrust's for each primitive, plain serial code inside its threads.

#include "rlhf/backend/thrust/queue.hpp"
// Thrust's configuration comes first.
#include <thrust/copy.h>
#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/sort.h>
#include <thrust/transform_reduce.h>

#include <concepts>
#include <cstdint>

#include "rlhf/backend/serial.hpp"

namespace rlhf::inline v1 {

namespace thrust_detail {

/// The sequence that element i of a layout belongs to.
template <class Space>
[[nodiscard]] RLHF_HD std::int64_t sequence_of(const layout<Space>& sequences, std::int64_t i) {
  if (sequences.offsets == nullptr) return i / sequences.width;
  std::int64_t first = 0, last = sequences.sequences;  // offsets[first] <= i < offsets[last]
  while (last - first > 1) {
    const std::int64_t middle = first + (last - first) / 2;
    (sequences.offsets[middle] <= i ? first : last) = middle;
  }
  return first;
}

template <class Kernel>
[[nodiscard]] RLHF_HD totals_of<Kernel> as_total(const accumulator_of<Kernel>& one) {
  totals_of<Kernel> total;
  total.add(one);
  return total;
}

// What a thread does with the number it is given: an element, a sequence or a row.

struct element {
  template <class Kernel, class Space>
  static RLHF_HD totals_of<Kernel> run(const Kernel& kernel, const layout<Space>&, std::int64_t i) {
    accumulator_of<Kernel> one;
    kernel.template operator()<typename Kernel::scalar>(i, one);
    return as_total<Kernel>(one);
  }
};
struct element_of_segment {
  template <class Kernel, class Space>
  static RLHF_HD totals_of<Kernel> run(const Kernel& kernel, const layout<Space>& sequences, std::int64_t i) {
    accumulator_of<Kernel> one;
    kernel.template operator()<typename Kernel::scalar>(sequence_of(sequences, i), i, one);
    return as_total<Kernel>(one);
  }
};
struct row {
  template <class Kernel, class Space>
  static RLHF_HD totals_of<Kernel> run(const Kernel& kernel, const layout<Space>&, std::int64_t r) {
    serial_team<typename Kernel::scalar> team;
    accumulator_of<Kernel> one;
    kernel(r, team, one);
    return as_total<Kernel>(one);
  }
};
struct reduced_segment {
  template <class Kernel, class Space>
  static RLHF_HD void run(const Kernel& kernel, const layout<Space>& sequences, std::int64_t s) {
    serial_segment_reduce(sequences, s, kernel);
  }
};
struct scanned_segment {
  template <class Kernel, class Space>
  static RLHF_HD void run(const Kernel& kernel, const layout<Space>& sequences, std::int64_t s) {
    serial_segment_scan(sequences, s, kernel);
  }
};

/// A kernel as Thrust sees it. On the host the kernel was prepared before it came here. The cells of a device can be read by
/// its threads alone, so there each of them prepares a copy of its own.
template <class Step, class Kernel, class Space>
struct call {
  Kernel kernel;
  layout<Space> sequences;

  RLHF_HD auto operator()(std::int64_t i) const {
    if constexpr (std::same_as<Space, host_space>) {
      return Step::run(kernel, sequences, i);
    } else {
      Kernel own = kernel;
      backend_detail::prepare(own);
      return Step::run(own, sequences, i);
    }
  }
};

template <class F>
struct call_once {
  F f;
  RLHF_HD void operator()(std::int64_t) const { f(); }
};

template <class Total>
struct merge {
  RLHF_HD Total operator()(Total a, const Total& b) const {
    a.merge(b);
    return a;
  }
};

struct nan_last {
  template <class T>
  RLHF_HD bool operator()(const T& a, const T& b) const {
    return a < b || (a == a && b != b);
  }
};

template <class T>
struct write_cell {
  T value;
  T* cell;
  RLHF_HD void operator()() const { *cell = value; }
};

}  // namespace thrust_detail

/// A backend on a Thrust system, named in its type so that translation units for different systems can be linked together.
///
/// Totals are folded by Thrust's reduction: in the order of the elements on the CPP system, in the same order from run to
/// run on OMP (for one number of threads) and CUDA. On CUDA kernels are queued on the stream of the constructor.
template <class System>
class basic_thrust_backend {
  using queue = thrust_detail::queue<System>;

 public:
  using space = typename queue::space;
  static constexpr bool deterministic = queue::deterministic;
  static constexpr bool synchronous = std::same_as<space, host_space>;

  basic_thrust_backend() = default;
  explicit basic_thrust_backend(const queue& q) : queue_(q) {}

  template <class Kernel>
  status map(std::int64_t n, Kernel kernel, totals_of<Kernel>* out) {
    return total<thrust_detail::element>("map", n, kernel, {}, out);
  }
  template <class Kernel>
  status segment_map(const layout<space>& sequences, Kernel kernel, totals_of<Kernel>* out) {
    return total<thrust_detail::element_of_segment>("segment_map", sequences.tokens, kernel, sequences, out);
  }
  template <class Kernel>
  status segment_reduce(const layout<space>& sequences, Kernel kernel) {
    return each("segment_reduce", sequences.sequences, ready<thrust_detail::reduced_segment>(kernel, sequences));
  }
  template <class Kernel>
  status segment_scan(const layout<space>& sequences, Kernel kernel) {
    return each("segment_scan", sequences.sequences, ready<thrust_detail::scanned_segment>(kernel, sequences));
  }
  template <class Kernel>
  status rows(std::int64_t n, Kernel kernel, totals_of<Kernel>* out) {
    return total<thrust_detail::row>("rows", n, kernel, {}, out);
  }
  template <class T>
  status argsort(std::int64_t n, const T* keys, std::int64_t* order) {
    const auto sorted = scratch<T>(n);
    if (sorted.data() == nullptr) return remark::memory("argsort");
    const std::int64_t count = n > 0 ? n : 0;
    const thrust::counting_iterator<std::int64_t> first(0);
    return thrust_detail::guarded<queue>("argsort", [&] {
      thrust::copy_n(queue_.policy(), first, count, order);
      thrust::copy_n(queue_.policy(), keys, count, sorted.data());
      thrust::stable_sort_by_key(queue_.policy(), sorted.data(), sorted.data() + count, order,
                                 thrust_detail::nan_last{});
    });
  }
  template <class F>
  status once(F f) {
    return each("once", 1, thrust_detail::call_once<F>{f});
  }
  template <class T>
  [[nodiscard]] auto scratch(std::int64_t n) {
    return thrust_detail::scratch<T, queue>(queue_, n);
  }
  template <class T>
  [[nodiscard]] T read(const T* cell) {
    return queue_.read(cell);
  }
  [[nodiscard]] status trouble() const { return queue_.trouble(); }

 private:
  template <class Step, class Kernel>
  [[nodiscard]] static auto ready(Kernel kernel, const layout<space>& sequences) {
    if constexpr (synchronous) backend_detail::prepare(kernel);
    return thrust_detail::call<Step, Kernel, space>{kernel, sequences};
  }
  template <class F>
  [[nodiscard]] status each(const char* function, std::int64_t n, const F& f) {
    const thrust::counting_iterator<std::int64_t> first(0);
    return thrust_detail::guarded<queue>(function,
                                         [&] { thrust::for_each_n(queue_.policy(), first, n > 0 ? n : 0, f); });
  }
  template <class Step, class Kernel, class Total>
  [[nodiscard]] status total(const char* function, std::int64_t n, const Kernel& kernel, const layout<space>& sequences,
                             Total* out) {
    const auto f = ready<Step>(kernel, sequences);
    if (out == nullptr) return each(function, n, f);
    const thrust::counting_iterator<std::int64_t> first(0);
    Total found;
    const status done = thrust_detail::guarded<queue>(function, [&] {
      found = thrust::transform_reduce(queue_.policy(), first, first + (n > 0 ? n : 0), f, found,
                                       thrust_detail::merge<Total>{});
    });
    return done ? once(thrust_detail::write_cell<Total>{found, out}) : done;
  }

  queue queue_{};
};

/// The backend of Thrust's device system, as this translation unit chose it.
using thrust_backend = basic_thrust_backend<thrust::device_system_tag>;

static_assert(backend<thrust_backend>);

}  // namespace rlhf::inline v1
