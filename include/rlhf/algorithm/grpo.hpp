#pragma once
// Group relative policy optimisation: PPO without a critic.
//
//   sample G responses for each prompt; score them
//   A_i = (r_i - mean_g) / (std_g + epsilon), the same for all tokens of response i
//   loss = -min(ratio A, clip(ratio) A) + beta k3, averaged over each response, then over responses
//
// Shao et al. 2024, "DeepSeekMath", arXiv 2402.03300. Dr. GRPO (Liu et al. 2025, arXiv 2503.20783): no division by the
// deviation, and fixed_length in place of row_mean.

#include "rlhf/algorithm/critic_free.hpp"

namespace rlhf::inline v1 {

/// GRPO by its parts; `Aggregate` says how tokens add up.
template <class Aggregate = row_mean, class Penalty = kl_penalty<k3>>
struct grpo {
  group_advantage estimator{};
  ppo_clip objective{};
  Penalty penalty = paper_penalty();
  Aggregate aggregate{};

  /// Advantages [responses] from rewards [responses].
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status prepare(B& be, const group_inputs<T, Space>& in,
                 const std::type_identity_t<view<T, 1, Space>>& advantage) const {
    return grouped<group_advantage>{estimator}(be, in, advantage);
  }
  /// Token rewards and advantages of rollouts: what the other critic-free algorithms offer too.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status prepare(B& be, const layout<typename B::space>& sequences, const group_rollout_inputs<T, Space>& in,
                 const group_rollout_outputs<T, Space>& out) const {
    return critic_free<group_advantage, none>{.estimator = estimator}.prepare(be, sequences, in, out);
  }
  /// The policy's loss; `in.advantage` may be [responses].
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status policy(B& be, const layout<typename B::space>& sequences, const token_inputs<T, Space>& in,
                const token_outputs<T, Space>& out) const {
    return policy_loss<ppo_clip, Penalty, Aggregate>{objective, penalty, aggregate}(be, sequences, in, out);
  }

 private:
  [[nodiscard]] static constexpr Penalty paper_penalty() {
    if constexpr (std::same_as<Penalty, kl_penalty<k3>>)
      return {.estimator = {}, .coefficient = 0.04};
    else
      return {};
  }
};

/// Dr. GRPO: centred rewards, a constant length in the denominator, no KL and so no reference.
[[nodiscard]] constexpr grpo<fixed_length, none> dr_grpo(double maximum_length) {
  grpo<fixed_length, none> algorithm{.aggregate = {.length = maximum_length}};
  algorithm.estimator.scale = group_scale::none;
  return algorithm;
}

}  // namespace rlhf::inline v1
