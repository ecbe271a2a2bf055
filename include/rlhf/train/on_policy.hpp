#pragma once
// Loops that sample from the policy they train: PPO and RTO with a critic, REBEL without.

#include <span>
#include <utility>

#include "rlhf/algorithm/ppo.hpp"
#include "rlhf/algorithm/rebel.hpp"
#include "rlhf/algorithm/rto.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/train/loop.hpp"
#include "rlhf/train/metrics.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

struct on_policy_options {
  std::int64_t iterations = 10;
  std::int64_t samples = 1;      ///< responses to each prompt; REBEL takes two, whatever this says
  std::int64_t epochs = 1;       ///< passes over the responses of an iteration
  std::int64_t minibatch = 64;   ///< responses (pairs, for REBEL) of an update
  random_key key{};              ///< iteration i samples on stream key.stream + 2 i and shuffles on the next
  std::int64_t done = 0;         ///< iterations made before, by the run that this one goes on with
  std::int64_t tokens_done = 0;  ///< response tokens that they sampled
};

/// What an iteration reports: any callable of (const iteration&).
struct iteration {
  std::int64_t number = 0;  ///< 1 after the first
  std::int64_t of = 0;
  double reward = 0;        ///< mean score of the responses that this iteration sampled
  double kl = 0;            ///< their mean log pi / pi_ref, nats per response, under the policy that sampled them
  std::int64_t tokens = 0;  ///< response tokens sampled so far
  const statistics* metrics = nullptr;  ///< of all updates of the iteration
};

/// An observer that looks at nothing.
struct ignore_iteration {
  void operator()(const iteration&) const {}
};

namespace on_policy_detail {

/// A batch of responses with everything that stays fixed during its updates.
struct rollout {
  responses batch;
  std::vector<float> old_logp, ref_logp, score;

  [[nodiscard]] double mean_score() const {
    double sum = 0;
    for (const float s : score) sum += static_cast<double>(s);
    return score.empty() ? 0 : sum / static_cast<double>(score.size());
  }
  /// log pi_old - log pi_ref of a whole response.
  [[nodiscard]] double log_ratio(std::int64_t i) const {
    const auto offsets = batch.response_offsets();
    double sum = 0;
    for (auto t = static_cast<std::size_t>(offsets[static_cast<std::size_t>(i)]);
         t < static_cast<std::size_t>(offsets[static_cast<std::size_t>(i) + 1]); ++t)
      sum += static_cast<double>(old_logp[t]) - static_cast<double>(ref_logp[t]);
    return sum;
  }
  [[nodiscard]] double mean_log_ratio() const {
    double sum = 0;
    for (std::int64_t i = 0; i < batch.size(); ++i) sum += log_ratio(i);
    return batch.size() == 0 ? 0 : sum / static_cast<double>(batch.size());
  }
};

template <class Policy, class Reference, class Reward>
[[nodiscard]] rollout collect(Policy& policy, Reference& reference, Reward& reward, const prompt_list& prompts,
                              std::int64_t samples, random_key key) {
  rollout r;
  r.batch = policy.sample(prompts, samples, key);
  const auto tokens = static_cast<std::size_t>(r.batch.response_tokens());
  r.old_logp.resize(tokens);
  r.ref_logp.resize(tokens);
  r.score.resize(static_cast<std::size_t>(r.batch.size()));
  // Scored again rather than taken from the sampler, so that the first ratio is exactly 1.
  policy.log_probs(r.batch, r.old_logp);
  reference.log_probs(r.batch, r.ref_logp);
  reward.rewards(r.batch, r.score);
  return r;
}

[[nodiscard]] inline random_key stream(random_key key, std::int64_t offset) {
  return {key.seed, key.stream + static_cast<std::uint64_t>(offset)};
}

/// What an iteration sampled, under TRL's names: sums over responses, nats. `shaped` are the token rewards.
inline void describe(const rollout& r, const std::vector<float>& shaped, statistics& metrics) {
  const auto n = static_cast<double>(r.batch.size());
  double scores = 0, total = 0, kl = 0, entropy = 0;
  for (const float s : r.score) scores += static_cast<double>(s);
  for (const float x : shaped) total += static_cast<double>(x);
  for (std::size_t t = 0; t < r.old_logp.size(); ++t) {
    kl += static_cast<double>(r.old_logp[t]) - static_cast<double>(r.ref_logp[t]);
    entropy -= static_cast<double>(r.old_logp[t]);
  }
  metrics.add("objective/scores", scores, n);
  metrics.add("objective/kl", kl, n);
  metrics.add("objective/entropy", entropy, n);
  metrics.add("objective/rlhf_reward", total, n);
  metrics.add("objective/non_score_reward", total - scores, n);
}

/// Nothing to guide: PPO.
struct no_guide {
  void log_probs(const responses&, std::span<float>) const {}
};

}  // namespace on_policy_detail

/// PPO, or RTO with a guide (the DPO policy): rollouts, advantages, epochs of minibatches on policy and critic.
///
/// `prompts(i)` gives the prompts of iteration i. Policy and critic have parameters of their own.
/// Metrics, under TRL's names: `objective/...`, `policy/...`, `val/...`, `loss/policy_avg`, `loss/value_avg`, `grad_norm`.
/// Throws rlhf::error.
template <class B, class Rule, class Policy, trainable_critic Critic, scores_tokens Reference, scores_responses Reward,
          class PolicySchedule, class CriticSchedule, class Prompts, class Observer = ignore_iteration,
          class Guide = on_policy_detail::no_guide>
  requires trainable_policy<Policy> && sampling_policy<Policy>
