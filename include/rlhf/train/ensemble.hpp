#pragma once
// Several reward models as one: trained side by side, scored together.

#include <span>
#include <type_traits>
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

/// Fits the members to the same pairs, one after the other, each in an order of its own: member k on stream key.stream + k.
/// `updates` has one for each. `done` counts the updates of all. They should start from weights of their own too.
template <class B, trainable_reward Model, class Schedule, class Observer = ignore_progress, class Loss = reward_model>
void train_reward_ensemble(B& be, std::span<Model> members, std::span<parameter_update<Schedule>> updates,
                           const preference_pairs& pairs, const loop_options& options, Observer&& observe = {},
                           const Loss& algorithm = {}) {
  if (updates.size() != members.size())
    throw error(remark::shape("train_reward_ensemble", "updates", static_cast<std::int64_t>(updates.size()),
                              static_cast<std::int64_t>(members.size())));
  check_loop("train_reward_ensemble", "pairs", pairs.chosen.size(), options);
  const std::int64_t each = minibatches(pairs.chosen.size(), options);
  for (std::size_t k = 0; k < members.size(); ++k) {
    const std::int64_t before = static_cast<std::int64_t>(k) * each;
    loop_options own = options;
    own.key.stream += k;
    own.done = std::clamp(options.done - before, std::int64_t{0}, each);
    if (own.done == each) continue;
    bool go_on = true;
    train_reward_model(
        be, members[k], updates[k], pairs, own,
        [&](progress now) {
          now.step += before;
          now.steps = each * static_cast<std::int64_t>(members.size());
          now.items += static_cast<std::int64_t>(k) * options.epochs * pairs.chosen.size();
          return go_on = tell(observe, now);
        },
        algorithm);
    if (!go_on) return;
  }
}

}  // namespace rlhf::inline v1
