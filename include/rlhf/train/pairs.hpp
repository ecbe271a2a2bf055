#pragma once
// Pairs of responses, and what is known of them.

#include <cmath>
#include <vector>

#include "rlhf/core/throw.hpp"
#include "rlhf/core/view.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/policy/responses.hpp"

namespace rlhf::inline v1 {

/// Pairs of responses: chosen(i) is preferred to rejected(i), both to the same prompt (which nobody checks). What else is known
/// of them is [pairs], or empty. A loss that needs what is not there is refused; so is, by loops over policies, what is there and
/// the loss does not read. Loops over reward models pass over margins and probabilities that their loss does not ask for
/// (bradley_terry: use_margin, soft_labels).
struct preference_pairs {
  responses chosen;
  responses rejected;
  std::vector<float> margin = {};         ///< by how much, as the loss says
  std::vector<float> probability = {};    ///< that the chosen one is preferred: the share of the votes
  std::vector<float> weight = {};         ///< of the pair in the loss
  std::vector<float> chosen_reward = {};  ///< rewards, or probabilities to win, as the loss says
  std::vector<float> rejected_reward = {};
  std::vector<float> previous_chosen = {};  ///< log-probabilities under the last iterate, sums over tokens, nats
  std::vector<float> previous_rejected = {};
};

namespace preference_train_detail {

/// Chosen, then rejected responses of some pairs: one forward pass for both.
[[nodiscard]] inline responses join(const preference_pairs& pairs, std::span<const std::int64_t> rows) {
  responses both;
  for (const std::int64_t row : rows) both.add(pairs.chosen, row);
  for (const std::int64_t row : rows) both.add(pairs.rejected, row);
  return both;
}

/// Which of the numbers a loss reads.
struct reading {
  unsigned fields = 0;       ///< bits of rlhf::field: they are needed
  bool weight = true;        ///< may be given
  bool probability = false;  ///< may be given
};

inline void check(const preference_pairs& pairs, const char* function) {
  const std::int64_t n = pairs.chosen.size();
  if (pairs.rejected.size() != n) throw error(remark::shape(function, "pairs.rejected", pairs.rejected.size(), n));
  const auto sized = [&](const std::vector<float>& what, const char* name) {
    if (const auto got = static_cast<std::int64_t>(what.size()); got != 0 && got != n)
      throw error(remark::shape(function, name, got, n));
  };
  sized(pairs.margin, "pairs.margin");
  sized(pairs.probability, "pairs.probability");
  sized(pairs.weight, "pairs.weight");
  sized(pairs.chosen_reward, "pairs.chosen_reward");
  sized(pairs.rejected_reward, "pairs.rejected_reward");
  sized(pairs.previous_chosen, "pairs.previous_chosen");
  sized(pairs.previous_rejected, "pairs.previous_rejected");
}

/// Refuses a number that is none of those wanted. NaN is never wanted.
template <class Wanted>
void check_numbers(const std::vector<float>& all, const char* function, const char* name, Wanted&& wanted,
                   const char* range) {
  for (const float x : all)
    if (!wanted(x)) throw error(remark::argument(function, name, static_cast<double>(x), range));
}

/// Refuses what a loss needs and the pairs lack, what they have and the loss does not read, and numbers that are none.
inline void check(const preference_pairs& pairs, const reading& loss, const char* function) {
  check(pairs, function);
  const auto finite = [](float x) { return std::isfinite(x); };
  const auto refuse_if = [&](bool unread, const std::vector<float>& what, const char* name, const char* wants) {
    if (unread && !what.empty())
      throw error({errc::shape, function, name, "has elements:", static_cast<double>(what.size()), 0, wants});
  };
  const auto field_is = [&](unsigned bit, const std::vector<float>& what, const char* name) {
    const bool read = (loss.fields & bit) != 0;
    if (read && what.empty()) throw error(remark::shape(function, name, 0, pairs.chosen.size()));
    refuse_if(!read, what, name, "none: the loss does not say that it reads it");
    if (bit != field::pair_margin) check_numbers(what, function, name, finite, "finite numbers");
  };
  field_is(field::pair_margin, pairs.margin, "pairs.margin");
  field_is(field::chosen_reward, pairs.chosen_reward, "pairs.chosen_reward");
  field_is(field::rejected_reward, pairs.rejected_reward, "pairs.rejected_reward");
  field_is(field::previous_chosen, pairs.previous_chosen, "pairs.previous_chosen");
  field_is(field::previous_rejected, pairs.previous_rejected, "pairs.previous_rejected");
  refuse_if(!loss.weight, pairs.weight, "pairs.weight", "none: the loss does not weigh pairs");
  refuse_if(!loss.probability, pairs.probability, "pairs.probability",
            "none: the loss has no expectation over the order of a pair");
  check_numbers(
      pairs.margin, function, "pairs.margin", [](float x) { return !std::isnan(x); }, "numbers");
  check_numbers(pairs.weight, function, "pairs.weight", finite, "finite numbers");
  check_numbers(
      pairs.probability, function, "pairs.probability", [](float x) { return x >= 0 && x <= 1; }, "probabilities");
}

/// What losses of scores do not know.
inline void check_scored(const preference_pairs& pairs, const char* function) {
  check(pairs, function);
  const auto unread = [&](const std::vector<float>& what, const char* name) {
    if (!what.empty()) throw error(remark::shape(function, name, static_cast<std::int64_t>(what.size()), 0));
  };
  unread(pairs.chosen_reward, "pairs.chosen_reward");
  unread(pairs.rejected_reward, "pairs.rejected_reward");
  unread(pairs.previous_chosen, "pairs.previous_chosen");
  unread(pairs.previous_rejected, "pairs.previous_rejected");
}

/// The elements of some pairs; empty where there are none.
[[nodiscard]] inline std::vector<float> select(const std::vector<float>& all, std::span<const std::int64_t> rows) {
  std::vector<float> out;
  if (all.empty()) return out;
  for (const std::int64_t row : rows) out.push_back(all[static_cast<std::size_t>(row)]);
  return out;
}
[[nodiscard]] inline view<const float> view_of(const std::vector<float>& x) {
  return x.empty() ? view<const float>{} : view<const float>(x);
}

}  // namespace preference_train_detail

}  // namespace rlhf::inline v1
