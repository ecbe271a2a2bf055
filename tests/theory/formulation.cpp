// Formulations: what they are, the way between them, and what they refuse.

#include <cmath>

#include "rlhf/formulation/gaussian_steps.hpp"
#include "rlhf/formulation/linear.hpp"
#include "rlhf/formulation/preferences.hpp"
#include "rlhf/formulation/views.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"
#include "support/catch.hpp"

namespace {

using namespace rlhf;
using list = std::vector<double>;

constexpr double missing = not_a_number;

template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const std::invalid_argument& trouble) {
    return trouble.what();
  }
  return "no refusal";
}

list normals(std::uint64_t seed, std::int64_t n) {
  const random_numbers numbers({seed, 1});
  list out;
  for (std::int64_t i = 0; i < n; ++i) out.push_back(numbers.normal({.position = static_cast<std::uint32_t>(i)}));
  return out;
}

}  // namespace

TEST_CASE("a token MDP numbers its prefixes as a tree") {
  const token_mdp mdp(2, 3, 3);
  CHECK(mdp.prefixes() == 1 + 3 + 9);
  CHECK(mdp.responses() == 27);
  CHECK(mdp.cells() == 2 * 13 * 3);
  for (std::int64_t p = 0; p < mdp.prefixes(); ++p) {
    CHECK(mdp.length(p) == (p == 0 ? 0 : p < 4 ? 1 : 2));
    CHECK(static_cast<std::int64_t>(mdp.tokens(p).size()) == mdp.length(p));
    for (std::int64_t a = 0; a < 3 && mdp.length(p) < 2; ++a) {
      CHECK(mdp.parent(mdp.child(p, a)) == p);
      CHECK(mdp.last_token(mdp.child(p, a)) == a);
    }
  }
}

TEST_CASE("an end of text completes a response") {
  const token_mdp mdp(1, 2, 3, 0);
  // 0; 1 0; 1 1 0; 1 1 1
  CHECK(mdp.responses() == 4);
  CHECK(mdp.completes(0, 0));
  CHECK_FALSE(mdp.completes(0, 1));
  CHECK_FALSE(mdp.reachable(mdp.child(0, 0)));
  CHECK(mdp.reachable(mdp.child(0, 1)));
  std::vector<std::vector<std::int32_t>> all;
  mdp.each_response([&](std::int64_t number, std::int64_t prefix, std::int64_t token) {
    CHECK(number == static_cast<std::int64_t>(all.size()));
    all.push_back(mdp.tokens(prefix));
    all.back().push_back(static_cast<std::int32_t>(token));
  });
  CHECK(all == std::vector<std::vector<std::int32_t>>{{0}, {1, 0}, {1, 1, 0}, {1, 1, 1}});
}

TEST_CASE("a million responses to a prompt are enumerated") {
  const token_mdp mdp(1, 10, 6);
  CHECK(mdp.responses() == 1000000);
  const list sums = over_responses(mdp, list(static_cast<std::size_t>(mdp.cells()), 0.5));
  CHECK(sums.size() == 1000000);
  CHECK(sums.back() == 3.0);
}

TEST_CASE("bandit and token view of the same problem") {
  token_mdp mdp(2, 3, 3, 2);
  mdp.set_rewards(normals(1, mdp.cells()));
  const tabular_bandit bandit = as_bandit(mdp);
  CHECK(bandit.contexts() == 2);
  CHECK(bandit.actions() == mdp.responses());
  double sum = 0;
  std::int64_t prefix = 0;
  for (const std::int64_t token : {1, 0, 2}) sum += mdp.reward(1, prefix, token), prefix = mdp.child(prefix, token);
  mdp.each_response([&](std::int64_t y, std::int64_t p, std::int64_t token) {
    if (mdp.child(p, token) == prefix) CHECK(bandit.reward(1, y) == Approx(sum).epsilon(1e-14));
  });

  // Back again: one token for each response.
  const tabular_bandit again = as_bandit(as_token_mdp(bandit));
  for (std::int64_t x = 0; x < 2; ++x)
    for (std::int64_t y = 0; y < bandit.actions(); ++y) CHECK(again.reward(x, y) == bandit.reward(x, y));
}

