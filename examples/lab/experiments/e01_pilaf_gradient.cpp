// E1: with PILAF's pairs DPO's gradient is that of the value.

#include "lab/support.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/pair_laws.hpp"
#include "rlhf/theory/population.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr double beta = 1;
constexpr Eigen::Index arms = 8;

/// Relative distance of -grad L to beta grad J, and their cosine, for a law of pairs.
struct comparison {
  double error = 0, cosine = 0;
};

struct laws {
  comparison exact, practical, vanilla, hybrid;
};

laws compare(const random_numbers& numbers, double epsilon) {
  const vector ref = log_softmax(normal_vector(numbers, arms, 1));
  const log_linear policy = log_linear::tabular(normal_vector(numbers, arms, 2));
  const vector logp = policy.logp(), implicit = beta * (logp - ref);
  const vector reward = implicit + epsilon * normal_vector(numbers, arms, 3);
  matrix preference(arms, arms);
  for (Eigen::Index a = 0; a < arms; ++a)
    for (Eigen::Index b = 0; b < arms; ++b) preference(a, b) = sigmoid(reward[a] - reward[b]);
  const vector value = beta * policy.gradient(reward, ref, beta);
  const auto of = [&](const pair_law& law, double weight) {
    const pair_population pairs{.weight = weight * pair_population::labelled(law, preference), .ref_logp = ref};
    const vector g = -expected_loss(dpo_sigmoid{.beta = beta}, pairs, policy).gradient;
    return comparison{(g - value).norm() / value.norm(), g.dot(value) / (g.norm() * value.norm())};
  };
  const pilaf_sampler sampler(logp, ref, beta);
  // The other laws have no weight of their own: they are given the one that brings them closest, which is all that a step size
  // could do for them.
  const auto scaled = [&](const pair_law& law) {
    const pair_population pairs{.weight = pair_population::labelled(law, preference), .ref_logp = ref};
    const vector g = -expected_loss(dpo_sigmoid{.beta = beta}, pairs, policy).gradient;
    const double best = g.dot(value) / g.squaredNorm();
    return comparison{(best * g - value).norm() / value.norm(), g.dot(value) / (g.norm() * value.norm())};
  };
  return {of(sampler.exact(), sampler.pairs.weight), scaled(sampler.practical()), scaled(vanilla_pairs(logp)),
          scaled(hybrid_pairs(logp, ref))};
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

outcome run(const laboratory& lab) {
  const std::vector<double> epsilons = {1, 0.3, 0.1, 0.03, 0.01};
  const int draws = lab.repetitions(400, 200);
  std::vector<std::vector<laws>> all;
  for (const double e : epsilons)
    all.push_back(lab.repeat(draws, [&](std::size_t i) { return compare(lab.numbers(i), e); }));
  const auto line = [&](const char* name, comparison laws::*which) {
    curve c{name, epsilons, {}, false};
    for (const auto& at : all) {
      std::vector<double> errors;
      for (const laws& l : at) errors.push_back((l.*which).error);
      c.y.push_back(median(errors));
    }
    return c;
  };
  const curve exact = line("PILAF, exact", &laws::exact), practical = line("PILAF, one half", &laws::practical),
              vanilla = line("two of the policy", &laws::vanilla), hybrid = line("policy and reference", &laws::hybrid);
  const auto slope = [](const curve& c, std::ptrdiff_t from) {
    return log_slope({c.x.begin() + from, c.x.end()}, {c.y.begin() + from, c.y.end()});
  };
  double worst_cosine = 1;
  for (const laws& l : all.back()) worst_cosine = std::min(worst_cosine, l.exact.cosine);
  outcome out;
  out.checks = {close("slope in &epsilon; of the gradient's relative error, exact PILAF, &epsilon; of 0.01 to 0.3",
                      slope(exact, 1), 1, 0.1),
                close("the same, two responses of the policy, &epsilon; of 0.01 to 0.1", slope(vanilla, 2), 0, 0.1),
                close("the same, policy and reference", slope(hybrid, 2), 0, 0.1),
                close("the same, practical PILAF", slope(practical, 2), 0, 0.1),
                at_most("error at &epsilon; = 0.01: practical PILAF over two of the policy",
                        practical.y.back() / vanilla.y.back(), 0.8),
                at_least("smallest cosine of both gradients at &epsilon; = 0.01, exact PILAF", worst_cosine, 0.99)};
  out.plots = {{"Median over " + std::to_string(draws) + " bandits of 8 arms",
                "distance of the reward to the implicit reward",
                "relative error of the gradient",
                {exact, practical, vanilla, hybrid},
                true,
                true}};
  out.note =
      "All laws but the exact one are given the best weight; what is left is error of direction, which no step size "
      "mends.";
  return out;
}

}  // namespace

experiment e01_pilaf_gradient() {
  return {"E1",
          "PILAF aligns DPO's gradient with the value's",
          "With pairs and weights of exact PILAF the gradient of DPO's loss is that of the regularised value up to the "
          "square of the "
          "reward's error; with other pairs its direction stays off.",
          "Feng et al. 2025, arXiv 2502.04270, theorem 1; re-derived",
          "<i>&minus;&nabla;L<sub>w</sub> = &beta;&nabla;J + O(|r* &minus; r<sub>&theta;</sub>|<sup>2</sup>)</i>, "
          "&nbsp; <i>w = 1 + "
          "Z<sub>+</sub>Z<sub>&minus;</sub></i>",
          "8 arms, random policy and reference, &beta; = 1; the true reward is the implicit one plus &epsilon; times "
          "noise. Exact "
          "expectations over all pairs with the library's <code>dpo_sigmoid</code>.",
          run};
}

}  // namespace lab