void train_ppo(B& be, const basic_ppo<Rule>& algorithm, Policy& policy, Critic& critic, Reference& reference,
               Reward& reward, parameter_update<PolicySchedule>& policy_update,
               parameter_update<CriticSchedule>& critic_update, Prompts&& prompts, const on_policy_options& options,
               Observer&& observe = {}, Guide&& guide = {}) {
  using on_policy_detail::stream;
  constexpr bool guided = !std::same_as<std::remove_cvref_t<Guide>, on_policy_detail::no_guide>;
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    const auto r =
        on_policy_detail::collect(policy, reference, reward, prompts(i), options.samples, stream(options.key, 2 * i));
    const auto tokens = static_cast<std::size_t>(r.batch.response_tokens());
    std::vector<float> value(tokens), guide_logp(guided ? tokens : 0), shaped(tokens), advantage(tokens),
        returns(tokens);
    critic.values(r.batch, value);
    if constexpr (guided) guide.log_probs(r.batch, guide_logp);
    or_throw(algorithm.prepare(be, r.batch.layout(),
                               {.old_logp = r.old_logp,
                                .ref_logp = r.ref_logp,
                                .dpo_logp = guide_logp.empty() ? view<const float>{} : view<const float>(guide_logp),
                                .value = value,
                                .score = r.score},
                               {.reward = shaped, .advantage = advantage, .returns = returns}));

    statistics metrics, policy_metrics, value_metrics;
    on_policy_detail::describe(r, shaped, metrics);
    std::vector<float> logp, predicted, gradient;
    for_each_minibatch(
        r.batch.size(), {options.minibatch, options.epochs, stream(options.key, 2 * i + 1)},
        [&](std::span<const std::int64_t> rows) {
          const responses batch = r.batch.select(rows);
          const auto part = [&](const std::vector<float>& v) {
            return r.batch.select(rows, std::span<const float>(v));
          };
          const std::vector<float> old_logp = part(r.old_logp), old_value = part(value), target = part(returns),
                                   a = part(advantage);
          logp.resize(old_logp.size());
          predicted.resize(old_logp.size());
          gradient.resize(old_logp.size());
          float loss = 0;
          policy.log_probs(batch, logp);
          or_throw(algorithm.policy(be, batch.layout(), {.logp = logp, .old_logp = old_logp, .advantage = a},
                                    {.loss = {&loss, 1}, .grad_logp = gradient, .stats = &policy_metrics}));
          policy.backward(gradient);
          policy_metrics.add("loss", static_cast<double>(loss), 1);
          metrics.add("grad_norm", policy_update.apply(policy), 1);

          critic.values(batch, predicted);
          or_throw(algorithm.value(be, batch.layout(), {.value = predicted, .old_value = old_value, .returns = target},
                                   {.loss = {&loss, 1}, .grad_value = gradient, .stats = &value_metrics}));
          critic.backward_values(gradient);
          value_metrics.add("loss", static_cast<double>(loss), 1);
          critic_update.apply(critic);
        });
    add_renamed(policy_metrics, policy_metric_names, metrics);
    add_renamed(value_metrics, value_metric_names, metrics);
    now.number = i + 1;
    now.reward = r.mean_score();
    now.kl = r.mean_log_ratio();
    now.tokens += r.batch.response_tokens();
    now.metrics = &metrics;
    observe(std::as_const(now));
  }
}

/// REBEL: two responses to each prompt, regression of their relative reward.
///
/// The reward is the score less kl_coefficient times the sequence's log pi_old / pi_ref. Metrics: preference statistics
/// (rewards are log-ratios to the iterate), `loss/policy_avg`, `grad_norm`. Throws rlhf::error.
template <class B, class Policy, scores_tokens Reference, scores_responses Reward, class Schedule, class Prompts,
          class Observer = ignore_iteration>
  requires trainable_policy<Policy> && sampling_policy<Policy>
void train_rebel(B& be, const rebel_regression& algorithm, Policy& policy, Reference& reference, Reward& reward,
                 parameter_update<Schedule>& update, Prompts&& prompts, const on_policy_options& options,
                 Observer&& observe = {}) {
  using on_policy_detail::stream;
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    const auto r = on_policy_detail::collect(policy, reference, reward, prompts(i), 2, stream(options.key, 2 * i));
    statistics metrics;
    std::vector<float> logp, gradient, shaped_total;
    for (std::int64_t row = 0; row < r.batch.size(); ++row)
      shaped_total.push_back(static_cast<float>(
          algorithm.shaped(static_cast<double>(r.score[static_cast<std::size_t>(row)]), r.log_ratio(row))));
    on_policy_detail::describe(r, shaped_total, metrics);
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
          metrics.add("grad_norm", update.apply(policy), 1);
        });
    now.number = i + 1;
    now.reward = r.mean_score();
    now.kl = r.mean_log_ratio();
    now.tokens += r.batch.response_tokens();
    now.metrics = &metrics;
    observe(std::as_const(now));
  }
}

}  // namespace rlhf::inline v1
