#pragma once
// DVPO's two loops: a value model from labelled responses, then a policy against the frozen value.

#include <vector>

#include "rlhf/algorithm/dvpo.hpp"
#include "rlhf/train/labelled.hpp"
#include "rlhf/train/policy_epochs.hpp"
#include "rlhf/train/preference.hpp"

namespace rlhf::inline v1 {

/// Pairs as labelled responses: all chosen ones, then all rejected ones.
[[nodiscard]] inline labelled_responses label_pairs(const preference_pairs& pairs, float chosen = 1,
                                                    float rejected = -1) {
  labelled_responses out;
  for (const auto& [side, label] : {std::pair{&pairs.chosen, chosen}, std::pair{&pairs.rejected, rejected}})
    for (std::int64_t i = 0; i < side->size(); ++i) {
      out.response.add(*side, i);
      out.label.push_back(label);
    }
  return out;
}

namespace dvpo_detail {

/// Values of all states of some responses: before each token, and after the last one.
struct frozen_values {
  std::vector<float> value;        ///< [tokens]
  std::vector<float> final_value;  ///< [responses]
};

template <class Critic>
[[nodiscard]] frozen_values look(Critic& critic, const responses& batch) {
  const responses longer = labelled_detail::with_end(batch);
  std::vector<float> all(static_cast<std::size_t>(longer.response_tokens()));
  critic.values(longer, all);
  frozen_values out;
  for (std::int64_t i = 0; i < batch.size(); ++i) {
    const auto begin = all.begin() + longer.response_offsets()[static_cast<std::size_t>(i)];
    const auto end = all.begin() + longer.response_offsets()[static_cast<std::size_t>(i) + 1] - 1;
    out.value.insert(out.value.end(), begin, end);
    out.final_value.push_back(*end);
  }
  return out;
}

/// Whitens values, the final ones with the rest.
template <class B>
void scale_values(B& be, value_scale scale, const responses& batch, frozen_values& v) {
  if (scale == value_scale::none) return;
  const auto whiten_part = [&](std::int64_t from, std::int64_t to) {
    std::vector<float> all;
    for (std::int64_t i = from; i < to; ++i) {
      const auto offsets = batch.response_offsets();
      all.insert(all.end(), v.value.begin() + offsets[static_cast<std::size_t>(i)],
                 v.value.begin() + offsets[static_cast<std::size_t>(i) + 1]);
      all.push_back(v.final_value[static_cast<std::size_t>(i)]);
    }
    or_throw(whitening{}(be, whiten_inputs<float>{all, {}}, all));
    auto next = all.begin();
    for (std::int64_t i = from; i < to; ++i) {
      const auto n = static_cast<std::ptrdiff_t>(batch.response(i).size());
      std::copy(next, next + n, v.value.begin() + batch.response_offsets()[static_cast<std::size_t>(i)]);
      v.final_value[static_cast<std::size_t>(i)] = *(next + n);
      next += n + 1;
    }
  };
  if (scale == value_scale::batch) return whiten_part(0, batch.size());
  for (std::int64_t i = 0; i < batch.size(); ++i) whiten_part(i, i + 1);
}

}  // namespace dvpo_detail

/// Learns the values of all states of labelled responses (label_pairs, or scores of a reward model): for each minibatch
/// targets from the current values, then `algorithm.passes` updates towards them.
///
/// The critic must be one whose value of a state does not depend on the token that follows it; it is asked for one state more
/// than the response has tokens. Metrics: `loss`, `value_mean`, `returns_mean`, `explained_variance`, `grad_norm`. Throws
/// rlhf::error.
template <class B, trainable_critic Critic, class Schedule, class Observer = ignore_progress>
void train_global_value(B& be, const global_value& algorithm, Critic& critic, parameter_update<Schedule>& update,
                        const labelled_responses& data, const loop_options& options, Observer&& observe = {}) {
  labelled_detail::check(data, "train_global_value");
  check_loop("train_global_value", "data", data.response.size(), options);
  or_throw(algorithm.check());
  progress now = progress_of(data.response.size(), options);
  for_each_minibatch(data.response.size(), options, [&](std::span<const std::int64_t> rows) {
    const responses batch = labelled_detail::with_end(data.response.select(rows));
    const auto slots = static_cast<std::size_t>(batch.response_tokens());
    std::vector<float> reward(slots), value(slots), returns(slots), gradient(slots);
    for (std::size_t i = 0; i < rows.size(); ++i)
      reward[static_cast<std::size_t>(batch.response_offsets()[i + 1]) - 1] =
          data.label[static_cast<std::size_t>(rows[i])];
    critic.values(batch, value);
    or_throw(algorithm.targets(be, batch.layout(), view<const float>(reward), value, returns));
    statistics metrics;
    for (std::int64_t pass = 0; pass < algorithm.passes; ++pass) {
      critic.values(batch, value);
      float loss = 0;
      or_throw(algorithm.loss(be, batch.layout(), value_inputs<float>{.value = value, .returns = returns},
                              value_outputs<float>{.loss = {&loss, 1}, .grad_value = gradient, .stats = &metrics}));
      critic.backward_values(gradient);
      metrics.add("loss", static_cast<double>(loss), 1);
      update.apply(critic, metrics);
    }
    ++now.step;
    now.items += batch.size();
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

/// The policy against a frozen value: rollouts, advantages, epochs of minibatches. No critic learns and no reward is asked
/// for: the score of a response is the value after its last token.
///
/// Metrics: `objective/...`, `policy/...`, `loss/policy_avg`, `grad_norm`. Throws rlhf::error.
template <class B, class Term, class Policy, estimates_values Critic, scores_tokens Reference, class Schedule,
          class Prompts, class Observer = ignore_iteration>
  requires trainable_policy<Policy> && sampling_policy<Policy>
void train_dvpo(B& be, const basic_dvpo<Term>& algorithm, Policy& policy, Critic& critic, Reference& reference,
                parameter_update<Schedule>& update, Prompts&& prompts, const on_policy_options& options,
                Observer&& observe = {}) {
  check_loop("train_dvpo", options);
  struct final_values {
    Critic* critic;
    dvpo_detail::frozen_values found;
    void rewards(const responses& batch, std::span<float> out) {
      found = dvpo_detail::look(*critic, batch);
      std::copy(found.final_value.begin(), found.final_value.end(), out.begin());
    }
  };
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    final_values frozen{&critic, {}};
    const rollout r = collect(policy, reference, frozen, prompts(i), options.samples, stream(options.key, 2 * i),
                              update.optimiser.steps);
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);
    dvpo_detail::scale_values(be, algorithm.scale, r.batch, frozen.found);
    std::vector<float> shaped(r.old_logp.size()), advantage(shaped.size());
    or_throw(algorithm.prepare(
        be, r.batch.layout(),
        frozen_value_inputs<float>{r.old_logp, r.ref_logp, frozen.found.value, frozen.found.final_value}, shaped,
        advantage));
    statistics metrics;
    describe(r, shaped, metrics);
    policy_epochs(be, algorithm, policy, update, r, advantage,
                  {options.minibatch, options.epochs, stream(options.key, 2 * i + 1)}, options.stop_kl, metrics,
                  options.weight_cap);
    now.after(r, i, metrics);
    if (!tell(observe, now)) return;
  }
}

}  // namespace rlhf::inline v1
