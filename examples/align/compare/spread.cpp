#include "align/compare/spread.hpp"

#include "align/report/page.hpp"

namespace align {
namespace {

/// The two-sided 95 % quantile of Student's t; beyond nine degrees of freedom by the expansion of Cornish and Fisher.
double student(std::size_t degrees) {
  static constexpr double table[] = {0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262};
  if (degrees < std::size(table)) return table[degrees];
  const double z = 1.959964, n = static_cast<double>(degrees), z3 = z * z * z, z5 = z3 * z * z;
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n);
}

}  // namespace

spread spread_of(const std::vector<double>& x) {
  spread s{x.size(), x.empty() ? std::nan("") : 0, 0};
  for (const double v : x) s.mean += v / static_cast<double>(x.size());
  double squares = 0;
  for (const double v : x) squares += (v - s.mean) * (v - s.mean);
  if (x.size() > 1)
    s.half =
        student(x.size() - 1) * std::sqrt(squares / static_cast<double>(x.size() - 1) / static_cast<double>(x.size()));
  return s;
}
std::string shown(const spread& s, int digits) {
  if (s.n == 0) return "–";
  return fixed(s.mean, digits) + (s.n > 1 ? " ± " + fixed(s.half, digits) : "");
}

}  // namespace align
