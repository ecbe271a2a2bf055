#pragma once
// What is drawn: curves of values and slopes, gathered into the figures of families and of single formulas.

#include <functional>
#include <string>
#include <vector>

namespace plots {

struct point {
  double value = 0;
  double slope = 0;   ///< in the first variable
  double second = 0;  ///< in the second one, where the formula has two
};
struct curve {
  std::string name;
  std::function<point(double)> at;
};

/// A figure of a family, drawn by gnuplot.
struct figure {
  std::string name, x, slope;  ///< labels of the axis and of the right panel
  double from, to;
  std::vector<curve> curves;
};
[[nodiscard]] std::vector<figure> families();

/// What a formula is drawn against.
struct axis {
  std::string name;
  double from, to;
  std::vector<double> points;       ///< where the table of the page has values
  std::vector<std::string> slopes;  ///< names of the variables whose slopes are given; none: only the value is drawn
};
/// The figure and the table of one formula.
struct drawing {
  std::string name;
  axis along;
  std::vector<curve> curves;
};
[[nodiscard]] std::vector<drawing> pairs();
[[nodiscard]] std::vector<drawing> tokens();
[[nodiscard]] std::vector<drawing> scores();  ///< of reward models, values, single responses, rewards, weights

/// The figure as SVG.
[[nodiscard]] std::string svg(const drawing& d);

}  // namespace plots
