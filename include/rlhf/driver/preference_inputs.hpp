#pragma once
// What preference_loss takes and gives.

#include "rlhf/core/layout.hpp"
#include "rlhf/core/statistics.hpp"

namespace rlhf::inline v1 {

/// Pairs whose responses are already summed: log-probabilities [pairs], in nats.
template <class T = float, class Space = host_space>
struct pair_inputs {
  view<const T, 1, Space> chosen{};    ///< log pi(chosen | prompt): differentiable
  view<const T, 1, Space> rejected{};  ///< log pi(rejected | prompt): differentiable
  view<const T, 1, Space> ref_chosen{};
  view<const T, 1, Space> ref_rejected{};
  view<const T, 1, Space> chosen_length{};  ///< tokens; for objectives per token and for the NLL term
  view<const T, 1, Space> rejected_length{};
  view<const T, 1, Space> chosen_reward{};
  view<const T, 1, Space> rejected_reward{};
  view<const T, 1, Space> margin{};
  view<const T, 1, Space> previous_chosen{};  ///< log-probabilities under the policy of the last iteration
  view<const T, 1, Space> previous_rejected{};
  view<const T, 1, Space> weight{};  ///< multiplies a pair's loss; a constant
  mask_view<Space> mask{};           ///< which pairs count
};

/// What preference_loss writes; an absent view is skipped. The gradients are [pairs], or per token with token_pair_inputs.
template <class T = float, class Space = host_space>
struct pair_outputs {
  view<T, 1, Space> loss{};  ///< one element
  view<T, 1, Space> grad_chosen{};
  view<T, 1, Space> grad_rejected{};
  view<T, 1, Space> per_pair{};       ///< loss of each pair, without the NLL term
  view<T, 1, Space> reward_chosen{};  ///< implicit rewards beta (log pi - log pi_ref)
  view<T, 1, Space> reward_rejected{};
  view<T, 1, Space> nll{};  ///< one element: the NLL term before its weight
  statistics* stats = nullptr;
};

/// One side of the pairs as tokens: response i is sequence i of the layout.
template <class T = float, class Space = host_space>
struct response_tokens {
  layout<Space> sequences{};
  view<const T, 1, Space> logp{};      ///< differentiable
  view<const T, 1, Space> ref_logp{};  ///< 0 without it
  mask_view<Space> mask{};
  view<const T, 1, Space> log_square_sum{};  ///< log sum_v pi(v)^2 at each token, for wpo
};

/// Pairs whose responses are given as tokens; the rest is per pair, as in pair_inputs.
template <class T = float, class Space = host_space>
struct token_pair_inputs {
  response_tokens<T, Space> chosen{};
  response_tokens<T, Space> rejected{};
  view<const T, 1, Space> chosen_reward{};
  view<const T, 1, Space> rejected_reward{};
  view<const T, 1, Space> margin{};
  view<const T, 1, Space> previous_chosen{};
  view<const T, 1, Space> previous_rejected{};
  view<const T, 1, Space> weight{};
  mask_view<Space> mask{};
};

/// The NLL (SFT) term on the chosen responses that keeps their likelihood up. Catalogue P-18.
enum class nll_reduction {
  token_mean,    ///< over all chosen tokens of the batch (TRL)
  sequence_mean  ///< mean over pairs of the mean over tokens (OpenRLHF)
};
/// The term itself: \f$ -\alpha\,\frac1N\sum_t\log\pi(y_{c,t}) \f$, weight times the negative log-likelihood of the
/// chosen responses, nats per token. Source: TRL (RPO-alpha), OpenRLHF; catalogue P-18.
struct chosen_nll {
  double weight = 0;                                    ///< 0: no term; else more than 0
  nll_reduction reduction = nll_reduction::token_mean;  ///< what the mean is over
  double count = 0;  ///< chosen tokens (token_mean) or pairs (sequence_mean) of the whole batch; 0: those of this call

  [[nodiscard]] constexpr status check() const {
    if (!(weight >= 0 && weight - weight == 0))
      return remark::argument("chosen_nll", "weight", weight, "a finite number, 0 (no term) or more");
    if (!(count >= 0)) return remark::argument("chosen_nll", "count", count, "0 (count them) or more");
    return {};
  }
  /// What the sum is divided by, from what this call counted.
  [[nodiscard]] RLHF_HD RLHF_INLINE constexpr double denominator(double tokens, double pairs) const {
    return count > 0 ? count : reduction == nll_reduction::token_mean ? tokens : pairs;
  }
};

}  // namespace rlhf::inline v1
