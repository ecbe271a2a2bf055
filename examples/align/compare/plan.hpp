#pragma once
// What a comparison will take before it starts.

#include "align/run/plan_of_runs.hpp"
#include "align/run/settings.hpp"

namespace align {

/// Rehearses one run of each kind that is left; an interrupted run counts whole. Writes nothing. Throws std::runtime_error as
/// run_comparison does.
[[nodiscard]] plan_of_runs plan_comparison(const request& asked);

}  // namespace align
