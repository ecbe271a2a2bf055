// The loop with a critic at the optimum that is known in closed form, of a bandit and of a token MDP: PPO, RTO in all its
// modes, DRTO. What makes it exact: the price of KL is in the reward, so that at the optimum every response returns the same
// and no advantage, however it is whitened, clipped or weighed, pulls anywhere. The rate falls to 0, or Adam's noise stays.

#include <cmath>

#include "rlhf/algorithm/drto.hpp"
#include "rlhf/algorithm/ppo_max.hpp"
#include "rlhf/train/on_policy.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

constexpr double beta = 0.5;

template <class Algorithm, class... Guide>
statistics learn(world& w, const Algorithm& algorithm, tabular_policy& policy, Guide&&... guide) {
  constexpr std::int64_t iterations = 120, updates = 2 * iterations;
  parameter_update<cosine_schedule> update{{.rate = 0.05, .total = updates}, {{.weight_decay = 0}}, 1e9},
      critic_update{{.rate = 0.1, .total = updates}, {{.weight_decay = 0}}, 1e9};
  tabular_critic critic(policy.vocabulary(), policy.length());
  statistics seen;
  train_ppo(
      w.cpu, algorithm, policy, critic, w.reference, w.reward, update, critic_update,
      [](std::int64_t) { return prompts(512); },
      {.iterations = iterations, .epochs = 2, .minibatch = 512, .key = {1, 100}},
      [&](const iteration& i) { seen = *i.metrics; }, guide...);
  return seen;
}

/// A DPO policy: some way from the reference. Segments are of two tokens.
struct dpo_guide {
  tabular_policy model;

  explicit dpo_guide(const world& w) : model(w.reference) {
    const random_numbers numbers({9, 9});
    std::uint32_t i = 0;
    for (float& x : model.parameters()) x += static_cast<float>(numbers.normal({i++}) * 0.7);
  }
  void log_probs(const responses& r, std::span<float> out) { model.log_probs(r, out); }
  void segments(const responses& r, std::span<std::int32_t> out) const {
    std::size_t k = 0;
    for (std::int64_t i = 0; i < r.size(); ++i)
      for (std::size_t t = 0; t < r.response(i).size(); ++t) out[k++] = static_cast<std::int32_t>(t / 2);
  }
};

/// pi_ref e^((beta1 log pi_dpo / pi_ref + beta3 reward) / beta2), normalised: the optimum of RTO's rewards.
std::vector<double> guided(world& w, dpo_guide& guide, const rto_reward& how) {
  std::vector<double> p = distribution(w.reference);
  const std::vector<double> dpo = distribution(guide.model);
  for (std::size_t i = 0; i < p.size(); ++i) p[i] *= std::pow(dpo[i] / p[i], how.beta1 / how.beta2);
  return tilted(p, w.reward, how.beta2 / how.beta3);
}

}  // namespace

TEST_CASE("PPO reaches the optimum of reward less KL") {
  world w = bandit_or_tokens(3, 3);
  tabular_policy policy = w.reference;
  SECTION("as it is") {
    ppo algorithm;
    algorithm.reward.coefficient = beta;
    learn(w, algorithm, policy);
  }
  SECTION("with PPO-max's advantages") {
    ppo_max algorithm;
    algorithm.reward.coefficient = beta;
    learn(w, algorithm, policy);
  }
  CHECK(w.distance(w.reference, beta) > 0.4);
  CHECK(w.distance(policy, beta) < 1e-2);
}

TEST_CASE("RTO reaches the optimum of its rewards wherever the DPO policy's are paid") {
  world w = bandit_or_tokens(3, 3);
  dpo_guide guide(w);
  tabular_policy policy = w.reference;
  rto algorithm;
  algorithm.reward = {.beta1 = 0.3, .beta2 = beta, .beta3 = 0.8, .clip = infinity};
  const std::vector<double> best = guided(w, guide, algorithm.reward);
  SECTION("at each token") { algorithm.reward.mode = rto_mode::dense; }
  SECTION("at the ends of segments") { algorithm.reward.mode = rto_mode::semi; }
  SECTION("at the end") { algorithm.reward.mode = rto_mode::eos; }
  SECTION("and PPO's where they are taken back") {
    algorithm.reward.mode = rto_mode::shaping_only;
    learn(w, algorithm, policy, guide);
    CHECK(w.distance(policy, beta / 0.8) < 1e-2);
    CHECK(total_variation(best, w.best(beta / 0.8)) > 0.05);
    return;
  }
  learn(w, algorithm, policy, guide);
  CHECK(total_variation(distribution(w.reference), best) > 0.3);
  CHECK(total_variation(distribution(policy), best) < 1e-2);
}

TEST_CASE("RTO and DRTO with the DPO reward alone reach the DPO policy") {
  world w = bandit_or_tokens(3, 3);
  dpo_guide guide(w);
  tabular_policy policy = w.reference;
  const rto_reward reward{.beta1 = beta, .beta2 = beta, .beta3 = 0, .clip = infinity};
  SECTION("RTO") {
    rto algorithm;
    algorithm.reward = reward;
    learn(w, algorithm, policy, guide);
  }
  SECTION("DRTO") {
    drto algorithm;
    algorithm.reward = reward;
    algorithm.set.radius = 0.01;
    learn(w, algorithm, policy, guide);
  }
  CHECK(total_variation(distribution(w.reference), distribution(guide.model)) > 0.15);
  CHECK(total_variation(distribution(policy), distribution(guide.model)) < 1e-2);
}

TEST_CASE("DRTO reaches RTO's optimum, whatever it weighs") {
  // Where no advantage is left, no unit is worse than another. On the way there a wide set forgets good units: it only takes
  // longer.
  world w = bandit_or_tokens(3, 3);
  dpo_guide guide(w);
  tabular_policy policy = w.reference;
  drto algorithm;
  algorithm.reward = {.beta1 = 0.3, .beta2 = beta, .beta3 = 0.8, .clip = infinity};
  algorithm.set.radius = 0.01;
  algorithm.span = 2;
  SECTION("tokens") { algorithm.unit = robust_unit::token; }
  SECTION("spans") { algorithm.unit = robust_unit::span; }
  SECTION("responses") { algorithm.unit = robust_unit::response; }
  const statistics seen = learn(w, algorithm, policy, guide);
  CHECK(total_variation(distribution(policy), guided(w, guide, algorithm.reward)) < 1e-2);
  CHECK(seen["max_weight_ratio"] > 1);
}
