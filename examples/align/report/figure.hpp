#pragma once
// Figures for the report, drawn by gnuplot.

#include <filesystem>
#include <string>
#include <vector>

namespace align {

struct series {
  std::string title = {}, color = {};
  std::vector<double> x = {}, y = {};
  bool dashed = false;
  bool faint = false;                       ///< thin: one of many
  std::vector<double> low = {}, high = {};  ///< a band around it; empty: none
};

struct figure {
  std::string name = {};  ///< of the file, without its ending
  std::string x = {}, y = {};
  std::vector<series> lines = {};
};

/// Draws into `folder`/name.svg and returns the SVG element; empty where gnuplot is missing or fails.
[[nodiscard]] std::string draw(const std::filesystem::path& folder, const figure& f);

}  // namespace align
