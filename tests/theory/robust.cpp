// Worst cases over weights, exactly: closed forms, duality, saddle points, and radii that are too large.

#include <cmath>
#include <limits>
#include <string>

#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/robust_aggregate.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/online_preferences.hpp"
#include "rlhf/theory/robust_learning.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "theory/vectors.hpp"

namespace {

using namespace rlhf;
using namespace rlhf::theory;
using namespace theory_tests;

constexpr normals_of normal{9};

constexpr auto open = weight_search::answer::open, base = weight_search::answer::base,
               top_alone = weight_search::answer::top_alone;

/// The same by the library's driver.
template <class Set>
void check_driver(const Set& set, const vector& loss, const vector& q) {
  vector weight(loss.size());
  double value = 0, dual = 0;
  reference_backend backend;
  robust_inputs<double> in;
  in.loss = {loss.data(), loss.size()};
  in.weight = {q.data(), q.size()};
  robust_outputs<double> out;
  out.loss = {&value, 1};
  out.weight = {weight.data(), weight.size()};
  out.dual = {&dual, 1};
  or_throw(robust_aggregate<Set>{.set = set}(backend, in, out));
  const worst_mean_result mine = worst_mean(set, loss, q);
  CHECK(mine.value == Approx(value).epsilon(1e-12).margin(1e-13));
  CHECK(distance(mine.weight, weight) < 1e-12);
  if (std::isfinite(dual))
    CHECK(mine.dual == Approx(dual).epsilon(1e-9).margin(1e-12));
  else
    CHECK(mine.dual == dual);
  CHECK(mine.weight.sum() == Approx(1).epsilon(1e-13));
}

/// Losses (theta - c)^2 / 2, one for each c.
auto parabolas(const vector& c) {
  return [c](const vector& theta) {
    std::vector<population_loss> out;
    for (const double x : c) {
      const double d = theta[0] - x;
      out.push_back({d * d / 2, vector::Constant(1, d), matrix::Ones(1, 1)});
    }
    return out;
  };
}

/// Least worst case over a line, by golden section: the worst case is convex.
template <class Set, class Units>
double least_on_line(const Set& set, const vector& q, const Units& units, double low, double high) {
  const auto at = [&](double x) {
    vector loss(q.size());
    const auto all = units(vector::Constant(1, x));
    for (Eigen::Index s = 0; s < q.size(); ++s) loss[s] = all[static_cast<std::size_t>(s)].loss;
    return worst_mean(set, loss, q).value;
  };
  const double golden = (std::sqrt(5.0) - 1) / 2;
  while (high - low > 1e-9) {
    const double a = high - golden * (high - low), b = low + golden * (high - low);
    (at(a) < at(b) ? high : low) = at(a) < at(b) ? b : a;
  }
  return at((low + high) / 2);
}

}  // namespace

TEST_CASE("worst means, golden, and the driver's numbers") {
  const vector l = of({1, 2, 4}), q = vector::Constant(3, 1.0 / 3);
  CHECK(worst_mean(tilted_mean{1}, l, q).value == Approx(3.07123373).margin(1e-8));
  CHECK(distance(worst_mean(tilted_mean{1}, l, q).weight, of({0.04201007, 0.11419520, 0.84379473})) < 1e-8);
  CHECK(worst_mean(chi_square_ball{0.1}, l, q).value == Approx(2.89110668).margin(1e-8));
  CHECK(distance(worst_mean(chi_square_ball{0.1}, l, q).weight, of({0.17396952, 0.29349238, 0.53253810})) < 1e-8);
  CHECK(worst_mean(conditional_value_at_risk{0.5}, l, q).value == Approx(10.0 / 3).margin(1e-12));
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    vector loss = normal(seed, 7), weight = probabilities(log_softmax(normal(100 + seed, 7)));
    if (seed % 4 == 1) loss[2] = loss[5] = loss.maxCoeff();  // ties
    if (seed % 4 == 2) loss.setConstant(0.3);
    if (seed % 4 == 3) weight[1] = 0, weight /= weight.sum(), loss[1] = 100;  // what is not there is not looked at
    for (const double x : {0.0, 0.01, 0.3, 2.0, 50.0}) {
      check_driver(kl_ball{x}, loss, weight);
      check_driver(chi_square_ball{x}, loss, weight);
      check_driver(tilted_mean{x + 0.05}, loss, weight);
      check_driver(conditional_value_at_risk{1 / (1 + x)}, loss, weight);
    }
  }
}

