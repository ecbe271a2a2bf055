// The Eigen backend keeps what the concept says, with the same bits for any number of threads.

#include "rlhf/backend/eigen.hpp"

#include <chrono>

#include "backend/tolerances.hpp"

namespace {

using tested_backend = rlhf::eigen_backend;
constexpr int variants = 3;
tested_backend& tested(int variant) {
  constexpr std::chrono::nanoseconds at_once{0};  // these are small: left to itself the backend would wake no thread
  static tested_backend one(1), two(2, at_once), five(5, at_once);
  return variant == 0 ? one : variant == 1 ? two : five;
}

// Sums are kept in lanes of T over a chunk before they become double.
template <class T>
constexpr tolerances tolerance{2e-15, 1e-12, 1e-13, 40, 8};
template <>
constexpr tolerances tolerance<float>{5e-7, 1e-5, 4e-6, 40, 8};

}  // namespace

#include "backend/conformance.inc"
