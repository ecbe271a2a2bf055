// A view is made from whatever is contiguous, and a view of constants from a view of variables.
#include <array>
#include <rlhf/core/view.hpp>
#include <span>
#include <vector>

double first(rlhf::view<const double> x) { return x.extent > 0 ? x.data[0] : 0; }

double call(std::vector<double>& a, std::array<double, 3>& b, std::span<const double> c, rlhf::view<double> d) {
  return first(a) + first(b) + first(c) + first(d) + first({a.data(), 2}) + first({});
}
