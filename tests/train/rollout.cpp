// Rollouts, the buffer that keeps versions apart, observers that look into them, and several reward models as one.

#include "rlhf/train/rollout.hpp"

#include <algorithm>
#include <cmath>

#include "rlhf/algorithm/grpo.hpp"
#include "rlhf/algorithm/rloo.hpp"
#include "rlhf/train/ensemble.hpp"
#include "rlhf/train/group.hpp"
#include "rlhf/train/on_policy.hpp"
#include "rlhf/train/process_reward.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

/// Samples only the likelier half of the tokens, and says so.
struct halved : tabular_policy {
  using tabular_policy::tabular_policy;
  void describe_sampling(const responses& r, std::span<float> logp, std::span<float> mass) {
    log_probs(r, logp);
    for (std::size_t t = 0; t < logp.size(); ++t) {
      mass[t] = 0.5f;
      logp[t] -= std::log(0.5f);
    }
  }
};

/// Draws at a temperature, and says so.
struct tempered : tabular_policy {
  using tabular_policy::tabular_policy;
  double temperature = 2;

  [[nodiscard]] responses sample(const prompt_list& prompts, std::int64_t n, random_key key) {
    return sample_mixture(*this, 1 / temperature, 0, prompts, n, key);
  }
  bool describe_sampling(const responses& r, std::span<float> logp, std::span<float> mass) {
    if (temperature == 1) return false;
    tabular_policy drawn = *this;
    for (float& x : drawn.parameters()) x /= static_cast<float>(temperature);
    drawn.log_probs(r, logp);
    std::fill(mass.begin(), mass.end(), 1.0f);
    return true;
  }
  void backward(std::span<const float> g) {
    tabular_policy::backward(g);
    seen = bits(gradient());
  }
  std::vector<float> seen;  ///< the last gradient
};

rollout sampled(world& w, std::size_t n, std::int64_t version) {
  return collect(w.reference, w.reference, w.reward, prompts(n), 1, {3, static_cast<std::uint64_t>(version)}, version);
}

}  // namespace

TEST_CASE("a buffer never mixes versions of the policy silently") {
  world w;
  rollout_buffer buffer;
  buffer.add(sampled(w, 3, 7));
  buffer.add(sampled(w, 2, 7));
  SECTION("of one version all come back, in order") {
    const rollout r = buffer.take(7);
    CHECK(r.batch.size() == 5);
    CHECK(r.old_logp.size() == 10);
    CHECK(r.version == std::vector<std::int64_t>(5, 7));
    CHECK(buffer.size() == 0);
  }
  SECTION("older ones are refused") {
    CHECK_THROWS_WITH(buffer.take(8), "rollout_buffer: the age of a sample is 1, wants 0");
    CHECK_THROWS_WITH(buffer.take(6),
                      "rollout_buffer: the age of a sample is -1, wants 0 or more: it is from a later policy");
    CHECK(buffer.size() == 5);
  }
  SECTION("or taken, where some age is allowed") {
    buffer.maximum_age = 2;
    buffer.add(sampled(w, 4, 9));
    const rollout r = buffer.take(9);
    CHECK(r.batch.size() == 9);
    CHECK(r.version.front() == 7);
    CHECK(r.version.back() == 9);
  }
  SECTION("or left out") {
    buffer.maximum_age = 2;
    buffer.drop_old = true;
    const rollout young = sampled(w, 4, 9);
    buffer.add(young);
    const rollout r = buffer.take(10);
    CHECK(r.version == std::vector<std::int64_t>(4, 9));
    CHECK(r.score == young.score);
    CHECK(r.old_logp == young.old_logp);
  }
}

TEST_CASE("rollouts record what was really sampled from, where the policy knows it") {
  world w;
  halved policy(1, vocabulary, 2);
  const rollout r = collect(policy, w.reference, w.reward, prompts(6), 2, {1, 1}, 0);
  REQUIRE(r.support == std::vector<float>(24, 0.5f));
  for (std::size_t t = 0; t < 24; ++t) CHECK(r.sampled_logp[t] == Approx(r.old_logp[t] + std::log(2.0f)));
  statistics seen;
  describe(r, {}, seen);
  CHECK(seen["sampling/support_mass"] == Approx(0.5));
  rollout mixed = sampled(w, 1, 0);
  mixed.append(r);
  CHECK(mixed.support.empty());
  CHECK(mixed.batch.size() == 13);
}

