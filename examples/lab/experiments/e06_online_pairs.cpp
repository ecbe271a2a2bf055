// E6: online, whom the policy is compared with matters more than a bonus.

#include "lab/support.hpp"
#include "rlhf/theory/online_learning.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr Eigen::Index arms = 10;

struct variant {
  const char* name;
  bool with_reference;
  double beta, optimism;
};
constexpr variant variants[] = {{"with the reference", true, 0.5, 0},
                                {"with the reference, optimistic", true, 0.5, 0.05},
                                {"with itself", false, 0.5, 0},
                                {"with itself, beta 0.2", false, 0.2, 0}};

/// Sum of the policy's shortfalls after each number of rounds.
std::vector<double> play(const random_numbers& numbers, const variant& v, const std::vector<double>& stops) {
  vector reward(arms);
  for (Eigen::Index y = 0; y < arms; ++y)
    reward[y] = numbers.normal({.sample = 1, .position = static_cast<std::uint32_t>(y)});
  const labelled_bandit problem({reward, uniform_logp(arms), v.beta});
  const auto partner = [&](const auto& l) { return v.with_reference ? with_reference{}(l) : with_itself{}(l); };
  value_incentive_learner<decltype(partner)> learner{
      .beta = v.beta, .optimism = v.optimism, .ref_logp = problem.bandit.ref_logp, .pairing = partner};
  std::vector<double> out;
  online_history history;
  learn_online(problem, learner, static_cast<std::uint32_t>(stops.back()), numbers, {.sample = 2}, history,
               [&](const online_history& h, const auto&) {
                 if (h.rounds == static_cast<std::uint32_t>(stops[out.size()])) out.push_back(h.regret);
               });
  return out;
}

outcome run(const laboratory& lab) {
  const std::vector<double> stops = {50, 100, 200, 400, 800, 1600};
  const int runs = lab.repetitions(100, 40);
  outcome out;
  plot figure{"Means of " + std::to_string(runs) + " runs", "rounds", "sum of J(best) - J(policy)", {}, true, true};
  std::vector<std::vector<double>> final_regret;
  for (const variant& v : variants) {
    const auto all = lab.repeat(runs, [&](std::size_t i) { return play(lab.numbers(i), v, stops); });
    std::vector<double> slopes, ends;
    curve c{v.name, stops, std::vector<double>(stops.size(), 0.0), false};
    for (const auto& r : all) {
      ends.push_back(r.back());
      for (std::size_t j = 0; j < stops.size(); ++j) c.y[j] += r[j] / runs;
    }
    for (std::size_t g = 0; g + 5 <= all.size();
         g += 5) {  // slopes of sums over five runs, over the last three doublings
      std::vector<double> y(4);
      for (std::size_t i = g; i < g + 5; ++i)
        for (std::size_t j = 0; j < 4; ++j) y[j] += all[i][j + 2];
      slopes.push_back(log_slope({stops.begin() + 2, stops.end()}, y));
    }
    if (v.with_reference)
      out.checks.push_back(at_most(std::string(v.name) + ": slope of the regret from round 200", slopes, 0.6));
    else
      out.checks.push_back(
          at_least(std::string(v.name) + ": slope of the regret from round 200", slopes, v.beta < 0.3 ? 0.6 : 0.4));
    final_regret.push_back(ends);
    figure.curves.push_back(std::move(c));
  }
  std::vector<double> pairing_matters;
  for (std::size_t i = 0; i < final_regret[0].size(); ++i)
    pairing_matters.push_back(final_regret[2][i] - final_regret[0][i]);
  out.checks.push_back(clearly_above("regret at 1600, with itself less with the reference", pairing_matters, 0));
  out.plots = {figure};
  return out;
}

}  // namespace

experiment e06_online_pairs() {
  return {"E6",
          "Online, the pairing matters more than the bonus",
          "Comparing a response of the policy with one of the reference keeps the regret's growth below "
          "T<sup>0.6</sup>; comparing two of the policy's own wastes labels once it is peaked.",
          "Cen et al. 2024, arXiv 2405.19320; Xie et al. 2024, arXiv 2405.21046 (pairs of policy and reference)",
          "<i>&sum;<sub>t</sub> J(&pi;*) &minus; J(&pi;<sub>t</sub>) = O&#771;(&radic;T)</i>",
          "10 responses, normal rewards, uniform reference, &beta; 0.5 and 0.2, a label each round for 1600 rounds; "
          "DPO with rewards within 4 of their mean, and VPO with &alpha; = 0.05 &radic;t.",
          run};
}

}  // namespace lab
