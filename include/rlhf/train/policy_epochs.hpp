#pragma once
// The part that all policy gradients without a critic share: epochs of minibatches over rollouts and their advantages.

#include <vector>

#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/train/metrics.hpp"
#include "rlhf/train/rollout.hpp"
#include "rlhf/train/sampling_weights.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

/// Epochs on the policy: for each minibatch log-probabilities, `algorithm.policy(...)`, gradient, step; until `stop_kl`.
///
/// `advantage` has an element for each token. Samples that were drawn from something else than the policy have importance
/// weights of at most `weight_cap` (sampling_weights). Metrics: `policy/...`, `val/ratio`, `val/ratio_var`, `loss/policy_avg`,
/// `grad_norm`, `learning_rate`. Throws rlhf::error.
template <class B, class Algorithm, class Policy, class Schedule>
void policy_epochs(B& be, const Algorithm& algorithm, Policy& policy, parameter_update<Schedule>& update,
                   const rollout& r, const std::vector<float>& advantage, const loop_options& options, double stop_kl,
                   statistics& metrics, double weight_cap = 2) {
  std::vector<float> logp, gradient;
  // A loss of whole responses has one advantage for each, which its weight multiplies.
  constexpr bool of_responses = requires { algorithm.loss.reduction; };
  const std::vector<float> weight =
      sampling_weights(be, r, weight_cap, metrics, of_responses ? weight_of::sequence : weight_of::token);
  statistics policy_metrics;
  ratio_means ratios;
  for_each_minibatch(r.batch.size(), options, [&](std::span<const std::int64_t> rows) {
    const responses batch = r.batch.select(rows);
    const auto part = [&](const std::vector<float>& v) { return r.batch.select(rows, std::span<const float>(v)); };
    const std::vector<float> old_logp = part(r.old_logp), ref_logp = part(r.ref_logp);
    std::vector<float> a = part(advantage), w = weight.empty() ? std::vector<float>{} : part(weight);
    if constexpr (of_responses) {
      for (std::size_t t = 0; t < w.size(); ++t) a[t] *= w[t];
      w.clear();
    }
    logp.resize(old_logp.size());
    gradient.resize(old_logp.size());
    float loss = 0;
    policy.log_probs(batch, logp);
    if (moved_kl(logp, old_logp) > stop_kl) return false;
    or_throw(
        algorithm.policy(be, batch.layout(),
                         token_inputs<float>{.logp = logp,
                                             .old_logp = old_logp,
                                             .ref_logp = ref_logp,
                                             .advantage = a,
                                             .weight = w.empty() ? view<const float>{} : view<const float>(w)},
                         token_outputs<float>{.loss = {&loss, 1}, .grad_logp = gradient, .stats = &policy_metrics}));
    ratios.add(logp, old_logp);
    policy.backward(gradient);
    policy_metrics.add("loss", static_cast<double>(loss), 1);
    update.apply(policy, metrics);
    return true;
  });
  add_renamed(policy_metrics, policy_metric_names, metrics);
  if (ratios.count > 0) metrics.add("val/ratio_var", ratios.variance(), 1);
}

}  // namespace rlhf::inline v1
