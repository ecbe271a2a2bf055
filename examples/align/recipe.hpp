#pragma once
// How much of everything a run does, and the settings of its methods. Every member is an option of rlhf-align.

#include <cstdint>

namespace align {

struct dpo_recipe {
  double beta = 0.2;
  double rate = 1e-3;
  std::int64_t batch = 128, epochs = 2;
};

struct rebel_recipe {
  double eta = 1;
  double kl = 0.3;  ///< weight of the KL to the start
  double rate = 1e-3;
  std::int64_t minibatch = 64, epochs = 2;
};

struct ppo_recipe {
  double kl = 0.3;
  double rate = 1e-3, critic_rate = 2e-3;
  std::int64_t samples = 2, minibatch = 128, epochs = 2;
};

struct rto_recipe {
  double beta1 = 0.1;  ///< weight of the DPO policy's reward per token
  double clip = 0.5;   ///< of that reward, on either side
};

/// The defaults are those of the names model.
struct recipe {
  std::int64_t sft_epochs = 10;
  double sft_rate = 4e-3;
  std::int64_t reward_epochs = 2;
  double reward_rate = 2e-3;
  std::int64_t reward_pairs = 16384;     ///< labelled pairs that the reward model learns from
  std::int64_t preference_pairs = 8192;  ///< of samples, judged by the reward, for DPO
  std::int64_t most_pairs = 0;           ///< of a user's preferences that are learned from, the first ones; 0: all
  std::int64_t batch = 64;               ///< of SFT and of the reward model
  std::int64_t iterations = 24;          ///< of the methods that sample; DPO is measured as often
  std::int64_t prompts = 256;            ///< of an iteration
  std::int64_t judged = 1024;            ///< fresh samples of an evaluation
  std::int64_t frontier = 8192;          ///< samples that best-of-n is drawn from
  std::int64_t prompt_tokens = 16;       ///< of a prompt that the model itself begins
  std::int64_t new_tokens = 0;           ///< longest completion; 0: until the context is full
  dpo_recipe dpo = {};
  rebel_recipe rebel = {};
  ppo_recipe ppo = {};
  rto_recipe rto = {};
};

[[nodiscard]] constexpr recipe names_recipe(bool quick) {
  recipe r;
  if (!quick) return r;
  r.sft_epochs = 4;
  r.reward_pairs = 6144;
  r.preference_pairs = 3072;
  r.iterations = 8;
  r.prompts = 192;
  r.judged = 512;
  r.frontier = 2048;
  return r;
}

/// stories260K and controlled sentiment: 10 nats or less, where samples still read like stories.
[[nodiscard]] constexpr recipe stories_recipe(bool quick) {
  recipe r;
  r.preference_pairs = quick ? 512 : 2048;
  r.iterations = quick ? 3 : 16;
  r.prompts = quick ? 64 : 192;
  r.judged = quick ? 128 : 512;
  r.frontier = quick ? 1024 : 8192;
  r.new_tokens = 40;
  r.dpo = {.beta = 0.1, .rate = 2e-4, .batch = 64, .epochs = 2};
  r.rebel = {.eta = 1, .kl = 0.3, .rate = 2e-4, .minibatch = 96, .epochs = 2};
  r.ppo = {.kl = 0.25, .rate = 2e-4, .critic_rate = 1e-3, .samples = 2, .minibatch = 128, .epochs = 2};
  r.rto = {.beta1 = 0.05, .clip = 0.5};
  return r;
}

/// A user's own pairs: a reward model and DPO, gently, because a few hundred pairs are soon learned by heart.
[[nodiscard]] constexpr recipe pairs_recipe(bool quick) {
  recipe r;
  r.reward_epochs = quick ? 1 : 2;
  r.reward_rate = 3e-4;
  r.most_pairs = quick ? 64 : 0;
  r.batch = 32;
  r.iterations = quick ? 2 : 8;
  r.prompts = quick ? 8 : 64;
  r.judged = quick ? 16 : 128;
  r.frontier = quick ? 64 : 512;
  r.new_tokens = 64;
  r.dpo = {.beta = 0.1, .rate = 5e-5, .batch = 32, .epochs = 1};
  r.rebel = {.eta = 1, .kl = 0.1, .rate = 2e-4, .minibatch = 32, .epochs = 2};
  r.ppo = {.kl = 0.1, .rate = 2e-4, .critic_rate = 1e-3, .samples = 2, .minibatch = 32, .epochs = 2};
  r.rto = {.beta1 = 0.05, .clip = 0.5};
  return r;
}

}  // namespace align
