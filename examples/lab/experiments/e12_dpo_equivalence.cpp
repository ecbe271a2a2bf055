// E12: when DPO finds the best policy, and the three ways in which it does not.

#include "lab/support.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/population.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr double beta = 0.5;

matrix preferences_of(const vector& reward) {
  matrix p(reward.size(), reward.size());
  for (Eigen::Index a = 0; a < reward.size(); ++a)
    for (Eigen::Index b = 0; b < reward.size(); ++b) p(a, b) = sigmoid(reward[a] - reward[b]);
  return p;
}

struct result {
  double divergence = 0, residual = 0, flat = 0, within = 0, between = infinity, stochastic = 0, gained = infinity;
  double ipo = 0, dpo_growth = infinity, dpo_slope = 0;
  curve dpo{"DPO", {}, {}, false}, ipo_path{"IPO", {}, {}, false};
};

result measure(const random_numbers& numbers) {
  constexpr Eigen::Index n = 8;
  const vector reward = normal_vector(numbers, n, 1), ref = log_softmax(normal_vector(numbers, n, 2, 0.5));
  const matrix preference = preferences_of(reward);
  const vector best = regularised_bandit{reward, ref, beta}.best();
  const dpo_sigmoid dpo{.beta = beta};
  result out;

  // (a) Connected pairs, Bradley and Terry's labels: the minimiser is the best policy, whatever the law of the pairs.
  {
    const vector seen = log_softmax(normal_vector(numbers, n, 3));
    const pair_population pairs{
        .weight = pair_population::labelled(pair_population::independent(seen, seen), preference), .ref_logp = ref};
    out.residual = expected_loss(dpo, pairs, best).gradient.cwiseAbs().maxCoeff();
    out.divergence = kl(best, minimise(dpo, pairs, log_linear::tabular(ref)).policy.logp());
  }
  // (b) Two groups that are never compared: right within each, undetermined between them.
  {
    matrix law = matrix::Zero(n, n);
    law.topLeftCorner(n / 2, n / 2).setConstant(1);
    law.bottomRightCorner(n / 2, n / 2).setConstant(1);
    const pair_population pairs{.weight = pair_population::labelled(law / law.sum(), preference), .ref_logp = ref};
    vector tilt = vector::Zero(n);
    tilt.head(n / 2).setOnes();
    const log_linear tilted = log_linear::tabular(best + 1.5 * tilt);
    out.flat = expected_loss(dpo, pairs, tilted).gradient.cwiseAbs().maxCoeff();
    const auto from = [&](double more) {
      return minimise(dpo, pairs, log_linear::tabular(ref + more * tilt)).policy.logp();
    };
    const vector one = from(2), other = from(-2), error = one - best;
    out.within = std::max(range_of(error.head(n / 2)), range_of(error.tail(n / 2)));
    // The steps are of smallest norm, so that nothing moves along the flat direction: the two ends stay 4 apart.
    out.between = range_of(one - other);
  }
  // (c) A stochastic environment. Action 0 is safe; action 1 is a lottery with a mean below it. DPO sees trajectories (action,
  // outcome) labelled by their returns, and the policy chooses only the action.
  {
    const double spread = 6 + numbers.uniform({.sample = 20}), safe = 0.3;
    // Outcomes: safe 0.3, lottery +spread with probability 0.1, else such that the mean is 0.
    const double win = 0.1, loss = -spread * win / (1 - win);
    const double returns[3] = {safe, spread, loss}, chance[3] = {1, win, 1 - win};
    const Eigen::Index action[3] = {0, 1, 1};
    matrix weight = matrix::Zero(2, 2);  // by actions: the outcome cancels out of the log-ratio
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j)
        weight(action[i], action[j]) += 0.5 * chance[i] * chance[j] / 2 * sigmoid(returns[i] - returns[j]);
    const vector even = uniform_logp(2);
    const vector by_dpo = minimise(dpo, {.weight = weight, .ref_logp = even}, log_linear::tabular(even)).policy.logp();
    vector value(2);
    value << safe, 0;
    const regularised_bandit truth{value, even, beta};
    out.stochastic = truth.gap(by_dpo);
    // Ascending the true value from there with the exact gradient, as a method that sees values does.
    log_linear policy = log_linear::tabular(by_dpo);
    for (int t = 0; t < 400; ++t) policy.theta += 2 * policy.gradient(value, even, beta);
    out.gained = truth.gap(policy.logp());
  }
  // (d) Labels without noise: DPO's margin grows without end, IPO's stops.
  {
    matrix certain = matrix::Zero(2, 2);
    certain(0, 1) = 1;
    const vector even = uniform_logp(2);
    const pair_population pairs{.weight = certain, .ref_logp = even};
    log_linear by_dpo = log_linear::tabular(even), by_ipo = by_dpo;
    const auto margin = [&](const log_linear& p) { return p.logp()[0] - p.logp()[1]; };
    for (int t = 1; t <= 1 << 14; ++t) {
      by_dpo.theta -= 4 * expected_loss(dpo, pairs, by_dpo).gradient;
      if (t <= 4096) by_ipo.theta -= 0.1 * expected_loss(ipo_sum{.beta = beta}, pairs, by_ipo).gradient;
      if ((t & (t - 1)) == 0) {
        out.dpo.x.push_back(t), out.dpo.y.push_back(margin(by_dpo));
        out.ipo_path.x.push_back(t), out.ipo_path.y.push_back(margin(by_ipo));
      }
    }
    out.ipo = std::fabs(margin(by_ipo) - 1 / (2 * beta));
    // d margin / dt = 8 beta sigma(-beta margin), so beta margin -> log t + const: log 2 a doubling.
    const std::size_t k = out.dpo.y.size();
    out.dpo_slope = beta * (out.dpo.y[k - 1] - out.dpo.y[k - 2]) / std::log(2.0);
  }
  return out;
}

