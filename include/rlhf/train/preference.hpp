#pragma once
// Learning from preference pairs: reward models, and policies without one.

#include <concepts>
#include <type_traits>
#include <vector>

#include "rlhf/algorithm/dpo.hpp"
#include "rlhf/algorithm/reward_model.hpp"
#include "rlhf/train/learned_tie.hpp"
#include "rlhf/train/loop.hpp"
#include "rlhf/train/pair_call.hpp"
#include "rlhf/train/reference.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

/// Fits a reward model to pairs by a score objective: reward_model (Bradley-Terry) or any reward_loss. The margins,
/// probabilities and weights of the pairs are the loss's to read.
///
/// With a loss that knows ties (reward_loss of davidson or rao_kupper, or what declares `reads` with field::tie) goes a
/// learned_tie: the loss reads its number and the loop learns it, after the scores of each minibatch, from the same gradient.
/// Then pairs.probability says how every pair ended: 1 the first response won, 0 it lost, 1/2 a tie; other numbers, shares of
/// votes say, are refused. A loss that reads the number without one, and one given to another loss, do not compile.
/// Metrics: `loss`, `accuracy`, `margin`, `grad_norm`; with ties `tie`, the number that the loss read (log nu, log theta), and
/// `tie_share` of the pairs, which count in no `accuracy`. Throws rlhf::error.
template <class B, trainable_reward Model, class Schedule, class Observer = ignore_progress, class Loss = reward_model,
          class Tie = no_tie>
void train_reward_model(B& be, Model& model, parameter_update<Schedule>& update, const preference_pairs& pairs,
                        const loop_options& options, Observer&& observe = {}, const Loss& algorithm = {},
                        Tie&& tie = {}) {
  constexpr bool ties = !std::same_as<std::remove_cvref_t<Tie>, no_tie>;
  static_assert(ties || !tie_detail::reads_tie<Loss>(),
                "rlhf: this loss knows ties and reads their number: give train_reward_model a learned_tie");
  static_assert(!ties || tie_detail::reads_tie<Loss>(),
                "rlhf: this loss does not say that it reads the number of ties: give it none, or declare field::tie in "
                "its `reads`");
  preference_train_detail::check_scored(pairs, "train_reward_model");
  check_loop("train_reward_model", "pairs", pairs.chosen.size(), options);
  if constexpr (ties) tie_detail::check(tie, pairs, "train_reward_model");
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
    score_inputs<float> in{.chosen = {scores.data(), n},
                           .rejected = {scores.data() + n, n},
                           .margin = preference_train_detail::view_of(margin),
                           .probability = preference_train_detail::view_of(probability),
                           .weight = preference_train_detail::view_of(weight)};
    score_outputs<float> out{.loss = {&loss, 1},
                             .grad_chosen = {gradient.data(), n},
                             .grad_rejected = {gradient.data() + n, n},
                             .stats = &metrics};
    if constexpr (ties) {
      const float number = tie_detail::number_for<Loss>(tie.parameter);
      float slope = 0;
      statistics of_loss;
      in.tie = {&number, 1};
      out.grad_tie = {&slope, 1};
      out.stats = &of_loss;
      or_throw(algorithm(be, in, out));
      tie_detail::step<Loss>(tie, slope);
      tie_detail::add_metrics(of_loss, probability, scores, number, metrics);
    } else {
      or_throw(algorithm(be, in, out));
    }
    model.backward_rewards(gradient);
    metrics.add("loss", static_cast<double>(loss), 1);
    update.apply(model, metrics);
    ++now.step;
    now.items += n;
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

/// Fits a policy to pairs by any pair objective: `loss` is a preference_loss, a named algorithm (dpo, aot, kto_pair, wpo), or
/// what is called like one of them with tokens or with sums.
///
/// Margins, rewards and log-probabilities of the last iterate are the loss's to read; weights multiply a pair's loss. With
/// probabilities p the loss is the expected one over the order, p L(chosen, rejected) + (1 - p) L(rejected, chosen): DPO is
/// then the cross entropy to the votes. What the loss needs and the pairs lack is refused, and so is what it does not read.
/// The reference is a model, pair_reference_logp, or, for a loss that reads none, no_reference. A model is asked once, before
/// the first update, and not at all where the loss reads no reference; with a `sync` (reference_sync,
/// bias_corrected_average) it follows the policy and is asked about each minibatch: then reference and sync belong to the
/// state of the run.
/// Metrics: `loss`, `rewards/...`, `logps/...` (against a reference of 0 where the loss reads none), `grad_norm`. Throws
/// rlhf::error.
template <class B, trainable_policy Policy, gives_reference<pair_reference_logp> Reference, class Schedule,
          class Loss = dpo, class Observer = ignore_progress, class Sync = reference_detail::stands_still>
void train_preference(B& be, Policy& policy, Reference&& reference, parameter_update<Schedule>& update,
                      const preference_pairs& pairs, const loop_options& options, const Loss& loss = {},
                      Observer&& observe = {}, Sync&& sync = {}) {
  using namespace preference_train_detail;
  constexpr const char* name = "train_preference";
  const reading reads = read_by(loss);
  preference_train_detail::check(pairs, reads, name);
  check_loop(name, "pairs", pairs.chosen.size(), options);
  reference_detail::loop_reference anchor(reference, sync, (reads.fields & field::references) != 0, name);
  anchor.add(pairs.chosen);
  anchor.add(pairs.rejected);

  progress now = progress_of(pairs.chosen.size(), options);
  std::vector<float> gradient;
  for_each_minibatch(pairs.chosen.size(), options, [&](std::span<const std::int64_t> rows) {
    pair_minibatch x(pairs, rows);
    x.sides.ref_logp = anchor.of(x.sides.batch, rows);
    concentration(policy, loss, x);
    policy.log_probs(x.sides.batch, x.logp);
    statistics metrics;
    const double value = pair_loss_of(be, loss, x, gradient, &metrics);
    policy.backward(gradient);
    metrics.add("loss", value, 1);
    update.apply(policy, metrics);
    anchor.follow(policy);
    ++now.step;
    now.items += x.sides.pairs;
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

}  // namespace rlhf::inline v1
