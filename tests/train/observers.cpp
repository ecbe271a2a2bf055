// What keeps a long run in order: broken numbers, the price of KL, running scales, a critic that learns first.

#include "rlhf/train/observers.hpp"

#include <array>
#include <cmath>
#include <limits>

#include "rlhf/algorithm/ppo_max.hpp"
#include "rlhf/algorithm/rloo.hpp"
#include "rlhf/train/group.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/per_prompt_reward.hpp"
#include "rlhf/train/running_reward.hpp"
#include "rlhf/train/supervised.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

TEST_CASE("a run whose numbers break stops and says which and when") {
  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.01);
  const responses data = w.reference.sample(prompts(40), 1, {3, 3});
  std::int64_t last = 0;
  stop_when_broken watch{[&](const progress& p) {
    last = p.step;
    if (p.step == 3) policy.parameters()[1] = std::numeric_limits<float>::quiet_NaN();
  }};
  try {
    train_supervised(w.cpu, policy, update, data, {.batch = 8, .key = {1, 1}}, watch);
    FAIL("it did not stop");
  } catch (const broken_metric& e) {
    CHECK(e.step() == 4);
    CHECK(e.metric() == "loss");
    CHECK(std::string(e.what()) == "training stopped at step 4: loss is nan, wants a finite number");
  }
  CHECK(last == 3);

  tabular_policy healthy = w.reference;
  std::int64_t looked = 0;
  struct watcher {
    std::int64_t* looked;
    void operator()(const iteration&) const {}
    void sampled(const rollout&) const { ++*looked; }
  };
  stop_when_broken also{watcher{&looked}};
  train_group(
      w.cpu, rloo{}, healthy, w.reference, w.reward, update, [](std::int64_t) { return prompts(8); },
      {.iterations = 3, .samples = 2, .key = {1, 100}}, also);
  CHECK(looked == 3);
}

TEST_CASE("a controller of the price brings the KL to its target, and can go on") {
  world w;
  const auto run = [&](std::int64_t stop) {
    tabular_policy policy = w.reference;
    auto update = steps_of(0.05);
    rloo algorithm;
    adaptive_kl_controller controller{.coefficient = 0.4, .target = 0.3, .horizon = 8000};
    double kl = 0;
    for (const std::int64_t done : {std::int64_t{0}, stop}) {
      algorithm.reward.coefficient = controller.coefficient;
      train_group(
          w.cpu, algorithm, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(128); },
          {.iterations = done == 0 ? stop : 700, .samples = 4, .minibatch = 512, .key = {1, 100}, .done = done},
          control_kl{&algorithm.reward.coefficient, &controller, [&](const iteration& i) { kl = i.kl; }});
    }
    CHECK(kl == Approx(0.3).margin(0.06));
    CHECK(controller.coefficient > 0.5);
    return bits(policy.parameters());
  };
  CHECK(run(700) == run(120));
}

TEST_CASE("a running reward has mean 0 and deviation 1 of all that it has seen") {
  world w;
  for (float& x : w.reward.parameters()) x = 100 + 10 * x;
  running_reward scaled(w.reward, ppo_max{}.scale);
  const responses batch = w.reference.sample(prompts(500), 1, {3, 3});
  std::vector<float> out(500);
  for (int k = 0; k < 3; ++k) scaled.rewards(batch, out);
  double sum = 0, squares = 0;
  for (const float s : out) {
    sum += static_cast<double>(s);
    squares += static_cast<double>(s) * static_cast<double>(s);
    CHECK(std::abs(s) <= 5);
  }
  CHECK(sum / 500 == Approx(0).margin(1e-4));
  CHECK(squares / 500 == Approx(1).epsilon(1e-2));
  CHECK(scaled.scale.seen.count == 1500);
}

namespace {

/// A reward that is the response's only token.
struct token_itself {
  void rewards(const responses& batch, std::span<float> out) const {
    for (std::int64_t i = 0; i < batch.size(); ++i)
      out[static_cast<std::size_t>(i)] = static_cast<float>(batch.response(i)[0]);
  }
};

/// Responses of one token: prompt, then token.
responses answers(const std::vector<std::array<std::int32_t, 2>>& rows, std::vector<std::int32_t> more = {}) {
  responses out;
  for (const auto& [prompt, token] : rows) {
    std::vector<std::int32_t> front{prompt};
    front.insert(front.end(), more.begin(), more.end());
    out.add(front, std::vector<std::int32_t>{token});
  }
  return out;
}

}  // namespace

