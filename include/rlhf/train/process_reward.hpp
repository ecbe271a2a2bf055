#pragma once
// Process reward models: learning what the steps of a response are worth.

#include <cmath>
#include <vector>

#include "rlhf/train/labelled.hpp"

namespace rlhf::inline v1 {

/// Responses with labels inside: of the steps of a reasoning, of sentences.
struct labelled_steps {
  responses response;
  std::vector<float> label;  ///< [tokens] of what a response is worth up to and with this token; NaN: not known
};

/// Fits a process reward model, a critic that scores every state: the score after a labelled token is fitted to its label, by
/// its sigmoid (binary_outcome) or itself (squared_value, huber_value).
///
/// The critic is asked for one state more than a response has tokens, as in train_global_value. Metrics: `loss`,
/// `value_mean`, `returns_mean`, `explained_variance`, `grad_norm`. Source: Lightman et al. 2023, arXiv 2305.20050;
/// catalogue R-06. Throws rlhf::error.
template <class B, trainable_critic Critic, class Schedule, class Observer = ignore_progress,
          class Loss = value_loss<binary_outcome>>
void train_process_rewards(B& be, Critic& critic, parameter_update<Schedule>& update, const labelled_steps& data,
                           const loop_options& options, Observer&& observe = {}, const Loss& loss = {}) {
  constexpr const char* name = "train_process_rewards";
  check_loop(name, "data", data.response.size(), options);
  if (static_cast<std::int64_t>(data.label.size()) != data.response.response_tokens())
    throw error(remark::shape(name, "data.label", static_cast<std::int64_t>(data.label.size()),
                              data.response.response_tokens()));
  for (const float x : data.label)
    if (std::isinf(x))
      throw error(remark::argument(name, "data.label", static_cast<double>(x), "numbers, or NaN: none"));
  progress now = progress_of(data.response.size(), options);
  for_each_minibatch(data.response.size(), options, [&](std::span<const std::int64_t> rows) {
    const responses part = data.response.select(rows), batch = labelled_detail::with_end(part);
    const std::vector<float> label = data.response.select(rows, std::span<const float>(data.label));
    const auto slots = static_cast<std::size_t>(batch.response_tokens());
    std::vector<float> target(slots), value(slots), gradient(slots);
    std::vector<std::uint8_t> known(slots);
    for (std::size_t i = 0; i < rows.size(); ++i)
      for (std::size_t t = 0; t < part.response(static_cast<std::int64_t>(i)).size(); ++t) {
        const float y = label[static_cast<std::size_t>(part.response_offsets()[i]) + t];
        const std::size_t slot = static_cast<std::size_t>(batch.response_offsets()[i]) + t + 1;
        known[slot] = y == y ? 1 : 0;
        target[slot] = y == y ? y : 0;
      }
    critic.values(batch, value);
    float found = 0;
    statistics metrics;
    or_throw(loss(be, batch.layout(),
                  value_inputs<float>{.value = value, .old_value = value, .returns = target, .mask = known},
                  value_outputs<float>{.loss = {&found, 1}, .grad_value = gradient, .stats = &metrics}));
    critic.backward_values(gradient);
    metrics.add("loss", static_cast<double>(found), 1);
    update.apply(critic, metrics);
    ++now.step;
    now.items += part.size();
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

}  // namespace rlhf::inline v1
