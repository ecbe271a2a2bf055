// X14: the policy drops out of TDPO1's gradient.

#include "lab/support.hpp"
#include "rlhf/algorithm/tdpo.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr std::int64_t tokens = 5, words = 7;

struct pair_of_logits {
  std::vector<double> chosen, rejected, ref_chosen, ref_rejected;
  std::vector<std::int32_t> target_chosen, target_rejected;

  explicit pair_of_logits(const random_numbers& numbers)
      : chosen(normals(numbers, tokens * words, 1)),
        rejected(normals(numbers, tokens * words, 2)),
        ref_chosen(normals(numbers, tokens * words, 3)),
        ref_rejected(normals(numbers, tokens * words, 4)) {
    for (std::uint32_t t = 0; t < tokens; ++t) {
      target_chosen.push_back(static_cast<std::int32_t>(numbers.integer(words, {.sample = 5, .position = t})));
      target_rejected.push_back(static_cast<std::int32_t>(numbers.integer(words, {.sample = 6, .position = t})));
    }
  }
};

struct evaluated {
  double loss = 0;
  std::vector<double> grad_chosen, grad_rejected;
};

evaluated evaluate(const pair_of_logits& p, const tdpo& objective, bool gradient) {
  reference_backend be;
  const auto grid = [](auto& x) { return view<std::remove_pointer_t<decltype(x.data())>, 2>(x.data(), tokens, words); };
  std::vector<double> kl_chosen(tokens), kl_rejected(tokens);
  evaluated out{0, std::vector<double>(tokens * words), std::vector<double>(tokens * words)};
  tdpo_side<double> chosen{.sequences = padded(1, tokens),
                           .logits = grid(p.chosen),
                           .ref_logits = grid(p.ref_chosen),
                           .target = p.target_chosen,
                           .kl = kl_chosen};
  tdpo_side<double> rejected{.sequences = padded(1, tokens),
                             .logits = grid(p.rejected),
                             .ref_logits = grid(p.ref_rejected),
                             .target = p.target_rejected,
                             .kl = kl_rejected};
  if (gradient) chosen.grad_logits = grid(out.grad_chosen), rejected.grad_logits = grid(out.grad_rejected);
  or_throw(objective(be, chosen, rejected, {.loss = view<double, 1>(&out.loss, 1)}));
  return out;
}

/// -beta sigma(-beta s), with s read back from the loss -log sigma(beta s).
double factor(double beta, double loss) { return beta * std::expm1(-loss); }

struct errors {
  double finite = 0, closed = 0, dropped = 0, equal = 0;
};

errors compare(const random_numbers& numbers) {
  pair_of_logits p(numbers);
  const tdpo first{.beta = 0.4, .version = tdpo_version::tdpo1},
      second{.beta = 0.4, .alpha = 1, .version = tdpo_version::tdpo2};
  const evaluated one = evaluate(p, first, true), two = evaluate(p, second, true);
  errors out;
  out.equal = std::fabs(one.loss - two.loss);
  const double c = factor(first.beta, one.loss);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto row = [&](const std::vector<double>& x) {
      return vector(Eigen::Map<const vector>(x.data() + t * words, words));
    };
    vector chosen = -probabilities(log_softmax(row(p.ref_chosen))),
           rejected = -probabilities(log_softmax(row(p.ref_rejected)));
    chosen[p.target_chosen[static_cast<std::size_t>(t)]] += 1;
    rejected[p.target_rejected[static_cast<std::size_t>(t)]] += 1;
    out.closed = std::max(
        {out.closed, distance(row(one.grad_chosen), c * chosen), distance(row(one.grad_rejected), -c * rejected)});
    // TDPO2 keeps the policy on the chosen side: e - p instead of e - q.
    vector kept = -probabilities(log_softmax(row(p.chosen)));
    kept[p.target_chosen[static_cast<std::size_t>(t)]] += 1;
    out.dropped = std::max(out.dropped, distance(row(two.grad_chosen), c * kept));
  }
  for (std::size_t i = 0; i < p.chosen.size(); i += 3) {
    const double h = 1e-5, z = p.chosen[i];
    p.chosen[i] = z + h;
    const double up = evaluate(p, first, false).loss;
    p.chosen[i] = z - h;
    const double down = evaluate(p, first, false).loss;
    p.chosen[i] = z;
    out.finite = std::max(out.finite, std::fabs((up - down) / (2 * h) - one.grad_chosen[i]));
  }
  return out;
}

outcome run(const laboratory& lab) {
  const auto all = lab.repeat(60, [&](std::size_t i) { return compare(lab.numbers(i)); });
  errors worst;
  for (const errors& e : all) {
    worst.finite = std::max(worst.finite, e.finite), worst.closed = std::max(worst.closed, e.closed);
    worst.dropped = std::max(worst.dropped, e.dropped), worst.equal = std::max(worst.equal, e.equal);
  }
  outcome out;
  out.checks = {identity("TDPO1's gradient less c(e &minus; q), largest", worst.closed, 1e-12),
                identity("and less central differences of its loss", worst.finite, 1e-8),
                identity("TDPO2's gradient on the chosen side less c(e &minus; p)", worst.dropped, 1e-12),
                identity("loss of TDPO1 less that of TDPO2 with &alpha; = 1", worst.equal, 1e-12)};
  // Slope against what it should be, both sides of one pair.
  const pair_of_logits p(lab.numbers(0));
  const evaluated one = evaluate(p, {.beta = 0.4, .version = tdpo_version::tdpo1}, true);
  const double c = factor(0.4, one.loss);
  curve points{"elements", {}, {}, true};
  for (std::int64_t t = 0; t < tokens; ++t) {
    const vector q = probabilities(log_softmax(Eigen::Map<const vector>(p.ref_chosen.data() + t * words, words)));
    for (std::int64_t k = 0; k < words; ++k) {
      points.x.push_back(c * ((k == p.target_chosen[static_cast<std::size_t>(t)] ? 1.0 : 0.0) - q[k]));
      points.y.push_back(one.grad_chosen[static_cast<std::size_t>(t * words + k)]);
    }
  }
  const auto [low, high] = std::minmax_element(points.x.begin(), points.x.end());
  out.plots = {{"TDPO1, chosen side of one pair",
                "c (e - q)",
                "d loss / d logit",
                {points, {"equal", {*low, *high}, {*low, *high}, false}}}};
  return out;
}

}  // namespace

experiment x14_tdpo_gradient() {
  return {
      "X14",
      "TDPO1's gradient on the logits",
      "The forward KL beside the log-ratio replaces the policy by the reference in the gradient: besides its weight, "
      "TDPO1's "
      "gradient does not know the policy.",
      "Zeng et al. 2024, arXiv 2404.11999, equation 13; derived",
      "<i>dL/dz = c (e &minus; q)</i>, &nbsp; <i>c = &minus;&beta; &sigma;(&minus;&beta;s)</i>, q the reference's "
      "probabilities, e the "
      "token",
      "60 pairs of 5 tokens over 7 words with normal logits; the library's <code>tdpo</code> on its reference backend.",
      run};
}

}  // namespace lab
