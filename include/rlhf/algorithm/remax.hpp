#pragma once
// ReMax: REINFORCE with the score of the greedy response as the baseline.
//
//   reward_t = -beta log(pi_old / pi_ref)_t + score at the last token
//   A_t      = sum of the rewards from t on, less the score of the greedy response to the same prompt
//   loss     = -A log pi, token mean
//
// Li et al. 2023, "ReMax", arXiv 2310.10505, algorithm 1. One greedy response a prompt more is sampled and scored.
// Default: beta 0.05. Catalogue E-10.

#include "rlhf/algorithm/critic_free.hpp"

namespace rlhf::inline v1 {

/// ReMax. With ppo_clip in place of reinforce it may make more than one update on its samples.
template <class Objective = reinforce>
struct basic_remax : critic_free<discounted_return, policy_loss<Objective>> {
  static constexpr bool greedy_baseline = true;  ///< the loop samples and scores greedy responses
  constexpr basic_remax() { this->reward.coefficient = 0.05; }
};
using remax = basic_remax<>;

}  // namespace rlhf::inline v1
