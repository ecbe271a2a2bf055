// Ranked lists with the probabilities that Plackett-Luce gives them as weights: the optimum is exact.

#include "rlhf/train/ranking.hpp"

#include <cmath>

#include "rlhf/policy/judge.hpp"
#include "rlhf/train/preference.hpp"
#include "rlhf/train/reference_sync.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr double beta = 0.5;

/// Every order of every three neighbouring responses, weighed by its probability.
ranked_responses rankings(world& w) {
  const responses all = all_responses(vocabulary);
  ranked_responses data;
  for (std::size_t i = 0; i < 16; ++i) {
    std::size_t order[] = {0, 1, 2};
    do {
      double left = 0, p = 1;
      for (const std::size_t k : order) left += std::exp(w.reward.at((i + k) % 16));
      for (const std::size_t k : order) {
        const double e = std::exp(w.reward.at((i + k) % 16));
        p *= e / left;
        left -= e;
        data.response.add(all, static_cast<std::int64_t>((i + k) % 16));
      }
      data.offsets.push_back(data.response.size());
      data.weight.push_back(static_cast<float>(p));
    } while (std::next_permutation(std::begin(order), std::end(order)));
  }
  return data;
}

}  // namespace

TEST_CASE("rankings teach a reward model the differences, and a policy the optimum of reward less KL") {
  world w;
  const ranked_responses data = rankings(w);
  const loop_options options{.batch = data.size(), .epochs = 1500, .key = {1, 1}};
  SECTION("the reward model") {
    tabular_reward model(vocabulary);
    auto update = steps_of(0.02);
    train_reward_rankings(w.cpu, model, update, data, options);
    for (std::size_t i = 1; i < 16; ++i)
      CHECK(model.at(i) - model.at(0) == Approx(w.reward.at(i) - w.reward.at(0)).margin(1e-2));
  }
  SECTION("the policy") {
    tabular_policy policy = w.reference;
    auto update = steps_of(0.05);
    statistics seen;
    train_listwise(w.cpu, beta, policy, w.reference, update, data, options, ranking_loss<plackett_luce>{},
                   [&](const progress& p) { seen = *p.metrics; });
    CHECK(w.distance(policy, beta) < 1e-3);
    CHECK(seen.find("loss") != nullptr);
  }
}

TEST_CASE("ranking runs that go on from what they saved end with the same bits") {
  world w;
  const ranked_responses data = rankings(w);
  loop_options options{.batch = 7, .epochs = 2, .key = {1, 1}};
  tabular_policy whole = w.reference, parts = w.reference;
  tabular_reward model(vocabulary), part_model(vocabulary);
  auto update = steps_of(0.05), part_update = update, score_update = update, part_score_update = update;
  const ranking_loss<plackett_luce> loss;
  const auto stop = [](const progress& p) { return p.step < 17; };
  train_listwise(w.cpu, beta, whole, w.reference, update, data, options);
  train_reward_rankings(w.cpu, model, score_update, data, options);
  train_listwise(w.cpu, beta, parts, w.reference, part_update, data, options, loss, stop);
  train_reward_rankings(w.cpu, part_model, part_score_update, data, options, loss, stop);
  options.done = 17;
  train_listwise(w.cpu, beta, parts, w.reference, part_update, data, options);
  train_reward_rankings(w.cpu, part_model, part_score_update, data, options);
  CHECK(bits(whole.parameters()) == bits(parts.parameters()));
  CHECK(bits(model.parameters()) == bits(part_model.parameters()));
}

TEST_CASE("lists that do not fit are refused") {
  world w;
  tabular_reward model(vocabulary);
  auto update = steps_of(0.1);
  ranked_responses data = rankings(w);
  const auto refuse = [&](const char* message) {
    CHECK_THROWS_WITH(train_reward_rankings(w.cpu, model, update, data, {}), message);
  };
  SECTION("short") {
    data.offsets.pop_back();
    refuse("train_reward_rankings: data.offsets has 285 elements, wants 288");
  }
  SECTION("backwards") {
    data.offsets[1] = 9;
    refuse("train_reward_rankings: data.offsets is 6, wants rising numbers");
  }
  SECTION("none") {
    data = {};
    refuse("train_reward_rankings: data has elements: 0, wants at least one");
  }
}

TEST_CASE("DPO whose reference follows the policy goes beyond the optimum of the one it started from") {
  world w;
  preference_pairs pairs;
  const responses drawn = w.reference.sample(prompts(3000), 2, {4, 4});
  bradley_terry_judge judge(w.reward);
  std::vector<float> p(3000);
  responses first, second;
  for (std::int64_t i = 0; i < drawn.size(); i += 2) {
    first.add(drawn, i);
    second.add(drawn, i + 1);
  }
  judge.preferences(first, second, p);
  for (std::int64_t i = 0; i < first.size(); ++i) {
    pairs.chosen.add(p[static_cast<std::size_t>(i)] > 0.5f ? first : second, i);
    pairs.rejected.add(p[static_cast<std::size_t>(i)] > 0.5f ? second : first, i);
  }
  loop_options options{.batch = 300, .epochs = 4, .key = {1, 1}};
  const auto run = [&](reference_sync sync, std::int64_t stop, tabular_policy& reference) {
    tabular_policy policy = w.reference;
    auto update = steps_of(0.02);
    auto walk = options;
    train_preference(
        w.cpu, policy, reference, update, pairs, walk, dpo{.beta = 5}, [&](const progress& q) { return q.step < stop; },
        sync);
    walk.done = stop;
    if (stop < 40)
      train_preference(w.cpu, policy, reference, update, pairs, walk, dpo{.beta = 5}, ignore_progress{}, sync);
    return bits(policy.parameters());
  };
  tabular_policy still = w.reference, same = w.reference, moved = w.reference, again = w.reference;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.02);
  train_preference(w.cpu, policy, still, update, pairs, options, dpo{.beta = 5});
  CHECK(run({.every = 1000}, 40, same) == bits(policy.parameters()));  // before it moves it is DPO
  CHECK(bits(same.parameters()) == bits(w.reference.parameters()));
  const auto whole = run({.mixing = 1, .every = 10}, 40, moved);
  CHECK(whole != bits(policy.parameters()));
  CHECK(bits(moved.parameters()) == whole);  // copied after the last update
  CHECK(run({.mixing = 1, .every = 10}, 17, again) == whole);
  const auto gained = [&](const std::vector<float>& parameters) {
    tabular_policy q = w.reference;
    std::copy(parameters.begin(), parameters.end(), q.parameters().begin());
    const auto d = distribution(q);
    double sum = 0;
    for (std::size_t i = 0; i < d.size(); ++i) sum += d[i] * w.reward.at(i);
    return sum;
  };
  CHECK(gained(whole) > gained(bits(policy.parameters())) + 0.05);
}
