#pragma once
// The kernels of the CUDA backend on the host, thread after thread: their very bodies, in any C++ compiler, for tests.

#include <cstdint>

#include "rlhf/backend/instruction_set.hpp"
#include "rlhf/backend/serial.hpp"
#include "rlhf/backend/team/backend.hpp"
#include "rlhf/backend/team/group.hpp"

namespace rlhf::inline v1 {

/// Runs the groups of a launch one after the other.
template <unsigned Isa = compiled_instruction_set>
struct serial_executor {
  using space = host_space;
  static constexpr bool deterministic = true;
  static constexpr bool synchronous = true;

  template <int Width, class Body>
  [[nodiscard]] status launch(const char*, std::int64_t groups, const Body& body) {
    for (std::int64_t index = 0; index < groups; ++index) {
      serial_group<Width, serial_executor> group;
      body(group, index, groups);
    }
    return {};
  }
  template <class T>
  status argsort(std::int64_t n, const T* keys, std::int64_t* order) {
    host_argsort(n, keys, order);
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

/// What cuda_backend launches, in plain loops: same cuts, same order of sums. Slow, and no model of a device's memory: it shows
/// that the bodies of the kernels are right, not that they are quick or free of races.
template <unsigned Isa = compiled_instruction_set>
using basic_emulated_backend = team_backend<serial_executor<Isa>>;
using emulated_backend = basic_emulated_backend<>;

static_assert(backend<emulated_backend>);

}  // namespace rlhf::inline v1
