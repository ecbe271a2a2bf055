// Draws the library's formulas: values and slopes, computed by the structs themselves.
//
//   rlhf-plots                    a gnuplot script of the figures of docs/formulas, one for each page of a family
//   rlhf-plots --objectives DIR   a figure for each formula, DIR/plots/NAME.svg, and the numbers of their pages, DIR/points.tsv
//
// docs/plots.sh does both. A figure of a family is named as its page, one of a formula as the formula.

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "figures.hpp"

namespace {

using plots::curve;
using plots::drawing;
using plots::figure;
using plots::point;

constexpr int steps = 160;

void draw(const figure& f) {
  std::printf("# %s\n$%s << END\n", f.name.c_str(), "data");
  for (int i = 0; i <= steps; ++i) {
    const double x = f.from + (f.to - f.from) * i / steps;
    std::printf("%.5g", x);
    for (const curve& c : f.curves) {
      const point y = c.at(x);
      std::printf(" %.4g %.4g", y.value + 0.0, y.slope + 0.0);
    }
    std::printf("\n");
  }
  std::printf("END\nset output '%s.svg'\nset multiplot layout 1,2\n", f.name.c_str());
  for (const bool slope : {false, true}) {
    std::printf("set title '%s'\nset xlabel '%s'\nset key %s\nplot", slope ? f.slope.c_str() : "loss", f.x.c_str(),
                slope ? "off" : "below");
    for (std::size_t k = 0; k < f.curves.size(); ++k)
      std::printf("%s $data using 1:%zu with lines linewidth 2 title '%s'", k == 0 ? "" : ",",
                  2 + 2 * k + (slope ? 1 : 0), f.curves[k].name.c_str());
    std::printf("\n");
  }
  std::printf("unset multiplot\n");
}

/// Tab-separated: `figure`, name, axis, names of the slopes; `point`, name, curve, x, value, slopes.
void write_points(const drawing& d, std::ostream& out) {
  const auto number = [](double x) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.6g", x + 0.0);
    return std::string(buffer);
  };
  out << "figure\t" << d.name << '\t' << d.along.name << '\t';
  for (std::size_t k = 0; k < d.along.slopes.size(); ++k) out << (k > 0 ? ";" : "") << d.along.slopes[k];
  out << '\n';
  for (const curve& c : d.curves)
    for (const double x : d.along.points) {
      const point y = c.at(x);
      out << "point\t" << d.name << '\t' << c.name << '\t' << number(x) << '\t' << number(y.value);
      if (d.along.slopes.size() > 0) out << '\t' << number(y.slope);
      if (d.along.slopes.size() > 1) out << '\t' << number(y.second);
      out << '\n';
    }
}

int write_objectives(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder / "plots");
  std::ofstream points(folder / "points.tsv");
  for (const auto& family : {plots::pairs(), plots::tokens(), plots::scores()})
    for (const drawing& d : family) {
      write_points(d, points);
      std::ofstream file(folder / "plots" / (d.name + ".svg"));
      file << plots::svg(d);
      if (!file.flush()) {
        std::cerr << "rlhf-plots: cannot write " << d.name << ".svg in " << (folder / "plots").string() << '\n';
        return 1;
      }
    }
  if (!points.flush()) {
    std::cerr << "rlhf-plots: cannot write " << (folder / "points.tsv").string() << '\n';
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string option = argc > 1 ? argv[1] : "";
  const bool list = argc == 2 && option == "--list";
  if (argc == 3 && option == "--objectives") return write_objectives(argv[2]);
  if (argc > 1 && !list) {
    std::fprintf(stderr,
                 "usage: rlhf-plots [--list | --objectives folder]\n"
                 "Writes a gnuplot script of the families' figures, or the formulas' figures and numbers.\n");
    return 2;
  }
  if (!list)
    std::printf(
        "# Made by rlhf-plots: the library's formulas, evaluated. docs/plots.sh makes it anew.\n"
        "set terminal svg size 860,380 dynamic background '#ffffff' font 'Helvetica,12'\n"
        "set grid linecolor '#dddddd'\nset border linecolor '#888888'\nset bmargin at screen 0.34\n"
        "set key samplen 2\n");
  for (const figure& f : plots::families())
    if (list)
      std::printf("%s\n", f.name.c_str());
    else
      draw(f);
}
