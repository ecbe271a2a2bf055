// Learners: maximum likelihood and where it has none, ellipsoids, natural gradients, zeroth order, optimism.

#include <string>

#include "rlhf/formulation/preferences.hpp"
#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/self_play.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/theory/games.hpp"
#include "rlhf/theory/pair_laws.hpp"
#include "rlhf/theory/pessimism.hpp"
#include "rlhf/theory/ranking_learning.hpp"
#include "rlhf/theory/token_learning.hpp"
#include "rlhf/theory/value_incentive.hpp"
#include "rlhf/theory/zeroth_order.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "theory/vectors.hpp"

namespace {

using namespace rlhf;
using namespace rlhf::theory;
using namespace theory_tests;

constexpr normals_of normal{6};
matrix preferences_of(const vector& reward) {
  matrix p(reward.size(), reward.size());
  for (Eigen::Index a = 0; a < reward.size(); ++a)
    for (Eigen::Index b = 0; b < reward.size(); ++b) p(a, b) = sigmoid(reward[a] - reward[b]);
  return p;
}

}  // namespace

TEST_CASE("log-linear policies: gradients against differences, Fisher as covariance") {
  const log_linear policy{normal(1, 5, 3), normal(2, 3)};
  const vector reward = normal(3, 5), ref = log_softmax(normal(4, 5));
  const auto value = [&](const log_linear& q) { return regularised_bandit{reward, ref, 0.3}.value(q.logp()); };
  const vector g = policy.gradient(reward, ref, 0.3);
  for (Eigen::Index k = 0; k < 3; ++k) {
    log_linear up = policy, down = policy;
    up.theta[k] += 1e-6, down.theta[k] -= 1e-6;
    CHECK(g[k] == Approx((value(up) - value(down)) / 2e-6).epsilon(1e-7).margin(1e-9));
  }
  const vector p = probabilities(policy.logp());
  const vector mean = policy.features.transpose() * p;
  const matrix covariance = policy.features.transpose() * p.asDiagonal() * policy.features - mean * mean.transpose();
  CHECK((policy.fisher() - covariance).cwiseAbs().maxCoeff() < 1e-13);
  // Tabular: the natural gradient is the reward up to a constant.
  const log_linear tabular = log_linear::tabular(normal(5, 5));
  CHECK(range_of(tabular.natural(tabular.gradient(reward)) - reward) < 1e-11);
}

TEST_CASE("expected losses have exact gradients and curvature") {
  const log_linear policy{normal(11, 5, 3), normal(12, 3)};
  const pair_population pairs{.weight = normal(13, 5, 5).cwiseAbs(),
                              .ref_logp = log_softmax(normal(14, 5)),
                              .previous_logp = log_softmax(normal(15, 5)),
                              .reward = normal(16, 5)};
  const auto compare = [&](const auto& objective) {
    const population_loss l = expected_loss(objective, pairs, policy);
    for (Eigen::Index k = 0; k < 3; ++k) {
      log_linear up = policy, down = policy;
      up.theta[k] += 1e-5, down.theta[k] -= 1e-5;
      const auto a = expected_loss(objective, pairs, up), b = expected_loss(objective, pairs, down);
      CHECK(l.gradient[k] == Approx((a.loss - b.loss) / 2e-5).epsilon(1e-6).margin(1e-8));
      for (Eigen::Index j = 0; j < 3; ++j)
        CHECK(l.hessian(j, k) == Approx((a.gradient[j] - b.gradient[j]) / 2e-5).epsilon(1e-6).margin(1e-7));
    }
  };
  compare(dpo_sigmoid{.beta = 0.7});
  compare(rebel{.eta = 0.4});
  compare(ipo_sum{.beta = 0.3});
  compare(inpo{.tau = 0.1, .inverse_step = 0.5});
}

