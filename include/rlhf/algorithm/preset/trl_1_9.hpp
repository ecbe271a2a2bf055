#pragma once
// TRL 1.9's trainers with their defaults, as compositions: each function returns an aggregate whose members may be
// changed.
//
// What TRL leaves to its user, or what was not found in its sources, is an argument. Names are TRL's (`loss_type`,
// configuration keys in the comments). docs/from-trl.md has the whole table, docs/presets.md how the three libraries
// differ.

#include "rlhf/advantage/optimal_value.hpp"
#include "rlhf/algorithm/aot.hpp"
#include "rlhf/algorithm/grpo.hpp"
#include "rlhf/algorithm/ppo.hpp"
#include "rlhf/algorithm/reward_model.hpp"
#include "rlhf/algorithm/sft.hpp"
#include "rlhf/driver/combined_reward.hpp"
#include "rlhf/driver/importance.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/driver/reference_point.hpp"
#include "rlhf/driver/sequence_loss.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/exploration.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/negative_feedback.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/objective/self_play.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/objective/weighted.hpp"

namespace rlhf::inline v1::preset::trl_1_9 {

// DPOTrainer: beta 0.1 for every loss_type. label_smoothing 0; `sigmoid` does not read it from 0.29 on.

/// loss_type "sigmoid", the default.
[[nodiscard]] constexpr preference_loss<dpo_sigmoid> dpo() { return {{.beta = 0.1, .label_smoothing = 0}, {}, {}, {}}; }
/// "sigmoid_norm": log-ratios per token.
[[nodiscard]] constexpr preference_loss<dpo_sigmoid_norm> sigmoid_norm() { return {{.beta = 0.1}, {}, {}, {}}; }
/// "hinge".
[[nodiscard]] constexpr preference_loss<dpo_hinge> hinge() { return {{.beta = 0.1}, {}, {}, {}}; }
/// "ipo": averages per token. OpenRLHF's IPO and that of TRL's own online trainers are of sums.
[[nodiscard]] constexpr preference_loss<rlhf::ipo> ipo() { return {{.beta = 0.1}, {}, {}, {}}; }
/// "robust"; at label_smoothing 0 it is `sigmoid`.
[[nodiscard]] constexpr preference_loss<dpo_robust> robust() {
  return {{.beta = 0.1, .label_smoothing = 0}, {}, {}, {}};
}
/// "exo_pair" has no value at label_smoothing 0, so it must be given; TRL advises 1e-3.
[[nodiscard]] constexpr preference_loss<rlhf::exo_pair> exo_pair(double label_smoothing) {
  return {{.beta = 0.1, .label_smoothing = label_smoothing}, {}, {}, {}};
}
/// "nca_pair".
[[nodiscard]] constexpr preference_loss<rlhf::nca_pair> nca_pair() { return {{.beta = 0.1}, {}, {}, {}}; }
/// "bco_pair", since 0.29 without a running mean.
[[nodiscard]] constexpr preference_loss<rlhf::bco_pair> bco_pair() { return {{.beta = 0.1}, {}, {}, {}}; }
/// "sppo_hard".
[[nodiscard]] constexpr preference_loss<rlhf::sppo_hard> sppo_hard() { return {{.beta = 0.1}, {}, {}, {}}; }
/// "aot": by pairs.
[[nodiscard]] constexpr rlhf::aot<dpo_sigmoid> aot() { return {{.beta = 0.1, .label_smoothing = 0}, true}; }
/// "aot_unpaired", up to 0.27 called aot_pair.
[[nodiscard]] constexpr rlhf::aot<dpo_sigmoid> aot_unpaired() { return {{.beta = 0.1, .label_smoothing = 0}, false}; }
/// "apo_zero".
[[nodiscard]] constexpr preference_loss<rlhf::apo_zero> apo_zero() { return {{.beta = 0.1}, {}, {}, {}}; }
/// "apo_down".
[[nodiscard]] constexpr preference_loss<rlhf::apo_down> apo_down() { return {{.beta = 0.1}, {}, {}, {}}; }
/// "discopop"; discopop_tau 0.05.
[[nodiscard]] constexpr preference_loss<rlhf::discopop> discopop() {
  return {{.beta = 0.1, .temperature = 0.05}, {}, {}, {}};
}
/// "sft" beside another loss_type: give it to that loss as `nll`; loss_weights 1.
[[nodiscard]] constexpr chosen_nll sft_term() { return {.weight = 1, .reduction = nll_reduction::token_mean}; }
/// f_divergence_type "alpha_divergence"; f_alpha_divergence_coef 0.5 (up to 0.28: 1 minus it, default 1).
[[nodiscard]] constexpr rlhf::alpha_divergence alpha_divergence() { return {.alpha = 0.5}; }

// KTOTrainer: beta 0.1, desirable_weight and undesirable_weight 1. The completions of the reference point are those of
// the next row of each device's batch; their mean is taken over all ranks.

/// loss_type "kto".
[[nodiscard]] constexpr unpaired_loss<rlhf::kto> kto() {
  return {{.beta = 0.1, .desirable_weight = 1, .undesirable_weight = 1}, {}};
}
/// loss_type "apo_zero_unpaired".
[[nodiscard]] constexpr unpaired_loss<rlhf::apo_zero_unpaired> apo_zero_unpaired() {
  return {{.beta = 0.1, .desirable_weight = 1, .undesirable_weight = 1}, {}};
}
/// KTO's K: divided by the number of rows. HALOs divides by the rows whose log-ratio is not 0.
[[nodiscard]] constexpr rlhf::kto_reference_point kto_reference_point() { return {.nonzero = false}; }

// BCOTrainer: beta 0.1. Update the running mean before the loss.

[[nodiscard]] constexpr unpaired_loss<rlhf::bco> bco() { return {{.beta = 0.1}, {}}; }
[[nodiscard]] constexpr running_reference bco_reference() { return {.beta = 0.1}; }

// CPOTrainer: beta 0.1, label_smoothing 0, cpo_alpha 1, simpo_gamma 0.5. cpo_alpha stays 1 whatever the loss_type is,
// so that "simpo" alone is CPO-SimPO.

/// loss_type "sigmoid", the default.
[[nodiscard]] constexpr preference_loss<rlhf::cpo> cpo() {
  return {{.beta = 0.1, .label_smoothing = 0}, {}, {.weight = 1}, {}};
}
/// "hinge".
[[nodiscard]] constexpr preference_loss<rlhf::cpo_hinge> cpo_hinge() { return {{.beta = 0.1}, {}, {.weight = 1}, {}}; }
/// "ipo".
[[nodiscard]] constexpr preference_loss<rlhf::cpo_ipo> cpo_ipo() { return {{.beta = 0.1}, {}, {.weight = 1}, {}}; }
/// "simpo" with the default cpo_alpha.
[[nodiscard]] constexpr preference_loss<rlhf::simpo> cpo_simpo() {
  return {{.beta = 0.1, .gamma = 0.5}, {}, {.weight = 1}, {}};
}
/// "simpo" with cpo_alpha = 0, the paper's.
[[nodiscard]] constexpr preference_loss<rlhf::simpo> simpo() { return {{.beta = 0.1, .gamma = 0.5}, {}, {}, {}}; }

/// A pair objective and an NLL term over other tokens than the pairs': add `nll_weight` times the second to the first.
template <class Objective>
struct with_likelihood {
  preference_loss<Objective> pairs;
  rlhf::sft likelihood{};
  double nll_weight = 1;
};
/// ORPOTrainer: beta 0.1. Its NLL is over prompt and chosen response, its odds are over the responses alone.
[[nodiscard]] constexpr with_likelihood<rlhf::orpo> orpo() { return {{{.beta = 0.1}, {}, {}, {}}, {}, 1}; }
/// TPOTrainer, loss_type "sigmoid": beta 0.01; tpo_alpha 1 weighs the NLL of the gold response.
[[nodiscard]] constexpr with_likelihood<rlhf::cpo> tpo() { return {{{.beta = 0.01}, {}, {}, {}}, {}, 1}; }

// Samples of the policy itself: the rewards of the inputs say which one is chosen, the first at a tie.

/// OnlineDPOTrainer, loss_type "sigmoid": beta 0.1.
[[nodiscard]] constexpr preference_loss<ranked<dpo_sigmoid>> online_dpo() { return {{{.beta = 0.1}}, {}, {}, {}}; }
/// The same with "ipo": of sums, unlike DPOTrainer's.
[[nodiscard]] constexpr preference_loss<ranked<ipo_sum>> online_ipo() { return {{{.beta = 0.1}}, {}, {}, {}}; }
/// XPOTrainer: beta 0.1, alpha 1e-5.
[[nodiscard]] constexpr preference_loss<rlhf::xpo<dpo_sigmoid>> xpo() {
  return {{.objective = {.beta = 0.1}, .alpha = 1e-5}, {}, {}, {}};
}
/// NashMDTrainer: beta 0.1, by token; the sum over each row, the mean over rows. mixture_coef 0.5 is of the sampler.
[[nodiscard]] constexpr policy_loss<nash_md_token, none, fixed_length> nash_md() {
  return {{.beta = 0.1}, {}, {.length = 1}};
}
/// A2POTrainer: beta1 0.5 of the value (of 8 samples of the reference), beta2 1e-3 of the regression.
[[nodiscard]] constexpr grouped<optimal_value> a2po_value() { return {{.beta = 0.5}}; }
[[nodiscard]] constexpr unpaired_loss<optimal_advantage_regression> a2po() { return {{.beta = 1e-3}, {}}; }

/// RewardTrainer: Bradley-Terry. With a column `margin`: objective.use_margin. center_rewards_coefficient None; 0.01 is
/// advised.
[[nodiscard]] constexpr rlhf::reward_model reward_model() { return {}; }
/// SFTTrainer: NLL over the tokens; `tokens` = num_items_in_batch (0: those of the call).
[[nodiscard]] constexpr rlhf::sft sft(double tokens = 0) { return {.tokens = tokens}; }
/// SFTTrainer, loss_type "dft".
[[nodiscard]] constexpr policy_loss<dynamic_fine_tuning> dft(double tokens = 0) {
  return {{}, {}, {.tokens = tokens, .scale = 1}};
}

// GRPOTrainer: epsilon 0.2 (epsilon_high None: the same), delta None, scale_rewards "group" with 1e-4, a group of one
// gives 0. Without KL (beta 0): for beta > 0 write rlhf::grpo<Aggregate> with a kl_penalty<k3>; use_bias_correction_kl
// is off in 1.9.

namespace detail {
template <class Aggregate>
[[nodiscard]] constexpr rlhf::grpo<Aggregate, none> grpo_with(Aggregate aggregate) {
  return {.estimator = {.scale = group_scale::group, .epsilon = 1e-4, .lone = lone_response::zero},
          .objective = {.low = 0.2, .high = 0.2},
          .penalty = {},
          .aggregate = aggregate};
}
}  // namespace detail

namespace loss_type {
/// "dapo": `items` = num_items_in_batch / processes, 0 counts the call's tokens. The clip stays symmetric unless
/// epsilon_high is set.
[[nodiscard]] constexpr rlhf::grpo<token_mean, none> dapo(double items = 0) {
  return detail::grpo_with(token_mean{.tokens = items, .scale = 1});
}
/// "bnpo": over the tokens of the micro-batch.
[[nodiscard]] constexpr rlhf::grpo<token_mean, none> bnpo() { return detail::grpo_with(token_mean{}); }
/// "grpo": the mean of the means of rows, as the paper has it.
[[nodiscard]] constexpr rlhf::grpo<row_mean, none> grpo() { return detail::grpo_with(row_mean{}); }
/// "dr_grpo": over a constant length. scale_rewards stays "group"; the paper's method has group_scale::none besides.
[[nodiscard]] constexpr rlhf::grpo<fixed_length, none> dr_grpo(double max_completion_length) {
  return detail::grpo_with(fixed_length{.length = max_completion_length});
}
/// "cispo": only an upper bound, of the ratio itself; epsilon_high must be set (5, say). verl's bounds lie around 1.
[[nodiscard]] constexpr policy_loss<rlhf::cispo> cispo(double epsilon_high, double items = 0) {
  return {{.low = 0, .high = epsilon_high}, {}, {.tokens = items, .scale = 1}};
}
/// "sapo": temperatures 1 and 1.05.
[[nodiscard]] constexpr policy_loss<rlhf::sapo, none, row_mean> sapo() {
  return {{.temperature_positive = 1, .temperature_negative = 1.05}, {}, {}};
}
/// "vespo": give `vespo_weights` as the weights of a `reinforce`.
[[nodiscard]] constexpr policy_loss<reinforce> vespo(double items = 0) {
  return {{}, {}, {.tokens = items, .scale = 1}};
}
[[nodiscard]] constexpr importance_weights<vespo_weight> vespo_weights() {
  return {{.k_positive = 2, .lambda_positive = 3, .k_negative = 3, .lambda_negative = 2}};
}
/// "luspo"; wants importance_sampling_level "sequence".
[[nodiscard]] constexpr policy_loss<sequence_ratio<ppo_clip>, none, length_weighted_mean> luspo() {
  return {{{.low = 0.2, .high = 0.2}}, {}, {}};
}
}  // namespace loss_type

/// The trainer's default loss_type, "dapo".
[[nodiscard]] constexpr rlhf::grpo<token_mean, none> grpo(double items = 0) { return loss_type::dapo(items); }
/// importance_sampling_level "sequence" (GSPO) at the default epsilon, which is far too wide for it: the paper has 3e-4
/// and 4e-4. With row_mean it is the paper's; with token_mean, the trainer's default, a sequence weighs by its length.
template <class Aggregate = token_mean>
[[nodiscard]] constexpr policy_loss<sequence_ratio<ppo_clip>, none, Aggregate> sequence_level(
    Aggregate aggregate = {}) {
  return {{{.low = 0.2, .high = 0.2}}, {}, aggregate};
}
/// experimental/gmpo: 0.4 on both sides of the log-ratio. A row without tokens has ratio 1 and counts.
[[nodiscard]] constexpr sequence_policy_loss<importance_sampling, one_sided_log_ratio> gmpo() {
  return {{}, {.low = 0.4, .high = 0.4}, {}, true};
}
/// vllm_importance_sampling_correction: mode "sequence_mask", cap 3.
[[nodiscard]] constexpr importance_correction sampler_correction() { return masked_sequence_weights(3); }

/// RLOOTrainer: beta 0.05 times the summed k1 is subtracted from the reward, then the others' mean; the ratio is of the
/// whole completion, epsilon 0.2. A group of one gives 0. reward_clip_range goes into reward.how.
struct rloo_trainer {
  reward_combination reward{{.penalty = 0.05}};
  grouped<leave_one_out> advantage{{.lone = lone_response::zero}};
  sequence_policy_loss<ppo_clip, summed_log_ratio> loss{{.low = 0.2, .high = 0.2}, {}, {}, true};
};
[[nodiscard]] constexpr rloo_trainer rloo() { return {}; }

/// experimental/ppo: kl_coef 0.05 of k1 in the reward, score after the end of text, gamma 1, lam 0.95 over padded rows,
/// whitened advantages, cliprange and cliprange_value 0.2. Four epochs; the critic's gradient counts ppo_vf_coef.
[[nodiscard]] constexpr basic_ppo<kl_in_reward<k1>> ppo() {
  return {.reward = {{}, 0.05, score_placement::after_eos},
          .estimator = {.gamma = 1, .lambda = 0.95, .gaps = gap::plain},
          .whiten_advantages = true,
          .normalisation = {.biased = false, .divisor = spread::rsqrt, .epsilon = 1e-8, .shift_mean = true},
          .objective = {.low = 0.2, .high = 0.2},
          .critic = {.clip = 0.2, .scale = 0.5, .form = value_clip::difference}};
}
inline constexpr double ppo_vf_coef = 0.1;

}  // namespace rlhf::inline v1::preset::trl_1_9
