// References that follow the policy, against closed forms.

#include "rlhf/train/reference_sync.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "rlhf/math/random.hpp"
#include "support/catch.hpp"

namespace {

std::vector<float> normals(std::size_t n, std::uint32_t position) {
  const rlhf::random_numbers numbers{{.seed = 5}};
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i)
    x[i] = static_cast<float>(numbers.normal({.prompt = static_cast<std::uint32_t>(i), .position = position}));
  return x;
}

}  // namespace

TEST_CASE("the distance to a policy that stands still shrinks geometrically") {
  for (const double a : {0.01, 0.3, 0.6}) {
    rlhf::reference_sync sync{.mixing = a, .every = 1};
    const auto policy = normals(17, 0), first = normals(17, 1);
    auto reference = first;
    for (int n = 1; n <= 40; ++n) {
      CHECK(sync.step(reference, policy));
      for (std::size_t i = 0; i < 17; ++i) {
        const double p = static_cast<double>(policy[i]), r = static_cast<double>(first[i]);
        CHECK(static_cast<double>(reference[i]) == Approx(p + std::pow(1 - a, n) * (r - p)).margin(2e-6));
      }
    }
  }
}

TEST_CASE("the reference moves after every k updates and at no other time") {
  rlhf::reference_sync sync;  // 0.6 every 512
  const std::vector<float> policy{1, -2};
  std::vector<float> reference{0, 0};
  std::vector<std::int64_t> moved;
  for (std::int64_t t = 1; t <= 1100; ++t)
    if (sync.step(reference, policy)) moved.push_back(t);
  CHECK(moved == std::vector<std::int64_t>{512, 1024});
  CHECK(sync.steps == 1100);
  CHECK(reference[0] == Approx(1 - 0.16));
  CHECK(reference[1] == Approx(-2 + 2 * 0.16));
}

TEST_CASE("a = 1 copies, a = 0 keeps, agreement stays bit by bit") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> policy{0.1f, 3e-39f, -7.7f};
  std::vector<float> reference{nan, 5, 1};
  rlhf::reference_sync{.mixing = 1, .every = 1}.step(reference, policy);
  CHECK(reference == policy);
  rlhf::reference_sync{.mixing = 0.3, .every = 1}.step(reference, policy);
  CHECK(reference == policy);
  std::vector<float> kept{4, 5, 6};
  rlhf::reference_sync{.mixing = 0, .every = 1}.step(kept, policy);
  CHECK(kept == std::vector<float>{4, 5, 6});
}

TEST_CASE("synchronisation continues bit by bit from its state, and refuses what is out of range") {
  rlhf::reference_sync one{.mixing = 0.37, .every = 3};
  rlhf::bias_corrected_average two{.every = 2};
  auto reference = normals(9, 100), average = reference;
  for (std::uint32_t t = 0; t < 7; ++t) {
    one.step(reference, normals(9, t));
    two.step(average, normals(9, t));
  }
  rlhf::reference_sync one_again{.mixing = 0.37, .every = 3, .steps = one.steps};
  rlhf::bias_corrected_average two_again{.every = 2, .steps = two.steps, .start = two.start, .average = two.average};
  auto reference_again = reference, average_again = average;
  for (std::uint32_t t = 7; t < 20; ++t) {
    const auto policy = normals(9, t);
    CHECK(one.step(reference, policy) == one_again.step(reference_again, policy));
    CHECK(two.step(average, policy) == two_again.step(average_again, policy));
  }
  CHECK(reference == reference_again);
  CHECK(average == average_again);

  std::vector<float> longer(10);
  CHECK_THROWS_AS(one.step(longer, reference), std::invalid_argument);
  CHECK_THROWS_AS(two.step(longer, reference), std::invalid_argument);
  CHECK_THROWS_AS(two.step(longer, longer), std::invalid_argument);
  CHECK(one.steps == 20);
  CHECK_THROWS_AS((rlhf::reference_sync{.mixing = 1.5}.step(longer, longer)), std::invalid_argument);
  CHECK_THROWS_AS((rlhf::reference_sync{.every = 0}.step(longer, longer)), std::invalid_argument);
  CHECK_THROWS_AS((rlhf::bias_corrected_average{.lag = 0}.step(longer, longer)), std::invalid_argument);
}

TEST_CASE("the bias-corrected average by its definition") {
  rlhf::bias_corrected_average bema{.average_power = 0.7, .bias_power = 0.3, .lag = 4, .multiplier = 2, .every = 3};
  std::vector<float> reference(1);
  double average = 0, start = 0;
  for (std::uint32_t t = 0; t < 30; ++t) {
    const auto policy = normals(1, t);
    const double theta = static_cast<double>(policy[0]);
    const float before = reference[0];
    CHECK(bema.step(reference, policy) == (t % 3 == 0));
    if (t == 0) {
      start = average = theta;
      CHECK(reference[0] == policy[0]);
    } else if (t % 3 == 0) {
      const double beta = std::pow(4 + 2.0 * t, -0.7), alpha = std::pow(4 + 2.0 * t, -0.3);
      average += beta * (theta - average);
      CHECK(static_cast<double>(reference[0]) == Approx(average + alpha * (theta - start)).epsilon(1e-6));
    } else {
      CHECK(reference[0] == before);
    }
  }
  // Without the correction it is the average alone.
  rlhf::bias_corrected_average plain{.bias_power = std::numeric_limits<double>::infinity(), .every = 1};
  const std::vector<float> zero{0}, one{1};
  plain.step(reference, zero);
  plain.step(reference, one);
  CHECK(static_cast<double>(reference[0]) == Approx(std::pow(11, -0.5)));
}
