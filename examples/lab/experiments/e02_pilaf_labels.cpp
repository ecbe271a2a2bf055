// E2: what a label is worth under different laws of pairs.

#include "lab/support.hpp"
#include "rlhf/theory/online_preferences.hpp"
#include "rlhf/theory/pair_laws.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr Eigen::Index arms = 12;
constexpr double beta = 0.7;

matrix law_of(int k, const vector& logp, const vector& ref) {
  if (k == 0) return vanilla_pairs(logp);
  if (k == 3) return hybrid_pairs(logp, ref);
  const pilaf_sampler sampler(logp, ref, beta);
  return k == 1 ? sampler.practical() : sampler.exact();
}

struct trial {
  std::vector<double> gap[4];
  double limit[4] = {};
};

trial learn(const random_numbers& numbers, const std::vector<double>& labels) {
  const labelled_bandit problem({normal_vector(numbers, arms, 1, 1.1), uniform_logp(arms), beta});
  const vector& ref = problem.bandit.ref_logp;
  const vector best = problem.bandit.best();
  trial out;
  for (int k = 0; k < 4; ++k) {
    out.limit[k] = shortfall_per_label(problem.bandit, law_of(k, best, ref));
    log_linear policy = log_linear::tabular(ref);
    matrix wins = matrix::Zero(arms, arms);
    std::uint32_t asked = 0;
    for (const double goal : labels) {
      while (asked < static_cast<std::uint32_t>(goal)) {
        const matrix law = law_of(k, policy.logp(), ref);
        const std::uint32_t until = std::min(static_cast<std::uint32_t>(goal), asked + asked / 8 + 25);
        for (; asked < until; ++asked)
          problem.ask(law, wins, numbers, {.prompt = static_cast<std::uint32_t>(k), .sample = 2, .position = asked});
        const matrix seen = wins.array() + 0.25;
        policy =
            minimise(dpo_sigmoid{.beta = beta}, {.weight = seen / seen.sum(), .ref_logp = ref}, policy, 1e-9).policy;
        policy.theta = policy.logp();
      }
      out.gap[k].push_back(problem.bandit.gap(policy.logp()));
    }
  }
  return out;
}

outcome run(const laboratory& lab) {
  const std::vector<double> labels = {500, 1000, 2000, 4000, 8000, 16000};
  const auto all = lab.repeat(lab.repetitions(320, 120), [&](std::size_t i) { return learn(lab.numbers(i), labels); });
  const char* names[] = {"both from the policy", "PILAF, one half", "T-PILAF", "policy and reference"};
  outcome out;
  plot figure{
      "Means over " + std::to_string(all.size()) + " problems", "labels", "J(best) - J(policy)", {}, true, true};
  for (int k = 0; k < 4; ++k) {
    curve c{names[k], labels, {}, false}, limit{std::string(names[k]) + ", limit", labels, {}, true};
    double expected = 0;
    for (const trial& t : all) expected += t.limit[k] / static_cast<double>(all.size());
    for (std::size_t j = 0; j < labels.size(); ++j) {
      double sum = 0;
      for (const trial& t : all) sum += t.gap[k][j] / static_cast<double>(all.size());
      c.y.push_back(sum);
      limit.y.push_back(expected / labels[j]);
    }
    // Ratios to each problem's own limit: problems differ more than samples do.
    std::vector<double> ratio, slope;
    for (const trial& t : all) ratio.push_back(labels.back() * t.gap[k].back() / t.limit[k]);
    for (std::size_t g = 0; g + 10 <= all.size(); g += 10) {
      std::vector<double> y(labels.size());
      for (std::size_t i = g; i < g + 10; ++i)
        for (std::size_t j = 0; j < labels.size(); ++j) y[j] += all[i].gap[k][j] / all[i].limit[k];
      slope.push_back(log_slope({labels.begin() + 1, labels.end()}, {y.begin() + 1, y.end()}));
    }
    out.checks.push_back(close(std::string(names[k]) + ": slope from 1000 labels", slope, -1, 0.15, 0.25));
    out.checks.push_back(
        close(std::string(names[k]) + ": labels times shortfall over its limit, at 16000", ratio, 1, 0.15, 0.3));
    figure.curves.push_back(std::move(c));
    if (k < 2) figure.curves.push_back(std::move(limit));
  }
  // Problems in tens: the ratio of two shortfalls, each a random sum of squares, is wild.
  std::vector<double> gain, limit_gain;
  for (std::size_t g = 0; g + 10 <= all.size(); g += 10) {
    double both = 0, mixed = 0, both_limit = 0, mixed_limit = 0;
    for (std::size_t i = g; i < g + 10; ++i) {
      both += all[i].gap[0].back(), mixed += all[i].gap[1].back();
      both_limit += all[i].limit[0], mixed_limit += all[i].limit[1];
    }
    gain.push_back(std::log(both / mixed)), limit_gain.push_back(std::log(both_limit / mixed_limit));
  }
  out.checks.push_back(
      at_least("log of the shortfall with both from the policy over PILAF's, at 16000: mean", gain, 0));
  out.checks.push_back(clearly_above("the same of the limits", limit_gain, 0));
  out.plots = {figure};
  out.note =
      "The limit is &beta;/2 tr(F H<sup>+</sup>), F the Fisher matrix and H the curvature of DPO's expected loss at "
      "the "
      "best policy: the shortfall is &beta; times a divergence (X3), quadratic in an error of covariance "
      "H<sup>+</sup>/n. "
      "At 16 000 labels terms of higher order still make up a tenth of it. PILAF beats drawing both responses from the "
      "policy; pairs of policy and reference can be better still, and no law "
      "is best everywhere.";
  return out;
}

}  // namespace

experiment e02_pilaf_labels() {
  return {"E2",
          "A label is worth more under PILAF",
          "Online DPO's shortfall falls like one over the number of labels under every law of pairs, and PILAF's pairs "
          "need fewer of them than pairs of the policy's own responses.",
          "Feng et al. 2025, arXiv 2502.04270, theorem on the variance; the limit is derived here",
          "<i>n E[J(&pi;*) &minus; J(&pi;&#770;)] &rarr; &beta;/2 tr(F H<sup>+</sup>)</i>, under T-PILAF <i>(1 + "
          "Z<sub>+</sub>Z<sub>&minus;</sub>)(|Y| &minus; 1)/(2&beta;)</i>",
          "12 responses, normal rewards of deviation 1.1, uniform reference, &beta; 0.7; the policy is fitted to all "
          "labels again "
          "whenever they have grown by an eighth, with a quarter of a virtual win for "
          "each ordered pair so that no early accident puts a response out of sight.",
          run};
}

}  // namespace lab
