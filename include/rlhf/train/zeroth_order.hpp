#pragma once
// ZPG and ZBCPG: a loop over parameters that asks for no derivative.

#include <vector>

#include "rlhf/algorithm/zpg.hpp"
#include "rlhf/policy/judge.hpp"
#include "rlhf/train/rollout.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

namespace zeroth_order_detail {

/// Parameters moved for a while. They come back exactly, whatever happens.
class moved_parameters {
 public:
  moved_parameters(std::span<float> parameters, const std::vector<double>& direction, double radius)
      : parameters_(parameters), kept_(parameters.begin(), parameters.end()) {
    for (std::size_t i = 0; i < kept_.size(); ++i)
      parameters_[i] = static_cast<float>(static_cast<double>(kept_[i]) + radius * direction[i]);
  }
  moved_parameters(const moved_parameters&) = delete;
  moved_parameters& operator=(const moved_parameters&) = delete;
  ~moved_parameters() { std::copy(kept_.begin(), kept_.end(), parameters_.begin()); }

 private:
  std::span<float> parameters_;
  std::vector<float> kept_;
};

/// The share of M votes that each probability gets.
[[nodiscard]] inline std::vector<float> vote(std::vector<float> p, std::int64_t votes, random_key key) {
  if (votes == 0) return p;
  const random_numbers coin(key);
  for (std::size_t i = 0; i < p.size(); ++i) {
    std::int64_t won = 0;
    for (std::int64_t m = 0; m < votes; ++m)
      won += coin.uniform({.prompt = static_cast<std::uint32_t>(i), .sample = static_cast<std::uint32_t>(m)}) <
                     static_cast<double>(p[i])
                 ? 1
                 : 0;
    p[i] = static_cast<float>(static_cast<double>(won) / static_cast<double>(votes));
  }
  return p;
}

}  // namespace zeroth_order_detail

/// ZPG: each iteration compares samples of the policy with those of perturbed ones and makes one update of the parameters.
///
/// A sample of each policy for every prompt and `options.samples`; `epochs`, `minibatch` and `stop_kl` have no meaning here:
/// an iteration is one update of what was drawn for it. Parameters are moved in place and put back. Metrics: `objective/...`
/// of the unperturbed policy's samples, `rewards/probabilities` of their beating the perturbed ones' (the reward that an
/// iteration reports where the judge gives no scores), `zpg/difference` (D), `labels`: comparisons times the votes on each,
/// `grad_norm`. No backend: nothing is differentiated. Throws rlhf::error.
template <class Link, class Policy, scores_tokens Reference, compares_responses Judge, class Schedule, class Prompts,
          class Observer = ignore_iteration>
  requires parameterised<Policy> && scores_tokens<Policy> && sampling_policy<Policy>
void train_zeroth_order(const basic_zpg<Link>& algorithm, Policy& policy, Reference& reference, Judge& judge,
                        parameter_update<Schedule>& update, Prompts&& prompts, const on_policy_options& options,
                        Observer&& observe = {}) {
  using namespace zeroth_order_detail;
  check_loop("train_zeroth_order", options);
  or_throw(algorithm.check());
  const auto d = static_cast<std::int64_t>(policy.parameters().size());
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    const std::int64_t version = update.optimiser.steps;
    const random_key key = stream(options.key, 2 * i), votes = stream(options.key, 2 * i + 1);
    const prompt_list asked = prompts(i);
    rollout r = collect_unscored(policy, reference, policy.sample(asked, options.samples, key), version);
    if constexpr (scores_responses<Judge>) r.score = ask_rewards("collect", judge, r.batch);
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);
    statistics metrics;
    std::vector<float> won;
    std::vector<double> ascent(static_cast<std::size_t>(d));
    std::int64_t tokens = 0;
    for (std::int64_t k = 0; k < algorithm.directions; ++k) {
      const std::int64_t own_stream = (k + 1) << 32;
      const std::vector<double> v = algorithm.direction(d, votes, k);
      rollout moved;
      {
        const moved_parameters there(policy.parameters(), v, algorithm.radius);
        const random_key draws = algorithm.shared_draws ? key : stream(key, own_stream);
        moved = collect_unscored(policy, reference, policy.sample(asked, options.samples, draws), version);
      }
      const std::vector<float> p = ask_preferences("train_zeroth_order", judge, moved.batch, r.batch);
      for (const float x : p) won.push_back(1 - x);
      const double difference = algorithm.difference(vote(p, algorithm.votes, stream(votes, own_stream))) -
                                algorithm.kl_coefficient * (moved.mean_log_ratio() - r.mean_log_ratio());
      const double scale =
          static_cast<double>(d) / algorithm.radius * difference / static_cast<double>(algorithm.directions);
      for (std::size_t j = 0; j < v.size(); ++j) ascent[j] += scale * v[j];
      tokens += moved.batch.response_tokens();
      metrics.add("zpg/difference", difference, 1);
      metrics.add_total("labels", static_cast<double>(r.batch.size() * std::max(algorithm.votes, std::int64_t{1})));
    }
    const std::span<float> gradient = policy.gradient();
    for (std::size_t j = 0; j < ascent.size(); ++j) gradient[j] -= static_cast<float>(ascent[j]);
    update.apply(policy, metrics);
    report_compared(now, i, r, r, scores_responses<Judge>, won, metrics);
    now.tokens += tokens;
    if (!tell(observe, now)) return;
  }
}

}  // namespace rlhf::inline v1
