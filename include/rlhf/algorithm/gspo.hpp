#pragma once
// GSPO: GRPO whose ratio, and so whose clip, is the whole sequence's.
//
//   A_i = (r_i - mean_g) / (std_g + epsilon)
//   s_i = exp(mean over tokens of log pi - log pi_old)
//   loss = mean over responses of -min(s_i A_i, clip(s_i, 1 - 3e-4, 1 + 4e-4) A_i)
//
// Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv 2507.18071, eq. 5-7. Defaults: the paper's bounds, which
// are of a length-normalised ratio and so a thousandth of PPO's. Catalogue G-08.

#include "rlhf/algorithm/critic_free.hpp"

namespace rlhf::inline v1 {

struct gspo : critic_free<group_advantage, policy_loss<sequence_ratio<ppo_clip>, none, row_mean>> {
  constexpr gspo() {
    loss.objective.objective.low = 3e-4;
    loss.objective.objective.high = 4e-4;
  }
};

}  // namespace rlhf::inline v1