TEST_CASE("a distribution over responses is a policy of tokens, and the other way round") {
  const token_mdp mdp(2, 3, 3, 1);
  list logp = normals(3, 2 * mdp.responses());
  for (std::int64_t x = 0; x < 2; ++x) {
    double total = 0;
    const auto n = static_cast<std::size_t>(mdp.responses());
    const std::span row(logp.data() + static_cast<std::size_t>(x) * n, n);
    for (const double z : row) total += std::exp(z);
    for (double& z : row) z -= std::log(total);
  }
  logp[4] = -infinity;  // no longer a distribution, but still one of its conditionals
  const list table = as_token_policy(mdp, logp);
  const list back = over_responses(mdp, table);
  double shift = 0;
  for (std::size_t y = 0; y < 4; ++y) shift = back[y] - logp[y];
  for (std::size_t y = 0; y < static_cast<std::size_t>(mdp.responses()); ++y) {
    if (y == 4)
      CHECK(back[y] == -infinity);
    else
      CHECK(back[y] - logp[y] == Approx(shift).margin(1e-13));
  }
}

TEST_CASE("token states walk the tree into an absorbing end") {
  token_mdp mdp(1, 2, 2, 0);
  mdp.set_rewards({1, 2, 3, 4, 5, 6});
  const token_states states(mdp);
  CHECK(states.states() == 4);
  const list v = {0, 10, 20, 30};
  CHECK(states.expect(0, 0, v) == 30);  // the end of text
  CHECK(states.expect(0, 1, v) == 20);
  CHECK(states.expect(2, 1, v) == 30);
  CHECK(states.expect(3, 0, v) == 30);
  CHECK(states.reward(2, 1) == 6);
  CHECK(states.reward(3, 0) == 0);
}

TEST_CASE("sparse and dense transitions say the same") {
  const random_numbers numbers({5, 0});
  list p, r;
  sparse_mdp sparse(6);
  for (std::uint32_t s = 0; s < 6; ++s)
    for (std::uint32_t a = 0; a < 3; ++a) {
      list row(6, 0.0);
      row[(s + a) % 6] += 0.25;
      row[(s * a + 1) % 6] += 0.75;
      r.push_back(numbers.normal({.prompt = s, .sample = a}));
      std::vector<successor> next;
      for (std::size_t k = 0; k < 6; ++k)
        if (row[k] > 0) next.emplace_back(k, row[k]);
      sparse.add(s, r.back(), next);
      p.insert(p.end(), row.begin(), row.end());
    }
  sparse.check();
  const dense_mdp dense(6, 3, p, r);
  const list v = normals(2, 6);
  for (std::int64_t s = 0; s < 6; ++s)
    for (std::int64_t a = 0; a < 3; ++a) {
      CHECK(sparse.expect(s, a, v) == Approx(dense.expect(s, a, v)).epsilon(1e-14));
      CHECK(sparse.reward(s, a) == dense.reward(s, a));
    }
}

TEST_CASE("linear rewards and transitions") {
  const feature_map phi(4, 2, {1, 0, 0.5, 0.5, 0, 1, 0.25, 0.75});
  CHECK(phi.rewards(list{2, -1}) == list{2, 0.5, -1, -0.25});
  const tabular_bandit bandit = linear_bandit(phi, 2, list{2, -1});
  CHECK(bandit.reward(1, 0) == -1);
  const dense_mdp mdp = linear_mdp(phi, 2, list{0.9, 0.1, 0.2, 0.8}, list{2, -1});
  CHECK(mdp.row(0, 1)[0] == Approx(0.55));
  CHECK(mdp.reward(1, 1) == -0.25);
}

