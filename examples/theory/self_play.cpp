// Learning against oneself where preferences go in a circle: SPPO's regression, SPO's queue, and where their averages go.

#include "calls/check.hpp"
#include "rlhf/theory/self_play_learning.hpp"

using namespace rlhf::theory;

int main() {
  using calls::expect;
  //! [game]
  // P(1 > 2) = 0.6, P(2 > 3) = 0.9, P(3 > 1) = 0.8: each response is as common as the contest of the other two is decided.
  matrix p(3, 3);
  p << 0.5, 0.6, 0.2, 0.4, 0.5, 0.9, 0.8, 0.1, 0.5;
  const preference_game game(p);
  vector winner(3);
  winner << 0.4, 0.3, 0.1;  // P - 1/2 of (2, 3), of (3, 1), of (1, 2)
  winner /= winner.sum();
  //! [game]
  expect("the winner draws against everything: its gap", game.duality_gap(winner.array().log()), 0, 1e-12);

  //! [learners]
  const double rounds = 2000, step = std::sqrt(8 * std::log(3.0) / rounds);  // Hedge's
  const rlhf::random_numbers numbers({1, 0});
  sppo_learner exact{{.beta = 1 / step}, log_linear::tabular(vector::Zero(3))}, sampled = exact;
  spo_learner<> queue{.update = {.step = step}, .queue = 8, .logp = uniform_logp(3)};
  for (std::uint32_t t = 0; t < rounds; ++t) {
    exact.round(game);                                          // exact win rates against itself
    sampled.round(game, 5, numbers, {.sample = t});             // five opponents, a coin for each meeting
    queue.round(game, 5, numbers, {.prompt = 1, .sample = t});  // five responses join a queue of eight rounds
  }
  //! [learners]
  const double bound = 2 * hedge_regret(uniform_logp(3), step, rounds), noise = 16 / (2 * std::sqrt(5 * rounds));
  const double gaps[] = {game.duality_gap(exact.average.logp()), game.duality_gap(sampled.average.logp()),
                         game.duality_gap(queue.opponents.logp())};
  std::printf("gap of the average: exact %.4f, five opponents %.4f, queue %.4f; the last policy %.3f\n", gaps[0],
              gaps[1], gaps[2], game.duality_gap(exact.policy.logp()));
  std::printf("average policy %.3f %.3f %.3f, winner %.3f %.3f %.3f\n", std::exp(exact.average.logp()[0]),
              std::exp(exact.average.logp()[1]), std::exp(exact.average.logp()[2]), winner[0], winner[1], winner[2]);
  expect("SPPO's average is within Hedge's bound", gaps[0] <= bound);
  expect("with samples, within 4 standard errors more", gaps[1] <= bound + noise);
  expect("SPO's opponents, with the lateness of the queue", gaps[2] <= bound + noise + 2 * queue.lateness / rounds);
  expect("the last policy is not", game.duality_gap(exact.policy.logp()) > 4 * gaps[0]);

  // One round: SPPO takes 1/(2 beta) for log Z, so its minimiser is Hedge's step up to the third order.
  sppo_learner one{{.beta = 4}, log_linear::tabular(vector::Zero(3))}, half{{.beta = 8}, one.policy};
  one.round(game), half.round(game);
  const auto off = [&](const sppo_learner& l, double beta) {
    return range_of(l.policy.logp() - mirror_step{.step = 1 / beta}(uniform_logp(3), game.win_rates(uniform_logp(3))));
  };
  expect("half the step: an eighth of the difference", off(one, 4) / off(half, 8), 8, 0.1);
  return calls::failures();
}
