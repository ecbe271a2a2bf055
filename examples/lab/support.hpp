#pragma once
// Random problems for the experiments.

#include <cstdint>
#include <vector>

#include "lab/experiment.hpp"
#include "rlhf/theory/token_tree.hpp"

namespace lab {

using rlhf::random_index;
using rlhf::random_numbers;
using rlhf::theory::matrix;
using rlhf::theory::vector;

/// n standard normal numbers; another `list` gives others.
[[nodiscard]] inline std::vector<double> normals(const random_numbers& numbers, std::int64_t n, std::uint32_t list,
                                                 double scale = 1) {
  std::vector<double> out;
  for (std::int64_t i = 0; i < n; ++i)
    out.push_back(scale * numbers.normal({.sample = list, .position = static_cast<std::uint32_t>(i)}));
  return out;
}
[[nodiscard]] inline vector normal_vector(const random_numbers& numbers, Eigen::Index n, std::uint32_t list,
                                          double scale = 1) {
  return rlhf::theory::vector_of(normals(numbers, n, list, scale));
}
[[nodiscard]] inline matrix normal_matrix(const random_numbers& numbers, Eigen::Index rows, Eigen::Index columns,
                                          std::uint32_t list, double scale = 1) {
  const std::vector<double> x = normals(numbers, rows * columns, list, scale);
  return Eigen::Map<const matrix>(x.data(), rows, columns);
}

/// A token MDP with random rewards, and a random policy on it.
[[nodiscard]] inline rlhf::token_mdp random_tree(const random_numbers& numbers, std::int64_t vocabulary,
                                                 std::int64_t horizon, std::int64_t end = -1) {
  rlhf::token_mdp mdp(1, vocabulary, horizon, end);
  return mdp.set_rewards(normals(numbers, mdp.cells(), 100));
}
[[nodiscard]] inline rlhf::theory::table random_policy(const rlhf::token_mdp& mdp, const random_numbers& numbers,
                                                       std::uint32_t list, double scale = 1) {
  return rlhf::theory::token_softmax(mdp, normals(numbers, mdp.cells(), list, scale));
}

/// Largest difference of two lists.
[[nodiscard]] inline double distance(const vector& a, const vector& b) { return (a - b).cwiseAbs().maxCoeff(); }

/// The largest element.
[[nodiscard]] inline double largest(const std::vector<double>& x) {
  double out = x.empty() ? 0 : x.front();
  for (const double v : x) out = v > out || v != v ? v : out;
  return out;
}

/// As at_most and at_least, and no doubt about it: the whole interval lies on the right side.
[[nodiscard]] inline check clearly_below(std::string what, const std::vector<double>& samples, double bound) {
  check c = at_most(std::move(what), samples, bound);
  c.pass = c.high < bound;
  return c;
}
[[nodiscard]] inline check clearly_above(std::string what, const std::vector<double>& samples, double bound) {
  check c = at_least(std::move(what), samples, bound);
  c.pass = c.low > bound;
  return c;
}

}  // namespace lab
