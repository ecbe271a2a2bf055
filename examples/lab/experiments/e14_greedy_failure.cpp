// E14: a greedy choice believes an arm that has been seen once.

#include "lab/support.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/theory/pessimism.hpp"
#include "rlhf/theory/reward_learning.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

struct choice {
  double greedy = 0, pessimistic = 0;
  bool third = false;  ///< whether the third arm won its only comparison
};

/// Arms worth 1, 0, 0. The first two are compared n times, the third once with the second.
choice choose(const random_numbers& numbers, double n, double ball) {
  double won = 0;
  const double p = sigmoid(1.0);
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(n); ++i)
    won += numbers.uniform({.sample = 1, .position = i}) < p;
  const bool third = numbers.uniform({.sample = 2}) < 0.5;
  matrix wins = matrix::Zero(3, 3);
  wins(0, 1) = won, wins(1, 0) = n - won;
  wins(third ? 2 : 1, third ? 1 : 2) = 1;
  // Without a ball the third arm's most likely reward would be infinite.
  const fitted_reward fit = fit_reward_in_ball(bradley_terry{}, comparisons_of(wins), ball);
  const comparisons data = comparisons_of(wins);
  const double total = n + 1;
  const auto design =
      design_matrix::of_sum(data.difference.transpose() * data.count.asDiagonal() * data.difference / total, 1 / total);
  pessimistic_bandit bandit{matrix::Identity(3, 3), fit.theta, vector::Unit(3, 1), 0};
  const vector reward = vector::Unit(3, 0);
  choice out{.third = third};
  out.greedy = 1 - reward[bandit.choose(design)];
  bandit.radius = std::sqrt(3 / total);
  out.pessimistic = 1 - reward[bandit.choose(design)];
  return out;
}

outcome run(const laboratory& lab) {
  const std::vector<double> sizes = {10, 100, 1000, 10000};
  const int repetitions = lab.repetitions(600, 200);
  curve greedy{"greedy", sizes, {}, false}, careful{"pessimistic", sizes, {}, false};
  std::vector<double> last_greedy, last_careful, first_careful, too_large;
  double unlike_the_coin = 0;
  for (const double n : sizes) {
    const auto all = lab.repeat(
        repetitions, [&](std::size_t i) { return choose(lab.numbers(i << 16 | static_cast<std::size_t>(n)), n, 1); });
    std::vector<double> g, c;
    for (const choice& x : all) g.push_back(x.greedy), c.push_back(x.pessimistic);
    if (n == sizes.back()) {
      for (const choice& x : all) unlike_the_coin += std::fabs(x.greedy - (x.third ? 1 : 0));
      for (const choice& x : lab.repeat(200, [&](std::size_t i) { return choose(lab.numbers(i), n, 2); }))
        too_large.push_back(x.pessimistic);
    }
    greedy.y.push_back(estimate_of(g).mean), careful.y.push_back(estimate_of(c).mean);
    last_greedy = g, last_careful = c;
    if (n == sizes.front()) first_careful = c;
  }
  outcome out;
  out.checks = {
      close("what the greedy choice lacks at n = 10 000: the coin of the one comparison", last_greedy, 0.5, 0, 0.2),
      at_most("runs at n = 10 000 in which it does not follow that coin", unlike_the_coin, 0),
      at_most("what the pessimistic one lacks at n = 10 000", largest(last_careful), 0),
      clearly_above("and at n = 10, before the data tell", first_careful, 0.05),
      close("with a ball of radius 2 in place of 1, n = 10 000: the coin again", too_large, 0.5, 0, 0.2)};
  out.plots = {{"What the chosen arm lacks", "comparisons n", "mean suboptimality", {greedy, careful}, true, false}};
  out.note =
      "The specification names no ball, and the expectation that pessimism is never fooled holds for small ones only. "
      "With "
      "&theta;<sub>1</sub> &minus; &theta;<sub>2</sub> = 1 from the many comparisons, the ball of radius B lets the "
      "third arm that won "
      "rise to &theta;<sub>3</sub> &minus; &theta;<sub>2</sub> = &frac12; + &radic;(3(B&sup2; &minus; &frac12;)/2). "
      "Its uncertainty "
      "does not depend on n: ||&phi;<sub>3</sub> &minus; &nu;||&sup2; goes to 0.6 n, so that f = &radic;(3/n) takes "
      "off "
      "&radic;1.8 = 1.34. The pessimist keeps to the first arm where &frac12; + &radic;(3(B&sup2; &minus; &frac12;)/2) "
      "&minus; 1.34 "
      "&lt; 1, that is B &lt; 1.66: the confidence radius has to grow with the ball. The greedy choice is fooled from "
      "B&sup2; = 2/3 on, "
      "the smallest ball that holds the truth.";
  return out;
}

}  // namespace

experiment e14_greedy_failure() {
  return {"E14",
          "Greedy maximum likelihood fails for ever",
          "One comparison of a bad arm is enough for the most likely reward to be wrong about it with constant "
          "probability at any n; the "
          "lower end of the confidence interval is not fooled.",
          "Zhu, Jordan, Jiao 2023, arXiv 2301.11270, theorem 3.9",
          "<i>y&#770; = argmax &lang;&theta;&#770;, &phi; &minus; &nu;&rang; &minus; f ||&phi; &minus; "
          "&nu;||<sub>&Sigma;<sup>&minus;1</sup></sub></i>",
          "Arms worth 1, 0 and 0; the first two compared n times, the third once with the second. Maximum likelihood "
          "in a ball of "
          "radius 1; f = &radic;(3/n), &lambda; = 1/n, &nu; the second arm.",
          run};
}

}  // namespace lab
