// E11: KL regularisation makes learning a bandit's best policy faster.

#include "lab/support.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr Eigen::Index arms = 10;

/// Gap of the policy from sample means of n normal rewards for each arm; noise 1, drawn as the mean that it has.
double gap_of(const random_numbers& numbers, double n, double beta) {
  vector reward(arms);
  for (Eigen::Index y = 0; y < arms; ++y)
    reward[y] = numbers.uniform({.sample = 1, .position = static_cast<std::uint32_t>(y)});
  const vector estimate = reward + normal_vector(numbers, arms, 1000 + static_cast<std::uint32_t>(n), 1 / std::sqrt(n));
  const regularised_bandit truth{reward, uniform_logp(arms), beta}, guess{estimate, uniform_logp(arms), beta};
  return truth.gap(guess.best());
}

/// Regret of the greedy choice between two arms whose gap is the hardest for n: 1/sqrt(n).
double greedy_regret(const random_numbers& numbers, double n) {
  const double gap = 1 / std::sqrt(n);
  const double difference =
      gap + std::sqrt(2 / n) * numbers.normal({.sample = 2, .position = static_cast<std::uint32_t>(n)});
  return difference > 0 ? 0 : gap;
}

outcome run(const laboratory& lab) {
  const std::vector<double> sizes = {160, 320, 640, 1280, 2560, 5120, 10240}, betas = {1, 0.3, 0.1};
  constexpr std::size_t groups = 20;
  const auto in_group = static_cast<std::size_t>(lab.repetitions(1000, 400));
  outcome out;
  out.plots = {{"Means over repetitions", "samples of each arm", "gap", {}, true, true}};
  const auto study = [&](auto&& one) {
    std::vector<std::vector<double>> means(groups, std::vector<double>(sizes.size(), 0.0));
    const auto all = lab.repeat(static_cast<int>(groups), [&](std::size_t g) {
      std::vector<double> mean(sizes.size(), 0.0);
      for (std::size_t i = 0; i < in_group; ++i)
        for (std::size_t k = 0; k < sizes.size(); ++k)
          mean[k] += one(lab.numbers(g * in_group + i), sizes[k]) / static_cast<double>(in_group);
      return mean;
    });
    return all;
  };
  const auto add = [&](const std::string& name, const std::vector<std::vector<double>>& means) {
    curve c{name, sizes, std::vector<double>(sizes.size(), 0.0), false};
    for (const auto& m : means)
      for (std::size_t k = 0; k < sizes.size(); ++k) c.y[k] += m[k] / static_cast<double>(groups);
    out.plots[0].curves.push_back(c);
    return c;
  };
  const auto slopes = [&](const std::vector<std::vector<double>>& means) {
    std::vector<double> s;
    for (const auto& m : means) s.push_back(log_slope(sizes, m));
    return s;
  };
  for (const double beta : betas) {
    const auto means = study([beta](const random_numbers& numbers, double n) { return gap_of(numbers, n, beta); });
    char name[64];
    std::snprintf(name, sizeof name, "beta = %g", beta);
    add(name, means);
    std::snprintf(name, sizeof name, "slope in n, &beta; = %g", beta);
    out.checks.push_back(close(name, slopes(means), -1, 0.05, 0.05));
  }
  const auto greedy = study(greedy_regret);
  const curve c = add("greedy, hardest two arms", greedy);
  out.checks.push_back(
      close("slope in n, greedy on the hardest two arms for each n", slopes(greedy), -0.5, 0.05, 0.05));
  std::vector<double> constant;
  for (const auto& m : greedy)
    for (std::size_t k = 0; k < sizes.size(); ++k) constant.push_back(m[k] * std::sqrt(sizes[k]));
  // P(N(1, 2) < 0) = Phi(-1/sqrt 2)
  out.checks.push_back(
      close("its constant, &radic;n times the regret: &Phi;(&minus;1/&radic;2)", constant, 0.23975006, 0, 0.02));
  return out;
}

}  // namespace

experiment e11_fast_rate() {
  return {
      "E11",
      "The fast rate of KL regularisation",
      "The gap of the regularised best policy from estimated rewards falls like 1/n, because it is quadratic in the "
      "error; the "
      "greedy choice's worst regret falls like n<sup>&minus;1/2</sup>.",
      "arXiv 2502.07460, 2411.04625 (rates); the identity is derived",
      "<i>J(&pi;*) &minus; J(&pi;&#770;) = &beta; KL(&pi;&#770;||&pi;*) &le; max Var(r&#770; &minus; r)/(2&beta;)</i>",
      "10 arms with uniform rewards, n normal samples of each; &beta; of 1, 0.3 and 0.1. Greedy: two arms that differ "
      "by "
      "1/&radic;n.",
      run};
}

}  // namespace lab
