#pragma once
// Settings chosen for each label of a comparison on seeds of their own, with the same number of tries for everyone.

#include <string>
#include <vector>

#include "align/compare/spread.hpp"
#include "align/run/settings.hpp"

namespace align {

/// What came of one set of settings of a label.
struct tried {
  std::string label = {};
  std::vector<std::string> options = {};        ///< beside the label's own; empty: just those
  spread objective = {}, reward = {}, kl = {};  ///< at the last evaluation, over the tuning seeds
  std::string failed = {};                      ///< why there are none; empty where there are
  bool chosen = false;
};

/// Every label as it is and with each of its tries, in their order. Its label is the folder of its runs: `tuning/LABEL/SETTINGS`.
[[nodiscard]] std::vector<variant> candidates_of(const request& asked);

/// Runs every label as it is and with each of its tries, on the tuning seeds, below `tuning` in the comparison's folder, and
/// gives it the settings whose J, the reward less `price` times the KL at the last evaluation, is highest on the mean; of equal
/// ones the first. A run that diverged is no candidate. What is finished stays. Throws std::runtime_error: a label all of whose
/// runs diverged, and what single runs throw.
[[nodiscard]] std::vector<tried> tune(request& asked, double price);

}  // namespace align
