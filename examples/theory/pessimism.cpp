// Learning rewards from few comparisons: when there is no most likely reward, and how the lower end of a confidence
// interval keeps a policy away from what the data do not know.

#include "rlhf/theory/pessimism.hpp"
#include "calls/check.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/theory/reward_learning.hpp"

using namespace rlhf::theory;

int main() {
  using calls::expect;
  //! [data]
  // Arms worth 1, 0 and 0. The first beat the second 731 times of 1000; the third won its only comparison, by luck.
  matrix wins = matrix::Zero(3, 3);
  wins(0, 1) = 731, wins(1, 0) = 269, wins(2, 1) = 1;
  const comparisons data = comparisons_of(wins);
  const fitted_reward free = fit_reward(rlhf::bradley_terry{}, data);  // no maximum: the third score rises for ever
  const fitted_reward fit = fit_reward_in_ball(rlhf::bradley_terry{}, data, 1);
  //! [data]
  expect("the free fit is found to diverge", free.diverged);
  bool refused = false;
  try {
    (void)fit_scores(rlhf::bradley_terry{}, wins);
  } catch (const std::invalid_argument& message) {
    std::printf("%s\n", message.what());
    refused = true;
  }
  expect("scores for a graph of wins that is not connected: refused", refused);
  expect("the fit stays in its ball", fit.theta.norm(), 1, 1e-6);

  //! [choose]
  const double n = data.total();
  const matrix sum = data.difference.transpose() * data.count.asDiagonal() * data.difference / n;
  const design_matrix design = design_matrix::of_sum(sum, 1 / n);  // Sigma = mean x x^T + lambda
  pessimistic_bandit bandit{matrix::Identity(3, 3), fit.theta, vector::Unit(3, 1), 0};
  const Eigen::Index greedy = bandit.choose(design);
  bandit.radius = std::sqrt(3 / n);  // of the order sqrt(d / n)
  const Eigen::Index careful = bandit.choose(design);
  //! [choose]
  const vector lower = bandit.lower_values(design);
  std::printf("estimates %.2f %.2f %.2f, lower ends %.2f %.2f %.2f\n", fit.theta[0], fit.theta[1], fit.theta[2],
              lower[0], lower[1], lower[2]);
  expect("greedy: the arm with one lucky win", greedy == 2);
  expect("pessimistic: the arm that is best", careful == 0);

  // With enough comparisons of every pair the estimate is within its interval, and both agree.
  for (Eigen::Index a = 0; a < 3; ++a)
    for (Eigen::Index b = 0; b < 3; ++b)
      if (a != b) wins(a, b) = 1000 * rlhf::sigmoid((a == 0 ? 1.0 : 0.0) - (b == 0 ? 1.0 : 0.0));
  const fitted_reward known = fit_scores(rlhf::bradley_terry{}, wins);
  expect("labels as often as they fall on average: the reward itself", known.theta[0] - known.theta[1], 1, 1e-9);
  return calls::failures();
}
