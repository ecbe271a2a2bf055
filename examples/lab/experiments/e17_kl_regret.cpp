// E17: regret under KL regularisation, without a bonus and with one.

#include "lab/support.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr Eigen::Index arms = 10;
constexpr int doublings = 7;  // 100, 200, ..., 6400

std::vector<double> regret_of(const random_numbers& numbers, double beta, double bonus) {
  vector reward(arms);
  for (Eigen::Index a = 0; a < arms; ++a)
    reward[a] = numbers.uniform({.sample = 1, .position = static_cast<std::uint32_t>(a)});
  const vector ref = uniform_logp(arms);
  const regularised_bandit truth{reward, ref, beta};
  const vector best = truth.best();
  vector sum = vector::Zero(arms), count = sum;
  double regret = 0;
  std::vector<double> out;
  const int rounds = 100 << (doublings - 1);
  const double width = bonus * std::sqrt(std::log(static_cast<double>(rounds)));
  for (std::uint32_t t = 1; t <= static_cast<std::uint32_t>(rounds); ++t) {
    vector guess(arms);
    for (Eigen::Index a = 0; a < arms; ++a)
      guess[a] = (count[a] > 0 ? sum[a] / count[a] : 0) + width / std::sqrt(count[a] + 1);
    const vector logp = mixed(gibbs(beta), ref, guess);
    regret += beta * kl(logp, best);
    const Eigen::Index a = draw(logp, numbers.uniform({.sample = 2, .position = t}));
    sum[a] += reward[a] + 0.5 * numbers.normal({.sample = 3, .position = t});
    count[a] += 1;
    if (t == 100u << out.size()) out.push_back(regret);
  }
  return out;
}

outcome run(const laboratory& lab) {
  const int n = lab.repetitions(400, 120);
  std::vector<double> times;
  for (int k = 0; k < doublings; ++k) times.push_back(100 << k);
  struct study {
    double beta, bonus;
    std::vector<std::vector<double>> runs;
    std::vector<double> mean;
  };
  std::vector<study> all;
  for (const double beta : {1.0, 0.2, 0.05})
    for (const double bonus : {0.0, 0.5}) {
      study s{beta, bonus, lab.repeat(n, [&](std::size_t i) { return regret_of(lab.numbers(i), beta, bonus); }),
              std::vector<double>(doublings, 0.0)};
      for (const auto& r : s.runs)
        for (std::size_t k = 0; k < r.size(); ++k) s.mean[k] += r[k] / n;
      all.push_back(std::move(s));
    }
  const auto growth = [](const study& s, std::size_t k) { return s.mean[k] - s.mean[k - 1]; };
  // The mean's own noise: by groups of runs.
  constexpr std::size_t groups = 10;
  const auto sum_of = [](const study& s, std::size_t g, std::size_t k) {
    double sum = 0;
    for (std::size_t i = g; i < s.runs.size(); i += groups) sum += s.runs[i][k];
    return sum;
  };
  const auto last_slopes = [&](const study& s) {
    std::vector<double> out;
    for (std::size_t g = 0; g < groups; ++g)
      out.push_back(std::log2(sum_of(s, g, doublings - 1) / sum_of(s, g, doublings - 2)));
    return out;
  };
  const study &calm = all[0], &eager = all[4], &careful = all[5];
  std::vector<double> bend, gain;
  for (std::size_t g = 0; g < groups; ++g) {
    bend.push_back((sum_of(calm, g, 6) - sum_of(calm, g, 5)) / (sum_of(calm, g, 4) - sum_of(calm, g, 3)));
    gain.push_back(sum_of(careful, g, doublings - 1) / sum_of(eager, g, doublings - 1));
  }
  outcome out;
  out.checks = {close("&beta; = 1, greedy: growth in the last doubling over that two doublings before (1: logarithmic)",
                      bend, 1, 0.25, 0.4),
                close("the same of the doubling between", growth(calm, 5) / growth(calm, 4), 1, 0.25),
                clearly_below("&beta; = 0.05 with a bonus: slope of log regret at the end", last_slopes(careful), 0.5),
                clearly_above("&beta; = 0.05 greedy: the same, still burning in", last_slopes(eager), 0.8),
                clearly_below("&beta; = 0.05: regret with the bonus over without, at the end", gain, 0.3)};
  out.plots = {{"Mean regret", "rounds", "regret", {}, true, true}};
  for (const study& s : all) {
    char name[64];
    std::snprintf(name, sizeof name, "beta %g, %s", s.beta, s.bonus > 0 ? "bonus" : "greedy");
    out.plots[0].curves.push_back({name, times, s.mean, false});
  }
  out.note =
      "Regularisation explores by itself: at &beta; = 1 no bonus is needed. At small &beta; the greedy policy needs of "
      "the order of "
      "e<sup>1/&beta;</sup> rounds before it has looked everywhere.";
  return out;
}

}  // namespace

experiment e17_kl_regret() {
  return {"E17",
          "Regret under KL regularisation",
          "With strong regularisation even the policy without a bonus has logarithmic regret; with weak regularisation "
          "it burns in for "
          "exponentially long, and a bonus pays.",
          "arXiv 2502.07460 (optimism), 2510.24700 (greedy), 2603.02155 (bandits)",
          "<i>&pi;<sub>t</sub> &prop; &pi;<sub>ref</sub> e<sup>(&mu;&#770;<sub>a</sub> + "
          "b<sub>a</sub>)/&beta;</sup></i>, &nbsp; "
          "<i>b<sub>a</sub> = c &radic;(log T/(N<sub>a</sub> + 1))</i>",
          "10 arms with uniform rewards, noise 0.5, uniform reference; c = 0.5 or 0; 6400 rounds.",
          run};
}

}  // namespace lab
