#pragma once
// How formulations and the theory refuse bad input: one sentence that says where, what, what it got and what it wants.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>
#include <stdexcept>
#include <string>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

namespace formulation_detail {

[[nodiscard]] inline std::string text_of(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}

/// Throws std::invalid_argument: `function: argument is got, wants wants`.
[[noreturn]] inline void refuse(const char* function, const std::string& argument, double got, const char* wants) {
  throw std::invalid_argument(std::string(function) + ": " + argument + " is " + text_of(got) + ", wants " + wants);
}

inline void want(bool holds, const char* function, const std::string& argument, double got, const char* wants) {
  if (!holds) refuse(function, argument, got, wants);
}

/// The size of an array against the one it must have.
inline void want_size(std::size_t got, std::int64_t wanted, const char* function, const char* argument) {
  if (static_cast<std::int64_t>(got) == wanted) return;
  throw std::invalid_argument(std::string(function) + ": " + argument + " has " + std::to_string(got) +
                              " elements, wants " + std::to_string(wanted));
}

/// A row of probabilities: finite, not negative, with sum 1 up to 1e-9.
inline void want_distribution(std::span<const double> p, const char* function, const std::string& argument) {
  if (p.empty()) refuse(function, "the number of elements of " + argument, 0, "at least 1");
  double sum = 0;
  for (const double x : p) {
    want(x >= 0 && std::isfinite(x), function, "an element of " + argument, x, "a probability");
    sum += x;
  }
  want(std::fabs(sum - 1) <= 1e-9, function, "the sum of " + argument, sum, "1");
}

/// The element of a vector by a signed index.
template <class Vector>
[[nodiscard]] decltype(auto) at(Vector&& v, std::int64_t i) {
  return v[static_cast<std::size_t>(i)];
}

}  // namespace formulation_detail

}  // namespace rlhf::inline v1
