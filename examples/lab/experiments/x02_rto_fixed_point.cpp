// X2: where RTO's token reward leads.

#include "lab/support.hpp"
#include "rlhf/reward/shaping.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

struct problem {
  token_mdp mdp;
  table ref, dpo;
  vector score, ref_logp, dpo_logp;  // of the responses

  explicit problem(const random_numbers& numbers)
      : mdp(1, 3, 4), ref(random_policy(mdp, numbers, 1)), dpo(random_policy(mdp, numbers, 2)) {
    const std::vector<double> scores = normals(numbers, mdp.responses(), 3);
    std::size_t next = 0;
    mdp.set_scores([&](std::int64_t, std::span<const std::int32_t>) { return scores[next++]; });
    score = vector_of(scores);
    ref_logp = vector_of(over_responses(mdp, ref));
    dpo_logp = vector_of(over_responses(mdp, dpo));
  }
  /// The policy that maximises the expected sum of RTO's token rewards; the KL penalty among them is the temperature.
  [[nodiscard]] table optimum(const rto_reward& rto) const {
    table rewards(ref.size());
    for (std::size_t c = 0; c < rewards.size(); ++c)
      rewards[c] = rto.token_reward(dpo[c], ref[c]) + rto.beta3 * mdp.rewards()[c];
    return soft_optimal(mdp, ref, rto.beta2, rewards).policy;
  }
};

struct errors {
  double closed_form = 0, dpo = 0, excess = 0;
};

outcome run(const laboratory& lab) {
  const auto all = lab.repeat(40, [&](std::size_t i) {
    const problem p(lab.numbers(i));
    errors out;
    for (const double beta3 : {0.0, 1.0})
      for (const double a : {0.0, 0.5, 1.0, 2.0, 5.0}) {
        const rto_reward rto{.beta1 = a * 0.2, .beta2 = 0.2, .beta3 = beta3, .clip = infinity};
        const vector found = vector_of(over_responses(p.mdp, p.optimum(rto)));
        vector claimed = mixed({a, 1 - a}, p.dpo_logp, p.ref_logp) + beta3 / rto.beta2 * p.score;
        claimed = log_softmax(claimed);
        out.closed_form = std::max(out.closed_form, distance(found, claimed));
        if (a == 1 && beta3 == 0) out.dpo = distance(found, p.dpo_logp);
      }
    // A clip keeps each token's share within its bounds, so the sum over a response is no log-ratio any more.
    const rto_reward clipped{.beta1 = 0.2, .beta2 = 0.2, .beta3 = 0, .clip = 0.05};
    table share(p.ref.size());
    for (std::size_t c = 0; c < share.size(); ++c) share[c] = clipped.token_reward(p.dpo[c], p.ref[c]);
    const vector sums = vector_of(over_responses(p.mdp, share));
    out.excess = sums.cwiseAbs().maxCoeff() - 4 * clipped.clip;
    return out;
  });
  errors worst{0, 0, -1};
  for (const errors& e : all) {
    worst.closed_form = std::max(worst.closed_form, e.closed_form);
    worst.dpo = std::max(worst.dpo, e.dpo);
    worst.excess = std::max(worst.excess, e.excess);
  }
  outcome out;
  out.checks = {identity("largest error of log &pi; against the closed form", worst.closed_form, 1e-12),
                identity("against the DPO policy itself, where &beta;<sub>1</sub> = &beta;<sub>2</sub> and no score",
                         worst.dpo, 1e-12),
                at_most("with a clip: excess of the summed rewards over length &times; clip", worst.excess, 1e-12)};
  const problem p(lab.numbers(0));
  curve to_dpo{"to the DPO policy", {}, {}, false}, to_ref{"to the reference", {}, {}, false};
  for (int k = 0; k <= 30; ++k) {
    const double a = 0.1 * k;
    const table found = p.optimum({.beta1 = 0.2 * a, .beta2 = 0.2, .beta3 = 0, .clip = infinity});
    to_dpo.x.push_back(a), to_dpo.y.push_back(response_kl(p.mdp, found, p.dpo)[0]);
    to_ref.x.push_back(a), to_ref.y.push_back(response_kl(p.mdp, found, p.ref)[0]);
  }
  out.plots = {{"How far the optimum goes", "beta1 / beta2", "KL, nats", {to_dpo, to_ref}}};
  return out;
}

}  // namespace

experiment x02_rto_fixed_point() {
  return {"X2",
          "RTO's optimum extrapolates DPO's policy",
          "Without a clip the best policy for RTO's token rewards is a power of the DPO policy times one of the "
          "reference, tilted "
          "by the score; with equal weights and no score it is the DPO policy.",
          "Zhong et al. 2024, arXiv 2404.18922 (reward); the fixed point is derived from it",
          "<i>&pi; &prop; &pi;<sub>ref</sub><sup>1&minus;a</sup> &pi;<sub>dpo</sub><sup>a</sup> "
          "e<sup>&beta;<sub>3</sub> score/&beta;<sub>2</sub></sup></i>, &nbsp; <i>a = "
          "&beta;<sub>1</sub>/&beta;<sub>2</sub></i>",
          "40 random trees over 3 tokens and 4 steps with random reference, DPO policy and score; a of 0 to 5, with "
          "the score and "
          "without. The optimum is found by recursion over the tree with the library's own token reward.",
          run};
}

}  // namespace lab
