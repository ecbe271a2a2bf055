// Huber's value loss: closed forms on both sides of delta, the clip, its gradient, its limits; other value targets.

#include <algorithm>

#include "formula/support.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/value_loss.hpp"

namespace {

using test::infinity;

double huber(double x, double delta) { return std::abs(x) <= delta ? x * x / 2 : delta * (std::abs(x) - delta / 2); }
rlhf::dual<double> at(const rlhf::huber_value& h, double value, double old_value, double returns) {
  rlhf::value_item<rlhf::dual<double>> v;
  v.value = rlhf::dual<double>::variable(value, 0);
  v.old_value = old_value;
  v.returns = returns;
  return h(v);
}

}  // namespace

TEST_CASE("Huber: square up to delta, linear beyond, the larger of the clipped and the unclipped") {
  std::mt19937 random(81);
  const auto v = test::uniform(random, 300, -4, 4), old_value = test::uniform(random, 300, -4, 4),
             returns = test::uniform(random, 300, -4, 4);
  for (const double delta : {0.5, 2.0, 10.0})
    for (const double clip : {0.3, 1.5, infinity}) {
      const rlhf::huber_value h{.delta = delta, .clip = clip, .scale = 0.7};
      for (std::size_t i = 0; i < 300; ++i) {
        const double held = old_value[i] + std::clamp(v[i] - old_value[i], -clip, clip);
        const double plain = huber(v[i] - returns[i], delta), clipped = huber(held - returns[i], delta);
        const auto got = at(h, v[i], old_value[i], returns[i]);
        CHECK(got.value == Approx(0.7 * std::max(plain, clipped)).epsilon(1e-13));
        const bool inside = std::abs(v[i] - old_value[i]) <= clip;
        const double slope = inside || plain > clipped ? 0.7 * std::clamp(v[i] - returns[i], -delta, delta) : 0;
        CHECK(got.partial[0] == Approx(slope).epsilon(1e-12).margin(1e-14));
      }
    }
}

TEST_CASE("Huber: gradient by differences, the two pieces meet, far errors stay finite") {
  std::mt19937 random(82);
  const rlhf::huber_value h{.delta = 1, .clip = 0.5, .scale = 1};
  for (const double value : test::uniform(random, 40, -3, 3)) {
    const auto f = [&](const std::vector<double>& x) { return at(h, x[0], 0.1, 0.7).value; };
    const double kinks[] = {0.6, -0.4, 1.7, -0.3};  // bounds of the clip, ends of the square
    bool near = false;
    for (const double k : kinks) near = near || std::abs(value - k) < 1e-3;
    if (near) continue;
    CHECK(at(h, value, 0.1, 0.7).partial[0] ==
          Approx(test::central_difference(f, {value}, 0)).epsilon(1e-6).margin(1e-9));
  }
  const rlhf::huber_value free{.delta = 2, .clip = infinity, .scale = 1};
  CHECK(at(free, 2, 0, 0).value == 2);
  CHECK(at(free, 2, 0, 0).partial[0] == 2);  // both pieces have this slope there
  CHECK(at(free, 1e200, 0, 0).value == Approx(2e200));
  CHECK(at(free, 1e200, 0, 0).partial[0] == 2);
  CHECK(at(free, -1e200, 0, 0).partial[0] == -2);
}

TEST_CASE("Huber with a delta above every error is the clipped squared error") {
  const rlhf::huber_value h{.delta = 100, .clip = 0.2, .scale = 1};
  const rlhf::clipped_value square{.clip = 0.2, .scale = 0.5};
  std::mt19937 random(83);
  const auto x = test::uniform(random, 300, -2, 2);
  for (std::size_t i = 0; i < 100; ++i) {
    rlhf::value_item<rlhf::dual<double>> v;
    v.value = rlhf::dual<double>::variable(x[i], 0);
    v.old_value = x[100 + i];
    v.returns = x[200 + i];
    CHECK(h(v).value == Approx(square(v).value).epsilon(1e-13));
    CHECK(h(v).partial[0] == Approx(square(v).partial[0]).epsilon(1e-13).margin(1e-15));
    rlhf::value_item<double> plain{x[i], x[100 + i], x[200 + i]};
    double a[1], b[1];
    h.statistics(plain, a);
    square.statistics(plain, b);
    CHECK(a[0] == b[0]);
  }
}

TEST_CASE("Huber checks its numbers") {
  CHECK(test::text(rlhf::huber_value{.delta = 0}.check()) == "huber_value: delta is 0, wants a finite number above 0");
  CHECK(test::text(rlhf::huber_value{.delta = infinity}.check()) ==
        "huber_value: delta is inf, wants a finite number above 0");
  CHECK(test::text(rlhf::huber_value{.clip = 0}.check()) ==
        "huber_value: clip is 0, wants more than 0 (infinity turns it off)");
  CHECK(test::text(rlhf::huber_value{.scale = -1}.check()) ==
        "huber_value: scale is -1, wants a finite number above 0");
}

TEST_CASE("a critic trained on discounted rewards: no value stands in its target") {
  rlhf::reference_backend backend;
  const auto rows = rlhf::padded(1, 4);
  const std::vector<double> reward = {0, 0, 1, test::not_a_number}, value = {0.5, 0.25, 0, test::infinity};
  const std::vector<std::uint8_t> mask = {1, 1, 1, 0};
  std::vector<double> target(4), gradient(4);
  rlhf::advantage_inputs<double> in;
  in.reward = reward;
  in.mask = mask;
  REQUIRE(rlhf::advantage_estimate{rlhf::discounted_return{.gamma = 0.5}}(backend, rows, in,
                                                                          rlhf::advantage_outputs<double>{{}, target}));
  CHECK(target == std::vector<double>{0.25, 0.5, 1, 0});
  double loss = 0;
  rlhf::value_inputs<double> critic;
  critic.value = value;
  critic.returns = target;
  critic.mask = mask;
  rlhf::value_outputs<double> out;
  out.loss = {&loss, 1};
  out.grad_value = gradient;
  REQUIRE(rlhf::value_loss{rlhf::squared_value{}}(backend, rows, critic, out));
  CHECK(loss == Approx((0.0625 + 0.0625 + 1) / 6));
  CHECK(gradient == std::vector<double>{0.25 / 3, -0.25 / 3, -1.0 / 3, 0});
}
