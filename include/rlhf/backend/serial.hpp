#pragma once
// The pieces of a backend that walk one element at a time: what the plain loops and the threads of a device share.

#include <algorithm>
#include <cstddef>
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

/// The order of keys on the host: equal ones stay as they were, NaN comes last.
template <class T>
void host_argsort(std::int64_t n, const T* keys, std::int64_t* order) {
  for (std::int64_t i = 0; i < n; ++i) order[i] = i;
  // By key and then by place, which needs no memory as a stable sort does.
  std::sort(order, order + (n > 0 ? n : 0), [keys](std::int64_t i, std::int64_t j) {
    const T a = keys[i], b = keys[j];
    if (a < b) return true;
    if (b < a) return false;
    if ((a != a) != (b != b)) return b != b;
    return i < j;
  });
}

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
  template <class F>
  RLHF_HD RLHF_INLINE void one(F&& f) const {
    f();
  }
  template <template <class> class State, class F>
  [[nodiscard]] RLHF_HD RLHF_INLINE State<T> reduce(std::int64_t n, F&& f, const State<T>& start = {}) const {
    // By blocks: a sum of a hundred thousand floats one after the other would lose three of its seven digits.
    constexpr std::int64_t block = 256;
    State<T> all = start;
    for (std::int64_t begin = 0; begin < n; begin += block) {
      State<T> part = start;
      for (std::int64_t j = begin; j < n && j < begin + block; ++j) part.add(f.template operator()<T>(j));
      all.merge(part);
    }
    return all;
  }
};

/// Walks one sequence backwards with a scan kernel.
template <class Kernel, class Space>
RLHF_HD RLHF_INLINE void serial_segment_scan(const layout<Space>& sequences, std::int64_t s, const Kernel& kernel) {
  using T = typename Kernel::scalar;
  serial_scan<T, Kernel::scans> scan;
  for (int k = 0; k < Kernel::scans; ++k) scan.carry[k] = kernel.initial(s, k);
  const segment range = sequences[s];
  for (std::int64_t i = range.end - 1; i >= range.begin; --i) kernel.template operator()<T>(s, i, scan);
}

/// Adds up one sequence and lets the kernel finish it.
template <class Kernel, class Space>
RLHF_HD RLHF_INLINE void serial_segment_reduce(const layout<Space>& sequences, std::int64_t s, const Kernel& kernel) {
  totals_of<Kernel> total;
  const segment range = sequences[s];
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    accumulator_of<Kernel> one;
    kernel.template operator()<typename Kernel::scalar>(i, one);
    total.add(one);
  }
  kernel.finish(s, total);
}

}  // namespace rlhf::inline v1
