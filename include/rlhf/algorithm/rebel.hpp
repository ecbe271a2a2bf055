#pragma once
// REBEL: policy optimisation as regression of relative rewards.
//
//   repeat:
//     sample y, y' for each prompt with pi_t; score them
//     r = score - beta_kl (log pi_t(y) - log pi_ref(y))
//     fit theta: (log pi_theta / pi_t (y) - log pi_theta / pi_t (y') - eta (r - r'))^2
//
// Gao et al. 2024, "REBEL: Reinforcement Learning via Regressing Relative Rewards", arXiv 2404.16767 (NeurIPS 2024).
// Defaults: eta 1 and beta_kl 0.05 (the authors' TL;DR script).

#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/preference.hpp"

namespace rlhf::inline v1 {

/// REBEL's loss on pairs of samples: give pi_t's log-probabilities as the references and the rewards of both.
struct rebel_regression {
  double eta = 1;                ///< scale of the rewards, nats for each of their units
  double kl_coefficient = 0.05;  ///< of the sequence KL that is taken off the score
  bool paper_scaling = false;    ///< divide the residual by eta

  /// The reward that is regressed: the score less the KL penalty of the response's log pi_t / pi_ref.
  [[nodiscard]] constexpr double shaped(double score, double log_ratio) const {
    return score - kl_coefficient * log_ratio;
  }

  [[nodiscard]] constexpr auto loss() const {
    return preference_loss<rebel>{{.eta = eta, .paper_scaling = paper_scaling}};
  }
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out) const {
    return loss()(be, in, out);
  }
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const token_pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out) const {
    return loss()(be, in, out);
  }
};

}  // namespace rlhf::inline v1
