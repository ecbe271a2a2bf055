#pragma once
// DAPO: GRPO with a wider upper clip, every token counting the same, no KL, and prompts that teach nothing replaced.
//
//   reward = score + soft_overlong(length)
//   groups whose scores are all equal are dropped, whatever their lengths, and others sampled in their place
//   loss = token mean of -min(ratio A, clip(ratio, 1 - 0.2, 1 + 0.28) A)
//
// Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", arXiv 2503.14476. Defaults: theirs;
// the overlong penalty starts 4096 tokens before 20480 and wants other numbers for other models. Catalogue G-03, E-22, S-04.

#include "rlhf/algorithm/critic_free.hpp"

namespace rlhf::inline v1 {

/// DAPO. The loop that samples reads `overlong`, `selection` and `refills`.
struct dapo : critic_free<group_advantage, policy_loss<ppo_clip, none, token_mean>> {
  soft_overlong overlong{.max_length = 20480, .buffer = 4096};  ///< added to the scores
  group_filter selection{};                                     ///< which groups can teach something
  std::int64_t refills = 3;  ///< further rounds of sampling for dropped groups; then the iteration makes do with fewer

  constexpr dapo() {
    loss.objective.low = 0.2;
    loss.objective.high = 0.28;
  }
};

}  // namespace rlhf::inline v1
