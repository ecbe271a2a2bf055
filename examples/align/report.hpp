#pragma once
// What a run leaves for people: a page, its numbers, and a page that joins runs.

#include <string>
#include <vector>

#include "align/pipeline.hpp"

namespace align {

/// Writes report.html, report.json (the points of all curves), results.json (all results), summary.json and curves.csv.
/// Throws std::runtime_error.
void write_report(const settings& s, const task& t, const run_results& results);

/// Joins finished runs: mean and 95 % interval of every method over their seeds, curves of all. Writes report.html, report.json and
/// compare.csv into `out`. Throws std::runtime_error: a folder without a report, runs of different tasks.
void write_comparison(const std::vector<std::string>& runs, const std::string& out);

}  // namespace align
