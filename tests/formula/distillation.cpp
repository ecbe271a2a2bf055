// Distillation beyond one KL: total variation, cosines, weights by prefix, MiniLLM, estimators as losses and as advantages.

#include <algorithm>
#include <array>

#include "formula/support.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/cosine_distance.hpp"
#include "rlhf/driver/full_total_variation.hpp"
#include "rlhf/driver/prefix_weights.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/weighted.hpp"

using test::infinity;
using test::not_a_number;

namespace {

struct distances {
  rlhf::status status;
  std::vector<double> value, gradient;
};
distances variation(const std::vector<double>& s, const std::vector<double>& t, std::int64_t rows,
                    double temperature = 1, std::int64_t vocabulary = 0, const std::vector<std::uint8_t>& mask = {},
                    const std::vector<double>& share = {}) {
  rlhf::reference_backend backend;
  const auto columns = static_cast<std::int64_t>(s.size()) / rows;
  distances d{{}, std::vector<double>(static_cast<std::size_t>(rows), 99), std::vector<double>(s.size(), 99)};
  rlhf::full_kl_inputs<double> in;
  in.logits = {s.data(), rows, columns};
  in.ref_logits = {t.data(), rows, columns};
  in.vocabulary = vocabulary;
  in.temperature = temperature;
  if (!mask.empty()) in.mask = mask;
  rlhf::full_kl_outputs<double> out;
  out.kl = d.value;
  if (!share.empty()) out.grad_kl = share;
  out.grad_logits = {d.gradient.data(), rows, columns};
  d.status = rlhf::full_total_variation(backend, in, out);
  return d;
}
distances cosine(const std::vector<double>& x, const std::vector<double>& y, std::int64_t rows,
                 const std::vector<std::uint8_t>& mask = {}, const std::vector<double>& share = {}) {
  rlhf::reference_backend backend;
  const auto columns = static_cast<std::int64_t>(x.size()) / rows;
  distances d{{}, std::vector<double>(static_cast<std::size_t>(rows), 99), std::vector<double>(x.size(), 99)};
  rlhf::cosine_inputs<double> in;
  in.x = {x.data(), rows, columns};
  in.y = {y.data(), rows, columns};
  if (!mask.empty()) in.mask = mask;
  rlhf::cosine_outputs<double> out;
  out.distance = d.value;
  if (!share.empty()) out.grad_distance = share;
  out.grad_x = {d.gradient.data(), rows, columns};
  d.status = rlhf::cosine_distance(backend, in, out);
  return d;
}

}  // namespace

TEST_CASE("total variation over the vocabulary") {
  std::mt19937 random(91);
  const auto s = test::uniform(random, 18, -3, 3), t = test::uniform(random, 18, -3, 3);
  for (const double temperature : {1.0, 0.6}) {
    const auto d = variation(s, t, 3, temperature, 5, {1, 0, 1}, {1, 7, -2});
    for (const std::size_t row : {0u, 2u}) {
      const auto definition = [&](const std::vector<double>& z) {
        double a = 0, b = 0, sum = 0;
        for (std::size_t j = 0; j < 5; ++j)
          a += std::exp(z[row * 6 + j] / temperature), b += std::exp(t[row * 6 + j] / temperature);
        for (std::size_t j = 0; j < 5; ++j)
          sum += std::abs(std::exp(z[row * 6 + j] / temperature) / a - std::exp(t[row * 6 + j] / temperature) / b) / 2;
        return sum;
      };
      CHECK(d.value[row] == Approx(definition(s)).epsilon(1e-12));
      const double g = row == 0 ? 1 : -2;
      for (std::size_t j = 0; j < 5; ++j)
        CHECK(d.gradient[row * 6 + j] ==
              Approx(g * test::central_difference(definition, s, row * 6 + j)).epsilon(1e-6).margin(1e-9));
      CHECK(test::is_plain_zero(d.gradient[row * 6 + 5]));
    }
    CHECK(test::is_plain_zero(d.value[1]));
    for (std::size_t j = 6; j < 12; ++j) CHECK(test::is_plain_zero(d.gradient[j]));
  }
  // Agreement is a tie everywhere: slope 0. One tied token takes part in neither side.
  const auto same = variation(s, s, 3);
  for (const double v : same.value) CHECK(test::is_plain_zero(v));
  for (const double g : same.gradient) CHECK(std::abs(g) <= 0);
  const auto tied = variation({0, std::log(2.0), 0}, {0, 0, std::log(2.0)}, 1);
  CHECK(tied.value[0] == Approx(0.25));
  CHECK(tied.gradient[0] == Approx(-0.5 * 0.25 * 0.25));  // p = 1/4, mean of the sides 1/2 - 1/4
  // Disjoint supports and large logits: 1, and slopes that are numbers.
  const auto apart = variation({0, -infinity, -infinity, 800, 0, -800}, {-infinity, 0, -infinity, -800, 0, 800}, 2);
  CHECK(apart.value[0] == Approx(1));
  CHECK(apart.value[1] == Approx(1));
  for (const double g : apart.gradient) CHECK(g == Approx(0).margin(1e-15));
  CHECK(test::text(variation(s, t, 3, 0).status) == "full_total_variation: temperature is 0, wants more than 0");
}

