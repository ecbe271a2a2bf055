// The critic-free algorithms where the optimum is known: reward less KL where the KL is paid in the reward, the fixed point
// of the expected gradient where it is paid in the loss.

#include "rlhf/train/group.hpp"

#include <algorithm>
#include <cmath>

#include "rlhf/algorithm/cispo.hpp"
#include "rlhf/algorithm/dapo.hpp"
#include "rlhf/algorithm/grpo.hpp"
#include "rlhf/algorithm/gspo.hpp"
#include "rlhf/algorithm/reinforce_plus_plus.hpp"
#include "rlhf/algorithm/remax.hpp"
#include "rlhf/algorithm/rloo.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr double beta = 0.5;

/// Runs and says how it ended.
template <class Algorithm>
statistics run(world& w, const Algorithm& algorithm, tabular_policy& policy, std::int64_t iterations = 120,
               std::int64_t samples = 4) {
  parameter_update<cosine_schedule> update{{.rate = 0.05, .total = 2 * iterations}, {{.weight_decay = 0}}, 1e9};
  statistics seen;
  train_group(
      w.cpu, algorithm, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(512); },
      {.iterations = iterations, .samples = samples, .epochs = 1, .minibatch = 256 * samples, .key = {1, 100}},
      [&](const iteration& i) { seen = *i.metrics; });
  return seen;
}

/// The solution of p = f(p), by damped steps.
template <class F>
std::vector<double> fixed_point(std::vector<double> p, F&& f) {
  for (int k = 0; k < 2000; ++k) {
    const std::vector<double> q = f(p);
    for (std::size_t i = 0; i < p.size(); ++i) p[i] = 0.9 * p[i] + 0.1 * q[i];
  }
  return p;
}

struct spread_of_reward {
  double mean = 0, deviation = 0;
};
spread_of_reward spread_of(const std::vector<double>& p, const tabular_reward& reward) {
  spread_of_reward s;
  for (std::size_t i = 0; i < p.size(); ++i) s.mean += p[i] * reward.at(i);
  for (std::size_t i = 0; i < p.size(); ++i) s.deviation += p[i] * std::pow(reward.at(i) - s.mean, 2);
  s.deviation = std::sqrt(s.deviation);
  return s;
}

}  // namespace

TEST_CASE("RLOO, REINFORCE++ and ReMax reach the optimum of reward less KL") {
  world w = bandit_or_tokens();
  tabular_policy policy = w.reference;
  statistics seen;
  SECTION("RLOO") {
    rloo algorithm;
    algorithm.reward.coefficient = beta;
    seen = run(w, algorithm, policy);
  }
  SECTION("REINFORCE++") {
    reinforce_plus_plus algorithm;
    algorithm.reward.coefficient = beta;
    seen = run(w, algorithm, policy);
  }
  SECTION("ReMax") {
    remax algorithm;
    algorithm.reward.coefficient = beta;
    seen = run(w, algorithm, policy, 200);
  }
  CHECK(w.distance(policy, beta) < 1e-2);
  for (const char* name :
       {"objective/kl", "objective/scores", "objective/rlhf_reward", "loss/policy_avg", "grad_norm"}) {
    CAPTURE(name);
    CHECK(seen.find(name) != nullptr);
  }
  CHECK(seen["objective/rlhf_reward"] == Approx(seen["objective/scores"] - beta * seen["objective/kl"]).epsilon(1e-4));
}

TEST_CASE("GSPO, CISPO and Dr. GRPO reach the optimum of reward less KL when the KL is in their reward") {
  world w = bandit_or_tokens();
  tabular_policy policy = w.reference;
  SECTION("GSPO") {
    gspo algorithm;
    algorithm.reward.coefficient = beta;
    algorithm.estimator.scale = group_scale::none;
    algorithm.loss.objective.objective.low = algorithm.loss.objective.objective.high = 0.2;
    run(w, algorithm, policy);
  }
  SECTION("CISPO") {
    cispo_policy algorithm;
    algorithm.reward.coefficient = beta;
    algorithm.estimator.scale = group_scale::none;
    run(w, algorithm, policy);
  }
  SECTION("Dr. GRPO") {
    critic_free<group_advantage, policy_loss<ppo_clip, none, fixed_length>> algorithm{.loss = {{}, {}, {.length = 2}}};
    algorithm.reward.coefficient = beta;
    algorithm.estimator.scale = group_scale::none;
    run(w, algorithm, policy);
  }
  CHECK(w.distance(policy, beta) < 1e-2);
}

