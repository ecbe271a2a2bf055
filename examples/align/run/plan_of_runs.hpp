#pragma once
// What several runs will take together.

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace align {

/// Runs that differ by their seed alone.
struct kind_plan {
  std::string name = {};
  std::size_t runs = 0, left = 0;  ///< of all seeds; not finished yet
  double seconds = 0;              ///< of one of them, as the next two; 0 where none is left
  double peak_bytes = 0;           ///< resident memory of the process while it runs
  double disk_bytes = 0;
};
struct plan_of_runs {
  std::vector<kind_plan> kinds = {};
  double seconds = 0;     ///< of all runs that are left, one after the other
  double peak_bytes = 0;  ///< the most of any of them
  double disk_bytes = 0;  ///< of all that they leave
};

[[nodiscard]] inline plan_of_runs added_up(std::vector<kind_plan> kinds) {
  plan_of_runs out{.kinds = std::move(kinds)};
  for (const kind_plan& kind : out.kinds) {
    const auto left = static_cast<double>(kind.left);
    out.seconds += left * kind.seconds;
    out.disk_bytes += left * kind.disk_bytes;
    out.peak_bytes = std::max(out.peak_bytes, kind.peak_bytes);
  }
  return out;
}

}  // namespace align