TEST_CASE("population DPO has the soft-optimal policy as its minimiser") {
  const vector reward = normal(21, 6), ref = log_softmax(normal(22, 6));
  const double beta = 0.4;
  const vector best = regularised_bandit{reward, ref, beta}.best();
  const matrix weight = pair_population::labelled(matrix::Constant(6, 6, 1.0 / 36), preferences_of(reward));
  const auto found = minimise(dpo_sigmoid{.beta = beta}, {.weight = weight, .ref_logp = ref}, log_linear::tabular(ref));
  CHECK(found.converged);
  CHECK(kl(best, found.policy.logp()) < 1e-10);
  // The gradient vanishes there before any step.
  CHECK(expected_loss(dpo_sigmoid{.beta = beta}, {.weight = weight, .ref_logp = ref}, best)
            .gradient.cwiseAbs()
            .maxCoeff() < 1e-14);
}

TEST_CASE("the population minimisers of the game objectives are the steps that they stand for") {
  const preference_game game(preference_matrix::cycle(4, 0.3));
  const vector mu = log_softmax(normal(31, 4)), now = log_softmax(normal(32, 4));
  const matrix weight = pair_population::labelled(pair_population::independent(now, now), game.preference);
  const double tau = 0.2, step = 0.5;
  const auto next = minimise(inpo{.tau = tau, .inverse_step = 1 / step},
                             {.weight = weight, .ref_logp = mu, .previous_logp = now}, log_linear::tabular(now));
  CHECK(distance(next.policy.logp(), self_play_step(game, now, mu, tau, step)) < 1e-11);
  // IPO with pairs from one policy: h = P(y > mu_b) / tau.
  const auto ipo_best = minimise(ipo_sum{.beta = tau}, {.weight = weight, .ref_logp = mu}, log_linear::tabular(now));
  CHECK(distance(ipo_best.policy.logp(), log_softmax(mu + game.win_rates(now) / tau)) < 1e-11);
  // Its fixed point is the regularised Nash policy: there the expected gradient of online IPO is zero.
  const vector nash = game.regularised_nash(mu, tau);
  const matrix at_nash = pair_population::labelled(pair_population::independent(nash, nash), game.preference);
  CHECK(expected_loss(ipo_sum{.beta = tau}, {.weight = at_nash, .ref_logp = mu}, log_linear::tabular(nash))
            .gradient.norm() < 1e-10);
}

TEST_CASE("maximum likelihood from wins: Newton, minorisation, and the truth in the limit") {
  const vector reward = of({0.5, -0.2, 1.1, -0.7, 0});
  const matrix wins = 1000 * preferences_of(reward) - 500 * matrix::Identity(5, 5);
  const fitted_reward fit = fit_scores(bradley_terry{}, wins);
  CHECK(fit.converged);
  CHECK(distance(fit.theta, (reward.array() - reward.mean()).matrix()) < 1e-9);
  double last = -infinity;
  bool rises = true;
  const vector slow = fit_scores_by_minorisation(wins, 2000, [&](const vector& s) {
    double likelihood = 0;
    for (Eigen::Index a = 0; a < 5; ++a)
      for (Eigen::Index b = 0; b < 5; ++b) likelihood += a == b ? 0 : wins(a, b) * log_sigmoid(s[a] - s[b]);
    rises = rises && likelihood >= last - 1e-9 * std::fabs(last);
    last = likelihood;
  });
  CHECK(rises);
  CHECK(distance(slow, fit.theta) < 1e-8);
  // Thurstone's model on its own probabilities.
  matrix probit(5, 5);
  for (Eigen::Index a = 0; a < 5; ++a)
    for (Eigen::Index b = 0; b < 5; ++b)
      probit(a, b) = a == b ? 0 : 100 * std::exp(-thurstone{}(score_pair<double>{reward[a], reward[b], 0, 0, 0}));
  CHECK(distance(fit_scores(thurstone{}, probit).theta, (reward.array() - reward.mean()).matrix()) < 1e-9);
}

