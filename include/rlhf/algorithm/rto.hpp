#pragma once
// Reinforced token optimisation: PPO on the token rewards that a DPO policy implies.
//
//   train pi_dpo on preference pairs, once
//   then as PPO, with
//     reward_t = clip(beta_1 log(pi_dpo / pi_ref)_t) - beta_2 log(pi_old / pi_ref)_t + beta_3 score at the last token
//
// Zhong et al. 2024, "DPO Meets PPO: Reinforced Token Optimization for RLHF", arXiv 2404.18922 (ICML 2025). Defaults:
// beta_1 0.05 clipped at 0.05, beta_2 0.01, beta_3 1, lambda 0.95 (zkshan2002/RTO).

#include "rlhf/algorithm/ppo.hpp"

namespace rlhf::inline v1 {

/// RTO: PPO in everything but the reward. With beta1 = 0 it is PPO bit for bit.
struct rto : basic_ppo<rto_reward> {};

}  // namespace rlhf::inline v1
