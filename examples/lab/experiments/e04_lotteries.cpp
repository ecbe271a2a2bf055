// E4: where luck decides, DPO on trajectories learns to gamble; gradients from preferences do not.

#include "lab/preference_gradient.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/population.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr int stages = 2;
constexpr double beta = 0.3, win = 1, loss = -4, luck = 0.75;

/// A trajectory: at each stage either the safe action, which pays 0, or the lottery.
struct trajectory {
  double pays = 0, logp_env = 0;
  vector gambles = vector::Zero(stages);
};

std::vector<trajectory> all_trajectories(bool chance) {
  std::vector<trajectory> out{{}};
  const double mean = luck * win + (1 - luck) * loss;
  for (int h = 0; h < stages; ++h) {
    std::vector<trajectory> longer;
    for (const trajectory& t : out) {
      longer.push_back(t);
      trajectory gamble = t;
      gamble.gambles[h] = 1;
      if (!chance) {
        gamble.pays += mean;
        longer.push_back(gamble);
        continue;
      }
      trajectory lucky = gamble, unlucky = gamble;
      lucky.pays += win, lucky.logp_env += std::log(luck);
      unlucky.pays += loss, unlucky.logp_env += std::log1p(-luck);
      longer.push_back(lucky), longer.push_back(unlucky);
    }
    out = std::move(longer);
  }
  return out;
}

/// What a policy (the probability's logit of gambling, at each stage) is worth, and with beta KL to even odds taken off.
double value_of(const vector& theta) {
  double sum = 0;
  for (Eigen::Index h = 0; h < stages; ++h) sum += sigmoid(theta[h]) * (luck * win + (1 - luck) * loss);
  return sum;
}

/// DPO over all pairs of trajectories of even odds, with labels of Bradley and Terry: Newton's method in the logits.
/// A stage's logit enters a trajectory's log-probability as <theta, gambles> less a constant that pairs cancel.
struct trained {
  vector theta;
  double gradient = 0;
};
trained train_dpo(const std::vector<trajectory>& paths) {
  const auto n = static_cast<Eigen::Index>(paths.size());
  vector ref(n), reward(n);
  matrix gambles(n, stages);
  for (Eigen::Index i = 0; i < n; ++i) {
    const trajectory& t = paths[static_cast<std::size_t>(i)];
    ref[i] = stages * std::log(0.5) + t.logp_env;
    reward[i] = t.pays;
    gambles.row(i) = t.gambles.transpose();
  }
  matrix preference(n, n);
  for (Eigen::Index a = 0; a < n; ++a)
    for (Eigen::Index b = 0; b < n; ++b) preference(a, b) = sigmoid(reward[a] - reward[b]);
  const pair_population pairs{.weight = pair_population::labelled(pair_population::independent(ref, ref), preference),
                              .ref_logp = ref};
  trained out{vector::Zero(stages), 0};
  for (int i = 0; i < 60; ++i) {
    vector logp = ref;
    for (Eigen::Index h = 0; h < stages; ++h)
      logp += out.theta[h] * gambles.col(h) - vector::Constant(n, std::log1p(std::exp(out.theta[h])) - std::log(2.0));
    const population_loss l = expected_loss(dpo_sigmoid{.beta = beta}, pairs, logp);
    const vector gradient = gambles.transpose() * l.gradient;
    out.gradient = gradient.cwiseAbs().maxCoeff();
    if (out.gradient < 1e-15) break;
    out.theta -= log_linear::pseudo_solve(gambles.transpose() * l.hessian * gambles, gradient);
  }
  return out;
}

/// One ascent of ZPG: labels on pairs of rollouts, M for each, the inverse of the link, a step.
std::vector<double> ascend(const random_numbers& numbers, int rounds) {
  constexpr std::int64_t pairs = 1000, labels = 3000;
  constexpr int most = static_cast<int>(stages * (win - loss));  // returns are whole numbers, so are their differences
  std::vector<label_law> laws;
  for (int d = -most; d <= most; ++d) laws.emplace_back(labels, most, d);
  const double radius = 0.5;
  vector theta = vector::Zero(stages);
  std::vector<double> values{value_of(theta)};
  for (int t = 0; t < rounds; ++t) {
    const auto round = static_cast<std::uint32_t>(t);
    const vector v = search_direction(stages, 0, numbers, {.prompt = round, .sample = 1}), beside = theta + radius * v;
    const auto roll_out = [&](const vector& logits, random_index at) {
      double sum = 0;
      for (int h = 0; h < stages; ++h) {
        at.draw = static_cast<std::uint32_t>(2 * h);
        if (!(numbers.uniform(at) < sigmoid(logits[h]))) continue;
        ++at.draw;
        sum += numbers.uniform(at) < luck ? win : loss;
      }
      return sum;
    };
    double difference = 0;
    for (std::uint32_t n = 0; n < pairs; ++n) {
      const double first = roll_out(theta, {.prompt = round, .sample = 2, .position = n});
      const double second = roll_out(beside, {.prompt = round, .sample = 3, .position = n});
      const label_law& law = laws[static_cast<std::size_t>(std::lround(second - first) + most)];
      difference += law.draw(numbers.uniform({.prompt = round, .sample = 4, .position = n})) / pairs;
    }
    theta += 0.3 * zeroth_order_gradient(difference, v, radius);
    values.push_back(value_of(theta));
  }
  return values;
}

