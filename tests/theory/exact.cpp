// Exact objects: identities to 1e-12, golden numbers, bounds, and what is refused.

#include <string>

#include "rlhf/formulation/tabular.hpp"
#include "rlhf/theory/games.hpp"
#include "rlhf/theory/pair_laws.hpp"
#include "rlhf/theory/soft_value.hpp"
#include "rlhf/theory/token_tree.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "theory/vectors.hpp"

namespace {

using namespace rlhf;
using namespace rlhf::theory;
using namespace theory_tests;

table normals(std::uint64_t seed, std::int64_t n) {
  const random_numbers numbers({seed, 5});
  table out;
  for (std::int64_t i = 0; i < n; ++i) out.push_back(numbers.normal({.position = static_cast<std::uint32_t>(i)}));
  return out;
}
vector normal(std::uint64_t seed, Eigen::Index n) { return vector_of(normals(seed, n)); }

dense_mdp random_mdp(std::uint64_t seed, std::int64_t states, std::int64_t actions) {
  const table noise = normals(seed, states * actions * states);
  table p;
  for (std::int64_t row = 0; row < states * actions; ++row) {
    double sum = 0;
    for (std::int64_t s = 0; s < states; ++s) sum += std::exp(noise[static_cast<std::size_t>(row * states + s)]);
    for (std::int64_t s = 0; s < states; ++s)
      p.push_back(std::exp(noise[static_cast<std::size_t>(row * states + s)]) / sum);
  }
  return {states, actions, p, normals(seed + 1, states * actions)};
}

}  // namespace

TEST_CASE("the best policy of a bandit, golden") {
  const regularised_bandit b{of({1, 0, 0.5}), logs({0.5, 0.3, 0.2}), 0.5};
  CHECK(distance(probabilities(b.best()), of({0.81409826, 0.06610573, 0.11979601})) < 1e-8);
  CHECK(b.best_value() == Approx(0.75626351).margin(1e-8));
  CHECK(b.value(b.best()) == Approx(b.best_value()).margin(1e-13));
  const vector any = log_softmax(normal(1, 3));
  CHECK(b.best_value() - b.value(any) == Approx(b.gap(any)).margin(1e-13));
  // Towards infinite beta the reference, towards 0 the best response.
  CHECK(distance(regularised_bandit{b.reward, b.ref_logp, 1e9}.best(), b.ref_logp) < 1e-8);
  CHECK(probabilities(regularised_bandit{b.reward, b.ref_logp, 1e-3}.best())[0] == Approx(1));
}

TEST_CASE("log-probabilities at their ends") {
  CHECK(log_sum_exp(of({-infinity, -infinity})) == -infinity);
  CHECK(log_sum_exp(of({1000, 1000})) == Approx(1000 + std::log(2.0)));
  CHECK(kl(logs({0.5, 0.5}), logs({1, 0})) == infinity);
  CHECK(kl(logs({1, 0}), logs({0.5, 0.5})) == Approx(std::log(2.0)));
  CHECK(entropy(uniform_logp(7)) == Approx(std::log(7.0)));
  CHECK(draw(logs({0.5, 0, 0.5}), 0.7) == 2);
  CHECK(draw(logs({0.5, 0.5, 0}), 0.9999999999999999) == 1);
}

TEST_CASE("a token tree against its list of responses") {
  const double beta = 0.4;
  for (const std::int64_t end : {-1, 1}) {
    token_mdp mdp(2, 3, 4, end);
    mdp.set_rewards(normals(3, mdp.cells()));
    const table ref = token_softmax(mdp, normals(4, mdp.cells())), policy = token_softmax(mdp, normals(5, mdp.cells()));
    const soft_solution best = soft_optimal(mdp, ref, beta);
    const Eigen::Index n = mdp.responses();
    const vector returns = vector_of(over_responses(mdp, mdp.rewards())), r = vector_of(over_responses(mdp, ref)),
                 p = vector_of(over_responses(mdp, policy)), s = vector_of(over_responses(mdp, best.policy));
    const table visits = occupancy(mdp, policy);
    for (Eigen::Index x = 0; x < 2; ++x) {
      const auto root = static_cast<std::size_t>(x * mdp.prefixes());
      const regularised_bandit whole{returns.segment(x * n, n), r.segment(x * n, n), beta};
      CHECK(log_sum_exp(p.segment(x * n, n)) == Approx(0).margin(1e-13));
      CHECK(distance(whole.best(), s.segment(x * n, n)) < 1e-12);
      CHECK(best.value[root] == Approx(whole.best_value()).margin(1e-12));
      CHECK(regularised_value(mdp, policy, ref, beta)[root] == Approx(whole.value(p.segment(x * n, n))).margin(1e-12));
      CHECK(response_kl(mdp, policy, ref)[root] == Approx(kl(p.segment(x * n, n), r.segment(x * n, n))).margin(1e-12));
      CHECK(best.value[root] - regularised_value(mdp, policy, ref, beta)[root] ==
            Approx(beta * response_kl(mdp, policy, best.policy)[root]).margin(1e-12));
      double paid = 0, ended = 0;
      for (std::int64_t q = 0; q < mdp.prefixes(); ++q)
        for (std::int64_t a = 0; a < 3; ++a) {
          const auto c = static_cast<std::size_t>(mdp.cell(x, q, a));
          paid += visits[c] * mdp.rewards()[c];
          if (mdp.reachable(q) && mdp.completes(q, a)) ended += visits[c];
        }
      CHECK(paid == Approx(policy_value(mdp, policy, mdp.rewards())[root]).margin(1e-12));
      CHECK(ended == Approx(1).margin(1e-12));
    }
  }
}

