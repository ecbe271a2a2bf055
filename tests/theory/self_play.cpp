// Self-play learners (SPPO, SPO) and REBEL on finitely many pairs: closed forms, bounds, and bands of 4 standard errors.

#include <Eigen/SVD>
#include <string>

#include "rlhf/theory/self_play_learning.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "theory/vectors.hpp"

namespace {

using namespace rlhf;
using namespace rlhf::theory;
using namespace theory_tests;

constexpr normals_of normal{8};

/// A random game of n responses, n odd, and the only policy that loses to none of them: for skew-symmetric B and any p with
/// sum 1, A = B - (Bp)1^T + 1(Bp)^T is skew-symmetric with Ap = 0.
struct known_game {
  preference_game game;
  vector winner;  ///< log-probabilities
};
known_game random_game(std::uint64_t seed, Eigen::Index n) {
  const vector winner = log_softmax(0.7 * normal(seed, n)), p = probabilities(winner);
  const matrix x = normal(seed + 1000, n, n), b = x - x.transpose();
  const vector bp = b * p;
  const matrix a = b - bp * vector::Ones(n).transpose() + vector::Ones(n) * bp.transpose();
  return {preference_game(matrix((a / (2.2 * a.cwiseAbs().maxCoeff())).array() + 0.5)), winner};
}

}  // namespace

TEST_CASE("SPPO: a round's minimiser against its stationary condition, and against the exact step") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const auto [game, winner] = random_game(seed, 5);
    const vector start = log_softmax(normal(50 + seed, 5));
    double last = 0;
    for (const double beta : {1.0, 2.0, 4.0, 8.0, 16.0}) {
      sppo_learner learner{{.beta = beta}, log_linear::tabular(start)};
      CHECK(learner.round(game).converged);
      const vector h = learner.policy.logp() - start, target = (game.win_rates(start).array() - 0.5) / beta;
      // h + mu e^h = target with the same mu for all responses.
      const vector multiplier = ((target - h).array() * (-h).array().exp()).matrix();
      CHECK(range_of(multiplier) < 1e-9);
      // Hedge's step up to the third order of 1/beta.
      const double off = range_of(learner.policy.logp() - mirror_step{.step = 1 / beta}(start, game.win_rates(start)));
      if (last > 0) CHECK(std::log2(last / off) == Approx(3).margin(0.35));
      last = off;
    }
    // A minimax winner stays.
    sppo_learner still{{.beta = 0.5}, log_linear::tabular(winner)};
    still.round(game);
    CHECK(distance(still.policy.logp(), winner) < 1e-10);
  }
}

TEST_CASE("SPPO's average policy goes to the minimax winner, within Hedge's bound") {
  for (std::uint64_t seed = 20; seed < 26; ++seed) {
    const auto [game, winner] = random_game(seed, seed % 2 == 0 ? 3 : 5);
    const Eigen::Index n = game.actions();
    const vector p = probabilities(winner);
    CHECK(game.duality_gap(winner) < 1e-14);
    const vector found = probabilities(game.minimax_winner(1e-12));
    CHECK(distance(found, p) < 1e-9);
    // How far a policy may be from the winner at a duality gap: no response wins more than gap/2 against it and the winner draws,
    // so that none loses more than (1/p - 1) gap/2; and A has rank n - 1.
    const vector size = Eigen::JacobiSVD<matrix>(game.preference - matrix::Constant(n, n, 0.5)).singularValues();
    const double reach = std::sqrt(static_cast<double>(n)) * std::max(1.0, 1 / p.minCoeff() - 1) / size[n - 2] *
                         (1 + std::sqrt(static_cast<double>(n)) * p.norm());
    for (const double rounds : {100.0, 1600.0}) {
      const double step = std::sqrt(8 * std::log(static_cast<double>(n)) / rounds);
      const vector start = uniform_logp(n);
      sppo_learner learner{{.beta = 1 / step}, log_linear::tabular(start)};
      for (int t = 0; t < rounds; ++t) learner.round(game);
      const double gap = game.duality_gap(learner.average.logp());
      CHECK(gap <= 2 * hedge_regret(start, step, rounds));
      CHECK((probabilities(learner.average.logp()) - p).norm() <= reach * gap / 2);
    }
  }
}

