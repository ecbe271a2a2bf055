// E3b: the error of a gradient that is estimated from preferences alone.

#include "lab/support.hpp"
#include "rlhf/theory/log_linear.hpp"
#include "rlhf/theory/zeroth_order.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr Eigen::Index arms = 6;

/// Counts of wins among n labels, by inversion of the binomial law of each difference of rewards.
class label_counts {
 public:
  label_counts(int n, const vector& reward) : arms_(reward.size()) {
    for (Eigen::Index a = 0; a < arms_; ++a)
      for (Eigen::Index b = 0; b < arms_; ++b) {
        const double z = reward[b] - reward[a];
        std::vector<double> below;
        double sum = 0;
        for (int k = 0; k <= n; ++k) {
          const double choose = std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0);
          below.push_back(sum += std::exp(choose + k * log_sigmoid(z) + (n - k) * log_sigmoid(-z)));
        }
        below.back() = 1;
        tables_.push_back(std::move(below));
      }
  }
  [[nodiscard]] double operator()(Eigen::Index a, Eigen::Index b, double u) const {
    const auto& below = tables_[static_cast<std::size_t>(a * arms_ + b)];
    return static_cast<double>(std::upper_bound(below.begin(), below.end(), u) - below.begin());
  }

 private:
  Eigen::Index arms_;
  std::vector<std::vector<double>> tables_;
};

/// One estimate of ZPG at the uniform policy from n pairs of responses with n labels each.
vector estimate(const log_linear& policy, int n, double mu, const label_counts& labels, const random_numbers& numbers,
                std::uint32_t i) {
  const vector v = search_direction(arms, 0, numbers, {.prompt = 1, .sample = i});
  log_linear moved = policy;
  moved.theta += mu * v;
  const vector here = policy.logp(), there = moved.logp();
  const logistic_link link;
  std::vector<double> counts;
  for (std::uint32_t pair = 0; pair < static_cast<std::uint32_t>(n); ++pair) {
    const Eigen::Index a = draw(here, numbers.uniform({2, i, pair, 0})),
                       b = draw(there, numbers.uniform({2, i, pair, 1}));
    counts.push_back(labels(a, b, numbers.uniform({2, i, pair, 2})));
  }
  return zeroth_order_gradient(value_difference(counts, n, link, link(-1) / 2), v, mu);
}

outcome run(const laboratory& lab) {
  const vector reward = vector::LinSpaced(arms, 0, 1);
  const log_linear policy = log_linear::tabular(vector::Zero(arms));
  const vector gradient = policy.gradient(reward);
  const double floor = (arms - 1) * gradient.squaredNorm();
  const std::vector<double> sizes = {64, 256, 1024};
  const std::vector<double> radii = {0.5, 1.5};
  outcome out;
  out.plots = {{"Squared error of the estimated gradient", "pairs N = labels M", "E |g - grad J|^2", {}, true, true}};
  std::vector<std::vector<double>> above(radii.size());
  for (std::size_t r = 0; r < radii.size(); ++r) {
    curve line{r == 0 ? "mu = 0.5" : "mu = 1.5", sizes, {}, false};
    std::vector<std::vector<double>> errors;
    for (const double size : sizes) {
      const int n = static_cast<int>(size), tasks = 32, each = lab.repetitions(1000, 400);
      const label_counts labels(n, reward);
      const auto all = lab.repeat(tasks, [&](std::size_t task) {
        double sum = 0;
        const random_numbers numbers = lab.numbers(task << 8 | r << 4 | errors.size());
        for (int i = 0; i < each; ++i)
          sum +=
              (estimate(policy, n, radii[r], labels, numbers, static_cast<std::uint32_t>(i)) - gradient).squaredNorm() /
              each;
        return sum;
      });
      errors.push_back(all);
      line.y.push_back(estimate_of(all).mean);
      above[r].push_back(line.y.back() - floor);
    }
    // Slope of what is above the floor, for groups of tasks.
    std::vector<double> slopes;
    for (std::size_t g = 0; g < 8; ++g) {
      double y[2] = {-floor, -floor};
      for (std::size_t task = g; task < errors[0].size(); task += 8)
        for (std::size_t k = 0; k < 2; ++k) y[k] += errors[k + 1][task] / static_cast<double>(errors[0].size() / 8);
      slopes.push_back(std::log(y[1] / y[0]) / std::log(4.0));
    }
    if (r == 0)
      out.checks.push_back(
          close("slope of the error above its floor in N = M, 256 to 1024, &mu; = 0.5", slopes, -1, 0.15, 0.4));
    out.plots[0].curves.push_back(line);
  }
  out.checks.push_back(close("error above the floor at N = M = 64, &mu; = 0.5 over &mu; = 1.5 (1/&mu;&sup2;: 9)",
                             above[0][0] / above[1][0], 9, 2.5));
  // The floor itself, with the true difference of values in place of labels and a small radius.
  const auto exact = lab.repeat(40, [&](std::size_t task) {
    const random_numbers numbers = lab.numbers(task << 8 | 255);
    double sum = 0;
    for (std::uint32_t i = 0; i < 2000; ++i) {
      const vector v = search_direction(arms, 0, numbers, {.sample = i});
      log_linear moved = policy;
      moved.theta += 1e-4 * v;
      const double difference = expectation(moved.logp(), reward) - expectation(policy.logp(), reward);
      sum += (zeroth_order_gradient(difference, v, 1e-4) - gradient).squaredNorm() / 2000;
    }
    return sum;
  });
  out.checks.push_back(
      close("without labels' noise: (d &minus; 1)|&nabla;J|&sup2; = 0.09722", exact, 0.0972222, 1e-4, 0.01));
  out.plots[0].curves.push_back({"floor (d - 1)|grad J|^2", sizes, std::vector<double>(sizes.size(), floor), false});
  out.note =
      "At small N the inverse of the link adds more than its share: the slope is meant for large N. The rest falls "
      "like (d/&mu;)&sup2;/N with the labels: a larger radius is worth more pairs, as long as the value "
      "is smooth.";
  return out;
}

}  // namespace

experiment e03b_zeroth_order() {
  return {
      "E3b",
      "The error of a zeroth-order gradient",
      "The squared error of ZPG's estimate is (d&minus;1)|&nabla;J|&sup2;, from the random direction, plus a part that "
      "falls like 1/N "
      "with pairs and labels and like 1/&mu;&sup2; with the radius.",
      "Zhang and Ying 2024, arXiv 2409.17401 (estimator); the error is derived",
      "<i>g = (d/&mu;) D&#770; v</i>, &nbsp; <i>D&#770; = (1/N) &sum; F<sup>&minus;1</sup>(p&#770;<sub>n</sub>)</i>",
      "6 arms worth 0 to 1, uniform policy, N pairs with N labels each from the logistic link, directions uniform on "
      "the sphere.",
      run};
}

}  // namespace lab
