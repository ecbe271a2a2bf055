// VinePPO: values of prefixes from rollouts, and the policy gradient that they give.

#include "rlhf/train/prefix.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr double beta = 0.5;

/// The mean reward of the responses that begin with a token, and of all.
std::vector<double> values(world& w) {
  const std::vector<double> p = distribution(w.reference);
  std::vector<double> mass(5), v(5);
  for (std::size_t i = 0; i < 16; ++i)
    for (const std::size_t s : {std::size_t{0}, 1 + i / 4}) {
      mass[s] += p[i];
      v[s] += p[i] * w.reward.at(i);
    }
  for (std::size_t s = 0; s < 5; ++s) v[s] /= mass[s];
  return v;
}

}  // namespace

TEST_CASE("values of prefixes are the means of what follows them, each state once") {
  world w;
  const response_steps steps(w.reference.sample(prompts(200), 1, {3, 3}), every_n_tokens{});
  REQUIRE(steps.prefixes.size() == 5);  // the prompt, and each first token
  vineppo algorithm{.rollouts = 20000};
  const state_values found = estimate_values(w.cpu, algorithm, w.reference, w.reference, w.reward, steps, {4, 4});
  const std::vector<double> exact = values(w);
  for (std::size_t s = 0; s < 5; ++s) {
    const std::size_t state = steps.begun[s] == 0 ? 0 : 1 + static_cast<std::size_t>(steps.prefixes[s].back());
    CHECK(static_cast<double>(found.value[s]) ==
          Approx(exact[state]).margin(4 * std::sqrt(static_cast<double>(found.variance[s]))));
    CHECK(found.variance[s] < 1e-3f);
  }
  CHECK(found.tokens == 20000 * (2 + 4));
}

TEST_CASE("the variance of a value falls as 1 / K") {
  world w;
  const response_steps steps(w.reference.sample(prompts(1), 1, {3, 3}), every_n_tokens{.n = 2});
  REQUIRE(steps.prefixes.size() == 1);
  const double exact = values(w)[0];
  const auto error_of = [&](std::int64_t k) {
    double sum = 0;
    for (std::uint64_t seed = 0; seed < 800; ++seed) {
      const auto found =
          estimate_values(w.cpu, vineppo{.rollouts = k}, w.reference, w.reference, w.reward, steps, {seed, 1});
      sum += std::pow(static_cast<double>(found.value[0]) - exact, 2) / 800;
    }
    return sum;
  };
  CHECK(std::log(error_of(4) / error_of(64)) / std::log(16.0) == Approx(1).margin(0.12));
}

TEST_CASE("VinePPO reaches the optimum of reward less KL when the KL is in its returns") {
  world w = bandit_or_tokens();
  tabular_policy policy = w.reference;
  parameter_update<cosine_schedule> update{{.rate = 0.05, .total = 400}, {{.weight_decay = 0}}, 1e9};
  vineppo algorithm{.kl_in_return = beta, .whiten_advantages = false};
  algorithm.penalty.term.coefficient = 0;
  statistics seen;
  SECTION("token by token") {
    train_vineppo(
        w.cpu, algorithm, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(512); },
        every_n_tokens{}, {.iterations = 400, .minibatch = 512, .key = {1, 100}},
        [&](const iteration& i) { seen = *i.metrics; });
    CHECK(seen["vine/states"] == (w.reference.length() == 1 ? 1 : 5));
  }
  SECTION("only the value of the prompt: REINFORCE with a baseline") {
    algorithm.max_steps = 1;
    train_vineppo(
        w.cpu, algorithm, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(512); },
        steps_after{{-1}}, {.iterations = 400, .minibatch = 512, .key = {1, 100}},
        [&](const iteration& i) { seen = *i.metrics; });
    CHECK(seen["vine/states"] == 1);
  }
  CHECK(w.distance(policy, beta) < 1e-2);
}

TEST_CASE("VinePPO as published raises the reward, and its penalty is felt") {
  world w;
  const auto run = [&](double coefficient) {
    tabular_policy policy = w.reference;
    auto update = steps_of(0.05);
    vineppo algorithm;
    algorithm.penalty.term.coefficient = coefficient;
    double reward = 0, kl = 0;
    train_vineppo(
        w.cpu, algorithm, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(64); },
        every_n_tokens{}, {.iterations = 60, .samples = 4, .epochs = 2, .minibatch = 64, .key = {1, 100}},
        [&](const iteration& i) {
          reward = i.reward;
          kl = i.kl;
        });
    return std::pair{reward, kl};
  };
  const auto free = run(1e-4), bound = run(3);
  double best = -1e9;
  for (std::size_t i = 0; i < 16; ++i) best = std::max(best, w.reward.at(i));
  CHECK(free.first > best - 0.05);
  CHECK(bound.second < free.second / 2);
}