TEST_CASE("cosine distance of rows") {
  std::mt19937 random(92);
  const auto x = test::uniform(random, 21, -3, 3), y = test::uniform(random, 21, -3, 3);
  const auto d = cosine(x, y, 3, {1, 0, 1}, {1, 7, -2});
  for (const std::size_t row : {0u, 2u}) {
    const auto definition = [&](const std::vector<double>& z) {
      double xx = 0, yy = 0, xy = 0;
      for (std::size_t j = row * 7; j < row * 7 + 7; ++j) xx += z[j] * z[j], yy += y[j] * y[j], xy += z[j] * y[j];
      return 1 - xy / std::sqrt(xx * yy);
    };
    CHECK(d.value[row] == Approx(definition(x)).epsilon(1e-12));
    for (std::size_t j = row * 7; j < row * 7 + 7; ++j)
      CHECK(d.gradient[j] ==
            Approx((row == 0 ? 1 : -2) * test::central_difference(definition, x, j)).epsilon(1e-6).margin(1e-9));
  }
  CHECK(test::is_plain_zero(d.value[1]));
  for (std::size_t j = 7; j < 14; ++j) CHECK(test::is_plain_zero(d.gradient[j]));
  const auto ends = cosine({1, 2, 1, 2, 2, -1, 0, 0, 3e200, 4e200}, {2, 4, -1, -2, 1, 2, 1, 1, 4e200, 3e200}, 5);
  CHECK(ends.value[0] == Approx(0).margin(1e-15));
  CHECK(ends.value[1] == Approx(2));
  CHECK(ends.value[2] == Approx(1));
  CHECK(ends.value[3] == 1);  // no direction
  CHECK(test::is_plain_zero(ends.gradient[6]));
  CHECK(ends.value[4] == Approx(1 - 0.96));
  for (const double small : {5e-310, 5e-324}) {  // 1 / |x| is beyond the largest number
    const auto none = cosine({small, small, 1, 2}, {1, 2, 0, -small}, 2);
    for (const double v : none.value) CHECK(v == 1);
    for (const double g : none.gradient) CHECK(test::is_plain_zero(g));
  }
  CHECK(cosine({3e-307, 4e-307}, {4e-307, 3e-307}, 1).value[0] == Approx(1 - 0.96));
  rlhf::reference_backend backend;
  rlhf::cosine_inputs<double> in;
  in.x = {x.data(), 3, 7};
  in.y = {y.data(), 3, 6};
  CHECK(test::text(rlhf::cosine_distance(backend, in, rlhf::cosine_outputs<double>{})) ==
        "cosine_distance: y has columns: 6, wants those of x");
}

