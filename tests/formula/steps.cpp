// Estimators from transitions, from values alone, and with numbers of their own for each token; steps and their tokens.

#include <algorithm>

#include "formula/support.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/driver/steps.hpp"
#include "rlhf/objective/kl.hpp"

namespace {

using test::infinity;
using test::not_a_number;
using numbers = std::vector<double>;

constexpr std::int64_t rows = 9, width = 13;

/// Transitions with gaps, garbage outside the mask, ends inside the rows, next values that are nobody's value.
struct transitions {
  numbers reward, value, next_value, logp, old_logp, gamma, lambda, bootstrap;
  std::vector<std::uint8_t> mask, done;

  explicit transitions(unsigned seed) {
    const auto b = test::padded_batch(seed, rows, width);
    std::mt19937 random(seed);
    mask = b.mask;
    reward = b.advantage;
    value = b.entropy;
    logp = b.logp;
    old_logp = b.old_logp;
    next_value = test::uniform(random, mask.size(), -1, 1);
    gamma = test::uniform(random, mask.size(), 0, 1);
    lambda = test::uniform(random, mask.size(), 0, 1);
    bootstrap = test::uniform(random, rows, -1, 1);
    for (std::size_t i = 0; i < mask.size(); ++i) {
      done.push_back(random() % 5 == 0 ? 1 : 0);
      if (mask[i] == 0) next_value[i] = gamma[i] = lambda[i] = i % 2 == 0 ? not_a_number : infinity;
    }
  }
  [[nodiscard]] rlhf::advantage_inputs<double> inputs() const {
    rlhf::advantage_inputs<double> in;
    in.reward = reward;
    in.value = value;
    in.mask = mask;
    in.bootstrap = bootstrap;
    in.next_value = next_value;
    in.done = done;
    in.logp = logp;
    in.old_logp = old_logp;
    in.gamma = gamma;
    in.lambda = lambda;
    return in;
  }
  /// Slots of the valid tokens of a row.
  [[nodiscard]] std::vector<std::size_t> tokens(std::int64_t row) const {
    std::vector<std::size_t> out;
    for (std::int64_t i = row * width; i < (row + 1) * width; ++i)
      if (mask[static_cast<std::size_t>(i)] != 0) out.push_back(static_cast<std::size_t>(i));
    return out;
  }
};

struct result {
  numbers advantage, returns;
};
template <class Estimator>
result run(const Estimator& estimator, const rlhf::advantage_inputs<double>& in,
           const rlhf::layout<>& sequences = rlhf::padded(rows, width)) {
  rlhf::reference_backend backend;
  const auto n = static_cast<std::size_t>(sequences.tokens);
  result r{numbers(n, 99), numbers(n, 99)};
  REQUIRE(rlhf::advantage_estimate{estimator}(backend, sequences, in,
                                              rlhf::advantage_outputs<double>{r.advantage, r.returns}));
  return r;
}
void check_zeros(const transitions& x, const result& r) {
  for (std::size_t i = 0; i < x.mask.size(); ++i)
    if (x.mask[i] == 0) CHECK((test::is_plain_zero(r.advantage[i]) && test::is_plain_zero(r.returns[i])));
}
void check_near(const numbers& a, const numbers& b, double tolerance = 1e-12) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == Approx(b[i]).epsilon(tolerance).margin(tolerance));
}

/// Sum over n-step returns with weights (1 - lambda) lambda^(n-1): TD(lambda) as it is defined, not as it is computed.
double lambda_return(const transitions& x, const std::vector<std::size_t>& at, std::size_t t, double gamma,
                     double lambda) {
  double total = 0, rewards = 0, discount = 1, weight = 1;
  for (std::size_t k = t; k < at.size(); ++k) {
    rewards += discount * x.reward[at[k]];
    if (x.done[at[k]] != 0) return total + weight * rewards;
    discount *= gamma;
    const double n_step = rewards + discount * x.next_value[at[k]];
    const bool last = k + 1 == at.size();
    total += weight * (last ? 1 : 1 - lambda) * n_step;
    weight *= lambda;
  }
  return total;
}

}  // namespace

