// X9: REBEL against itself where preferences go round in circles.

#include "lab/support.hpp"
#include "rlhf/formulation/preferences.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/games.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

struct played {
  double average = 0, last = 0, outward = 0;
};

/// T rounds of self-play with the step size of Hedge; gaps are of the game of payoffs 2P - 1, for both players together.
played play(const preference_game& game, const vector& start, std::int64_t rounds) {
  const mirror_step hedge{.step = std::sqrt(8 * std::log(3.0) / static_cast<double>(rounds))};
  vector logp = start, sum = vector::Zero(start.size());
  for (std::int64_t t = 0; t < rounds; ++t) {
    sum += probabilities(logp);
    logp = hedge(logp, game.win_rates(logp));
  }
  const vector average = (sum / static_cast<double>(rounds)).array().log();
  const vector even = uniform_logp(start.size());
  return {2 * game.duality_gap(average), 2 * game.duality_gap(logp), kl(even, logp) - kl(even, start)};
}

outcome run(const laboratory& lab) {
  const preference_game game(preference_matrix::cycle(3, 0.5));
  const std::vector<double> rounds = geometric(100, lab.quick() ? 10000 : 100000, lab.quick() ? 9 : 13);
  vector start(3);
  start << std::log(0.6), std::log(0.3), std::log(0.1);
  const auto bound = [](double t) { return 2 * std::sqrt(2 * std::log(3.0) / t); };

  const int starts = lab.repetitions(96, 96);
  struct run_of {
    std::vector<played> at;
    double excess = -infinity;
  };
  const auto all = lab.repeat(starts, [&](std::size_t i) {
    run_of r;
    const vector from = i == 0 ? start : log_softmax(normal_vector(lab.numbers(i), 3, 1));
    for (const double t : rounds) {
      r.at.push_back(play(game, from, static_cast<std::int64_t>(t)));
      // From any start the regret of Hedge is at most log(1/x_min)/eta + eta T/8; Hedge's step makes that this much of the bound.
      const double constant = i == 0 ? 1 : (1 - from.minCoeff() / std::log(3.0)) / 2;
      r.excess = std::max(r.excess, r.at.back().average - constant * bound(std::floor(t)));
    }
    return r;
  });
  // The gap swings; the mean over the starts is over its phases. Groups of starts give its error.
  const int groups = 8;
  std::vector<double> slopes;
  double excess = -infinity, outward = infinity, last = infinity;
  for (int g = 0; g < groups; ++g) {
    std::vector<double> mean(rounds.size(), 0.0);
    for (int i = g; i < starts; i += groups)
      for (std::size_t k = 0; k < rounds.size(); ++k) mean[k] += all[static_cast<std::size_t>(i)].at[k].average;
    slopes.push_back(log_slope(rounds, mean));
  }
  for (const run_of& r : all) {
    excess = std::max(excess, r.excess);
    for (const played& p : r.at) outward = std::min(outward, p.outward);
  }
  for (const played& p : all[0].at) last = std::min(last, p.last);

  // One round as the regression it stands for.
  const vector reward = game.win_rates(start);
  const vector regressed =
      minimise(rebel{.eta = 0.3},
               {.weight = pair_population::independent(start, start), .ref_logp = start, .reward = reward},
               log_linear::tabular(start))
          .policy.logp();

  outcome out;
  out.checks = {
      close("slope in T of the average policy's gap", slopes, -0.5, 0.08, 0.12),
      at_most("largest excess of the gap over Hedge's bound, all starts and T", excess, 0),
      at_least("smallest gap of the last policy from (0.6, 0.3, 0.1), all T", last, 0.3),
      at_least("the last policy is further from the equilibrium than the first: smallest growth of KL", outward, 0),
      identity("a round as REBEL's regression against the closed form",
               distance(regressed, mirror_step{.step = 0.3}(start, reward)), 1e-12)};
  curve average{"average policy", rounds, {}, false}, final_one{"last policy", rounds, {}, false},
      line{"2 sqrt(2 log 3 / T)", rounds, {}, false};
  for (std::size_t k = 0; k < rounds.size(); ++k) {
    average.y.push_back(all[0].at[k].average);
    final_one.y.push_back(all[0].at[k].last);
    line.y.push_back(bound(rounds[k]));
  }
  out.plots = {
      {"Rock, paper, scissors from (0.6, 0.3, 0.1)", "rounds T", "gap", {average, final_one, line}, true, true}};
  out.note =
      "The bound 2&radic;(2 log n/T) takes a uniform start, from which this game does not move at all. From "
      "x<sub>0</sub> the "
      "regret is at most max log(1/x<sub>0</sub>)/&eta; + &eta;T/8, so its constant grows by the factor (1 + max "
      "log(1/x<sub>0</sub>)/log n)/2; (0.6, 0.3, 0.1) is held to the bound without it.";
  return out;
}

}  // namespace

experiment x09_intransitive() {
  return {
      "X9",
      "Self-play with intransitive preferences",
      "REBEL with win rates against itself as rewards is Hedge: its average policy approaches the minimax winner like "
      "T<sup>&minus;1/2</sup>, its last policy circles for ever.",
      "Gao et al. 2024, arXiv 2404.16767, section 5; the rate is Hedge's",
      "<i>r<sub>t</sub>(y) = E<sub>y&Prime;~&pi;<sub>t</sub></sub> P(y &gt; y&Prime;)</i>, &nbsp; <i>gap(x) = 2 "
      "max<sub>y</sub> "
      "((2P&minus;1)x)(y) &le; 2&radic;(2 log|Y| / T)</i>",
      "Rock, paper, scissors, each beating the next for sure; &eta; = &radic;(8 log 3/T); exact expectations; T of 100 "
      "to 100 000 "
      "from many starts.",
      run};
}

}  // namespace lab
