// E7: a capped margin has somewhere to stop.

#include "lab/support.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/prior_constrained.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

struct result {
  double error = 0, bend = 0, growth = 0;
  curve plain{"Bradley-Terry", {}, {}, false}, capped{"PCRM", {}, {}, false};
};

template <class Loss>
vector gradient_of(const Loss& loss, const matrix& x, const vector& theta, const vector& field) {
  vector out = vector::Zero(theta.size());
  for (Eigen::Index i = 0; i < x.rows(); ++i) {
    score_pair<dual<double>> p;
    p.chosen = dual<double>::variable(x.row(i).dot(theta), 0);
    p.rejected = dual<double>(0.0);
    p.margin = field[i];
    out += loss(p).partial[0] * x.row(i).transpose() / static_cast<double>(x.rows());
  }
  return out;
}

result train(const random_numbers& numbers) {
  constexpr Eigen::Index pairs = 12, dimension = 40;
  const matrix x =
      normal_matrix(numbers, pairs, dimension, 1, 1 / std::sqrt(40.0));  // separable: more features than pairs
  vector similarity(pairs);
  for (Eigen::Index i = 0; i < pairs; ++i)
    similarity[i] = numbers.uniform({.sample = 2, .position = static_cast<std::uint32_t>(i)});
  const prior_constrained capped{.from_similarity = true, .cap = {.scale = 6, .offset = 1, .shift = 0}};
  vector plain = vector::Zero(dimension), theta = plain;
  result out;
  std::vector<double> norms;
  constexpr int steps = 1 << 15;
  for (int t = 1; t <= steps; ++t) {
    plain -= 4 * gradient_of(bradley_terry{}, x, plain, similarity);
    theta -= 4 * gradient_of(capped, x, theta, similarity);
    if ((t & (t - 1)) == 0) {
      out.plain.x.push_back(t), out.plain.y.push_back((x * plain).mean());
      out.capped.x.push_back(t), out.capped.y.push_back((x * theta).mean());
      norms.push_back(plain.norm());
    }
  }
  for (Eigen::Index i = 0; i < pairs; ++i)
    out.error = std::max(out.error, std::fabs(x.row(i).dot(theta) - capped.cap(similarity[i]) / 2));
  const std::size_t k = norms.size() - 1;
  out.growth = norms[k] - norms[k - 1];
  out.bend = out.growth / (norms[k - 2] - norms[k - 3]);  // of a logarithm: 1
  return out;
}

outcome run(const laboratory& lab) {
  const auto all = lab.repeat(lab.repetitions(12, 4), [&](std::size_t i) { return train(lab.numbers(i)); });
  double error = 0, low = infinity, high = 0, growth = infinity;
  for (const result& r : all) {
    error = std::max(error, r.error), low = std::min(low, r.bend), high = std::max(high, r.bend),
    growth = std::min(growth, r.growth);
  }
  outcome out;
  out.checks = {
      at_most("PCRM: largest distance of a margin to half its cap", error, 1e-3),
      at_least("Bradley-Terry: growth of the norm in the last doubling, smallest", growth, 0.1),
      close("last doubling's growth over that two doublings before: 1 for a logarithm, smallest", low, 1, 0.1),
      close("the same, largest", high, 1, 0.1)};
  out.plots = {{"Mean margin of 12 separable pairs", "steps", "margin", {all[0].plain, all[0].capped}, true, false}};
  return out;
}

}  // namespace

experiment e07_margin_caps() {
  return {"E7",
          "Capped margins",
          "Trained for ever on pairs that can be separated, Bradley-Terry's weights grow like the logarithm of the "
          "steps, while PCRM's "
          "margins settle at half their caps.",
          "Zhou et al. 2024, arXiv 2404.00978; the stationary point is derived",
          "<i>&minus;log &sigma;(&Delta;) &minus; log &sigma;(&delta;* &minus; &Delta;)</i>: &nbsp; <i>&Delta; &rarr; "
          "&delta;*/2</i>",
          "A linear reward model of 40 normal features on 12 pairs, caps 6/(s + 1) from random similarities s, "
          "gradient descent with "
          "step 4 for 32 768 steps.",
          run};
}

}  // namespace lab