TEST_CASE("where there is no maximum it is said") {
  matrix apart = matrix::Zero(4, 4);
  apart(0, 1) = apart(1, 0) = apart(2, 3) = apart(3, 2) = 5;
  CHECK_FALSE(strongly_connected(apart));
  CHECK(refusal([&] { (void)fit_scores(bradley_terry{}, apart); }).substr(0, 60) ==
        "fit_scores: the graph of wins is not strongly connected, so ");
  CHECK(fit_scores(bradley_terry{}, apart, {.ridge = 0.1}).converged);
  matrix unbeaten = matrix::Zero(3, 3);
  unbeaten(0, 1) = unbeaten(0, 2) = unbeaten(1, 2) = unbeaten(2, 1) = 3;
  CHECK_FALSE(strongly_connected(unbeaten));
  unbeaten(2, 0) = 1;
  CHECK(strongly_connected(unbeaten));

  matrix separable(3, 2);
  separable << 1, 0.2, 2, -0.5, 0.5, 0.1;
  const fitted_reward whole = fit_reward(bradley_terry{}, {.difference = separable});
  CHECK(whole.diverged);
  CHECK_FALSE(whole.converged);
  matrix touching(4, 2);  // separated along the second axis, where only ties of the margin remain
  touching << 1, 0, -1, 0, 0.5, 1, -0.3, 2;
  CHECK(fit_reward(bradley_terry{}, {.difference = touching}).diverged);
  matrix mixed(4, 2);
  mixed << 1, 0.3, -1, 0.4, 0.5, -1, -0.2, 0.7;
  const fitted_reward fine = fit_reward(bradley_terry{}, {.difference = mixed});
  CHECK(fine.converged);
  CHECK_FALSE(fine.diverged);

  const fitted_reward ball = fit_reward_in_ball(bradley_terry{}, {.difference = separable}, 2);
  CHECK(ball.theta.norm() == Approx(2).margin(1e-6));
  CHECK(refusal([&] { (void)fit_reward_in_ball(bradley_terry{}, {.difference = separable}, 0); }) ==
        "fit_reward_in_ball: radius is 0, wants more than 0");
  CHECK(refusal([&] { (void)fit_reward(bradley_terry{}, {.difference = matrix(0, 2)}); }) ==
        "fit_reward: the number of comparisons is 0, wants at least 1");
  CHECK(refusal([&] { (void)comparisons_of(matrix::Constant(2, 2, -1)); }) ==
        "comparisons_of: a count is -1, wants 0 or more");
}

TEST_CASE("scores from counts by pairs: those of the table, on a ring, and on a large graph") {
  const matrix wins = 30 * preferences_of(normal(601, 12));
  sparse_wins pairs{12, {}};
  for (Eigen::Index a = 0; a < 12; ++a)
    for (Eigen::Index b = 0; b < 12; ++b) pairs.counts.push_back({a, b, wins(a, b)});
  for (const double ridge : {0.0, 0.05}) {
    const fitted_reward table = fit_scores(bradley_terry{}, wins, {.ridge = ridge}),
                        list = fit_scores(bradley_terry{}, pairs, {.ridge = ridge}),
                        dense = fit_reward(bradley_terry{}, comparisons_of(wins), {.ridge = ridge});
    CHECK(list.converged);
    CHECK(distance(list.theta, dense.theta) < 1e-9);
    CHECK(distance(table.theta, dense.theta) < 1e-9);
    CHECK((table.curvature - dense.curvature).cwiseAbs().maxCoeff() < 1e-12);
    CHECK(std::fabs(list.theta.sum()) < 1e-9);
  }
  // A ring of expected counts, solved by sparse elimination, and a random graph, by conjugate gradients: the truth is found.
  const vector truth = normal(602, 2000);
  for (const std::uint32_t degree : {1u, 6u}) {
    const random_numbers numbers({603, degree});
    sparse_wins graph{2000, {}};
    for (std::uint32_t i = 0; i < 2000 * degree; ++i) {
      const Eigen::Index a = i % 2000, b = i < 2000 ? (a + 1) % 2000 : numbers.integer(2000, {.position = i});
      const double p = sigmoid(truth[a] - truth[b]);
      graph.counts.push_back({a, b, p});
      graph.counts.push_back({b, a, 1 - p});
    }
    const fitted_reward fit = fit_scores(bradley_terry{}, graph, {.tolerance = 1e-14});
    CHECK(distance(fit.theta, (truth.array() - truth.mean()).matrix()) < 1e-6);
    graph.counts.resize(2);  // most items were never compared
    CHECK(refusal([&] { (void)fit_scores(bradley_terry{}, graph); }).substr(0, 60) ==
          "fit_scores: the graph of wins is not strongly connected, so ");
    CHECK(fit_scores(bradley_terry{}, graph, {.ridge = 0.1}).converged);
  }
  sparse_wins wrong{3, {{0, 3, 1}}};
  CHECK(refusal([&] { (void)fit_scores(bradley_terry{}, wrong); }) ==
        "sparse_wins: an item is 3, wants from 0 to items - 1");
  wrong.counts = {{0, 1, -1}};
  CHECK(refusal([&] { (void)fit_scores(bradley_terry{}, wrong); }) == "sparse_wins: a count is -1, wants 0 or more");
  CHECK(refusal([&] {
          (void)fit_scores(bradley_terry{}, sparse_wins{0, {}});
        }) == "sparse_wins: items is 0, wants at least 1");
}

