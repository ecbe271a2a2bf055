// The best of n responses by a learned reward gets better and then worse; a careful ensemble holds out longer.

#include <array>

#include "calls/check.hpp"
#include "rlhf/math/random.hpp"
#include "rlhf/reward/ensemble.hpp"
#include "rlhf/theory/pair_laws.hpp"

//! [members]
// Five learned rewards of one response, in the form that the library's ensemble rules read.
struct members {
  std::array<double, 5> scores;
  [[nodiscard]] std::int64_t size() const { return 5; }
  [[nodiscard]] double score(std::int64_t k) const { return scores[static_cast<std::size_t>(k)]; }
  void slope(std::int64_t, double) const {}  // nobody differentiates here
};

// The true reward is normal; a learned one errs rarely, but then by much (Student's law with 3 degrees of freedom).
members learned(double truth, const rlhf::random_numbers& numbers, std::uint32_t sample, std::uint32_t position) {
  members out{};
  for (std::uint32_t k = 0; k < 5; ++k) {
    double squares = 0;
    for (std::uint32_t j = 1; j <= 3; ++j) squares += std::pow(numbers.normal({k + 1, sample, position, j}), 2);
    out.scores[k] = truth + 1.5 * numbers.normal({k + 1, sample, position, 0}) / std::sqrt(squares / 3);
  }
  return out;
}
//! [members]

int main() {
  using calls::expect;
  const rlhf::random_numbers numbers({1, 0});
  //! [best_of_n]
  // The mean true reward of the best of n by the first model and by the worst of all five; n = 1, 4, 16, 64, 256.
  constexpr std::uint32_t repetitions = 2000, sizes = 5;
  std::array<double, sizes> one{}, careful{};
  for (std::uint32_t i = 0; i < repetitions; ++i) {
    double top = 0, top_careful = 0, truth_of = 0, truth_of_careful = 0;
    for (std::uint32_t n = 1, size = 0; size < sizes; ++n) {
      const double truth = numbers.normal({0, i, n, 0});
      const members judges = learned(truth, numbers, i, n);
      const double score = judges.scores[0], worst = rlhf::worst_case{}(judges);
      if (n == 1 || score > top) top = score, truth_of = truth;
      if (n == 1 || worst > top_careful) top_careful = worst, truth_of_careful = truth;
      if (n != 1u << (2 * size)) continue;
      one[size] += truth_of / repetitions;
      careful[size++] += truth_of_careful / repetitions;
    }
  }
  //! [best_of_n]
  std::printf("%6s %8s %12s %12s\n", "n", "KL", "one reward", "worst of 5");
  for (std::uint32_t s = 0; s < sizes; ++s)
    std::printf("%6u %8.3f %12.3f %12.3f\n", 1u << (2 * s), rlhf::theory::best_of_n_kl(1u << (2 * s)), one[s],
                careful[s]);
  expect("one reward: better at first", one[2] > one[0] + 0.4);
  expect("and then worse", one[4] < one[2] - 0.15);
  expect("the worst of five keeps rising", careful[4] > careful[3] && careful[3] > careful[2]);
  return calls::failures();
}
