// Labels on pairs: what they are worth, drawn and in expectation; objectives of single responses; margins that choose.

#include "rlhf/objective/unpaired.hpp"
#include "rlhf/theory/online_learning.hpp"
#include "rlhf/theory/pair_laws.hpp"
#include "rlhf/theory/value_incentive.hpp"
#include "support/catch.hpp"

namespace {

using namespace rlhf;
using namespace rlhf::theory;

const random_numbers numbers({11, 4});

vector normals(Eigen::Index n, std::uint32_t list) {
  vector out(n);
  for (Eigen::Index i = 0; i < n; ++i)
    out[i] = numbers.normal({.sample = list, .position = static_cast<std::uint32_t>(i)});
  return out;
}

TEST_CASE("what a label is worth under T-PILAF") {
  for (std::uint32_t k = 0; k < 10; ++k) {
    const regularised_bandit bandit{normals(6, 2 * k), log_softmax(normals(6, 2 * k + 1)), 0.7};
    const pilaf_sampler sampler(bandit.best(), bandit.ref_logp, bandit.beta);
    CHECK(shortfall_per_label(bandit, sampler.exact()) == Approx(sampler.pairs.weight * 5 / (2 * 0.7)).epsilon(1e-10));
    // A law that never shows the last response learns nothing of it; seeing all pairs as often is worth what it is worth.
    CHECK(shortfall_per_label(bandit, vanilla_pairs(bandit.best())) > 0);
  }
}

TEST_CASE("labels are drawn by the law and by the preferences") {
  const labelled_bandit problem({normals(4, 40), uniform_logp(4), 1});
  CHECK(problem.preference(0, 1) == Approx(1 / (1 + std::exp(problem.bandit.reward[1] - problem.bandit.reward[0]))));
  matrix law(4, 4);
  law << 0, 3, 0, 1, 2, 5, 0, 0, 0, 0, 0, 4, 1, 1, 2, 1;
  law /= law.sum();
  matrix wins = matrix::Zero(4, 4);
  constexpr int n = 40000;
  for (std::uint32_t t = 0; t < n; ++t) problem.ask(law, wins, numbers, {.sample = 41, .position = t});
  const matrix expected = n * pair_population::labelled(law, problem.preference);
  for (Eigen::Index a = 0; a < 4; ++a)
    for (Eigen::Index b = 0; b < 4; ++b) {
      CAPTURE(a, b);
      if (a == b)
        CHECK(wins(a, b) == 0);  // shown, and nothing learned
      else
        CHECK(std::fabs(wins(a, b) - expected(a, b)) <= 4.5 * std::sqrt(expected(a, b)));
    }
  CHECK_THROWS_WITH(problem.ask(matrix::Ones(3, 3), wins, numbers, {}),
                    "labelled_bandit: ask: law has 9 elements, wants 16");
  CHECK_THROWS_AS(labelled_bandit({normals(4, 40), uniform_logp(4), 0}), std::invalid_argument);
}

TEST_CASE("an objective of single responses in expectation: value, gradient and curvature") {
  const vector ref = log_softmax(normals(5, 50)), label = normals(5, 51),
               law = probabilities(log_softmax(normals(5, 52)));
  const una_reward objective{.beta = 0.4};
  const response_population responses{.weight = law, .ref_logp = ref, .label = label};
  const log_linear policy = log_linear::tabular(normals(5, 53));
  const population_loss here = expected_loss(objective, responses, policy);
  const vector left = 0.4 * (policy.logp() - ref) - label;
  CHECK(here.loss == Approx(law.dot(left.cwiseAbs2())).epsilon(1e-13));
  CHECK((here.gradient - policy.scores().transpose() * (0.8 * law.cwiseProduct(left))).norm() < 1e-13);
  for (Eigen::Index k = 0; k < 5; ++k) {
    log_linear up = policy, down = policy;
    up.theta[k] += 1e-5, down.theta[k] -= 1e-5;
    const vector slope =
        (expected_loss(objective, responses, up).gradient - expected_loss(objective, responses, down).gradient) / 2e-5;
    CHECK((slope - here.hessian.col(k)).norm() < 1e-8);
  }
  // What is not weighed is not looked at; what is read and not given is loud.
  response_population none{.weight = vector::Zero(5)};
  CHECK(expected_loss(objective, none, policy).loss == 0);
  none.weight[0] = 1;
  CHECK(std::isnan(expected_loss(objective, none, policy).loss));
  CHECK_THROWS_AS(expected_loss(objective, {.weight = vector::Ones(4)}, policy), std::invalid_argument);
  CHECK_THROWS_WITH(expected_loss(una_reward{.beta = 0}, responses, policy),
                    "una_reward: beta is 0, wants more than 0");
}

TEST_CASE("Newton's method comes back from far away") {
  // Saturated, the gradient is small at a point that is worse: a line search that took it for progress would stay there.
  const matrix preference = bradley_terry_matrix(normals(8, 60));
  matrix weight = preference;
  weight.diagonal().setZero();
  const pair_population pairs{.weight = weight / weight.sum(), .ref_logp = uniform_logp(8)};
  const dpo_sigmoid objective{.beta = 0.7};
  const vector best = minimise(objective, pairs, log_linear::tabular(vector::Zero(8))).policy.logp();
  for (std::uint32_t k = 0; k < 20; ++k) {
    const newton_result found = minimise(objective, pairs, log_linear::tabular(6 * normals(8, 70 + k)), 1e-12);
    CAPTURE(k, found.steps, found.gradient_norm);
    CHECK(found.converged);
    CHECK((found.policy.logp() - best).cwiseAbs().maxCoeff() < 1e-8);
  }
}

TEST_CASE("the online loop: a fit of all labels, whom it asks about, and going on where it stopped") {
  const labelled_bandit problem({normals(6, 81), uniform_logp(6), 0.3});
  const vector& ref = problem.bandit.ref_logp;
  using learner = value_incentive_learner<with_reference>;
  const learner start{.beta = 0.3, .optimism = 0.1, .ref_logp = ref};
  learner whole = start, parts = start;
  const online_history once = learn_online(problem, whole, 300, numbers, {.sample = 1});
  online_history twice;
  std::uint32_t watched = 0;
  for (const std::uint32_t n : {100u, 200u})
    learn_online(problem, parts, n, numbers, {.sample = 1}, twice,
                 [&](const online_history& h, const learner&) { watched += h.rounds > 0; });
  CHECK(watched == 300);
  CHECK(once.wins == twice.wins);
  CHECK(once.regret == twice.regret);
  CHECK(whole.logp == parts.logp);
  CHECK(once.rounds == 300);
  CHECK(once.wins.sum() <= 300);
  // What it believes after the last fit is VPO's minimiser on the labels it had then.
  online_history until;
  learner again = start;
  learn_online(problem, again, once.fitted, numbers, {.sample = 1}, until, [](const auto&, const auto&) {});
  const value_incentive objective{.beta = 0.3,
                                  .alpha = 0.1 * std::sqrt(static_cast<double>(once.fitted)),
                                  .ref_logp = ref,
                                  .calibration = probabilities(ref),
                                  .wins = until.wins};
  CHECK((objective.policy_of(objective.fit(vector::Zero(6), 4)) - whole.logp).cwiseAbs().maxCoeff() < 1e-4);
  CHECK((whole.law - hybrid_pairs(whole.logp, ref)).cwiseAbs().maxCoeff() == 0);
}

TEST_CASE("the online loop learns from the reference as partner, and the enhancer asks about one response") {
  const matrix features = Eigen::Map<const matrix>(normals(24, 83).data(), 8, 3);
  const labelled_bandit problem({features * normals(3, 84), uniform_logp(8), 0.3});
  const double at_first = problem.bandit.gap(uniform_logp(8));
  const auto learns = [&](auto l) {
    const online_history h = learn_online(problem, l, 1000, numbers);
    CHECK(problem.bandit.gap(l.logp) < at_first / 10);
    CHECK(h.regret < 1000 * at_first / 4);
    return l;
  };
  learns(value_incentive_learner<with_reference>{.beta = 0.3, .ref_logp = uniform_logp(8)});
  const auto gshf =
      learns(linear_reward_learner<with_enhancer>{.features = features, .beta = 0.3, .ref_logp = uniform_logp(8)});
  CHECK((gshf.law.colwise().sum().array() > 0).count() == 1);
  // Pairs of one policy alone may get stuck (E6), but their laws are what they say.
  const auto asks = [&](auto l) {
    learn_online(problem, l, 50, numbers);
    return l;
  };
  const auto alone = asks(value_incentive_learner<with_itself>{.beta = 0.3, .ref_logp = uniform_logp(8)});
  CHECK((alone.law - vanilla_pairs(alone.logp)).cwiseAbs().maxCoeff() == 0);
  const auto both = asks(value_incentive_learner<with_pilaf>{.beta = 0.3, .ref_logp = uniform_logp(8)});
  CHECK((both.law - pilaf_sampler(both.logp, both.ref_logp, 0.3).exact()).cwiseAbs().maxCoeff() == 0);
  // The rewards are linear: the fit is within the features.
  CHECK((features * features.completeOrthogonalDecomposition().solve(gshf.reward) - gshf.reward).norm() < 1e-10);
  value_incentive_learner<> other{.beta = 0.3, .ref_logp = uniform_logp(5)};
  CHECK_THROWS_WITH(learn_online(problem, other, 1, numbers),
                    "learn_online: the learner's policy has 5 elements, wants 8");
  value_incentive_learner<> cold{.beta = 0, .ref_logp = uniform_logp(8)};
  CHECK_THROWS_WITH(learn_online(problem, cold, 10, numbers), "value_incentive: beta is 0, wants more than 0");
}

}  // namespace
