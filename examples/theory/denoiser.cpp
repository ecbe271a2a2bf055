// REBEL trains a picture model: a denoiser of three Gaussian steps, its pictures points of the plane.

#include "calls/check.hpp"
#include "rlhf/theory/gaussian_learning.hpp"

using namespace rlhf::theory;

int main() {
  using calls::expect;
  const rlhf::random_numbers numbers({3, 0});
  //! [tilt]
  // A linear reward <w, x>: the exact round moves every step's mean along what it does to the end, by eta s_k^2 A^T ... A^T w.
  rlhf::gaussian_steps policy({0.6, 0.4, 0.2});  // begins at A = I, b = 0
  const auto linear = [](const rlhf::point& x) { return x[0] - 2 * x[1]; };
  const regression_result found =
      rebel_round(policy, rlhf::rebel{.eta = 0.5}, draw_trajectories(policy, 40, numbers, {}, linear));
  //! [tilt]
  expect("the regression's residual", found.loss, 0, 1e-12);
  expect("the first step's b moves along the first axis by eta s^2", policy.parameters()[4], 0.5 * 0.36, 1e-8);
  expect("and along the second by -2 eta s^2", policy.parameters()[5], -0.5 * 2 * 0.36, 1e-8);
  expect("the last step's by the same, for its smaller noise", policy.parameters()[16], 0.5 * 0.04, 1e-8);

  //! [rounds]
  // Pictures shall be near a point: 30 rounds of 200 pairs, each pair from one starting noise.
  const auto near = [](const rlhf::point& x) { return -std::pow(x[0] - 1.5, 2) - std::pow(x[1] + 1, 2); };
  const auto mean_reward = [&](std::uint32_t prompt) {
    double sum = 0;
    for (std::uint32_t i = 0; i < 2000; ++i)
      sum += near(policy.sample(numbers, {.prompt = prompt, .sample = i}).back()) / 2000;
    return sum;
  };
  double last = 0;
  for (std::uint32_t t = 0; t < 30; ++t) {
    if (t == 0 || t == 3 || t == 10) std::printf("round %2u: mean reward %.3f\n", t, mean_reward(1000 + t));
    (void)rebel_round(policy, rlhf::rebel{.eta = 0.5},
                      draw_trajectories(policy, 200, numbers, {.prompt = t + 1}, near));
  }
  last = mean_reward(2000);
  //! [rounds]
  std::printf("round 30: mean reward %.3f\n", last);
  expect("down to the last step's own noise, -2 s^2", last, -0.08, 0.03);
  return calls::failures();
}