TEST_CASE("rankings: two places are a comparison, and the truth maximises the expected likelihood") {
  std::vector<matrix> lists;
  matrix differences(40, 3);
  const random_numbers numbers({41, 0});
  const vector theta = of({0.8, -0.5, 0.3});
  for (std::uint32_t i = 0; i < 40; ++i) {
    const matrix phi = normal(500 + i, 2, 3);
    const vector s = phi * theta;
    const auto order = plackett_luce_ranking(span_of(s), numbers, {.sample = i});
    matrix ranked(2, 3);
    ranked << phi.row(order[0]), phi.row(order[1]);
    differences.row(i) = ranked.row(0) - ranked.row(1);
    lists.push_back(ranked);
  }
  const fitted_reward a = fit_rankings({}, lists), b = fit_reward(bradley_terry{}, {.difference = differences});
  CHECK(a.converged);
  CHECK(distance(a.theta, b.theta) < 1e-10);

  lists.clear();
  for (std::uint32_t i = 0; i < 4000; ++i) {
    const matrix phi = normal(1000 + i, 4, 3);
    const vector s = phi * theta;
    const auto order = plackett_luce_ranking(span_of(s), numbers, {.prompt = 1, .sample = i});
    matrix ranked(4, 3);
    for (Eigen::Index k = 0; k < 4; ++k) ranked.row(k) = phi.row(order[static_cast<std::size_t>(k)]);
    lists.push_back(ranked);
  }
  const fitted_reward fit = fit_rankings({}, lists), top = fit_rankings({.top = 1}, lists);
  // 4 standard deviations of the estimate.
  const matrix spread = (fit.curvature * 4000).inverse(), wide = (top.curvature * 4000).inverse();
  for (Eigen::Index k = 0; k < 3; ++k) {
    CHECK(std::fabs(fit.theta[k] - theta[k]) < 4 * std::sqrt(spread(k, k)));
    CHECK(std::fabs(top.theta[k] - theta[k]) < 4 * std::sqrt(wide(k, k)));
    CHECK(spread(k, k) < wide(k, k));
  }
}

TEST_CASE("ellipsoids by factor, without an inverse") {
  const matrix x = normal(51, 30, 4);
  const design_matrix design(x, 0.5);
  const matrix sigma = x.transpose() * x + 0.5 * matrix::Identity(4, 4);
  const vector v = normal(52, 4);
  CHECK(design.uncertainty(v) == Approx(std::sqrt(v.dot(sigma.inverse() * v))).epsilon(1e-12));
  CHECK(design.distance(v) == Approx(std::sqrt(v.dot(sigma * v))).epsilon(1e-12));
  CHECK(least_logistic_slope(2) == Approx(1 / (2 + std::exp(2.0) + std::exp(-2.0))).epsilon(1e-14));
  const matrix phi = normal(53, 5, 4);
  const vector low = bounded_rewards(phi, v, design, -0.7), high = bounded_rewards(phi, v, design, 0.7);
  CHECK(distance((low + high) / 2, phi * v) < 1e-13);
  CHECK((high - low).minCoeff() > 0);
  CHECK(refusal([&] { design_matrix(x, 0); }) == "design_matrix: ridge is 0, wants more than 0");
  CHECK(refusal([&] { (void)confidence_radius(3, 1, 0.1, 1, 1); }) ==
        "confidence_radius: delta is 1, wants 0 < delta < 1");
}