TEST_CASE("every policy is soft-optimal for its own log-ratios, and only rewards up to shaping agree") {
  token_mdp mdp(1, 3, 3);
  mdp.set_rewards(normals(6, mdp.cells()));
  const table ref = token_softmax(mdp, normals(7, mdp.cells())), policy = token_softmax(mdp, normals(8, mdp.cells()));
  table implicit = log_ratio(policy, ref);
  for (double& x : implicit) x *= 0.7;
  const soft_solution own = soft_optimal(mdp, ref, 0.7, implicit);
  for (std::size_t c = 0; c < policy.size(); ++c) CHECK(own.policy[c] == Approx(policy[c]).margin(1e-12));
  for (const double v : own.value) CHECK(v == Approx(0).margin(1e-12));
  // A potential changes nothing.
  const table phi = normals(9, mdp.prefixes());
  table shaped(mdp.rewards().begin(), mdp.rewards().end());
  for (std::int64_t p = 0; p < mdp.prefixes(); ++p)
    for (std::int64_t a = 0; a < 3; ++a) {
      const double after = mdp.completes(p, a) ? 0 : phi[static_cast<std::size_t>(mdp.child(p, a))];
      shaped[static_cast<std::size_t>(mdp.cell(0, p, a))] += after - phi[static_cast<std::size_t>(p)];
    }
  const soft_solution before = soft_optimal(mdp, ref, 0.7), after = soft_optimal(mdp, ref, 0.7, shaped);
  for (std::size_t c = 0; c < policy.size(); ++c) CHECK(before.policy[c] == Approx(after.policy[c]).margin(1e-12));
}

TEST_CASE("soft value iteration: fixed point, contraction, the tree as a finite MDP") {
  const dense_mdp mdp = random_mdp(10, 8, 3);
  const vector ref = [&] {
    vector out = normal(12, mdp.pairs());
    for (Eigen::Index s = 0; s < 8; ++s) out.segment(3 * s, 3) = log_softmax(out.segment(3 * s, 3));
    return out;
  }();
  for (const bool with_ref : {false, true}) {
    const soft_criterion c{.discount = 0.9, .temperature = 0.3, .ref_logp = with_ref ? ref : vector{}};
    const solved_mdp best = soft_value_iteration(mdp, c, 1e-12);
    CHECK(distance(soft_bellman(mdp, c, best.value), best.value) < 1e-12);
    CHECK(distance(evaluate(mdp, c, best.policy), best.value) < 1e-11);
    const vector v = normal(13, 8), w = normal(14, 8);
    CHECK(distance(soft_bellman(mdp, c, v), soft_bellman(mdp, c, w)) <= 0.9 * distance(v, w) + 1e-15);
    // No policy is better, and small changes of the best one are worse.
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      vector z = best.policy + 0.1 * normal(20 + seed, mdp.pairs());
      for (Eigen::Index s = 0; s < 8; ++s) z.segment(3 * s, 3) = log_softmax(z.segment(3 * s, 3));
      CHECK((evaluate(mdp, c, z) - best.value).maxCoeff() < 0);
    }
  }
  const soft_criterion plain{.discount = 0.9, .temperature = 0};
  const solved_mdp hard = soft_value_iteration(mdp, plain, 1e-12);
  CHECK(distance(evaluate(mdp, plain, hard.policy), hard.value) < 1e-11);

  token_mdp tree(1, 3, 3, 2);
  tree.set_rewards(normals(15, tree.cells()));
  const table even = uniform_tokens(tree);
  const token_states states(tree);
  vector even_ref = vector_of(even);
  even_ref.conservativeResize(states.pairs());
  even_ref[states.pairs() - 1] = 0;  // the end has one action
  const auto value = finite_horizon(states, {.temperature = 0.5, .ref_logp = even_ref}, 3);
  CHECK(value.back()[0] == Approx(soft_optimal(tree, even, 0.5).value[0]).margin(1e-12));
}

