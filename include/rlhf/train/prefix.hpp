#pragma once
// VinePPO's loop: values of the states inside responses, from rollouts that go on from them.

#include <algorithm>
#include <limits>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "rlhf/algorithm/vineppo.hpp"
#include "rlhf/train/policy_epochs.hpp"

namespace rlhf::inline v1 {

/// A step every n tokens.
struct every_n_tokens {
  std::int64_t n = 1;
  /// Where the steps of response i begin, in tokens of the response: rising, from 0.
  [[nodiscard]] std::vector<std::int64_t> operator()(const responses& batch, std::int64_t i) const {
    if (n < 1) throw error(remark::argument("every_n_tokens", "n", static_cast<double>(n), "1 or more"));
    std::vector<std::int64_t> begins;
    for (std::int64_t t = 0; t < static_cast<std::int64_t>(batch.response(i).size()); t += n) begins.push_back(t);
    return begins;
  }
};

/// A step ends with any of these tokens: a newline, the end of a sentence.
struct steps_after {
  std::vector<std::int32_t> tokens;
  [[nodiscard]] std::vector<std::int64_t> operator()(const responses& batch, std::int64_t i) const {
    const auto response = batch.response(i);
    std::vector<std::int64_t> begins;
    bool open = false;
    for (std::size_t t = 0; t < response.size(); ++t) {
      if (!open) begins.push_back(static_cast<std::int64_t>(t));
      open = true;
      for (const std::int32_t token : tokens) open = open && response[t] != token;
    }
    return begins;
  }
};

/// Responses cut into steps, and the states between them; a state that several responses pass is there once.
struct response_steps {
  std::vector<std::int64_t> offsets{0};  ///< [responses + 1] of the steps
  std::vector<std::int32_t> step;        ///< [tokens] which step of its response a token is in
  std::vector<std::int64_t> state;       ///< [steps] the state before each, -1: none
  prompt_list prefixes;                  ///< [states] a prompt and the beginning of a response to it
  std::vector<std::int64_t> begun;       ///< [states] how many tokens of it are the response's

  /// `begins(batch, i)` gives where the steps of response i begin. At most `max_steps` states of a response are kept, 0: all.
  template <class Begins>
  response_steps(const responses& batch, const Begins& begins, std::int64_t max_steps = 0) {
    std::map<std::pair<std::int64_t, std::vector<std::int32_t>>, std::int64_t> known;
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      const std::vector<std::int64_t> at = begins(batch, i);
      const auto length = static_cast<std::int64_t>(batch.response(i).size());
      std::vector<std::int32_t> prefix(batch.prompt(i).begin(), batch.prompt(i).end());
      for (std::size_t k = 0; k < at.size(); ++k) {
        const std::int64_t end = k + 1 < at.size() ? at[k + 1] : length;
        if ((k == 0 && at[k] != 0) || at[k] >= end)
          throw error(remark::argument("response_steps", "where a step begins", static_cast<double>(at[k]),
                                       "rising numbers from 0, below the length of the response"));
        if (max_steps == 0 || static_cast<std::int64_t>(k) < max_steps) {
          const auto [found, fresh] = known.try_emplace({at[k], prefix}, static_cast<std::int64_t>(prefixes.size()));
          if (fresh) {
            prefixes.push_back(prefix);
            begun.push_back(at[k]);
          }
          state.push_back(found->second);
        } else {
          state.push_back(-1);
        }
        for (std::int64_t t = at[k]; t < end; ++t) {
          step.push_back(static_cast<std::int32_t>(k));
          prefix.push_back(batch.response(i)[static_cast<std::size_t>(t)]);
        }
      }
      if (at.empty() && length > 0)
        throw error({errc::argument, "response_steps", "a response", "has steps:", 0, 0, "at least one"});
      offsets.push_back(offsets.back() + static_cast<std::int64_t>(at.size()));
    }
  }

  /// What is left behind each state of a response of at most `max_length` tokens [states], 1 or more. Throws rlhf::error.
  [[nodiscard]] std::vector<std::int64_t> room(std::int64_t max_length) const {
    std::vector<std::int64_t> out;
    for (const std::int64_t before : begun) {
      if (before >= max_length)
        throw error(remark::argument("response_steps", "max_length", static_cast<double>(max_length),
                                     "more than the tokens of a response before any of its steps"));
      out.push_back(max_length - before);
    }
    return out;
  }

  /// The continuation of each state, `n` of each, as whole responses to their prompts. With `room` [states] no more than so many
  /// tokens of each: the first tokens of a continuation do not depend on how far it went.
  [[nodiscard]] responses whole(const responses& continued, std::int64_t n,
                                std::span<const std::int64_t> room = {}) const {
    responses out;
    for (std::int64_t j = 0; j < continued.size(); ++j) {
      const auto s = static_cast<std::size_t>(j / n);
      const auto prompt = std::span(prefixes[s]).first(prefixes[s].size() - static_cast<std::size_t>(begun[s]));
      std::vector<std::int32_t> response(prefixes[s].end() - begun[s], prefixes[s].end());
      auto more = continued.response(j);
      if (!room.empty()) more = more.first(std::min(more.size(), static_cast<std::size_t>(room[s])));
      response.insert(response.end(), more.begin(), more.end());
      out.add(prompt, response);
    }
    return out;
  }
};

