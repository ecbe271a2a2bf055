// X7: mirror descent with a fixed reward stays below its 1/T envelope, and in the end leaves it behind.

#include "lab/support.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/mirror_descent.hpp"
#include "rlhf/theory/population.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

struct path {
  double excess = -infinity;  ///< of the gap over the envelope
  double tail = 0;            ///< measured rate of the last rounds over eta times the reward gap
  double rebel = 0;           ///< largest difference of REBEL's rounds to the closed form
  std::vector<double> gaps, envelope;
};

path follow(const random_numbers& numbers, double eta, int rounds) {
  constexpr Eigen::Index arms = 10;
  vector reward(arms);
  for (Eigen::Index y = 0; y < arms; ++y)
    reward[y] = numbers.uniform({.sample = 1, .position = static_cast<std::uint32_t>(y)});
  Eigen::Index top = 0;
  const double best = reward.maxCoeff(&top);
  vector others = reward;
  others[top] = -1;
  const double between = best - others.maxCoeff();
  const vector start = log_softmax(normal_vector(numbers, arms, 2));
  const auto gap_of = [&](const vector& logp) { return expectation(logp, (best - reward.array()).matrix()); };

  path out;
  vector logp = start;
  for (int t = 1; t <= rounds; ++t) {
    logp = mirror_step{.step = eta}(logp, reward);
    out.gaps.push_back(gap_of(logp));
    out.envelope.push_back(-start[top] / (eta * t));
    out.excess = std::max(out.excess, out.gaps.back() - out.envelope.back());
    if (t == 5) {
      log_linear policy = log_linear::tabular(start);
      for (int k = 0; k < 5; ++k) {
        const vector now = policy.logp();
        const vector even = uniform_logp(arms);
        policy =
            minimise(rebel{.eta = eta},
                     {.weight = pair_population::independent(now, even), .ref_logp = now, .reward = reward}, policy)
                .policy;
      }
      out.rebel = distance(policy.logp(), logp);
    }
  }
  // When the runner-up is all that is left, the gap shrinks by e^(-eta between) a round.
  const double far = std::ceil(60 / (eta * between));
  const vector late = log_softmax(start + eta * far * reward), later = log_softmax(start + eta * (far + 10) * reward);
  out.tail = std::log(gap_of(late) / gap_of(later)) / (10 * eta * between);
  return out;
}

outcome run(const laboratory& lab) {
  const double etas[] = {0.1, 0.3, 1.0, 3.0};
  const auto all = lab.repeat(60, [&](std::size_t i) { return follow(lab.numbers(i), etas[i % 4], 1000); });
  path worst;
  std::vector<double> tails;
  for (const path& p : all) {
    worst.excess = std::max(worst.excess, p.excess);
    worst.rebel = std::max(worst.rebel, p.rebel);
    tails.push_back(p.tail);
  }
  std::sort(tails.begin(), tails.end());
  outcome out;
  out.checks = {
      at_most("largest excess of the gap over log(1/&pi;<sub>0</sub>(y*))/(&eta;T), all T up to 1000", worst.excess, 0),
      close("rate of the late decay, over &eta; times the reward gap (median)", tails[tails.size() / 2], 1, 1e-3),
      identity("five rounds of REBEL against the closed form", worst.rebel, 1e-11)};
  const path& shown = all[2];
  curve gap{"gap", {}, {}, false}, bound{"log(1/pi_0(y*)) / (eta T)", {}, {}, false};
  for (int t = 1; t <= 1000; t = std::max(t + 1, t * 11 / 10)) {
    gap.x.push_back(t), gap.y.push_back(std::max(shown.gaps[static_cast<std::size_t>(t - 1)], 1e-12));
    bound.x.push_back(t), bound.y.push_back(shown.envelope[static_cast<std::size_t>(t - 1)]);
  }
  out.plots = {{"One bandit of 10 arms, eta = 1", "rounds T", "J(best) - J(policy)", {gap, bound}, true, true}};
  out.note =
      "The guarantee of order 1/&radic;T is for rewards that change; with a fixed reward the curve never shows that "
      "slope.";
  return out;
}

}  // namespace

experiment x07_mirror_descent_envelope() {
  return {"X7",
          "Exact REBEL on a fixed reward",
          "With exact regression and a fixed reward the shortfall after T rounds is below "
          "log(1/&pi;<sub>0</sub>(y*))/(&eta;T) for every "
          "T, and in the end falls exponentially.",
          "Gao et al. 2024, arXiv 2404.16767, theorem 1 without errors; the envelope is derived",
          "<i>J(&pi;*) &minus; J(&pi;<sub>T</sub>) &le; log(1/&pi;<sub>0</sub>(y*)) / (&eta; T)</i>",
          "60 bandits of 10 arms with uniform rewards and random first policies, &eta; of 0.1 to 3, 1000 rounds.",
          run};
}

}  // namespace lab
