// X10: what the estimators of the KL divergence estimate, as values and as gradients.

#include "lab/support.hpp"
#include "rlhf/objective/kl.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

struct estimator {
  double mean = 0, deviation = 0;
  vector gradient;  ///< expected, in the logits
};

/// Of samples of the policy, by enumeration, with the library's formula on dual numbers.
template <class Formula>
estimator of(const Formula& formula, const vector& logp, const vector& ref) {
  estimator out;
  vector slopes(logp.size());
  double square = 0;
  for (Eigen::Index y = 0; y < logp.size(); ++y) {
    token<dual<double>> t;
    t.logp = dual<double>::variable(logp[y], 0);
    t.ref_logp = ref[y];
    t.old_logp = logp[y];
    const dual<double> value = formula(t);
    const double p = std::exp(logp[y]);
    out.mean += p * value.value;
    square += p * value.value * value.value;
    slopes[y] = p * value.partial[0];
  }
  out.deviation = std::sqrt(std::max(0.0, square - out.mean * out.mean));
  out.gradient = slopes - probabilities(logp) * slopes.sum();
  return out;
}

struct errors {
  double k1 = 0, k3 = 0, weighted = 0, no_gradient = 0, k2_gradient = 0, k3_gradient = 0, weighted_gradient = 0;
};

/// A Dirichlet(1) policy of 50 tokens, and the same with normal noise on its logits as the reference.
std::pair<vector, vector> problem(const random_numbers& numbers, double noise) {
  vector z(50);
  for (Eigen::Index y = 0; y < 50; ++y)
    z[y] = std::log(-std::log(1 - numbers.uniform({.sample = 1, .position = static_cast<std::uint32_t>(y)})) + 1e-12);
  return {log_softmax(z), log_softmax(z + normal_vector(numbers, 50, 2, noise))};
}

outcome run(const laboratory& lab) {
  const auto all = lab.repeat(60, [&](std::size_t i) {
    const double noises[] = {0.05, 0.3, 1.0};
    const auto [logp, ref] = problem(lab.numbers(i), noises[i % 3]);
    const double exact = kl(logp, ref);
    const vector p = probabilities(logp), q = probabilities(ref);
    const vector reverse = p.array() * (logp.array() - ref.array() - exact), forward = p - q;
    const estimator a = of(k1{}, logp, ref), b = of(k2{}, logp, ref), c = of(k3{}, logp, ref),
                    w = of(importance_weighted<k3>{}, logp, ref);
    return errors{std::fabs(a.mean - exact),        std::fabs(c.mean - exact),     std::fabs(w.mean - exact),
                  a.gradient.cwiseAbs().maxCoeff(), distance(b.gradient, reverse), distance(c.gradient, forward),
                  distance(w.gradient, reverse)};
  });
  errors worst;
  for (const errors& e : all) {
    worst.k1 = std::max(worst.k1, e.k1), worst.k3 = std::max(worst.k3, e.k3),
    worst.weighted = std::max(worst.weighted, e.weighted);
    worst.no_gradient = std::max(worst.no_gradient, e.no_gradient);
    worst.k2_gradient = std::max(worst.k2_gradient, e.k2_gradient);
    worst.k3_gradient = std::max(worst.k3_gradient, e.k3_gradient);
    worst.weighted_gradient = std::max(worst.weighted_gradient, e.weighted_gradient);
  }

  const std::vector<double> noises = geometric(0.01, 1, 9);
  struct spreads {
    std::vector<double> k1, k2, k3, bias;
  };
  const auto spread = lab.repeat(lab.repetitions(400, 150), [&](std::size_t i) {
    spreads s;
    for (const double noise : noises) {
      const auto [logp, ref] = problem(lab.numbers(1000 + i), noise);
      const double exact = kl(logp, ref);
      s.k1.push_back(of(k1{}, logp, ref).deviation / exact);
      const estimator second = of(k2{}, logp, ref);
      s.k2.push_back(second.deviation / exact);
      s.bias.push_back(std::fabs(second.mean - exact));
      s.k3.push_back(of(k3{}, logp, ref).deviation / exact);
    }
    return s;
  });
  const auto mean = [&](std::vector<double> spreads::*what) {
    std::vector<double> out(noises.size(), 0.0);
    for (const spreads& s : spread)
      for (std::size_t k = 0; k < out.size(); ++k) out[k] += (s.*what)[k] / static_cast<double>(spread.size());
    return out;
  };
  const std::vector<double> small(noises.begin(), noises.begin() + 5);  // 0.01 to 0.1
  std::vector<double> slopes;
  for (const spreads& s : spread) slopes.push_back(log_slope(small, {s.k1.begin(), s.k1.begin() + 5}));
  const std::vector<double> bias = mean(&spreads::bias), one = mean(&spreads::k1), two = mean(&spreads::k2),
                            three = mean(&spreads::k3);

  outcome out;
  out.checks = {
      identity("E k1 &minus; KL(&pi;||&pi;<sub>ref</sub>)", worst.k1, 1e-12),
      identity("E k3 &minus; KL(&pi;||&pi;<sub>ref</sub>)", worst.k3, 1e-12),
      identity("E &nabla;k1: no gradient at all", worst.no_gradient, 1e-12),
      identity("E &nabla;k2 &minus; &nabla;KL(&pi;||&pi;<sub>ref</sub>)", worst.k2_gradient, 1e-12),
      identity("E &nabla;k3 &minus; &nabla;KL(&pi;<sub>ref</sub>||&pi;): the other direction", worst.k3_gradient,
               1e-12),
      identity("E of k3 weighted by its ratio &minus; KL", worst.weighted, 1e-12),
      identity("and of its gradient &minus; &nabla;KL(&pi;||&pi;<sub>ref</sub>)", worst.weighted_gradient, 1e-12),
      close("slope in the noise of the relative deviation of k1, noise 0.01 to 0.1", slopes, -1, 0.03, 0.03),
      close("slope of the bias of k2", log_slope(small, {bias.begin(), bias.begin() + 5}), 3, 0.25),
      at_most("relative deviation of k3 over that of k1, noise 0.05", three[3] / one[3], 0.1)};
  out.plots = {{"Deviation of one sample, relative to the KL",
                "noise on the logits",
                "deviation / KL",
                {{"k1", noises, one, false}, {"k2", noises, two, false}, {"k3", noises, three, false}},
                true,
                true}};
  return out;
}

}  // namespace

experiment x10_kl_estimators() {
  return {"X10",
          "Three estimators of the KL divergence",
          "k1 and k3 are unbiased as values, but as losses k1 has no gradient, k2 has that of the reverse KL and k3 "
          "that of the "
          "forward KL.",
          "Schulman 2020; the gradients are derived",
          "<i>k1 = log &pi;/&pi;<sub>ref</sub></i>, &nbsp; <i>k2 = k1<sup>2</sup>/2</i>, &nbsp; <i>k3 = "
          "e<sup>&minus;k1</sup> &minus; 1 + k1</i>",
          "Policies over 50 tokens drawn from a flat Dirichlet law; the reference has normal noise on its logits. All "
          "expectations by "
          "enumeration, gradients with the library's formulas on dual numbers.",
          run};
}

}  // namespace lab