TEST_CASE("TD(lambda) is the weighted sum of n-step returns") {
  const transitions x(91);
  for (const double gamma : {1.0, 0.9, 0.0})
    for (const double lambda : {0.0, 0.7, 1.0}) {
      const auto r = run(rlhf::td_lambda{gamma, lambda}, x.inputs());
      for (std::int64_t row = 0; row < rows; ++row) {
        const auto at = x.tokens(row);
        for (std::size_t t = 0; t < at.size(); ++t) {
          const double want = lambda_return(x, at, t, gamma, lambda);
          CHECK(r.returns[at[t]] == Approx(want).epsilon(1e-12).margin(1e-13));
          CHECK(r.advantage[at[t]] == Approx(want - x.value[at[t]]).epsilon(1e-12).margin(1e-13));
        }
      }
      check_zeros(x, r);
    }
}

TEST_CASE("TD(lambda) without next values or ends is GAE") {
  const transitions x(92);
  auto in = x.inputs();
  in.next_value = {};
  in.done = {};
  for (const double lambda : {0.0, 0.7, 1.0}) {
    const auto a = run(rlhf::td_lambda{0.9, lambda}, in), b = run(rlhf::gae{0.9, lambda}, in);
    check_near(a.returns, b.returns);
    check_near(a.advantage, b.advantage);
  }
}

TEST_CASE("V-trace from its sums") {
  const transitions x(93);
  const double gamma = 0.9, rho_bar = 1.1, c_bar = 0.8, lambda = 0.95;
  const auto r = run(rlhf::vtrace{gamma, rho_bar, c_bar, lambda}, x.inputs());
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto at = x.tokens(row);
    const auto rho = [&](std::size_t t) { return std::min(rho_bar, std::exp(x.logp[at[t]] - x.old_logp[at[t]])); };
    const auto go = [&](std::size_t t) { return x.done[at[t]] != 0 ? 0.0 : gamma; };
    const auto target = [&](std::size_t t) {  // V + sum over k of the product of discounts and c, times rho delta
      double v = x.value[at[t]], weight = 1;
      for (std::size_t k = t; k < at.size(); ++k) {
        v += weight * rho(k) * (x.reward[at[k]] + go(k) * x.next_value[at[k]] - x.value[at[k]]);
        weight *= go(k) * lambda * std::min(c_bar, std::exp(x.logp[at[k]] - x.old_logp[at[k]]));
      }
      return v;
    };
    for (std::size_t t = 0; t < at.size(); ++t) {
      CHECK(r.returns[at[t]] == Approx(target(t)).epsilon(1e-12).margin(1e-13));
      const double next = t + 1 < at.size() ? target(t + 1) : x.next_value[at[t]];
      const double want = rho(t) * (x.reward[at[t]] + go(t) * next - x.value[at[t]]);
      CHECK(r.advantage[at[t]] == Approx(want).epsilon(1e-12).margin(1e-13));
    }
  }
  check_zeros(x, r);
}

TEST_CASE("V-trace on policy is TD(1), and a policy that never does what was done learns nothing from it") {
  const transitions x(94);
  auto in = x.inputs();
  in.next_value = {};  // where the next value is the next step's the targets telescope
  in.old_logp = x.logp;
  const auto a = run(rlhf::vtrace{.gamma = 0.9}, in), b = run(rlhf::td_lambda{0.9, 1}, in);
  check_near(a.returns, b.returns);
  check_near(a.advantage, b.advantage);
  numbers never(x.logp.size(), -infinity);
  in.old_logp = x.old_logp;
  in.logp = never;
  const auto nothing = run(rlhf::vtrace{}, in);
  for (std::size_t i = 0; i < x.mask.size(); ++i)
    if (x.mask[i] != 0) CHECK((nothing.advantage[i] == 0 && nothing.returns[i] == x.value[i]));
  // A ratio that overflows is bounded.
  numbers always(x.logp.size(), 0), surely_not(x.logp.size(), -750);
  in.logp = always;
  in.old_logp = surely_not;
  check_near(run(rlhf::vtrace{.gamma = 0.9}, in).returns, b.returns);
}

