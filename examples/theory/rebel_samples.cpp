// REBEL from finitely many pairs with noisy rewards: least squares around the exact round, with an error of the order of d/M.

#include "calls/check.hpp"
#include "rlhf/theory/rebel_learning.hpp"

using namespace rlhf::theory;

int main() {
  using calls::expect;
  const rlhf::random_numbers numbers({2, 0});
  matrix features(8, 3);
  for (Eigen::Index i = 0; i < features.size(); ++i)
    features(i % 8, i / 8) = numbers.normal({.prompt = 9, .position = static_cast<std::uint32_t>(i)});
  const vector reward = features * vector::Constant(3, 0.5);
  const log_linear start{features, vector::Zero(3)};
  const double eta = 0.5, deviation = 0.5;

  //! [round]
  // M pairs of the policy's own responses, their rewards with normal errors.
  const auto round = [&](std::uint32_t pairs, std::uint32_t repetition) {
    rebel_learner learner{{.eta = eta}, start};
    const rlhf::random_index at{.prompt = pairs, .sample = repetition};
    learner.round(
        draw_pairs(start.logp(), start.logp(), pairs, numbers, at, noisy_rewards{reward, deviation, numbers}));
    return learner;
  };
  //! [round]
  rebel_learner exact{{.eta = eta}, start};
  exact.round(reward);
  expect("the exact round is natural gradient",
         (exact.policy.theta - eta * start.natural(start.gradient(reward))).norm(), 0, 1e-9);

  //! [error]
  // E (Delta(y) - Delta(y'))^2 with Delta = log(pi_1/pi_0)/eta - r, times M: 2 s^2 d in the limit.
  for (const std::uint32_t pairs : {30u, 100u, 300u}) {
    double error = 0;
    for (std::uint32_t i = 0; i < 500; ++i)
      error += round(pairs, i).regression_error(start.logp(), reward, start.logp()) / 500;
    std::printf("%4u pairs: error %.5f, times M %.3f\n", pairs, error, error * pairs);
    expect("error times M, near 2 s^2 d = 1.5", error * pairs, 1.5, 0.1 + 6.0 / pairs);
  }
  //! [error]
  return calls::failures();
}