/// Values of states and what they cost.
struct state_values {
  std::vector<float> value;     ///< [states]
  std::vector<float> variance;  ///< [states] of the value
  std::int64_t tokens = 0;      ///< sampled for them
};

/// The mean return of `algorithm.rollouts` rollouts of the policy from each state. A prefix is a prompt: whoever samples
/// responses can go on from one. The reward sees whole responses to their prompts; with `algorithm.max_length` none is longer
/// than that: a bounded_sampling_policy stops there, what another one sampled beyond it is cut, and counts in `tokens`. Throws
/// rlhf::error.
template <class B, class Policy, class Reference, class Reward>
[[nodiscard]] state_values estimate_values(B& be, const vineppo& algorithm, Policy& policy, Reference& reference,
                                           Reward& reward, const response_steps& steps, random_key key,
                                           std::int64_t version = 0) {
  const std::vector<std::int64_t> room =
      algorithm.max_length > 0 ? steps.room(algorithm.max_length) : std::vector<std::int64_t>{};
  const auto go_on = [&] {
    if constexpr (bounded_sampling_policy<Policy>)
      if (!room.empty()) return policy.sample_at_most(steps.prefixes, algorithm.rollouts, key, room);
    return policy.sample(steps.prefixes, algorithm.rollouts, key);
  };
  const responses continued = go_on();
  const rollout r =
      collect(policy, reference, reward, steps.whole(continued, algorithm.rollouts, room), version, drawn_by::others);
  std::vector<float> returns;
  for (std::int64_t j = 0; j < r.batch.size(); ++j)
    returns.push_back(static_cast<float>(static_cast<double>(r.score[static_cast<std::size_t>(j)]) -
                                         algorithm.kl_in_return * r.log_ratio(j)));
  const auto states = static_cast<std::int64_t>(steps.prefixes.size());
  state_values out{std::vector<float>(steps.prefixes.size()), std::vector<float>(steps.prefixes.size()),
                   continued.response_tokens()};
  or_throw(rollout_values{}(be, padded(states, algorithm.rollouts), view<const float>(returns),
                            rollout_value_outputs<float>{out.value, out.variance}));
  return out;
}

/// VinePPO: responses, values of the states between their steps from fresh rollouts, epochs of minibatches on the policy.
///
/// `begins(batch, i)` says where the steps of response i begin (every_n_tokens, steps_after, or yours). Metrics:
/// `objective/...`, `policy/...`, `loss/policy_avg`, `grad_norm`, `vine/states` of an iteration and `vine/variance`, the mean
/// variance of their values; an iteration's tokens include those of the rollouts. Throws rlhf::error.
template <class B, class Policy, scores_tokens Reference, scores_responses Reward, class Schedule, class Prompts,
          class Begins, class Observer = ignore_iteration>
  requires trainable_policy<Policy> && sampling_policy<Policy>
void train_vineppo(B& be, const vineppo& algorithm, Policy& policy, Reference& reference, Reward& reward,
                   parameter_update<Schedule>& update, Prompts&& prompts, const Begins& begins,
                   const on_policy_options& options, Observer&& observe = {}) {
  check_loop("train_vineppo", options);
  or_throw(algorithm.check());
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    const std::int64_t version = update.optimiser.steps;
    const rollout r =
        collect(policy, reference, reward, prompts(i), options.samples, stream(options.key, 2 * i), version);
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);
    const response_steps steps(r.batch, begins, algorithm.max_steps);
    const state_values found = estimate_values(be, algorithm, policy, reference, reward, steps,
                                               stream(options.key, 2 * i + (std::int64_t{1} << 32)), version);
    std::vector<float> value, returns, advantage(r.old_logp.size()), shaped;
    for (const std::int64_t s : steps.state)
      value.push_back(s < 0 ? std::numeric_limits<float>::quiet_NaN() : found.value[static_cast<std::size_t>(s)]);
    for (std::int64_t j = 0; j < r.batch.size(); ++j)
      returns.push_back(static_cast<float>(static_cast<double>(r.score[static_cast<std::size_t>(j)]) -
                                           algorithm.kl_in_return * r.log_ratio(j)));
    or_throw(algorithm.prepare(be, r.batch.layout(),
                               vine_inputs<float>{packed(steps.offsets), value, returns, steps.step}, advantage));
    statistics metrics;
    describe(r, returns, metrics);
    double variance = 0;
    for (const float v : found.variance) variance += static_cast<double>(v);
    metrics.add_total("vine/states", static_cast<double>(found.value.size()));
    metrics.add("vine/variance", variance, static_cast<double>(found.variance.size()));
    policy_epochs(be, algorithm, policy, update, r, advantage,
                  {options.minibatch, options.epochs, stream(options.key, 2 * i + 1)}, options.stop_kl, metrics,
                  options.weight_cap);
    now.after(r, i, metrics);
    now.tokens += found.tokens;
    if (!tell(observe, now)) return;
  }
}

}  // namespace rlhf::inline v1