TEST_CASE("a discount and a lambda for each token") {
  transitions x(95);
  auto in = x.inputs();
  const auto r = run(rlhf::varying_gae{}, in);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto at = x.tokens(row);
    for (std::size_t t = 0; t < at.size(); ++t) {
      double want = 0, weight = 1;
      for (std::size_t k = t; k < at.size(); ++k) {
        const double next = k + 1 < at.size() ? x.value[at[k + 1]] : x.bootstrap[static_cast<std::size_t>(row)];
        want += weight * (x.reward[at[k]] + x.gamma[at[k]] * next - x.value[at[k]]);
        weight *= x.gamma[at[k]] * x.lambda[at[k]];
      }
      CHECK(r.advantage[at[t]] == Approx(want).epsilon(1e-12).margin(1e-13));
      CHECK(r.returns[at[t]] == Approx(want + x.value[at[t]]).epsilon(1e-12).margin(1e-13));
    }
  }
  check_zeros(x, r);
  // Equal numbers: gae, to the last bit.
  x.gamma.assign(x.gamma.size(), 0.9);
  x.lambda.assign(x.lambda.size(), 0.5);
  const auto same = run(rlhf::varying_gae{}, x.inputs()), plain = run(rlhf::gae{0.9, 0.5}, x.inputs());
  check_near(same.advantage, plain.advantage);
  check_near(same.returns, plain.returns);
}

TEST_CASE("the lambda of a length") {
  CHECK(rlhf::length_adaptive_lambda{}(100) == Approx(0.8));
  CHECK(rlhf::length_adaptive_lambda{.alpha = 1}(4) == 0.75);
  CHECK(rlhf::length_adaptive_lambda{}(20) == 0);  // a reach of one token: TD(0)
  CHECK(rlhf::length_adaptive_lambda{}(0) == 0);
}

TEST_CASE("ReMax: the greedy response's reward is taken from the advantages, not from the returns") {
  const transitions x(96);
  auto in = x.inputs();
  in.value = {};
  in.bootstrap = {};
  const auto plain = run(rlhf::discounted_return{}, in);
  in.baseline = x.bootstrap;
  const auto r = run(rlhf::discounted_return{}, in);
  CHECK(r.returns == plain.returns);
  for (std::size_t i = 0; i < x.mask.size(); ++i)
    if (x.mask[i] != 0)
      CHECK(r.advantage[i] == Approx(plain.returns[i] - x.bootstrap[i / width]).epsilon(1e-13).margin(1e-14));
  check_zeros(x, r);
}

TEST_CASE("VinePPO: steps take the difference of their values, the last one the score") {
  rlhf::advantage_inputs<double> in;
  const numbers value = {4.0 / 9, 6.0 / 9, 3.0 / 9}, score = {1};
  in.value = value;
  in.bootstrap = score;
  const auto r = run(rlhf::step_advantage{}, in, rlhf::padded(1, 3));
  check_near(r.advantage, {2.0 / 9, -3.0 / 9, 6.0 / 9}, 1e-15);
  CHECK(r.returns == value);

  // Values that were not estimated, behind the last estimate and between two; garbage behind the last step.
  const numbers holes = {0.5, not_a_number, 0.25, not_a_number, not_a_number, 123, not_a_number, not_a_number};
  const std::vector<std::uint8_t> steps = {1, 1, 1, 1, 1, 0, 0, 0};
  in.value = holes;
  in.mask = steps;
  const auto h = run(rlhf::step_advantage{}, in, rlhf::padded(1, 8));
  CHECK(h.advantage == numbers{-0.25, 0, 0.75, 0, 0, 0, 0, 0});
  CHECK(h.returns == numbers{0.5, 0.25, 0.25, 1, 1, 0, 0, 0});
  double sum = 0;
  for (const double a : h.advantage) sum += a;
  CHECK(sum == Approx(1 - 0.5));  // the score less the value of the prompt
}

