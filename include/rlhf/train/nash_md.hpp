#pragma once
// Nash-MD: a loop towards the equilibrium of a preference game that no reward needs to explain.

#include <numeric>
#include <vector>

#include "rlhf/train/comparisons.hpp"
#include "rlhf/train/sampling_weights.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

/// Nash-MD: a response of the policy against one of the geometric mixture of policy and reference, and a policy gradient on
/// the judge's probability that the first one wins.
///
/// The gradient has no ratio pi / pi_old: it is that of fresh samples. The second and later minibatches of an iteration are
/// learnt from as if the policy had not moved since it sampled, which is right to first order of a small step; one update an
/// iteration (`options.minibatch` of all responses) is exact. Nothing would correct a second pass over the samples, so
/// `options.epochs` above 1 is refused.
/// `mixture` is the reference's power in the opponent, 0: the policy itself (plain self-play), 1: the reference.
/// Metrics: `loss/policy_avg`, `objective/...`, `rewards/probabilities` (of winning against the opponent), `labels`,
/// `grad_norm`. `objective/rlhf_reward` is what is optimised, `rewards/probabilities` less beta `objective/kl`, and
/// `objective/non_score_reward` the latter part; `objective/scores` and the reward of an iteration are the judge's scores, and
/// of a judge that gives none the reward is `rewards/probabilities`. Source: Munos et al. 2023, arXiv 2312.00886. Throws
/// rlhf::error.
template <class B, class Policy, scores_tokens Reference, compares_responses Judge, class Schedule, class Prompts,
          class Observer = ignore_iteration>
  requires trainable_policy<Policy> && sampling_policy<Policy> && mixing_policy<Policy, Reference>
void train_nash_md(B& be, const nash_md& objective, double mixture, Policy& policy, Reference& reference, Judge& judge,
                   parameter_update<Schedule>& update, Prompts&& prompts, const on_policy_options& options,
                   Observer&& observe = {}) {
  using namespace online_detail;
  check_loop("train_nash_md", options);
  if (options.epochs > 1)
    throw error(remark::argument("train_nash_md", "options.epochs", static_cast<double>(options.epochs),
                                 "0 or 1: its gradient is of fresh samples"));
  if (!(mixture >= 0 && mixture <= 1))
    throw error(remark::argument("train_nash_md", "mixture", mixture, "0 <= mixture <= 1"));
  const logit_mixture opponent = geometric_mixture(mixture);
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    const random_key key = stream(options.key, 2 * i);
    const prompt_list asked = prompts(i);
    const response_pairs pairs{policy.sample(asked, 1, key),
                               policy.sample_mixture(reference, opponent.policy, opponent.reference, asked, 1,
                                                     pair_sampler_detail::draw(key, 1))};
    const std::vector<float> p = ask_preferences("train_nash_md", judge, pairs.first, pairs.second);
    const rollout r =
        scored(policy, reference, judge, pairs.first, pairs.first.size(), p, update.optimiser.steps, drawn_by::policy);
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);
    statistics metrics;
    report_compared(now, i, r, r, scores_responses<Judge>, p, metrics);
    now.tokens += pairs.second.response_tokens();
    const auto n = static_cast<double>(r.batch.size());
    const double paid = objective.beta * n * now.kl;
    metrics.add("objective/rlhf_reward", std::accumulate(p.begin(), p.end(), 0.0) - paid, n);
    metrics.add("objective/non_score_reward", -paid, n);
    metrics.add_total("labels", static_cast<double>(r.batch.size()));
    const std::vector<float> weight = sampling_weights(be, r, options.weight_cap, metrics, weight_of::sequence);
    std::vector<float> logp, gradient;
    for_each_minibatch(r.batch.size(), {options.minibatch, options.epochs, stream(options.key, 2 * i + 1)},
                       [&](std::span<const std::int64_t> rows) {
                         const joined x{r.batch.select(rows), r.batch.select(rows, std::span<const float>(r.old_logp)),
                                        r.batch.select(rows, std::span<const float>(r.ref_logp)),
                                        static_cast<std::int64_t>(rows.size())};
                         std::vector<float> won;
                         for (const std::int64_t row : rows) won.push_back(p[static_cast<std::size_t>(row)]);
                         logp.resize(x.ref_logp.size());
                         gradient.resize(logp.size());
                         policy.log_probs(x.batch, logp);
                         if (moved_kl(logp, x.old_logp) > options.stop_kl) return false;
                         metrics.add("loss/policy_avg", respond(be, objective, x, 0, logp, x.ref_logp, won, gradient),
                                     1);
                         if (!weight.empty()) {
                           const std::vector<float> w = r.batch.select(rows, std::span<const float>(weight));
                           for (std::size_t t = 0; t < w.size(); ++t) gradient[t] *= w[t];
                         }
                         policy.backward(gradient);
                         update.apply(policy, metrics);
                         return true;
                       });
    if (!tell(observe, now)) return;
  }
}

}  // namespace rlhf::inline v1
