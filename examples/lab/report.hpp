#pragma once
// What a run of the laboratory leaves behind: lab-report.json for programs, lab.html for people, and for every experiment its
// curves as CSV and, where gnuplot is installed, SVG.

#include <string>
#include <vector>

#include "lab/experiment.hpp"

namespace lab {

struct finished {
  experiment what;
  outcome result;
  std::string failure;  ///< why there is no result, where there is none
  double seconds = 0;

  [[nodiscard]] bool pass() const { return failure.empty() && result.pass(); }
};

struct settings {
  std::uint64_t seed = 1;
  bool quick = false;
};

/// Makes sure that `folder` exists and can be written to, before anything expensive starts. Throws std::runtime_error.
void prepare_output(const std::string& folder);

/// Writes all files, each whole or not at all; says on standard error where there are no plots, and why.
void write_report(const std::string& folder, const settings& how, const std::vector<finished>& experiments);

/// The line of a check for a terminal: what, measured, expected, verdict.
[[nodiscard]] std::string line_of(const check& c);

}  // namespace lab
