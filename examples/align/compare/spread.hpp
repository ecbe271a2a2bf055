#pragma once
// Means over seeds with Student's intervals.

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace align {

/// A mean and half of its 95 % interval; 0 of a single number.
struct spread {
  std::size_t n = 0;
  double mean = std::nan(""), half = 0;
};
[[nodiscard]] spread spread_of(const std::vector<double>& x);
/// "1.23 ± 0.04"; a dash of nothing.
[[nodiscard]] std::string shown(const spread& s, int digits);

}  // namespace align
