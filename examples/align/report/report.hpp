#pragma once
// What a run leaves for people: a page and its numbers.

#include "align/run/pipeline.hpp"

namespace align {

/// Writes report.html, report.json (the points of all curves), results.json (all results), summary.json and curves.csv.
/// Throws std::runtime_error.
void write_report(const settings& s, const task& t, const run_results& results);

}  // namespace align
