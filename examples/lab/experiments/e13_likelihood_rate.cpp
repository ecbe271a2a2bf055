// E13: the error of maximum likelihood in the norm of its data.

#include "lab/support.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/theory/reward_learning.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

/// sqrt(n / d) |theta_hat - theta*|_Sigma with Sigma the mean of x x^T.
double scaled_error(const random_numbers& numbers, Eigen::Index n, Eigen::Index d) {
  vector theta = normal_vector(numbers, d, 1);
  theta /= theta.norm();
  matrix x = normal_matrix(numbers, n, d, 2, std::sqrt(2.0));  // the difference of two normal features
  for (Eigen::Index i = 0; i < n; ++i)
    if (numbers.uniform({.sample = 3, .position = static_cast<std::uint32_t>(i)}) >= sigmoid(x.row(i).dot(theta)))
      x.row(i) *= -1;
  const fitted_reward fit = fit_reward(bradley_terry{}, {.difference = x}, {.tolerance = 1e-9});
  const vector error = fit.theta - theta;
  return (x * error).norm() / std::sqrt(static_cast<double>(d));
}

outcome run(const laboratory& lab) {
  const std::vector<double> sizes = {400, 1600, 6400}, dimensions = {4, 8, 16};
  constexpr int groups = 12;
  const int in_group = lab.repetitions(10, 6);
  // [dimension][size][repetition]
  std::vector<std::vector<std::vector<double>>> all;
  for (const double d : dimensions) {
    all.emplace_back();
    for (const double n : sizes)
      all.back().push_back(lab.repeat(groups * in_group, [&](std::size_t i) {
        return scaled_error(lab.numbers(i << 8 | static_cast<std::size_t>(d)), static_cast<Eigen::Index>(n),
                            static_cast<Eigen::Index>(d));
      }));
  }
  const auto mean = [&](std::size_t d, std::size_t n, std::size_t g) {
    double sum = 0;
    for (std::size_t i = g; i < all[d][n].size(); i += groups) sum += all[d][n][i] / in_group;
    return sum;
  };
  std::vector<double> in_n, in_d;
  for (std::size_t g = 0; g < groups; ++g) {
    std::vector<double> by_n, by_d;
    for (std::size_t n = 0; n < sizes.size(); ++n) by_n.push_back(mean(1, n, g) * std::sqrt(8 / sizes[n]));
    for (std::size_t d = 0; d < dimensions.size(); ++d)
      by_d.push_back(mean(d, 2, g) * std::sqrt(dimensions[d] / sizes[2]));
    in_n.push_back(log_slope(sizes, by_n));
    in_d.push_back(log_slope(dimensions, by_d));
  }
  outcome out;
  out.checks = {close("slope of the error in n, d = 8", in_n, -0.5, 0.06, 0.2),
                close("slope of the error in d, n = 6400", in_d, 0.5, 0.06, 0.25),
                close("&radic;(n/d) ||&theta;&#770; &minus; &theta;*||<sub>&Sigma;</sub>, d = 8, n = 6400", all[1][2],
                      2.2, 0.15, 0.5)};
  out.plots = {{"Mean error", "comparisons n", "error in the norm of the data", {}, true, true}};
  for (std::size_t d = 0; d < dimensions.size(); ++d) {
    curve c{"d = " + std::to_string(static_cast<int>(dimensions[d])), sizes, {}, false};
    for (std::size_t n = 0; n < sizes.size(); ++n)
      c.y.push_back(estimate_of(all[d][n]).mean * std::sqrt(dimensions[d] / sizes[n]));
    out.plots[0].curves.push_back(c);
  }
  return out;
}

}  // namespace

experiment e13_likelihood_rate() {
  return {"E13",
          "The rate of learning a reward",
          "The error of maximum likelihood, in the norm of its data, is of the order of &radic;(d/n).",
          "Zhu, Jordan, Jiao 2023, arXiv 2301.11270, lemma 3.1",
          "<i>||&theta;&#770; &minus; &theta;*||<sub>&Sigma;</sub> &le; C &radic;((d + "
          "log(1/&delta;))/(&gamma;<sup>2</sup>n))</i>",
          "Normal features, |&theta;*| = 1, labels of Bradley and Terry; d of 4, 8 and 16, n of 400 to 6400.",
          run};
}

}  // namespace lab
