// The loops on policies small enough that the optimum is known exactly.

#include <cmath>

#include "rlhf/policy/judge.hpp"
#include "rlhf/train/evaluate.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/preference.hpp"
#include "rlhf/train/supervised.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

TEST_CASE("supervised training fits the frequencies of its data") {
  world w;
  tabular_policy policy(1, vocabulary, 2);
  const responses data = w.reference.sample(prompts(1), 4000, {3, 3});
  auto update = steps_of(0.05);
  double first = 0, last = 0;
  train_supervised(w.cpu, policy, update, data, {.batch = 400, .epochs = 30, .key = {1, 1}}, [&](const progress& p) {
    if (p.step == 1) first = (*p.metrics)["loss"];
    last = (*p.metrics)["loss"];
  });
  CHECK(last < first);
  // 4 000 draws are about this far from their own law; exact weights reach it to 1e-2: offline.cpp.
  CHECK(total_variation(distribution(policy), distribution(w.reference)) < 0.03);
}

TEST_CASE("a reward model learns the differences that the labels follow") {
  world w;
  preference_pairs pairs;
  const responses drawn = w.reference.sample(prompts(20000), 2, {4, 4});
  std::vector<float> score(static_cast<std::size_t>(drawn.size()));
  w.reward.rewards(drawn, score);
  const random_numbers label({5, 5});
  for (std::int64_t i = 0; i < drawn.size(); i += 2) {
    const double gap = static_cast<double>(score[static_cast<std::size_t>(i)] - score[static_cast<std::size_t>(i) + 1]);
    const bool first = label.uniform({static_cast<std::uint32_t>(i)}) < sigmoid(gap);
    pairs.chosen.add(drawn, first ? i : i + 1);
    pairs.rejected.add(drawn, first ? i + 1 : i);
  }

  tabular_reward learned(vocabulary);
  auto update = steps_of(0.05);
  train_reward_model(w.cpu, learned, update, pairs, {.batch = 500, .epochs = 20, .key = {1, 2}});
  double worst = 0;
  for (std::size_t i = 1; i < 16; ++i)
    worst = std::max(worst, std::abs((learned.at(i) - learned.at(0)) - (w.reward.at(i) - w.reward.at(0))));
  CHECK(worst < 0.35);

  SECTION("and DPO on the same pairs reaches the policy that the reward implies") {
    tabular_policy policy = w.reference;
    auto dpo_update = steps_of(0.05);
    statistics seen;
    train_preference(w.cpu, policy, w.reference, dpo_update, pairs, {.batch = 500, .epochs = 20, .key = {1, 3}},
                     dpo{.beta = 0.5}, [&](const progress& p) { seen = *p.metrics; });
    // Of 20 000 labels, drawn: the distance is the sample's. Where the labels' probabilities are given it is 1e-2: offline.cpp.
    CHECK(total_variation(distribution(policy), tilted(distribution(w.reference), w.reward, 0.5)) < 0.06);
    CHECK(seen.find("rewards/accuracies") != nullptr);
    CHECK(seen.find("logps/chosen") != nullptr);
  }
}

TEST_CASE("the first loss of DPO at the reference is log 2") {
  world w;
  tabular_policy policy = w.reference;
  const responses drawn = w.reference.sample(prompts(8), 2, {4, 4});
  preference_pairs pairs;
  for (std::int64_t i = 0; i < drawn.size(); i += 2) {
    pairs.chosen.add(drawn, i);
    pairs.rejected.add(drawn, i + 1);
  }
  auto update = steps_of(0.0);
  double loss = 0;
  train_preference(w.cpu, policy, w.reference, update, pairs, {.batch = 8}, dpo{},
                   [&](const progress& p) { loss = (*p.metrics)["loss"]; });
  CHECK(loss == Approx(std::log(2.0)).epsilon(1e-6));
}

TEST_CASE("REBEL reaches the optimum of reward less KL") {
  world w = bandit_or_tokens();
  tabular_policy policy = w.reference;
  auto update = steps_of(0.05);
  std::int64_t seen = 0;
  train_rebel(
      w.cpu, {.eta = 1, .kl_coefficient = 0.5}, policy, w.reference, w.reward, update,
      [](std::int64_t) { return prompts(512); }, {.iterations = 40, .epochs = 8, .minibatch = 256, .key = {1, 100}},
      [&](const iteration& i) { seen = i.number; });
  CHECK(seen == 40);
  CHECK(total_variation(distribution(policy), tilted(distribution(w.reference), w.reward, 0.5)) < 0.01);
}

