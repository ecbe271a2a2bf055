#pragma once
// verl's estimators and losses with their defaults (August 2026), as compositions whose members may be changed.
//
// What verl leaves to its user, or what was not found in its sources (kl_coef, kl_loss_coef), is an argument. Names are
// verl's: adv_estimator, loss_mode, kl_penalty. verl has no preference trainer of its own: no DPO, KTO, CPO, ORPO or
// reward model here. docs/from-verl.md has the whole table, docs/presets.md how the three libraries differ.

#include "rlhf/algorithm/grpo.hpp"
#include "rlhf/algorithm/ppo.hpp"
#include "rlhf/algorithm/sft.hpp"
#include "rlhf/driver/combined_reward.hpp"
#include "rlhf/driver/importance.hpp"
#include "rlhf/driver/sequence_loss.hpp"
#include "rlhf/driver/token_baseline.hpp"
#include "rlhf/driver/token_selection.hpp"
#include "rlhf/objective/weighted.hpp"
#include "rlhf/reward/kl_controller.hpp"

namespace rlhf::inline v1::preset::verl {

/// masked_whiten, without the 1e-8 that verl adds to the count.
[[nodiscard]] constexpr whitening masked_whiten() {
  return {{.biased = false, .divisor = spread::rsqrt, .epsilon = 1e-8, .shift_mean = true}};
}

namespace kl_penalty_type {
/// "low_var_kl" (k3): log-ratio clamped at 20, value at 10. "kl", "abs", "mse" are k1, absolute, k2 as they are.
[[nodiscard]] constexpr k3 low_var_kl() { return {.log_ratio_bound = 20, .bound = 10}; }
/// "low_var_kl+": its value, the gradient of "mse".
[[nodiscard]] constexpr value_and_gradient<k3, k2> low_var_kl_plus() { return {low_var_kl(), {}}; }
}  // namespace kl_penalty_type

namespace adv_estimator {
/// "gae": gamma 1, lam 1; slots outside the mask are skipped. Whiten afterwards.
[[nodiscard]] constexpr advantage_estimate<rlhf::gae> gae() { return {{.gamma = 1, .lambda = 1, .gaps = gap::carry}}; }
/// "grpo": by the deviation + 1e-6; a group of one keeps its reward. norm_adv_by_std_in_grpo false: group_scale::none.
[[nodiscard]] constexpr grouped<group_advantage> grpo() {
  return {{.scale = group_scale::group, .epsilon = 1e-6, .lone = lone_response::raw}};
}
/// "rloo": a group of one keeps its reward.
[[nodiscard]] constexpr grouped<leave_one_out> rloo() { return {{.lone = lone_response::raw}}; }
/// "rloo_vectorized": a group of one gives 0.
[[nodiscard]] constexpr grouped<leave_one_out> rloo_vectorized() { return {{.lone = lone_response::zero}}; }
/// "reinforce_plus_plus": gamma 1; whiten afterwards.
[[nodiscard]] constexpr advantage_estimate<discounted_return> reinforce_plus_plus() {
  return {{.gamma = 1, .gaps = gap::carry}};
}
/// "reinforce_plus_plus_baseline": copy to the tokens and whiten afterwards; a group of one keeps its reward.
[[nodiscard]] constexpr grouped<group_advantage> reinforce_plus_plus_baseline() {
  return {{.scale = group_scale::none, .epsilon = 0, .lone = lone_response::raw}};
}
/// "remax": the greedy response's reward is the `baseline` of the inputs.
[[nodiscard]] constexpr advantage_estimate<discounted_return> remax() { return {{.gamma = 1, .gaps = gap::carry}}; }
/// "opo": the lengths are the `weight` of the inputs.
[[nodiscard]] constexpr grouped<optimal_baseline> opo() { return {}; }
/// "gpg".
[[nodiscard]] constexpr grouped<group_policy_gradient> gpg() { return {{.divisor = 1}}; }
/// "grpo_passk".
[[nodiscard]] constexpr grouped<pass_at_k> grpo_passk() { return {{.normalize = true, .epsilon = 1e-6}}; }
/// "gdpo": whiten over the tokens afterwards.
[[nodiscard]] constexpr decoupled_groups<group_advantage> gdpo() {
  return {{.scale = group_scale::group, .epsilon = 1e-6, .lone = lone_response::raw}};
}
/// "optimal_token_baseline", and "tir_optimal_token_baseline" for turns with tools between them.
[[nodiscard]] constexpr token_baseline optimal_token_baseline() { return {}; }
[[nodiscard]] constexpr token_baseline tir_optimal_token_baseline() { return {{.compact = true}}; }
}  // namespace adv_estimator

// loss_mode. clip_ratio_low and clip_ratio_high 0.2, clip_ratio_c 3, log-ratios clamped at 20. The aggregate is
// loss_agg_mode; "token-mean" where a mode does not bring its own. For "token-mean" over ranks give tokens
// (batch_num_tokens) and scale (dp_size).

namespace loss_mode {
/// The clip of "vanilla": dual clip is always on.
[[nodiscard]] constexpr ppo_clip vanilla_clip() {
  return {.low = 0.2, .high = 0.2, .dual_clip = 3, .ratio_bound = infinity, .log_ratio_bound = 20};
}
/// "vanilla".
template <class Aggregate = token_mean>
[[nodiscard]] constexpr policy_loss<ppo_clip, none, Aggregate> vanilla(Aggregate aggregate = {}) {
  return {vanilla_clip(), {}, aggregate};
}
/// "gspo": by token with the sequence's ratio, always seq-mean-token-mean. The bounds must be given: 0.2 would never
/// clip (the paper has 3e-4 and 4e-4).
[[nodiscard]] constexpr policy_loss<gspo_token, none, sequence_mean_token_mean> gspo(double low, double high) {
  return {{.low = low, .high = high, .log_ratio_bound = 10}, {}, {}};
}
/// "sapo": temperatures 1 and 1.05, always seq-mean-token-mean.
[[nodiscard]] constexpr policy_loss<rlhf::sapo, none, sequence_mean_token_mean> sapo() {
  return {{.temperature_positive = 1, .temperature_negative = 1.05, .log_ratio_bound = 20}, {}, {}};
}
/// "cispo": bounds around 1. TRL has an upper bound of the ratio itself.
template <class Aggregate = token_mean>
[[nodiscard]] constexpr policy_loss<rlhf::cispo, none, Aggregate> cispo(Aggregate aggregate = {}) {
  return {{.low = 1 - 0.2, .high = 1 + 0.2, .log_ratio_bound = 20}, {}, aggregate};
}
/// "geo_mean" (GMPO): clip_ratio_low and _high bound the log-ratio; rows without tokens give 0 and stay in the mean.
[[nodiscard]] constexpr sequence_policy_loss<importance_sampling, one_sided_log_ratio> geo_mean() {
  return {{}, {.low = 0.2, .high = 0.2}, {}, false};
}
/// "dppo_tv": the weight is truncated at 20.
template <class Aggregate = token_mean>
[[nodiscard]] constexpr policy_loss<dppo_total_variation, none, Aggregate> dppo_tv(Aggregate aggregate = {}) {
  return {{.low = 0.2, .high = 0.2, .ratio_bound = 20, .log_ratio_bound = 20}, {}, aggregate};
}
/// "dppo_kl"; its bounds of the KL must be given.
template <class Aggregate = token_mean>
[[nodiscard]] constexpr policy_loss<dppo_binary_kl, none, Aggregate> dppo_kl(double low, double high,
                                                                             Aggregate aggregate = {}) {
  return {{.low = low, .high = high, .ratio_bound = 20, .log_ratio_bound = 20}, {}, aggregate};
}
/// "dro"; beta must be given.
template <class Aggregate = token_mean>
[[nodiscard]] constexpr policy_loss<direct_reward_optimisation, none, Aggregate> dro(double beta,
                                                                                     Aggregate aggregate = {}) {
  return {{.beta = beta}, {}, aggregate};
}
/// "gpg" and "reinforce".
template <class Aggregate = token_mean>
[[nodiscard]] constexpr policy_loss<rlhf::reinforce, none, Aggregate> reinforce(Aggregate aggregate = {}) {
  return {{}, {}, aggregate};
}
/// "clip_cov": which tokens lose their loss; give the others to vanilla() as `keep`. verl draws without a seed, here
/// `random` is a key.
[[nodiscard]] constexpr clip_covariance clip_cov() {
  return {.fraction = 2e-4, .low = 1, .high = 5, .clip = {}, .random = {}};
}
/// "kl_cov": which tokens pay for their log-ratio. Its ppo_kl_coef is 1 in the code and 0.1 in the configuration file.
[[nodiscard]] constexpr kl_covariance kl_cov() { return {.fraction = 2e-4}; }
inline constexpr double kl_cov_coefficient_in_code = 1, kl_cov_coefficient_in_yaml = 0.1;
}  // namespace loss_mode

/// GRPO: adv_estimator "grpo" and loss_mode "vanilla", without KL.
template <class Aggregate = token_mean>
[[nodiscard]] constexpr rlhf::grpo<Aggregate, none> grpo(Aggregate aggregate = {}) {
  return {.estimator = adv_estimator::grpo().estimator,
          .objective = loss_mode::vanilla_clip(),
          .penalty = {},
          .aggregate = aggregate};
}
/// The same with use_kl_loss and kl_loss_type "low_var_kl".
template <class Aggregate = token_mean>
[[nodiscard]] constexpr rlhf::grpo<Aggregate> grpo_with_kl(double kl_loss_coef, Aggregate aggregate = {}) {
  return {.estimator = adv_estimator::grpo().estimator,
          .objective = loss_mode::vanilla_clip(),
          .penalty = {kl_penalty_type::low_var_kl(), kl_loss_coef},
          .aggregate = aggregate};
}
/// Dr. GRPO as verl builds it: no deviation, and the sum over tokens divided by a constant (loss_scale_factor).
[[nodiscard]] constexpr rlhf::grpo<sequence_mean_token_sum, none> dr_grpo(double loss_scale_factor) {
  auto algorithm = grpo(sequence_mean_token_sum{.divisor = loss_scale_factor});
  algorithm.estimator.scale = group_scale::none;
  return algorithm;
}

/// PPO: "gae", "vanilla" over token-mean, cliprange_value 0.5 as bounds. kl_coef is that of use_kl_in_reward with "kl";
/// 0 without it.
[[nodiscard]] constexpr basic_ppo<kl_in_reward<k1>> ppo(double kl_coef) {
  return {.reward = {{}, kl_coef, score_placement::last},
          .estimator = adv_estimator::gae().estimator,
          .whiten_advantages = true,
          .normalisation = masked_whiten().how,
          .objective = loss_mode::vanilla_clip(),
          .critic = {.clip = 0.5, .scale = 0.5, .form = value_clip::bounds}};
}
/// kl_ctrl.type "adaptive": target 0.1, horizon 10000.
[[nodiscard]] constexpr adaptive_kl_controller adaptive_kl(double kl_coef) {
  return {.coefficient = kl_coef, .target = 0.1, .horizon = 10000};
}
/// rollout_is "token": truncated at 2, the logarithm clamped at 20.
[[nodiscard]] constexpr importance_correction rollout_correction() {
  return {{.level = weight_of::token, .high = 2, .log_ratio_bound = 20}, {}};
}
/// The SFT trainer's NLL over the tokens of the batch; 0 counts those of the call.
[[nodiscard]] constexpr rlhf::sft sft(double tokens = 0) { return {.tokens = tokens}; }

}  // namespace rlhf::inline v1::preset::verl
