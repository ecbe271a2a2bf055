#pragma once
// Supervised fine-tuning.

#include <cmath>
#include <span>
#include <vector>

#include "rlhf/algorithm/sft.hpp"
#include "rlhf/train/joined.hpp"
#include "rlhf/train/loop.hpp"
#include "rlhf/train/update.hpp"

namespace rlhf::inline v1 {

/// Fits a policy to responses by maximum likelihood: for each minibatch, log-probabilities, loss, gradient, step. `weight`
/// [responses] multiplies the loss of a response's tokens, whose number divides as without it; empty: 1 each.
/// Metrics: `loss` (nats per token), `grad_norm`. Throws rlhf::error.
template <class B, trainable_policy Policy, class Schedule, class Observer = ignore_progress>
void train_supervised(B& be, Policy& policy, parameter_update<Schedule>& update, const responses& data,
                      const loop_options& options, Observer&& observe = {}, std::span<const float> weight = {}) {
  check_loop("train_supervised", "data", data.size(), options);
  if (!weight.empty() && static_cast<std::int64_t>(weight.size()) != data.size())
    throw error(remark::shape("train_supervised", "weight", static_cast<std::int64_t>(weight.size()), data.size()));
  for (const float w : weight)
    if (!std::isfinite(w))
      throw error(remark::argument("train_supervised", "weight", static_cast<double>(w), "finite numbers"));
  progress now = progress_of(data.size(), options);
  std::vector<float> logp, gradient, of_token;
  for_each_minibatch(data.size(), options, [&](std::span<const std::int64_t> rows) {
    const responses batch = data.select(rows);
    logp.resize(static_cast<std::size_t>(batch.response_tokens()));
    gradient.resize(logp.size());
    policy.log_probs(batch, logp);
    token_inputs<float> in{.logp = logp};
    if (!weight.empty()) {
      std::vector<float> some;
      for (const std::int64_t row : rows) some.push_back(weight[static_cast<std::size_t>(row)]);
      of_token = batch_detail::to_tokens(batch, some);
      in.weight = of_token;
    }
    float loss = 0;
    or_throw(sft{}(be, batch.layout(), in, {.loss = {&loss, 1}, .grad_logp = gradient}));
    policy.backward(gradient);
    statistics metrics;
    metrics.add("loss", static_cast<double>(loss), 1);
    update.apply(policy, metrics);
    ++now.step;
    now.items += batch.size();
    now.metrics = &metrics;
    return tell(observe, now);
  });
}

}  // namespace rlhf::inline v1
