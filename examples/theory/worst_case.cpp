// The worst case of a mean of losses over weights near the given ones: what DRTO minimises instead of the mean.

#include <vector>

#include "calls/check.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/robust_aggregate.hpp"
#include "rlhf/theory/robust_learning.hpp"

int main() {
  using calls::expect;
  rlhf::reference_backend cpu;
  //! [worst]
  // Losses of three groups of prompts, as common as `weight` says; elsewhere not quite, up to a KL of rho = 0.2.
  const std::vector<double> loss{0.2, 0.9, 1.5}, weight{0.7, 0.2, 0.1};
  const auto worst = [&](const std::vector<double>& l, double rho, std::vector<double>& w) {
    double value = 0;
    rlhf::or_throw(rlhf::robust_aggregate<rlhf::kl_ball>{{.radius = rho}}(
        cpu, rlhf::robust_inputs<double>{.loss = l, .weight = weight},
        rlhf::robust_outputs<double>{.loss = {&value, 1}, .weight = w}));
    return value;
  };
  std::vector<double> w(3);
  const double value = worst(loss, 0.2, w);
  //! [worst]
  double sum = 0, divergence = 0, mean = 0;
  for (std::size_t g = 0; g < 3; ++g)
    sum += w[g], divergence += w[g] * std::log(w[g] / weight[g]), mean += w[g] * loss[g];
  std::printf("weights %.3f %.3f %.3f\n", w[0], w[1], w[2]);
  expect("the weights add up to", sum, 1, 1e-9);
  expect("and spend the whole radius: KL", divergence, 0.2, 1e-6);
  expect("the worst case is their mean loss", value, mean, 1e-9);
  expect("they are a tilt, w = q e^(l/t): both slopes of log(w/q) in l",
         (std::log(w[1] / weight[1]) - std::log(w[0] / weight[0])) / (loss[1] - loss[0]),
         (std::log(w[2] / weight[2]) - std::log(w[1] / weight[1])) / (loss[2] - loss[1]), 1e-6);

  // Danskin: the weights are the gradient of the worst case in the losses.
  std::vector<double> up = loss, down = loss, unused(3);
  up[2] += 1e-4, down[2] -= 1e-4;
  expect("gradient in the third loss", (worst(up, 0.2, unused) - worst(down, 0.2, unused)) / 2e-4, w[2], 1e-6);

  //! [radius]
  // No radius: the mean. From -log q(worst group) on: the largest loss alone.
  double last = worst(loss, 0, w);
  for (const double rho : {0.01, 0.1, 0.5, 1.0, 2.3, 3.0}) {
    const double now = worst(loss, rho, w);
    expect("a larger radius is never better", now >= last - 1e-12);
    last = now;
  }
  //! [radius]
  expect("radius 0", worst(loss, 0, w), 0.7 * 0.2 + 0.2 * 0.9 + 0.1 * 1.5, 1e-12);
  expect("radius 3", last, 1.5, 1e-9);

  //! [learn]
  // Learning against the worst case: one number for three groups that want 0, 1 and 3, the last of them 5 %.
  using namespace rlhf::theory;
  vector share(3), wanted(3);
  share << 0.7, 0.25, 0.05;
  wanted << 0, 1, 3;
  const auto groups = [&](const vector& theta) {
    std::vector<population_loss> out;
    for (const double c : wanted)
      out.push_back({0.5 * std::pow(theta[0] - c, 2), vector::Constant(1, theta[0] - c), matrix::Ones(1, 1)});
    return out;
  };
  const auto learned = [&](double rho) {
    return learn_robustly(rlhf::kl_ball{.radius = rho}, share, groups, vector::Zero(1));
  };
  const robust_solution plain = learned(0), robust = learned(0.2), whole = learned(10);
  //! [learn]
  std::printf("theta %.3f, %.3f, %.3f; worst group's loss %.3f, %.3f, %.3f\n", plain.theta[0], robust.theta[0],
              whole.theta[0], plain.loss.maxCoeff(), robust.loss.maxCoeff(), whole.loss.maxCoeff());
  expect("no radius: the mean of what is wanted", plain.theta[0], 0.4, 1e-9);
  expect("every radius: the middle of the outermost", whole.theta[0], 1.5, 1e-6);
  expect("in between", robust.theta[0] > plain.theta[0] && robust.theta[0] < whole.theta[0]);
  expect("proved: nothing is better by more than", robust.gap, 0, 1e-7);
  return calls::failures();
}