TEST_CASE("three responses in a circle: the winner plays each as often as the other two matter") {
  // P(1 > 2) = 1/2 + c, P(2 > 3) = 1/2 + a, P(3 > 1) = 1/2 + b: the winner is (a, b, c)/(a + b + c).
  matrix p(3, 3);
  p << 0.5, 0.6, 0.2, 0.4, 0.5, 0.9, 0.8, 0.1, 0.5;
  const preference_game game(p);
  const vector winner = of({0.4, 0.3, 0.1}) / 0.8;
  CHECK(game.duality_gap(winner.array().log()) < 1e-15);
  spo_learner<> hedge{.update = {.step = 0.02}, .logp = uniform_logp(3)};
  for (int t = 0; t < 20000; ++t) hedge.round(game);
  CHECK(distance(probabilities(hedge.policies.logp()), winner) < 0.01);
  CHECK(distance(probabilities(game.minimax_winner(1e-9)), winner) < 1e-6);
}

TEST_CASE("SPO with a queue of one is Hedge, with any learner from rewards") {
  const auto [game, winner] = random_game(31, 5);
  spo_learner<> closed{.update = {.step = 0.3}, .logp = uniform_logp(5)};
  spo_learner<rebel_update> regressed{.update = {{.eta = 0.3}}, .logp = uniform_logp(5)};
  multiplicative_weights hedge{.step = 0.3, .optimism = 0, .logp = uniform_logp(5)};
  for (int t = 0; t < 50; ++t) closed.round(game), regressed.round(game), hedge.play(game);
  CHECK(distance(closed.logp, hedge.logp) < 1e-12);
  CHECK(distance(regressed.logp, hedge.logp) < 1e-10);
  CHECK(std::fabs(closed.lateness) < 1e-12);
  CHECK(distance(closed.policies.logp(), closed.opponents.logp()) < 1e-12);
}

TEST_CASE("SPO's queue: the gap of the mean opponent is within regret and lateness") {
  for (std::uint64_t seed = 40; seed < 46; ++seed) {
    const auto [game, winner] = random_game(seed, 5);
    for (const std::size_t queue : {1u, 4u, 16u}) {
      const double rounds = 2000, step = std::sqrt(8 * std::log(5.0) / rounds);
      const vector start = uniform_logp(5);
      spo_learner<> learner{.update = {.step = step}, .queue = queue, .logp = start};
      for (int t = 0; t < rounds; ++t) learner.round(game);
      CHECK(learner.recent.size() == queue);
      const double gap = game.duality_gap(learner.opponents.logp());
      CHECK(gap <= 2 * hedge_regret(start, step, rounds) + 2 * learner.lateness / rounds + 1e-12);
      CHECK(gap < 0.1);
    }
  }
}

TEST_CASE("sampled win rates: unbiased, with the variance of coins") {
  const auto [game, winner] = random_game(51, 5);
  const vector opponent = log_softmax(normal(52, 5)), rate = game.win_rates(opponent);
  const random_numbers numbers({53, 0});
  constexpr std::uint32_t n = 4000, opponents = 5;
  vector mean = vector::Zero(5), square = mean;
  for (std::uint32_t i = 0; i < n; ++i) {
    const vector x = sampled_win_rates(game, opponent, opponents, numbers, {.sample = i});
    mean += x / n, square += (x - rate).cwiseAbs2() / n;
  }
  for (Eigen::Index y = 0; y < 5; ++y) {
    const double variance = rate[y] * (1 - rate[y]) / opponents;
    CHECK(std::fabs(mean[y] - rate[y]) < 4 * std::sqrt(variance / n));
    // The fourth moment of a mean of 5 coins is below that of a normal number of this variance.
    CHECK(std::fabs(square[y] - variance) < 4 * variance * std::sqrt(2.0 / n));
  }
}

TEST_CASE("SPPO and SPO from samples stay within the bound and 4 standard errors") {
  const random_numbers numbers({61, 0});
  for (std::uint32_t seed = 0; seed < 6; ++seed) {
    const auto [game, winner] = random_game(62 + seed, 5);
    const double rounds = 800, step = std::sqrt(8 * std::log(5.0) / rounds);
    const vector start = uniform_logp(5);
    // Hedge's bound holds for the estimated payoffs; they are off by a martingale whose mean over T rounds of K coins has a
    // standard error of at most 1/(2 sqrt(KT)), for the best response in hindsight and for the learner's own payoff.
    constexpr std::uint32_t coins = 5;
    const double noise = 2 * 2 * 4 / (2 * std::sqrt(coins * rounds));
    sppo_learner sppo_one{{.beta = 1 / step}, log_linear::tabular(start)};
    spo_learner<> spo_one{.update = {.step = step}, .queue = 8, .logp = start};
    for (std::uint32_t t = 0; t < rounds; ++t) {
      sppo_one.round(game, coins, numbers, {.prompt = seed, .sample = t});
      spo_one.round(game, coins, numbers, {.prompt = 100 + seed, .sample = t});
    }
    CHECK(game.duality_gap(sppo_one.average.logp()) <= 2 * hedge_regret(start, step, rounds) + noise);
    // Given the queue only the coins err, and there are at least as many.
    CHECK(game.duality_gap(spo_one.opponents.logp()) <=
          2 * hedge_regret(start, step, rounds) + 2 * spo_one.lateness / rounds + noise);
  }
}