TEST_CASE("REBEL reaches the same optimum against responses from a data set") {
  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.05);
  const responses data = all_responses(vocabulary);
  std::int64_t tokens = 0;
  train_rebel(
      w.cpu, {.eta = 1, .kl_coefficient = 0.5}, policy, w.reference, w.reward, update,
      [](std::int64_t) { return prompts(512); }, {.iterations = 40, .epochs = 8, .minibatch = 256, .key = {1, 100}},
      [&](const iteration& i) { tokens = i.tokens; },
      [&](std::int64_t i, const prompt_list& asked) {
        responses out;
        for (std::size_t k = 0; k < asked.size(); ++k) out.add(data, (i + 7 * static_cast<std::int64_t>(k)) % 16);
        return out;
      });
  CHECK(w.distance(policy, 0.5) < 0.01);
  CHECK(tokens == 40 * 512 * 2);
  CHECK_THROWS_WITH(train_rebel(
                        w.cpu, {}, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(3); },
                        {.iterations = 1}, ignore_iteration{}, [&](std::int64_t, const prompt_list&) { return data; }),
                    "train_rebel: partner has 16 elements, wants 3");
}

TEST_CASE("PPO comes near the optimum of reward less KL") {
  world w;
  tabular_policy policy = w.reference;
  tabular_critic critic(vocabulary, 2);
  auto update = steps_of(0.03), critic_update = steps_of(0.1);
  ppo algorithm;
  algorithm.reward.coefficient = 0.5;
  double first = 0;
  statistics metrics;
  train_ppo(
      w.cpu, algorithm, policy, critic, w.reference, w.reward, update, critic_update,
      [](std::int64_t) { return prompts(1024); }, {.iterations = 80, .epochs = 2, .minibatch = 256, .key = {1, 100}},
      [&](const iteration& i) {
        if (i.number == 1) first = i.reward;
        metrics = *i.metrics;
      });
  const auto best = tilted(distribution(w.reference), w.reward, 0.5), reached = distribution(policy),
             start = distribution(w.reference);
  const auto objective = [&](const std::vector<double>& p) {
    double sum = 0;
    for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] * (w.reward.at(i) - 0.5 * std::log(p[i] / start[i]));
    return sum;
  };
  CHECK((objective(reached) - objective(start)) / (objective(best) - objective(start)) > 0.97);
  for (const char* name :
       {"objective/kl", "objective/scores", "objective/rlhf_reward", "policy/approxkl_avg", "policy/clipfrac_avg",
        "val/clipfrac_avg", "val/ratio", "loss/policy_avg", "loss/value_avg", "grad_norm"}) {
    CAPTURE(name);
    CHECK(metrics.find(name) != nullptr);
  }
  CHECK(metrics["nonfinite"] == 0);
  CHECK(metrics["objective/rlhf_reward"] ==
        Approx(metrics["objective/scores"] - 0.5 * metrics["objective/kl"]).epsilon(1e-5));
}

TEST_CASE("RTO without the DPO reward is PPO bit for bit") {
  world w;
  const auto run = [&](auto algorithm, auto&&... guide) {
    tabular_policy policy = w.reference;
    tabular_critic critic(vocabulary, 2);
    auto update = steps_of(0.03), critic_update = steps_of(0.1);
    train_ppo(
        w.cpu, algorithm, policy, critic, w.reference, w.reward, update, critic_update,
        [](std::int64_t) { return prompts(64); }, {.iterations = 5, .epochs = 2, .minibatch = 32, .key = {1, 100}},
        ignore_iteration{}, guide...);
    return std::vector<float>(policy.parameters().begin(), policy.parameters().end());
  };
  ppo plain;
  plain.reward.coefficient = 0.01;
  rto guided;
  guided.reward.beta1 = 0;
  tabular_policy guide = w.reference;
  CHECK(run(plain) == run(guided, guide));
}

TEST_CASE("the same key gives the same bits") {
  world w;
  const auto run = [&](std::uint64_t seed) {
    tabular_policy policy = w.reference;
    auto update = steps_of(0.05);
    train_rebel(w.cpu, {}, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(32); },
                {.iterations = 3, .minibatch = 16, .key = {seed, 100}});
    return std::vector<float>(policy.parameters().begin(), policy.parameters().end());
  };
  CHECK(run(1) == run(1));
  CHECK(run(1) != run(2));
}

