// Policy gradient from preferences without a reward model: two policies, people say which did better (ZPG).

#include <vector>

#include "calls/check.hpp"
#include "rlhf/theory/log_linear.hpp"
#include "rlhf/theory/zeroth_order.hpp"

using namespace rlhf::theory;

//! [estimate]
// One estimate of grad J from `pairs` pairs of responses with `labels` labels each.
vector estimate(const log_linear& policy, const vector& reward, double radius, int pairs, int labels,
                const rlhf::random_numbers& numbers, std::uint32_t round) {
  const vector v = search_direction(policy.theta.size(), 0, numbers, {.prompt = round, .sample = 1u << 30});
  log_linear moved = policy;
  moved.theta += radius * v;
  const logistic_link link;
  std::vector<double> preferred;
  for (int n = 0; n < pairs; ++n) {
    const auto u = [&](std::uint32_t k, std::uint32_t draw) {
      return numbers.uniform({round, static_cast<std::uint32_t>(n), k, draw});
    };
    const Eigen::Index a = draw(moved.logp(), u(0, 0)), b = draw(policy.logp(), u(0, 1));
    double won = 0;
    for (int m = 0; m < labels; ++m) won += u(static_cast<std::uint32_t>(m + 1), 0) < link(reward[a] - reward[b]);
    preferred.push_back(won);
  }
  const double difference = value_difference(preferred, labels, link, 1.0 / labels);  // of the two policies' values
  return zeroth_order_gradient(difference, v, radius);                                // (d / mu) D v
}
//! [estimate]

int main() {
  using calls::expect;
  vector reward(4);
  reward << 0.0, 0.4, 0.7, 1.0;
  const rlhf::random_numbers numbers({1, 0});
  const log_linear start = log_linear::tabular(vector::Zero(4));

  vector mean = vector::Zero(4);
  const int rounds = 3000;
  for (int t = 0; t < rounds; ++t)
    mean += estimate(start, reward, 0.5, 40, 40, numbers, static_cast<std::uint32_t>(t)) / rounds;
  const vector truth = start.gradient(reward);
  const double cosine = mean.dot(truth) / (mean.norm() * truth.norm());
  std::printf("cosine of the mean of %d estimates to grad J: %.4f\n", rounds, cosine);
  expect("the mean points along grad J", cosine > 0.97);

  //! [ascent]
  log_linear policy = start;
  for (std::uint32_t t = 0; t < 400; ++t)
    policy.theta += 0.2 * estimate(policy, reward, 0.5, 20, 20, numbers, 100000 + t);
  //! [ascent]
  const double before = expectation(start.logp(), reward), after = expectation(policy.logp(), reward);
  std::printf("J: %.3f before, %.3f after 400 rounds; the best is 1\n", before, after);
  expect("ascent reaches 0.85", after > 0.85);
  return calls::failures();
}
