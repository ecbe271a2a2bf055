#pragma once
// Small vectors for the tests of exact theory.

#include <initializer_list>
#include <vector>

#include "rlhf/math/random.hpp"
#include "rlhf/theory/distributions.hpp"

namespace theory_tests {

using rlhf::theory::matrix;
using rlhf::theory::vector;

inline vector of(std::initializer_list<double> x) { return rlhf::theory::vector_of(std::vector<double>(x)); }
inline vector logs(std::initializer_list<double> x) { return of(x).array().log(); }
/// The largest difference of two elements.
inline double distance(const vector& a, const vector& b) { return (a - b).cwiseAbs().maxCoeff(); }

/// Standard normal numbers; every test file has a stream of its own.
struct normals_of {
  std::uint64_t stream;

  vector operator()(std::uint64_t seed, Eigen::Index n) const {
    const rlhf::random_numbers numbers({seed, stream});
    vector out(n);
    for (Eigen::Index i = 0; i < n; ++i) out[i] = numbers.normal({.position = static_cast<std::uint32_t>(i)});
    return out;
  }
  matrix operator()(std::uint64_t seed, Eigen::Index rows, Eigen::Index columns) const {
    const vector x = (*this)(seed, rows * columns);
    return Eigen::Map<const matrix>(x.data(), rows, columns);
  }
};

}  // namespace theory_tests
