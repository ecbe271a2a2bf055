// X8: what an error of REBEL's regression costs.

#include "lab/support.hpp"
#include "rlhf/theory/mirror_descent.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

/// A best arm that the regression undervalues by Delta, a runner-up that falls short of it by `shortfall`, and worse ones.
struct biased_bandit {
  vector reward, seen, start, data;
  double error = 0;  ///< Delta; the data mu show the best arm with probability 1 / C

  biased_bandit(const random_numbers& numbers, double epsilon, double coverage, double shortfall)
      : error(std::sqrt(coverage * epsilon)) {
    constexpr Eigen::Index arms = 30;
    reward.resize(arms);
    for (Eigen::Index y = 0; y < arms; ++y)
      reward[y] = 0.9 - 3 * shortfall - numbers.uniform({.position = static_cast<std::uint32_t>(y)});
    reward[0] = 1;
    reward[1] = 1 - shortfall;
    seen = reward;
    seen[0] -= error;
    start = log_softmax(normal_vector(numbers, arms, 1));
    data = vector::Constant(arms, (1 - 1 / coverage) / (arms - 1));
    data[0] = 1 / coverage;
  }
  [[nodiscard]] double gap(const vector& logp) const { return expectation(logp, (1 - reward.array()).matrix()); }
  /// \f$ E_{y\sim\pi, y'\sim\mu}(\Delta(y) - \Delta(y'))^2 \f$.
  [[nodiscard]] double regression_error(const vector& logp) const {
    const double p = std::exp(logp[0]);
    return error * error * (p * (1 - data[0]) + (1 - p) * data[0]);
  }
  /// The policy after rounds of total length eta T = `time`.
  [[nodiscard]] vector after(double time) const { return log_softmax(start + time * seen); }
};

struct floor_of {
  double gap = 0, share = 0, excess = -infinity;
};

/// The worst runner-up for an error of that size: where the policy ends is measured for each of them.
floor_of measure(const random_numbers& numbers, double epsilon, double coverage) {
  floor_of out;
  const double delta = std::sqrt(coverage * epsilon);
  for (const double ratio : geometric(0.26, 4, 57)) {
    const biased_bandit bandit(numbers, epsilon, coverage, ratio * delta);
    const vector last = bandit.after(1e9);
    if (bandit.gap(last) > out.gap) {
      out.gap = bandit.gap(last);
      out.share = out.gap / std::sqrt(coverage * bandit.regression_error(last));
    }
    // The theorem on the average of T rounds, with its constants, for the error that the rounds really made.
    constexpr int rounds = 100;
    double divergence = -bandit.start[0];
    const double most = range_of(bandit.seen);  // at least |g - E g| under every policy
    const double eta = std::min(std::sqrt(divergence / rounds) / most, 1 / most);
    double average = 0, worst = 0;
    for (int t = 0; t < rounds; ++t) {
      const vector logp = bandit.after(eta * t);
      average += bandit.gap(logp) / rounds;
      worst = std::max(worst, bandit.regression_error(logp));
    }
    out.excess =
        std::max(out.excess, average - (divergence / (eta * rounds) + eta * most * most + std::sqrt(coverage * worst)));
  }
  return out;
}

outcome run(const laboratory& lab) {
  const std::vector<double> epsilons = geometric(1e-5, 1e-2, 13), coverages = geometric(2, 64, 11);
  const int repetitions = lab.repetitions(16, 6);
  struct result {
    std::vector<floor_of> by_epsilon, by_coverage;
  };
  const auto all = lab.repeat(repetitions, [&](std::size_t i) {
    result r;
    for (const double e : epsilons) r.by_epsilon.push_back(measure(lab.numbers(i), e, 8));
    for (const double c : coverages) r.by_coverage.push_back(measure(lab.numbers(i), 1e-3, c));
    return r;
  });
  std::vector<double> in_epsilon, in_coverage;
  double excess = -infinity, least = infinity, most = 0;
  for (const result& r : all) {
    std::vector<double> y, z;
    for (const floor_of& f : r.by_epsilon) y.push_back(f.gap);
    for (const floor_of& f : r.by_coverage) z.push_back(f.gap);
    in_epsilon.push_back(log_slope(epsilons, y));
    in_coverage.push_back(log_slope(coverages, z));
    for (const auto& list : {r.by_epsilon, r.by_coverage})
      for (const floor_of& f : list) {
        excess = std::max(excess, f.excess);
        least = std::min(least, f.share), most = std::max(most, f.share);
      }
  }
  outcome out;
  out.checks = {close("slope of the floor in the regression error &epsilon;", in_epsilon, 0.5, 0.05, 0.05),
                close("slope in the coverage C", in_coverage, 0.5, 0.05, 0.05),
                at_most("worst floor over &radic;(C&epsilon;), largest", most, 1 + 1e-9),
                at_least("the same, smallest", least, 0.94),
                at_most("average of 100 rounds beyond the theorem's bound", excess, 0)};
  curve floor{"C = 8", epsilons, {}, false}, bound{"sqrt(C epsilon)", epsilons, {}, false};
  for (std::size_t k = 0; k < epsilons.size(); ++k) {
    floor.y.push_back(all[0].by_epsilon[k].gap);
    bound.y.push_back(std::sqrt(8 * epsilons[k]));
  }
  out.plots = {{"Shortfall in the long run",
                "mean squared error of the regression",
                "J(best) - J(policy)",
                {floor, bound},
                true,
                true}};
  out.note =
      "Where the runner-up falls short by less than &Delta; the policy ends on it. Once it has left the best arm, only "
      "the data see the error, with probability 1/C: so &epsilon; is "
      "&Delta;&sup2;/C.";
  return out;
}

}  // namespace

experiment x08_regression_floor() {
  return {"X8",
          "The floor of inexact REBEL",
          "A regression error &epsilon; on data that cover the best response with density 1/C leaves a shortfall of "
          "the order of "
          "&radic;(C&epsilon;), and the average of T rounds obeys the bound with its constants.",
          "Gao et al. 2024, arXiv 2404.16767, theorem 1, with constants re-derived",
          "<i>(1/T) &sum;<sub>t</sub> [J(&pi;*) &minus; J(&pi;<sub>t</sub>)] &le; KL(&pi;*||&pi;<sub>1</sub>)/(&eta;T) "
          "+ &eta;A"
          "<sup>2</sup> + &radic;(C&epsilon;)</i>",
          "30 arms with random rewards and first policy; the regression undervalues the best one by &Delta;, which the "
          "data show with "
          "probability 1/C. The floor is the worst over 57 shortfalls of the runner-up, from &Delta;/4 to 4&Delta; in "
          "steps of 5 %.",
          run};
}

}  // namespace lab