TEST_CASE("GRPO reaches the fixed point of its expected gradient") {
  // One token, so that the KL of a token is the KL. With k3 the gradient pulls by KL(ref||pi): A = beta (1 - ref / pi).
  world w(8, 1);
  tabular_policy policy = w.reference;
  const std::vector<double> ref = distribution(w.reference);
  constexpr double price = 3;  // the fixed point wants beta above the largest advantage
  const auto normalised = [](std::vector<double> p) {
    double sum = 0;
    for (const double x : p) sum += x;
    for (double& x : p) x /= sum;
    return p;
  };
  SECTION("Dr. GRPO's advantages and k3") {
    grpo<> algorithm;
    algorithm.estimator.scale = group_scale::none;
    algorithm.penalty.coefficient = price;
    run(w, algorithm, policy, 150, 16);
    const auto expected = fixed_point(ref, [&](const std::vector<double>& p) {
      std::vector<double> q = ref;
      // A group's mean holds the response itself: its advantages are 1 - 1 / G of the centred rewards.
      for (std::size_t i = 0; i < q.size(); ++i)
        q[i] /= 1 - 15.0 / 16 * (w.reward.at(i) - spread_of(p, w.reward).mean) / price;
      return normalised(q);
    });
    CHECK(total_variation(distribution(policy), expected) < 1e-2);
    CHECK(total_variation(ref, expected) > 0.05);
  }
  SECTION("k2's gradient and division by the deviation of a large group") {
    grpo<row_mean, kl_penalty<value_and_gradient<k3, k2>>> algorithm{.penalty = {{}, price}};
    run(w, algorithm, policy, 150, 64);
    const auto expected = fixed_point(ref, [&](const std::vector<double>& p) {
      std::vector<double> q = ref;
      for (std::size_t i = 0; i < q.size(); ++i)
        q[i] *= std::exp(w.reward.at(i) / (price * spread_of(p, w.reward).deviation));
      return normalised(q);
    });
    CHECK(total_variation(distribution(policy), expected) < 1e-2);
    CHECK(total_variation(ref, expected) > 0.05);
  }
  SECTION("REINFORCE++ with the baseline of the group: the same, by the deviation of the batch") {
    reinforce_plus_plus_baseline algorithm;
    algorithm.loss.term.coefficient = price;
    run(w, algorithm, policy, 150, 16);
    const auto expected = fixed_point(ref, [&](const std::vector<double>& p) {
      std::vector<double> q = ref;
      const double deviation = spread_of(p, w.reward).deviation * std::sqrt(15.0 / 16);
      for (std::size_t i = 0; i < q.size(); ++i) q[i] *= std::exp(15.0 / 16 * w.reward.at(i) / (price * deviation));
      return normalised(q);
    });
    CHECK(total_variation(distribution(policy), expected) < 1e-2);
  }
}

TEST_CASE("GRPO reaches the fixed point of its expected gradient token by token") {
  // With k3 at each token every state has a fixed point of its own, pi = ref / (1 - (Q - V) / beta), Q of what pi does after it.
  world w;
  tabular_policy policy = w.reference;
  constexpr double price = 3;
  constexpr auto states = static_cast<std::size_t>(vocabulary);
  grpo<> algorithm;
  algorithm.estimator.scale = group_scale::none;
  algorithm.penalty.coefficient = price;
  run(w, algorithm, policy, 150, 16);
  const auto state = [&](const std::vector<double>& ref, const std::vector<double>& q) {
    return fixed_point(ref, [&](const std::vector<double>& p) {
      double v = 0, sum = 0;
      for (std::size_t a = 0; a < p.size(); ++a) v += p[a] * q[a];
      std::vector<double> out = ref;
      for (std::size_t a = 0; a < p.size(); ++a) sum += out[a] /= 1 - 15.0 / 16 * (q[a] - v) / price;
      for (double& x : out) x /= sum;
      return out;
    });
  };
  const std::vector<double> ref = distribution(w.reference);
  std::vector<double> first(states), worth(states), expected(ref.size());
  for (std::size_t a = 0; a < states; ++a) {
    std::vector<double> then(states), reward(states);
    for (std::size_t b = 0; b < states; ++b) first[a] += then[b] = ref[states * a + b];
    for (std::size_t b = 0; b < states; ++b) {
      then[b] /= first[a];
      reward[b] = w.reward.at(states * a + b);
    }
    then = state(then, reward);
    for (std::size_t b = 0; b < states; ++b) {
      worth[a] += then[b] * reward[b];
      expected[states * a + b] = then[b];
    }
  }
  first = state(first, worth);
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] *= first[i / states];
  CHECK(total_variation(distribution(policy), expected) < 1e-2);
  CHECK(total_variation(ref, expected) > 0.1);
}

