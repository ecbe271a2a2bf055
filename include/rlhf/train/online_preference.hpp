#pragma once
// Loops that ask a judge about the policy's own samples: online and iterative DPO, VPO, XPO, SELM, INPO, SPPO; Nash-MD.

#include <cmath>
#include <vector>

#include "rlhf/algorithm/online_preference.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/train/pair_sampler.hpp"
#include "rlhf/train/rollout.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

namespace online_detail {

template <class Loss>
[[nodiscard]] constexpr bool reads_rewards(const Loss& loss) {
  if constexpr (requires { loss.objective; })
    return (needs_of(loss.objective) & field::rewards) != 0;
  else
    return false;
}

/// The judge's probabilities that the first of each pair is better. Throws rlhf::error where one is none.
template <class Judge>
[[nodiscard]] std::vector<float> ask(Judge& judge, const response_pairs& pairs) {
  std::vector<float> p(static_cast<std::size_t>(pairs.first.size()));
  judge.preferences(pairs.first, pairs.second, p);
  for (const float x : p)
    if (!(x >= 0 && x <= 1))
      throw error(remark::argument("train_online_preference", "a preference", static_cast<double>(x), "a probability"));
  return p;
}

/// Whether the first of each pair is the chosen one, as a number: 1, 0, or its probability.
[[nodiscard]] inline std::vector<float> labels(std::vector<float> p, pair_label how, random_key key) {
  const random_numbers coin(key);
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double x = static_cast<double>(p[i]);
    if (how == pair_label::drawn) p[i] = coin.uniform({.prompt = static_cast<std::uint32_t>(i)}) < x ? 1.0f : 0.0f;
    if (how == pair_label::likelier) p[i] = x >= 0.5 ? 1.0f : 0.0f;
  }
  return p;
}

/// Some pairs and what is fixed of them: chosen (or first) responses, then the others, then those of the bonus.
struct joined {
  responses batch;
  std::vector<float> old_logp, ref_logp;
  std::int64_t pairs = 0;

  /// Where the tokens of part k begin; k = 3 is the end.
  [[nodiscard]] std::int64_t begin(std::int64_t k) const {
    return batch.response_offsets()[static_cast<std::size_t>(std::min(k * pairs, batch.size()))];
  }
  /// Offsets of part k, from 0.
  [[nodiscard]] std::vector<std::int64_t> offsets(std::int64_t k) const {
    std::vector<std::int64_t> out;
    for (std::int64_t i = k * pairs; i <= (k + 1) * pairs; ++i)
      out.push_back(batch.response_offsets()[static_cast<std::size_t>(i)] - begin(k));
    return out;
  }
  /// Part k of something of tokens.
  [[nodiscard]] view<const float> part(const std::vector<float>& v, std::int64_t k) const {
    return {v.data() + begin(k), begin(k + 1) - begin(k)};
  }
  [[nodiscard]] view<float> part(std::vector<float>& v, std::int64_t k) const {
    return {v.data() + begin(k), begin(k + 1) - begin(k)};
  }
  /// Sums over the responses of part k.
  [[nodiscard]] std::vector<float> whole(const std::vector<float>& v, std::int64_t k) const {
    std::vector<float> out;
    for (std::int64_t i = k * pairs; i < (k + 1) * pairs; ++i) {
      double sum = 0;
      for (std::int64_t t = batch.response_offsets()[static_cast<std::size_t>(i)];
           t < batch.response_offsets()[static_cast<std::size_t>(i) + 1]; ++t)
        sum += static_cast<double>(v[static_cast<std::size_t>(t)]);
      out.push_back(static_cast<float>(sum));
    }
    return out;
  }
};

/// A unpaired objective of part k: its loss; slopes are written to `gradient`.
template <class B, class Objective>
[[nodiscard]] double respond(B& be, const Objective& objective, const joined& x, std::int64_t k,
                             const std::vector<float>& logp, const std::vector<float>& label,
                             std::vector<float>& gradient, statistics* stats = nullptr) {
  const std::vector<float> own = x.whole(logp, k), ref = x.whole(x.ref_logp, k);
  std::vector<float> slope(own.size());
  float loss = 0;
  unpaired_inputs<float> in{.logp = own, .ref_logp = ref};
  if (!label.empty()) in.label = label;
  or_throw(unpaired_loss<Objective>{objective}(
      be, in, unpaired_outputs<float>{.loss = {&loss, 1}, .grad_logp = slope, .stats = stats}));
  const std::vector<std::int64_t> offsets = x.offsets(k);
  const view<float> out = x.part(gradient, k);
  for (std::size_t i = 0; i < slope.size(); ++i)
    for (std::int64_t t = offsets[i]; t < offsets[i + 1]; ++t) out[t] = slope[i];
  return static_cast<double>(loss);
}

