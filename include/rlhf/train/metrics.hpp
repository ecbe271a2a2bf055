#pragma once
// Statistics under the names that users of TRL know.

#include <cstddef>

#include "rlhf/core/statistics.hpp"

namespace rlhf::inline v1 {

/// One of our names and TRL's.
struct metric_name {
  const char* ours;
  const char* known;
};

/// What policy_loss reports, as TRL's PPO and GRPO trainers call it.
inline constexpr metric_name policy_metric_names[] = {{"approx_kl_k2", "policy/approxkl_avg"},
                                                      {"clip_fraction", "policy/clipfrac_avg"},
                                                      {"clip_fraction_low", "clip_ratio/low_mean"},
                                                      {"clip_fraction_high", "clip_ratio/high_mean"},
                                                      {"ratio_mean", "val/ratio"},
                                                      {"kl_mean", "kl"},
                                                      {"entropy", "policy/entropy_avg"},
                                                      {"loss", "loss/policy_avg"}};

/// What value_loss reports.
inline constexpr metric_name value_metric_names[] = {{"clip_fraction", "val/clipfrac_avg"},
                                                     {"explained_variance", "val/explained_variance"},
                                                     {"loss", "loss/value_avg"}};

/// Adds statistics to others under new names; those without one keep theirs. Sums and counts stay what they are, so that
/// renamed statistics still merge.
template <std::size_t N>
constexpr void add_renamed(const statistics& from, const metric_name (&names)[N], statistics& to) {
  for (int i = 0; i < from.size; ++i) {
    statistics::entry e = from.entries[i];
    for (const metric_name& name : names)
      if (same_name(e.name, name.ours)) e.name = name.known;
    to.add(e);
  }
}

}  // namespace rlhf::inline v1
