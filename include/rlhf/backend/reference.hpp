#pragma once
// The executable specification: plain loops in the order of the definitions, one element at a time, one thread.

#include <cstdint>

#include "rlhf/backend/instruction_set.hpp"
#include "rlhf/backend/serial.hpp"

namespace rlhf::inline v1 {

/// Plain loops on the host: the specification of all other backends, the oracle of the tests, the page to read first.
template <unsigned Isa = compiled_instruction_set>
class basic_reference_backend {
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
    for (std::int64_t s = 0; s < sequences.sequences; ++s) serial_segment_reduce(sequences, s, kernel);
    return {};
  }

  template <class Kernel>
  status segment_scan(const layout<>& sequences, Kernel kernel) {
    backend_detail::prepare(kernel);
    for (std::int64_t s = 0; s < sequences.sequences; ++s) serial_segment_scan(sequences, s, kernel);
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
  [[nodiscard]] host_scratch<T> scratch(std::int64_t n) {
    return host_scratch<T>(n);
  }

  template <class T>
  [[nodiscard]] T read(const T* cell) {
    return *cell;
  }
};

using reference_backend = basic_reference_backend<>;

static_assert(backend<reference_backend>);

}  // namespace rlhf::inline v1
