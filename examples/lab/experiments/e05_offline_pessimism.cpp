// E5: offline, plain maximum likelihood trusts what it has hardly seen; pessimism does not.

#include "lab/support.hpp"
#include "rlhf/theory/online_preferences.hpp"
#include "rlhf/theory/value_incentive.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr Eigen::Index arms = 10;
constexpr double beta = 0.1, bound = 2;

/// J(best) - J(policy) for each strength of pessimism and number of pairs.
matrix learn(const random_numbers& numbers, const std::vector<double>& strengths, const std::vector<double>& sizes) {
  vector reward(arms), seen = vector::Constant(arms, 0.002);
  for (Eigen::Index y = 0; y < arms; ++y)
    reward[y] = numbers.uniform({.sample = 1, .position = static_cast<std::uint32_t>(y)});
  // Three responses are common in the data, the best among them; the others are hardly ever seen.
  Eigen::Index best = 0;
  reward.maxCoeff(&best);
  for (Eigen::Index k = 0; k < 3; ++k) seen[(best + 3 * k) % arms] = (1 - 0.002 * (arms - 3)) / 3;
  const labelled_bandit problem({reward, uniform_logp(arms), beta});
  const vector& ref = problem.bandit.ref_logp;
  const matrix law = seen * seen.transpose();
  matrix wins = matrix::Zero(arms, arms), out(strengths.size(), sizes.size());
  std::uint32_t asked = 0;
  for (Eigen::Index j = 0; j < out.cols(); ++j) {
    const double size = sizes[static_cast<std::size_t>(j)];
    for (; asked < static_cast<std::uint32_t>(size); ++asked)
      problem.ask(law, wins, numbers, {.sample = 2, .position = asked});
    for (Eigen::Index k = 0; k < out.rows(); ++k) {
      const value_incentive objective{.beta = beta,
                                      .alpha = -strengths[static_cast<std::size_t>(k)] * std::sqrt(size),
                                      .ref_logp = ref,
                                      .calibration = seen,
                                      .wins = wins};
      out(k, j) = problem.bandit.gap(objective.policy_of(objective.fit(vector::Zero(arms), bound)));
    }
  }
  return out;
}

outcome run(const laboratory& lab) {
  const std::vector<double> strengths = {0, 0.1, 0.3, 1}, sizes = {50, 200, 800, 3200, 12800};
  const auto all =
      lab.repeat(lab.repetitions(800, 300), [&](std::size_t i) { return learn(lab.numbers(i), strengths, sizes); });
  const auto samples = [&](Eigen::Index k, Eigen::Index j) {
    std::vector<double> x;
    for (const matrix& m : all) x.push_back(m(k, j));
    return x;
  };
  const auto mean = [&](Eigen::Index k, Eigen::Index j) { return estimate_of(samples(k, j)).mean; };
  const auto difference = [&](double factor, Eigen::Index k, Eigen::Index j, Eigen::Index other, Eigen::Index at) {
    std::vector<double> x;
    for (const matrix& m : all) x.push_back(factor * m(k, j) - m(other, at));
    return x;
  };
  outcome out;
  plot figure{"Means over " + std::to_string(all.size()) + " problems", "pairs", "J(best) - J(policy)", {}, true, true};
  const char* names[] = {"maximum likelihood", "alpha 0.1 sqrt N", "alpha 0.3 sqrt N", "alpha sqrt N"};
  for (Eigen::Index k = 0; k < 4; ++k) {
    curve c{names[k], sizes, {}, false};
    for (Eigen::Index j = 0; j < 5; ++j) c.y.push_back(mean(k, j));
    figure.curves.push_back(std::move(c));
  }
  out.checks = {clearly_above("plain maximum likelihood: shortfall at 800 pairs less that at 50 (a hump)",
                              difference(1, 0, 2, 0, 0), 0),
                clearly_above("and less that at 12800", difference(1, 0, 2, 0, 4), 0)};
  for (Eigen::Index k = 1; k < 4; ++k) {
    const std::string name = "&alpha; = " + std::string(k == 1 ? "0.1" : k == 2 ? "0.3" : "1") + " &radic;N";
    out.checks.push_back(clearly_below("2 times the shortfall at 800 of " + name + ", less that of plain",
                                       difference(2, k, 2, 0, 2), 0));
    out.checks.push_back(clearly_below(name + ": shortfall at 12800 less that at 50", difference(1, k, 4, k, 0), 0));
  }
  out.plots = {figure};
  out.note =
      "Likelihood alone says nothing against a response that won its only comparison. The more data, the more such "
      "responses there are, until each has been compared often enough. Pessimism pulls the policy to what the data "
      "show.";
  return out;
}

}  // namespace

experiment e05_offline_pessimism() {
  return {"E5",
          "Offline preference learning wants pessimism",
          "Offline, the shortfall of plain DPO first grows with more data where most responses are rarely seen, while "
          "VPO's pessimism is several times better.",
          "Cen et al. 2024, arXiv 2405.19320 (VPO, offline)",
          "<i>min<sub>&pi;</sub> &sum; &minus;log &sigma;(&beta;(h<sub>w</sub> &minus; h<sub>l</sub>)) &minus; &alpha; "
          "&beta; E<sub>cal</sub> log &pi;</i>",
          "10 responses, uniform random rewards, &beta; 0.1, uniform reference; three responses, the best among "
          "them, make up the data but for 0.2 % for each other one; calibration on the data's own law; rewards are "
          "fitted within 2 of their "
          "mean; 50 to 12800 pairs.",
          run};
}

}  // namespace lab
