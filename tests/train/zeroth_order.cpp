// ZPG and ZBCPG: what their estimate is, and where it leads.

#include "rlhf/train/zeroth_order.hpp"

#include <algorithm>
#include <cmath>

#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr double beta = 0.5;

}  // namespace

TEST_CASE("directions are unit vectors whose second moment is 1 / d") {
  for (const std::int64_t block : {0, 1, 2, 6, 9}) {
    const zpg algorithm{.block = block};
    double moment[6][6] = {};
    constexpr int draws = 20000;
    for (int k = 0; k < draws; ++k) {
      const std::vector<double> v = algorithm.direction(6, {1, 1}, k);
      double squares = 0;
      std::int64_t used = 0;
      for (std::size_t a = 0; a < 6; ++a) {
        squares += v[a] * v[a];
        used += v[a] != 0 ? 1 : 0;
        for (std::size_t b = 0; b < 6; ++b) moment[a][b] += v[a] * v[b] / draws;
      }
      if (std::abs(squares - 1) > 1e-12) FAIL("not a unit vector");
      if (used != (block == 0 ? 6 : std::min<std::int64_t>(block, 6))) FAIL("another number of coordinates");
    }
    for (std::size_t a = 0; a < 6; ++a)
      for (std::size_t b = 0; b < 6; ++b) CHECK(moment[a][b] == Approx(a == b ? 1.0 / 6 : 0).margin(0.012));
  }
}

TEST_CASE("the inverse link's bias falls as one over the votes") {
  const double p = sigmoid(0.6);
  for (const std::int64_t votes : {80, 320}) {
    const std::vector<float> all(200000 / static_cast<std::size_t>(votes) * 4, static_cast<float>(p));
    const auto share = zeroth_order_detail::vote(all, votes, {3, 3});
    const double bias = zpg{}.difference(share) - 0.6;
    const double expected = -(1 - 2 * p) / (2 * static_cast<double>(votes) * p * (1 - p));
    const double noise = 1 / std::sqrt(static_cast<double>(votes) * p * (1 - p) * static_cast<double>(all.size()));
    CHECK(std::abs(bias - expected) < 5 * noise);
  }
  const std::vector<float> certain{0, 1};
  CHECK(zpg{}.difference(certain) == Approx(0).margin(1e-12));  // kept away from infinity on both sides
}

TEST_CASE("ZPG and ZBCPG reach the optimum of reward less KL") {
  // Few parameters: the noise of a direction grows with their number.
  const bool bandit = GENERATE(true, false);
  world w(bandit ? 5 : 2, bandit ? 1 : 2);
  tabular_policy policy = w.reference;
  bradley_terry_judge judge(w.reward);
  parameter_update<cosine_schedule> update{{.rate = 0.05, .total = 600}, {{.weight_decay = 0}}, 1e9};
  zpg algorithm{.radius = 0.3, .directions = 4, .kl_coefficient = beta};
  SECTION("on the sphere") {}
  SECTION("in blocks") { algorithm.block = 2; }
  SECTION("with votes and draws of its own") {
    algorithm.votes = 40;
    algorithm.margin = 0.01;
    algorithm.shared_draws = false;
  }
  const bool noisy = algorithm.votes > 0;
  statistics seen;
  std::int64_t tokens = 0;
  train_zeroth_order(
      algorithm, policy, w.reference, judge, update, [](std::int64_t) { return prompts(1024); },
      {.iterations = 600, .key = {1, 100}},
      [&](const iteration& i) {
        seen = *i.metrics;
        tokens = i.tokens;
      });
  // 40 votes know a probability to 0.08, and the inverse link is biased by as much as they scatter.
  CHECK(total_variation(distribution(policy), w.best(beta)) < (noisy ? 0.05 : 1e-2));
  CHECK(total_variation(distribution(w.reference), w.best(beta)) > 0.2);
  CHECK(seen["labels"] == 4 * 1024 * (noisy ? 40 : 1));
  CHECK(tokens == 600 * 5 * 1024 * w.reference.length());
  CHECK(seen.find("zpg/difference") != nullptr);
  CHECK(seen.find("objective/rlhf_reward") == nullptr);  // no reward is shaped here
}

TEST_CASE("ZPG reports scores where its judge gives them, else how often the policy wins") {
  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0);
  bradley_terry_judge judge(w.reward);
  struct {
    void preferences(const responses&, const responses&, std::span<float> out) const {
      std::fill(out.begin(), out.end(), 0.25f);  // that the perturbed one is better
    }
  } unscored;
  const auto once = [&](auto& who) {
    std::pair<double, statistics> seen;
    train_zeroth_order(
        zpg{}, policy, w.reference, who, update, [](std::int64_t) { return prompts(4000); },
        {.iterations = 1, .key = {1, 100}},
        [&](const iteration& i) {
          seen = {i.reward, *i.metrics};
        });
    return seen;
  };
  double expected = 0;
  const std::vector<double> p = distribution(policy);
  for (std::size_t i = 0; i < p.size(); ++i) expected += p[i] * w.reward.at(i);
  CHECK(once(judge).first == Approx(expected).margin(0.05));
  CHECK(once(judge).second["objective/scores"] == Approx(expected).margin(0.05));
  const auto [reward, seen] = once(unscored);
  CHECK(reward == Approx(0.75));
  CHECK(seen["rewards/probabilities"] == Approx(0.75));
  CHECK(seen.find("objective/scores") == nullptr);
  CHECK(seen.find("objective/kl") != nullptr);
}

TEST_CASE("a ZPG run that goes on from what it saved ends with the same bits") {
  world w;
  bradley_terry_judge judge(w.reward);
  const auto ask = [](std::int64_t i) { return prompts(static_cast<std::size_t>(20 + i)); };
  tabular_policy whole = w.reference, parts = w.reference;
  auto update = steps_of(0.03), part_update = update;
  on_policy_options options{.iterations = 5, .key = {1, 100}};
  const zpg algorithm{.block = 3, .votes = 5, .directions = 2};
  train_zeroth_order(algorithm, whole, w.reference, judge, update, ask, options);
  for (const auto& [done, iterations] : {std::pair{0, 2}, std::pair{2, 5}}) {
    options.done = done;
    options.iterations = iterations;
    train_zeroth_order(algorithm, parts, w.reference, judge, part_update, ask, options);
  }
  CHECK(bits(whole.parameters()) == bits(parts.parameters()));
}

TEST_CASE("ZPG puts parameters back, whatever happens") {
  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.1);
  struct {
    void preferences(const responses&, const responses&, std::span<float> out) const { out[0] = 2; }
  } judge;
  const auto train = [&](const zpg& algorithm) {
    train_zeroth_order(algorithm, policy, w.reference, judge, update, [](std::int64_t) { return prompts(4); },
                       {.iterations = 1});
  };
  CHECK_THROWS_WITH(train({}), "train_zeroth_order: a preference is 2, wants a probability");
  CHECK_THROWS_WITH(train({.radius = 0}), "zpg: radius is 0, wants more than 0");
  CHECK_THROWS_WITH(train({.margin = 0}), "zpg: margin is 0, wants 0 < margin < 0.5");
  CHECK(bits(policy.parameters()) == bits(w.reference.parameters()));
}