TEST_CASE("a run that goes on from what it saved ends with the same bits") {
  world w;
  struct killed {};
  const responses data = w.reference.sample(prompts(1), 70, {3, 3});

  SECTION("in the middle of an epoch") {
    for (const std::int64_t stop : {std::int64_t{1}, std::int64_t{7}, std::int64_t{8}, std::int64_t{19}}) {
      tabular_policy whole(1, vocabulary, 2), parts = whole;
      auto update = steps_of(0.05), part_update = update;
      loop_options options{.batch = 9, .epochs = 3, .key = {1, 1}};
      std::vector<std::int64_t> items, part_items;
      const auto note = [](std::vector<std::int64_t>& to) {
        return [&to](const progress& p) { to.push_back(p.items); };
      };
      train_supervised(w.cpu, whole, update, data, options, note(items));
      CHECK_THROWS_AS(train_supervised(w.cpu, parts, part_update, data, options,
                                       [&](const progress& p) {
                                         part_items.push_back(p.items);
                                         if (p.step == stop) throw killed{};
                                       }),
                      killed);
      options.done = stop;
      train_supervised(w.cpu, parts, part_update, data, options, note(part_items));
      CHECK(bits(whole.parameters()) == bits(parts.parameters()));
      CHECK(items == part_items);
    }
  }
  SECTION("between iterations") {
    const auto ask = [](std::int64_t i) { return prompts(static_cast<std::size_t>(20 + i)); };
    std::int64_t tokens = 0, part_tokens = 0;
    tabular_policy whole = w.reference, parts = w.reference;
    tabular_critic critic(vocabulary, 2), part_critic = critic;
    auto update = steps_of(0.03), critic_update = steps_of(0.1), part_update = update,
         part_critic_update = critic_update;
    on_policy_options options{.iterations = 5, .epochs = 2, .minibatch = 8, .key = {1, 100}};
    train_ppo(w.cpu, ppo{}, whole, critic, w.reference, w.reward, update, critic_update, ask, options,
              [&](const iteration& i) { tokens = i.tokens; });
    for (const auto& [done, iterations] : {std::pair{0, 2}, std::pair{2, 5}}) {
      options.done = done;
      options.iterations = iterations;
      options.tokens_done = part_tokens;
      train_ppo(w.cpu, ppo{}, parts, part_critic, w.reference, w.reward, part_update, part_critic_update, ask, options,
                [&](const iteration& i) { part_tokens = i.tokens; });
    }
    CHECK(bits(whole.parameters()) == bits(parts.parameters()));
    CHECK(bits(critic.parameters()) == bits(part_critic.parameters()));
    CHECK(tokens == part_tokens);
  }
}

TEST_CASE("PPO and REBEL stop updating when the policy has moved too far") {
  world w;
  const auto updates = [&](auto&& train, double stop_kl) {
    tabular_policy policy = w.reference;
    auto update = steps_of(0.1);
    train(policy, update,
          on_policy_options{.iterations = 3, .epochs = 5, .minibatch = 16, .key = {1, 100}, .stop_kl = stop_kl});
    return update.optimiser.steps;
  };
  const auto ask = [](std::int64_t) { return prompts(32); };
  const auto proximal = [&](tabular_policy& policy, parameter_update<>& update, const on_policy_options& options) {
    tabular_critic critic(vocabulary, 2);
    auto critic_update = steps_of(0.1);
    train_ppo(w.cpu, ppo{}, policy, critic, w.reference, w.reward, update, critic_update, ask, options);
    CHECK(critic_update.optimiser.steps == update.optimiser.steps);
  };
  const auto regress = [&](tabular_policy& policy, parameter_update<>& update, const on_policy_options& options) {
    train_rebel(w.cpu, {}, policy, w.reference, w.reward, update, ask, options);
  };
  CHECK(updates(proximal, infinity) == 30);
  CHECK(updates(proximal, 0.02) < 20);
  CHECK(updates(proximal, 0.02) >= 3);
  CHECK(updates(regress, infinity) == 30);
  CHECK(updates(regress, 0.02) < 20);
  CHECK(updates(regress, 0.02) >= 3);
  CHECK_THROWS_WITH(updates(regress, 0),
                    "train_rebel: options.stop_kl is 0, wants more than 0 (infinity turns it off)");
}