TEST_CASE("occupancies pay what values say") {
  const dense_mdp mdp = random_mdp(30, 7, 2);
  const soft_criterion c{.discount = 0.8, .temperature = 0};
  const vector policy = uniform_logp(2).replicate(7, 1);
  const vector start = vector::Constant(7, 1.0 / 7);
  const vector d = occupancy(mdp, c, policy, start);
  CHECK(d.sum() == Approx(1).margin(1e-13));
  double paid = 0;
  for (std::int64_t s = 0; s < 7; ++s)
    for (std::int64_t a = 0; a < 2; ++a) paid += d[2 * s + a] * mdp.reward(s, a);
  CHECK(paid / 0.2 == Approx(start.dot(evaluate(mdp, c, policy))).margin(1e-12));
}

TEST_CASE("natural policy gradient: monotone, within its bound; with the largest step it is soft policy iteration") {
  const dense_mdp mdp = random_mdp(40, 6, 4);
  const double gamma = 0.9, eta = 0.1;
  const soft_criterion plain{.discount = gamma, .temperature = 0};
  const vector best = soft_value_iteration(mdp, plain, 1e-11).value;
  vector policy = uniform_logp(4).replicate(6, 1), value = evaluate(mdp, plain, policy);
  for (int t = 1; t <= 100; ++t) {
    policy = natural_step(mdp, plain, policy, eta);
    const vector next = evaluate(mdp, plain, policy);
    CHECK((next - value).minCoeff() > -1e-10);
    value = next;
    CHECK((best - value).maxCoeff() <= std::log(4.0) / (eta * t) + 1 / ((1 - gamma) * (1 - gamma) * t));
  }
  const soft_criterion soft{.discount = gamma, .temperature = 0.2};
  const solved_mdp target = soft_value_iteration(mdp, soft, 1e-12);
  vector p = uniform_logp(4).replicate(6, 1);
  const vector greedy = soft_greedy(mdp, soft, q_values(mdp, gamma, evaluate(mdp, soft, p)));
  CHECK(distance(natural_step(mdp, soft, p, (1 - gamma) / 0.2), greedy) < 1e-12);
  for (int t = 0; t < 8; ++t) p = natural_step(mdp, soft, p, (1 - gamma) / 0.2);
  CHECK(distance(p, target.policy) < 1e-9);
  // Linear rate (Cen et al.): |Q* - Q_{t+1}| <= C gamma (1 - eta tau)^t, in units of 1/(1 - gamma) of the step.
  const double rate = 0.5;
  p = uniform_logp(4).replicate(6, 1);
  const double c1 = distance(target.q, q_values(mdp, gamma, evaluate(mdp, soft, p))) +
                    2 * 0.2 * (1 - rate) * distance(target.policy, p);
  for (int t = 0; t < 30; ++t) {
    p = natural_step(mdp, soft, p, rate * (1 - gamma) / 0.2);
    const double contraction = 1 - rate * (1 - gamma);
    CHECK(distance(target.q, q_values(mdp, gamma, evaluate(mdp, soft, p))) <=
          c1 * gamma * std::pow(contraction, t) + 1e-10);
  }
}

TEST_CASE("mirror descent towards a reference contracts by exactly 1 - eta beta") {
  const vector reward = normal(50, 9), ref = log_softmax(normal(51, 9));
  const mirror_step step{.step = 0.3, .temperature = 0.5};
  const vector best = regularised_bandit{reward, ref, 0.5}.best();
  vector logp = log_softmax(normal(52, 9));
  for (int t = 0; t < 40; ++t) {
    const double before = range_of(logp - best);
    logp = step(logp, reward, ref);
    CHECK(std::fabs(range_of(logp - best) - 0.85 * before) < 1e-12);
  }
  CHECK(distance(step(best, reward, ref), best) < 1e-12);
}