TEST_CASE("without KL the mass goes to the best response") {
  // Its optimum is a corner, which a softmax does not reach in any number of steps: the nearer it is, the fewer groups hold two
  // different responses, and no others pull.
  world w;
  tabular_policy policy = w.reference;
  std::size_t best = 0;
  for (std::size_t i = 0; i < 16; ++i) best = w.reward.at(i) > w.reward.at(best) ? i : best;
  SECTION("GRPO") { run(w, grpo<row_mean, none>{}, policy); }
  SECTION("GSPO") { run(w, gspo{}, policy, 250); }
  SECTION("CISPO") { run(w, cispo_policy{}, policy); }
  SECTION("DAPO") { run(w, dapo{}, policy); }
  CHECK(distribution(policy)[best] > 0.9);
}

TEST_CASE("DAPO of a bandit ends at the best arm") {
  // No KL, and a softmax of logits: where every arm has its own score the expected gradient is 0 only at corners, and of
  // these the best arm alone is stable. Groups in which all took the same arm are replaced, and the others' advantages are
  // divided by their deviation, so that the last hundredth goes as fast as the first.
  world w(8, 1);
  tabular_policy policy = w.reference;
  std::vector<double> corner(8);
  std::size_t best = 0;
  for (std::size_t i = 0; i < 8; ++i) best = w.reward.at(i) > w.reward.at(best) ? i : best;
  corner[best] = 1;
  run(w, dapo{}, policy, 150, 8);
  CHECK(total_variation(distribution(w.reference), corner) > 0.5);
  CHECK(total_variation(distribution(policy), corner) < 1e-2);
}

TEST_CASE("a group whose responses differ in length alone is dropped, though some are too long") {
  reference_backend cpu;
  dapo algorithm;
  algorithm.overlong = {.max_length = 3, .buffer = 2};
  rollout r;
  for (const auto& [tokens, score] : {std::pair{1, 1.0f}, {3, 1.0f}, {3, 0.0f}, {3, 1.0f}}) {
    r.batch.add(std::vector<std::int32_t>{0}, std::vector<std::int32_t>(static_cast<std::size_t>(tokens), 1));
    r.score.push_back(score);
  }
  const std::vector<float> counted = group_detail::counted(algorithm, r);
  CHECK(counted[0] != counted[1]);
  CHECK(group_detail::select_rows(cpu, algorithm, r, 2, 2) == std::vector<std::int64_t>{2, 3});
}

TEST_CASE("DAPO replaces groups that teach nothing") {
  world w;
  for (std::size_t i = 0; i < 16; ++i) w.reward.parameters()[i] = i == 5 ? 1.0f : 0.0f;
  tabular_policy policy = w.reference;
  auto update = steps_of(0);
  dapo algorithm;
  const auto once = [&](auto&& ask) {
    statistics seen;
    std::int64_t tokens = 0;
    train_group(w.cpu, algorithm, policy, w.reference, w.reward, update, ask,
                {.iterations = 1, .samples = 2, .minibatch = 1000, .key = {1, 100}}, [&](const iteration& i) {
                  seen = *i.metrics;
                  tokens = i.tokens;
                });
    return std::pair{seen, tokens};
  };
  SECTION("from further rounds of samples, as many as needed") {
    algorithm.refills = 1000;
    const auto [seen, tokens] = once([](std::int64_t) { return prompts(10); });
    const double p = distribution(w.reference)[5];
    CHECK(seen["objective/scores"] == Approx(0.5));  // of the groups kept: one of two
    CHECK(seen.find("objective/scores")->count == 20);
    CHECK(seen["sampling/kept"] < 0.5);
    CHECK(seen["sampling/kept"] == Approx(2 * p * (1 - p)).margin(0.15));
    CHECK(static_cast<double>(tokens) == seen.find("sampling/scores")->count * 2);
  }
  SECTION("from other prompts where the source knows them") {
    std::vector<std::int64_t> rounds;
    algorithm.refills = 2;
    once([&](std::int64_t, std::int64_t round) {
      rounds.push_back(round);
      return prompts(10);
    });
    CHECK(rounds == std::vector<std::int64_t>{0, 1, 2});
  }
  SECTION("and makes no update where nothing teaches") {
    std::fill(w.reward.parameters().begin(), w.reward.parameters().end(), 1.0f);
    update = steps_of(1);
    const auto [seen, tokens] = once([](std::int64_t) { return prompts(10); });
    CHECK(seen["sampling/kept"] == 0);
    CHECK(seen.find("grad_norm") == nullptr);
    CHECK(update.optimiser.steps == 0);
    CHECK(tokens == 10 * 2 * 2 * 4);
  }
}

