#pragma once
// What the loops over compared samples share: asking, labels, minibatches of several parts and their losses.

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "rlhf/algorithm/online_preference.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/train/joined.hpp"
#include "rlhf/train/pair_sampler.hpp"
#include "rlhf/train/rollout.hpp"

namespace rlhf::inline v1 {

namespace online_detail {

using batch_detail::joined;

template <class Loss>
[[nodiscard]] constexpr bool reads_rewards(const Loss& loss) {
  if constexpr (requires { loss.objective; })
    return (needs_of(loss.objective) & field::rewards) != 0;
  else
    return false;
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

/// Those responses of pairs that the policy drew by itself, as rows (the first ones, then the second ones), and for each pair
/// that has one the probability that it beats the other response: the first one where both are the policy's.
struct own_responses {
  std::vector<std::int64_t> rows;
  std::vector<float> won;
};
[[nodiscard]] inline own_responses own_of(const response_pairs& pairs, const std::vector<float>& p) {
  const std::size_t n = p.size();
  std::vector<char> own(2 * n, char{1});
  for (const std::int64_t row : pairs.foreign) own[static_cast<std::size_t>(row)] = 0;
  own_responses out;
  for (std::size_t row = 0; row < own.size(); ++row)
    if (own[row] != 0) out.rows.push_back(static_cast<std::int64_t>(row));
  for (std::size_t k = 0; k < n; ++k)
    if (own[k] != 0 || own[n + k] != 0) out.won.push_back(own[k] != 0 ? p[k] : 1 - p[k]);
  return out;
}

/// moved_kl of those rows of a minibatch that are `own`: of draws of others its mean is no KL.
[[nodiscard]] inline double own_moved_kl(const joined& x, std::span<const std::int64_t> rows,
                                         const std::vector<char>& own, const std::vector<float>& logp) {
  std::vector<float> now, then;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (own[static_cast<std::size_t>(rows[i])] == 0) continue;
    const auto begin = x.batch.response_offsets()[i], end = x.batch.response_offsets()[i + 1];
    now.insert(now.end(), logp.begin() + begin, logp.begin() + end);
    then.insert(then.end(), x.old_logp.begin() + begin, x.old_logp.begin() + end);
  }
  return moved_kl(now, then);
}

/// An unpaired objective of part k: its loss; slopes are written to `gradient`.
template <class B, class Objective>
[[nodiscard]] double respond(B& be, const Objective& objective, const joined& x, std::int64_t k,
                             const std::vector<float>& logp, const std::vector<float>& anchor,
                             const std::vector<float>& label, std::vector<float>& gradient,
                             statistics* stats = nullptr) {
  const std::vector<float> own = x.whole(logp, k), ref = x.whole(anchor, k);
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

/// One more response to each prompt, for the bonus.
template <class Policy, class Reference>
[[nodiscard]] responses bonus_responses(bonus_source from, Policy& policy, Reference& reference,
                                        const prompt_list& prompts, random_key key) {
  if (from == bonus_source::policy) return policy.sample(prompts, 1, key);
  if constexpr (sampling_policy<Reference>)
    return reference.sample(prompts, 1, key);
  else
    throw error({errc::argument, "train_online_preference", "reference", "samples:", 0, 0,
                 "sample(), for the bonus on its samples"});
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

/// All that an iteration learns from: `pairs` first responses, as many second ones, then those of a bonus, which nobody was
/// asked about (score NaN). Scores are the judge's, or of one without the probability of beating the other of the pair.
template <class Policy, class Reference, class Judge>
[[nodiscard]] rollout scored(Policy& policy, Reference& reference, Judge& judge, responses batch, std::int64_t pairs,
                             const std::vector<float>& p, std::int64_t version, drawn_by who = drawn_by::others) {
  rollout r = collect_unscored(policy, reference, std::move(batch), version, who);
  const std::int64_t compared = std::min(2 * pairs, r.batch.size());
  if constexpr (scores_responses<Judge>) {
    std::vector<std::int64_t> rows(static_cast<std::size_t>(compared));
    std::iota(rows.begin(), rows.end(), std::int64_t{0});
    r.score = ask_rewards("collect", judge, r.batch.select(rows));
  } else {
    for (std::int64_t i = 0; i < compared; ++i) {
      const float first = p[static_cast<std::size_t>(i % pairs)];
      r.score.push_back(i < pairs ? first : 1 - first);
    }
  }
  r.score.resize(static_cast<std::size_t>(r.batch.size()), std::numeric_limits<float>::quiet_NaN());
  return r;
}

}  // namespace online_detail

}  // namespace rlhf::inline v1
