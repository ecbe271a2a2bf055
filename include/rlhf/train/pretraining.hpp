#pragma once
// PPO-ptx: text that a policy must not forget while it learns from rewards.

#include <utility>
#include <vector>

#include "rlhf/algorithm/sft.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/policy/concepts.hpp"

namespace rlhf::inline v1 {

/// No such text.
struct no_pretraining {};

/// Text mixed into every update of a policy: to the loss is added \f$ \gamma\,\big(-\frac1N\sum_t\log\pi(x_t)\big) \f$, the mean
/// over the N response tokens of some text x.
///
/// `text(u)` gives, as responses, the text for the policy's update u, counted from 0. It is asked for nothing where gamma is 0.
/// Range: gamma >= 0. Source: Ouyang et al. 2022, arXiv 2203.02155, eq. 2, whose gamma of 27.8 is of their batches' scale;
/// Zheng et al. 2023, arXiv 2307.04964, section 5.
template <class Text>
struct pretraining {
  Text text;
  double coefficient = 1;  ///< gamma

  /// Adds to the policy's gradient, before the update; the mean loss in nats per token. Throws rlhf::error.
  template <class B, trainable_policy Policy>
  double learn(B& be, Policy& policy, std::int64_t update) {
    const responses batch = text(update);
    std::vector<float> logp(static_cast<std::size_t>(batch.response_tokens())), gradient(logp.size());
    policy.log_probs(batch, logp);
    float loss = 0;
    or_throw(sft{}(be, batch.layout(), token_inputs<float>{.logp = logp},
                   token_outputs<float>{.loss = {&loss, 1}, .grad_logp = gradient}));
    for (float& g : gradient) g = static_cast<float>(coefficient * static_cast<double>(g));
    policy.backward(gradient);
    return static_cast<double>(loss);
  }
};
template <class T>
pretraining(T, double) -> pretraining<T>;

}  // namespace rlhf::inline v1
