// E10: over-optimisation of a learned reward by best-of-n, and what ensembles do about it.

#include "lab/support.hpp"
#include "rlhf/reward/ensemble.hpp"
#include "rlhf/theory/pair_laws.hpp"

namespace lab {
namespace {

using namespace rlhf;

constexpr std::int64_t members = 5;

struct scores {
  const double* values;
  [[nodiscard]] std::int64_t size() const { return members; }
  [[nodiscard]] double score(std::int64_t k) const { return values[k]; }
  void slope(std::int64_t, double) const {}
};

/// Student's t with 3 degrees of freedom.
double heavy(const random_numbers& numbers, random_index at) {
  const double z = numbers.normal(at);
  double sum = 0;
  for (std::uint32_t k = 1; k <= 3; ++k) {
    const double w = numbers.normal({at.prompt, at.sample, at.position, at.draw + (k << 8)});
    sum += w * w;
  }
  return z / std::sqrt(sum / 3);
}

/// The gold reward of the response that each rule likes best among n; n of 1, 4, 16, 64, 256 from one list.
constexpr int rules = 4, sizes = 5;
struct picked {
  double gold[rules][sizes] = {};
};

picked pick(const random_numbers& numbers, double shared) {
  picked out;
  double best[rules];
  double gold_of[rules];
  int size = 0;
  for (std::uint32_t i = 0; i < 256; ++i) {
    const double gold = numbers.normal({.sample = 0, .position = i}),
                 common = heavy(numbers, {.sample = 1, .position = i});
    double values[members];
    for (std::uint32_t k = 0; k < members; ++k)
      values[k] = gold + 1.5 * (std::sqrt(shared) * common +
                                std::sqrt(1 - shared) * heavy(numbers, {.sample = 2 + k, .position = i}));
    const scores s{values};
    const double judged[rules] = {values[0], ensemble_mean{}(s), worst_case{}(s),
                                  uncertainty_weighted{.lambda = 0.5}(s)};
    for (int r = 0; r < rules; ++r)
      if (i == 0 || judged[r] > best[r]) best[r] = judged[r], gold_of[r] = gold;
    if (i + 1 == (1u << (2 * size))) {
      for (int r = 0; r < rules; ++r) out.gold[r][size] = gold_of[r];
      ++size;
    }
  }
  return out;
}

outcome run(const laboratory& lab) {
  const int n = lab.repetitions(6000, 2000);
  const auto independent = lab.repeat(n, [&](std::size_t i) { return pick(lab.numbers(i), 0); });
  const auto herding = lab.repeat(n, [&](std::size_t i) { return pick(lab.numbers(i), 0.7); });
  const auto difference = [&](const std::vector<picked>& from, int rule, int a, int b) {
    std::vector<double> out;
    for (const picked& p : from) out.push_back(p.gold[rule][a] - p.gold[rule][b]);
    return out;
  };
  const auto at = [&](const std::vector<picked>& from, int rule, int size) {
    std::vector<double> out;
    for (const picked& p : from) out.push_back(p.gold[rule][size]);
    return out;
  };
  outcome out;
  out.checks = {
      close("one model: gold reward of the best of 16", at(independent, 0, 2), 0.60, 0.02, 0.15),
      close("of the best of 256", at(independent, 0, 4), 0.31, 0.02, 0.15),
      at_least("one model, best of 16 less best of 256: a hump", difference(independent, 0, 2, 4), 0.1),
      close("worst case of 5, errors independent: best of 256", at(independent, 2, 4), 2.03, 0.03, 0.15),
      at_least("worst case, best of 256 less best of 64: no hump", difference(independent, 2, 4, 3), 0.15),
      at_least("mean less variance, best of 256 less best of 64", difference(independent, 3, 4, 3), 0.15),
      close("worst case of 5, errors shared (0.7): best of 256", at(herding, 2, 4), 0.44, 0.03, 0.15),
      at_least("errors shared: best of 16 less best of 256, worst case: herding", difference(herding, 2, 2, 4), 0.1),
      at_least("and mean less variance", difference(herding, 3, 2, 4), 0.1)};
  static const char* const names[rules] = {"one model", "mean of 5", "worst case of 5", "mean less variance / 2"};
  for (const auto* from : {&independent, &herding}) {
    plot p{from == &independent ? "Errors of the members independent" : "Errors shared, correlation 0.7",
           "KL of best of n, nats",
           "gold reward",
           {},
           false,
           false};
    for (int r = 0; r < rules; ++r) {
      curve c{names[r], {}, {}, false};
      for (int s = 0; s < sizes; ++s) {
        c.x.push_back(rlhf::theory::best_of_n_kl(std::pow(4.0, s)));
        c.y.push_back(estimate_of(at(*from, r, s)).mean);
      }
      p.curves.push_back(c);
    }
    out.plots.push_back(p);
  }
  return out;
}

}  // namespace

experiment e10_over_optimisation() {
  return {"E10",
          "Over-optimisation and ensembles",
          "Optimising one learned reward helps and then hurts; conservative ensembles keep rising where their members "
          "err apart, and "
          "none of them helps where they err together.",
          "Gao et al. 2022, arXiv 2210.10760; Coste et al. 2023, arXiv 2310.02743; Eisenstein et al. 2023, arXiv "
          "2312.09244",
          "<i>r<sub>i</sub> = g + 1.5 (&radic;&rho; c + &radic;(1&minus;&rho;) e<sub>i</sub>)</i>",
          "Gold reward g normal, errors of Student's law with 3 degrees of freedom, 5 members; best of n by each rule, "
          "n up to 256. "
          "The library's ensemble rules.",
          run};
}

}  // namespace lab
