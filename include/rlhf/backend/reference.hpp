#pragma once
// The executable specification: plain loops in the order of the definitions, one element at a time, one thread.

#include <cstdint>
#include <new>

#include "rlhf/backend/concept.hpp"

namespace rlhf::inline v1 {

/// Owns scratch memory of a host backend; null when the memory could not be had.
template <class T>
class host_scratch {
 public:
  explicit host_scratch(std::int64_t n)
      : data_(static_cast<T*>(::operator new(sizeof(T) * static_cast<std::size_t>(n > 0 ? n : 1), std::nothrow))) {}
  host_scratch(host_scratch&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  host_scratch& operator=(host_scratch&&) = delete;
  ~host_scratch() { ::operator delete(data_); }
  [[nodiscard]] T* data() const { return data_; }

 private:
  T* data_;
};

/// The recurrences of one sequence, one element at a time: the plain meaning of a kernel's scan argument.
template <class T, int K>
struct serial_scan {
  T carry[static_cast<unsigned>(K)];

  [[nodiscard]] RLHF_HD RLHF_INLINE T inclusive(int k, T a, T b) { return carry[k] = b + a * carry[k]; }
  [[nodiscard]] RLHF_HD RLHF_INLINE T exclusive(int k, T a, T b) {
    const T before = carry[k];
    carry[k] = b + a * before;
    return before;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE T next(int k, T x) {
    const T before = carry[k];
    carry[k] = x;
    return before;
  }
};

/// A team of one: walks a row one element at a time.
template <class T>
struct serial_team {
  template <class F>
  RLHF_HD RLHF_INLINE void each(std::int64_t n, F&& f) const {
    for (std::int64_t j = 0; j < n; ++j) f.template operator()<T>(j);
  }
  template <template <class> class State, class F>
  [[nodiscard]] RLHF_HD RLHF_INLINE State<T> reduce(std::int64_t n, F&& f) const {
    State<T> state;
    for (std::int64_t j = 0; j < n; ++j) state.add(f.template operator()<T>(j));
    return state;
  }
};

/// Plain loops on the host: the specification of all other backends, the oracle of the tests, the page to read first.
class reference_backend {
 public:
  using space = host_space;
  static constexpr bool deterministic = true;
  static constexpr bool synchronous = true;

  template <class Kernel>
  status map(std::int64_t n, Kernel kernel, totals_of<Kernel>* out) {
    backend_detail::prepare(kernel);
    totals_of<Kernel> total;
    for (std::int64_t i = 0; i < n; ++i) {
      accumulator_of<Kernel> one;
      kernel.template operator()<typename Kernel::scalar>(i, one);
      total.add(one);
    }
    if (out != nullptr) *out = total;
    return {};
  }

  template <class Kernel>
  status segment_map(const layout<>& sequences, Kernel kernel, totals_of<Kernel>* out) {
    backend_detail::prepare(kernel);
    totals_of<Kernel> total;
    for (std::int64_t s = 0; s < sequences.sequences; ++s) {
      for (std::int64_t i = sequences[s].begin; i < sequences[s].end; ++i) {
        accumulator_of<Kernel> one;
        kernel.template operator()<typename Kernel::scalar>(s, i, one);
        total.add(one);
      }
    }
    if (out != nullptr) *out = total;
    return {};
  }

  template <class Kernel>
  status segment_reduce(const layout<>& sequences, Kernel kernel) {
    backend_detail::prepare(kernel);
    for (std::int64_t s = 0; s < sequences.sequences; ++s) {
      totals_of<Kernel> total;
      for (std::int64_t i = sequences[s].begin; i < sequences[s].end; ++i) {
        accumulator_of<Kernel> one;
        kernel.template operator()<typename Kernel::scalar>(i, one);
        total.add(one);
      }
      kernel.finish(s, total);
    }
    return {};
  }

  template <class Kernel>
  status segment_scan(const layout<>& sequences, Kernel kernel) {
    backend_detail::prepare(kernel);
    using T = typename Kernel::scalar;
    for (std::int64_t s = 0; s < sequences.sequences; ++s) {
      serial_scan<T, Kernel::scans> scan;
      for (int k = 0; k < Kernel::scans; ++k) scan.carry[k] = kernel.initial(s, k);
      for (std::int64_t i = sequences[s].end - 1; i >= sequences[s].begin; --i) kernel.template operator()<T>(s, i, scan);
    }
    return {};
  }

  template <class Kernel>
  status rows(std::int64_t n, Kernel kernel, totals_of<Kernel>* out) {
    backend_detail::prepare(kernel);
    serial_team<typename Kernel::scalar> team;
    totals_of<Kernel> total;
    for (std::int64_t row = 0; row < n; ++row) {
      accumulator_of<Kernel> one;
      kernel(row, team, one);
      total.add(one);
    }
    if (out != nullptr) *out = total;
    return {};
  }

  template <class F>
  status once(F f) {
    f();
    return {};
  }

  template <class T>
  [[nodiscard]] host_scratch<T> scratch(std::int64_t n) {
    return host_scratch<T>(n);
  }

  template <class T>
  [[nodiscard]] T read(const T* cell) {
    return *cell;
  }
};

static_assert(backend<reference_backend>);

}  // namespace rlhf::inline v1
