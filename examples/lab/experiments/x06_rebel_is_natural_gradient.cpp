// X6: REBEL's regression, solved exactly, is a step of natural policy gradient and of mirror descent.

#include "lab/support.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/mirror_descent.hpp"
#include "rlhf/theory/population.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

struct errors {
  double natural = 0, mirror = 0, scaling = 0, slope = 0;
};

/// One round of REBEL over all pairs from the policy and `other`, in the class of `start`.
vector step_of(const rebel& objective, const log_linear& start, const vector& other, const vector& reward) {
  const vector logp = start.logp();
  const newton_result found =
      minimise(objective, {.weight = pair_population::independent(logp, other), .ref_logp = logp, .reward = reward},
               start, 1e-14);
  return found.policy.logp();
}

/// Random features without a constant direction, orthonormal: the Fisher matrix is as well conditioned as the policy is even.
matrix features_of(const random_numbers& numbers, Eigen::Index responses, Eigen::Index parameters) {
  matrix columns = normal_matrix(numbers, responses, parameters + 1, 2);
  columns.col(0).setOnes();
  const matrix basis = columns.householderQr().householderQ();
  return basis.middleCols(1, parameters);
}

errors compare(const random_numbers& numbers, double eta) {
  constexpr Eigen::Index responses = 6;
  const vector reward = normal_vector(numbers, responses, 1);
  errors out;

  log_linear policy{features_of(numbers, responses, 3), normal_vector(numbers, 3, 3)};
  const vector logp = policy.logp(), gradient = policy.gradient(reward);
  log_linear natural = policy;
  natural.theta += eta * policy.natural(gradient);
  out.natural = distance(step_of({.eta = eta}, policy, logp, reward), natural.logp());

  const log_linear tabular = log_linear::tabular(normal_vector(numbers, responses, 4));
  const vector other = log_softmax(normal_vector(numbers, responses, 5));
  const vector mirror = mirror_step{.step = eta}(tabular.logp(), reward);
  out.mirror = distance(step_of({.eta = eta}, tabular, other, reward), mirror);
  out.scaling = distance(step_of({.eta = eta, .paper_scaling = true}, tabular, other, reward), mirror);

  // At the start the loss falls along the policy gradient: slope -4 eta grad J.
  const population_loss start =
      expected_loss(rebel{.eta = eta},
                    {.weight = pair_population::independent(logp, logp), .ref_logp = logp, .reward = reward}, policy);
  out.slope = distance(start.gradient, -4 * eta * gradient) / eta;
  return out;
}

outcome run(const laboratory& lab) {
  const double etas[] = {0.1, 0.5, 1.0, 2.0};
  const auto all = lab.repeat(80, [&](std::size_t i) { return compare(lab.numbers(i), etas[i % 4]); });
  errors worst;
  for (const errors& e : all) {
    worst.natural = std::max(worst.natural, e.natural);
    worst.mirror = std::max(worst.mirror, e.mirror);
    worst.scaling = std::max(worst.scaling, e.scaling);
    worst.slope = std::max(worst.slope, e.slope);
  }
  outcome out;
  out.checks = {
      identity("log-linear, pairs from the policy: largest difference in log &pi; to the natural gradient step",
               worst.natural, 1e-12),
      identity("tabular, partners from any other policy: to the mirror descent step", worst.mirror, 1e-12),
      identity("the same with the paper's scaling of the loss", worst.scaling, 1e-12),
      identity("gradient of the loss where it starts, against &minus;4 &eta; &nabla;J, over &eta;", worst.slope,
               1e-12)};

  const random_numbers numbers = lab.numbers(0);
  const vector reward = normal_vector(numbers, 6, 1);
  log_linear by_rebel{features_of(numbers, 6, 3), vector::Zero(3)}, by_gradient = by_rebel;
  curve first{"REBEL", {}, {}, true}, second{"natural gradient", {}, {}, false};
  for (int t = 0; t <= 20; ++t) {
    first.x.push_back(t), first.y.push_back(expectation(by_rebel.logp(), reward));
    second.x.push_back(t), second.y.push_back(expectation(by_gradient.logp(), reward));
    const vector logp = by_rebel.logp();
    by_rebel = minimise(rebel{.eta = 0.2},
                        {.weight = pair_population::independent(logp, logp), .ref_logp = logp, .reward = reward},
                        by_rebel, 1e-14)
                   .policy;
    by_gradient.theta += 0.2 * by_gradient.natural(by_gradient.gradient(reward));
  }
  out.plots = {{"Twenty rounds, log-linear class of 3 parameters", "round", "expected reward", {second, first}}};
  return out;
}

}  // namespace

experiment x06_rebel_is_natural_gradient() {
  return {
      "X6",
      "REBEL is natural policy gradient",
      "With exact regression a round of REBEL is a step of natural policy gradient in a log-linear class, and of "
      "mirror descent "
      "in the tabular one, whichever policy the second response comes from.",
      "Gao et al. 2024, arXiv 2404.16767, section 4",
      "<i>&theta;<sub>t+1</sub> = &theta;<sub>t</sub> + &eta; F<sup>+</sup>&nabla;J</i>, &nbsp; <i>&pi;<sub>t+1</sub> "
      "&prop; "
      "&pi;<sub>t</sub> e<sup>&eta; r</sup></i>",
      "6 responses, random rewards, features and policies, 80 times; &eta; of 0.1 to 2. The loss is the library's own "
      "<code>rebel</code>, in expectation over all pairs and minimised by Newton's method.",
      run};
}

}  // namespace lab