TEST_CASE("IW-OPD weighs a token by the discrepancy of its prefix") {
  for (const test::token_batch& b : {test::padded_batch(93), test::packed_of(test::padded_batch(93))})
    for (const bool inclusive : {true, false}) {
      const rlhf::prefix_weight how{.gamma = 0.7, .inclusive = inclusive};
      rlhf::reference_backend backend;
      std::vector<double> weight(b.size(), 99);
      rlhf::mask_view<> mask;
      if (!b.mask.empty()) mask = b.mask;
      REQUIRE(rlhf::prefix_weights(backend, b.layout(), how, rlhf::view<const double>(b.advantage), mask,
                                   rlhf::view<double>(weight)));
      double sum = 0, count = 0;
      for (std::int64_t s = 0; s < b.layout().sequences; ++s) {
        double total = 0, prefix = 0;
        const auto range = b.layout()[s];
        const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
        for (std::int64_t i = range.begin; i < range.end; ++i)
          if (b.valid(at(i))) total += std::abs(b.advantage[at(i)]);
        for (std::int64_t i = range.begin; i < range.end; ++i) {
          if (!b.valid(at(i))) {
            CHECK(test::is_plain_zero(weight[at(i)]));
            continue;
          }
          const double a = std::abs(b.advantage[at(i)]);
          const double want = 1 + 0.7 * (1 - (inclusive ? prefix + a : prefix) / (total + 1e-8));
          prefix += a;
          CHECK(weight[at(i)] == Approx(want).epsilon(1e-12));
          sum -= b.logp[at(i)] * want * b.advantage[at(i)];
          count += 1;
        }
      }
      auto in = b.inputs();
      in.weight = weight;
      const auto r = test::run(rlhf::policy_loss{rlhf::reinforce{}}, backend, b, in);
      CHECK(r.loss == Approx(sum / count).epsilon(1e-12));
      for (std::size_t i = 0; i < b.size(); ++i)
        if (b.valid(i)) CHECK(r.grad_logp[i] == Approx(-weight[i] * b.advantage[i] / count).epsilon(1e-12));
    }
  // Agreement throughout, and one token.
  rlhf::reference_backend backend;
  const std::vector<double> zero(3);
  std::vector<double> weight(3);
  const auto call = [&](const rlhf::prefix_weight& how, std::int64_t rows, const std::vector<double>& a) {
    return rlhf::prefix_weights(backend, rlhf::padded(rows, 3 / rows), how, rlhf::view<const double>(a),
                                rlhf::mask_view<>{}, rlhf::view<double>(weight));
  };
  REQUIRE(call({}, 1, zero));
  for (const double w : weight) CHECK(w == 1.5);
  REQUIRE(call({}, 3, {2, -3, 1e300}));
  for (const double w : weight) CHECK(w == Approx(1));
  REQUIRE(call({.inclusive = false}, 3, {2, -3, 1e300}));
  for (const double w : weight) CHECK(w == Approx(1.5));
  CHECK(test::text(call({.gamma = -1}, 1, zero)) == "prefix_weight: gamma is -1, wants 0 or more");
  CHECK(test::text(call({.epsilon = 0}, 1, zero)) == "prefix_weight: epsilon is 0, wants more than 0");
  CHECK(test::text(call({}, 1, {1, 2})) == "prefix_weights: advantage has 2 elements, wants 3");
}

// KL(pi || teacher) of whole sequences, two tokens of a vocabulary of three: rows of logits for the start and for each first
// token. The expectation over all nine sequences of MiniLLM's gradient must be the exact one.
TEST_CASE("MiniLLM: the long part and the single step add up to the gradient of the sequence's KL") {
  std::mt19937 random(94);
  const auto student = test::uniform(random, 12, -1, 1), teacher = test::uniform(random, 12, -1, 1);
  const auto log_softmax = [](const std::vector<double>& z, std::size_t row, std::size_t y) {
    double all = 0;
    for (std::size_t j = 0; j < 3; ++j) all += std::exp(z[row * 3 + j]);
    return z[row * 3 + y] - std::log(all);
  };
  const auto objective = [&](const std::vector<double>& z) {
    double sum = 0;
    for (std::size_t a = 0; a < 3; ++a)
      for (std::size_t b = 0; b < 3; ++b) {
        const double p = log_softmax(z, 0, a) + log_softmax(z, 1 + a, b);
        sum += std::exp(p) * (p - log_softmax(teacher, 0, a) - log_softmax(teacher, 1 + a, b));
      }
    return sum;
  };

  // All sequences, each with its probability: 18 tokens.
  std::vector<double> logits, teacher_logits, reward(18), probability(9), token_probability(18);
  std::vector<std::int32_t> target;
  std::vector<std::size_t> state;
  for (std::size_t a = 0; a < 3; ++a)
    for (std::size_t b = 0; b < 3; ++b) {
      for (const std::size_t row : {std::size_t{0}, 1 + a}) {
        const std::size_t y = row == 0 ? a : b, i = state.size();
        state.push_back(row);
        target.push_back(static_cast<std::int32_t>(y));
        for (std::size_t j = 0; j < 3; ++j) {
          logits.push_back(student[row * 3 + j]);
          teacher_logits.push_back(teacher[row * 3 + j]);
        }
        reward[i] = log_softmax(teacher, row, y) - log_softmax(student, row, y);
      }
      probability[a * 3 + b] = std::exp(log_softmax(student, 0, a) + log_softmax(student, 1 + a, b));
      token_probability[6 * a + 2 * b] = token_probability[6 * a + 2 * b + 1] = probability[a * 3 + b];
    }
  rlhf::reference_backend backend;
  const auto sequences = rlhf::padded(9, 2);
  std::vector<double> logp(18), lse(18), advantage(18), returns(18), grad_logp(18), gradient(54), single(54);
  // The rewards that follow a token: GAE with the rewards as values is the discounted return less the token's own.
  rlhf::advantage_inputs<double> steps;
  steps.reward = reward;
  REQUIRE(rlhf::advantage_estimate{rlhf::discounted_return{}}(backend, sequences, steps,
                                                              rlhf::advantage_outputs<double>{returns, {}}));
  steps.value = reward;
  REQUIRE(rlhf::advantage_estimate{rlhf::gae{.gamma = 1, .lambda = 1}}(backend, sequences, steps,
                                                                       rlhf::advantage_outputs<double>{advantage, {}}));
  for (std::size_t i = 0; i < 18; ++i) CHECK(advantage[i] == Approx(returns[i] - reward[i]).margin(1e-14));

  const rlhf::logits_inputs<double> rows{.logits = {logits.data(), 18, 3}, .target = target};
  REQUIRE(rlhf::token_logp(backend, rows, rlhf::logp_outputs<double>{.logp = logp, .lse = lse}));
  rlhf::token_inputs<double> tokens;
  tokens.logp = logp;
  tokens.advantage = advantage;
  tokens.weight = probability;
  rlhf::token_outputs<double> out;
  out.grad_logp = grad_logp;
  REQUIRE(rlhf::policy_loss{rlhf::reinforce{}, rlhf::none{}, rlhf::token_sum{}}(backend, sequences, tokens, out));
  REQUIRE(rlhf::token_logp_backward(backend, rows, rlhf::logp_gradients<double>{.lse = lse, .grad_logp = grad_logp},
                                    rlhf::view<double, 2>(gradient.data(), 18, 3)));
  rlhf::full_kl_inputs<double> both;
  both.logits = {logits.data(), 18, 3};
  both.ref_logits = {teacher_logits.data(), 18, 3};
  rlhf::full_kl_outputs<double> step;
  step.grad_kl = token_probability;
  step.grad_logits = {single.data(), 18, 3};
  REQUIRE(rlhf::full_kl(backend, both, step));
  std::array<double, 12> total{};
  for (std::size_t i = 0; i < 18; ++i)
    for (std::size_t j = 0; j < 3; ++j) total[state[i] * 3 + j] += gradient[i * 3 + j] + single[i * 3 + j];
  for (std::size_t i = 0; i < 12; ++i)
    CHECK(total[i] == Approx(test::central_difference(objective, student, i)).epsilon(1e-6).margin(1e-9));
}