TEST_CASE("gaussian steps: density and gradient") {
  gaussian_steps policy({0.5, 0.25});
  const list values = {0.9, 0.1, -0.2, 0.8, 0.3, -0.1, 1.1, 0, 0.2, 0.7, 0, 0.4};
  for (std::size_t i = 0; i < values.size(); ++i) policy.parameters()[i] = values[i];
  const auto x = policy.sample(random_numbers({1, 2}), {.sample = 3});
  REQUIRE(x.size() == 3);
  double sum = 0;
  for (std::size_t k = 0; k < 2; ++k)
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const double s = k == 0 ? 0.5 : 0.25, u = (x[k + 1][axis] - policy.mean(k, x[k])[axis]) / s;
      sum += -0.5 * u * u - std::log(s * std::sqrt(2 * 3.14159265358979323846));
    }
  CHECK(policy.log_prob(x) == Approx(sum).epsilon(1e-13));
  list gradient(values.size(), 0.0);
  policy.add_gradient(x, 2, gradient);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double h = 1e-6;
    policy.parameters()[i] = values[i] + h;
    const double up = policy.log_prob(x);
    policy.parameters()[i] = values[i] - h;
    const double down = policy.log_prob(x);
    policy.parameters()[i] = values[i];
    CHECK(gradient[i] == Approx((up - down) / h).epsilon(1e-6).margin(1e-8));
  }
  // E grad log p = 0, within 4 standard errors.
  const random_numbers numbers({7, 7});
  constexpr int n = 4000;
  list mean(values.size(), 0.0), square = mean;
  for (std::uint32_t i = 0; i < n; ++i) {
    list g(values.size(), 0.0);
    policy.add_gradient(policy.sample(numbers, {.sample = i}), 1, g);
    for (std::size_t k = 0; k < g.size(); ++k) mean[k] += g[k] / n, square[k] += g[k] * g[k] / n;
  }
  for (std::size_t k = 0; k < mean.size(); ++k) CHECK(std::fabs(mean[k]) < 4 * std::sqrt(square[k] / n));
}

TEST_CASE("oracles answer as the losses believe") {
  const list scores = {0.7, 0};
  const scored_preferences<bradley_terry> bt(1, 2, scores);
  CHECK(bt.probability(0, 0, 1) == Approx(1 / (1 + std::exp(-0.7))).epsilon(1e-14));
  CHECK(bt.probability(0, 0, 1) + bt.probability(0, 1, 0) == Approx(1).epsilon(1e-14));
  const scored_preferences<thurstone> normal(1, 2, scores);
  CHECK(normal.probability(0, 0, 1) == Approx(0.68969103).margin(1e-8));
  const scored_preferences<davidson> ties(1, 2, scores, {}, std::log(1.2));
  CHECK(ties.outcome_probability(0, 0, 1, 1) == Approx(0.42694702).margin(1e-8));
  CHECK(ties.outcome_probability(0, 0, 1, 0) == Approx(0.21201561).margin(1e-8));
  CHECK(ties.outcome_probability(0, 0, 1, 0.5) == Approx(0.36103737).margin(1e-8));
  const scored_preferences<rao_kupper> rk(1, 2, scores, {}, std::log(1.5));
  CHECK(rk.outcome_probability(0, 0, 1, 1) == Approx(0.57310599).margin(1e-8));
  CHECK(rk.outcome_probability(0, 0, 1, 0) == Approx(0.24871730).margin(1e-8));
  CHECK(rk.outcome_probability(0, 0, 1, 0.5) == Approx(0.17817672).margin(1e-8));

  const random_numbers numbers({9, 9});
  double won = 0, tied = 0, lost = 0;
  constexpr std::uint32_t n = 20000;
  for (std::uint32_t i = 0; i < n; ++i) {
    const verdict v = ties.compare(0, 0, 1, numbers, {.sample = i});
    won += v == verdict::won, tied += v == verdict::tied, lost += v == verdict::lost;
  }
  CHECK(won / n == Approx(0.42694702).margin(4 * 0.5 / std::sqrt(n)));
  CHECK(tied / n == Approx(0.36103737).margin(4 * 0.5 / std::sqrt(n)));
  CHECK(lost / n == Approx(0.21201561).margin(4 * 0.5 / std::sqrt(n)));
}

TEST_CASE("matrices, cycles and crowds") {
  const preference_matrix rps = preference_matrix::cycle(3, 0.4);
  CHECK(rps.probability(0, 0, 1) == Approx(0.9));
  CHECK(rps.probability(0, 2, 0) == Approx(0.9));
  CHECK(rps.probability(0, 1, 1) == 0.5);
  // Three transitive people, together a Condorcet cycle; one has not rated everything.
  const annotator_pool pool(3, 3, {3, 2, 1, 1, 3, 2, 2, missing, 3});
  CHECK(pool.probability(0, 0, 1) == 0.5);
  CHECK(pool.probability(0, 1, 2) == 1);
  CHECK(pool.probability(0, 2, 0) == Approx(2.0 / 3));
  const random_numbers numbers({4, 4});
  double won = 0;
  for (std::uint32_t i = 0; i < 3000; ++i) won += pool.compare(0, 2, 0, numbers, {.sample = i}) == verdict::won;
  CHECK(won / 3000 == Approx(2.0 / 3).margin(4 * 0.5 / std::sqrt(3000.0)));
  const annotator_pool strangers(1, 2, {1, missing});
  CHECK(strangers.probability(0, 0, 1) == 0.5);
  CHECK(strangers.compare(0, 0, 1, numbers, {}) == verdict::tied);
}

