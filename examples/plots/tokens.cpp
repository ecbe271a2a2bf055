// Objectives and penalties of tokens, one by one.

#include "curves.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/negative_feedback.hpp"
#include "rlhf/objective/sequence.hpp"
#include "rlhf/objective/token.hpp"
#include "rlhf/objective/weighted.hpp"

namespace plots {
namespace {

/// For both signs of the advantage.
template <class Objective>
drawing signs(const char* name, const axis& along, const Objective& o) {
  return {name, along, {token("A = 1", o, 1), token("A = −1", o, -1)}};
}

/// A bonus against the entropy of the token.
curve of_entropy(const char* name, const rlhf::entropy_bonus& o) {
  return {name, [o](double x) {
            rlhf::token<dual> t;
            t.entropy = dual::variable(x, 0);
            return read(o(t));
          }};
}

/// A policy that has moved on: its ratio to the one that sampled is 2.
template <class Estimator>
curve moved(const char* name, const Estimator& o) {
  return {name, [o](double x) {
            rlhf::token<dual> t;
            t.logp = dual::variable(-4 + x, 0);
            t.ref_logp = -4;
            t.old_logp = t.rollout_logp = -4 + x - std::log(2.0);
            t.entropy = dual::variable(std::log(2.0), 1);  // where the driver keeps the sequence's log-ratio
            return read(o(t));
          }};
}

}  // namespace

std::vector<drawing> tokens() {
  using namespace rlhf;
  const std::vector<std::string> in_logp{"in log π"}, with_entropy{"in log π", "in the entropy"};
  const axis ratio{"ratio ρ", 0.05, 3.5, {0.5, 0.9, 1, 1.1, 2}, in_logp};
  const axis close{"ratio ρ of the sequence", 0.99895, 1.00105, {0.9995, 0.9998, 1, 1.0002, 1.0005}, in_logp};
  const axis reference{"log-ratio d to the reference, nats", -2.5, 2.5, {-2, -0.5, 0, 0.5, 2}, in_logp};
  const axis sampler{"log-ratio to the sampler, nats", -2.5, 2.5, {-2, -0.5, 0, 0.5, 2}, in_logp};
  const axis off_policy{"log-ratio d to the reference, nats; ρ = 2", -2.5, 2.5, {-2, -0.5, 0, 0.5, 2}, in_logp};
  const axis sequence{"log-ratio d to the reference, nats; ρ = 2",
                      -2.5,
                      2.5,
                      {-2, -0.5, 0, 0.5, 2},
                      {"in log π", "in the sequence's log-ratio"}};
  const axis logp{"log π, nats", -6, -0.01, {-5, -2, -1, -0.1}, in_logp};
  const axis undecided{"log π, nats; entropy 1", -6, -0.01, {-5, -2, -1, -0.1}, with_entropy};
  const axis entropy{"entropy H, nats", 0, 8, {0, 1, 4, 8}, {"in the entropy"}};
  return {
      {"negative_log_likelihood", logp, {likelihood("defaults", negative_log_likelihood{})}},
      {"dynamic_fine_tuning", logp, {likelihood("defaults", dynamic_fine_tuning{})}},
      {"entropy_adaptive_fine_tuning",
       logp,
       {likelihood("entropy 1", entropy_adaptive_fine_tuning{}),
        likelihood("entropy 2.5", entropy_adaptive_fine_tuning{}, 1, 2.5)}},
      {"reinforce", logp, {likelihood("A = 1", reinforce{}), likelihood("A = −1", reinforce{}, -1)}},
      {"ppo_clip",
       ratio,
       {token("A = 1", ppo_clip{}, 1), token("A = −1", ppo_clip{}, -1),
        token("A = −1, dual_clip 2", ppo_clip{.dual_clip = 2}, -1)}},
      {"entropy_bonus", entropy, {of_entropy("defaults", entropy_bonus{})}},
      {"both",
       ratio,
       {token("ppo_clip and k3 at 0.1, A = 1", rlhf::both{ppo_clip{}, kl_penalty{k3{}, 0.1}}, 1),
        token("A = −1", rlhf::both{ppo_clip{}, kl_penalty{k3{}, 0.1}}, -1)}},
      {"cispo",
       ratio,
       {token("A = 1", cispo{}, 1), token("high 2, A = 1", cispo{.high = 2}, 1),
        token("high 2, through, A = 1", cispo{.high = 2, .through = true}, 1)}},
      signs("masked_importance", ratio, masked_importance{}),
      signs("importance_sampling", ratio, importance_sampling{}),
      signs("sapo", ratio, sapo{}),
      signs("direct_reward_optimisation", ratio, direct_reward_optimisation{}),
      signs("dppo_total_variation", ratio, dppo_total_variation{}),
      signs("dppo_binary_kl", ratio, dppo_binary_kl{}),
      signs("importance_with_pull", ratio, importance_with_pull{}),
      signs("gspo_token", close, gspo_token{}),
      signs("decoupled_ppo", ratio, decoupled_ppo{}),
      {"topr", ratio, {token("score and A 1", topr{}, 1), token("score and A −1", topr{}, -1)}},
      {"bidirectional_negative_feedback",
       undecided,
       {likelihood("A = 1", bidirectional_negative_feedback{}),
        likelihood("A = −1", bidirectional_negative_feedback{}, -1)}},
      signs("nash_md_token", ratio, nash_md_token{}),
      {"summed_log_ratio", ratio, {token("a token", summed_log_ratio{}, 1)}},
      {"averaged_log_ratio", ratio, {token("a token", averaged_log_ratio{}, 1)}},
      signs("one_sided_log_ratio", ratio, one_sided_log_ratio{}),
      {"k1", reference, {divergence("defaults", k1{}), divergence("bound 1", k1{.bound = 1})}},
      {"absolute", reference, {divergence("defaults", absolute{})}},
      {"k2", reference, {divergence("defaults", k2{}), divergence("bound 1", k2{.bound = 1})}},
      {"k3", reference, {divergence("defaults", k3{}), divergence("bound 2", k3{.bound = 2})}},
      {"value_and_gradient", reference, {divergence("k3's value, k2's gradient", value_and_gradient{k3{}, k2{}})}},
      {"importance_weighted",
       off_policy,
       {moved("k3", importance_weighted{k3{}}), moved("k1", importance_weighted{k1{}})}},
      {"sequence_weighted", sequence, {moved("k3", sequence_weighted{k3{}}), moved("k1", sequence_weighted{k1{}})}},
      {"sampler_jensen_shannon", sampler, {divergence("defaults", sampler_jensen_shannon{})}},
      {"kl_penalty",
       reference,
       {divergence("k3 at 0.05", kl_penalty<k3>{}), divergence("k2 at 0.05", kl_penalty{k2{}, 0.05})}},
  };
}

}  // namespace plots
