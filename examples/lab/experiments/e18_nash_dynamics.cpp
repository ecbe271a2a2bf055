// E18: how six dynamics fare in a game of preferences that go round in circles.

#include <Eigen/Eigenvalues>

#include "lab/support.hpp"
#include "rlhf/theory/games.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr double tau = 0.1;

/// Rock, paper, scissors of strength 0.4 with a little noise that keeps P + P^T = 1.
preference_game game_of(const random_numbers& numbers) {
  matrix p(3, 3);
  p << 0.5, 0.9, 0.1, 0.1, 0.5, 0.9, 0.9, 0.1, 0.5;
  std::uint32_t k = 0;
  for (Eigen::Index a = 0; a < 3; ++a)
    for (Eigen::Index b = a + 1; b < 3; ++b) {
      const double noise = 0.1 * (numbers.uniform({.position = k++}) - 0.5);
      p(a, b) += noise, p(b, a) -= noise;
    }
  return preference_game(p);
}

struct ends {
  double rate_error = -infinity, bound_excess = -infinity, floor_large = 0, floor_small = 0, hedge = 0, optimistic = 0,
         stable = 0, circling = infinity, residual = 0;
  curve falling{"Nash-MD, step 2/(tau(t+2))", {}, {}, false}, constant{"Nash-MD, step 0.5", {}, {}, false},
      descent{"self-play mirror descent, step 0.5", {}, {}, false};
};

ends follow(const random_numbers& numbers, int rounds) {
  const preference_game game = game_of(numbers);
  const vector mu = uniform_logp(3);
  vector start(3);
  start << std::log(0.6), std::log(0.3), std::log(0.1);
  const vector nash = game.regularised_nash(mu, tau);
  ends out;
  out.residual = game.nash_residual(nash, mu, tau);

  // Nash-MD with falling steps: KL(pi*, pi_t) <= 8/(tau^2 (t + 1)).
  vector logp = mu;
  for (int t = 0; t < rounds; ++t) {
    logp = nash_md_step(game, logp, mu, tau, std::min(1 / tau, 2 / (tau * (t + 2))));
    const double divergence = kl(nash, logp);
    out.bound_excess = std::max(out.bound_excess, divergence - 8 / (tau * tau * (t + 2)));
    if ((t & (t - 1)) == 0) out.falling.x.push_back(t + 1), out.falling.y.push_back(divergence);
  }
  // With a constant step a round takes off the share eta tau, up to 2 eta^2; what is left is biased.
  const auto settle = [&](double step, curve* drawn) {
    vector p = start;
    double last = kl(nash, p);
    for (int t = 0; t < static_cast<int>(60 / (step * tau)); ++t) {
      p = nash_md_step(game, p, mu, tau, step);
      const double now = kl(nash, p);
      out.rate_error = std::max(out.rate_error, now - ((1 - step * tau) * last + 2 * step * step));
      last = now;
      if (drawn && (t & (t - 1)) == 0) drawn->x.push_back(t + 1), drawn->y.push_back(now);
    }
    return last;
  };
  out.floor_large = settle(0.2, nullptr), out.floor_small = settle(0.02, nullptr);
  settle(0.5, &out.constant);

  // Mirror descent in self-play: settles below its limit, circles above it. The speed is that of the linearised game.
  const vector p = probabilities(nash);
  const matrix j =
      (matrix(p.asDiagonal()) - p * p.transpose()) * game.preference;  // d pi / dt of pure self-play, in pi
  double speed = 0;
  const Eigen::VectorXcd modes = j.eigenvalues();
  for (Eigen::Index k = 0; k < modes.size(); ++k) speed = std::max(speed, std::fabs(modes[k].imag()));
  const double limit = largest_stable_step(tau, speed);
  const auto play = [&](double step, int n, curve* drawn) {
    vector q = start;
    for (int t = 0; t < n; ++t) {
      q = self_play_step(game, q, mu, tau, step);
      if (drawn && (t & (t - 1)) == 0) drawn->x.push_back(t + 1), drawn->y.push_back(kl(nash, q));
    }
    return kl(nash, q);
  };
  out.stable = play(0.8 * limit, 4000, nullptr);
  out.circling = play(1.2 * limit, 4000, nullptr);
  play(0.5, rounds, &out.descent);

  // Without regularisation: Hedge's last policy circles, the optimistic one's arrives.
  multiplicative_weights hedge{.step = 0.1, .optimism = 0, .logp = start},
      optimist{.step = 0.1, .optimism = 1, .logp = start};
  for (int t = 0; t < 20000; ++t) hedge.play(game), optimist.play(game);
  out.hedge = game.duality_gap(hedge.logp), out.optimistic = game.duality_gap(optimist.logp);
  return out;
}