TEST_CASE("rankings have Plackett and Luce's law") {
  const list scores = {1, 0.5, -0.2};
  const random_numbers numbers({11, 3});
  constexpr std::uint32_t n = 20000;
  double in_order = 0, first = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const auto ranking = plackett_luce_ranking(scores, numbers, {.sample = i});
    in_order += ranking == std::vector<std::int64_t>{0, 1, 2};
    first += plackett_luce_ranking(scores, numbers, {.sample = i}, 1) == std::vector<std::int64_t>{0};
  }
  CHECK(in_order / n == Approx(std::exp(-1.04909741)).margin(4 * 0.5 / std::sqrt(n)));
  const double sum = std::exp(1.0) + std::exp(0.5) + std::exp(-0.2);
  CHECK(first / n == Approx(std::exp(1.0) / sum).margin(4 * 0.5 / std::sqrt(n)));
}

TEST_CASE("bad formulations are refused with their place") {
  CHECK(refusal([] {
          dense_mdp(1, 2, {1, 0.9}, {0, 0});
        }) == "dense_mdp: the sum of the probabilities of action 1 in state 0 is 0.9, wants 1");
  CHECK(refusal([] { dense_mdp(1, 0, {}, {}); }) == "dense_mdp: actions is 0, wants at least 1");
  CHECK(refusal([] { dense_mdp(1, 1, {1}, {}); }) == "dense_mdp: rewards has 0 elements, wants 1");
  CHECK(refusal([] {
          dense_mdp(2, 1, {1.5, -0.5, 0, 1}, {0, 0});
        }) == "dense_mdp: an element of the probabilities of action 0 in state 0 is -0.5, wants a probability");
  CHECK(refusal([] {
          sparse_mdp m(2);
          m.add(0, 0, std::vector<successor>{{0, 1.0}});
          m.check();
        }) == "sparse_mdp: the number of states with actions is 1, wants all states");
  CHECK(refusal([] {
          sparse_mdp m(2);
          m.add(0, 0, std::vector<successor>{{2, 1.0}});
        }) == "sparse_mdp: a successor is 2, wants a state");
  CHECK(refusal([] {
          sparse_mdp m(2);
          m.add(1, 0, std::vector<successor>{{0, 1.0}});
        }) == "sparse_mdp: state is 1, wants states in order, none without actions");
  CHECK(refusal([] {
          sparse_mdp m(2);
          m.add(0, 0, {});
        }).find("the number of elements of the probabilities of action 0 in state 0 is 0") != std::string::npos);
  CHECK(refusal([] {
          preference_matrix(2, {0.5, 0.7, 0.4, 0.5});
        }) == "preference_matrix: P[1,0] + P[0,1] is 1.1, wants 1 (1/2 on the diagonal)");
  CHECK(refusal([] {
          preference_matrix(2, {0.5, 1.7, -0.7, 0.5});
        }) == "preference_matrix: a probability is -0.7, wants between 0 and 1");
  CHECK(refusal([] {
          tabular_bandit(1, 2, {0, missing});
        }) == "tabular_bandit: a reward is nan, wants a finite number");
  CHECK(refusal([] {
          tabular_bandit(2, 1, {0, 0}, {0.5, 0.4});
        }) == "tabular_bandit: the sum of weights is 0.9, wants 1");
  CHECK(refusal([] { token_mdp(1, 1, 1); }) == "token_mdp: vocabulary is 1, wants at least 2 tokens");
  CHECK(refusal([] { token_mdp(1, 2, 2, 2); }) == "token_mdp: end is 2, wants a token, or -1 for none");
  CHECK(refusal([] { token_mdp(1, 100, 8); }) == "token_mdp: the number of responses is 1e+10, wants at most 2e8");
  CHECK(refusal([] { gaussian_steps({0.1, 0}); }) == "gaussian_steps: a standard deviation is 0, wants more than 0");
  CHECK(refusal([] { (void)linear_mdp(feature_map(1, 1, {1}), 1, list{-1}, list{0}); }) ==
        "linear_mdp: a transition probability is -1, wants 0 or more");
  CHECK(refusal([] { annotator_pool(1, 1, {infinity}); }) ==
        "annotator_pool: a rating is inf, wants a number, or NaN where there is none");
}