TEST_CASE("pessimism passes over the arm that hardly anybody has seen") {
  // Three arms; 0 and 1 are compared a thousand times, 2 won its only comparison.
  matrix wins = matrix::Zero(3, 3);
  wins(0, 1) = 700, wins(1, 0) = 300, wins(2, 1) = 1;
  const fitted_reward fit = fit_scores(bradley_terry{}, wins, {.ridge = 1e-4});
  const comparisons data = comparisons_of(wins);
  const auto design =
      design_matrix::of_sum(data.difference.transpose() * data.count.asDiagonal() * data.difference, 1e-2);
  pessimistic_bandit bandit{matrix::Identity(3, 3), fit.theta, of({0, 1, 0}), 0};
  CHECK(bandit.choose(design) == 2);
  bandit.radius = 5;
  CHECK(bandit.choose(design) == 0);
  const vector spread = bandit.randomise(design);
  CHECK(std::exp(spread[0]) > 0.9);
  CHECK(bandit.gibbs_policy(design, uniform_logp(3), 0.1).maxCoeff() ==
        bandit.gibbs_policy(design, uniform_logp(3), 0.1)[0]);
}

TEST_CASE("RTO's theoretical algorithm stays within its bound") {
  token_mdp mdp(1, 3, 3);
  const matrix features = normal(61, mdp.cells(), 4) / 2;
  const vector theta = normal(62, 4), rewards = features * theta;
  mdp.set_rewards({rewards.data(), rewards.data() + rewards.size()});
  const table ref = uniform_tokens(mdp);
  const soft_solution best = soft_optimal(mdp, ref, 0.3);
  const matrix whole = response_features(mdp, features);
  CHECK(distance(whole * theta, vector_of(over_responses(mdp, mdp.rewards()))) < 1e-12);
  const random_numbers numbers({63, 0});
  for (std::uint32_t seed = 0; seed < 5; ++seed) {
    matrix z(200, 4);
    for (std::uint32_t i = 0; i < 200; ++i) {
      const Eigen::Index a = numbers.integer(27, {seed, i, 0}), b = numbers.integer(27, {seed, i, 1});
      const vector x = (whole.row(a) - whole.row(b)).transpose();
      z.row(i) = (numbers.uniform({seed, i, 2}) < sigmoid(x.dot(theta)) ? 1 : -1) * x.transpose();
    }
    const auto greedy = reinforced_token_optimisation(mdp, features, {.difference = z}, ref, 0.3, 0);
    const double radius = greedy.design.distance(greedy.fit.theta - theta);
    const auto careful = reinforced_token_optimisation(mdp, features, {.difference = z}, ref, 0.3, radius);
    const double lacks = best.value[0] - regularised_value(mdp, careful.plan.policy, ref, 0.3)[0];
    CHECK(lacks >= 0);
    CHECK(lacks <= bound_of(mdp, features, careful, best.policy, 0.3, radius).bound);
  }
}

TEST_CASE("links and their inverses; counts that say too much are clipped") {
  const auto both_ways = [](const auto& link) {
    for (const double z : {-6.0, -1.0, -1e-3, 0.0, 0.4, 2.0}) CHECK(link.inverse(link(z)) == Approx(z).margin(1e-9));
    CHECK(link(0) == Approx(0.5).margin(1e-15));
  };
  both_ways(logistic_link{});
  both_ways(probit_link{});
  both_ways(complementary_log_log_link{});
  const std::vector<double> counts = {0, 10, 5};
  CHECK(value_difference(counts, 10, logistic_link{}, 0.1) == Approx(0).margin(1e-14));
  CHECK(value_difference(std::vector<double>{10}, 10, logistic_link{}, 0.1) == Approx(std::log(9.0)));
  CHECK(refusal([&] { (void)value_difference(counts, 9, logistic_link{}, 0.1); }) ==
        "value_difference: a count is 10, wants between 0 and labels");
  CHECK(refusal([&] { (void)value_difference(counts, 10, logistic_link{}, 0); }) ==
        "value_difference: clip is 0, wants 0 < clip < 1/2");
}

