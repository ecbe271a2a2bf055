// Advantages: the recurrences from their definitions, every gap rule, whitening, groups.

#include "rlhf/driver/advantage.hpp"

#include <algorithm>

#include "formula/support.hpp"

namespace {

using rlhf::gap;
using test::not_a_number;
using test::token_batch;

struct result {
  rlhf::status status;
  std::vector<double> advantage, returns;
};
/// Rewards and values are two of the batch's streams.
template <class Estimator>
result run(const Estimator& estimator, const token_batch& b, const std::vector<double>& bootstrap,
           bool with_value = true) {
  rlhf::reference_backend backend;
  result r{{}, std::vector<double>(b.size(), 99), std::vector<double>(b.size(), 99)};
  rlhf::advantage_inputs<double> in;
  in.reward = b.advantage;
  if (with_value) in.value = b.entropy;
  if (!b.mask.empty()) in.mask = b.mask;
  if (!bootstrap.empty()) in.bootstrap = bootstrap;
  r.status = rlhf::advantage_estimate{estimator}(backend, b.layout(), in, {r.advantage, r.returns});
  return r;
}

/// GAE over the valid tokens of a sequence, without looking at any other slot.
void plain_gae(const std::vector<double>& reward, const std::vector<double>& value, double bootstrap, double gamma,
               double lambda, std::vector<double>& advantage) {
  advantage.assign(reward.size(), 0);
  for (std::size_t t = 0; t < reward.size(); ++t) {
    double weight = 1;
    for (std::size_t k = t; k < reward.size(); ++k) {  // the definition: a discounted sum of temporal differences
      const double next = k + 1 < value.size() ? value[k + 1] : bootstrap;
      advantage[t] += weight * (reward[k] + gamma * next - value[k]);
      weight *= gamma * lambda;
    }
  }
}

std::vector<std::size_t> tokens_of(const token_batch& b, std::int64_t s) {
  std::vector<std::size_t> out;
  for (std::int64_t i = b.layout()[s].begin; i < b.layout()[s].end; ++i)
    if (b.valid(static_cast<std::size_t>(i))) out.push_back(static_cast<std::size_t>(i));
  return out;
}

}  // namespace

TEST_CASE("GAE carried across gaps is GAE of the tokens alone") {
  const token_batch b = test::padded_batch(61);
  std::vector<double> bootstrap(9);
  for (std::size_t s = 0; s < 9; ++s) bootstrap[s] = 0.1 * static_cast<double>(s);
  for (const double gamma : {1.0, 0.9, 0.0})
    for (const double lambda : {1.0, 0.95, 0.0})
      for (const bool with_bootstrap : {false, true}) {
        CAPTURE(gamma, lambda, with_bootstrap);
        const auto r =
            run(rlhf::gae{.gamma = gamma, .lambda = lambda}, b, with_bootstrap ? bootstrap : std::vector<double>{});
        REQUIRE(r.status);
        for (std::int64_t s = 0; s < 9; ++s) {
          std::vector<double> reward, value, want;
          for (const auto i : tokens_of(b, s)) reward.push_back(b.advantage[i]), value.push_back(b.entropy[i]);
          plain_gae(reward, value, with_bootstrap ? bootstrap[static_cast<std::size_t>(s)] : 0, gamma, lambda, want);
          std::size_t t = 0;
          for (const auto i : tokens_of(b, s)) {
            CHECK(r.advantage[i] == Approx(want[t]).epsilon(1e-12).margin(1e-13));
            CHECK(r.returns[i] == Approx(want[t] + value[t]).epsilon(1e-12).margin(1e-13));
            ++t;
          }
        }
        for (std::size_t i = 0; i < b.size(); ++i)
          if (!b.valid(i)) CHECK((test::is_plain_zero(r.advantage[i]) && test::is_plain_zero(r.returns[i])));
      }
}