TEST_CASE("how far REBEL's policy has moved is told by its own responses, not by a partner's") {
  // What the partner gives is all but impossible and much better: one step makes it e times likelier, which is a divergence of
  // 0.7 on that token, while the policy is where it was.
  world w;
  responses rare;
  const std::int32_t prompt[] = {0}, response[] = {3, 3};
  tabular_policy policy = w.reference;
  for (std::size_t i = 0; i < 3; ++i) policy.parameters()[i] += 20;
  for (int k = 0; k < 8; ++k) rare.add(prompt, response);
  auto update = steps_of(0.5);
  std::fill(w.reward.parameters().begin(), w.reward.parameters().end(), 0.0f);
  w.reward.parameters()[15] = 1000;
  train_rebel(
      w.cpu, {.kl_coefficient = 0}, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(8); },
      {.iterations = 1, .epochs = 4, .minibatch = 8, .key = {1, 100}, .stop_kl = 0.15}, ignore_iteration{},
      [&](std::int64_t, const prompt_list&) { return rare; });
  CHECK(update.optimiser.steps > 1);
}

TEST_CASE("an update drops a gradient that is not finite") {
  tabular_policy policy(1, 3, 1);
  policy.gradient()[0] = std::numeric_limits<float>::quiet_NaN();
  auto update = steps_of(0.1);
  update.apply(policy);
  for (const float x : policy.parameters()) CHECK(x == 0.0f);
  for (const float g : policy.gradient()) CHECK(g == 0.0f);
}

TEST_CASE("evaluation of the reference against itself has no KL") {
  world w;
  const evaluation e = evaluate(w.reference, w.reference, w.reward, prompts(500), 1, {2, 2});
  CHECK(e.kl == 0);
  CHECK(e.tokens == 1000);
  double exact = 0;
  const auto p = distribution(w.reference);
  for (std::size_t i = 0; i < p.size(); ++i) exact += p[i] * w.reward.at(i);
  CHECK(std::abs(e.reward - exact) < 4 * e.reward_deviation / std::sqrt(500.0));
}

TEST_CASE("a policy's rate of wins is its expectation, and one half against itself") {
  world w;
  bradley_terry_judge judge(w.reward);
  tabular_policy better = w.reference;
  for (std::size_t i = 0; i < 4; ++i) better.parameters()[i] += static_cast<float>(i);
  const auto exact = [&](tabular_policy& a, tabular_policy& b) {
    const auto p = distribution(a), q = distribution(b);
    double sum = 0;
    for (std::size_t i = 0; i < p.size(); ++i)
      for (std::size_t j = 0; j < q.size(); ++j) sum += p[i] * q[j] * sigmoid(w.reward.at(i) - w.reward.at(j));
    return sum;
  };
  const win_rate found = compare_policies(better, w.reference, judge, prompts(2000), 2, {2, 2});
  CHECK(found.comparisons == 4000);
  CHECK(std::abs(found.rate - exact(better, w.reference)) < 4 * found.error);
  const win_rate same = compare_policies(w.reference, w.reference, judge, prompts(4000), 1, {2, 2});
  CHECK(std::abs(same.rate - 0.5) < 4 * same.error);
  CHECK(same.error > 0);
}

TEST_CASE("best of n counts every subset") {
  const std::vector<float> scores{3, 1, 2, 2, 5};
  const auto points = best_of_n(scores, {1, 2, 3, 5, 9});
  REQUIRE(points.size() == 4);
  CHECK(points[0].reward == Approx(2.6));
  CHECK(points[0].kl == Approx(0).margin(1e-15));
  double sum = 0;
  for (std::size_t i = 0; i < 5; ++i)
    for (std::size_t j = i + 1; j < 5; ++j) sum += static_cast<double>(std::max(scores[i], scores[j]));
  CHECK(points[1].reward == Approx(sum / 10));
  CHECK(points[3].reward == Approx(5));
  CHECK(points[1].kl == Approx(std::log(2.0) - 0.5));
}

TEST_CASE("pairs that do not match are refused") {
  world w;
  preference_pairs pairs;
  pairs.chosen = w.reference.sample(prompts(2), 1, {1, 1});
  tabular_policy policy = w.reference;
  auto update = steps_of(0.1);
  CHECK_THROWS_WITH(train_preference(w.cpu, policy, w.reference, update, pairs, {}),
                    "train_preference: pairs.rejected has 0 elements, wants 2");
}
