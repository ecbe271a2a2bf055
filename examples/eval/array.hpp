#pragma once
// Numbers with a shape: what goes into an op and what comes out of it.

#include <cstdint>
#include <string>
#include <vector>

namespace eval {

/// Row-major numbers; an empty shape is a single number.
struct array {
  std::vector<std::int64_t> shape;
  std::vector<double> data;
};

/// "[4][5]", or "a number".
[[nodiscard]] inline std::string words(const std::vector<std::int64_t>& shape) {
  if (shape.empty()) return "a number";
  std::string out;
  for (const std::int64_t n : shape) {
    out += '[';
    out += std::to_string(n);
    out += ']';
  }
  return out;
}

}  // namespace eval