TEST_CASE("the other gap rules by their definitions") {
  token_batch b = test::padded_batch(62);
  const double gamma = 0.9, lambda = 0.8, bootstrap = 0.5;
  const std::vector<double> ends(9, bootstrap);
  const auto walk = [&](gap rule, std::int64_t s, std::vector<double>& want) {
    double next_value = bootstrap, advantage = 0;
    bool follows = false;
    for (std::int64_t i = b.layout()[s].end - 1; i >= b.layout()[s].begin; --i) {
      const auto at = static_cast<std::size_t>(i);
      const bool in = b.valid(at);
      if (rule == gap::zero) {
        const double reward = in ? b.advantage[at] : 0, value = in ? b.entropy[at] : 0;
        advantage = reward + gamma * next_value - value + gamma * lambda * advantage;
        next_value = value;
      } else if (rule == gap::plain) {
        advantage = b.advantage[at] + gamma * next_value - b.entropy[at] + gamma * lambda * advantage;
        next_value = b.entropy[at];
      } else if (in) {  // raw_next: the value of the next slot as it is, the bootstrap after the last valid one
        const double next = follows ? b.entropy[at + 1] : bootstrap;
        advantage = b.advantage[at] + gamma * next - b.entropy[at] + gamma * lambda * advantage;
        follows = true;
      }
      want[at] = in ? advantage : 0;
    }
  };
  for (const gap rule : {gap::zero, gap::plain, gap::raw_next}) {
    if (rule != gap::zero)  // these two look at what stands in the gaps
      for (std::size_t i = 0; i < b.size(); ++i)
        if (!b.valid(i)) b.advantage[i] = 0.1, b.entropy[i] = 0.3;
    const auto r = run(rlhf::gae{.gamma = gamma, .lambda = lambda, .gaps = rule}, b, ends);
    REQUIRE(r.status);
    std::vector<double> want(b.size(), 0);
    for (std::int64_t s = 0; s < 9; ++s) walk(rule, s, want);
    for (std::size_t i = 0; i < b.size(); ++i) {
      CAPTURE(static_cast<int>(rule), i);
      CHECK(r.advantage[i] == Approx(want[i]).epsilon(1e-12).margin(1e-13));
      if (b.valid(i)) CHECK(r.returns[i] == Approx(want[i] + b.entropy[i]).epsilon(1e-12).margin(1e-13));
    }
  }
}

TEST_CASE("identities of GAE") {
  const token_batch b = test::packed_of(test::padded_batch(63));
  // lambda 1: returns minus values. lambda 0: the temporal difference. gamma 1, lambda 1 without values: reward to go.
  const auto one = run(rlhf::gae{.gamma = 1, .lambda = 1}, b, {});
  const auto none = run(rlhf::gae{.gamma = 1, .lambda = 1}, b, {}, false);
  const auto to_go = run(rlhf::discounted_return{}, b, {});
  for (std::size_t i = 0; i < b.size(); ++i) {
    CHECK(one.returns[i] == Approx(to_go.returns[i]).epsilon(1e-12).margin(1e-12));
    CHECK(none.advantage[i] == Approx(to_go.advantage[i]).epsilon(1e-12).margin(1e-12));
  }
}

TEST_CASE("discounted returns with every gap rule") {
  const token_batch b = test::padded_batch(64);
  for (const gap rule : {gap::carry, gap::zero, gap::reset}) {
    const auto r = run(rlhf::discounted_return{.gamma = 0.9, .gaps = rule}, b, {}, false);
    REQUIRE(r.status);
    for (std::int64_t s = 0; s < 9; ++s) {
      double sum = 0;
      for (std::int64_t i = b.layout()[s].end - 1; i >= b.layout()[s].begin; --i) {
        const auto at = static_cast<std::size_t>(i);
        if (b.valid(at))
          sum = b.advantage[at] + 0.9 * sum;
        else
          sum *= rule == gap::carry ? 1 : rule == gap::zero ? 0.9 : 0;
        CHECK(r.advantage[at] == Approx(b.valid(at) ? sum : 0).epsilon(1e-12).margin(1e-14));
      }
    }
  }
}

TEST_CASE("padded and packed sequences have the same advantages") {
  const token_batch padded = test::padded_batch(65), packed = test::packed_of(padded);
  const auto a = run(rlhf::gae{.gamma = 0.99}, padded, {}), b = run(rlhf::gae{.gamma = 0.99}, packed, {});
  std::vector<double> dense;
  for (std::size_t i = 0; i < padded.size(); ++i)
    if (padded.valid(i)) dense.push_back(a.advantage[i]);
  CHECK(dense == b.advantage);
}

TEST_CASE("advantages may be written over their inputs") {
  token_batch b = test::padded_batch(66);
  const auto apart = run(rlhf::gae{}, b, {});
  rlhf::reference_backend backend;
  rlhf::advantage_inputs<double> in;
  in.reward = b.advantage;
  in.value = b.entropy;
  in.mask = b.mask;
  REQUIRE(rlhf::advantage_estimate{rlhf::gae{}}(backend, b.layout(), in,
                                                rlhf::advantage_outputs<double>{b.advantage, b.entropy}));
  CHECK(b.advantage == apart.advantage);
  CHECK(b.entropy == apart.returns);
}