TEST_CASE("the advantages of a response add up to its score less the value of its prompt") {
  world w;
  const responses batch = w.reference.sample(prompts(30), 1, {3, 3});
  const response_steps steps(batch, every_n_tokens{});
  std::vector<float> value, score(30), advantage(60);
  w.reward.rewards(batch, score);
  for (const std::int64_t s : steps.state) value.push_back(static_cast<float>(s) * 0.25f - 0.3f);
  const vineppo algorithm{.whiten_advantages = false};
  or_throw(algorithm.prepare(w.cpu, batch.layout(), vine_inputs<float>{packed(steps.offsets), value, score, steps.step},
                             advantage));
  for (std::size_t i = 0; i < 30; ++i)
    CHECK(advantage[2 * i] + advantage[2 * i + 1] == Approx(score[i] - value[2 * i]).margin(1e-6));
}

TEST_CASE("steps are cut where they should be, and refused where they cannot") {
  responses batch;
  const std::int32_t prompt[] = {7}, response[] = {1, 2, 9, 3, 9, 9};
  batch.add(prompt, response);
  CHECK(steps_after{{9}}(batch, 0) == std::vector<std::int64_t>{0, 3, 5});
  CHECK(every_n_tokens{4}(batch, 0) == std::vector<std::int64_t>{0, 4});
  const response_steps steps(batch, steps_after{{9}}, 2);
  CHECK(steps.step == std::vector<std::int32_t>{0, 0, 0, 1, 1, 2});
  CHECK(steps.state == std::vector<std::int64_t>{0, 1, -1});
  CHECK(steps.prefixes[1] == std::vector<std::int32_t>{7, 1, 2, 9});
  responses continued;
  const std::int32_t more[] = {4};
  for (const auto& prefix : steps.prefixes) continued.add(prefix, more);
  const responses whole = steps.whole(continued, 1);
  CHECK(whole.prompt(1).size() == 1);
  CHECK(std::vector<std::int32_t>(whole.response(1).begin(), whole.response(1).end()) ==
        std::vector<std::int32_t>{1, 2, 9, 4});
  const auto cut = [&](std::vector<std::int64_t> at) {
    return response_steps(batch, [&](const responses&, std::int64_t) { return at; });
  };
  const std::string range = "rising numbers from 0, below the length of the response";
  CHECK_THROWS_WITH(cut({1}), "response_steps: where a step begins is 1, wants " + range);
  CHECK_THROWS_WITH(cut({0, 6}), "response_steps: where a step begins is 6, wants " + range);
  CHECK_THROWS_WITH(cut({}), "response_steps: a response has steps: 0, wants at least one");
  CHECK_THROWS_WITH(every_n_tokens{0}(batch, 0), "every_n_tokens: n is 0, wants 1 or more");
}

TEST_CASE("a VinePPO run that goes on from what it saved ends with the same bits") {
  world w;
  const auto ask = [](std::int64_t i) { return prompts(static_cast<std::size_t>(20 + i)); };
  tabular_policy whole = w.reference, parts = w.reference;
  auto update = steps_of(0.03), part_update = update;
  std::int64_t tokens = 0, part_tokens = 0;
  on_policy_options options{.iterations = 5, .epochs = 2, .minibatch = 8, .key = {1, 100}};
  train_vineppo(w.cpu, vineppo{}, whole, w.reference, w.reward, update, ask, every_n_tokens{}, options,
                [&](const iteration& i) { tokens = i.tokens; });
  for (const auto& [done, iterations] : {std::pair{0, 2}, std::pair{2, 5}}) {
    options.done = done;
    options.iterations = iterations;
    options.tokens_done = part_tokens;
    train_vineppo(w.cpu, vineppo{}, parts, w.reference, w.reward, part_update, ask, every_n_tokens{}, options,
                  [&](const iteration& i) { part_tokens = i.tokens; });
  }
  CHECK(bits(whole.parameters()) == bits(parts.parameters()));
  CHECK(tokens == part_tokens);
}

namespace {

/// Tokens 0 and 1, each drawn apart from all others, until a response has so many: it says itself that a prefix is a prompt.
struct endless_policy {
  std::int64_t length;
  std::vector<float> odds{0.3f}, slope{0};
  std::vector<std::int32_t> last{};

  std::span<float> parameters() { return odds; }
  std::span<float> gradient() { return slope; }
  void log_probs(const responses& r, std::span<float> out) {
    last.clear();
    for (std::int64_t i = 0; i < r.size(); ++i)
      for (const std::int32_t token : r.response(i)) {
        out[last.size()] = static_cast<float>(log_sigmoid(static_cast<double>(token == 1 ? odds[0] : -odds[0])));
        last.push_back(token);
      }
  }
  void backward(std::span<const float> g) {
    const float p = static_cast<float>(sigmoid(static_cast<double>(odds[0])));
    for (std::size_t i = 0; i < last.size(); ++i) slope[0] += g[i] * (last[i] == 1 ? 1 - p : -p);
  }
  responses sample(const prompt_list& prompts, std::int64_t n, random_key key) {
    return draw(prompts, n, key, std::vector<std::int64_t>(prompts.size(), length));
  }