TEST_CASE("a penalty of length makes the reward of long responses smaller") {
  dapo algorithm;
  algorithm.overlong = {.max_length = 3, .buffer = 2};
  world w;
  rollout r;
  r.batch = all_responses(vocabulary);
  r.score.assign(16, 1.0f);
  for (const float s : group_detail::counted(algorithm, r)) CHECK(s == Approx(0.5));
}

TEST_CASE("greedy responses that are only compared with are sampled, too") {
  world w;
  std::int64_t tokens = 0;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.03);
  train_group(
      w.cpu, remax{}, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(10); },
      {.iterations = 3, .samples = 2, .minibatch = 16, .key = {1, 100}},
      [&](const iteration& i) { tokens = i.tokens; });
  CHECK(tokens == 3 * 10 * (2 + 1) * 2);
}

TEST_CASE("a group run that goes on from what it saved ends with the same bits") {
  world w;
  for (std::size_t i = 0; i < 16; ++i) w.reward.parameters()[i] = i % 5 == 0 ? 1.0f : 0.0f;
  const auto ask = [](std::int64_t i) { return prompts(static_cast<std::size_t>(20 + i)); };
  tabular_policy whole = w.reference, parts = w.reference;
  auto update = steps_of(0.03), part_update = update;
  std::int64_t tokens = 0, part_tokens = 0;
  on_policy_options options{.iterations = 5, .samples = 3, .epochs = 2, .minibatch = 16, .key = {1, 100}};
  train_group(w.cpu, dapo{}, whole, w.reference, w.reward, update, ask, options,
              [&](const iteration& i) { tokens = i.tokens; });
  for (const auto& [done, iterations] : {std::pair{0, 2}, std::pair{2, 5}}) {
    options.done = done;
    options.iterations = iterations;
    options.tokens_done = part_tokens;
    train_group(w.cpu, dapo{}, parts, w.reference, w.reward, part_update, ask, options,
                [&](const iteration& i) { part_tokens = i.tokens; });
  }
  CHECK(bits(whole.parameters()) == bits(parts.parameters()));
  CHECK(tokens == part_tokens);
}

TEST_CASE("an iteration stops updating when the policy has moved too far, a run when its observer says so") {
  world w;
  const auto updates = [&](double stop_kl, std::int64_t last) {
    tabular_policy policy = w.reference;
    auto update = steps_of(0.1);
    train_group(
        w.cpu, rloo{}, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(32); },
        {.iterations = 3, .samples = 2, .epochs = 5, .minibatch = 16, .key = {1, 100}, .stop_kl = stop_kl},
        [&](const iteration& i) { return i.number < last; });
    return update.optimiser.steps;
  };
  CHECK(updates(infinity, 3) == 60);
  CHECK(updates(infinity, 2) == 40);
  CHECK(updates(0.05, 3) < 30);
  CHECK(updates(0.05, 3) >= 3);
}

TEST_CASE("groups of one, no prompts and rewards that are not numbers are refused") {
  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.1);
  const auto refuse = [&](std::size_t n, std::int64_t samples, const char* message) {
    CHECK_THROWS_WITH(train_group(w.cpu, rloo{}, policy, w.reference, w.reward, update,
                                  [n](std::int64_t) { return prompts(n); }, {.iterations = 1, .samples = samples}),
                      message);
  };
  refuse(4, 1, "train_group: options.samples is 1, wants 2 or more: an advantage within a group of one is 0");
  refuse(0, 2, "collect: prompts has elements: 0, wants at least one");
  w.reward.parameters()[3] = std::numeric_limits<float>::quiet_NaN();
  refuse(400, 2, "collect: a reward is nan, wants finite numbers");
  CHECK(bits(policy.parameters()) == bits(w.reference.parameters()));
}

TEST_CASE("a greedy response whose reward is not a number is refused, not compared with") {
  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.1);
  // Rewards of the samples are fine: only the second question of an iteration, that about the greedy responses, goes wrong.
  struct {
    int questions = 0;
    void rewards(const responses&, std::span<float> out) {
      std::fill(out.begin(), out.end(), questions++ % 2 == 0 ? 1.0f : std::numeric_limits<float>::quiet_NaN());
    }
  } reward;
  CHECK_THROWS_WITH(train_group(w.cpu, remax{}, policy, w.reference, reward, update,
                                [](std::int64_t) { return prompts(4); }, {.iterations = 1, .samples = 2}),
                    "train_group: a reward is nan, wants finite numbers");
  CHECK(bits(policy.parameters()) == bits(w.reference.parameters()));
}