TEST_CASE("games: the regularised Nash policy and the minimax winner") {
  const preference_game rps(preference_matrix::cycle(3, 0.4));
  const vector mu = logs({0.5, 0.3, 0.2});
  for (const double tau : {0.03, 0.1, 1.0}) {
    const vector nash = rps.regularised_nash(mu, tau);
    CHECK(rps.nash_residual(nash, mu, tau) < 1e-11);
    // Stationary for both dynamics that aim at it.
    CHECK(distance(self_play_step(rps, nash, mu, tau, 0.1), nash) < 1e-11);
  }
  CHECK(distance(probabilities(rps.minimax_winner()), vector::Constant(3, 1.0 / 3)) < 1e-7);
  matrix p = matrix::Constant(4, 4, 0.5);
  const vector noise = normal(60, 6);
  Eigen::Index k = 0;
  for (Eigen::Index a = 0; a < 4; ++a)
    for (Eigen::Index b = a + 1; b < 4; ++b, ++k) p(a, b) = sigmoid(noise[k]), p(b, a) = 1 - p(a, b);
  const preference_game game(p);
  const vector winner = game.minimax_winner(1e-6);
  CHECK(game.duality_gap(winner) <= 1e-6);
  CHECK(largest_stable_step(0.03, 0.4 / std::sqrt(3.0)) == Approx(1.10633067).margin(1e-8));
}

TEST_CASE("self-play settles below its stability limit and circles above it") {
  const preference_game rps(preference_matrix::cycle(3, 0.4));
  const vector mu = uniform_logp(3);
  for (const double tau : {0.01, 0.03, 0.1}) {
    const double limit = largest_stable_step(tau, 0.4 / std::sqrt(3.0));
    for (const double share : {0.5, 0.9, 1.1}) {
      vector logp = logs({0.4, 0.35, 0.25});
      for (int t = 0; t < static_cast<int>(200 / (tau * limit)) + 4000; ++t)
        logp = self_play_step(rps, logp, mu, tau, share * limit);
      if (share < 1)
        CHECK(kl(mu, logp) < 1e-6);
      else
        CHECK(kl(mu, logp) > 0.03);
    }
  }
}

TEST_CASE("PILAF, golden and invariant") {
  const vector pi = logs({0.5, 0.3, 0.2}), ref = logs({0.2, 0.3, 0.5});
  const pilaf_sampler s(pi, ref, 0.5);
  CHECK(std::exp(s.log_z_plus) == Approx(1.21706052).margin(1e-8));
  CHECK(std::exp(s.log_z_minus) == Approx(0.93245553).margin(1e-8));
  CHECK(s.pairs.from_policy == Approx(0.46841593).margin(1e-8));
  CHECK(distance(probabilities(s.plus), of({0.64957280, 0.24649555, 0.10393165})) < 1e-8);
  CHECK(distance(probabilities(s.minus), of({0.33913442, 0.32173116, 0.33913442})) < 1e-8);
  CHECK(s.exact().sum() == Approx(1).margin(1e-13));
  CHECK(s.practical().sum() == Approx(1).margin(1e-13));
  CHECK(range_of(s.plus + s.minus - 2 * pi) < 1e-13);
  const pilaf_sampler same(ref, ref, 0.5);
  CHECK(distance(same.plus, ref) < 1e-14);
  CHECK(same.pairs.from_policy == Approx(0.5).margin(1e-14));
  CHECK(refusal([&] {
          pilaf_sampler(pi, logs({1, 0, 0}), 0.5);
        }) ==
        "pilaf_sampler: a log-probability of the reference is -inf, wants a finite number where the policy has mass");
}

TEST_CASE("best and worst of n, against all ways to draw") {
  const vector logp = logs({0.2, 0.5, 0.3}), score = of({0.3, -1, 2});
  matrix counted = matrix::Zero(3, 3);
  for (Eigen::Index a = 0; a < 3; ++a)
    for (Eigen::Index b = 0; b < 3; ++b)
      for (Eigen::Index c = 0; c < 3; ++c) {
        const Eigen::Index drawn[] = {a, b, c};
        Eigen::Index top = a, low = a;
        for (const auto y : drawn) top = score[y] > score[top] ? y : top, low = score[y] < score[low] ? y : low;
        counted(top, low) += std::exp(logp[a] + logp[b] + logp[c]);
      }
  CHECK((best_and_worst(logp, score, 3) - counted).cwiseAbs().maxCoeff() < 1e-14);
  CHECK(best_of_n_kl(4) == Approx(0.63629436).margin(1e-8));
  CHECK(best_of_n_kl(16) == Approx(1.83508872).margin(1e-8));
  CHECK(best_of_n_kl(64) == Approx(3.17450808).margin(1e-8));
  CHECK(best_of_n_kl(256) == Approx(4.54908369).margin(1e-8));
  CHECK(enhancer(of({1, 0.9, 0}), of({0.1, 0.3, 2}), 0.4) == 1);
  CHECK(enhancer(of({1, 0.9, 0}), of({0.1, 0.3, 2}), 0.6) == 2);
}

