#pragma once
// Loops that sample from the policy they train: PPO and RTO with a critic, REBEL without.

#include <concepts>
#include <span>
#include <type_traits>
#include <utility>

#include "rlhf/algorithm/ppo.hpp"
#include "rlhf/algorithm/rebel.hpp"
#include "rlhf/algorithm/rto.hpp"
#include "rlhf/train/metrics.hpp"
#include "rlhf/train/pretraining.hpp"
#include "rlhf/train/rollout.hpp"
#include "rlhf/train/sampling_weights.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

namespace on_policy_detail {

/// Nobody else's: both responses of a pair are the policy's.
struct own_samples {};

/// a(0), b(0), a(1), b(1), ...
[[nodiscard]] inline responses interleave(const responses& a, const responses& b) {
  if (b.size() != a.size()) throw error(remark::shape("train_rebel", "partner", b.size(), a.size()));
  responses out;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    out.add(a, i);
    out.add(b, i);
  }
  return out;
}

/// Those of a pair that the policy sampled.
[[nodiscard]] inline rollout firsts(const rollout& r) {
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < r.batch.size(); i += 2) rows.push_back(i);
  return r.select(rows);
}

}  // namespace on_policy_detail

/// Nothing to guide: PPO.
struct no_guide {
  void log_probs(const responses&, std::span<float>) const {}
};

/// PPO, or RTO and DRTO with a guide (the DPO policy): rollouts, advantages, epochs of minibatches on policy and critic.
///
/// A guide that has `segments(batch, out)` also says which segment (a sentence) of its response each token is in, for
/// rto_mode::semi; `out` has an element for each response token.
/// `algorithm` is a basic_ppo, or has its three calls: prepare, policy, value. `prompts(i)` gives the prompts of iteration
/// i. Policy and critic have parameters of their own. `memory` is a pretraining, whose text is mixed into the policy's
/// updates; with coefficient 0 all is as without it, to the bit. Metrics, under TRL's names: `objective/...`, `policy/...`,
/// `val/...`, `completions/...`, `loss/policy_avg`, `loss/value_avg`, `grad_norm`, `learning_rate`; the critic's
/// `critic_grad_norm` and `critic_learning_rate`; with a pretraining `loss/ptx_avg`, nats per token. Throws rlhf::error.
template <class B, class Algorithm, class Policy, trainable_critic Critic, scores_tokens Reference,
          scores_responses Reward, class PolicySchedule, class CriticSchedule, class Prompts,
          class Observer = ignore_iteration, class Guide = no_guide, class Pretraining = no_pretraining>
  requires trainable_policy<Policy> && sampling_policy<Policy>
