// What the loops report: numbers that follow by hand from what was sampled, and the steps of policy and critic.

#include <cmath>
#include <limits>

#include "rlhf/algorithm/grpo.hpp"
#include "rlhf/train/evaluate.hpp"
#include "rlhf/train/group.hpp"
#include "rlhf/train/on_policy.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

/// A policy that says what ends a response.
struct ending_policy : tabular_policy {
  using tabular_policy::tabular_policy;
  std::int32_t end = 3;
  [[nodiscard]] std::int32_t end_token() const { return end; }
};
static_assert(ends_responses<ending_policy> && !ends_responses<tabular_policy>);

/// Its gradient breaks at the second step, its values and so its loss do not.
struct breaking_critic : tabular_critic {
  using tabular_critic::tabular_critic;
  int calls = 0;
  void backward_values(std::span<const float> g) {
    tabular_critic::backward_values(g);
    if (++calls == 2) gradient()[0] = std::numeric_limits<float>::quiet_NaN();
  }
};

}  // namespace

TEST_CASE("lengths, ends and what was cut off are counted") {
  rollout r;
  const std::int32_t prompt[] = {0};
  for (const std::vector<std::int32_t>& response :
       {std::vector<std::int32_t>{1, 3}, {1, 2, 2, 1}, {3}, {3, 2, 3}, {2, 2}})
    r.batch.add(prompt, response);
  statistics seen;
  describe_lengths(r, seen);
  CHECK(seen["completions/mean_length"] == Approx(12.0 / 5));
  CHECK(seen["completions/max_length"] == 4);
  CHECK(seen.find("completions/clipped_ratio") == nullptr);  // what ends a response is not known
  r.end_token = 3;
  statistics ended;
  describe_lengths(r, ended);
  CHECK(ended["completions/clipped_ratio"] == Approx(2.0 / 5));
  CHECK(ended["val/num_eos_tokens"] == 4);
}

TEST_CASE("a rollout takes the end of its responses from the policy, and forgets it where two disagree") {
  world w;
  ending_policy policy(1, vocabulary, 2);
  rollout r = collect(policy, w.reference, w.reward, prompts(4), 1, {1, 1}, 0);
  CHECK(r.end_token == 3);
  const std::int64_t rows[] = {1, 2};
  CHECK(r.select(rows).end_token == 3);
  rollout more;
  more.append(r);
  CHECK(more.end_token == 3);
  policy.end = 2;
  more.append(collect(policy, w.reference, w.reward, prompts(4), 1, {1, 2}, 0));
  CHECK(more.end_token == -1);
}

TEST_CASE("groups report their rewards, their spread and how many have none") {
  statistics seen;
  const std::vector<float> score{1, 3, 2, 2, 0, 4};
  group_detail::describe_groups(score, 2, seen);
  CHECK(seen["reward"] == Approx(2));
  CHECK(seen["reward_std"] == Approx((std::sqrt(2.0) + 0 + std::sqrt(8.0)) / 3));
  CHECK(seen["frac_reward_zero_std"] == Approx(1.0 / 3));
  statistics alone;
  group_detail::describe_groups(score, 1, alone);
  CHECK(alone["reward"] == Approx(2));
  CHECK(alone.find("reward_std") == nullptr);

  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.05);
  train_group(
      w.cpu, grpo<>{}, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(16); },
      {.iterations = 1, .samples = 4, .minibatch = 16, .key = {1, 100}},
      [](const iteration& i) {
        CHECK((*i.metrics)["reward"] == Approx(i.reward));
        CHECK((*i.metrics)["reward_std"] > 0);
        for (const char* name : {"frac_reward_zero_std", "val/ratio_var", "learning_rate", "completions/mean_length"}) {
          CAPTURE(name);
          CHECK(i.metrics->find(name) != nullptr);
        }
      });
}

TEST_CASE("the variance of the ratio is that of the updates' means") {
  ratio_means ratios;
  const std::vector<float> old{-1, -1}, twice{std::log(2.0f) - 1, std::log(4.0f) - 1};
  ratios.add(old, old);
  CHECK(ratios.variance() == 0);
  ratios.add(twice, old);
  CHECK(ratios.mean == Approx(2));
  CHECK(ratios.variance() == Approx(2));  // of 1 and 3
  ratios.add({}, {});
  CHECK(ratios.count == 2);
}

TEST_CASE("PPO reports the rate and the norms of both, so that a critic whose gradient breaks is heard of") {
  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.03), critic_update = steps_of(0.1);
  statistics seen;
  const auto run = [&](auto critic) {
    train_ppo(
        w.cpu, ppo{}, policy, critic, w.reference, w.reward, update, critic_update,
        [](std::int64_t) { return prompts(16); }, {.iterations = 1, .epochs = 2, .minibatch = 8, .key = {1, 100}},
        [&](const iteration& i) { seen = *i.metrics; });
  };
  run(tabular_critic(vocabulary, 2));
  CHECK(seen["learning_rate"] == Approx(0.03));
  CHECK(seen["critic_learning_rate"] == Approx(0.1));
  CHECK(seen["critic_grad_norm"] > 0);
  CHECK(seen["val/ratio_var"] > 0);
  CHECK(seen["completions/mean_length"] == 2);
  run(breaking_critic(vocabulary, 2));
  CHECK(std::isfinite(seen["loss/value_avg"]));
  CHECK(std::isfinite(seen["grad_norm"]));
  CHECK(std::isnan(seen["critic_grad_norm"]));
}

TEST_CASE("wins are counted pair by pair, ties half") {
  const std::vector<float> mine{1, 2, 3, 4}, others{0, 2, 4, 1};
  const win_rate found = compare_scores(mine, others);
  CHECK(found.rate == Approx((1 + 0.5 + 0 + 1) / 4));
  CHECK(found.error == Approx(std::sqrt((2 * 0.140625 + 0.015625 + 0.390625) / 3) / 2));
  CHECK(found.comparisons == 4);
  CHECK(compare_scores(mine, mine).rate == 0.5);
  CHECK(compare_scores({}, {}).rate == 0);
  CHECK(compare_scores(mine, others).rate + compare_scores(others, mine).rate == Approx(1));
  CHECK_THROWS_WITH(compare_scores(mine, std::span(others).first(3)), "compare_scores: others has 3 elements, wants 4");
  const std::vector<float> broken{1, std::numeric_limits<float>::quiet_NaN(), 3, 4};
  CHECK_THROWS_WITH(compare_scores(broken, others), "compare_scores: a score is nan, wants a number");
}

TEST_CASE("an evaluation knows how long responses are") {
  world w;
  const evaluation e = evaluate(w.reference, w.reference, w.reward, prompts(32), 2, {1, 1});
  CHECK(e.length == 2);
  CHECK(e.tokens == 128);
}