 protected:
  responses draw(const prompt_list& prompts, std::int64_t n, random_key key, std::span<const std::int64_t> most) {
    const random_numbers numbers(key);
    responses out;
    for (std::uint32_t p = 0; p < prompts.size(); ++p)
      for (std::uint32_t s = 0; s < n; ++s) {
        std::vector<std::int32_t> tokens;
        for (std::uint32_t t = 0; t < most[p]; ++t)
          tokens.push_back(numbers.uniform({p, s, t}) < sigmoid(static_cast<double>(odds[0])) ? 1 : 0);
        out.add(prompts[p], tokens);
      }
    return out;
  }
};

/// One that can stop earlier.
struct stopping_policy : endless_policy {
  responses sample_at_most(const prompt_list& prompts, std::int64_t n, random_key key,
                           std::span<const std::int64_t> most) {
    return draw(prompts, n, key, most);
  }
};
static_assert(!bounded_sampling_policy<endless_policy> && bounded_sampling_policy<stopping_policy>);

/// The number of ones, and how long the longest response was.
struct ones {
  std::size_t longest = 0;
  void rewards(const responses& r, std::span<float> out) {
    for (std::int64_t i = 0; i < r.size(); ++i) {
      const auto y = r.response(i);
      longest = std::max(longest, y.size());
      out[static_cast<std::size_t>(i)] = static_cast<float>(std::count(y.begin(), y.end(), 1));
    }
  }
};

}  // namespace

TEMPLATE_TEST_CASE("a rollout from within a response has what is left of its length", "", endless_policy,
                   stopping_policy) {
  reference_backend cpu;
  TestType policy{6}, start = policy;
  ones reward;
  const response_steps steps(policy.sample(prompts(3), 1, {3, 3}), every_n_tokens{4});
  REQUIRE(steps.prefixes.size() >= 2);
  vineppo algorithm{.rollouts = 40000, .max_length = 6};
  const state_values found = estimate_values(cpu, algorithm, policy, start, reward, steps, {4, 4});
  CHECK(reward.longest == 6);
  const double p = sigmoid(static_cast<double>(policy.odds[0]));
  std::int64_t left = 0;
  for (std::size_t s = 0; s < steps.prefixes.size(); ++s) {
    const auto before = steps.prefixes[s].end() - steps.begun[s];
    const auto room = static_cast<double>(6 - steps.begun[s]);
    // What is there already, and each token still to come.
    CHECK(static_cast<double>(found.value[s]) ==
          Approx(static_cast<double>(std::count(before, steps.prefixes[s].end(), 1)) + room * p)
              .margin(4 * std::sqrt(room * p * (1 - p) / 40000)));
    left += 6 - steps.begun[s];
  }
  // Who cannot stop has drawn whole responses.
  const auto states = static_cast<std::int64_t>(steps.prefixes.size());
  CHECK(found.tokens == 40000 * (bounded_sampling_policy<TestType> ? left : 6 * states));
  // Without the bound it goes on for a whole response.
  algorithm.rollouts = 1;
  algorithm.max_length = 0;
  (void)estimate_values(cpu, algorithm, policy, start, reward, steps, {4, 4});
  CHECK(reward.longest == 10);
  algorithm.max_length = 4;
  CHECK_THROWS_WITH(
      estimate_values(cpu, algorithm, policy, start, reward, steps, {4, 4}),
      "response_steps: max_length is 4, wants more than the tokens of a response before any of its steps");
}

TEMPLATE_TEST_CASE("VinePPO's loop bounds its rollouts by the length of a response", "", endless_policy,
                   stopping_policy) {
  reference_backend cpu;
  TestType policy{5}, start = policy;
  ones reward;
  auto update = steps_of(0.05);
  std::int64_t tokens = 0;
  const auto run = [&](std::int64_t max_length) {
    train_vineppo(
        cpu, vineppo{.rollouts = 2, .max_length = max_length}, policy, start, reward, update,
        [](std::int64_t) { return prompts(8); }, every_n_tokens{2}, {.iterations = 3, .key = {1, 100}},
        [&](const iteration& i) { tokens = i.tokens; });
  };
  run(5);
  CHECK(reward.longest == 5);
  CHECK(policy.odds[0] > start.odds[0]);  // ones are paid
  CHECK(tokens > 3 * 8 * 5);
  run(0);
  CHECK(reward.longest == 9);
  CHECK_THROWS_WITH(run(-1), "vineppo: max_length is -1, wants 0 (as the policy says) or more");
}

TEST_CASE("what is cut is what was not drawn: a policy that can stop gives the same bits") {
  const auto learned = []<class Policy>(Policy policy) {
    reference_backend cpu;
    Policy start = policy;
    ones reward;
    auto update = steps_of(0.05);
    train_vineppo(cpu, vineppo{.rollouts = 2, .max_length = 5}, policy, start, reward, update,
                  [](std::int64_t) { return prompts(8); }, every_n_tokens{2}, {.iterations = 3, .key = {1, 100}});
    return policy.odds;
  };
  CHECK(learned(endless_policy{5}) == learned(stopping_policy{{5}}));
}