void train_ppo(B& be, const Algorithm& algorithm, Policy& policy, Critic& critic, Reference& reference, Reward& reward,
               parameter_update<PolicySchedule>& policy_update, parameter_update<CriticSchedule>& critic_update,
               Prompts&& prompts, const on_policy_options& options, Observer&& observe = {}, Guide&& guide = {},
               Pretraining&& memory = {}) {
  constexpr bool guided = !std::same_as<std::remove_cvref_t<Guide>, no_guide>;
  constexpr bool remembers = !std::same_as<std::remove_cvref_t<Pretraining>, no_pretraining>;
  check_loop("train_ppo", options, true);
  if constexpr (remembers)
    if (!(memory.coefficient >= 0))
      throw error(remark::argument("train_ppo", "memory.coefficient", memory.coefficient, "0 or more"));
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    const rollout r = collect(policy, reference, reward, prompts(i), options.samples, stream(options.key, 2 * i),
                              policy_update.optimiser.steps);
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);
    const auto tokens = static_cast<std::size_t>(r.batch.response_tokens());
    std::vector<float> value(tokens), guide_logp(guided ? tokens : 0), shaped(tokens), advantage(tokens),
        returns(tokens);
    critic.values(r.batch, value);
    std::vector<std::int32_t> segment;
    if constexpr (guided) {
      guide.log_probs(r.batch, guide_logp);
      if constexpr (requires { guide.segments(r.batch, std::span<std::int32_t>(segment)); }) {
        segment.resize(tokens);
        guide.segments(r.batch, std::span<std::int32_t>(segment));
      }
    }
    or_throw(algorithm.prepare(
        be, r.batch.layout(),
        rollout_inputs<float>{
            .old_logp = r.old_logp,
            .ref_logp = r.ref_logp,
            .dpo_logp = guide_logp.empty() ? view<const float>{} : view<const float>(guide_logp),
            .value = value,
            .score = r.score,
            .segment = segment.empty() ? view<const std::int32_t>{} : view<const std::int32_t>(segment)},
        rollout_outputs<float>{.reward = shaped, .advantage = advantage, .returns = returns}));

    statistics metrics, policy_metrics, value_metrics;
    ratio_means ratios;
    describe(r, shaped, metrics);
    const std::vector<float> weight = sampling_weights(be, r, options.weight_cap, metrics);
    std::vector<float> logp, predicted, gradient;
    for_each_minibatch(
        r.batch.size(), {options.minibatch, options.epochs, stream(options.key, 2 * i + 1)},
        [&](std::span<const std::int64_t> rows) {
          const responses batch = r.batch.select(rows);
          const auto part = [&](const std::vector<float>& v) {
            return r.batch.select(rows, std::span<const float>(v));
          };
          const std::vector<float> old_logp = part(r.old_logp), old_value = part(value), target = part(returns),
                                   a = part(advantage), w = weight.empty() ? std::vector<float>{} : part(weight);
          logp.resize(old_logp.size());
          predicted.resize(old_logp.size());
          gradient.resize(old_logp.size());
          float loss = 0;
          if (i >= options.critic_first) {
            policy.log_probs(batch, logp);
            if (moved_kl(logp, old_logp) > options.stop_kl) return false;
            or_throw(algorithm.policy(
                be, batch.layout(),
                token_inputs<float>{.logp = logp,
                                    .old_logp = old_logp,
                                    .advantage = a,
                                    .weight = w.empty() ? view<const float>{} : view<const float>(w)},
                token_outputs<float>{.loss = {&loss, 1}, .grad_logp = gradient, .stats = &policy_metrics}));
            ratios.add(logp, old_logp);
            policy.backward(gradient);
            policy_metrics.add("loss", static_cast<double>(loss), 1);
            if constexpr (remembers)
              if (memory.coefficient > 0)
                metrics.add("loss/ptx_avg", memory.learn(be, policy, policy_update.optimiser.steps), 1);
            policy_update.apply(policy, metrics);
          }

          critic.values(batch, predicted);
          or_throw(algorithm.value(
              be, batch.layout(), value_inputs<float>{.value = predicted, .old_value = old_value, .returns = target},
              value_outputs<float>{.loss = {&loss, 1}, .grad_value = gradient, .stats = &value_metrics}));
          critic.backward_values(gradient);
          value_metrics.add("loss", static_cast<double>(loss), 1);
          critic_update.apply(critic, metrics, "critic_grad_norm", "critic_learning_rate");
          return true;
        });
    add_renamed(policy_metrics, policy_metric_names, metrics);
    add_renamed(value_metrics, value_metric_names, metrics);
    if (ratios.count > 0) metrics.add("val/ratio_var", ratios.variance(), 1);
    now.after(r, i, metrics);
    if (!tell(observe, now)) return;
  }
}

/// REBEL: two responses to each prompt, regression of their relative reward.
///
/// Both are the policy's, unless `partner(i, prompts)` gives the second response to each prompt of iteration i: from a data
/// set, say, or another policy. Where the policy can do what the regression asks, where the partners come from does not
/// matter, nor at which temperature: samples have no weights here. What an iteration reports is of the policy's own.
/// The reward is the score less kl_coefficient times the sequence's log pi_old / pi_ref. Metrics: preference statistics
/// (rewards are log-ratios to the iterate), `loss/policy_avg`, `grad_norm`. Throws rlhf::error.
template <class B, class Policy, scores_tokens Reference, scores_responses Reward, class Schedule, class Prompts,
          class Observer = ignore_iteration, class Partner = on_policy_detail::own_samples>
  requires trainable_policy<Policy> && sampling_policy<Policy>
