#pragma once
// What a comparison will take before it starts.

#include <cstddef>
#include <string>
#include <vector>

#include "align/settings.hpp"

namespace align {

/// Runs that differ by their seed alone: of a label, or of what several labels share.
struct kind_plan {
  std::string name = {};
  std::size_t runs = 0, left = 0;  ///< of all seeds; not finished yet
  double seconds = 0;              ///< of one run; 0 where none is left
  double peak_bytes = 0;           ///< resident memory of the process while it runs
};
struct comparison_plan {
  std::vector<kind_plan> kinds = {};
  double seconds = 0;     ///< of all runs that are left
  double peak_bytes = 0;  ///< the most of any of them
  double disk_bytes = 0;  ///< of all that they leave
};

/// Rehearses one run of each kind that is left; an interrupted run counts whole. Writes nothing. Throws std::runtime_error as
/// run_comparison does.
[[nodiscard]] comparison_plan plan_comparison(const request& asked);

}  // namespace align
