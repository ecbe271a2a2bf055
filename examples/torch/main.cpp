// A language model of libtorch, trained by the loops of train/: invented words by SFT, then towards what a rule likes by DPO, by
// PPO with a critic that is also torch's, and by REBEL.

#include <cstdio>

#include "../calls/check.hpp"
#include "models.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/preference.hpp"
#include "rlhf/train/supervised.hpp"

namespace {

using policy = torch_example::torch_policy<torch_example::gru_network>;
using critic = torch_example::torch_critic<torch_example::gru_network>;

constexpr std::int64_t vocabulary = words::vocabulary, width = 32;

policy copy_of(policy& other) {
  policy p(std::make_shared<torch_example::gru_network>(vocabulary, width, vocabulary));
  p.copy(other);
  return p;
}

}  // namespace

int main() {
  torch::manual_seed(1);
  rlhf::reference_backend cpu;
  words::likes_a reward;
  const auto update = [](double rate) {
    return rlhf::parameter_update{rlhf::constant_schedule{rate}, rlhf::adamw{{.weight_decay = 0}}};
  };
  const auto say = [](const char* method, policy& p) {
    const double reached = words::mean_reward(p);
    std::printf("%-6s reward %6.3f   %s\n", method, reached, words::some(p).c_str());
    return reached;
  };

  policy reference(std::make_shared<torch_example::gru_network>(vocabulary, width, vocabulary));
  auto sft_update = update(0.01);
  double loss = 0;
  rlhf::train_supervised(cpu, reference, sft_update, words::invented(1024), {.batch = 64, .epochs = 10},
                         [&](const rlhf::progress& now) { loss = (*now.metrics)["loss"]; });
  calls::expect("SFT: nats per token below 2.2, of log 28 = 3.3", loss < 2.2);
  reference.freeze();
  const double start = say("SFT", reference);

  const rlhf::preference_pairs pairs = words::judged_pairs(reference, 512);
  policy by_dpo = copy_of(reference);
  auto dpo_update = update(0.002);
  rlhf::train_preference(cpu, by_dpo, reference, dpo_update, pairs, {.batch = 32, .epochs = 3});
  calls::expect("DPO raises the reward by 0.5 and more", say("DPO", by_dpo) > start + 0.5);

  policy by_ppo = copy_of(reference);
  critic values(std::make_shared<torch_example::gru_network>(vocabulary, width, 1));
  auto ppo_update = update(0.004), critic_update = update(0.01);
  rlhf::train_ppo(cpu, rlhf::ppo{}, by_ppo, values, reference, reward, ppo_update, critic_update,
                  [](std::int64_t) { return words::prompts(128); },
                  {.iterations = 8, .epochs = 2, .minibatch = 64, .key = {.seed = 3}});
  calls::expect("PPO raises the reward by 0.5 and more", say("PPO", by_ppo) > start + 0.5);

  policy by_rebel = copy_of(reference);
  auto rebel_update = update(0.004);
  rlhf::train_rebel(cpu, {.eta = 1, .kl_coefficient = 0.05}, by_rebel, reference, reward, rebel_update,
                    [](std::int64_t) { return words::prompts(64); },
                    {.iterations = 8, .epochs = 2, .minibatch = 32, .key = {.seed = 4}});
  calls::expect("REBEL raises the reward by 0.5 and more", say("REBEL", by_rebel) > start + 0.5);
  return calls::failures();
}