outcome run(const laboratory& lab) {
  const auto all = lab.repeat(lab.repetitions(16, 6), [&](std::size_t i) { return follow(lab.numbers(i), 4096); });
  ends worst = all[0];
  double floor_ratio = 0;
  std::vector<double> ratios;
  for (const ends& e : all) {
    worst.rate_error = std::max(worst.rate_error, e.rate_error),
    worst.bound_excess = std::max(worst.bound_excess, e.bound_excess);
    worst.hedge = std::min(worst.hedge, e.hedge), worst.optimistic = std::max(worst.optimistic, e.optimistic);
    worst.stable = std::max(worst.stable, e.stable), worst.circling = std::min(worst.circling, e.circling);
    worst.residual = std::max(worst.residual, e.residual);
    ratios.push_back(std::log10(e.floor_large / e.floor_small));
  }
  floor_ratio = largest(ratios);
  outcome out;
  out.checks = {
      at_most("Nash-MD, falling steps: largest KL(&pi;*||&pi;<sub>t</sub>) beyond 8/(&tau;&sup2;(t+1))",
              worst.bound_excess, 0),
      at_most("Nash-MD, constant step: a round's KL beyond (1 &minus; &eta;&tau;) KL + 2&eta;&sup2;", worst.rate_error,
              1e-12),
      close("its bias, steps 0.2 against 0.02: log<sub>10</sub> of the ratio of KLs, largest", floor_ratio, 2, 0.35),
      at_most("self-play mirror descent, 0.8 of its stability limit: largest KL in the end", worst.stable, 1e-8),
      at_least("1.2 of it: smallest", worst.circling, 0.01),
      at_least("Hedge without regularisation: smallest duality gap of the last policy", worst.hedge, 0.2),
      at_most("the optimistic one: largest, after 20 000 rounds", worst.optimistic, 0.05),
      identity("range of P&pi; &minus; &tau; log(&pi;/&mu;) at the regularised Nash policy", worst.residual, 1e-11)};
  curve bound{"8/(tau^2 (t+1))", all[0].falling.x, {}, false};
  for (const double t : bound.x) bound.y.push_back(8 / (tau * tau * (t + 1)));
  out.plots = {{"Distance to the regularised Nash policy, tau = 0.1",
                "round",
                "KL(nash || policy)",
                {all[0].falling, bound, all[0].constant, all[0].descent},
                true,
                true}};
  out.note =
      "Nash-MD mixes its opponent with the reference, so with a constant step it stops beside the equilibrium, at a KL "
      "of the order "
      "of &eta;&sup2;. The stability limit is 2&tau;/(&tau;&sup2;+w&sup2;), w the angular speed of the game linearised "
      "at its "
      "equilibrium, from the eigenvalues of (diag &pi; &minus; &pi;&pi;<sup>T</sup>)P.";
  return out;
}

}  // namespace

experiment e18_nash_dynamics() {
  return {
      "E18",
      "Roads to the Nash policy",
      "Regularised dynamics reach the Nash policy of an intransitive game within their bounds; unregularised Hedge "
      "circles and "
      "its optimistic form arrives.",
      "Munos et al. 2023, arXiv 2312.00886; Zhang et al. 2024, arXiv 2407.00617; the stability limit is derived",
      "<i>KL(&pi;*||&pi;<sub>t+1</sub>) &le; (1&minus;&eta;&tau;) KL(&pi;*||&pi;<sub>t</sub>) + 2&eta;<sup>2</sup></i>",
      "Rock, paper, scissors of strength 0.4 with random noise of up to 0.05 on each pair; &tau; = 0.1, uniform "
      "reference.",
      run};
}

}  // namespace lab