TEST_CASE("weights are of the policy over what was drawn from, and truncated mass is no ratio") {
  world w;
  statistics seen;
  halved policy(1, vocabulary, 2);
  rollout r = collect(policy, w.reference, w.reward, prompts(6), 2, {1, 1}, 0);
  for (const float x : sampling_weights(w.cpu, r, 2, seen)) CHECK(x == Approx(1));
  CHECK(seen["sampling/importance_sampling_ratio/mean"] == Approx(1));
  for (std::size_t t = 0; t < r.old_logp.size(); ++t)
    r.sampled_logp[t] = r.old_logp[t] + std::log(t % 2 == 0 ? 4.0f : 1.0f);
  r.support.assign(r.old_logp.size(), 0.5f);
  const std::vector<float> weight = sampling_weights(w.cpu, r, 1.5, seen);
  REQUIRE(weight.size() == 24);
  for (std::size_t t = 0; t < weight.size(); ++t) CHECK(weight[t] == Approx(t % 2 == 0 ? 0.5 : 1.5));  // 1/(4/2), [2]
  CHECK(sampling_weights(w.cpu, r, 0, seen).empty());
  r.sampled_logp = r.old_logp;
  CHECK(sampling_weights(w.cpu, r, 2, seen).empty());
  CHECK(sampling_weights(w.cpu, sampled(w, 3, 0), 2, seen).empty());
  tempered own(1, vocabulary, 2);
  own.temperature = 1;
  const rollout plain = collect(own, w.reference, w.reward, prompts(6), 2, {1, 1}, 0);
  CHECK(plain.sampled_logp == plain.old_logp);
  CHECK(plain.support == std::vector<float>(24, 1.0f));
  CHECK(collect(own, w.reference, w.reward, plain.batch, 0, drawn_by::others).support.empty());
}

TEST_CASE("the gradient of weighted samples of another temperature is the policy's own") {
  world w(vocabulary, 1);
  const auto start = [&] {
    tempered out(1, vocabulary, 1);
    std::copy(w.reference.parameters().begin(), w.reference.parameters().end(), out.parameters().begin());
    for (float& x : out.parameters()) x *= 3;
    return out;
  };
  // d E[reward] / d logits, exactly.
  tempered exact = start();
  const std::vector<double> p = distribution(exact);
  double mean = 0;
  for (std::size_t a = 0; a < p.size(); ++a) mean += p[a] * w.reward.at(a);
  const auto gap = [&](const auto& algorithm, double cap) {
    tempered policy = start();
    parameter_update<> update = steps_of(0);
    train_group(w.cpu, algorithm, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(256); },
                {.iterations = 1, .samples = 64, .minibatch = 16384, .key = {1, 100}, .weight_cap = cap});
    double sum = 0;
    for (std::size_t a = 0; a < p.size(); ++a)
      sum += std::pow(static_cast<double>(policy.seen[a]) + p[a] * (w.reward.at(a) - mean), 2);
    return std::sqrt(sum);
  };
  const auto both = [&](const auto& algorithm) {
    CHECK(gap(algorithm, 1e9) < 0.02);
    CHECK(gap(algorithm, 0) > 0.05);
  };
  SECTION("by tokens") { both(dr_grpo(1)); }
  SECTION("by whole responses") {
    rloo algorithm;
    algorithm.reward.coefficient = 0;
    both(algorithm);
  }
  SECTION("bad input") {
    tempered policy = start();
    parameter_update<> update = steps_of(0.05);
    CHECK_THROWS_WITH(train_group(w.cpu, rloo{}, policy, w.reference, w.reward, update,
                                  [](std::int64_t) { return prompts(2); }, {.samples = 2, .weight_cap = -1}),
                      "train_group: options.weight_cap is -1, wants 0 (no weights) or more");
    const std::vector<float> one{1};
    CHECK_THROWS_WITH(
        or_throw(rloo{}.policy(w.cpu, padded(1, 1),
                               token_inputs<float>{.logp = one, .old_logp = one, .advantage = one, .weight = one},
                               token_outputs<float>{})),
        "critic_free: weight has elements: 1, wants none: multiply the advantages");
  }
}

TEST_CASE("an observer may look at what was sampled, and a rollout knows the version that drew it") {
  world w;
  tabular_policy policy = w.reference;
  auto update = steps_of(0.05);
  struct {
    std::vector<std::int64_t> versions;
    double reward = 0;
    void sampled(const rollout& r) {
      versions.push_back(r.version.front());
      reward = r.mean_score();
    }
    void operator()(const iteration& i) const {
      if (i.reward != reward) throw std::runtime_error("another reward");
    }
  } observer;
  train_rebel(
      w.cpu, {}, policy, w.reference, w.reward, update, [](std::int64_t) { return prompts(8); },
      {.iterations = 3, .epochs = 2, .minibatch = 4, .key = {1, 100}}, observer);
  CHECK(observer.versions == std::vector<std::int64_t>{0, 4, 8});
}

