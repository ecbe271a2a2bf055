#pragma once
// OpenRLHF's trainers with their defaults (August 2026), as compositions whose members may be changed.
//
// What OpenRLHF leaves to its user, or what was not found in its sources (init_kl_coef, nll_loss_coef), is an argument.
// It has no KTO, CPO, ORPO or online DPO today: none here. docs/from-openrlhf.md has the whole table, docs/presets.md
// how the three libraries differ.

#include "rlhf/algorithm/dpo.hpp"
#include "rlhf/algorithm/grpo.hpp"
#include "rlhf/algorithm/ppo.hpp"
#include "rlhf/algorithm/reward_model.hpp"
#include "rlhf/algorithm/sft.hpp"
#include "rlhf/driver/importance.hpp"
#include "rlhf/reward/kl_controller.hpp"

namespace rlhf::inline v1::preset::openrlhf {

/// DPOTrainer: beta 0.1, label_smoothing 0, which it honours. `nll_loss_coef` weighs an NLL that is a mean of means;
/// TRL's is over tokens.
[[nodiscard]] constexpr preference_loss<dpo_sigmoid> dpo(double nll_loss_coef = 0) {
  return {{.beta = 0.1, .label_smoothing = 0},
          {},
          {.weight = nll_loss_coef, .reduction = nll_reduction::sequence_mean},
          {}};
}
/// DPOTrainer with --ipo: of sums over tokens; TRL's is of averages.
[[nodiscard]] constexpr preference_loss<ipo_sum> ipo(double nll_loss_coef = 0) {
  return {{.beta = 0.1}, {}, {.weight = nll_loss_coef, .reduction = nll_reduction::sequence_mean}, {}};
}

/// RewardModelTrainer: PairWiseLoss; with margins: objective.use_margin.
[[nodiscard]] constexpr rlhf::reward_model reward_model() { return {}; }
/// LogExpLoss: the same function, here without its overflow.
[[nodiscard]] constexpr rlhf::reward_model log_exp_loss() { return {}; }
/// SFTTrainer; `tokens` of the whole batch, 0: those of the call.
[[nodiscard]] constexpr rlhf::sft sft(double tokens = 0) { return {.tokens = tokens}; }

namespace kl_estimator {
/// "k1" clamped at 10; "k2" as it is; "k3" with its value clamped at 10 (verl clamps the log-ratio too).
[[nodiscard]] constexpr rlhf::k1 k1() { return {.bound = 10}; }
[[nodiscard]] constexpr rlhf::k2 k2() { return {}; }
[[nodiscard]] constexpr rlhf::k3 k3() { return {.bound = 10}; }
}  // namespace kl_estimator

/// PolicyLoss: eps_clip 0.2 on both sides, log-ratios clamped at 20, dual clip off (verl: always 3).
[[nodiscard]] constexpr ppo_clip clip() {
  return {.low = 0.2, .high = 0.2, .dual_clip = infinity, .ratio_bound = infinity, .log_ratio_bound = 20};
}
/// The normalisation of advantages, over the whole rollout: the variance divided by n, and not below 1e-8.
[[nodiscard]] constexpr whitening normalisation() {
  return {{.biased = true, .divisor = spread::clamped, .epsilon = 1e-8, .shift_mean = true}};
}
/// reward_clip_range. OpenRLHF clips after the baseline of the group, TRL before it.
[[nodiscard]] constexpr score_clip reward_clip() { return {.low = -10, .high = 10}; }

namespace advantage_estimator {
/// "gae": gamma 1, lambd 1; slots outside the mask count as 0.
[[nodiscard]] constexpr advantage_estimate<rlhf::gae> gae() { return {{.gamma = 1, .lambda = 1, .gaps = gap::zero}}; }
/// "reinforce" (REINFORCE++): gamma 1; normalise afterwards.
[[nodiscard]] constexpr advantage_estimate<discounted_return> reinforce() { return {{.gamma = 1, .gaps = gap::zero}}; }
/// "rloo".
[[nodiscard]] constexpr grouped<leave_one_out> rloo() { return {}; }
/// "reinforce_baseline": normalise over the tokens afterwards.
[[nodiscard]] constexpr grouped<group_advantage> reinforce_baseline() {
  return {{.scale = group_scale::none, .epsilon = 0}};
}
/// "group_norm": by the deviation + 1e-9. A group of one gives NaN there, 0 here.
[[nodiscard]] constexpr grouped<group_advantage> group_norm() {
  return {{.scale = group_scale::group, .epsilon = 1e-9}};
}
/// "dr_grpo".
[[nodiscard]] constexpr grouped<group_advantage> dr_grpo() { return {{.scale = group_scale::none, .epsilon = 0}}; }
}  // namespace advantage_estimator

/// PPO: k1 clamped at 10 in the reward (`init_kl_coef`), scores clipped to [-10, 10] at the last token, value_clip 0.5.
[[nodiscard]] constexpr basic_ppo<kl_in_reward<rlhf::k1>> ppo(double init_kl_coef) {
  return {.reward = {kl_estimator::k1(), init_kl_coef, score_placement::last, reward_clip()},
          .estimator = advantage_estimator::gae().estimator,
          .whiten_advantages = true,
          .normalisation = normalisation().how,
          .objective = clip(),
          .critic = {.clip = 0.5, .scale = 0.5, .form = value_clip::difference}};
}
/// GRPO: "group_norm" over token means, without KL.
[[nodiscard]] constexpr rlhf::grpo<token_mean, none> grpo() {
  return {
      .estimator = advantage_estimator::group_norm().estimator, .objective = clip(), .penalty = {}, .aggregate = {}};
}
/// The same with use_kl_loss and kl_estimator "k3".
[[nodiscard]] constexpr rlhf::grpo<token_mean> grpo_with_kl(double init_kl_coef) {
  return {.estimator = advantage_estimator::group_norm().estimator,
          .objective = clip(),
          .penalty = {kl_estimator::k3(), init_kl_coef},
          .aggregate = {}};
}
/// policy_loss_type "gspo"; the bounds must be given.
[[nodiscard]] constexpr policy_loss<sequence_ratio<ppo_clip>, none, sequence_mean_token_mean> gspo(double low,
                                                                                                   double high) {
  return {{{.low = low, .high = high}}, {}, {}};
}
/// The coefficient stays what it is unless kl_target is set.
[[nodiscard]] constexpr fixed_kl_controller kl_controller(double init_kl_coef) { return {.coefficient = init_kl_coef}; }
/// The importance correction for vLLM: a token's weight in [0.5, 5].
[[nodiscard]] constexpr importance_correction sampler_correction() { return truncated_token_weights(5, 0.5); }

}  // namespace rlhf::inline v1::preset::openrlhf
