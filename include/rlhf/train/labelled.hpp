#pragma once
// Learning from single responses that carry a label or a rating: policies without pairs, reward models from outcomes.

#include <cmath>
#include <concepts>
#include <vector>

#include "rlhf/driver/reference_point.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/reward/outcome.hpp"
#include "rlhf/train/joined.hpp"
#include "rlhf/train/loop.hpp"
#include "rlhf/train/reference.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

/// Responses one by one, and what is known of each.
struct labelled_responses {
  responses response;
  std::vector<float> label;   ///< [responses] 1: desirable, 0: not; or a rating, a reward, as the objective says
  std::vector<float> weight;  ///< [responses] multiplies a response's loss (BCO's prompt_match_weight); empty: 1 each
};

/// An objective that compares rewards with nothing.
struct no_reference_point {};

/// A reference point that is kept between updates, such as running_reference: `update(be, log-ratios)`, then `mean()`.
template <class P, class B>
concept running_point = requires(P& p, B& be, const log_ratio_inputs<float>& in) {
  or_throw(p.update(be, in));
  { p.mean() } -> std::convertible_to<double>;
};

/// One made afresh from mismatched responses, such as kto_reference_point: `p(be, log-ratios, out)`.
template <class P, class B>
concept mismatched_point =
    requires(const P& p, B& be, const log_ratio_inputs<float>& in, view<float> out) { or_throw(p(be, in, out)); };

namespace labelled_detail {

inline void check(const labelled_responses& data, const char* function) {
  const std::int64_t n = data.response.size();
  const auto sized = [&](const std::vector<float>& v, const char* argument) {
    if (static_cast<std::int64_t>(v.size()) != n)
      throw error(remark::shape(function, argument, static_cast<std::int64_t>(v.size()), n));
    for (const float x : v)
      if (!std::isfinite(x))
        throw error(remark::argument(function, argument, static_cast<double>(x), "finite numbers"));
  };
  sized(data.label, "data.label");
  if (!data.weight.empty()) sized(data.weight, "data.weight");
}

[[nodiscard]] inline std::vector<float> select(const std::vector<float>& from, std::span<const std::int64_t> rows) {
  std::vector<float> out;
  if (!from.empty())
    for (const std::int64_t row : rows) out.push_back(from[static_cast<std::size_t>(row)]);
  return out;
}

/// The log-probability of each response as a whole, from those of its tokens.
[[nodiscard]] inline std::vector<float> whole(const responses& batch, const std::vector<float>& of_token) {
  const std::vector<double> sums = batch_detail::response_sums(batch, of_token);
  return {sums.begin(), sums.end()};
}
template <class Policy>
[[nodiscard]] std::vector<float> whole(Policy& policy, const responses& batch) {
  std::vector<float> logp(static_cast<std::size_t>(batch.response_tokens()));
  policy.log_probs(batch, logp);
  return whole(batch, logp);
}

/// Each prompt with the response to the next one.
[[nodiscard]] inline responses mismatched_responses(const responses& batch) {
  responses out;
  for (std::int64_t i = 0; i < batch.size(); ++i) out.add(batch.prompt(i), batch.response((i + 1) % batch.size()));
  return out;
}

/// Each response with one token more, so that a critic, which sees what is before a token, tells the value after the last
/// one too. Which token it is does not matter.
[[nodiscard]] inline responses with_end(const responses& batch) {
  responses out;
  for (std::int64_t i = 0; i < batch.size(); ++i) {
    std::vector<std::int32_t> longer(batch.response(i).begin(), batch.response(i).end());
    longer.push_back(longer.empty() ? batch.prompt(i).back() : longer.back());
    out.add(batch.prompt(i), longer);
  }
  return out;
}

template <class Objective>
inline constexpr bool compares = (reads_of<Objective>() & field::reference_point) != 0;

/// May an objective, or the point it compares with, look at the reference?
template <class Objective>
[[nodiscard]] constexpr bool reads_reference(const Objective& objective) {
  return !declares_reads<Objective>() || (needs_of(objective) & (field::ref_logp | field::reference_point)) != 0;
}

}  // namespace labelled_detail

/// Fits a policy to labelled responses by an unpaired objective: KTO, BCO, APO-zero, UNA, unlearning by NPO.
///
/// `loss` is an unpaired_loss. An objective that reads a reference point takes it from `point`: a kto_reference_point is
/// computed for each minibatch from its own responses under each other's prompts, which costs a forward pass more; a
/// running_reference takes in each minibatch before the loss, belongs to the state of the run and is saved with it. A minibatch
/// of one has no mismatched response but its own.
/// The reference is a model, reference_logp, or, for an objective that reads none, no_reference. A model is asked about the
/// data once; with a `sync` (reference_sync, bias_corrected_average) it follows the policy and is asked about each
/// minibatch: then reference and sync belong to the state of the run.
/// Metrics: `loss`, `rewards/...`, `logps/...`, `kl` or `delta`, `grad_norm`. Throws rlhf::error.
template <class B, trainable_policy Policy, gives_reference<reference_logp> Reference, class Schedule,
          class Loss = unpaired_loss<kto>, class Observer = ignore_progress, class Point = kto_reference_point,
          class Sync = reference_detail::stands_still>