TEST_CASE("worst means in closed form, and radii that hold everything") {
  const vector l = normal(1, 5), q = probabilities(log_softmax(normal(2, 5)));
  Eigen::Index top = 0;
  const double most = l.maxCoeff(&top), mean = q.dot(l);
  // Chi-square: mean and deviation, up to the radius at which the smallest loss gets no weight.
  const double variance = q.dot((l.array() - mean).square().matrix()),
               edge = variance / (2 * std::pow(mean - l.minCoeff(), 2));
  for (const double share : {0.1, 0.5, 0.999})
    CHECK(worst_mean(chi_square_ball{share * edge}, l, q).value ==
          Approx(variance_penalised_mean(share * edge, l, q)).epsilon(1e-11));
  CHECK(worst_mean(chi_square_ball{2 * edge}, l, q).value <
        mean + std::sqrt(4 * edge * variance) - 1e-3);  // the formula would promise more than there is
  CHECK(refusal([&] {
          (void)variance_penalised_mean(0.5, of({1, 2, 4}), vector::Constant(3, 1.0 / 3));
        }) == "variance_penalised_mean: radius is 0.5, wants at most 0.4375, from where on a weight is 0");
  // A unit without weight has no say, however small its loss, or none at all.
  for (const double loss : {-1e9, std::numeric_limits<double>::infinity(), std::nan("")}) {
    vector more(l.size() + 1), weight(l.size() + 1);
    more << l, loss;
    weight << q, 0;
    CHECK(variance_penalised_mean(0.5 * edge, more, weight) ==
          Approx(variance_penalised_mean(0.5 * edge, l, q)).epsilon(1e-14));
  }
  // KL: the weights spend the radius, and the dual has the same value.
  const worst_mean_result ball = worst_mean(kl_ball{0.2}, l, q);
  CHECK(ball.found == open);
  CHECK(kl(ball.weight.array().log(), q.array().log()) == Approx(0.2).epsilon(1e-10));
  CHECK(ball.value == Approx(ball.dual * 0.2 + worst_mean(tilted_mean{ball.dual}, l, q).value).epsilon(1e-11));
  for (const double t : {0.3, 0.9, 1.1, 4.0})  // which is the least over temperatures
    CHECK(ball.value <= t * ball.dual * 0.2 + worst_mean(tilted_mean{t * ball.dual}, l, q).value);
  // From these radii on the largest loss takes all, and it is said.
  const double kl_all = -std::log(q[top]), chi_all = 0.5 * (1 / q[top] - 1);
  CHECK(worst_mean(kl_ball{0.999 * kl_all}, l, q).found == open);
  CHECK(worst_mean(kl_ball{1.001 * kl_all}, l, q).found == top_alone);
  CHECK(worst_mean(chi_square_ball{0.999 * chi_all}, l, q).found == open);
  CHECK(worst_mean(chi_square_ball{1.001 * chi_all}, l, q).found == top_alone);
  CHECK(worst_mean(kl_ball{1.001 * kl_all}, l, q).value == most);
  CHECK(worst_mean(kl_ball{0}, l, q).found == base);
  CHECK(worst_mean(kl_ball{0}, l, q).value == Approx(mean).epsilon(1e-15));
}

TEST_CASE("the least that a policy is worth near its own law, against all laws on a grid") {
  const vector reward = of({1, -0.5, 0.3}), logp = of({0.5, 0.2, 0.3}).array().log();
  const auto grid = [&](const auto& divergence, double radius) {
    double least = infinity;
    constexpr int steps = 400;
    for (int i = 0; i <= steps; ++i)
      for (int j = 0; i + j <= steps; ++j) {
        const vector p = of({i / 400.0, j / 400.0, (steps - i - j) / 400.0});
        if (divergence(p) <= radius) least = std::min(least, p.dot(reward));
      }
    return least;
  };
  const vector q = probabilities(logp);
  const auto by_kl = [&](const vector& p) { return kl(p.array().log(), logp); };
  const auto by_chi = [&](const vector& p) { return 0.5 * ((p - q).array().square() / q.array()).sum(); };
  for (const double radius : {0.02, 0.2, 1.0}) {
    const double kl_least = worst_value(kl_ball{radius}, logp, reward),
                 chi_least = worst_value(chi_square_ball{radius}, logp, reward);
    CHECK(grid(by_kl, radius) >= kl_least - 1e-12);
    CHECK(grid(by_kl, radius) - kl_least < 0.01);
    CHECK(grid(by_chi, radius) >= chi_least - 1e-12);
    CHECK(grid(by_chi, radius) - chi_least < 0.01);
  }
  // A penalty instead of a radius: -tau log E e^(-r/tau), the soft value of an adversary.
  CHECK(worst_value(tilted_mean{0.4}, logp, reward) == Approx(-0.4 * log_sum_exp(logp - reward / 0.4)).epsilon(1e-13));
}