TEST_CASE("a reward by prompt is a z-score among the latest of its prompt") {
  token_itself raw;
  const double e = 1e-6;
  std::vector<float> z(3);
  per_prompt_reward scaled(raw, {.capacity = 4, .enough = 3});
  // Too few of any prompt: by the call, mean 4 and variance (4 + 0 + 4) / 3.
  scaled.rewards(answers({{7, 2}, {7, 4}, {8, 6}}), z);
  CHECK(z[0] == Approx(-2 / (std::sqrt(8.0 / 3) + e)));
  CHECK(z[1] == Approx(0).margin(1e-7));
  CHECK(z[2] == Approx(2 / (std::sqrt(8.0 / 3) + e)));
  // Prompt 7 has 2, 4, 6, 8 now: mean 5, variance 5. Prompt 8 has 6, 100: by the call still, mean 38, variance 1922 + 2/3.
  scaled.rewards(answers({{7, 6}, {7, 8}, {8, 100}}), z);
  CHECK(z[0] == Approx(1 / std::sqrt(5.0)).epsilon(1e-5));
  CHECK(z[1] == Approx(3 / std::sqrt(5.0)).epsilon(1e-5));
  CHECK(z[2] == Approx(62 / std::sqrt((32.0 * 32 + 30 * 30 + 62 * 62) / 3)).epsilon(1e-5));
  // Of five only the latest four are kept, and all that a call brings counts before any of it is scaled.
  scaled.rewards(answers({{7, 10}, {8, 100}, {8, 194}}), z);
  CHECK(scaled.seen.at({7}) == std::vector<float>{4, 6, 8, 10});
  CHECK(z[0] == Approx(3 / std::sqrt(5.0)).epsilon(1e-5));
  CHECK(scaled.seen.at({8}) == std::vector<float>{6, 100, 100, 194});
  CHECK(z[1] == Approx(0).margin(1e-6));
  CHECK(z[2] == Approx(std::sqrt(2.0)).epsilon(1e-5));
  // What never differs is worth nothing.
  per_prompt_reward flat(raw, {.enough = 1});
  flat.rewards(answers({{7, 5}, {7, 5}, {7, 5}}), z);
  CHECK(z == std::vector<float>{0, 0, 0});

  SECTION("the defaults") {
    CHECK(per_prompt_options{}.capacity == 32);
    CHECK(per_prompt_options{}.enough == 16);
    CHECK(per_prompt_options{}.epsilon == 1e-6);
  }
  SECTION("which tokens tell a prompt") {
    per_prompt_reward whole(raw), first(raw, {.prompt_tokens = 1});
    for (const std::int32_t noise : {1, 2}) {
      whole.rewards(answers({{7, 1}, {7, 2}, {8, 3}}, {noise}), z);
      first.rewards(answers({{7, 1}, {7, 2}, {8, 3}}, {noise}), z);
    }
    CHECK(whole.seen.size() == 4);
    CHECK(first.seen.size() == 2);
    CHECK(first.seen.at({7}) == std::vector<float>{1, 2, 1, 2});
  }
  SECTION("it goes on from what was seen") {
    per_prompt_reward next(raw, scaled.options());
    next.seen = scaled.seen;
    std::vector<float> again(2);
    z.resize(2);
    const responses batch = answers({{7, 3}, {9, 4}});
    scaled.rewards(batch, z);
    next.rewards(batch, again);
    CHECK(z == again);
  }
  SECTION("what it refuses") {
    struct broken {
      void rewards(const responses&, std::span<float> out) const {
        out[0] = 1;
        out[1] = std::numeric_limits<float>::infinity();
      }
    } bad;
    per_prompt_reward poisoned(bad);
    z.resize(2);
    CHECK_THROWS_WITH(poisoned.rewards(answers({{7, 3}, {9, 4}}), z),
                      "per_prompt_reward: a reward is inf, wants finite numbers");
    CHECK(poisoned.seen.empty());
    CHECK_THROWS_WITH(per_prompt_reward(raw, {.capacity = 0, .enough = 0}),
                      "per_prompt_reward: options.capacity is 0, wants 1 or more");
    CHECK_THROWS_WITH(per_prompt_reward(raw, {.capacity = 8}),
                      "per_prompt_reward: options.enough is 16, wants at most options.capacity");
    CHECK_THROWS_WITH(per_prompt_reward(raw, {.epsilon = 0}),
                      "per_prompt_reward: options.epsilon is 0, wants a finite number above 0");
    CHECK_THROWS_WITH(per_prompt_reward(raw, {.prompt_tokens = -1}),
                      "per_prompt_reward: options.prompt_tokens is -1, wants 0 or more");
  }
}

