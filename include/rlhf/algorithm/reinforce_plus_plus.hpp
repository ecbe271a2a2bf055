#pragma once
// REINFORCE++: PPO's loss on plain returns, normalised over the whole batch instead of within a prompt.
//
//   reward_t = -beta log(pi_old / pi_ref)_t + score at the last token
//   A_t      = whiten(sum of the rewards from t on)
//   loss     = -min(ratio A, clip(ratio) A), token mean
//
// With the mean of the group as a baseline (reinforce_plus_plus_baseline): A_i = whiten(r_i - mean_g), and the KL as a k2
// loss. Hu 2025, arXiv 2501.03262. Defaults: beta 0.01 in the reward, 1e-3 in the loss. Catalogue E-08, E-09.

#include "rlhf/algorithm/critic_free.hpp"

namespace rlhf::inline v1 {

struct reinforce_plus_plus : critic_free<discounted_return, policy_loss<ppo_clip>> {
  constexpr reinforce_plus_plus() {
    reward.coefficient = 0.01;
    whiten_advantages = true;
  }
};

struct reinforce_plus_plus_baseline : critic_free<group_advantage, policy_loss<ppo_clip, kl_penalty<k2>>> {
  constexpr reinforce_plus_plus_baseline() {
    estimator.scale = group_scale::none;
    whiten_advantages = true;
    loss.term.coefficient = 1e-3;
  }
};

}  // namespace rlhf::inline v1