TEST_CASE("DVPO: frozen values, with and without a value behind the end") {
  rlhf::advantage_inputs<double> in;
  const numbers value = {0, 0.5, 0.3, 0.1}, end = {0.6};
  in.value = value;
  CHECK(run(rlhf::action_value{}, in, rlhf::padded(1, 4)).advantage == numbers{0.5, 0.3, 0.1, 0});
  in.bootstrap = end;
  CHECK(run(rlhf::action_value{}, in, rlhf::padded(1, 4)).advantage == numbers{0.5, 0.3, 0.1, 0.6});
  // The value as the baseline: GAE with lambda 0 and no reward.
  numbers none(4, 0);
  in.reward = none;
  const auto td = run(rlhf::gae{1, 0}, in, rlhf::padded(1, 4));
  check_near(td.advantage, {0.5, -0.2, -0.2, 0.5}, 1e-14);
  check_near(run(rlhf::gae{1, 0.95}, in, rlhf::padded(1, 4)).advantage, {0.5581875, 0.06125, 0.275, 0.5}, 1e-12);
  const transitions x(97);
  const auto gaps = run(rlhf::action_value{}, x.inputs());
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto at = x.tokens(row);
    for (std::size_t t = 0; t < at.size(); ++t)
      CHECK(gaps.advantage[at[t]] ==
            (t + 1 < at.size() ? x.value[at[t + 1]] : x.bootstrap[static_cast<std::size_t>(row)]));
  }
  check_zeros(x, gaps);
}

TEST_CASE("on-policy distillation: the advantage of a token is the teacher's log-ratio") {
  rlhf::reference_backend backend;
  const auto b = test::padded_batch(98);
  numbers out(b.size(), 99);
  rlhf::shaping_inputs<double> in;
  in.old_logp = b.old_logp;
  in.ref_logp = b.ref_logp;  // the teacher
  in.mask = b.mask;
  rlhf::shaping_outputs<double> to;
  to.reward = out;
  REQUIRE(rlhf::reward_shaping{rlhf::kl_in_reward{rlhf::k1{}, 1.0}}(backend, b.layout(), in, to));
  for (std::size_t i = 0; i < b.size(); ++i)
    CHECK(out[i] == (b.valid(i) ? Approx(b.ref_logp[i] - b.old_logp[i]) : Approx(0)));
}

TEST_CASE("values from rollouts") {
  rlhf::reference_backend backend;
  const numbers returns = {1, 0, 1, 1, 2, 4, not_a_number, not_a_number};
  const std::vector<std::int64_t> offsets = {0, 4, 7, 8, 8};
  numbers value(4, 99), variance(4, 99);
  const rlhf::view<const double> all = returns;
  REQUIRE(rlhf::rollout_values{}(backend, rlhf::packed(offsets), all,
                                 rlhf::rollout_value_outputs<double>{value, variance}));
  CHECK(value[0] == 0.75);
  CHECK(variance[0] == Approx(0.75 * 0.25 / 4));  // of the mean of rewards 0 and 1
  CHECK(value[1] == 3);
  CHECK(variance[1] == 0.5);
  for (const std::size_t s : {2u, 3u}) CHECK((std::isnan(value[s]) && std::isnan(variance[s])));
  CHECK(test::text(rlhf::rollout_values{}(backend, rlhf::padded(2, 3), all,
                                          rlhf::rollout_value_outputs<double>{value, variance})) ==
        "rollout_values: returns has 8 elements, wants 6");
  CHECK(test::text(rlhf::rollout_values{}(backend, rlhf::padded(2, 4), all,
                                          rlhf::rollout_value_outputs<double>{value, variance})) ==
        "rollout_values: value has 4 elements, wants 2");
}