TEST_CASE("distillation estimators as losses and as advantages") {
  const test::token_batch b = test::padded_batch(95);  // ref_logp is the teacher's
  double n = 0;
  for (std::size_t i = 0; i < b.size(); ++i) n += b.valid(i);
  const auto loss = [&](const auto& estimator, auto value, auto slope) {
    const auto r = test::run(rlhf::policy_loss{rlhf::none{}, rlhf::kl_penalty{estimator, 1.0}}, b);
    double sum = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
      if (!b.valid(i)) continue;
      const double d = b.logp[i] - b.ref_logp[i];
      sum += value(d);
      CHECK(r.per_token[i] == Approx(value(d)).epsilon(1e-12).margin(1e-14));
      CHECK(r.grad_logp[i] * n == Approx(slope(d)).epsilon(1e-11).margin(1e-13));
    }
    CHECK(r.loss == Approx(sum / n).epsilon(1e-12));
  };
  loss(
      rlhf::k1{}, [](double d) { return d; }, [](double) { return 1.0; });
  loss(
      rlhf::k2{}, [](double d) { return d * d / 2; }, [](double d) { return d; });
  loss(
      rlhf::k3{}, [](double d) { return std::exp(-d) - 1 + d; }, [](double d) { return 1 - std::exp(-d); });
  loss(
      rlhf::absolute{}, [](double d) { return std::abs(d); }, [](double d) { return d > 0 ? 1.0 : -1.0; });

  const auto advantage = [&](const auto& estimator, auto value) {
    rlhf::reference_backend backend;
    std::vector<double> reward(b.size());
    rlhf::shaping_inputs<double> in;
    in.old_logp = b.old_logp;
    in.ref_logp = b.ref_logp;
    in.mask = b.mask;
    REQUIRE(rlhf::reward_shaping{rlhf::kl_in_reward{estimator, 1.0}}(backend, b.layout(), in,
                                                                     rlhf::shaping_outputs<double>{reward, {}, {}}));
    auto tokens = b.inputs();
    tokens.advantage = reward;
    const auto r = test::run(rlhf::policy_loss{rlhf::importance_sampling{}}, backend, b, tokens);
    for (std::size_t i = 0; i < b.size(); ++i) {
      if (!b.valid(i)) continue;
      const double d = b.old_logp[i] - b.ref_logp[i];
      CHECK(r.grad_logp[i] * n == Approx(std::exp(b.logp[i] - b.old_logp[i]) * value(d)).epsilon(1e-11).margin(1e-13));
    }
  };
  advantage(rlhf::k1{}, [](double d) { return d; });
  advantage(rlhf::k2{}, [](double d) { return d * d / 2; });
  advantage(rlhf::k3{}, [](double d) { return std::exp(-d) - 1 + d; });
  advantage(rlhf::absolute{}, [](double d) { return std::abs(d); });
}
