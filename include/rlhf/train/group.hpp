#pragma once
// The loop of the critic-free algorithms: GRPO, Dr. GRPO, DAPO, RLOO, REINFORCE++, ReMax, GSPO, CISPO.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <span>
#include <vector>

#include "rlhf/algorithm/critic_free.hpp"
#include "rlhf/train/policy_epochs.hpp"

namespace rlhf::inline v1 {

/// An algorithm that says which groups of responses are worth learning from, and how often others are sampled for the rest:
/// DAPO's dynamic sampling.
template <class A>
concept selects_groups = requires(const A& algorithm) {
  algorithm.selection;
  { algorithm.refills } -> std::convertible_to<std::int64_t>;
};

namespace group_detail {

template <class A>
inline constexpr bool greedy_baseline = requires { requires A::greedy_baseline; };

/// Prompts of a round of sampling: the source may know rounds; one that does not is asked again.
template <class Prompts>
[[nodiscard]] prompt_list ask(Prompts& prompts, std::int64_t i, std::int64_t round) {
  if constexpr (std::invocable<Prompts&, std::int64_t, std::int64_t>)
    return prompts(i, round);
  else
    return prompts(i);
}

/// The scores as the algorithm counts them: with the penalty of length where it has one.
template <class Algorithm>
[[nodiscard]] std::vector<float> counted(const Algorithm& algorithm, const rollout& r) {
  std::vector<float> score = r.score;
  if constexpr (requires { algorithm.overlong; })
    for (std::size_t i = 0; i < score.size(); ++i) {
      const auto length = static_cast<double>(r.batch.response(static_cast<std::int64_t>(i)).size());
      score[i] = static_cast<float>(static_cast<double>(score[i]) + algorithm.overlong(length));
    }
  return score;
}

[[nodiscard]] inline grouping<> groups_of(std::int64_t responses, std::int64_t samples) {
  return {padded(responses / samples, samples), nullptr};
}

/// Scores by group, under TRL's names: their mean, the mean of the groups' standard deviations (n - 1, as torch.std), and the
/// share of groups in which that is 0 (closer than 1e-8, as torch.isclose), which teach nothing. Groups of one have no spread.
inline void describe_groups(std::span<const float> score, std::int64_t samples, statistics& metrics) {
  double sum = 0;
  for (const float s : score) sum += static_cast<double>(s);
  metrics.add("reward", sum, static_cast<double>(score.size()));
  if (samples < 2) return;
  const auto n = static_cast<std::size_t>(samples);
  for (std::size_t begin = 0; begin + n <= score.size(); begin += n) {
    double mean = 0, squares = 0;
    for (const float s : score.subspan(begin, n)) mean += static_cast<double>(s) / static_cast<double>(samples);
    for (const float s : score.subspan(begin, n)) squares += std::pow(static_cast<double>(s) - mean, 2);
    const double deviation = std::sqrt(squares / static_cast<double>(samples - 1));
    metrics.add("reward_std", deviation, 1);
    metrics.add("frac_reward_zero_std", deviation <= 1e-8 ? 1 : 0, 1);
  }
}

/// What was sampled for an iteration.
struct sampled_groups {
  rollout kept;
  std::int64_t dropped_tokens = 0;
  bool teaches = true;  ///< false: no group was worth learning from, `kept` is only to look at
};

/// The first groups of `more` that the selection keeps, at most `most`, as rows. It sees the scores as they were given: DAPO
/// drops groups that are all right or all wrong, and a penalty of length does not make one of them worth learning from.
template <class B, class Algorithm>
[[nodiscard]] std::vector<std::int64_t> select_rows(B& be, const Algorithm& algorithm, const rollout& more,
                                                    std::int64_t samples, std::int64_t most) {
  std::vector<float> left(more.score.size());
  or_throw(grouped{algorithm.selection}(be, group_inputs<float>{groups_of(more.batch.size(), samples), more.score, {}},
                                        left));
  std::vector<std::int64_t> rows;
  for (std::int64_t g = 0; g < more.batch.size() / samples; ++g) {
    const auto own = std::span(left).subspan(static_cast<std::size_t>(g * samples), static_cast<std::size_t>(samples));
    const bool keep = std::any_of(own.begin(), own.end(), [](float x) { return x == x; });
    if (!keep || static_cast<std::int64_t>(rows.size()) == most * samples) continue;
    for (std::int64_t j = 0; j < samples; ++j) rows.push_back(g * samples + j);
  }
  return rows;
}

template <class B, class Algorithm, class Policy, class Reference, class Reward, class Prompts>
[[nodiscard]] sampled_groups sample(B& be, const Algorithm& algorithm, Policy& policy, Reference& reference,
                                    Reward& reward, Prompts& prompts, std::int64_t i, const on_policy_options& options,
                                    std::int64_t version, statistics& metrics) {
  const auto draw = [&](const prompt_list& asked, std::int64_t round) {
    return collect(policy, reference, reward, asked, options.samples, stream(options.key, 2 * i + (round << 32)),
                   version);
  };
  const prompt_list asked = ask(prompts, i, 0);
  sampled_groups out{draw(asked, 0), 0, true};
  if constexpr (selects_groups<Algorithm>) {
    const auto wanted = static_cast<std::int64_t>(asked.size());
    rollout first, kept, more = std::move(out.kept);
    double groups = 0, scores = 0;
    for (std::int64_t round = 0;; ++round) {
      if (round > 0) more = draw(ask(prompts, i, round), round);
      const auto rows = select_rows(be, algorithm, more, options.samples, wanted - kept.batch.size() / options.samples);
      for (const float s : more.score) scores += static_cast<double>(s);
      groups += static_cast<double>(more.batch.size() / options.samples);
      out.dropped_tokens += more.batch.response_tokens();
      if (round == 0) first = more;
      kept.append(more.select(rows));
      if (kept.batch.size() == wanted * options.samples || round == algorithm.refills) break;
    }
    out.teaches = kept.batch.size() > 0;
    out.kept = out.teaches ? std::move(kept) : std::move(first);
    out.dropped_tokens -= out.kept.batch.response_tokens();
    metrics.add("sampling/kept", out.teaches ? static_cast<double>(out.kept.batch.size() / options.samples) : 0,
                groups);
    metrics.add("sampling/scores", scores, groups * static_cast<double>(options.samples));
  }
  return out;
}

/// The score of the greedy response to each prompt, for each of the responses; `tokens` += theirs. Throws rlhf::error where
/// one is not finite.
template <class Policy, class Reward>
[[nodiscard]] std::vector<float> greedy_scores(Policy& policy, Reward& reward, const rollout& r, std::int64_t samples,
                                               std::int64_t& tokens) {
  prompt_list prompts;
  for (std::int64_t i = 0; i < r.batch.size(); i += samples)
    prompts.emplace_back(r.batch.prompt(i).begin(), r.batch.prompt(i).end());
  const responses best = policy.greedy(prompts);
  const std::vector<float> score = ask_rewards("train_group", reward, best);
  std::vector<float> out;
  tokens += best.response_tokens();
  for (const float s : score) out.insert(out.end(), static_cast<std::size_t>(samples), s);
  return out;
}

}  // namespace group_detail

/// Groups of samples, advantages from their scores, epochs of minibatches on the policy.
///
/// `algorithm` is a critic_free by another name (rloo, dapo, ...), or grpo. `prompts(i)` gives the prompts of iteration i;
/// each gets `options.samples` responses, two or more where the advantage is relative to the group. `prompts(i, round)`, where
/// it exists, gives others to refill dropped groups from; otherwise the same are sampled again.
/// Metrics, under TRL's names: GRPO's `reward`, `reward_std`, `frac_reward_zero_std` (of the scores as the algorithm counts
/// them, and the groups it keeps) and `completions/...`; PPO's `objective/...`, `policy/...`, `val/ratio`, `val/ratio_var`,
/// `loss/policy_avg`; `grad_norm`, `learning_rate`; with dynamic sampling `sampling/kept`, the share of the groups that were,
/// and `sampling/scores`, the mean over all. Throws rlhf::error.
template <class B, class Algorithm, class Policy, scores_tokens Reference, scores_responses Reward, class Schedule,
          class Prompts, class Observer = ignore_iteration>
  requires trainable_policy<Policy> && sampling_policy<Policy>
void train_group(B& be, const Algorithm& algorithm, Policy& policy, Reference& reference, Reward& reward,
                 parameter_update<Schedule>& update, Prompts&& prompts, const on_policy_options& options,
                 Observer&& observe = {}) {
  static_assert(
      !group_detail::greedy_baseline<Algorithm> || greedy_policy<Policy>,
      "rlhf: ReMax compares with the greedy response: the policy needs `responses greedy(const prompt_list&)`");
  check_loop("train_group", options);
  if (!critic_free_detail::along_tokens<decltype(algorithm.estimator)> && options.samples < 2)
    throw error(remark::argument("train_group", "options.samples", static_cast<double>(options.samples),
                                 "2 or more: an advantage within a group of one is 0"));
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    statistics metrics;
    const group_detail::sampled_groups sampled = group_detail::sample(be, algorithm, policy, reference, reward, prompts,
                                                                      i, options, update.optimiser.steps, metrics);
    const rollout& r = sampled.kept;
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);
    const std::vector<float> score = group_detail::counted(algorithm, r);
    std::int64_t greedy_tokens = 0;
    std::vector<float> baseline, shaped(r.old_logp.size()), advantage(shaped.size());
    if constexpr (group_detail::greedy_baseline<Algorithm>)
      baseline = group_detail::greedy_scores(policy, reward, r, options.samples, greedy_tokens);
    group_rollout_inputs<float> in{.old_logp = r.old_logp,
                                   .ref_logp = r.ref_logp,
                                   .score = score,
                                   .groups = group_detail::groups_of(r.batch.size(), options.samples)};
    if (!baseline.empty()) in.baseline = baseline;
    or_throw(algorithm.prepare(be, r.batch.layout(), in, group_rollout_outputs<float>{shaped, advantage}));
    describe(r, shaped, metrics);
    group_detail::describe_groups(score, options.samples, metrics);

    if (sampled.teaches)
      policy_epochs(be, algorithm, policy, update, r, advantage,
                    {options.minibatch, options.epochs, stream(options.key, 2 * i + 1)}, options.stop_kl, metrics,
                    options.weight_cap);
    now.after(r, i, metrics);
    now.tokens += sampled.dropped_tokens + greedy_tokens;
    if (!tell(observe, now)) return;
  }
}

}  // namespace rlhf::inline v1
