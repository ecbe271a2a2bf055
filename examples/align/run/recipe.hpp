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
  double ptx = 0;  ///< weight of the text that is mixed into the updates
};

struct rto_recipe {
  double beta1 = 0.1;  ///< weight of the DPO policy's reward per token
  double clip = 0.5;   ///< of that reward, on either side
  double score = 1;    ///< beta3, weight of the reward itself
};

struct group_recipe {
  std::int64_t samples = 4;  ///< to a prompt, of methods that compare within a group
  double kl = 0.04;          ///< GRPO's, in the loss
};

struct online_recipe {
  double beta = 0.2;
  double rate = 1e-3;
  std::int64_t minibatch = 64, epochs = 2;
  std::int64_t candidates = 4;  ///< of a prompt, where a sampler chooses
  double optimism = 0.01;       ///< alpha of VPO, SELM and XPO
};

struct dvpo_recipe {
  double kl = 0.05;  ///< of values between -1 and 1
  std::int64_t epochs = 2;
  double lambda = 0.95;
};

struct vine_recipe {
  std::int64_t rollouts = 4;
  std::int64_t step = 3;  ///< tokens
};

struct hydra_recipe {
  std::int64_t rank = 8;  ///< of the adapters
  double rate = 3e-3;
  double value_weight = 0.1;
};

struct zeroth_recipe {
  double rate = 1e-4, radius = 1;
  std::int64_t directions = 4;
  std::int64_t block = 256;  ///< coordinates
  std::int64_t votes = 16;   ///< that the judge gives on each pair
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
  double reward_margin = 1;              ///< of the margin loss
  double odin_weight = 1;                ///< of ODIN's orthogonality and correlations
  std::int64_t members = 4;              ///< reward models of an ensemble
  double uncertainty = 1;                ///< price of the members' variance
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
  double ipo_beta = 1;
  double simpo_beta = 2, simpo_gamma = 0.5;
  double orpo_beta = 1;
  double drto_radius = 0.1;
  std::int64_t drto_span = 4;
  group_recipe group = {};
  online_recipe online = {};
  double sppo_beta = 0.25;
  double inpo_tau = 0.15, inpo_inverse_step = 0.5;
  double nash_beta = 0.1, nash_mixture = 0.25;
  dvpo_recipe dvpo = {};
  vine_recipe vine = {};
  hydra_recipe hydra = {};
  zeroth_recipe zeroth = {};
  double stop_kl = 0;  ///< nats per token after which an iteration makes no more updates; 0: none
  double most_kl = 0;  ///< nats per response at an evaluation after which a method ends; 0: none
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
  r.drto_span = 8;
  r.online = {.beta = 0.1, .rate = 2e-4, .minibatch = 96};
  r.dvpo = {.kl = 0.1};
  r.hydra.rate = 1e-3;
  r.vine = {.rollouts = 3, .step = 10};
  return r;
}

/// A user's own pairs: a reward model and DPO, gently, because a few hundred pairs are soon learned by heart.
[[nodiscard]] constexpr recipe pairs_recipe(bool quick) {
  recipe r;
  r.sft_epochs = quick ? 1 : 2;
  r.sft_rate = 3e-4;
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
  r.drto_span = 8;
  r.online = {.beta = 0.1, .rate = 5e-5, .minibatch = 32, .epochs = 1};
  r.dvpo = {.kl = 0.1};
  r.hydra.rate = 1e-3;
  r.vine = {.rollouts = 3, .step = 16};
  return r;
}

}  // namespace align