TEST_CASE("text mixed into PPO's updates adds its weighted gradient, and nothing at 0") {
  world w;
  const responses text = all_responses(vocabulary);
  std::vector<std::int64_t> asked;
  const auto source = [&](std::int64_t update) {
    asked.push_back(update);
    return text;
  };
  const auto run = [&](double score, auto&&... memory) {
    tabular_policy policy = w.reference;
    tabular_critic critic(vocabulary, 2);
    tabular_reward reward(vocabulary);
    for (std::size_t i = 0; i < 16; ++i) reward.parameters()[i] = static_cast<float>(score * w.reward.at(i));
    parameter_update<cosine_schedule> update{{.rate = 0.05, .total = 120}, {{.weight_decay = 0}}, 1e9};
    auto critic_update = steps_of(0.1);
    ppo algorithm;
    algorithm.reward.coefficient = 0;
    algorithm.whiten_advantages = false;
    statistics seen;
    train_ppo(
        w.cpu, algorithm, policy, critic, w.reference, reward, update, critic_update,
        [](std::int64_t) { return prompts(64); }, {.iterations = 60, .epochs = 2, .minibatch = 64, .key = {1, 100}},
        [&](const iteration& i) { seen = *i.metrics; }, no_guide{}, memory...);
    return std::pair{policy, seen};
  };
  const auto [plain, without] = run(1);
  const auto [none, silent] = run(1, pretraining{source, 0});
  CHECK(bits(tabular_policy(plain).parameters()) == bits(tabular_policy(none).parameters()));
  CHECK(asked.empty());
  CHECK(silent.find("loss/ptx_avg") == nullptr);
  // Without a reward what is left is maximum likelihood: of text where every response comes once, the uniform policy.
  auto [learned, seen] = run(0, pretraining{source, 2});
  CHECK(total_variation(distribution(learned), std::vector<double>(16, 1.0 / 16)) < 1e-2);
  CHECK(total_variation(distribution(w.reference), std::vector<double>(16, 1.0 / 16)) > 0.1);
  CHECK(seen["loss/ptx_avg"] == Approx(std::log(4.0)).epsilon(1e-3));
  CHECK(asked.size() == 120);
  CHECK(asked.back() == 119);
  CHECK_THROWS_WITH(run(1, pretraining{source, -1}), "train_ppo: memory.coefficient is -1, wants 0 or more");
}

TEST_CASE("the text's gradient is the supervised one, times its coefficient") {
  world w;
  tabular_policy policy = w.reference;
  const responses text = all_responses(vocabulary);
  const auto slope = [&](double coefficient) {
    std::fill(policy.gradient().begin(), policy.gradient().end(), 0.0f);
    const double loss = pretraining{[&](std::int64_t) { return text; }, coefficient}.learn(w.cpu, policy, 0);
    return std::pair{bits(policy.gradient()), loss};
  };
  const auto [one, loss] = slope(1);
  const auto [three, same] = slope(3);
  std::vector<float> logp(32), all(32, -1.0f / 32);
  policy.log_probs(text, logp);
  double mean = 0;
  for (const float x : logp) mean -= static_cast<double>(x) / 32;
  std::fill(policy.gradient().begin(), policy.gradient().end(), 0.0f);
  policy.backward(all);
  for (std::size_t i = 0; i < one.size(); ++i) {
    CHECK(one[i] == Approx(policy.gradient()[i]).margin(1e-6));
    CHECK(three[i] == Approx(3 * one[i]).margin(1e-6));
  }
  CHECK(loss == Approx(mean).epsilon(1e-6));
  CHECK(same == loss);
}

TEST_CASE("PPO-max raises the reward, its critic first") {
  world w;
  tabular_policy policy = w.reference;
  tabular_critic critic(vocabulary, 2);
  auto update = steps_of(0.03), critic_update = steps_of(0.1);
  const ppo_max algorithm;
  running_reward reward(w.reward, algorithm.scale);
  const auto ask = [](std::int64_t) { return prompts(256); };
  on_policy_options options{.iterations = 3, .minibatch = 128, .key = {1, 100}, .critic_first = 3};
  train_ppo(w.cpu, algorithm, policy, critic, w.reference, reward, update, critic_update, ask, options);
  CHECK(bits(policy.parameters()) == bits(w.reference.parameters()));
  CHECK(update.optimiser.steps == 0);
  CHECK(critic_update.optimiser.steps == 6);
  options.done = 3;
  options.iterations = 60;
  train_ppo(w.cpu, algorithm, policy, critic, w.reference, reward, update, critic_update, ask, options);
  const auto mean = [&](tabular_policy& q) {
    const auto p = distribution(q);
    double sum = 0;
    for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] * w.reward.at(i);
    return sum;
  };
  CHECK(mean(policy) > mean(w.reference) + 1);
  CHECK_THROWS_WITH(
      train_group(w.cpu, rloo{}, policy, w.reference, reward, update, ask, {.samples = 2, .critic_first = 1}),
      "train_group: options.critic_first is 1, wants 0: there is no critic to learn first");
}
