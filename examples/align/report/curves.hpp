#pragma once
// Curves of methods: their names and colours in reports, and what is read off them.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "align/report/figure.hpp"
#include "align/run/results.hpp"

namespace align {

/// How people call a method, and its colour.
[[nodiscard]] std::string title(const std::string& method);
[[nodiscard]] std::string color(const std::string& method);
/// It went too far on purpose.
[[nodiscard]] bool overoptimised(const std::string& method);

/// It goes over a fixed set instead of sampling: its iterations are evaluations only.
[[nodiscard]] bool learns_from_a_fixed_set(const std::string& method);

/// A point for people's programs, under a name that may be another one than its method's.
[[nodiscard]] nlohmann::ordered_json json_of(const curve_point& p, const std::string& label);

/// The methods of some points, in their order.
[[nodiscard]] std::vector<std::string> methods(const std::vector<curve_point>& points);
[[nodiscard]] std::vector<curve_point> curve(const std::vector<curve_point>& points, const std::string& method);

/// The reward of best-of-n at a KL, between its points; NaN beyond them.
[[nodiscard]] double best_of_n_reward(const std::vector<curve_point>& points, double kl);

/// What best-of-n gains at a KL over the first of its own points, a single sample; NaN where it does not come so far.
[[nodiscard]] double best_of_n_gain(const std::vector<curve_point>& points, double kl);

[[nodiscard]] series line(const std::vector<curve_point>& points, const std::string& method, double curve_point::*x,
                          double curve_point::*y);

}  // namespace align
