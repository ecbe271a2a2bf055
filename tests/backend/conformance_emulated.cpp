// The bodies of the CUDA kernels, run on the host, keep what the concept says.

#include "rlhf/backend/emulated.hpp"

#include "backend/tolerances.hpp"

namespace {

using tested_backend = rlhf::emulated_backend;
constexpr int variants = 1;
tested_backend& tested(int) {
  static tested_backend backend;
  return backend;
}

template <class T>
constexpr tolerances tolerance{1e-15, 1e-12, 1e-13, 20, 4};
template <>
constexpr tolerances tolerance<float>{3e-7, 1e-6, 2e-6, 20, 4};

}  // namespace

#include "backend/conformance.inc"