TEST_CASE("whitening: every divisor, with and without the mean, exact zeros outside") {
  const token_batch b = test::padded_batch(67);
  double n = 0, mean = 0, m2 = 0;
  for (std::size_t i = 0; i < b.size(); ++i)
    if (b.valid(i)) n += 1, mean += b.advantage[i];
  mean /= n;
  for (std::size_t i = 0; i < b.size(); ++i)
    if (b.valid(i)) m2 += (b.advantage[i] - mean) * (b.advantage[i] - mean);
  rlhf::reference_backend backend;
  for (const bool biased : {false, true})
    for (const auto divisor : {rlhf::spread::rsqrt, rlhf::spread::clamped, rlhf::spread::plus})
      for (const bool shift : {false, true}) {
        const double epsilon = 0.1, variance = biased ? m2 / n : m2 / (n - 1);
        const double s = divisor == rlhf::spread::rsqrt     ? std::sqrt(variance + epsilon)
                         : divisor == rlhf::spread::clamped ? std::sqrt(std::max(variance, epsilon))
                                                            : std::sqrt(variance) + epsilon;
        std::vector<double> out(b.size(), 99);
        rlhf::whiten_inputs<double> in;
        in.x = b.advantage;
        in.mask = b.mask;
        REQUIRE(rlhf::whitening{{biased, divisor, epsilon, shift}}(backend, in, out));
        for (std::size_t i = 0; i < b.size(); ++i) {
          if (b.valid(i))
            CHECK(out[i] == Approx((b.advantage[i] - mean) / s + (shift ? 0 : mean)).epsilon(1e-12).margin(1e-13));
          else
            CHECK(test::is_plain_zero(out[i]));
        }
      }
}

TEST_CASE("whitening far from 0 keeps its digits; shards whitened by merged moments are the whole's") {
  std::mt19937 random(9);
  auto x = test::uniform(random, 1000, -1, 1);
  for (auto& v : x) v += 1e8;
  std::vector<double> whole(1000), left(400), right(600);
  rlhf::reference_backend backend;
  REQUIRE(rlhf::whitening{}(backend, rlhf::whiten_inputs<double>{x, {}}, whole));
  double sum = 0, squares = 0;
  for (const double v : whole) sum += v, squares += v * v;
  CHECK(sum / 1000 == Approx(0).margin(1e-6));
  CHECK(squares / 999 == Approx(1).epsilon(1e-6));

  rlhf::moments a, b;
  const rlhf::view<const double> first(x.data(), 400), second(x.data() + 400, 600);
  REQUIRE(rlhf::masked_moments(backend, "test", first, rlhf::mask_view<>{}, &a));
  REQUIRE(rlhf::masked_moments(backend, "test", second, rlhf::mask_view<>{}, &b));
  a.merge(b);
  REQUIRE(rlhf::whitening{}(backend, rlhf::whiten_inputs<double>{first, {}, &a}, left));
  REQUIRE(rlhf::whitening{}(backend, rlhf::whiten_inputs<double>{second, {}, &a}, right));
  for (std::size_t i = 0; i < 1000; ++i)
    CHECK((i < 400 ? left[i] : right[i - 400]) == Approx(whole[i]).epsilon(1e-7).margin(1e-7));
}

TEST_CASE("whitening in float of values far from 0") {
  std::vector<float> x(1000), out(1000);
  for (std::size_t i = 0; i < 1000; ++i) x[i] = 4096 + static_cast<float>(i % 2);
  rlhf::reference_backend backend;
  REQUIRE(rlhf::whitening{{.biased = true, .epsilon = 0}}(backend, rlhf::whiten_inputs<float>{x, {}}, out));
  for (std::size_t i = 0; i < 1000; ++i) CHECK(out[i] == Approx(i % 2 ? 1 : -1).epsilon(1e-6));
}

