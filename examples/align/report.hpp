#pragma once
// What a run leaves behind: report.json (curves) and summary.json for programs, curves.csv for spreadsheets,
// report.html for people.

#include <string>

#include "align/pipeline.hpp"

namespace align {

/// Makes sure that `folder` exists and can be written to, before anything expensive starts. Throws std::runtime_error.
void prepare_output(const std::string& folder);

/// Writes the files into `folder`, each whole or not at all (new file, then rename). The curves are drawn by gnuplot
/// where it is installed; without it the page says so and points to the table. Throws std::runtime_error.
void write_report(const std::string& folder, const pipeline_options& options, const pipeline_result& result);

}  // namespace align