TEST_CASE("what exact solvers refuse") {
  const regularised_bandit b{of({1, 0}), uniform_logp(2), 0};
  CHECK(refusal([&] { (void)b.best(); }) == "regularised_bandit: beta is 0, wants more than 0");
  CHECK(refusal([&] { (void)log_linear::tabular(vector()).logp(); }) ==
        "log_softmax: the number of actions is 0, wants at least 1");
  CHECK(refusal([&] { (void)mirror_step{}(vector(), vector()); }) ==
        "log_softmax: the number of actions is 0, wants at least 1");
  CHECK(refusal([&] {
          (void)regularised_bandit{vector(), vector(), 1}.best();
        }) == "regularised_bandit: the number of actions is 0, wants at least 1");
  token_mdp mdp(1, 2, 2);
  CHECK(refusal([&] { (void)soft_optimal(mdp, uniform_tokens(mdp), -1); }) ==
        "soft_optimal: beta is -1, wants more than 0");
  CHECK(refusal([&] { (void)soft_optimal(mdp, table(3), 1); }) == "soft_optimal: ref has 3 elements, wants 6");
  const dense_mdp small = random_mdp(1, 2, 2);
  CHECK(refusal([&] { (void)soft_value_iteration(small, {.discount = 1}); }) ==
        "soft_criterion: discount is 1, wants 0 <= discount < 1");
  CHECK(refusal([&] {
          (void)natural_step(small, {.discount = 0.9, .temperature = 1}, uniform_logp(2).replicate(2, 1), 0.2);
        }) == "natural_step: step is 0.2, wants at most (1 - discount) / temperature");
  const vector even = uniform_logp(2).replicate(2, 1), chances = even.array().exp();
  const soft_criterion soft{.discount = 0.9, .temperature = 1};
  CHECK(refusal([&] { (void)evaluate(small, soft, uniform_logp(3)); }) ==
        "a policy's values: policy has 3 elements, wants 4");
  // Probabilities in place of their logarithms, in a policy and in a reference; no number at all.
  CHECK(refusal([&] { (void)evaluate(small, soft, chances); }).substr(0, 63) ==
        "a policy's values: the sum of e^policy in state 0 is 3.29744254");
  CHECK(refusal([&] {
          (void)soft_value_iteration(small, {.discount = 0.9, .temperature = 1, .ref_logp = chances});
        }).substr(0, 60) == "soft_criterion: the sum of e^ref_logp in state 0 is 3.297442");
  vector broken = even;
  broken[3] = std::nan("");
  CHECK(refusal([&] { (void)natural_step(small, soft, broken, 0.1); }) ==
        "a policy's values: the sum of e^policy in state 1 is nan, wants 1");
  const regularised_bandit three{vector::Ones(3), uniform_logp(3), 1};
  CHECK(refusal([&] { (void)three.value(uniform_logp(2)); }) == "regularised_bandit: logp has 2 elements, wants 3");
  CHECK(refusal([&] { (void)three.gap(uniform_logp(4)); }) == "regularised_bandit: logp has 4 elements, wants 3");
  CHECK(refusal([&] {
          (void)mirror_step{.step = 0}(uniform_logp(2), of({1, 2}));
        }) == "mirror_step: step is 0, wants more than 0");
  CHECK(refusal([&] { preference_game(matrix::Constant(2, 2, 0.6)); }).substr(0, 41) ==
        "preference_game: the largest |P + P^T - 1");
  const preference_game rps(preference_matrix::cycle(3, 0.4));
  CHECK(refusal([&] { (void)rps.regularised_nash(uniform_logp(3), 0); }) ==
        "regularised_nash: beta is 0, wants more than 0");
  CHECK(refusal([&] { (void)nash_md_step(rps, uniform_logp(3), uniform_logp(3), 0.5, 3); }) ==
        "nash_md_step: step is 3, wants 0 < step <= 1 / tau");
}
