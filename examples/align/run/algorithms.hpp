#pragma once
// The algorithms that rlhf-align knows by name.

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "align/run/settings.hpp"

namespace align {

class workshop;

/// What an algorithm needs besides prompts and a reward.
namespace need {
inline constexpr unsigned pairs = 1;   ///< preferences between two responses
inline constexpr unsigned labels = 2;  ///< single responses, labelled or rated
inline constexpr unsigned guide = 4;   ///< the policy that DPO makes of the pairs
inline constexpr unsigned passes = 8;  ///< it goes over a fixed set instead of sampling
}  // namespace need

struct algorithm_entry {
  const char* name;
  const char* title;
  const char* source;
  const char* defaults;
  const char* options;  ///< that it reads, of those that are not everyone's; a star ends a word that many begin with
  const char* color;
  unsigned needs;
  void (*run)(workshop&);  ///< null: a stage that comes before all methods, alone
};

/// All of them, in the order in which a run takes them.
[[nodiscard]] std::span<const algorithm_entry> all_algorithms();
/// The one of this name, null where there is none.
[[nodiscard]] const algorithm_entry* find_algorithm(const std::string& name);
[[nodiscard]] std::vector<std::string> algorithm_names();
/// Those of a run that names none. Of a user's preferences a run takes those of them that the data can teach.
[[nodiscard]] std::vector<std::string> default_algorithms(subject what);
/// Whether an option of the methods, without dashes in front, means anything to it.
[[nodiscard]] bool reads(const algorithm_entry& a, const std::string& option);

/// A choice that an option offers.
struct choice_entry {
  const char* name;
  const char* source;
  const char* meaning;
};
[[nodiscard]] std::span<const choice_entry> pair_samplers();
[[nodiscard]] std::span<const choice_entry> reward_losses();
/// Does a reward loss learn from pairs that ended in a tie, and how common ties are?
[[nodiscard]] bool knows_ties(const std::string& reward_loss);
[[nodiscard]] std::vector<std::string> names_of(std::span<const choice_entry> choices);

/// All of this as text for a reader; `explain` may put values beside the options that a text names.
[[nodiscard]] std::string list_of_algorithms(const std::function<std::string(const std::string&)>& explain);

}  // namespace align
