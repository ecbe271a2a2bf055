#pragma once
// Direct preference optimisation: from pairs to a loss, without a reward model.
//
//   for each pair (x, y_c, y_r):
//     a = log pi(y_c | x) - log pi_ref(y_c | x)
//     b = log pi(y_r | x) - log pi_ref(y_r | x)
//     loss += -log sigmoid(beta (a - b))
//
// Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
// arXiv 2305.18290. Default beta: the paper's 0.1.

#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/preference.hpp"

namespace rlhf::inline v1 {

/// DPO as published, with its two common extras: label smoothing and an NLL term on the chosen responses. For any other
/// member of the family compose preference_loss with another objective.
struct dpo {
  double beta = 0.1;           ///< inverse temperature: weight of the log-ratios
  double label_smoothing = 0;  ///< e: probability that a label is flipped
  chosen_nll nll{};            ///< a term on the chosen responses

  [[nodiscard]] constexpr unsigned needs() const { return field::references; }
  [[nodiscard]] constexpr auto loss() const {
    return preference_loss<dpo_sigmoid>{{.beta = beta, .label_smoothing = label_smoothing}, batch_mean{}, nll, {}};
  }

  /// Loss, gradients and statistics of pairs given as sums: see preference_loss.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out) const {
    return loss()(be, in, out);
  }
  /// The same of pairs given as tokens, with gradients per token.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const token_pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out) const {
    return loss()(be, in, out);
  }
};

}  // namespace rlhf::inline v1
