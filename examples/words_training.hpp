#pragma once
// What the networks of other libraries are put through: invented words by SFT, then towards what a rule likes by DPO, PPO and REBEL.

#include <cstdio>

#include "calls/check.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/preference.hpp"
#include "rlhf/train/supervised.hpp"
#include "words.hpp"

namespace words {

/// `policy` is new; `copy` makes another one with its parameters. Counts what does not come out as it should.
template <class Policy, class Copy, class Critic>
int train(Policy& policy, Copy&& copy, Critic& critic) {
  rlhf::reference_backend cpu;
  likes_a reward;
  const auto update = [](double rate) {
    return rlhf::parameter_update{rlhf::constant_schedule{rate}, rlhf::adamw{{.weight_decay = 0}}};
  };
  const auto say = [](const char* method, Policy& p) {
    const double reached = mean_reward(p);
    std::printf("%-6s reward %6.3f   %s\n", method, reached, some(p).c_str());
    return reached;
  };

  auto sft_update = update(0.01);
  double loss = 0;
  rlhf::train_supervised(cpu, policy, sft_update, invented(1024), {.batch = 64, .epochs = 10},
                         [&](const rlhf::progress& now) { loss = (*now.metrics)["loss"]; });
  calls::expect("SFT: nats per token below 2.2, of log 28 = 3.3", loss < 2.2);
  if constexpr (requires { policy.freeze(); }) policy.freeze();
  Policy& reference = policy;
  const double start = say("SFT", reference);

  Policy by_dpo = copy(reference);
  auto dpo_update = update(0.002);
  rlhf::train_preference(cpu, by_dpo, reference, dpo_update, judged_pairs(reference, 512), {.batch = 32, .epochs = 3});
  calls::expect("DPO raises the reward by 0.5 and more", say("DPO", by_dpo) > start + 0.5);

  Policy by_ppo = copy(reference);
  auto ppo_update = update(0.004), critic_update = update(0.01);
  rlhf::train_ppo(cpu, rlhf::ppo{}, by_ppo, critic, reference, reward, ppo_update, critic_update,
                  [](std::int64_t) { return prompts(128); },
                  {.iterations = 8, .epochs = 2, .minibatch = 64, .key = {.seed = 3}});
  calls::expect("PPO raises the reward by 0.5 and more", say("PPO", by_ppo) > start + 0.5);

  Policy by_rebel = copy(reference);
  auto rebel_update = update(0.004);
  rlhf::train_rebel(cpu, {.eta = 1, .kl_coefficient = 0.05}, by_rebel, reference, reward, rebel_update,
                    [](std::int64_t) { return prompts(64); },
                    {.iterations = 8, .epochs = 2, .minibatch = 32, .key = {.seed = 4}});
  calls::expect("REBEL raises the reward by 0.5 and more", say("REBEL", by_rebel) > start + 0.5);
  return calls::failures();
}

}  // namespace words