void train_rebel(B& be, const rebel_regression& algorithm, Policy& policy, Reference& reference, Reward& reward,
                 parameter_update<Schedule>& update, Prompts&& prompts, const on_policy_options& options,
                 Observer&& observe = {}, Partner&& partner = {}) {
  constexpr bool alone = std::same_as<std::remove_cvref_t<Partner>, on_policy_detail::own_samples>;
  check_loop("train_rebel", options);
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    const prompt_list asked = prompts(i);
    responses batch = policy.sample(asked, alone ? 2 : 1, stream(options.key, 2 * i));
    if constexpr (!alone) batch = on_policy_detail::interleave(batch, partner(i, asked));
    const rollout r = collect(policy, reference, reward, std::move(batch), update.optimiser.steps,
                              alone ? drawn_by::policy : drawn_by::others);
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);
    statistics metrics;
    std::vector<float> logp, gradient, shaped_total;
    for (std::int64_t row = 0; row < r.batch.size(); ++row)
      shaped_total.push_back(static_cast<float>(
          algorithm.shaped(static_cast<double>(r.score[static_cast<std::size_t>(row)]), r.log_ratio(row))));
    describe(r, shaped_total, metrics);
    for_each_minibatch(
        r.batch.size() / 2, {options.minibatch, options.epochs, stream(options.key, 2 * i + 1)},
        [&](std::span<const std::int64_t> pairs) {
          // First responses, then second ones: two sides of one forward pass.
          std::vector<std::int64_t> rows;
          std::vector<float> shaped;
          for (const std::int64_t side : {0, 1})
            for (const std::int64_t pair : pairs) {
              const std::int64_t row = 2 * pair + side;
              rows.push_back(row);
              shaped.push_back(shaped_total[static_cast<std::size_t>(row)]);
            }
          const auto n = static_cast<std::int64_t>(pairs.size());
          const responses both = r.batch.select(rows);
          const std::vector<float> old_logp = r.batch.select(rows, std::span<const float>(r.old_logp));
          std::vector<std::int64_t> first(both.response_offsets().begin(), both.response_offsets().begin() + n + 1),
              second;
          const std::int64_t split = first.back(), rest = both.response_tokens() - split;
          for (std::int64_t k = n; k <= 2 * n; ++k)
            second.push_back(both.response_offsets()[static_cast<std::size_t>(k)] - split);
          logp.resize(old_logp.size());
          gradient.resize(old_logp.size());
          policy.log_probs(both, logp);
          const std::size_t own = alone ? logp.size() : static_cast<std::size_t>(split);  // a partner's tell no KL
          if (moved_kl({logp.data(), own}, {old_logp.data(), own}) > options.stop_kl) return false;
          float loss = 0;
          or_throw(algorithm(
              be,
              token_pair_inputs<float>{
                  .chosen = {packed(first), {logp.data(), split}, {old_logp.data(), split}, {}},
                  .rejected = {packed(second), {logp.data() + split, rest}, {old_logp.data() + split, rest}, {}},
                  .chosen_reward = {shaped.data(), n},
                  .rejected_reward = {shaped.data() + n, n}},
              pair_outputs<float>{.loss = {&loss, 1},
                                  .grad_chosen = {gradient.data(), split},
                                  .grad_rejected = {gradient.data() + split, rest},
                                  .stats = &metrics}));
          policy.backward(gradient);
          metrics.add("loss/policy_avg", static_cast<double>(loss), 1);
          update.apply(policy, metrics);
          return true;
        });
    now.after(alone ? r : on_policy_detail::firsts(r), i, metrics);
    if (!tell(observe, now)) return;
  }
}

}  // namespace rlhf::inline v1
