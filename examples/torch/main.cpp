// A language model of libtorch, trained by the loops of train/: invented words by SFT, then towards what a rule likes by DPO, by
// PPO with a critic that is also torch's, and by REBEL.

#include <cstdio>
#include <string>

#include "../calls/check.hpp"
#include "models.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/preference.hpp"
#include "rlhf/train/supervised.hpp"

namespace {

using policy = torch_example::torch_policy<torch_example::gru_network>;
using critic = torch_example::torch_critic<torch_example::gru_network>;

constexpr std::int64_t vocabulary = 28, width = 32;  // end, a to z, begin
constexpr std::int32_t end = 0, begin = 27;

/// Two to four syllables, then the end: ba, ne, ti, ...
rlhf::responses invented_words(std::int64_t count) {
  const std::string consonants = "bdfgklmnprstvz", vowels = "aeiou";
  const rlhf::random_numbers numbers({.seed = 1, .stream = 1});
  rlhf::responses words;
  const std::int32_t prompt[] = {begin};
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint32_t draw = 0;
    const auto one_of = [&](std::size_t n) {
      return static_cast<std::size_t>(numbers.uniform({static_cast<std::uint32_t>(i), 0, 0, draw++}) *
                                      static_cast<double>(n));
    };
    std::vector<std::int32_t> word;
    for (std::size_t syllables = 2 + one_of(3); syllables > 0; --syllables) {
      word.push_back(consonants[one_of(consonants.size())] - 'a' + 1);
      word.push_back(vowels[one_of(vowels.size())] - 'a' + 1);
    }
    word.push_back(end);
    words.add(prompt, word);
  }
  return words;
}

/// Likes the letter a, and words that end.
struct likes_a {
  void rewards(const rlhf::responses& batch, std::span<float> out) const {
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      const auto word = batch.response(i);
      out[static_cast<std::size_t>(i)] =
          static_cast<float>(std::ranges::count(word, 1)) - (word.back() == end ? 0.0f : 1.0f);
    }
  }
};

rlhf::prompt_list prompts(std::size_t n) { return rlhf::prompt_list(n, {begin}); }

double mean_reward(policy& p) {
  const rlhf::responses words = p.sample(prompts(256), 1, {.seed = 9, .stream = 9});
  std::vector<float> score(256);
  likes_a{}.rewards(words, score);
  double sum = 0;
  for (const float s : score) sum += static_cast<double>(s);
  return sum / 256;
}

std::string some_words(policy& p) {
  const rlhf::responses words = p.sample(prompts(6), 1, {.seed = 10, .stream = 10});
  std::string out;
  for (std::int64_t i = 0; i < words.size(); ++i) {
    for (const std::int32_t t : words.response(i))
      if (t > end && t < begin) out.push_back(static_cast<char>('a' + t - 1));
    out.push_back(' ');
  }
  return out;
}

policy copy_of(policy& other) {
  policy p(std::make_shared<torch_example::gru_network>(vocabulary, width, vocabulary));
  p.copy(other);
  return p;
}

}  // namespace

int main() {
  torch::manual_seed(1);
  rlhf::reference_backend cpu;
  likes_a reward;
  const auto update = [](double rate) {
    return rlhf::parameter_update{rlhf::constant_schedule{rate}, rlhf::adamw{{.weight_decay = 0}}};
  };
  const auto say = [](const char* method, policy& p) {
    const double reached = mean_reward(p);
    std::printf("%-6s reward %6.3f   %s\n", method, reached, some_words(p).c_str());
    return reached;
  };

  policy reference(std::make_shared<torch_example::gru_network>(vocabulary, width, vocabulary));
  auto sft_update = update(0.01);
  double loss = 0;
  rlhf::train_supervised(cpu, reference, sft_update, invented_words(1024), {.batch = 64, .epochs = 10},
                         [&](const rlhf::progress& now) { loss = (*now.metrics)["loss"]; });
  calls::expect("SFT: nats per token below 2.2, of log 28 = 3.3", loss < 2.2);
  reference.freeze();
  const double start = say("SFT", reference);

  // Pairs that the rule has labelled.
  const rlhf::responses drawn = reference.sample(prompts(512), 2, {.seed = 2, .stream = 2});
  std::vector<float> score(static_cast<std::size_t>(drawn.size()));
  reward.rewards(drawn, score);
  rlhf::preference_pairs pairs;
  for (std::int64_t i = 0; i < drawn.size(); i += 2) {
    const float first = score[static_cast<std::size_t>(i)], second = score[static_cast<std::size_t>(i) + 1];
    if (first == second) continue;
    pairs.chosen.add(drawn, first > second ? i : i + 1);
    pairs.rejected.add(drawn, first > second ? i + 1 : i);
  }
  policy by_dpo = copy_of(reference);
  auto dpo_update = update(0.002);
  rlhf::train_preference(cpu, by_dpo, reference, dpo_update, pairs, {.batch = 32, .epochs = 3});
  calls::expect("DPO raises the reward by 0.5 and more", say("DPO", by_dpo) > start + 0.5);

  policy by_ppo = copy_of(reference);
  critic values(std::make_shared<torch_example::gru_network>(vocabulary, width, 1));
  auto ppo_update = update(0.004), critic_update = update(0.01);
  rlhf::train_ppo(cpu, rlhf::ppo{}, by_ppo, values, reference, reward, ppo_update, critic_update,
                  [](std::int64_t) { return prompts(128); },
                  {.iterations = 8, .epochs = 2, .minibatch = 64, .key = {.seed = 3}});
  calls::expect("PPO raises the reward by 0.5 and more", say("PPO", by_ppo) > start + 0.5);

  policy by_rebel = copy_of(reference);
  auto rebel_update = update(0.004);
  rlhf::train_rebel(cpu, {.eta = 1, .kl_coefficient = 0.05}, by_rebel, reference, reward, rebel_update,
                    [](std::int64_t) { return prompts(64); },
                    {.iterations = 8, .epochs = 2, .minibatch = 32, .key = {.seed = 4}});
  calls::expect("REBEL raises the reward by 0.5 and more", say("REBEL", by_rebel) > start + 0.5);
  return calls::failures();
}
