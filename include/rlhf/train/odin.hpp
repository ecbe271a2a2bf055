#pragma once
// ODIN's loop: a reward model with two heads, of which one takes the length of responses upon itself.

#include <concepts>
#include <utility>
#include <vector>

#include "rlhf/driver/odin_loss.hpp"
#include "rlhf/train/preference.hpp"

namespace rlhf::inline v1 {

/// A reward model with a head for quality and one for length on one trunk: both scores of the responses of a batch, the inner
/// product of the heads' normalised weights, and the gradient of all three added to gradient().
template <class M>
concept two_headed_reward = parameterised<M> && requires(M& m, const responses& batch, std::span<float> out,
                                                         std::span<const float> slope, float product) {
  m.head_scores(batch, out, out);
  { m.head_product() } -> std::convertible_to<float>;
  m.backward_heads(slope, slope, product);
};

/// Fits both heads to pairs; the length of a response is that of its tokens. Afterwards the quality score is the reward.
/// Correlations are over a minibatch: one pair teaches nothing about them. Nothing else that is known of the pairs is read: a
/// margin, a probability or a weight is refused.
/// Metrics: `loss`, `accuracy`, `corr_quality`, `corr_length`, `corr_total`, `grad_norm`. Throws rlhf::error.
template <class B, two_headed_reward Model, class Schedule, class Observer = ignore_progress>
void train_odin(B& be, Model& model, parameter_update<Schedule>& update, const preference_pairs& pairs,
                const loop_options& options, Observer&& observe = {}, const odin_loss& algorithm = {}) {
  preference_train_detail::check_scored(pairs, "train_odin");
  const auto unread = [](const std::vector<float>& what, const char* name) {
    if (!what.empty()) throw error(remark::shape("train_odin", name, static_cast<std::int64_t>(what.size()), 0));
  };
  unread(pairs.margin, "pairs.margin");
  unread(pairs.probability, "pairs.probability");
  unread(pairs.weight, "pairs.weight");
  check_loop("train_odin", "pairs", pairs.chosen.size(), options);
  progress now = progress_of(pairs.chosen.size(), options);
  for_each_minibatch(pairs.chosen.size(), options, [&](std::span<const std::int64_t> rows) {
    const responses both = preference_train_detail::join(pairs, rows);
    const std::int64_t n = both.size() / 2;
    const auto size = static_cast<std::size_t>(both.size());
    std::vector<float> quality(size), length_score(size), length(size), grad_quality(size), grad_length(size);
    for (std::int64_t i = 0; i < both.size(); ++i)
      length[static_cast<std::size_t>(i)] = static_cast<float>(both.response(i).size());
    model.head_scores(both, quality, length_score);
    const float product = model.head_product();
    float loss = 0, grad_product = 0;
    statistics metrics;
    const auto side = [&](std::int64_t first) {
      return two_head_scores<float>{
          {quality.data() + first, n}, {length_score.data() + first, n}, {length.data() + first, n}};
    };
    const auto slopes = [&](std::int64_t first) {
      return two_head_gradients<float>{{grad_quality.data() + first, n}, {grad_length.data() + first, n}};
    };
    or_throw(algorithm(be, odin_inputs<float>{.chosen = side(0), .rejected = side(n), .head_product = {&product, 1}},
                       odin_outputs<float>{.loss = {&loss, 1},
                                           .grad_chosen = slopes(0),
                                           .grad_rejected = slopes(n),
                                           .grad_head_product = {&grad_product, 1},
                                           .stats = &metrics}));
    model.backward_heads(grad_quality, grad_length, grad_product);
    metrics.add("loss", static_cast<double>(loss), 1);
    update.apply(model, metrics);
    ++now.step;
    now.items += n;
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

}  // namespace rlhf::inline v1
