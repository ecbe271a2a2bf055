#pragma once
// Proximal policy optimisation for RLHF.
//
//   repeat:
//     sample responses with pi_old; score them; log-probabilities under pi_old and pi_ref; values
//     reward_t    = -beta log(pi_old / pi_ref)_t + score at the last token         prepare()
//     advantage_t = GAE(reward, value); return_t = advantage_t + value_t
//     advantage   = whiten(advantage)
//     for each epoch, each minibatch:
//       policy loss = -min(ratio A, clip(ratio) A); value loss = 1/2 max((V-G)^2, (V_clip-G)^2)
//                                                                                 policy(), value()
//
// Schulman et al. 2017, arXiv 1707.06347; for language models Ziegler et al. 2019, arXiv 1909.08593, and Stiennon et al.
// 2020, arXiv 2009.01325. Defaults: clip 0.2 both, gamma 1, lambda 0.95, beta 0.05 (TRL's PPO).

#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/kl.hpp"

namespace rlhf::inline v1 {

/// What a rollout offers to the estimate of advantages.
template <class T = float, class Space = host_space>
struct rollout_inputs {
  view<const T, 1, Space> old_logp{};            ///< [tokens]
  view<const T, 1, Space> ref_logp{};            ///< [tokens]
  view<const T, 1, Space> dpo_logp{};            ///< [tokens], for RTO
  view<const T, 1, Space> value{};               ///< [tokens] before the update
  view<const T, 1, Space> score{};               ///< [sequences]
  mask_view<Space> mask{};                       ///< [tokens]
  view<const T, 1, Space> bootstrap{};           ///< [sequences]
  view<const std::int32_t, 1, Space> segment{};  ///< [tokens], for RTO's semi mode
};

/// What prepare() writes. `reward` is required, because the advantages are made of it; other absent views are skipped.
template <class T = float, class Space = host_space>
struct rollout_outputs {
  view<T, 1, Space> reward{};     ///< [tokens], required: shaped rewards
  view<T, 1, Space> kl{};         ///< [tokens]
  view<T, 1, Space> advantage{};  ///< [tokens], whitened
  view<T, 1, Space> returns{};    ///< [tokens], of the advantages before whitening
};

/// PPO by its parts, each of which may be replaced; `Reward` is the shaping rule.
template <class Reward>
struct basic_ppo {
  Reward reward{};
  gae estimator{};
  bool whiten_advantages = true;
  whiten normalisation{};
  ppo_clip objective{};
  clipped_value critic{};

  /// Rewards, advantages and returns of a batch of responses. Errors: those of the parts.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status prepare(B& be, const layout<typename B::space>& sequences, const rollout_inputs<T, Space>& in,
                 const rollout_outputs<T, Space>& out) const {
    if (auto s = reward_shaping<Reward>{reward}(
            be, sequences,
            shaping_inputs<T, Space>{in.old_logp, in.ref_logp, in.dpo_logp, in.score, in.mask, in.segment},
            shaping_outputs<T, Space>{out.reward, out.kl, {}});
        !s)
      return s;
    if (auto s = advantage_estimate<gae>{estimator}(
            be, sequences, advantage_inputs<T, Space>{out.reward, in.value, in.mask, in.bootstrap},
            advantage_outputs<T, Space>{out.advantage, out.returns});
        !s)
      return s;
    if (!whiten_advantages) return {};
    return whitening{normalisation}(be, whiten_inputs<T, Space>{out.advantage, in.mask}, out.advantage);
  }

  /// The policy's loss, its gradient and statistics: see policy_loss.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status policy(B& be, const layout<typename B::space>& sequences, const token_inputs<T, Space>& in,
                const token_outputs<T, Space>& out) const {
    return policy_loss<ppo_clip>{objective}(be, sequences, in, out);
  }
  /// The critic's: see value_loss.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status value(B& be, const layout<typename B::space>& sequences, const value_inputs<T, Space>& in,
               const value_outputs<T, Space>& out) const {
    return value_loss<clipped_value>{critic}(be, sequences, in, out);
  }
};

/// PPO with the sampled KL in the reward. Its members are the parts: `ppo{{.estimator = {.lambda = 0.9}}}`.
struct ppo : basic_ppo<kl_in_reward<k1>> {};

}  // namespace rlhf::inline v1
