// DVPO: values learnt once, and the policies that each of its advantages leads to, which are known in closed form.

#include "rlhf/train/dvpo.hpp"

#include <cmath>

#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr double beta = 0.5;

/// The exact value of every prefix under a distribution over the responses: the root, first tokens, whole responses.
std::vector<double> exact_values(const std::vector<double>& p, const tabular_reward& reward) {
  std::vector<double> mass(21), v(21);
  for (std::size_t i = 0; i < 16; ++i)
    for (const std::size_t s : {std::size_t{0}, 1 + i / 4, 5 + i}) {
      mass[s] += p[i];
      v[s] += p[i] * reward.at(i);
    }
  for (std::size_t s = 0; s < 21; ++s) v[s] /= mass[s];
  return v;
}

/// pi(a | s) in proportion to ref(a | s) e^(V(sa) / beta), state by state.
std::vector<double> greedy_by_state(const std::vector<double>& ref, const std::vector<double>& v) {
  std::vector<double> p(16);
  double all = 0;
  for (std::size_t a = 0; a < 4; ++a) {
    double first = 0, inner = 0;
    for (std::size_t b = 0; b < 4; ++b) first += ref[4 * a + b];
    for (std::size_t b = 0; b < 4; ++b) inner += p[4 * a + b] = ref[4 * a + b] * std::exp(v[5 + 4 * a + b] / beta);
    const double weight = first * std::exp(v[1 + a] / beta);
    for (std::size_t b = 0; b < 4; ++b) p[4 * a + b] *= weight / inner;
    all += weight;
  }
  for (double& x : p) x /= all;
  return p;
}

template <class Term>
void run(world& w, basic_dvpo<Term> algorithm, tabular_critic& critic, tabular_policy& policy) {
  parameter_update<cosine_schedule> update{{.rate = 0.05, .total = 300}, {{.weight_decay = 0}}, 1e9};
  algorithm.whiten_advantages = false;
  train_dvpo(w.cpu, algorithm, policy, critic, w.reference, update, [](std::int64_t) { return prompts(1024); },
             {.iterations = 300, .minibatch = 1024, .key = {1, 100}});
}

}  // namespace

TEST_CASE("a global value learns the mean label of each prefix") {
  world w;
  labelled_responses data{w.reference.sample(prompts(2000), 1, {3, 3}), std::vector<float>(2000), {}};
  w.reward.rewards(data.response, data.label);
  std::vector<double> seen(16);
  for (std::int64_t i = 0; i < 2000; ++i)
    seen[static_cast<std::size_t>(data.response.response(i)[0] * 4 + data.response.response(i)[1])] += 1;
  const std::vector<double> exact = exact_values(seen, w.reward);
  tabular_critic critic(vocabulary, 3);
  auto update = steps_of(0.02);
  statistics metrics;
  for (const double lambda : {1.0, 0.0, 0.95}) {
    train_global_value(w.cpu, {.estimator = {.lambda = lambda}}, critic, update, data, {.batch = 2000, .epochs = 300},
                       [&](const progress& p) { metrics = *p.metrics; });
    for (std::size_t s = 0; s < 21; ++s) {
      CAPTURE(lambda, s);
      CHECK(static_cast<double>(critic.parameters()[s]) == Approx(exact[s]).margin(1e-2));
    }
    std::fill(critic.parameters().begin(), critic.parameters().end(), 0.0f);
    update = steps_of(0.02);
  }
  CHECK(metrics["grad_norm"] >= 0);
  CHECK(metrics.find("explained_variance") != nullptr);
}

