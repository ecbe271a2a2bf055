// The best policy's log-ratios are token rewards (RTO): they pay on the way what the score pays at the end.

#include "calls/check.hpp"
#include "rlhf/reward/shaping.hpp"
#include "rlhf/theory/token_tree.hpp"

using namespace rlhf::theory;

int main() {
  using calls::expect;
  const double beta = 0.3;
  rlhf::token_mdp mdp(1, 3, 4);
  mdp.set_scores([](std::int64_t, std::span<const std::int32_t> y) {
    double score = 0;  // each step up is worth 1
    for (std::size_t t = 1; t < y.size(); ++t) score += y[t] > y[t - 1] ? 1 : 0;
    return score;
  });
  const table ref = uniform_tokens(mdp);

  //! [telescope]
  // A trained DPO policy stands for the soft-optimal one; beta times its log-ratio is a reward for every token.
  const soft_solution dpo = soft_optimal(mdp, ref, beta);
  table reward = log_ratio(dpo.policy, ref);
  for (double& r : reward) r *= beta;
  const std::vector<double> sums = rlhf::over_responses(mdp, reward);           // over a response they add up to ...
  const std::vector<double> scores = rlhf::over_responses(mdp, mdp.rewards());  // ... its score - V(prompt)
  //! [telescope]
  double telescoping = 0, bellman = 0;
  for (std::size_t y = 0; y < sums.size(); ++y)
    telescoping = std::max(telescoping, std::fabs(sums[y] - (scores[y] - dpo.value[0])));
  for (std::int64_t p = 0; p < mdp.prefixes(); ++p)
    for (std::int64_t a = 0; a < 3; ++a) {
      const auto c = static_cast<std::size_t>(mdp.cell(0, p, a));
      const double after = mdp.completes(p, a) ? 0 : dpo.value[static_cast<std::size_t>(mdp.child(p, a))];
      bellman =
          std::max(bellman, std::fabs(reward[c] - (mdp.rewards()[c] + after - dpo.value[static_cast<std::size_t>(p)])));
    }
  expect("sums less (score - V(prompt)), largest", telescoping, 0, 1e-12);
  expect("each less r + V(s') - V(s), largest", bellman, 0, 1e-12);

  //! [rto]
  // RTO: the DPO policy's log-ratio and the score, with a KL penalty of beta2. Where that leads, exactly:
  const rlhf::rto_reward rto{.beta1 = 0.2, .beta2 = 0.1, .beta3 = 0, .clip = rlhf::infinity};
  table shaped(reward.size());
  for (std::size_t c = 0; c < shaped.size(); ++c)
    shaped[c] = rto.token_reward(dpo.policy[c], ref[c]) + rto.beta3 * mdp.rewards()[c];
  const table trained = soft_optimal(mdp, ref, rto.beta2, shaped).policy;
  //! [rto]
  // a = beta1 / beta2 = 2: pi_ref^(1 - a) pi_dpo^a over whole responses: the best policy at temperature beta / 2.
  const table colder = soft_optimal(mdp, ref, beta / 2).policy;
  expect("RTO's optimum, KL to the extrapolated DPO policy", response_kl(mdp, trained, colder)[0], 0, 1e-12);
  expect("its mean score is above the DPO policy's",
         policy_value(mdp, trained, mdp.rewards())[0] > policy_value(mdp, dpo.policy, mdp.rewards())[0] + 0.1);
  return calls::failures();
}
