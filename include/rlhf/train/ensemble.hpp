#pragma once
// Several reward models as one: trained side by side, scored together.

#include <algorithm>
#include <concepts>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "rlhf/driver/ensemble_reward.hpp"
#include "rlhf/reward/ensemble.hpp"
#include "rlhf/train/preference.hpp"

namespace rlhf::inline v1 {

/// A reward model whose score is a formula of its members' scores: ensemble_mean, worst_case, uncertainty_weighted,
/// lower_confidence_bound, ensemble_median. Wherever a reward is asked for, one of these will do. It owns nothing: backend and
/// members live as long as it.
template <class B, scores_responses Model, class Formula>
class reward_ensemble {
 public:
  reward_ensemble(B& be, std::span<Model> members, Formula formula = {})
      : be_(&be), members_(members), formula_(formula) {
    if (members.empty())
      throw error({errc::argument, "reward_ensemble", "members", "has elements:", 0, 0, "at least one"});
  }

  void rewards(const responses& batch, std::span<float> out) {
    const auto n = static_cast<std::size_t>(batch.size());
    std::vector<float> scores(members_.size() * n);
    for (std::size_t k = 0; k < members_.size(); ++k) members_[k].rewards(batch, std::span(scores).subspan(k * n, n));
    or_throw(ensemble_reward<Formula>{formula_}(
        *be_, view<const float, 2>(scores.data(), static_cast<std::int64_t>(members_.size()), batch.size()),
        ensemble_outputs<float>{.reward = {out.data(), batch.size()}}));
  }

 private:
  B* be_;
  std::span<Model> members_;
  Formula formula_;
};
template <class B, class Members, class Formula>
reward_ensemble(B&, Members&, Formula)
    -> reward_ensemble<B, std::remove_reference_t<decltype(std::declval<Members&>()[0])>, Formula>;

namespace ensemble_detail {

/// Refuses what there should be one of for each member, and is not.
inline void check_count(const char* argument, std::size_t got, std::size_t members) {
  if (got != members)
    throw error(remark::shape("train_reward_ensemble", argument, static_cast<std::int64_t>(got),
                              static_cast<std::int64_t>(members)));
}

/// Member k learns from `pairs_of(k)`.
template <class B, class Model, class Schedule, class PairsOf, class Observer, class Loss, class Ties>
void train(B& be, std::span<Model> members, std::span<parameter_update<Schedule>> updates, const PairsOf& pairs_of,
           const loop_options& options, Observer& observe, const Loss& algorithm, Ties& ties) {
  constexpr bool knows_ties = !std::same_as<std::remove_cvref_t<Ties>, no_tie>;
  check_count("updates", updates.size(), members.size());
  if constexpr (knows_ties) check_count("ties", std::size(ties), members.size());
  std::int64_t all = 0, before = 0, seen = 0;
  for (std::size_t k = 0; k < members.size(); ++k) {
    check_loop("train_reward_ensemble", "pairs", pairs_of(k).chosen.size(), options);
    all += minibatches(pairs_of(k).chosen.size(), options);
  }
  for (std::size_t k = 0; k < members.size(); ++k) {
    const preference_pairs& pairs = pairs_of(k);
    const std::int64_t each = minibatches(pairs.chosen.size(), options);
    loop_options own = options;
    own.key.stream += k;
    own.done = std::clamp(options.done - before, std::int64_t{0}, each);
    bool go_on = true;
    const auto watch = [&](progress now) {
      now.step += before;
      now.steps = all;
      now.items += seen;
      return go_on = tell(observe, now);
    };
    if (own.done < each) {
      if constexpr (knows_ties)
        train_reward_model(be, members[k], updates[k], pairs, own, watch, algorithm, ties[k]);
      else
        train_reward_model(be, members[k], updates[k], pairs, own, watch, algorithm, ties);
    }
    if (!go_on) return;
    before += each;
    seen += options.epochs * pairs.chosen.size();
  }
}

}  // namespace ensemble_detail

/// Fits the members to the same pairs, one after the other, each in an order of its own: member k on stream key.stream + k.
/// `updates` has one for each. `done` counts the updates of all. They should start from weights of their own too.
///
/// With a loss that knows ties (davidson, rao_kupper) go `ties`, a learned_tie for each member in a vector or span: each learns
/// a number of its own, as train_reward_model has it. Throws rlhf::error.
/// Example: `std::vector<learned_tie<>> ties(members.size(), {.parameter = tie_start(pairs), .rate = {1e-2}});
///           train_reward_ensemble(be, std::span(members), std::span(updates), pairs, options, ignore_progress{},
///                                 reward_loss{davidson{}}, ties);`
template <class B, trainable_reward Model, class Schedule, class Observer = ignore_progress, class Loss = reward_model,
          class Ties = no_tie>
void train_reward_ensemble(B& be, std::span<Model> members, std::span<parameter_update<Schedule>> updates,
                           const preference_pairs& pairs, const loop_options& options, Observer&& observe = {},
                           const Loss& algorithm = {}, Ties&& ties = {}) {
  const auto same = [&](std::size_t) -> const preference_pairs& { return pairs; };
  ensemble_detail::train(be, members, updates, same, options, observe, algorithm, ties);
}

/// The same from pairs of each member's own, as many as members: pairs drawn from the data with replacement, say, so that the
/// members' scores, and their numbers of ties, differ by as much as the data leave open.
template <class B, trainable_reward Model, class Schedule, class Observer = ignore_progress, class Loss = reward_model,
          class Ties = no_tie>
void train_reward_ensemble(B& be, std::span<Model> members, std::span<parameter_update<Schedule>> updates,
                           std::span<const preference_pairs> pairs, const loop_options& options,
                           Observer&& observe = {}, const Loss& algorithm = {}, Ties&& ties = {}) {
  ensemble_detail::check_count("pairs", pairs.size(), members.size());
  const auto own = [&](std::size_t k) -> const preference_pairs& { return pairs[k]; };
  ensemble_detail::train(be, members, updates, own, options, observe, algorithm, ties);
}

}  // namespace rlhf::inline v1