TEST_CASE("REBEL on drawn pairs: least squares, and without errors the exact round") {
  const matrix features = normal(71, 8, 3);
  const vector weights = normal(72, 3), reward = features * weights;
  const log_linear start{features, normal(73, 3)};
  const random_numbers numbers({74, 0});
  const auto pairs = draw_pairs(start.logp(), uniform_logp(8), 40, numbers, {}, noisy_rewards{reward, 0.5, numbers});
  rebel_learner learner{{.eta = 0.7}, start};
  CHECK(learner.round(pairs).converged);
  matrix x(40, 3);
  vector target(40);
  for (Eigen::Index i = 0; i < 40; ++i) {
    const drawn_pair& p = pairs[static_cast<std::size_t>(i)];
    x.row(i) = features.row(p.chosen) - features.row(p.rejected);
    target[i] = 0.7 * (p.chosen_reward - p.rejected_reward);
  }
  CHECK(distance(learner.policy.theta,
                 start.theta + log_linear::pseudo_solve(x.transpose() * x, x.transpose() * target)) < 1e-10);
  // Without errors every sample that spans the features gives the exact step, which is the natural gradient.
  rebel_learner clean{{.eta = 0.7}, start}, exact = clean;
  clean.round(draw_pairs(start.logp(), start.logp(), 40, numbers, {.sample = 1}, noisy_rewards{reward, 0, numbers}));
  exact.round(reward);
  CHECK(distance(clean.policy.theta, exact.policy.theta) < 1e-10);
  CHECK(distance(exact.policy.theta, start.theta + 0.7 * start.natural(start.gradient(reward))) < 1e-10);
  CHECK(exact.regression_error(start.logp(), reward, uniform_logp(8)) < 1e-20);
}

TEST_CASE("REBEL's error falls like d/M: its covariance within 4 standard errors") {
  const matrix features = normal(81, 10, 3);
  const vector reward = features * normal(82, 3), mu = uniform_logp(10);
  const log_linear start{features, normal(83, 3) / 2};
  const random_numbers numbers({84, 0});
  const double deviation = 0.5, eta = 0.3;
  rebel_learner exact{{.eta = eta}, start};
  exact.round(reward);
  constexpr std::uint32_t n = 400;
  for (const std::uint32_t size : {30u, 120u, 480u}) {
    double mean = 0, square = 0, error = 0;
    for (std::uint32_t i = 0; i < n; ++i) {
      const auto pairs = draw_pairs(start.logp(), mu, size, numbers, {.prompt = size, .sample = i},
                                    noisy_rewards{reward, deviation, random_numbers({85, size})});
      rebel_learner learner{{.eta = eta}, start};
      learner.round(pairs);
      const vector off = learner.policy.theta - exact.policy.theta;
      double scaled = 0;  // chi-square with 3 degrees of freedom
      for (const drawn_pair& p : pairs)
        scaled += std::pow((features.row(p.chosen) - features.row(p.rejected)).dot(off), 2) /
                  (2 * deviation * deviation * eta * eta);
      mean += scaled / n, square += scaled * scaled / n;
      error += learner.regression_error(start.logp(), reward, mu) / n;
    }
    CHECK(std::fabs(mean - 3) < 4 * std::sqrt(2.0 * 3 / n));
    CHECK(std::fabs(square - 15) < 4 * std::sqrt((945.0 - 225) / n));
    CHECK(error * size == Approx(3 * 2 * deviation * deviation).epsilon(0.3));
  }
}

TEST_CASE("rounds of REBEL from finitely many pairs: the theorem's bound with its constants") {
  const random_numbers numbers({91, 0});
  const matrix features = normal(92, 8, 3);
  const vector reward = features * normal(93, 3) / 4, mu = uniform_logp(8);
  for (const std::uint32_t size : {20u, 200u}) {
    const double rounds = 30, eta = 0.2;
    rebel_learner learner{{.eta = eta}, {features, vector::Zero(3)}};
    double shortfall = 0, error = 0, range = 0;
    for (std::uint32_t t = 0; t < rounds; ++t) {
      const vector before = learner.policy.logp();
      shortfall += (reward.maxCoeff() - expectation(before, reward)) / rounds;
      learner.round(draw_pairs(before, mu, size, numbers, {.prompt = size, .sample = t},
                               noisy_rewards{reward, 0.2, random_numbers({94, size})}));
      error = std::max(error, learner.regression_error(before, reward, mu));
      range = std::max(range, range_of(learner.policy.logp() - before) / eta);
    }
    // The best policy is one response: KL to the uniform start is log 8, and it is 8 times as likely as under mu.
    CHECK(shortfall <= rebel_bound(std::log(8.0), eta, rounds, range, 8, error));
  }
}