TEST_CASE("a global value learns from pairs which prefixes win") {
  world w;
  preference_pairs pairs;
  const responses drawn = w.reference.sample(prompts(4000), 2, {4, 4});
  std::vector<float> score(8000);
  w.reward.rewards(drawn, score);
  for (std::int64_t i = 0; i < drawn.size(); i += 2) {
    const auto k = static_cast<std::size_t>(i);
    pairs.chosen.add(drawn, score[k] >= score[k + 1] ? i : i + 1);
    pairs.rejected.add(drawn, score[k] >= score[k + 1] ? i + 1 : i);
  }
  const labelled_responses data = label_pairs(pairs);
  CHECK(data.label.front() == 1);
  CHECK(data.label.back() == -1);
  tabular_critic critic(vocabulary, 3);
  auto update = steps_of(0.02);
  train_global_value(w.cpu, {}, critic, update, data, {.batch = 8000, .epochs = 200});
  CHECK(static_cast<double>(critic.parameters()[0]) == Approx(0).margin(1e-2));
  std::vector<double> wins(16), count(16);
  for (std::int64_t i = 0; i < data.response.size(); ++i) {
    const auto y = static_cast<std::size_t>(data.response.response(i)[0] * 4 + data.response.response(i)[1]);
    wins[y] += static_cast<double>(data.label[static_cast<std::size_t>(i)]);
    count[y] += 1;
  }
  for (std::size_t y = 0; y < 16; ++y)
    CHECK(static_cast<double>(critic.parameters()[5 + y]) == Approx(wins[y] / count[y]).margin(1e-2));
}

TEST_CASE("each advantage of a frozen value leads where it should") {
  world w;
  tabular_policy policy = w.reference;
  const std::vector<double> ref = distribution(w.reference), v = exact_values(ref, w.reward);
  tabular_critic critic(vocabulary, 3);
  for (std::size_t s = 0; s < 21; ++s) critic.parameters()[s] = static_cast<float>(v[s]);
  const kl_in_reward<k1> price{{}, beta};
  REQUIRE(total_variation(greedy_by_state(ref, v), w.best(beta)) > 0.02);
  SECTION("GAE with the value behind the end, lambda 1: the optimum of reward less KL") {
    run(w, dvpo{.reward = price, .lambda = 1}, critic, policy);
    CHECK(w.distance(policy, beta) < 1e-2);
  }
  SECTION("one step: each state's best answer to the frozen values") {
    run(w, dvpo{.mode = frozen_advantage::one_step, .reward = price}, critic, policy);
    CHECK(total_variation(distribution(policy), greedy_by_state(ref, v)) < 1e-2);
  }
  SECTION("the action's value, with the KL in the loss: the same") {
    run(w,
        basic_dvpo<kl_penalty<k2>>{
            .mode = frozen_advantage::action_value, .reward = {{}, 0}, .loss = {{}, {{}, beta}, {}}},
        critic, policy);
    CHECK(total_variation(distribution(policy), greedy_by_state(ref, v)) < 1e-2);
  }
  SECTION("as released, lambda 1: no action changes -V, so nothing but the KL pulls") {
    run(w, dvpo{.mode = frozen_advantage::released, .reward = price, .lambda = 1}, critic, policy);
    CHECK(total_variation(distribution(policy), ref) < 1e-2);
  }
}

TEST_CASE("of a bandit each advantage of a frozen value leads to the optimum, but for the released one") {
  world w(8, 1);
  tabular_policy policy = w.reference;
  tabular_critic critic(8, 2);
  for (std::size_t a = 0; a < 8; ++a) {
    critic.parameters()[1 + a] = static_cast<float>(w.reward.at(a));
    critic.parameters()[0] += static_cast<float>(distribution(w.reference)[a] * w.reward.at(a));
  }
  dvpo algorithm{.reward = {{}, beta}, .lambda = 1};
  SECTION("GAE") { algorithm.mode = frozen_advantage::gae; }
  SECTION("one step") { algorithm.mode = frozen_advantage::one_step; }
  SECTION("the action's value, with the KL in the loss") {
    run(w,
        basic_dvpo<kl_penalty<k2>>{
            .mode = frozen_advantage::action_value, .reward = {{}, 0}, .loss = {{}, {{}, beta}, {}}},
        critic, policy);
    CHECK(w.distance(policy, beta) < 1e-2);
    return;
  }
  SECTION("as released: the only state's value is the same whatever is done") {
    algorithm.mode = frozen_advantage::released;
    run(w, algorithm, critic, policy);
    CHECK(total_variation(distribution(policy), distribution(w.reference)) < 1e-2);
    return;
  }
  run(w, algorithm, critic, policy);
  CHECK(w.distance(policy, beta) < 1e-2);
}