/// Two parts of a joined minibatch as the two sides of a pair loss.
struct comparison {
  std::int64_t first = 0, second = 1;
  std::vector<float> first_reward = {};  ///< the second one's is 1 less this; empty: none
  std::vector<float> weight = {};        ///< of each pair; empty: 1
};

/// A pair loss of two parts: its value; slopes are added to `gradient`.
template <class B, class Loss>
[[nodiscard]] double compare(B& be, const Loss& loss, const joined& x, const comparison& sides,
                             const std::vector<float>& logp, const std::vector<float>& anchor,
                             std::vector<float>& gradient, statistics& metrics) {
  const std::int64_t k[] = {sides.first, sides.second};
  const std::vector<std::int64_t> offsets[] = {x.offsets(k[0]), x.offsets(k[1])};
  const std::vector<float> previous[] = {x.whole(x.old_logp, k[0]), x.whole(x.old_logp, k[1])};
  token_pair_inputs<float> in{.chosen = {packed(offsets[0]), x.part(logp, k[0]), x.part(anchor, k[0]), {}},
                              .rejected = {packed(offsets[1]), x.part(logp, k[1]), x.part(anchor, k[1]), {}},
                              .previous_chosen = previous[0],
                              .previous_rejected = previous[1]};
  std::vector<float> second_reward;
  for (const float r : sides.first_reward) second_reward.push_back(1 - r);
  if (!second_reward.empty()) {
    in.chosen_reward = sides.first_reward;
    in.rejected_reward = second_reward;
  }
  if (!sides.weight.empty()) in.weight = sides.weight;
  std::vector<float> slope(gradient.size());
  float value = 0;
  or_throw(loss(be, in,
                pair_outputs<float>{.loss = {&value, 1},
                                    .grad_chosen = x.part(slope, k[0]),
                                    .grad_rejected = x.part(slope, k[1]),
                                    .stats = &metrics}));
  for (std::size_t t = 0; t < slope.size(); ++t) gradient[t] += slope[t];
  return static_cast<double>(value);
}

/// All that an iteration learns from; scores are the judge's where it gives any.
template <class Policy, class Reference, class Judge>
[[nodiscard]] rollout scored(Policy& policy, Reference& reference, Judge& judge, responses batch, std::int64_t pairs,
                             const std::vector<float>& p, std::int64_t version) {
  struct by_preference {
    std::int64_t pairs;
    const std::vector<float>* p;
    void rewards(const responses& r, std::span<float> out) const {
      for (std::int64_t i = 0; i < r.size(); ++i) {
        const float first = (*p)[static_cast<std::size_t>(i % pairs)];
        out[static_cast<std::size_t>(i)] = i < pairs ? first : 1 - first;
      }
    }
  } preference{pairs, &p};
  if constexpr (scores_responses<Judge>)
    return collect(policy, reference, judge, std::move(batch), version);
  else
    return collect(policy, reference, preference, std::move(batch), version);
}

}  // namespace online_detail

/// Online preference optimisation: pairs from `sampler`, labels from `judge`, epochs of minibatches on the policy.
///
/// `prompts(i)` gives the prompts of iteration i, each with one pair. One iteration over many prompts and several epochs is
/// iterative DPO; algorithm.anchor says whether its reference is the frozen one or the iterate.
/// Metrics: `loss/policy_avg`, preference statistics (`rewards/...`, `logps/...`), `objective/kl`, `labels`, `bonus` where
/// there is one, `grad_norm`. The reward that an iteration reports is the judge's score, or its probability. Throws
/// rlhf::error.
template <class B, class Loss, class Sampler, class Policy, scores_tokens Reference, compares_responses Judge,
          class Schedule, class Prompts, class Observer = ignore_iteration>
  requires trainable_policy<Policy>
