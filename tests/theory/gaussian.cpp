// REBEL on a few-step denoiser: the exact round where the reward is linear, and rounds towards a point where it is not.

#include <string>

#include "rlhf/theory/gaussian_learning.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

namespace {

using namespace rlhf;
using namespace rlhf::theory;

gaussian_steps denoiser() {
  gaussian_steps policy({0.8, 0.5, 0.3});
  const random_numbers numbers({1, 3});
  std::uint32_t i = 0;
  for (double& p : policy.parameters()) p += 0.3 * numbers.normal({.position = i++});
  return policy;
}

}  // namespace

TEST_CASE("a linear reward: REBEL's round is the exact tilt of every step") {
  const random_numbers numbers({2, 3});
  const gaussian_steps before = denoiser();
  gaussian_steps policy = before;
  const double eta = 0.7;
  const point w{0.6, -0.4};
  const auto pairs =
      draw_trajectories(before, 60, numbers, {}, [&](const point& x) { return w[0] * x[0] + w[1] * x[1]; });
  const regression_result found = rebel_round(policy, rebel{.eta = eta}, pairs);
  CHECK(found.converged);
  CHECK(found.loss < 1e-18);
  std::vector<double> want(before.parameters().begin(), before.parameters().end());
  point pull = w;  // (A_{K-1} ... A_{k+1})^T w
  for (std::size_t k = 3; k-- > 0;) {
    const double scale = eta * before.deviation(k) * before.deviation(k);
    double* const p = want.data() + k * gaussian_steps::per_step;
    p[4] += scale * pull[0], p[5] += scale * pull[1];
    pull = {p[0] * pull[0] + p[2] * pull[1], p[1] * pull[0] + p[3] * pull[1]};
  }
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(policy.parameters()[i] == Approx(want[i]).margin(1e-8));
  // The paper's scaling of the loss has the same minimiser.
  gaussian_steps scaled = before;
  CHECK(rebel_round(scaled, rebel{.eta = eta, .paper_scaling = true}, pairs).converged);
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(scaled.parameters()[i] == Approx(want[i]).margin(1e-8));
  // A single step is a Gaussian bandit: b moves by eta s^2 w.
  gaussian_steps bandit({0.5});
  (void)rebel_round(bandit, rebel{.eta = 2}, draw_trajectories(bandit, 30, numbers, {.prompt = 1}, [&](const point& x) {
                      return w[0] * x[0] + w[1] * x[1];
                    }));
  CHECK(bandit.parameters()[4] == Approx(2 * 0.25 * 0.6).margin(1e-9));
  CHECK(bandit.parameters()[5] == Approx(2 * 0.25 * -0.4).margin(1e-9));
}

TEST_CASE("pairs from one noise: rewards that depend on the noise alone teach nothing") {
  const random_numbers numbers({4, 3});
  const gaussian_steps before = denoiser();
  auto pairs = draw_trajectories(before, 50, numbers, {}, [](const point&) { return 0.0; });
  for (auto& p : pairs) {
    CHECK(p.first.front() == p.second.front());
    CHECK(p.first.back() != p.second.back());
    p.first_reward = p.second_reward = 3 * p.first.front()[0];
  }
  gaussian_steps policy = before;
  CHECK(rebel_round(policy, rebel{}, pairs).steps == 0);
  CHECK(std::equal(policy.parameters().begin(), policy.parameters().end(), before.parameters().begin()));
}

TEST_CASE("rounds of REBEL bring the pictures to a point, down to the last step's noise") {
  const random_numbers numbers({5, 3});
  gaussian_steps policy({0.6, 0.4, 0.2});
  const point target{1.5, -1};
  const auto reward = [&](const point& x) { return -std::pow(x[0] - target[0], 2) - std::pow(x[1] - target[1], 2); };
  const auto mean_reward = [&](std::uint32_t prompt) {
    double sum = 0;
    for (std::uint32_t i = 0; i < 4000; ++i)
      sum += reward(policy.sample(numbers, {.prompt = prompt, .sample = i}).back());
    return sum / 4000;
  };
  const double start = mean_reward(1000);
  for (std::uint32_t t = 0; t < 40; ++t)
    (void)rebel_round(policy, rebel{.eta = 0.5}, draw_trajectories(policy, 200, numbers, {.prompt = t}, reward));
  // The last step adds 0.2 to each axis and no policy takes it back: -2 0.2^2 is the best. Its error: 4 sqrt(4 0.2^4/4000).
  const double end = mean_reward(1001);
  CHECK(start < -4);
  CHECK(end > -0.08 - 0.03);
  CHECK(end < -0.08 + 4 * std::sqrt(4 * std::pow(0.2, 4) / 4000));
}

TEST_CASE("what the regression on trajectories refuses") {
  gaussian_steps policy({0.5});
  const random_numbers numbers({6, 3});
  const auto flat = [](const point&) { return 0.0; };
  CHECK(refusal([&] { (void)draw_trajectories(policy, 0, numbers, {}, flat); }) ==
        "draw_trajectories: count is 0, wants at least 1");
  CHECK(refusal([&] { (void)rebel_round(policy, rebel{}, {}); }) ==
        "rebel_round: the number of pairs is 0, wants at least 1");
  CHECK(refusal([&] { (void)rebel_round(policy, rebel{.eta = 0}, draw_trajectories(policy, 1, numbers, {}, flat)); }) ==
        "rebel: eta is 0, wants more than 0");
}