outcome run(const laboratory& lab) {
  const trained gambler = train_dpo(all_trajectories(true)), sober = train_dpo(all_trajectories(false));
  const double mean = luck * win + (1 - luck) * loss, even = value_of(vector::Zero(stages));
  vector best = vector::Constant(stages, mean / beta);
  const int rounds = 200;
  const auto paths = lab.repeat(lab.repetitions(24, 12), [&](std::size_t i) { return ascend(lab.numbers(i), rounds); });
  std::vector<double> reached;
  curve ascent{"from preferences, by ascent", {}, {}, false};
  for (int t = 0; t <= rounds; ++t) {
    ascent.x.push_back(t), ascent.y.push_back(0);
    for (const auto& p : paths) ascent.y.back() += p[static_cast<std::size_t>(t)] / static_cast<double>(paths.size());
  }
  for (const auto& p : paths) reached.push_back(p.back());
  outcome out;
  out.checks = {
      identity("no chance: logits of DPO's minimum less those of the best policy, (r(gamble) &minus; r(safe))/&beta;",
               distance(sober.theta, best), 1e-9),
      identity("gradient where DPO ends, with chance", gambler.gradient, 1e-12),
      at_most("value of DPO's policy with chance less that of its reference", value_of(gambler.theta) - even, -0.01),
      at_least("its logit of gambling, which should be &minus;0.83", gambler.theta.minCoeff(), 0.05),
      clearly_above(
          "value that ascent with preferences reaches less the reference's, which is &minus;0.25",
          [&] {
            std::vector<double> d;
            for (const double r : reached) d.push_back(r - even);
            return d;
          }(),
          0),
      clearly_above(
          "the same less that of DPO's policy",
          [&] {
            std::vector<double> d;
            for (const double r : reached) d.push_back(r - value_of(gambler.theta));
            return d;
          }(),
          0)};
  out.plots = {{"Mean of " + std::to_string(paths.size()) + " ascents",
                "round",
                "value",
                {ascent,
                 {"DPO", {0, rounds + 0.0}, {value_of(gambler.theta), value_of(gambler.theta)}, false},
                 {"its reference", {0, rounds + 0.0}, {even, even}, false},
                 {"never gamble", {0, rounds + 0.0}, {0, 0}, false}}}};
  out.note =
      "A lottery that pays 1 three times in four, and &minus;4 else, has the mean &minus;0.25 and yet wins most "
      "comparisons: a label knows who won and not by how much. DPO takes a trajectory's log-probability for its "
      "reward, so that luck "
      "stays inside the sigmoid. Inverting the link for each pair of rollouts, with many labels, gets differences of "
      "returns back, whose mean is the difference of values.";
  return out;
}

}  // namespace

experiment e04_lotteries() {
  return {
      "E4",
      "Chance makes DPO gamble",
      "With stochastic transitions the minimiser of DPO's expected loss on trajectories is not the best policy, here "
      "worse than its reference, while ascent with gradients from preferences raises the true value.",
      "Zhang and Ying 2024, arXiv 2409.17401 (their point; example and exact minimiser derived here)",
      "<i>&beta; &sum;<sub>t</sub> log(&pi;*/&pi;<sub>ref</sub>) = R &minus; V*(s<sub>1</sub>) + &sum;<sub>t</sub> "
      "(E V*(s<sub>t+1</sub>) &minus; V*(s<sub>t+1</sub>))</i>",
      "Two stages, each with a safe action and a lottery; even odds as the reference, &beta; 0.3; DPO exact over "
      "all pairs of trajectories; ascent with 1000 pairs and 3000 labels for each, 200 steps.",
      run};
}

}  // namespace lab
