#pragma once
// Learning from ranked lists: reward models, and policies whose implied rewards are ranked.

#include <cmath>
#include <vector>

#include "rlhf/driver/ranking_loss.hpp"
#include "rlhf/reward/ranking.hpp"
#include "rlhf/train/joined.hpp"
#include "rlhf/train/loop.hpp"
#include "rlhf/train/reference.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

/// Lists of responses to the same prompt, each in the order of its ranking, the best first.
struct ranked_responses {
  responses response;
  std::vector<std::int64_t> offsets{0};  ///< [lists + 1] where each list begins
  std::vector<float> weight;             ///< [lists] multiplies a list's loss; empty: 1 each

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

namespace ranking_train_detail {

inline void check(const ranked_responses& data, const char* function) {
  for (std::size_t i = 0; i + 1 < data.offsets.size(); ++i)
    if (data.offsets[i] > data.offsets[i + 1])
      throw error(
          remark::argument(function, "data.offsets", static_cast<double>(data.offsets[i + 1]), "rising numbers"));
  if (data.offsets.empty() || data.offsets.front() != 0 || data.offsets.back() != data.response.size())
    throw error(
        remark::shape(function, "data.offsets", data.offsets.empty() ? 0 : data.offsets.back(), data.response.size()));
  if (!data.weight.empty() && static_cast<std::int64_t>(data.weight.size()) != data.size())
    throw error(remark::shape(function, "data.weight", static_cast<std::int64_t>(data.weight.size()), data.size()));
}

/// Some lists of the data.
struct some_lists {
  std::vector<std::int64_t> rows, offsets{0};
  std::vector<float> weight;
  responses batch;

  some_lists(const ranked_responses& data, std::span<const std::int64_t> lists) {
    for (const std::int64_t list : lists) {
      const auto i = static_cast<std::size_t>(list);
      for (std::int64_t row = data.offsets[i]; row < data.offsets[i + 1]; ++row) rows.push_back(row);
      offsets.push_back(static_cast<std::int64_t>(rows.size()));
      if (!data.weight.empty()) weight.push_back(data.weight[i]);
    }
    batch = data.response.select(rows);
  }
};

/// The loss of scores, with its slopes.
template <class B, class Loss>
[[nodiscard]] double rank(B& be, const Loss& loss, const some_lists& lists, const std::vector<float>& score,
                          std::vector<float>& slope) {
  float value = 0;
  slope.resize(score.size());
  ranking_inputs<float> in{.score = score};
  if (!lists.weight.empty()) in.weight = lists.weight;
  or_throw(loss(be, packed(lists.offsets), in, ranking_outputs<float>{.loss = {&value, 1}, .grad_score = slope}));
  return static_cast<double>(value);
}

}  // namespace ranking_train_detail

/// Fits a reward model to rankings: `loss` is a ranking_loss of plackett_luce or ranked_pairs.
/// Metrics: `loss`, `grad_norm`. Throws rlhf::error.
template <class B, trainable_reward Model, class Schedule, class Loss = ranking_loss<plackett_luce>,
          class Observer = ignore_progress>
void train_reward_rankings(B& be, Model& model, parameter_update<Schedule>& update, const ranked_responses& data,
                           const loop_options& options, const Loss& loss = {}, Observer&& observe = {}) {
  ranking_train_detail::check(data, "train_reward_rankings");
  check_loop("train_reward_rankings", "data", data.size(), options);
  progress now = progress_of(data.size(), options);
  std::vector<float> score, slope;
  for_each_minibatch(data.size(), options, [&](std::span<const std::int64_t> chosen) {
    const ranking_train_detail::some_lists lists(data, chosen);
    score.resize(lists.rows.size());
    model.rewards(lists.batch, score);
    statistics metrics;
    metrics.add("loss", ranking_train_detail::rank(be, loss, lists, score, slope), 1);
    model.backward_rewards(slope);
    update.apply(model, metrics);
    ++now.step;
    now.items += static_cast<std::int64_t>(chosen.size());
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

/// Fits a policy to rankings by the rewards it implies, beta log pi / pi_ref: with plackett_luce it is DPO of lists (Rafailov
/// et al. 2023, arXiv 2305.18290, appendix A.3). The reference is a model or reference_logp. A model is asked about the data
/// once; with a `sync` (reference_sync, bias_corrected_average) it follows the policy and is asked about each minibatch: then
/// reference and sync belong to the state of the run.
/// Metrics: `loss`, `grad_norm`. Throws rlhf::error.
template <class B, trainable_policy Policy, gives_reference<reference_logp> Reference, class Schedule,
          class Loss = ranking_loss<plackett_luce>, class Observer = ignore_progress,
          class Sync = reference_detail::stands_still>
void train_listwise(B& be, double beta, Policy& policy, Reference&& reference, parameter_update<Schedule>& update,
                    const ranked_responses& data, const loop_options& options, const Loss& loss = {},
                    Observer&& observe = {}, Sync&& sync = {}) {
  ranking_train_detail::check(data, "train_listwise");
  check_loop("train_listwise", "data", data.size(), options);
  if (!(beta > 0)) throw error(remark::argument("train_listwise", "beta", beta, "more than 0"));
  reference_detail::loop_reference anchor(reference, sync, true, "train_listwise");
  anchor.add(data.response);
  progress now = progress_of(data.size(), options);
  std::vector<float> logp, score, slope;
  for_each_minibatch(data.size(), options, [&](std::span<const std::int64_t> chosen) {
    const ranking_train_detail::some_lists lists(data, chosen);
    const std::vector<double> ref = batch_detail::response_sums(lists.batch, anchor.of(lists.batch, lists.rows));
    logp.resize(static_cast<std::size_t>(lists.batch.response_tokens()));
    policy.log_probs(lists.batch, logp);
    const std::vector<double> own = batch_detail::response_sums(lists.batch, logp);
    score.resize(own.size());
    for (std::size_t i = 0; i < own.size(); ++i) score[i] = static_cast<float>(beta * (own[i] - ref[i]));
    statistics metrics;
    metrics.add("loss", ranking_train_detail::rank(be, loss, lists, score, slope), 1);
    for (float& s : slope) s = static_cast<float>(beta * static_cast<double>(s));
    policy.backward(batch_detail::to_tokens(lists.batch, slope));
    update.apply(policy, metrics);
    anchor.follow(policy);
    ++now.step;
    now.items += static_cast<std::int64_t>(chosen.size());
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

}  // namespace rlhf::inline v1
