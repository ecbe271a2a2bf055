// E8: regressing log-ratios on rewards needs to know, or to learn, the normaliser.

#include "lab/support.hpp"
#include "rlhf/objective/exploration.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/theory/log_linear.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr double beta = 0.5;
constexpr Eigen::Index arms = 10;

/// The minimum of the expected loss over tabular policies, by Gauss and Newton's steps in the logits; samples from `seen`. With
/// an offset it is fitted beside them.
struct regression {
  vector logp;
  double offset = 0, loss = 0;
};

template <class Formula>
regression minimum(const Formula& formula, const vector& reward, const vector& ref, const vector& seen,
                   bool with_offset) {
  const vector mass = probabilities(seen);
  vector slope(arms);
  const auto at = [&](const vector& logits) {
    regression r{log_softmax(logits), 0, 0};
    if (with_offset) r.offset = mass.dot(reward - beta * (r.logp - ref));  // the best offset for this policy
    for (Eigen::Index y = 0; y < arms; ++y) {
      labelled_response<dual<double>> item;
      item.logp = dual<double>::variable(r.logp[y], 0);
      item.ref_logp = ref[y], item.label = reward[y], item.reference_point = r.offset;
      const dual<double> l = formula(item);
      r.loss += mass[y] * l.value;
      slope[y] = mass[y] * l.partial[0];
    }
    return r;
  };
  vector logits = ref;
  regression here = at(logits);
  for (int t = 0; t < 200; ++t) {
    const vector p = probabilities(here.logp);
    const vector gradient = slope - p * slope.sum();
    if (gradient.cwiseAbs().maxCoeff() < 1e-15) break;
    const matrix scores = log_linear::tabular(logits).scores();
    matrix bend = 2 * beta * beta * (scores.transpose() * mass.asDiagonal() * scores);
    bend += std::fabs(slope.sum()) * (matrix(p.asDiagonal()) - p * p.transpose());
    const vector step = log_linear::pseudo_solve(bend, gradient);
    double share = 1;
    regression next = at(logits - step);
    while (!(next.loss < here.loss) && share > 1e-8) share /= 2, next = at(logits - share * step);
    if (!(next.loss < here.loss)) break;
    logits -= share * step;
    here = next;
  }
  return here;
}

struct result {
  double exact = 0, shifted = 0, mended = 0, offset = 0;
};

result measure(const random_numbers& numbers, double shift) {
  const vector ref = log_softmax(normal_vector(numbers, arms, 1, 0.5)),
               seen = log_softmax(normal_vector(numbers, arms, 2, 0.5));
  const vector raw = normal_vector(numbers, arms, 3, 0.5);
  const regularised_bandit bandit{raw, ref, beta};
  const vector reward = raw.array() - bandit.best_value();  // now E_ref e^(r/beta) = 1
  const vector best = bandit.best();
  const auto shifted = (reward.array() + shift).matrix();
  result out;
  out.exact = kl(best, minimum(una_reward{.beta = beta}, reward, ref, seen, false).logp);
  out.shifted = kl(best, minimum(una_reward{.beta = beta}, shifted, ref, seen, false).logp);
  const regression mended = minimum(optimal_advantage_regression{.beta = beta}, shifted, ref, seen, true);
  out.mended = kl(best, mended.logp);
  out.offset = std::fabs(mended.offset - shift);  // beta log Z of the shifted reward
  return out;
}

outcome run(const laboratory& lab) {
  const std::vector<double> shifts = {-1, -0.5, -0.25, 0.25, 0.5, 1};
  const int n = lab.repetitions(20, 8);
  double exact = 0, mended = 0, offset = 0, least = infinity;
  curve without{"no offset", {}, {}, false}, with{"offset fitted", {}, {}, false};
  for (const double shift : shifts) {
    const auto all = lab.repeat(n, [&](std::size_t i) { return measure(lab.numbers(i), shift); });
    double mean = 0;
    for (const result& r : all) {
      exact = std::max(exact, r.exact), mended = std::max(mended, r.mended), offset = std::max(offset, r.offset);
      if (std::fabs(shift) >= 0.5) least = std::min(least, r.shifted);
      mean += r.shifted / n;
    }
    without.x.push_back(shift), without.y.push_back(mean);
    with.x.push_back(shift), with.y.push_back(all[0].mended);
  }
  outcome out;
  out.checks = {
      at_most("E<sub>ref</sub> e<sup>r/&beta;</sup> = 1: KL(&pi;*||&pi;) at the minimum, largest", exact, 1e-8),
      at_least("reward shifted by 1/2 or more: smallest KL", least, 1e-4),
      at_most("the same with an offset fitted beside the policy, largest KL", mended, 1e-8),
      at_most("distance of that offset to &beta; log Z", offset, 1e-6)};
  out.plots = {{"Where the regression ends", "shift of the reward", "KL(best || policy)", {without, with}}};
  return out;
}

}  // namespace

experiment e08_una_offset() {
  return {"E8",
          "The offset of a reward regression",
          "Fitting &beta; log(&pi;/&pi;<sub>ref</sub>) to rewards finds the best policy only where the rewards are "
          "normalised; a free "
          "offset per prompt mends it and comes out as &beta; log Z.",
          "Wang et al. 2024, arXiv 2408.15339 (the loss); the bias is derived",
          "<i>min E(&beta; log &pi;/&pi;<sub>ref</sub> + &delta; &minus; r)<sup>2</sup></i>, &nbsp; <i>&delta; = "
          "&beta; log Z</i>",
          "Bandits of 10 responses with random rewards, references and sampling laws; the library's "
          "<code>una_reward</code> and "
          "<code>optimal_advantage_regression</code> in expectation.",
          run};
}

}  // namespace lab
