// DRTO: weights of the worst units on the actor's loss, and RTO without them.

#include "rlhf/algorithm/drto.hpp"
#include "rlhf/train/on_policy.hpp"
#include "support/catch.hpp"
#include "train/world.hpp"

using namespace rlhf;
using namespace rlhf_test;

namespace {

template <class Set>
basic_drto<Set> robust(Set set, robust_unit unit, std::int64_t span = 8) {
  basic_drto<Set> algorithm;
  algorithm.set = set;
  algorithm.unit = unit;
  algorithm.span = span;
  return algorithm;
}

template <class Algorithm>
std::vector<float> run(world& w, const Algorithm& algorithm, tabular_policy& guide) {
  tabular_policy policy = w.reference;
  tabular_critic critic(vocabulary, 2);
  auto update = steps_of(0.03), critic_update = steps_of(0.1);
  train_ppo(
      w.cpu, algorithm, policy, critic, w.reference, w.reward, update, critic_update,
      [](std::int64_t) { return prompts(1024); }, {.iterations = 3, .epochs = 2, .minibatch = 256, .key = {1, 100}},
      ignore_iteration{}, guide);
  return bits(policy.parameters());
}

}  // namespace

TEST_CASE("DRTO without a radius is RTO") {
  world w;
  tabular_policy guide = w.reference;
  for (std::size_t i = 0; i < 20; ++i) guide.parameters()[i] += 0.1f * static_cast<float>(i % 3);
  const std::vector<float> plain = run(w, rto{}, guide);
  for (const robust_unit unit : {robust_unit::token, robust_unit::span, robust_unit::response}) {
    const drto algorithm = robust(kl_ball{0}, unit);
    const std::vector<float> end = run(w, algorithm, guide);
    for (std::size_t i = 0; i < plain.size(); ++i) CHECK(end[i] == Approx(plain[i]).margin(2e-4));
  }
}

TEST_CASE("the loss of DRTO is that of its worst units") {
  reference_backend cpu;
  const std::vector<std::int64_t> offsets{0, 3, 5};
  const std::vector<float> logp{-1, -2, -0.5f, -1, -1}, advantage{1, -2, 0.5f, -1, 3};
  const auto call = [&](const auto& algorithm) {
    std::vector<float> loss(1), slope(5);
    or_throw(algorithm.policy(cpu, packed(offsets),
                              token_inputs<float>{.logp = logp, .old_logp = logp, .advantage = advantage},
                              token_outputs<float>{.loss = loss, .grad_logp = slope}));
    return std::pair{static_cast<double>(loss[0]), slope};
  };
  SECTION("tokens: the worst fifth is the token of advantage -2") {
    const auto [loss, slope] = call(robust(conditional_value_at_risk{0.2}, robust_unit::token));
    CHECK(loss == Approx(2));
    for (std::size_t t = 0; t < 5; ++t) CHECK(slope[t] == Approx(t == 1 ? 2 : 0).margin(1e-6));
  }
  SECTION("responses: the worst 3 of 5 tokens are the first one's, whose mean is 1/6") {
    const auto [loss, slope] = call(robust(conditional_value_at_risk{0.6}, robust_unit::response));
    CHECK(loss == Approx(1.0 / 6).epsilon(1e-5));
    for (std::size_t t = 0; t < 3; ++t) CHECK(slope[t] == Approx(-advantage[t] / 3).epsilon(1e-5));
    CHECK(slope[3] == 0);
  }
  SECTION("spans do not reach over the end of a response") {
    const auto [loss, slope] = call(robust(conditional_value_at_risk{0.4}, robust_unit::span, 2));
    CHECK(loss == Approx(0.5).epsilon(1e-5));  // tokens 0 and 1; token 2 alone has -0.5, the second response -1
    CHECK(slope[2] == 0);
  }
  SECTION("half robust is halfway to the mean") {
    auto halfway = robust(conditional_value_at_risk{0.2}, robust_unit::token);
    halfway.robustness = 0.5;
    const auto [loss, slope] = call(halfway);
    CHECK(loss == Approx(0.5 * 2 + 0.5 * -0.3));
  }
  SECTION("a span of nothing is refused") {
    CHECK_THROWS_WITH(call(robust(kl_ball{}, robust_unit::span, 0)), "drto: span is 0, wants 1 or more");
  }
}