void train_online_preference(B& be, const online_preference<Loss>& algorithm, const Sampler& sampler, Policy& policy,
                             Reference& reference, Judge& judge, parameter_update<Schedule>& update, Prompts&& prompts,
                             const on_policy_options& options, Observer&& observe = {}) {
  using namespace online_detail;
  constexpr const char* name = "train_online_preference";
  check_loop(name, options);
  const bool rewarded = reads_rewards(algorithm.loss);
  const bool expected = !rewarded && algorithm.label == pair_label::probability;
  iteration now{.number = options.done, .of = options.iterations, .tokens = options.tokens_done};
  for (std::int64_t i = options.done; i < options.iterations; ++i) {
    const random_key key = stream(options.key, 2 * i), shuffled = stream(options.key, 2 * i + 1);
    const prompt_list asked = prompts(i);
    const response_pairs pairs = sampler(policy, reference, judge, asked, key);
    const std::int64_t n = pairs.first.size();
    const std::vector<float> p = ask(judge, pairs),
                             label = labels(p, algorithm.label, pair_sampler_detail::draw(shuffled, 1));
    responses all = pairs.first;
    for (std::int64_t k = 0; k < n; ++k) all.add(pairs.second, k);
    const auto bonus = [&](auto& from) {
      const responses more = from.sample(asked, 1, pair_sampler_detail::draw(key, 5));
      for (std::int64_t k = 0; k < n; ++k) all.add(more, k);
    };
    if (algorithm.bonus_on == bonus_source::policy) {
      if constexpr (sampling_policy<Policy>) bonus(policy);
    } else if (algorithm.bonus_on == bonus_source::reference) {
      if constexpr (sampling_policy<Reference>)
        bonus(reference);
      else
        throw error(
            {errc::argument, name, "reference", "does not sample", 0, 0, "sample(), for the bonus on its samples"});
    }
    const bool with_bonus = algorithm.bonus_on != bonus_source::none;
    const rollout r = scored(policy, reference, judge, std::move(all), n, p, update.optimiser.steps);
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);

    statistics metrics;
    describe(r, {}, metrics);
    metrics.add_total("labels", static_cast<double>(n));
    std::vector<float> logp, gradient;
    for_each_minibatch(n, {options.minibatch, options.epochs, shuffled}, [&](std::span<const std::int64_t> chosen) {
      std::vector<std::int64_t> rows;
      std::vector<float> first_reward, second_reward;
      const auto first = [&](std::int64_t pair) {
        return rewarded || expected || label[static_cast<std::size_t>(pair)] > 0.5f;
      };
      for (const std::int64_t pair : chosen) rows.push_back(first(pair) ? pair : n + pair);
      for (const std::int64_t pair : chosen) rows.push_back(first(pair) ? n + pair : pair);
      for (const std::int64_t pair : chosen) {
        if (with_bonus) rows.push_back(2 * n + pair);
        first_reward.push_back(label[static_cast<std::size_t>(pair)]);
        second_reward.push_back(1 - label[static_cast<std::size_t>(pair)]);
      }
      const joined x{r.batch.select(rows), r.batch.select(rows, std::span<const float>(r.old_logp)),
                     r.batch.select(rows, std::span<const float>(r.ref_logp)),
                     static_cast<std::int64_t>(chosen.size())};
      logp.resize(x.old_logp.size());
      gradient.assign(logp.size(), 0.0f);
      policy.log_probs(x.batch, logp);
      if (moved_kl(logp, x.old_logp) > options.stop_kl) return false;
      const std::vector<float>& anchor = algorithm.anchor == pair_anchor::iterate ? x.old_logp : x.ref_logp;
      comparison sides{.first = 0, .second = 1};
      if (rewarded) sides.first_reward = first_reward;
      if (expected) sides.weight = first_reward;
      double loss = compare(be, algorithm.loss, x, sides, logp, anchor, gradient, metrics);
      if (expected) {
        sides = {.first = 1, .second = 0, .weight = second_reward};
        loss += compare(be, algorithm.loss, x, sides, logp, anchor, gradient, metrics);
      }
      if (with_bonus) metrics.add("bonus", respond(be, algorithm.bonus, x, 2, logp, {}, gradient), 1);
      policy.backward(gradient);
      metrics.add("loss/policy_avg", loss, 1);
      metrics.add("grad_norm", update.apply(policy), 1);
      return true;
    });
    now.after(r, i, metrics);
    if (!tell(observe, now)) return;
  }
}

/// Nash-MD: a response of the policy against one of the geometric mixture of policy and reference, and a policy gradient on
/// the judge's probability that the first one wins.
///
/// `mixture` is the reference's power in the opponent, 0: the policy itself (plain self-play), 1: the reference.
/// Metrics: `loss/policy_avg`, `objective/...`, `labels`, `grad_norm`. Source: Munos et al. 2023, arXiv 2312.00886. Throws
/// rlhf::error.
template <class B, class Policy, scores_tokens Reference, compares_responses Judge, class Schedule, class Prompts,
          class Observer = ignore_iteration>
  requires trainable_policy<Policy> && sampling_policy<Policy> && mixing_policy<Policy, Reference>
void train_nash_md(B& be, const nash_md& objective, double mixture, Policy& policy, Reference& reference, Judge& judge,
                   parameter_update<Schedule>& update, Prompts&& prompts, const on_policy_options& options,
                   Observer&& observe = {}) {
  using namespace online_detail;
  check_loop("train_nash_md", options);
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
    const std::vector<float> p = ask(judge, pairs);
    const rollout r = scored(policy, reference, judge, pairs.first, pairs.first.size(), p, update.optimiser.steps);
    if constexpr (wants_rollouts<Observer>) observe.sampled(r);
    statistics metrics;
    describe(r, {}, metrics);
    metrics.add_total("labels", static_cast<double>(r.batch.size()));
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
                         metrics.add("loss/policy_avg", respond(be, objective, x, 0, logp, won, gradient), 1);
                         policy.backward(gradient);
                         metrics.add("grad_norm", update.apply(policy), 1);
                         return true;
                       });
    now.after(r, i, metrics);
    if (!tell(observe, now)) return;
  }
}

}  // namespace rlhf::inline v1
