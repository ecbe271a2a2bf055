#pragma once
// RLOO: REINFORCE on whole responses, each compared with the mean of the others to its prompt.
//
//   r_i = score - beta log(pi_old / pi_ref)(y_i);   A_i = r_i - mean of the others' r
//   loss = mean over responses of -min(R A, clip(R) A),  R = pi(y_i) / pi_old(y_i)
//
// Ahmadian et al. 2024, "Back to Basics", arXiv 2402.14740, with PPO's clip as in TRL. Defaults: beta 0.05, clip 0.2
// (TRL's; the paper makes one update on policy, where the clip is idle). Catalogue E-07, G-27, K-13.

#include "rlhf/algorithm/critic_free.hpp"

namespace rlhf::inline v1 {

struct rloo : critic_free<leave_one_out, sequence_policy_loss<ppo_clip, summed_log_ratio>> {
  constexpr rloo() { reward.coefficient = 0.05; }
};

}  // namespace rlhf::inline v1
