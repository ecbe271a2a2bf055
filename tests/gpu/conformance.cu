// The CUDA backend keeps what the concept says: the suite of all backends, on a device.

#include "gpu/host_view.cuh"
//
#include "backend/tolerances.hpp"

namespace {

using tested_backend = both_sides::host_view;
constexpr int variants = 2;  // the default stream, and one of its own: the same bits
tested_backend& tested(int variant) {
  static tested_backend one, two(both_sides::stream_of_its_own());
  return variant == 0 ? one : two;
}

template <class T>
constexpr tolerances tolerance{2e-15, 1e-12, 1e-13, 40, 8};
template <>
constexpr tolerances tolerance<float>{6e-7, 1e-5, 4e-6, 40, 8};

}  // namespace

#include "backend/conformance.inc"
