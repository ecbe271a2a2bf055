#pragma once
// PPO-max: the settings of PPO that "Secrets of RLHF I" found to keep it from collapsing.
//
//   scores scaled and bounded by their running history          running_reward with ppo_max::scale
//   KL of every token in the reward, lambda 0.9, clipped values, advantages as they are
//   the critic begins as the reward model                       a copy of it as the critic of train_ppo
//   the critic learns alone first                                on_policy_options::critic_first
//   gradients clipped                                            parameter_update::maximum_norm
//   text of the pretraining mixed into the updates               pretraining, the last argument of train_ppo
//
// Zheng et al. 2023, arXiv 2307.04964, section 5 and appendix C.3. Their released scripts differ: scaling without bounds,
// lambda 0.95, no critic warm-up. The bound of the scaled score is not stated; 5 is what trlX calls usual for one.

#include "rlhf/algorithm/ppo.hpp"
#include "rlhf/reward/running_scale.hpp"

namespace rlhf::inline v1 {

struct ppo_max : ppo {
  running_scale scale{.center = true, .clip = 5};  ///< for running_reward

  constexpr ppo_max() {
    estimator.lambda = 0.9;
    whiten_advantages = false;
  }
};

}  // namespace rlhf::inline v1