TEST_CASE("what a step has goes to its tokens") {
  rlhf::reference_backend backend;
  const numbers x = {0.5, -1, 2, 7};
  const std::vector<std::int64_t> steps = {0, 3, 4};
  std::vector<std::int32_t> step = {0, 0, 1, 2, 0, 0, -9, 99};
  const std::vector<std::uint8_t> mask = {1, 1, 1, 1, 1, 1, 0, 0};
  numbers out(8, 99);
  rlhf::step_inputs<double> in;
  in.steps = rlhf::packed(steps);
  in.x = x;
  in.step = step;
  in.mask = mask;
  REQUIRE(rlhf::steps_to_tokens{}(backend, rlhf::padded(2, 4), in, out));
  CHECK(out == numbers{0.5, 0.5, -1, 2, 7, 7, 0, 0});
  step[5] = 1;  // the second sequence has one step
  CHECK(test::text(rlhf::steps_to_tokens{}(backend, rlhf::padded(2, 4), in, out)) ==
        "steps_to_tokens: step has the element 1, wants the number of a step of its sequence");
  CHECK(test::text(rlhf::steps_to_tokens{}(backend, rlhf::padded(4, 2), in, out)) ==
        "steps_to_tokens: steps has 2 elements, wants 4");
}

TEST_CASE("estimators of steps name what is missing, and check their numbers") {
  rlhf::reference_backend backend;
  const transitions x(99);
  numbers out(x.mask.size());
  const auto call = [&](const auto& estimator, auto spoil) {
    auto in = x.inputs();
    spoil(in);
    return test::text(rlhf::advantage_estimate{estimator}(backend, rlhf::padded(rows, width), in,
                                                          rlhf::advantage_outputs<double>{out, {}}));
  };
  const std::string start = "advantage_estimate: ", null = " is null, wants a pointer to its elements";
  CHECK(call(rlhf::td_lambda{}, [](auto& in) { in.reward = {}; }) == start + "reward" + null);
  CHECK(call(rlhf::vtrace{}, [](auto& in) { in.logp = {}; }) == start + "logp" + null);
  CHECK(call(rlhf::vtrace{}, [](auto& in) { in.old_logp = {}; }) == start + "old_logp" + null);
  CHECK(call(rlhf::varying_gae{}, [](auto& in) { in.gamma = {}; }) == start + "gamma" + null);
  CHECK(call(rlhf::varying_gae{}, [](auto& in) { in.lambda = {}; }) == start + "lambda" + null);
  for (const char* name : {"baseline", "next_value", "done"}) {
    const std::string what = name;
    const std::string got = call(rlhf::td_lambda{}, [&](auto& in) {
      if (what == "baseline") in.baseline = x.reward;
      if (what == "next_value") in.next_value = x.bootstrap;
      if (what == "done") in.done = {x.done.data(), 9};
    });
    CHECK(got == start + what + (what == "baseline" ? " has 117 elements, wants 9" : " has 9 elements, wants 117"));
  }
  CHECK(test::text(rlhf::td_lambda{.gamma = 2}.check()) == "td_lambda: gamma is 2, wants 0 <= gamma <= 1");
  CHECK(test::text(rlhf::td_lambda{.lambda = -1}.check()) == "td_lambda: lambda is -1, wants 0 <= lambda <= 1");
  CHECK(test::text(rlhf::vtrace{.gamma = 2}.check()) == "vtrace: gamma is 2, wants 0 <= gamma <= 1");
  CHECK(test::text(rlhf::vtrace{.rho_bar = 0}.check()) ==
        "vtrace: rho_bar is 0, wants more than 0 (infinity turns it off)");
  CHECK(test::text(rlhf::vtrace{.c_bar = not_a_number}.check()) ==
        "vtrace: c_bar is nan, wants more than 0 (infinity turns it off)");
  CHECK(test::text(rlhf::vtrace{.lambda = 2}.check()) == "vtrace: lambda is 2, wants 0 <= lambda <= 1");
}