TEST_CASE("the advantages of a frozen value in numbers") {
  reference_backend cpu;
  const std::vector<std::int64_t> offsets{0, 4};
  const std::vector<float> logp{0, 0, 0, 0}, value{0, 0.5f, 0.3f, 0.1f}, end{0.6f};
  const auto advantages = [&](frozen_advantage mode) {
    std::vector<float> shaped(4), a(4);
    or_throw(dvpo{.mode = mode, .whiten_advantages = false}.prepare(
        cpu, packed(offsets), frozen_value_inputs<float>{logp, logp, value, end}, shaped, a));
    return a;
  };
  const auto same = [](const std::vector<float>& a, const std::vector<double>& b) {
    for (std::size_t t = 0; t < 4; ++t) CHECK(static_cast<double>(a[t]) == Approx(b[t]).epsilon(1e-5));
  };
  same(advantages(frozen_advantage::released), {0.0437625, -0.48025, -0.295, -0.1});
  same(advantages(frozen_advantage::gae), {0.5581875, 0.06125, 0.275, 0.5});
  same(advantages(frozen_advantage::one_step), {0.5, -0.2, -0.2, 0.5});
  same(advantages(frozen_advantage::action_value), {0.5, 0.3, 0.1, 0.6});
}

TEST_CASE("frozen values are scaled over the batch or over each response") {
  world w;
  const responses batch = w.reference.sample(prompts(5), 1, {3, 3});
  tabular_critic critic(vocabulary, 3);
  for (std::size_t s = 0; s < 21; ++s) critic.parameters()[s] = static_cast<float>(s % 7);
  for (const value_scale scale : {value_scale::batch, value_scale::response}) {
    auto v = dvpo_detail::look(critic, batch);
    dvpo_detail::scale_values(w.cpu, scale, batch, v);
    double sum = 0, own = 0;
    for (const float x : v.value) sum += static_cast<double>(x);
    for (const float x : v.final_value) sum += static_cast<double>(x);
    own = static_cast<double>(v.value[0] + v.value[1] + v.final_value[0]);
    CHECK(sum == Approx(0).margin(1e-5));
    CHECK((std::abs(own) < 1e-5) == (scale == value_scale::response));
  }
}

TEST_CASE("DVPO runs that go on from what they saved end with the same bits") {
  world w;
  labelled_responses data{all_responses(vocabulary), std::vector<float>(16), {}};
  w.reward.rewards(data.response, data.label);
  tabular_critic critic(vocabulary, 3), part_critic = critic;
  auto value_update = steps_of(0.02), part_value_update = value_update;
  loop_options walk{.batch = 5, .epochs = 2, .key = {1, 1}};
  train_global_value(w.cpu, {}, critic, value_update, data, walk);
  train_global_value(w.cpu, {}, part_critic, part_value_update, data, walk,
                     [](const progress& p) { return p.step < 3; });
  walk.done = 3;
  train_global_value(w.cpu, {}, part_critic, part_value_update, data, walk);
  CHECK(bits(critic.parameters()) == bits(part_critic.parameters()));

  const auto ask = [](std::int64_t i) { return prompts(static_cast<std::size_t>(20 + i)); };
  tabular_policy whole = w.reference, parts = w.reference;
  auto update = steps_of(0.03), part_update = update;
  on_policy_options options{.iterations = 5, .epochs = 2, .minibatch = 8, .key = {1, 100}};
  train_dvpo(w.cpu, dvpo{.scale = value_scale::batch}, whole, critic, w.reference, update, ask, options);
  for (const auto& [done, iterations] : {std::pair{0, 2}, std::pair{2, 5}}) {
    options.done = done;
    options.iterations = iterations;
    train_dvpo(w.cpu, dvpo{.scale = value_scale::batch}, parts, critic, w.reference, part_update, ask, options);
  }
  CHECK(bits(whole.parameters()) == bits(parts.parameters()));
}

TEST_CASE("a global value refuses what it cannot learn from") {
  world w;
  tabular_critic critic(vocabulary, 3);
  auto update = steps_of(0.1);
  labelled_responses data{all_responses(vocabulary), std::vector<float>(15), {}};
  CHECK_THROWS_WITH(train_global_value(w.cpu, {}, critic, update, data, {}),
                    "train_global_value: data.label has 15 elements, wants 16");
  data.label.resize(16);
  CHECK_THROWS_WITH(train_global_value(w.cpu, {.passes = 0}, critic, update, data, {}),
                    "global_value: passes is 0, wants 1 or more");
}
