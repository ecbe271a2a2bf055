// Preferences that go in a circle: a reward model's best response can be beaten, the Nash policy cannot.

#include "calls/check.hpp"
#include "rlhf/objective/self_play.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/theory/games.hpp"
#include "rlhf/theory/reward_learning.hpp"

using namespace rlhf::theory;

int main() {
  using calls::expect;
  //! [game]
  matrix p(3,
           3);  // P[a, b]: how often a is preferred to b. Rock, paper, scissors with a strong first and a weak second
  p << 0.5, 0.9, 0.3, 0.1, 0.5, 0.6, 0.7, 0.4, 0.5;
  const preference_game game(p);
  const fitted_reward fit = fit_scores(rlhf::bradley_terry{}, p);  // the best that scores can do
  Eigen::Index best = 0;
  fit.theta.maxCoeff(&best);
  const vector nash = game.minimax_winner(1e-10);
  //! [game]
  const vector against = game.win_rates(nash);
  std::printf("Nash policy %.3f %.3f %.3f, best by score: %ld\n", std::exp(nash[0]), std::exp(nash[1]),
              std::exp(nash[2]), static_cast<long>(best));
  expect("the best by score loses to some response", p.col(best).maxCoeff() > 0.65);
  expect("the Nash policy to none: best win rate against it", against.maxCoeff(), 0.5, 1e-8);

  //! [regularised]
  // With a price of tau KL(pi || mu): pi = mu e^(P pi / tau) / Z. Nash-MD and self-play (INPO) go there.
  const double tau = 0.2, step = 0.2;
  const vector mu = uniform_logp(3), goal = game.regularised_nash(mu, tau);
  vector by_nash_md = mu, by_self_play = mu;
  for (int t = 0; t < 2000; ++t) {
    by_nash_md = nash_md_step(game, by_nash_md, mu, tau, 2 / (tau * (t + 2)) < 5 ? 2 / (tau * (t + 2)) : 5);
    by_self_play = self_play_step(game, by_self_play, mu, tau, step);
  }
  //! [regularised]
  std::printf("KL to the regularised Nash policy: Nash-MD %.2e, self-play %.2e\n", kl(goal, by_nash_md),
              kl(goal, by_self_play));
  expect("Nash-MD with steps 2/(tau (t + 2)): below 8/(tau^2 (T + 1))", kl(goal, by_nash_md) < 8 / (tau * tau * 2001));
  expect("self-play arrives", kl(goal, by_self_play) < 1e-12);

  //! [inpo]
  // INPO's pair loss, minimised over all pairs of the policy's own responses, is that step of self-play.
  vector logits(3);
  logits << 0.3, -0.2, 0.1;
  const vector now = log_softmax(logits);
  const pair_population pairs{.weight = pair_population::labelled(pair_population::independent(now, now), p),
                              .ref_logp = mu,
                              .previous_logp = now};
  const vector found =
      minimise(rlhf::inpo{.tau = tau, .inverse_step = 1 / step}, pairs, log_linear::tabular(now)).policy.logp();
  //! [inpo]
  expect("INPO less a step of self-play, largest",
         (found - self_play_step(game, now, mu, tau, step)).cwiseAbs().maxCoeff(), 0, 1e-9);
  return calls::failures();
}