void train_unpaired(B& be, Policy& policy, Reference&& reference, parameter_update<Schedule>& update,
                    const labelled_responses& data, const loop_options& options, const Loss& loss = {},
                    Observer&& observe = {}, Point&& point = {}, Sync&& sync = {}) {
  using namespace labelled_detail;
  using point_type = std::remove_cvref_t<Point>;
  constexpr bool compared = compares<decltype(loss.objective)>;
  static_assert(!compared || running_point<point_type, B> || mismatched_point<point_type, B>,
                "rlhf: this objective compares rewards with a reference point: give kto_reference_point or "
                "running_reference");
  static_assert(
      !compared || running_point<point_type, B> || scores_tokens<Reference>,
      "rlhf: kto_reference_point asks the reference about mismatched responses: give a model, or compare with "
      "a running_reference");
  labelled_detail::check(data, "train_unpaired");
  check_loop("train_unpaired", "data", data.response.size(), options);
  reference_detail::loop_reference anchor(reference, sync, reads_reference(loss.objective), "train_unpaired");
  anchor.add(data.response);

  progress now = progress_of(data.response.size(), options);
  for_each_minibatch(data.response.size(), options, [&](std::span<const std::int64_t> rows) {
    const responses batch = data.response.select(rows);
    const std::vector<float> label = select(data.label, rows), weight = select(data.weight, rows);
    std::vector<float> ref_logp, length;
    if (anchor.read()) ref_logp = whole(batch, anchor.of(batch, rows));
    for (std::int64_t i = 0; i < batch.size(); ++i) length.push_back(static_cast<float>(batch.response(i).size()));
    float baseline = 0, value = 0;
    if constexpr (compared && !running_point<point_type, B>) {
      const responses other = mismatched_responses(batch);
      const std::vector<float> logp = whole(policy, other), ref = whole(reference, other);
      or_throw(point(be, log_ratio_inputs<float>{logp, ref, {}}, view<float>(&baseline, 1)));
    }
    const std::vector<float> logp = whole(policy, batch);
    if constexpr (compared && running_point<point_type, B>) {
      or_throw(point.update(be, log_ratio_inputs<float>{logp, ref_logp, {}}));
      baseline = static_cast<float>(point.mean());
    }
    std::vector<float> gradient(logp.size());
    statistics metrics;
    unpaired_inputs<float> in{.logp = logp, .label = label, .length = length};
    if (anchor.read()) in.ref_logp = ref_logp;
    if constexpr (compared) in.reference_point = {&baseline, 1};
    if (!weight.empty()) in.weight = weight;
    or_throw(loss(be, in, unpaired_outputs<float>{.loss = {&value, 1}, .grad_logp = gradient, .stats = &metrics}));
    policy.backward(batch_detail::to_tokens(batch, gradient));
    metrics.add("loss", static_cast<double>(value), 1);
    update.apply(policy, metrics);
    anchor.follow(policy);
    ++now.step;
    now.items += batch.size();
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

/// Fits a reward model to labels by a value objective: the sigmoid of a score to an outcome (binary_outcome), or the score
/// itself to a rating (squared_value, huber_value).
/// Metrics: `loss`, `value_mean`, `returns_mean`, `explained_variance`, `accuracy` (the score's sign against the label's side
/// of 1/2) where the objective is of outcomes, `grad_norm`. Throws rlhf::error.
template <class B, trainable_reward Model, class Schedule, class Observer = ignore_progress,
          class Loss = value_loss<binary_outcome>>
void train_reward_outcomes(B& be, Model& model, parameter_update<Schedule>& update, const labelled_responses& data,
                           const loop_options& options, Observer&& observe = {}, const Loss& loss = {}) {
  constexpr bool outcomes = std::same_as<std::remove_cvref_t<decltype(loss.objective)>, binary_outcome>;
  labelled_detail::check(data, "train_reward_outcomes");
  check_loop("train_reward_outcomes", "data", data.response.size(), options);
  if (!data.weight.empty())
    throw error({errc::argument, "train_reward_outcomes", "data.weight", "is given", 0, 0, "none"});
  progress now = progress_of(data.response.size(), options);
  for_each_minibatch(data.response.size(), options, [&](std::span<const std::int64_t> rows) {
    const responses batch = data.response.select(rows);
    const std::vector<float> label = labelled_detail::select(data.label, rows);
    std::vector<float> score(label.size()), gradient(label.size());
    model.rewards(batch, score);
    float value = 0;
    statistics metrics;
    or_throw(loss(be, padded(batch.size(), 1), {.value = score, .old_value = score, .returns = label},
                  {.loss = {&value, 1}, .grad_value = gradient, .stats = &metrics}));
    model.backward_rewards(gradient);
    if constexpr (outcomes) {
      double right = 0;
      for (std::size_t i = 0; i < label.size(); ++i) right += (score[i] > 0) == (label[i] > 0.5f) ? 1 : 0;
      metrics.add("accuracy", right, static_cast<double>(label.size()));
    }
    metrics.add("loss", static_cast<double>(value), 1);
    update.apply(model, metrics);
    ++now.step;
    now.items += batch.size();
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

}  // namespace rlhf::inline v1
