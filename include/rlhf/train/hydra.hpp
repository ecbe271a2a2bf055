#pragma once
// Hydra-PPO's loop: actor and critic in one pass, the reference a pass with the adapters off.

#include <algorithm>
#include <vector>

#include "rlhf/algorithm/hydra_ppo.hpp"
#include "rlhf/policy/adapters_off.hpp"
#include "rlhf/train/metrics.hpp"
#include "rlhf/train/rollout.hpp"
#include "rlhf/train/sampling_weights.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

namespace hydra_detail {

/// The model as collect sees it: values come with the log-probabilities.
template <class Model>
struct with_values {
  Model* model;
  std::vector<float> value;
  void log_probs(const responses& r, std::span<float> out) {
    value.resize(out.size());
    model->log_probs_and_values(r, out, value);
  }
  decltype(auto) describe_sampling(const responses& r, std::span<float> logp, std::span<float> mass)
    requires describes_sampling<Model>
  {
    return model->describe_sampling(r, logp, mass);
  }
  [[nodiscard]] std::int32_t end_token() const
    requires ends_responses<Model>
  {
    return model->end_token();
  }
};

}  // namespace hydra_detail

/// PPO on one model: rollouts, advantages, epochs of minibatches with one pass forward and one back for both losses.
///
/// The reference is the model without its adapters; so may `reward` be (adapters_off), if the model has a reward head.
/// Metrics: those of train_ppo. Throws rlhf::error.
template <class B, class Ppo, class Model, scores_responses Reward, class Schedule, class Prompts,
          class Observer = ignore_iteration>
  requires joint_actor_critic<Model> && has_adapters<Model> && sampling_policy<Model>
void train_hydra_ppo(B& be, const hydra_ppo<Ppo>& hydra, Model& model, Reward& reward,
                     parameter_update<Schedule>& update, Prompts&& prompts, const on_policy_options& options,
                     Observer&& observe = {}) {
  check_loop("train_hydra_ppo", options, true);
  or_throw(hydra.check());
  adapters_off<Model> reference(model);
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    hydra_detail::with_values<Model> actor{&model, {}};
    const rollout r =
        collect(actor, reference, reward, model.sample(prompts(i), options.samples, stream(options.key, 2 * i)),
                update.optimiser.steps);
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);
    const std::vector<float>& value = actor.value;
    std::vector<float> shaped(value.size()), advantage(value.size()), returns(value.size());
    or_throw(hydra.algorithm.prepare(
        be, r.batch.layout(),
        rollout_inputs<float>{.old_logp = r.old_logp, .ref_logp = r.ref_logp, .value = value, .score = r.score},
        rollout_outputs<float>{.reward = shaped, .advantage = advantage, .returns = returns}));

    statistics metrics, policy_metrics, value_metrics;
    ratio_means ratios;
    describe(r, shaped, metrics);
    const std::vector<float> weight = sampling_weights(be, r, options.weight_cap, metrics);
    for_each_minibatch(
        r.batch.size(), {options.minibatch, options.epochs, stream(options.key, 2 * i + 1)},
        [&](std::span<const std::int64_t> rows) {
          const responses batch = r.batch.select(rows);
          const auto part = [&](const std::vector<float>& v) {
            return r.batch.select(rows, std::span<const float>(v));
          };
          const std::vector<float> old_logp = part(r.old_logp), old_value = part(value), target = part(returns),
                                   a = part(advantage), w = weight.empty() ? std::vector<float>{} : part(weight);
          std::vector<float> logp(a.size()), predicted(a.size()), policy_slope(a.size()), value_slope(a.size());
          float loss = 0;
          model.log_probs_and_values(batch, logp, predicted);
          if (moved_kl(logp, old_logp) > options.stop_kl) return false;
          or_throw(hydra.algorithm.policy(
              be, batch.layout(),
              token_inputs<float>{.logp = logp,
                                  .old_logp = old_logp,
                                  .advantage = a,
                                  .weight = w.empty() ? view<const float>{} : view<const float>(w)},
              token_outputs<float>{.loss = {&loss, 1}, .grad_logp = policy_slope, .stats = &policy_metrics}));
          ratios.add(logp, old_logp);
          policy_metrics.add("loss", static_cast<double>(loss), 1);
          or_throw(hydra.algorithm.value(
              be, batch.layout(), value_inputs<float>{.value = predicted, .old_value = old_value, .returns = target},
              value_outputs<float>{.loss = {&loss, 1}, .grad_value = value_slope, .stats = &value_metrics}));
          value_metrics.add("loss", static_cast<double>(loss), 1);
          for (float& g : value_slope) g = static_cast<float>(hydra.value_weight * static_cast<double>(g));
          if (i < options.critic_first) std::fill(policy_slope.begin(), policy_slope.end(), 0.0f);
          model.backward_both(policy_slope, value_slope);
          update.apply(model, metrics);
          return true;
        });
    add_renamed(policy_metrics, policy_metric_names, metrics);
    add_renamed(value_metrics, value_metric_names, metrics);
    if (ratios.count > 0) metrics.add("val/ratio_var", ratios.variance(), 1);
    now.after(r, i, metrics);
    if (!tell(observe, now)) return;
  }
}

}  // namespace rlhf::inline v1
