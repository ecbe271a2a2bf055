// E16: iterative preference learning with a partner chosen to tell most.

#include "lab/support.hpp"
#include "rlhf/theory/online_learning.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr Eigen::Index arms = 20, dimension = 6;
constexpr double beta = 0.1, radius = 10;
enum partner { itself, reference, enhanced };
const char* const names[] = {"itself", "the reference", "the enhancer"};

struct path {
  std::vector<double> regret, uncertainty;
};

path play(const random_numbers& numbers, partner with, const std::vector<double>& stops) {
  const matrix features = normal_matrix(numbers, arms, dimension, 1, 1 / std::sqrt(static_cast<double>(dimension)));
  const vector theta = normal_vector(numbers, dimension, 2);
  const labelled_bandit problem({features * theta, uniform_logp(arms), beta});
  const vector& ref = problem.bandit.ref_logp;
  const vector unsure_of = features.transpose() * probabilities(problem.bandit.best()),
               known = features.transpose() * probabilities(ref);
  const auto pairing = [&](const auto& l) {
    return with == enhanced ? with_enhancer{radius}(l) : with == itself ? with_itself{}(l) : with_reference{}(l);
  };
  linear_reward_learner<decltype(pairing)> learner{
      .features = features, .beta = beta, .ref_logp = ref, .pairing = pairing};
  path out;
  online_history history;
  learn_online(problem, learner, static_cast<std::uint32_t>(stops.back()), numbers, {.sample = 3}, history,
               [&](const online_history& h, const auto& l) {
                 if (h.rounds != static_cast<std::uint32_t>(stops[out.regret.size()])) return;
                 out.regret.push_back(h.regret);
                 out.uncertainty.push_back(l.design.uncertainty(unsure_of - known));
               });
  return out;
}

outcome run(const laboratory& lab) {
  const std::vector<double> stops = {100, 200, 400, 800, 1600, 3200};
  const int runs = lab.repetitions(300, 100);
  outcome out;
  plot figure{"Means of " + std::to_string(runs) + " problems", "rounds", "sum of J(best) - J(policy)", {}, true};
  plot unsure{"How unsure the value of the best policy is",
              "rounds",
              "norm of its feature less the reference's",
              {},
              true,
              true};
  std::vector<path> all[3];
  for (const partner with : {itself, reference, enhanced}) {
    all[with] = lab.repeat(runs, [&](std::size_t i) { return play(lab.numbers(i), with, stops); });
    curve c{"with " + std::string(names[with]), stops, std::vector<double>(stops.size(), 0.0), false}, u = c;
    std::vector<double> slope;
    for (const path& p : all[with])
      for (std::size_t j = 0; j < stops.size(); ++j) c.y[j] += p.regret[j] / runs, u.y[j] += p.uncertainty[j] / runs;
    for (std::size_t g = 0; g + 10 <= all[with].size(); g += 10) {
      std::vector<double> y(3);
      for (std::size_t i = g; i < g + 10; ++i)
        for (std::size_t j = 0; j < 3; ++j) y[j] += all[with][i].regret[j + 3];
      slope.push_back(log_slope({stops.begin() + 3, stops.end()}, y));
    }
    const std::string what = "with " + std::string(names[with]) + ": slope of the regret over the last two doublings";
    out.checks.push_back(with == itself ? at_least(what, slope, 0.6) : at_most(what, slope, 0.5));
    figure.curves.push_back(std::move(c)), unsure.curves.push_back(std::move(u));
  }
  const auto less = [&](partner a, partner b) {
    std::vector<double> d;
    for (std::size_t i = 0; i < all[a].size(); ++i) d.push_back(all[a][i].regret.back() - all[b][i].regret.back());
    return d;
  };
  out.checks.push_back(clearly_below("regret at 3200, with the enhancer less with itself", less(enhanced, itself), 0));
  out.checks.push_back(
      clearly_below("regret at 3200, with the reference less with itself", less(reference, itself), 0));
  out.plots = {figure, unsure};
  out.note =
      "Two responses of a peaked policy are mostly the same, so that it never hears of its mistakes: some runs stay "
      "wrong for ever and "
      "their regret is linear. The reference here sees every response alike, which is the coverage that makes it a "
      "good "
      "partner too; the enhancer needs none. The radius has to be that of a confidence set: with 1 in place of 10 the "
      "enhancer takes too few responses for possible and gets stuck like the policy alone.";
  return out;
}

}  // namespace

experiment e16_enhancer() {
  return {
      "E16",
      "A partner that tells most",
      "Comparing the policy's response with the least known one among those that may be best keeps "
      "the regret of iterative preference learning from growing linearly, as comparing with the policy itself does.",
      "Xiong et al. 2023, arXiv 2312.11456 (GSHF; the enhancer over single responses)",
      "<i>y' = argmax ||&phi;(y) &minus; "
      "E<sub>&pi;<sub>1</sub></sub>&phi;||<sub>&Sigma;<sup>&minus;1</sup></sub></i> among <i>r&#770;(y) "
      "&ge; max r&#770; &minus; c &Gamma;(y)</i>",
      "20 responses, normal features of dimension 6 and normal parameters, uniform reference, &beta; 0.1, c = 10, a "
      "label each round for 3200 rounds.",
      run};
}

}  // namespace lab
