#pragma once
// Reward models that score every token, learned from pairs token against token.

#include <algorithm>
#include <vector>

#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/objective/aggregate.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/train/labelled.hpp"
#include "rlhf/train/pairs.hpp"

namespace rlhf::inline v1 {

namespace token_reward_detail {

/// Where the scores of some pairs meet: from the first token in which two responses differ to the end of the longer one. A
/// response that has ended keeps the score of its last token.
struct meetings {
  std::vector<std::int64_t> offsets{0};       ///< [pairs + 1]
  std::vector<std::size_t> chosen, rejected;  ///< [positions] slots of the critic's values

  /// `states` holds all chosen, then all rejected responses, each with the state after its last token.
  meetings(const responses& states, std::int64_t pairs) {
    for (std::int64_t i = 0; i < pairs; ++i) {
      const auto a = states.response(i), b = states.response(pairs + i);
      const std::size_t left = a.size() - 1, right = b.size() - 1;  // tokens: the last slot is no token
      std::size_t t = 0;
      while (t < left && t < right && a[t] == b[t]) ++t;
      const auto slot = [&](std::int64_t row, std::size_t tokens) {
        return static_cast<std::size_t>(states.response_offsets()[static_cast<std::size_t>(row)]) +
               std::min(t + 1, tokens);  // the state after token t
      };
      for (const std::size_t end = std::max(left, right); t < end; ++t) {
        chosen.push_back(slot(i, left));
        rejected.push_back(slot(pairs + i, right));
      }
      offsets.push_back(static_cast<std::int64_t>(chosen.size()));
    }
  }

  /// A number of each pair at each of its positions; empty where there is none.
  [[nodiscard]] std::vector<float> of_pairs(const std::vector<float>& x) const {
    std::vector<float> out;
    for (std::size_t i = 0; i < x.size(); ++i)
      out.insert(out.end(), static_cast<std::size_t>(offsets[i + 1] - offsets[i]), x[i]);
    return out;
  }
};

}  // namespace token_reward_detail

/// Fits a critic that scores every token to pairs: for each pair the mean of a score objective over the positions from the
/// first token in which its responses differ to the end of the longer one, then the mean over pairs. The reward of a response
/// is the score of its last token.
///
/// `loss` is a reward_loss over tokens: Bradley-Terry's, or PCRM's with the caps as pairs.margin. Margins, probabilities and
/// weights of a pair hold at each of its positions. Two equal responses teach nothing and count as 0 in the mean.
/// The critic is asked for one state more than a response has tokens, as in train_process_rewards. Source: Yao et al. 2023
/// (DeepSpeed-Chat), arXiv 2308.01320, whose program compares with the scores of padding behind the shorter response, where
/// here the score of its last token stands. Metrics: `loss`, `accuracy` and `margin` of the positions, `accuracy_end` of the
/// last tokens, ties half, `grad_norm`. Throws rlhf::error.
template <class B, trainable_critic Critic, class Schedule, class Observer = ignore_progress,
          class Loss = reward_loss<bradley_terry, row_mean>>
void train_token_rewards(B& be, Critic& critic, parameter_update<Schedule>& update, const preference_pairs& pairs,
                         const loop_options& options, Observer&& observe = {}, const Loss& loss = {}) {
  using namespace preference_train_detail;
  constexpr const char* name = "train_token_rewards";
  check_scored(pairs, name);
  check_loop(name, "pairs", pairs.chosen.size(), options);
  progress now = progress_of(pairs.chosen.size(), options);
  std::vector<float> value, gradient;
  for_each_minibatch(pairs.chosen.size(), options, [&](std::span<const std::int64_t> rows) {
    const auto n = static_cast<std::int64_t>(rows.size());
    const responses states = labelled_detail::with_end(join(pairs, rows));
    const token_reward_detail::meetings where(states, n);
    const std::size_t positions = where.chosen.size();
    value.resize(static_cast<std::size_t>(states.response_tokens()));
    gradient.assign(value.size(), 0.0f);
    critic.values(states, value);

    std::vector<float> chosen(positions), rejected(positions), slope_chosen(positions), slope_rejected(positions);
    for (std::size_t k = 0; k < positions; ++k) {
      chosen[k] = value[where.chosen[k]];
      rejected[k] = value[where.rejected[k]];
    }
    const std::vector<float> margin = where.of_pairs(select(pairs.margin, rows)),
                             probability = where.of_pairs(select(pairs.probability, rows)),
                             weight = where.of_pairs(select(pairs.weight, rows));
    float found = 0;
    statistics metrics;
    const status done =
        loss(be, packed(where.offsets),
             score_inputs<float>{.chosen = chosen,
                                 .rejected = rejected,
                                 .margin = view_of(margin),
                                 .probability = view_of(probability),
                                 .weight = view_of(weight)},
             score_outputs<float>{
                 .loss = {&found, 1}, .grad_chosen = slope_chosen, .grad_rejected = slope_rejected, .stats = &metrics});
    if (done.code != errc::empty_mask) or_throw(done);  // all pairs equal: no position, no slope
    for (std::size_t k = 0; k < positions; ++k) {
      gradient[where.chosen[k]] += slope_chosen[k];
      gradient[where.rejected[k]] += slope_rejected[k];
    }
    critic.backward_values(gradient);

    double right = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto last = [&](std::int64_t row) {
        return value[static_cast<std::size_t>(states.response_offsets()[static_cast<std::size_t>(row + 1)]) - 1];
      };
      right += last(i) > last(n + i) ? 1 : last(i) == last(n + i) ? 0.5 : 0;
    }
    metrics.add("accuracy_end", right, static_cast<double>(n));
    metrics.add("loss", static_cast<double>(found), 1);
    update.apply(critic, metrics);
    ++now.step;
    now.items += n;
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

}  // namespace rlhf::inline v1
