#pragma once
// CISPO: GRPO's advantages under importance weights that are clipped instead of the loss, so that every token teaches.
//
//   A_i = (r_i - mean_g) / (std_g + epsilon)
//   loss = token mean of -sg(clip(ratio, 0, 5)) A log pi
//
// MiniMax 2025, "MiniMax-M1", arXiv 2506.13585, eq. 4-5; the objective alone is `cispo`. Default: TRL's bound of the ratio
// itself. Catalogue G-06.

#include "rlhf/algorithm/critic_free.hpp"
#include "rlhf/objective/weighted.hpp"

namespace rlhf::inline v1 {

struct cispo_policy : critic_free<group_advantage, policy_loss<cispo, none, token_mean>> {};

}  // namespace rlhf::inline v1