outcome run(const laboratory& lab) {
  const auto all = lab.repeat(lab.repetitions(40, 12), [&](std::size_t i) { return measure(lab.numbers(i)); });
  result w = all[0];
  double least_stochastic = infinity, most_gained = 0;
  for (const result& r : all) {
    w.divergence = std::max(w.divergence, r.divergence), w.residual = std::max(w.residual, r.residual);
    w.flat = std::max(w.flat, r.flat), w.within = std::max(w.within, r.within),
    w.between = std::min(w.between, r.between);
    least_stochastic = std::min(least_stochastic, r.stochastic), most_gained = std::max(most_gained, r.gained);
  }
  outcome out;
  out.checks = {
      at_most("(a) KL(&pi;*||&pi;) at the minimum of the expected DPO loss, largest", w.divergence, 1e-10),
      identity("its gradient at &pi;* itself", w.residual, 1e-12),
      identity("(b) two groups never compared: gradient where the mass between them is wrong", w.flat, 1e-12),
      at_most("error within the groups after minimising from a wrong start", w.within, 1e-6),
      close("between them: how far two minima stay apart whose starts were 4 nats apart", w.between, 4, 1e-6),
      at_least("(c) a lottery: what DPO's policy lacks, smallest", least_stochastic, 0.005),
      at_most("and after ascending the value itself", most_gained, 1e-9),
      close("(d) certain labels: growth of &beta; &times; DPO's margin by a doubling of the steps, over log 2",
            w.dpo_slope, 1, 0.02),
      identity("IPO's margin less 1/(2&beta;)", w.ipo, 1e-9)};
  out.plots = {{"Labels without noise", "steps", "margin of the log-ratios", {w.dpo, w.ipo_path}, true, false}};
  out.note =
      "(c): the log-ratio of a trajectory knows the action, not the luck. DPO fits the chance that one action's return "
      "beats the "
      "other's; a rare large win makes that chance and the mean disagree.";
  return out;
}

}  // namespace

experiment e12_dpo_equivalence() {
  return {"E12",
          "DPO is the best policy, under its conditions",
          "With full support, Bradley-Terry labels, deterministic dynamics and connected comparisons DPO's minimum is "
          "the best policy; "
          "without connection, determinism or noise in the labels it is not.",
          "Rafailov et al. 2023, arXiv 2305.18290; the conditions are derived",
          "<i>argmin E[&minus;log &sigma;(&beta;(h<sub>w</sub> &minus; h<sub>l</sub>))] = &pi;<sub>ref</sub> "
          "e<sup>r/&beta;</sup>/Z</i>",
          "Bandits of 8 responses with random rewards, references and pair laws; exact expectations of the library's "
          "<code>dpo_sigmoid</code> and <code>ipo_sum</code>; &beta; = 0.5.",
          run};
}

}  // namespace lab
