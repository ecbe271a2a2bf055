// AdamW and clipping against PyTorch's formulas in double, and against steps worked by hand.

#include "rlhf/train/optimizer.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

#include "rlhf/math/random.hpp"
#include "rlhf/train/update.hpp"
#include "support/catch.hpp"

TEST_CASE("the first step of AdamW, by hand") {
  // The first step is the learning rate times the sign of the gradient (up to epsilon), after the decay.
  std::vector<float> parameters{1.0f, -2.0f, 0.5f};
  const std::vector<float> gradient{0.3f, -4.0f, 0.0f};
  rlhf::adamw optimizer{.options = {.weight_decay = 0.1}};
  optimizer.step(parameters, gradient, 0.01);
  CHECK(parameters[0] == Approx(1.0 * (1 - 0.001) - 0.01).epsilon(0).margin(1e-6));
  CHECK(parameters[1] == Approx(-2.0 * (1 - 0.001) + 0.01).epsilon(0).margin(1e-6));
  CHECK(parameters[2] == Approx(0.5 * (1 - 0.001)).epsilon(0).margin(1e-7));
  CHECK(optimizer.steps == 1);
  CHECK(optimizer.first_moment[0] == Approx(0.03).epsilon(1e-6));
  CHECK(optimizer.second_moment[1] == Approx(0.016).epsilon(1e-5));
}

TEST_CASE("the place of epsilon is that of PyTorch: after the bias correction") {
  // With |g| = epsilon the corrected step is half the learning rate; a wrong place gives another number.
  std::vector<float> parameters{0.0f};
  const std::vector<float> gradient{1e-3f};
  rlhf::adamw optimizer{.options = {.epsilon = 1e-3, .weight_decay = 0}};
  optimizer.step(parameters, gradient, 0.1);
  CHECK(parameters[0] == Approx(-0.05).epsilon(1e-5));
}

TEST_CASE("AdamW follows PyTorch's formula in double over many steps") {
  const rlhf::random_numbers numbers{{.seed = 11}};
  constexpr std::size_t n = 37;
  const rlhf::adamw_options options{.beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.05};
  rlhf::adamw optimizer{.options = options};
  std::vector<float> parameters(n), gradient(n);
  std::vector<double> theta(n), m(n), v(n);
  for (std::size_t i = 0; i < n; ++i) {
    parameters[i] = static_cast<float>(numbers.normal({.prompt = static_cast<std::uint32_t>(i)}));
    theta[i] = parameters[i];
  }
  for (std::uint32_t t = 1; t <= 100; ++t) {
    const double rate = 0.01 / t;
    for (std::size_t i = 0; i < n; ++i)
      gradient[i] = static_cast<float>(numbers.normal({.prompt = static_cast<std::uint32_t>(i), .position = t}));
    optimizer.step(parameters, gradient, rate);
    for (std::size_t i = 0; i < n; ++i) {
      const double g = gradient[i];
      theta[i] *= 1 - rate * options.weight_decay;
      m[i] = options.beta1 * m[i] + (1 - options.beta1) * g;
      v[i] = options.beta2 * v[i] + (1 - options.beta2) * g * g;
      const double denominator = std::sqrt(v[i]) / std::sqrt(1 - std::pow(options.beta2, t)) + options.epsilon;
      theta[i] -= rate / (1 - std::pow(options.beta1, t)) * m[i] / denominator;
    }
  }
  for (std::size_t i = 0; i < n; ++i) CHECK(parameters[i] == Approx(theta[i]).epsilon(0).margin(2e-6));
}

TEST_CASE("AdamW continues bit by bit from a copy of its state, and refuses wrong sizes") {
  std::vector<float> parameters{1, 2, 3}, copy;
  const std::vector<float> gradient{0.1f, -0.2f, 0.3f};
  rlhf::adamw optimizer;
  optimizer.step(parameters, gradient, 0.1);
  rlhf::adamw restored{optimizer.options, optimizer.steps, optimizer.first_moment, optimizer.second_moment};
  copy = parameters;
  optimizer.step(parameters, gradient, 0.1);
  restored.step(copy, gradient, 0.1);
  CHECK(copy == parameters);

  std::vector<float> longer(4);
  CHECK_THROWS_AS(optimizer.step(longer, gradient, 0.1), std::invalid_argument);
  CHECK_THROWS_AS(optimizer.step(longer, longer, 0.1), std::invalid_argument);
}

TEST_CASE("clipping returns the norm and scales only what is too long") {
  std::vector<float> gradient{3, 0, -4, 0, 12};
  CHECK(rlhf::gradient_norm(gradient) == 13);
  CHECK(rlhf::clip_gradient_norm(gradient, 20) == 13);
  CHECK(gradient == std::vector<float>{3, 0, -4, 0, 12});
  CHECK(rlhf::clip_gradient_norm(gradient, 1.3) == 13);
  const double factor = 1.3 / (13 + 1e-6);
  CHECK(gradient[0] == Approx(3 * factor).epsilon(1e-6));
  CHECK(gradient[2] == Approx(-4 * factor).epsilon(1e-6));
  CHECK(gradient[4] == Approx(12 * factor).epsilon(1e-6));
  CHECK(rlhf::gradient_norm(gradient) == Approx(1.3).epsilon(1e-6));

  std::vector<float> none;
  CHECK(rlhf::clip_gradient_norm(none, 1) == 0);
}

TEST_CASE("the norm does not overflow where its square would in float, and a non-finite gradient is left alone") {
  std::vector<float> large{3e30f, 4e30f};
  CHECK(rlhf::clip_gradient_norm(large, 1) == Approx(5e30).epsilon(1e-6));
  CHECK(large[1] == Approx(0.8).epsilon(1e-6));

  std::vector<float> broken{1, std::numeric_limits<float>::infinity()};
  CHECK(std::isinf(rlhf::clip_gradient_norm(broken, 1)));
  CHECK(broken[0] == 1);
  broken[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(rlhf::clip_gradient_norm(broken, 1)));
  CHECK(broken[0] == 1);
}

TEST_CASE("an update that would stop, ascend or poison is refused by name") {
  struct {
    std::vector<float> w{1, 2}, g{3, 4};
    std::span<float> parameters() { return w; }
    std::span<float> gradient() { return g; }
  } model;
  const auto with = [&](double rate, double maximum) {
    rlhf::parameter_update update{rlhf::constant_schedule{rate}, rlhf::adamw{}, maximum};
    return update.apply(model);
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(with(0.1, 0), "parameter_update: maximum_norm is 0, wants more than 0 (infinity turns it off)");
  CHECK_THROWS_WITH(with(0.1, -1), "parameter_update: maximum_norm is -1, wants more than 0 (infinity turns it off)");
  CHECK_THROWS_WITH(with(0.1, nan), "parameter_update: maximum_norm is nan, wants more than 0 (infinity turns it off)");
  CHECK_THROWS_WITH(with(nan, 1), "parameter_update: the rate is nan, wants a finite number, 0 or more");
  CHECK_THROWS_WITH(with(-0.1, 1), "parameter_update: the rate is -0.1, wants a finite number, 0 or more");
  CHECK(model.w == std::vector<float>{1, 2});
  model.g.push_back(5);
  CHECK_THROWS_WITH(with(0.1, 1), "parameter_update: the model's gradient has 3 elements, wants 2");
  model.g.pop_back();
  CHECK(with(0.1, std::numeric_limits<double>::infinity()) == 5);
  CHECK(model.w[0] < 1);
}
