#pragma once
// The loop that asks a judge about the policy's own samples: online and iterative DPO, VPO, XPO, SELM, INPO, SPPO.

#include <algorithm>
#include <vector>

#include "rlhf/train/comparisons.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

/// Pairs of samples and what the judge said of them.
struct judged_pairs {
  rollout samples;
  std::vector<std::int64_t> first, second, bonus;  ///< [pairs] rows of the samples; bonus empty: none
  std::vector<float> label;                        ///< [pairs] that the first is the better one: 1, 0 or a probability

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(label.size()); }
  void append(const judged_pairs& more) {
    const std::int64_t rows = samples.batch.size();
    samples.append(more.samples);
    for (const auto& [to, from] : {std::pair{&first, &more.first}, {&second, &more.second}, {&bonus, &more.bonus}})
      for (const std::int64_t row : *from) to->push_back(rows + row);
    label.insert(label.end(), more.label.begin(), more.label.end());
  }
};

/// The pairs of the last `keep` iterations, the newest last: what an iteration learns from. Part of the state of a run.
struct pair_history {
  std::int64_t keep = 1;
  std::vector<judged_pairs> rounds{};

  /// Takes in a round; all that is kept, as one.
  [[nodiscard]] judged_pairs add(judged_pairs round) {
    rounds.push_back(std::move(round));
    while (static_cast<std::int64_t>(rounds.size()) > keep) rounds.erase(rounds.begin());
    judged_pairs all;
    for (const judged_pairs& r : rounds) all.append(r);
    return all;
  }
};

/// Online preference optimisation: pairs from `sampler`, labels from `judge`, epochs of minibatches on the policy.
///
/// `prompts(i)` gives the prompts of iteration i, each with one pair. One iteration over many prompts and several epochs is
/// iterative DPO; algorithm.anchor says whether its reference is the frozen one or the iterate. A `history` that keeps more
/// than one iteration is learnt from as a whole: every pair's log-probabilities are then those of the current iterate.
/// Metrics: `loss/policy_avg`, preference statistics (`rewards/...`, `logps/...`), `objective/...`, `completions/...`,
/// `rewards/probabilities`, `labels`, `bonus` where there is one, `grad_norm`. `labels` are the answers about pairs that the
/// loss reads, one for each prompt; `labels/choice` are those that the sampler needed before that to choose the pairs
/// (sample_max_min alone asks for any), and scores that only a report shows are no labels.
/// What an iteration reports is of those responses of its pairs that the policy drew by itself: reward and KL, `objective/...`,
/// `completions/...`, and `rewards/probabilities`, the mean probability that one of them beats the other response of its pair
/// (the first one, where both are the policy's). Opponents, mixtures and responses of a bonus have no part in it; an iteration
/// that has no response of the policy's own (sample_pilaf with from_policy 0) has none of these metrics, and its reward and KL
/// are NaN. The reward is the judge's score; of a judge without scores `rewards/probabilities`: against the policy itself
/// that is 1/2 but for chance, whatever was learnt, against another (sample_hybrid) it tells. Responses that a sampler chose
/// among draws (sample_best_of_n, sample_max_min) count as drawn: the numbers are then of the best and the worst.
/// `options.stop_kl` looks at what the policy itself drew in this iteration. Throws rlhf::error.
template <class B, class Loss, class Sampler, class Policy, scores_tokens Reference, compares_responses Judge,
          class Schedule, class Prompts, class Observer = ignore_iteration, class History = pair_history>
  requires trainable_policy<Policy> && sampling_policy<Policy>
