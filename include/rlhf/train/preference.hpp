#pragma once
// Learning from preference pairs: reward models, and policies without one.

#include <concepts>
#include <type_traits>
#include <vector>

#include "rlhf/algorithm/dpo.hpp"
#include "rlhf/algorithm/reward_model.hpp"
#include "rlhf/train/loop.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

/// Pairs of responses: chosen(i) is preferred to rejected(i). What else is known of them is [pairs], or empty: losses of scores
/// read it.
struct preference_pairs {
  responses chosen;
  responses rejected;
  std::vector<float> margin = {};       ///< by how much
  std::vector<float> probability = {};  ///< that another judge agrees: the share of the votes
  std::vector<float> weight = {};       ///< of the pair in the loss
};

namespace preference_train_detail {

/// Chosen, then rejected responses of some pairs: one forward pass for both.
[[nodiscard]] inline responses join(const preference_pairs& pairs, std::span<const std::int64_t> rows) {
  responses both;
  for (const std::int64_t row : rows) both.add(pairs.chosen, row);
  for (const std::int64_t row : rows) both.add(pairs.rejected, row);
  return both;
}

/// A reference that is not moved.
struct stands_still {};

inline void check(const preference_pairs& pairs, const char* function) {
  if (pairs.chosen.size() != pairs.rejected.size())
    throw error(remark::shape(function, "pairs.rejected", pairs.rejected.size(), pairs.chosen.size()));
  const auto sized = [&](const std::vector<float>& what, const char* name) {
    if (const auto n = static_cast<std::int64_t>(what.size()); n != 0 && n != pairs.chosen.size())
      throw error(remark::shape(function, name, n, pairs.chosen.size()));
  };
  sized(pairs.margin, "pairs.margin");
  sized(pairs.probability, "pairs.probability");
  sized(pairs.weight, "pairs.weight");
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

/// The two halves of a joined batch as token layouts that both begin at 0.
struct halves {
  explicit halves(const responses& joined) : pairs(joined.size() / 2) {
    const auto offsets = joined.response_offsets();
    for (std::int64_t i = 0; i <= pairs; ++i) {
      chosen.push_back(offsets[static_cast<std::size_t>(i)]);
      rejected.push_back(offsets[static_cast<std::size_t>(pairs + i)] - offsets[static_cast<std::size_t>(pairs)]);
    }
  }
  [[nodiscard]] std::int64_t split() const { return chosen.back(); }

  std::int64_t pairs;
  std::vector<std::int64_t> chosen, rejected;
};

}  // namespace preference_train_detail

/// Fits a reward model to pairs by a score objective: reward_model (Bradley-Terry) or any reward_loss. The margins,
/// probabilities and weights of the pairs are the loss's to read.
/// Metrics: `loss`, `accuracy`, `margin`, `grad_norm`. Throws rlhf::error.
template <class B, trainable_reward Model, class Schedule, class Observer = ignore_progress, class Loss = reward_model>
void train_reward_model(B& be, Model& model, parameter_update<Schedule>& update, const preference_pairs& pairs,
                        const loop_options& options, Observer&& observe = {}, const Loss& algorithm = {}) {
  preference_train_detail::check(pairs, "train_reward_model");
  check_loop("train_reward_model", "pairs", pairs.chosen.size(), options);
  progress now = progress_of(pairs.chosen.size(), options);
  std::vector<float> scores, gradient;
  for_each_minibatch(pairs.chosen.size(), options, [&](std::span<const std::int64_t> rows) {
    const responses both = preference_train_detail::join(pairs, rows);
    const std::int64_t n = both.size() / 2;
    scores.resize(static_cast<std::size_t>(both.size()));
    gradient.resize(scores.size());
    model.rewards(both, scores);
    float loss = 0;
    statistics metrics;
    const std::vector<float> margin = preference_train_detail::select(pairs.margin, rows),
                             probability = preference_train_detail::select(pairs.probability, rows),
                             weight = preference_train_detail::select(pairs.weight, rows);
    or_throw(algorithm(be,
                       score_inputs<float>{.chosen = {scores.data(), n},
                                           .rejected = {scores.data() + n, n},
                                           .margin = preference_train_detail::view_of(margin),
                                           .probability = preference_train_detail::view_of(probability),
                                           .weight = preference_train_detail::view_of(weight)},
                       score_outputs<float>{.loss = {&loss, 1},
                                            .grad_chosen = {gradient.data(), n},
                                            .grad_rejected = {gradient.data() + n, n},
                                            .stats = &metrics}));
    model.backward_rewards(gradient);
    metrics.add("loss", static_cast<double>(loss), 1);
    metrics.add("grad_norm", update.apply(model), 1);
    ++now.step;
    now.items += n;
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

/// Fits a policy to pairs by any pair objective: `loss` is a preference_loss or a named algorithm such as dpo. The
/// reference's log-probabilities are computed once, before the first update; with a `sync` (reference_sync,
/// bias_corrected_average) the reference follows the policy and is asked for each minibatch: then reference and sync belong
/// to the state of the run.
/// Metrics: `loss`, `rewards/...`, `logps/...`, `grad_norm`. Throws rlhf::error.
template <class B, trainable_policy Policy, scores_tokens Reference, class Schedule, class Loss = dpo,
          class Observer = ignore_progress, class Sync = preference_train_detail::stands_still>
void train_preference(B& be, Policy& policy, Reference& reference, parameter_update<Schedule>& update,
                      const preference_pairs& pairs, const loop_options& options, const Loss& loss = {},
                      Observer&& observe = {}, Sync&& sync = {}) {
  constexpr bool follows = !std::same_as<std::remove_cvref_t<Sync>, preference_train_detail::stands_still>;
  static_assert(!follows || parameterised<Reference>,
                "rlhf: a reference that follows the policy has parameters to be moved");
  preference_train_detail::check(pairs, "train_preference");
  check_loop("train_preference", "pairs", pairs.chosen.size(), options);
  std::vector<float> ref_chosen, ref_rejected, ref;
  if constexpr (!follows) {
    ref_chosen.resize(static_cast<std::size_t>(pairs.chosen.response_tokens()));
    ref_rejected.resize(static_cast<std::size_t>(pairs.rejected.response_tokens()));
    reference.log_probs(pairs.chosen, ref_chosen);
    reference.log_probs(pairs.rejected, ref_rejected);
  }

  progress now = progress_of(pairs.chosen.size(), options);
  std::vector<float> logp, gradient;
  for_each_minibatch(pairs.chosen.size(), options, [&](std::span<const std::int64_t> rows) {
    const responses both = preference_train_detail::join(pairs, rows);
    const preference_train_detail::halves sides(both);
    logp.resize(static_cast<std::size_t>(both.response_tokens()));
    gradient.resize(logp.size());
    policy.log_probs(both, logp);
    if constexpr (follows) {
      ref.resize(logp.size());
      reference.log_probs(both, ref);
    } else {
      ref = pairs.chosen.select(rows, std::span<const float>(ref_chosen));
      const std::vector<float> rejected = pairs.rejected.select(rows, std::span<const float>(ref_rejected));
      ref.insert(ref.end(), rejected.begin(), rejected.end());
    }
    const std::int64_t split = sides.split(), rest = both.response_tokens() - split;
    float value = 0;
    statistics metrics;
    or_throw(
        loss(be,
             token_pair_inputs<float>{
                 .chosen = {packed(sides.chosen), {logp.data(), split}, {ref.data(), split}, {}},
                 .rejected = {packed(sides.rejected), {logp.data() + split, rest}, {ref.data() + split, rest}, {}}},
             pair_outputs<float>{.loss = {&value, 1},
                                 .grad_chosen = {gradient.data(), split},
                                 .grad_rejected = {gradient.data() + split, rest},
                                 .stats = &metrics}));
    policy.backward(gradient);
    metrics.add("loss", static_cast<double>(value), 1);
    metrics.add("grad_norm", update.apply(policy), 1);
    if constexpr (follows) sync.step(reference.parameters(), policy.parameters());
    ++now.step;
    now.items += sides.pairs;
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

}  // namespace rlhf::inline v1