TEST_CASE("whitening of one value, of equal values, of nothing") {
  rlhf::reference_backend backend;
  const std::vector<double> one = {5}, equal = {3, 3, 3}, spoilt = {not_a_number, not_a_number};
  const std::vector<std::uint8_t> none = {0, 0};
  std::vector<double> out(3, 99);
  REQUIRE(rlhf::whitening{}(backend, rlhf::whiten_inputs<double>{one, {}}, rlhf::view<double>(out.data(), 1)));
  CHECK(out[0] == 0);
  REQUIRE(rlhf::whitening{}(backend, rlhf::whiten_inputs<double>{equal, {}}, out));
  for (const double v : out) CHECK(v == 0);
  REQUIRE(rlhf::whitening{{.divisor = rlhf::spread::plus, .epsilon = 0}}(backend,
                                                                         rlhf::whiten_inputs<double>{equal, {}}, out));
  for (const double v : out) CHECK(v == 0);
  rlhf::whiten_inputs<double> in;
  in.x = spoilt;
  in.mask = none;
  out.assign(2, 99);
  const auto s = rlhf::whitening{}(backend, in, out);
  CHECK(test::text(s) == "whitening: mask selects no element; all outputs are 0");
  for (const double v : out) CHECK(test::is_plain_zero(v));
}

TEST_CASE("group advantages: GRPO, batch scale, Dr. GRPO; lone, equal and missing rewards") {
  rlhf::reference_backend backend;
  // Groups: 0-2; 3; 4-6 equal; 7-9 with a missing reward; 10 missing alone; none in the last.
  const std::vector<std::int64_t> offsets = {0, 3, 4, 7, 10, 11, 11};
  const std::vector<double> reward = {1, 2, 4, 5, 3, 3, 3, 1, not_a_number, 2, not_a_number};
  const auto run_with = [&](const rlhf::group_advantage& how) {
    std::vector<double> out(11, 99);
    REQUIRE(rlhf::grouped{how}(backend, rlhf::group_inputs<double>{{rlhf::packed(offsets)}, reward}, out));
    return out;
  };
  const double mean = 7.0 / 3,
               deviation = std::sqrt(((1 - mean) * (1 - mean) + (2 - mean) * (2 - mean) + (4 - mean) * (4 - mean)) / 2);
  const auto grpo = run_with({.epsilon = 1e-4});
  CHECK(grpo[0] == Approx((1 - mean) / (deviation + 1e-4)).epsilon(1e-12));
  CHECK(grpo[2] == Approx((4 - mean) / (deviation + 1e-4)).epsilon(1e-12));
  CHECK(grpo[3] == 0);
  for (const std::size_t i : {4u, 5u, 6u, 8u, 10u}) CHECK(test::is_plain_zero(grpo[i]));
  CHECK(grpo[7] == Approx(-0.5 / (std::sqrt(0.5) + 1e-4)).epsilon(1e-12));
  CHECK(grpo[9] == -grpo[7]);
  const auto centred = run_with({.scale = rlhf::group_scale::none});
  CHECK(centred[0] == Approx(1 - mean));
  CHECK(centred[7] == -0.5);
  const auto raw = run_with({.epsilon = 0, .lone = rlhf::lone_response::raw});
  CHECK(raw[3] == 5);
  const auto batch = run_with({.scale = rlhf::group_scale::batch, .epsilon = 0});
  rlhf::moments all;
  for (const double r : reward)
    if (!std::isnan(r)) all.merge({1, r, 0});
  CHECK(batch[2] == Approx((4 - mean) / std::sqrt(all.variance())).epsilon(1e-12));
  const auto biased = run_with({.epsilon = 0, .biased = true});
  CHECK(biased[2] == Approx((4 - mean) / (deviation * std::sqrt(2.0 / 3))).epsilon(1e-12));
}

TEST_CASE("a group's deviation does not cancel far from 0") {
  rlhf::reference_backend backend;
  const std::vector<std::int64_t> offsets = {0, 4};
  const std::vector<double> reward = {1e8, 1e8 + 1e-3, 1e8 + 2e-3, 1e8 + 3e-3};
  std::vector<double> out(4);
  REQUIRE(rlhf::grouped{rlhf::group_advantage{.epsilon = 0}}(
      backend, rlhf::group_inputs<double>{{rlhf::packed(offsets)}, reward}, out));
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(out[i] == Approx((static_cast<double>(i) - 1.5) / std::sqrt(5.0 / 3)).epsilon(1e-4));
}

TEST_CASE("groups in any order") {
  rlhf::reference_backend backend;
  const std::vector<std::int64_t> offsets = {0, 2, 4}, order = {0, 3, 1, 2};
  const std::vector<double> reward = {1, 10, 12, 3};
  std::vector<double> out(4);
  REQUIRE(rlhf::grouped{rlhf::group_advantage{.scale = rlhf::group_scale::none}}(
      backend, rlhf::group_inputs<double>{{rlhf::packed(offsets), order.data()}, reward}, out));
  CHECK(out == std::vector<double>{-1, -1, 1, 1});
}