TEST_CASE("search directions: unit length, E v v^T = I/d; the estimate is unbiased for quadratics") {
  const random_numbers numbers({71, 0});
  const matrix h = [] {
    const matrix a = normal(72, 6, 6);
    return matrix((a + a.transpose()) / 2);
  }();
  const vector g = normal(73, 6);
  constexpr std::uint32_t n = 20000;
  for (const Eigen::Index block : {0, 1, 2, 6}) {
    vector mean = vector::Zero(6), square = mean;
    matrix second = matrix::Zero(6, 6);
    for (std::uint32_t i = 0; i < n; ++i) {
      const vector v = search_direction(6, block, numbers, {.prompt = static_cast<std::uint32_t>(block), .sample = i});
      CHECK(std::fabs(v.norm() - 1) < 1e-12);
      second += v * v.transpose() / n;
      const double mu = 0.5, difference = mu * g.dot(v) + 0.5 * mu * mu * v.dot(h * v);
      const vector e = zeroth_order_gradient(difference, v, mu);
      mean += e / n, square += e.cwiseProduct(e) / n;
    }
    CHECK((second - matrix::Identity(6, 6) / 6).cwiseAbs().maxCoeff() < 4 * 0.5 / std::sqrt(n));
    for (Eigen::Index k = 0; k < 6; ++k) CHECK(std::fabs(mean[k] - g[k]) < 4.5 * std::sqrt(square[k] / n));
  }
  CHECK(sign_gradient(-0.2, of({1, 2})) == of({-1, -2}));
}

TEST_CASE("VPO: both forms are the same number, and their minimisers agree") {
  const vector ref = log_softmax(normal(81, 6));
  const vector truth = normal(82, 6);
  for (const double alpha : {-3.0, 0.0, 2.0}) {
    const value_incentive vpo{.beta = 0.5,
                              .alpha = alpha,
                              .ref_logp = ref,
                              .calibration = probabilities(log_softmax(normal(83, 6))),
                              .wins = 20 * preferences_of(truth)};
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      const vector r = vpo.calibrated(normal(90 + seed, 6));
      CHECK(vpo.loss_of_reward(r) == Approx(vpo.loss_of_policy(ref + r / 0.5).loss).margin(1e-10));
    }
    const vector best = vpo.fit(vector::Zero(6), 20);
    CHECK(vpo.loss_of_policy(vpo.policy_of(best)).gradient.cwiseAbs().maxCoeff() < 1e-8);
    // The reward form does not fall in any direction there.
    for (Eigen::Index k = 0; k < 6; ++k)
      for (const double h : {-1e-3, 1e-3}) {
        vector moved = best;
        moved[k] += h;
        CHECK(vpo.loss_of_reward(vpo.calibrated(moved)) > vpo.loss_of_reward(best) - 1e-12);
      }
  }
}

TEST_CASE("VPO's gradient and curvature against differences; more optimism, more value") {
  value_incentive vpo{.beta = 0.4,
                      .alpha = 1.5,
                      .ref_logp = uniform_logp(4),
                      .calibration = vector::Constant(4, 0.25),
                      .wins = matrix::Zero(4, 4)};
  vpo.wins(0, 1) = 3, vpo.wins(1, 0) = 2, vpo.wins(1, 2) = 4;
  const vector z = normal(91, 4);
  const population_loss l = vpo.loss_of_policy(z);
  for (Eigen::Index k = 0; k < 4; ++k) {
    vector up = z, down = z;
    up[k] += 1e-5, down[k] -= 1e-5;
    const auto a = vpo.loss_of_policy(up), b = vpo.loss_of_policy(down);
    CHECK(l.gradient[k] == Approx((a.loss - b.loss) / 2e-5).margin(1e-8));
    for (Eigen::Index j = 0; j < 4; ++j)
      CHECK(l.hessian(j, k) == Approx((a.gradient[j] - b.gradient[j]) / 2e-5).margin(1e-8));
  }
  // The more optimism, the more the best policy is believed to be worth.
  double last = -infinity;
  for (const double alpha : {-4.0, -1.0, 0.0, 1.0, 4.0}) {
    vpo.alpha = alpha;
    const vector r = vpo.fit(vector::Zero(4), 1);
    CHECK(r.allFinite());
    const double worth = regularised_bandit{r, vpo.ref_logp, vpo.beta}.best_value();
    CHECK(worth >= last - 1e-9);
    last = worth;
  }
}
