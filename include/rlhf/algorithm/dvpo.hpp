#pragma once
// Decoupled value policy optimisation: the value model is learnt once, before the policy, and then stands still.
//
//   global value:  reward = label at the end of a response (+1 chosen, -1 rejected; or a score)     global_value
//                  V <- td(lambda) of itself, from states before each token and the one after the last
//   then as PPO without critic and without reward model                                               dvpo
//                  reward_t = -beta log(pi_old / pi_ref)_t
//                  A        = of the frozen V; behind the end V itself
//                  loss     = -min(ratio A, clip(ratio) A)
//
// Huang et al. 2025, "Pretrain Value, Not Reward: Decoupled Value Policy Optimization", arXiv 2502.16944 (ICLR 2026). The
// paper's value is told a trajectory of the policy, tau, beside the state; that is left out, because preference pairs hold
// none of the policies that wrote them: learnt is V(s), the mean label of what follows s in the pairs' responses. The
// paper's advantage is `action_value`. The released program takes GAE with 0 behind the end, so that its advantage goes to
// -V_t, which no action changes, as lambda goes to 1: `released`, to compare with. Defaults: beta 0.2, lambda 0.95.

#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/kl.hpp"

namespace rlhf::inline v1 {

/// The advantage that a frozen value gives.
enum class frozen_advantage {
  action_value,  ///< A_t = V_{t+1}, as in the paper; the KL belongs into the loss
  one_step,      ///< A_t = reward_t + V_{t+1} - V_t
  gae,           ///< GAE with V behind the end
  released       ///< GAE with 0 behind the end
};

/// What frozen values are divided by before they are used.
enum class value_scale {
  none,
  batch,    ///< whitened over all states of the batch
  response  ///< over those of each response (the released program, whose chunks are single responses)
};

/// Learning the value: targets and loss of labelled responses. A layout here has one slot more than the response has tokens:
/// the state after the last one.
struct global_value {
  gae estimator{};          ///< lambda 1: the label itself; 0: one step
  std::int64_t passes = 2;  ///< updates between two computations of the targets
  value_loss<squared_value> loss{};

  [[nodiscard]] constexpr status check() const {
    return passes >= 1 ? status{}
                       : remark::argument("global_value", "passes", static_cast<double>(passes), "1 or more");
  }
  /// Targets [slots] from values [slots] and rewards [slots], which are the label in the last slot and 0 elsewhere.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status targets(B& be, const layout<typename B::space>& states, const view<const T, 1, Space>& reward,
                 const std::type_identity_t<view<const T, 1, Space>>& value,
                 const std::type_identity_t<view<T, 1, Space>>& returns) const {
    return advantage_estimate<gae>{estimator}(be, states, advantage_inputs<T, Space>{.reward = reward, .value = value},
                                              advantage_outputs<T, Space>{{}, returns});
  }
};

/// What rollouts offer to DVPO.
template <class T = float, class Space = host_space>
struct frozen_value_inputs {
  view<const T, 1, Space> old_logp{};     ///< [tokens]
  view<const T, 1, Space> ref_logp{};     ///< [tokens]
  view<const T, 1, Space> value{};        ///< [tokens] of the state before each
  view<const T, 1, Space> final_value{};  ///< [sequences] of the state after the last token
};

/// The policy's part, with each part to be replaced; `Term` is a penalty in the loss.
template <class Term = none>
struct basic_dvpo {
  frozen_advantage mode = frozen_advantage::gae;
  kl_in_reward<k1> reward{{}, 0.2};
  double lambda = 0.95;  ///< of GAE
  value_scale scale = value_scale::none;
  bool whiten_advantages = true;
  whiten normalisation{};
  policy_loss<ppo_clip, Term> loss{};

  /// Rewards [tokens] and advantages [tokens] from values that are already scaled. Errors: those of the parts.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status prepare(B& be, const layout<typename B::space>& sequences, const frozen_value_inputs<T, Space>& in,
                 const std::type_identity_t<view<T, 1, Space>>& shaped,
                 const std::type_identity_t<view<T, 1, Space>>& advantage) const {
    if (auto s = reward_shaping<kl_in_reward<k1>>{reward}(
            be, sequences, shaping_inputs<T, Space>{in.old_logp, in.ref_logp, {}, {}, {}, {}},
            shaping_outputs<T, Space>{shaped, {}, {}});
        !s)
      return s;
    advantage_inputs<T, Space> values{.reward = shaped, .value = in.value, .bootstrap = in.final_value};
    if (mode == frozen_advantage::released) values.bootstrap = {};
    const advantage_outputs<T, Space> out{advantage, {}};
    const gae steps{.lambda = mode == frozen_advantage::one_step ? 0 : lambda};
    if (auto s = mode == frozen_advantage::action_value ? advantage_estimate<action_value>{}(be, sequences, values, out)
                                                        : advantage_estimate<gae>{steps}(be, sequences, values, out);
        !s)
      return s;
    if (!whiten_advantages) return {};
    return whitening{normalisation}(be, whiten_inputs<T, Space>{advantage, {}}, advantage);
  }
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status policy(B& be, const layout<typename B::space>& sequences, const token_inputs<T, Space>& in,
                const token_outputs<T, Space>& out) const {
    return loss(be, sequences, in, out);
  }
};
using dvpo = basic_dvpo<>;

}  // namespace rlhf::inline v1