void train_online_preference(B& be, const online_preference<Loss>& algorithm, const Sampler& sampler, Policy& policy,
                             Reference& reference, Judge& judge, parameter_update<Schedule>& update, Prompts&& prompts,
                             const on_policy_options& options, Observer&& observe = {}, History&& history = {}) {
  using namespace online_detail;
  constexpr const char* name = "train_online_preference";
  check_loop(name, options);
  if (history.keep < 1)
    throw error(remark::argument(name, "history.keep", static_cast<double>(history.keep), "1 or more"));
  const bool rewarded = reads_rewards(algorithm.loss);
  const bool expected = !rewarded && algorithm.label == pair_label::probability;
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    const random_key key = stream(options.key, 2 * i), shuffled = stream(options.key, 2 * i + 1);
    const prompt_list asked = prompts(i);
    const response_pairs pairs = sampler(policy, reference, judge, asked, key);
    const std::int64_t n = pairs.first.size();
    if (n != static_cast<std::int64_t>(asked.size()) || pairs.second.size() != n)
      throw error(remark::shape(name, "the sampler's pairs", n, static_cast<std::int64_t>(asked.size())));
    const std::vector<float> p = ask_preferences(name, judge, pairs.first, pairs.second);
    responses all = pairs.first;
    for (std::int64_t k = 0; k < n; ++k) all.add(pairs.second, k);
    const bool with_bonus = algorithm.bonus_on != bonus_source::none;
    if (with_bonus) {
      const responses more =
          bonus_responses(algorithm.bonus_on, policy, reference, asked, pair_sampler_detail::draw(key, 5));
      for (std::int64_t k = 0; k < n; ++k) all.add(more, k);
    }
    const rollout r = scored(policy, reference, judge, std::move(all), n, p, update.optimiser.steps);
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);
    judged_pairs round{r, {}, {}, {}, labels(p, algorithm.label, pair_sampler_detail::draw(shuffled, 1))};
    for (std::int64_t k = 0; k < n; ++k) {
      round.first.push_back(k);
      round.second.push_back(n + k);
      if (with_bonus) round.bonus.push_back(2 * n + k);
    }
    judged_pairs data = history.add(std::move(round));
    if (data.size() > n) policy.log_probs(data.samples.batch, data.samples.old_logp);

    std::vector<char> own(static_cast<std::size_t>(data.samples.batch.size()));
    const auto newest = own.end() - r.batch.size();
    std::fill(newest, newest + (algorithm.bonus_on == bonus_source::policy ? 3 : 2) * n, char{1});
    for (const std::int64_t row : pairs.foreign) newest[row] = 0;

    statistics metrics;
    metrics.add_total("labels", static_cast<double>(n));
    if (pairs.asked > 0) metrics.add_total("labels/choice", static_cast<double>(pairs.asked));
    const own_responses mine = own_of(pairs, p);
    report_compared(now, i, r, r.select(mine.rows), scores_responses<Judge>, mine.won, metrics);
    now.tokens += pairs.passed_over;
    std::vector<float> logp, gradient;
    for_each_minibatch(
        data.size(), {options.minibatch, options.epochs, shuffled}, [&](std::span<const std::int64_t> chosen) {
          std::vector<std::int64_t> rows;
          std::vector<float> first_reward, second_reward;
          for (const int side : {0, 1})
            for (const std::int64_t pair : chosen) {
              const auto k = static_cast<std::size_t>(pair);
              const bool first = rewarded || expected || data.label[k] > 0.5f;
              rows.push_back(first == (side == 0) ? data.first[k] : data.second[k]);
            }
          for (const std::int64_t pair : chosen) {
            const auto k = static_cast<std::size_t>(pair);
            if (with_bonus) rows.push_back(data.bonus[k]);
            first_reward.push_back(data.label[k]);
            second_reward.push_back(1 - data.label[k]);
          }
          const rollout& samples = data.samples;
          const joined x{samples.batch.select(rows),
                         samples.batch.select(rows, std::span<const float>(samples.old_logp)),
                         samples.batch.select(rows, std::span<const float>(samples.ref_logp)),
                         static_cast<std::int64_t>(chosen.size())};
          logp.resize(x.old_logp.size());
          gradient.assign(logp.size(), 0.0f);
          policy.log_probs(x.batch, logp);
          if (own_moved_kl(x, rows, own, logp) > options.stop_kl) return false;
          const std::vector<float>& anchor = algorithm.anchor == pair_anchor::iterate ? x.old_logp : x.ref_logp;
          comparison sides{.first = 0, .second = 1};
          if (rewarded) sides.first_reward = first_reward;
          if (expected) sides.weight = first_reward;
          double loss = compare(be, algorithm.loss, x, sides, logp, anchor, gradient, metrics);
          if (expected) {
            sides = {.first = 1, .second = 0, .weight = second_reward};
            loss += compare(be, algorithm.loss, x, sides, logp, anchor, gradient, metrics);
          }
          if (with_bonus) metrics.add("bonus", respond(be, algorithm.bonus, x, 2, logp, anchor, {}, gradient), 1);
          policy.backward(gradient);
          metrics.add("loss/policy_avg", loss, 1);
          update.apply(policy, metrics);
          return true;
        });
    if (!tell(observe, now)) return;
  }
}

}  // namespace rlhf::inline v1
