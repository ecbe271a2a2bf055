// X11: GAE does not see potential-based shaping whose potential the critic knows.

#include "lab/advantages.hpp"
#include "lab/support.hpp"

namespace lab {
namespace {

using namespace rlhf;

struct errors {
  double shaping = 0, telescoping = 0, difference = 0, ignored = 0;
};

errors compare(const random_numbers& numbers, double gamma, double lambda) {
  constexpr std::int64_t rows = 4, width = 12;
  const auto r = normals(numbers, rows * width, 1), v = normals(numbers, rows * width, 2),
             phi = normals(numbers, rows * width, 3, 3);
  std::vector<double> shaped = r, shifted = v;
  const auto next = [&](const std::vector<double>& x, std::size_t i) { return (i + 1) % width == 0 ? 0 : x[i + 1]; };
  for (std::size_t i = 0; i < r.size(); ++i) {
    shaped[i] += gamma * next(phi, i) - phi[i];
    shifted[i] -= phi[i];
  }
  const auto plain = advantages(gae{gamma, lambda}, width, r, v);
  errors out;
  const auto with_both = advantages(gae{gamma, lambda}, width, shaped, shifted);
  const auto with_one = advantages(gae{gamma, lambda}, width, shaped, v);
  for (std::size_t i = 0; i < r.size(); ++i) {
    out.shaping = std::max(out.shaping, std::fabs(plain[i] - with_both[i]));
    out.ignored = std::max(out.ignored, std::fabs(plain[i] - with_one[i]));
  }
  const auto whole = advantages(gae{1, 1}, width, r, v), step = advantages(gae{gamma, 0}, width, r, v);
  for (std::size_t i = 0; i < r.size(); ++i) {
    double sum = 0;
    for (std::size_t k = i; k < (i / width + 1) * width; ++k) sum += r[k];
    out.telescoping = std::max(out.telescoping, std::fabs(whole[i] - (sum - v[i])));
    out.difference = std::max(out.difference, std::fabs(step[i] - (r[i] + gamma * next(v, i) - v[i])));
  }
  return out;
}

outcome run(const laboratory& lab) {
  const double gammas[] = {0.9, 0.99, 1.0}, lambdas[] = {0, 0.5, 0.95, 1};
  const auto all =
      lab.repeat(240, [&](std::size_t i) { return compare(lab.numbers(i), gammas[i % 3], lambdas[i / 3 % 4]); });
  errors worst{0, 0, 0, infinity};
  for (const errors& e : all) {
    worst.shaping = std::max(worst.shaping, e.shaping);
    worst.telescoping = std::max(worst.telescoping, e.telescoping);
    worst.difference = std::max(worst.difference, e.difference);
    worst.ignored = std::min(worst.ignored, e.ignored);
  }
  outcome out;
  out.checks = {
      identity("largest change of an advantage by shaping, critic shifted with it", worst.shaping, 1e-12),
      identity("&gamma; = &lambda; = 1: advantage against the sum of rewards less the value", worst.telescoping, 1e-12),
      identity("&lambda; = 0: advantage against the one-step difference", worst.difference, 1e-12),
      at_least("smallest change where the critic is not shifted", worst.ignored, 0.1)};
  // How much a critic that does not know the potential lets through, for each lambda.
  curve through{"critic not shifted", {}, {}, false}, nothing{"critic shifted", {}, {}, false};
  for (int k = 0; k <= 20; ++k) {
    const double lambda = 0.05 * k;
    std::vector<double> r(12, 0.0), v(12, 0.0), phi = normals(lab.numbers(0), 12, 3), shaped(12);
    for (std::size_t i = 0; i < 12; ++i) shaped[i] = (i + 1 < 12 ? phi[i + 1] : 0) - phi[i], v[i] = -phi[i];
    const auto open = advantages(gae{1, lambda}, 12, shaped, r), shut = advantages(gae{1, lambda}, 12, shaped, v);
    double most = 0, least = 0;
    for (std::size_t i = 0; i < 12; ++i)
      most = std::max(most, std::fabs(open[i])), least = std::max(least, std::fabs(shut[i]));
    through.x.push_back(lambda), through.y.push_back(most);
    nothing.x.push_back(lambda), nothing.y.push_back(least);
  }
  out.plots = {
      {"Advantages of a reward that is nothing but shaping", "lambda", "largest |advantage|", {through, nothing}}};
  return out;
}

}  // namespace

experiment x11_shaping_invariance() {
  return {"X11",
          "Shaping and the critic",
          "A potential added to the rewards and taken from the critic changes no advantage, for any &lambda;; with "
          "&gamma; = &lambda; = 1 "
          "advantages telescope to the rewards still to come less the value.",
          "Ng, Harada, Russell 1999; Schulman et al. 2015, arXiv 1506.02438",
          "<i>r&prime;<sub>t</sub> = r<sub>t</sub> + &gamma;&Phi;<sub>t+1</sub> &minus; &Phi;<sub>t</sub>, &nbsp; "
          "V&prime; = V &minus; &Phi; "
          "&nbsp;&rArr;&nbsp; A&prime; = A</i>",
          "240 batches of 4 sequences of 12 steps with normal rewards, values and potentials; &gamma; of 0.9 to 1, "
          "&lambda; of 0 to 1; the "
          "library's <code>gae</code> on its reference backend.",
          run};
}

}  // namespace lab
