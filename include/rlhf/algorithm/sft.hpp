#pragma once
// Supervised fine-tuning: the mean negative log-likelihood of the response tokens.

#include "rlhf/driver/policy_loss.hpp"

namespace rlhf::inline v1 {

/// \f$ -\frac1N\sum_t\log\pi(y_t) \f$ over the valid tokens; `tokens` is their count in the whole batch, 0 those of the call.
struct sft {
  double tokens = 0;  ///< valid tokens of the whole batch; 0: those of the call

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const token_inputs<T, Space>& in,
                    const token_outputs<T, Space>& out) const {
    return policy_loss<negative_log_likelihood>{{}, {}, {.tokens = tokens}}(be, sequences, in, out);
  }
};

}  // namespace rlhf::inline v1