TEST_CASE("an ensemble is a reward model") {
  world w;
  std::vector<tabular_reward> members(2, tabular_reward(vocabulary));
  for (std::size_t i = 0; i < 16; ++i) {
    members[0].parameters()[i] = static_cast<float>(w.reward.at(i)) + (i % 2 == 0 ? 1.0f : 0.0f);
    members[1].parameters()[i] = static_cast<float>(w.reward.at(i)) + (i % 2 == 1 ? 1.0f : 0.0f);
  }
  tabular_policy policy = w.reference;
  parameter_update<cosine_schedule> update{{.rate = 0.05, .total = 300}, {{.weight_decay = 0}}, 1e9};
  reward_ensemble careful(w.cpu, members, worst_case{});
  rloo algorithm;
  algorithm.reward.coefficient = 0.5;
  train_group(w.cpu, algorithm, policy, w.reference, careful, update, [](std::int64_t) { return prompts(512); },
              {.iterations = 300, .samples = 4, .minibatch = 2048, .key = {1, 100}});
  CHECK(w.distance(policy, 0.5) < 1e-2);  // the lower of the two is the true one
  CHECK(total_variation(distribution(policy), tilted(distribution(w.reference), members[0], 0.5)) > 0.1);
  CHECK_THROWS_WITH((reward_ensemble(w.cpu, std::span<tabular_reward>(), worst_case{})),
                    "reward_ensemble: members has elements: 0, wants at least one");
}

TEST_CASE("the members of an ensemble learn from the same pairs in orders of their own, and can go on") {
  world w;
  preference_pairs pairs;
  const responses drawn = w.reference.sample(prompts(60), 2, {4, 4});
  for (std::int64_t i = 0; i < drawn.size(); i += 2) {
    pairs.chosen.add(drawn, i);
    pairs.rejected.add(drawn, i + 1);
  }
  using updates = std::vector<parameter_update<>>;
  std::vector<tabular_reward> whole(3, tabular_reward(vocabulary)), parts = whole;
  updates own(3, steps_of(0.05)), part_own = own;
  loop_options options{.batch = 25, .epochs = 2, .key = {1, 1}};
  std::vector<std::int64_t> steps, part_steps;
  const auto note = [](std::vector<std::int64_t>& to, std::int64_t last) {
    return [&to, last](const progress& p) {
      to.push_back(p.step);
      CHECK(p.steps == 18);
      return p.step < last;
    };
  };
  train_reward_ensemble(w.cpu, std::span(whole), std::span(own), pairs, options, note(steps, 99));
  CHECK(steps.size() == 18);
  CHECK(bits(whole[0].parameters()) != bits(whole[1].parameters()));
  train_reward_ensemble(w.cpu, std::span(parts), std::span(part_own), pairs, options, note(part_steps, 8));
  options.done = 8;
  train_reward_ensemble(w.cpu, std::span(parts), std::span(part_own), pairs, options, note(part_steps, 99));
  CHECK(steps == part_steps);
  for (std::size_t k = 0; k < 3; ++k) CHECK(bits(whole[k].parameters()) == bits(parts[k].parameters()));
  CHECK_THROWS_WITH(train_reward_ensemble(w.cpu, std::span(parts), std::span(part_own).first(2), pairs, options),
                    "train_reward_ensemble: updates has 2 elements, wants 3");
  CHECK_THROWS_WITH(train_reward_ensemble(w.cpu, std::span(parts), std::span(part_own), preference_pairs{}, options),
                    "train_reward_ensemble: pairs has elements: 0, wants at least one");
}

TEST_CASE("a process reward model learns what prefixes are worth") {
  world w;
  // First tokens have a label each, whole responses theirs, but for every third.
  const float none = std::numeric_limits<float>::quiet_NaN();
  labelled_steps data{all_responses(vocabulary), {}};
  for (std::size_t i = 0; i < 16; ++i) {
    data.label.push_back(0.2f * static_cast<float>(i / 4) + 0.1f);
    data.label.push_back(i % 3 == 0 ? none : 0.05f * static_cast<float>(i) + 0.1f);
  }
  tabular_critic model(vocabulary, 3);
  auto update = steps_of(0.05);
  train_process_rewards(w.cpu, model, update, data, {.batch = 16, .epochs = 800, .key = {1, 1}});
  const auto chance = [&](std::size_t state) { return sigmoid(static_cast<double>(model.parameters()[state])); };
  CHECK(model.parameters()[0] == 0);
  for (std::size_t i = 0; i < 16; ++i) {
    CHECK(chance(1 + i / 4) == Approx(static_cast<double>(data.label[2 * i])).margin(5e-3));
    if (i % 3 == 0)
      CHECK(model.parameters()[5 + i] == 0);
    else
      CHECK(chance(5 + i) == Approx(static_cast<double>(data.label[2 * i + 1])).margin(5e-3));
  }
  data.label.pop_back();
  CHECK_THROWS_WITH(train_process_rewards(w.cpu, model, update, data, {}),
                    "train_process_rewards: data.label has 31 elements, wants 32");
}