TEST_CASE(
    "REBEL against itself where preferences are not transitive: sampled rounds have the exact one as their mean") {
  matrix p(3, 3);
  p << 0.5, 0.6, 0.2, 0.4, 0.5, 0.9, 0.8, 0.1, 0.5;
  const preference_game game(p);
  const vector start = logs({0.5, 0.3, 0.2});
  const double eta = 0.5;
  rebel_learner exact{{.eta = eta}, log_linear::tabular(start)};
  exact.round(game.win_rates(start));
  CHECK(distance(exact.policy.logp(), mirror_step{.step = eta}(start, game.win_rates(start))) < 1e-12);
  const random_numbers numbers({101, 0});
  constexpr std::uint32_t n = 2000;
  vector mean = vector::Zero(3), square = mean;
  for (std::uint32_t i = 0; i < n; ++i) {
    rebel_learner learner{{.eta = eta}, log_linear::tabular(start)};
    learner.round(draw_pairs(start, start, 60, numbers, {.sample = i}, shares_of_wins{&game, start, 1, numbers}));
    const vector step = learner.policy.theta - exact.policy.theta;
    mean += step / n, square += step.cwiseAbs2() / n;
  }
  for (Eigen::Index y = 0; y < 3; ++y) CHECK(std::fabs(mean[y]) < 4 * std::sqrt(square[y] / n));
  // And its rounds go where Hedge goes.
  const double rounds = 400, step = std::sqrt(8 * std::log(3.0) / rounds);
  rebel_learner learner{{.eta = step}, log_linear::tabular(uniform_logp(3))};
  policy_average average;
  for (std::uint32_t t = 0; t < rounds; ++t) {
    const vector now = learner.policy.logp();
    average.add(now);
    learner.round(
        draw_pairs(now, now, 200, numbers, {.prompt = 1, .sample = t}, shares_of_wins{&game, now, 4, numbers}));
  }
  CHECK(game.duality_gap(average.logp()) < 2 * hedge_regret(uniform_logp(3), step, rounds));
}

TEST_CASE("what self-play learners refuse") {
  const preference_game game(preference_matrix::cycle(3, 0.4));
  const random_numbers numbers({1, 0});
  CHECK(refusal([&] { (void)sampled_win_rates(game, uniform_logp(3), 0, numbers, {}); }) ==
        "sampled_win_rates: opponents is 0, wants at least 1");
  CHECK(refusal([&] {
          sppo_learner learner{{.beta = 0}, log_linear::tabular(uniform_logp(3))};
          learner.round(game);
        }) == "sppo: beta is 0, wants more than 0");
  CHECK(refusal([&] {
          sppo_learner learner{{.beta = 1}, log_linear::tabular(uniform_logp(3))};
          learner.round(vector::Zero(2));
        }) == "sppo_learner: round: win_rates has 2 elements, wants 3");
  CHECK(refusal([&] {
          spo_learner<> learner{.update = {}, .queue = 0, .logp = uniform_logp(3)};
          learner.round(game);
        }) == "spo_learner: queue is 0, wants at least 1");
  CHECK(refusal([&] { (void)policy_average{}.logp(); }) ==
        "policy_average: the number of rounds is 0, wants at least 1");
  CHECK(refusal([&] {
          (void)draw_pairs(uniform_logp(3), uniform_logp(2), 1, numbers, {}, noisy_rewards{{}, 0, numbers});
        }) == "draw_pairs: partner_logp has 2 elements, wants 3");
  rebel_learner learner{{.eta = 1}, log_linear::tabular(uniform_logp(3))};
  CHECK(refusal([&] { learner.round(std::vector<drawn_pair>{}); }) ==
        "mean_loss: the number of pairs is 0, wants at least 1");
  CHECK(refusal([&] {
          learner.round(std::vector<drawn_pair>{{0, 3, 0, 0}});
        }) == "mean_loss: a response is 3, wants one of the policy's");
  CHECK(refusal([&] { (void)rebel_bound(1, 0.5, 10, 4, 1, 0); }) ==
        "rebel_bound: eta is 0.5, wants 0 < eta <= 1 / range");
}