TEST_CASE("robust learning on a line: the best in the worst case, against golden section") {
  const vector q = of({0.7, 0.25, 0.05}), c = of({0, 1, 3});
  const auto units = parabolas(c);
  const auto compare = [&](const auto& set) {
    const robust_solution found = learn_robustly(set, q, units, vector::Zero(1), 1e-10);
    CAPTURE(found.rounds, found.gap, found.value);
    CHECK(found.converged);
    CHECK(found.value == Approx(least_on_line(set, q, units, -1, 4)).margin(1e-9));
    // For its weights theta is best: their mean of the centres.
    CHECK(found.theta[0] == Approx(found.weight.dot(c)).margin(1e-9));
    return found;
  };
  double last = 0;
  for (const double rho : {0.0, 0.05, 0.3, 1.0, 2.0, 4.0}) {
    const robust_solution found = compare(kl_ball{rho});
    compare(chi_square_ball{rho});
    compare(conditional_value_at_risk{1 / (1 + rho)});
    CHECK(found.value >= last - 1e-12);
    last = found.value;
  }
  CHECK(compare(kl_ball{0}).theta[0] == Approx(q.dot(c)).epsilon(1e-12));
  // However large the radius, theta in the middle of the outer centres is best, with equal losses there.
  const robust_solution whole = compare(kl_ball{100});
  CHECK(whole.theta[0] == Approx(1.5).margin(1e-6));
  CHECK(distance(whole.weight, of({0.5, 0, 0.5})) < 1e-5);
}

TEST_CASE("robust DPO over groups of people: a saddle point with its proof") {
  // Four groups with preferences of their own share a policy of 3 parameters over 6 responses; the last is rare.
  const matrix features = normal(11, 6, 3);
  const vector q = of({0.4, 0.3, 0.25, 0.05}), ref = uniform_logp(6);
  std::vector<pair_population> groups;
  for (std::uint64_t g = 0; g < 4; ++g)
    groups.push_back({.weight = pair_population::labelled(matrix::Constant(6, 6, 1.0 / 36),
                                                          bradley_terry_matrix(features * normal(20 + g, 3))),
                      .ref_logp = ref});
  const auto units = [&](const vector& theta) {
    std::vector<population_loss> out;
    for (const pair_population& g : groups)
      out.push_back(expected_loss(dpo_sigmoid{.beta = 0.5}, g, log_linear{features, theta}));
    return out;
  };
  const auto worst_at = [&](const auto& set, const vector& theta) {
    vector loss(4);
    const auto all = units(theta);
    for (Eigen::Index g = 0; g < 4; ++g) loss[g] = all[static_cast<std::size_t>(g)].loss;
    return worst_mean(set, loss, q);
  };
  const auto prove = [&](const auto& set) {
    const robust_solution found = learn_robustly(set, q, units, vector::Zero(3), 1e-9);
    CAPTURE(found.rounds, found.gap, found.value);
    CHECK(found.converged);
    CHECK(found.gap >= -1e-12);
    for (std::uint64_t seed = 0; seed < 20; ++seed)  // nothing else is better, near or far
      for (const double scale : {1e-3, 0.1, 1.0})
        CHECK(worst_at(set, found.theta + scale * normal(300 + seed, 3)).value >= found.value - found.gap - 1e-12);
    return found;
  };
  const robust_solution plain = prove(kl_ball{0}), kl_wise = prove(kl_ball{0.1}), chi = prove(chi_square_ball{0.1}),
                        tail = prove(conditional_value_at_risk{0.2});
  // Danskin: where the worst weights change continuously with the losses they are the saddle point's.
  CHECK(distance(worst_at(kl_ball{0.1}, kl_wise.theta).weight, kl_wise.weight) < 1e-3);
  for (const robust_solution& r : {kl_wise, chi, tail}) CHECK(r.loss.maxCoeff() < plain.loss.maxCoeff());
}

TEST_CASE("what robust learning refuses") {
  const vector l = of({1, 2}), q = of({0.5, 0.5});
  CHECK(refusal([&] { (void)worst_mean(kl_ball{-0.1}, l, q); }) == "kl_ball: radius is -0.1, wants 0 or more");
  CHECK(refusal([&] { (void)worst_mean(chi_square_ball{not_a_number}, l, q); }).substr(0, 30) ==
        "chi_square_ball: radius is nan");
  CHECK(refusal([&] { (void)worst_mean(conditional_value_at_risk{0}, l, q); }) ==
        "conditional_value_at_risk: alpha is 0, wants more than 0, at most 1");
  CHECK(refusal([&] { (void)worst_mean(tilted_mean{0}, l, q); }) == "tilted_mean: temperature is 0, wants more than 0");
  CHECK(refusal([&] {
          (void)worst_mean(kl_ball{1}, l, of({0.5, 0.6}));
        }) == "worst_mean: the sum of base is 1.1, wants 1");
  CHECK(refusal([&] {
          (void)worst_mean(kl_ball{1}, of({1, infinity}), q);
        }) == "worst_mean: a loss is inf, wants a finite number");
  CHECK(refusal([&] { (void)worst_mean(kl_ball{1}, vector(), vector()); }) ==
        "worst_mean: the number of elements of base is 0, wants at least 1");
  CHECK(refusal([&] { (void)variance_penalised_mean(-1, l, q); }) ==
        "variance_penalised_mean: radius is -1, wants 0 or more");
  CHECK(refusal([&] {
          (void)learn_robustly(kl_ball{1}, q, parabolas(of({1, 2, 3})), vector::Zero(1));
        }) == "learn_robustly: the units has 3 elements, wants 2");
}
