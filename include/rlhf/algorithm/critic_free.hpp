#pragma once
// Policy gradients without a critic: what GRPO, DAPO, RLOO, REINFORCE++, ReMax, GSPO and CISPO have in common.
//
//   sample G responses to each prompt with pi_old; score them; log-probabilities under pi_old and pi_ref
//   reward_t    = -beta log(pi_old / pi_ref)_t + score at the last token         where the KL is paid in the reward
//   advantage   = estimator(sum of a response's rewards | its group)             prepare()
//              or estimator(rewards along the tokens) less a baseline
//   advantage   = whiten(advantage)                                              where the algorithm does
//   for each epoch, each minibatch:
//     loss = objective(ratio, advantage) + penalty(pi, pi_ref), added up by its aggregate      policy()
//
// An algorithm is a choice of these parts: see grpo, dapo, rloo, reinforce_plus_plus, remax, gspo, cispo_policy.

#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/driver/sequence_loss.hpp"
#include "rlhf/objective/kl.hpp"

namespace rlhf::inline v1 {

/// What rollouts of groups offer to the estimate of advantages.
template <class T = float, class Space = host_space>
struct group_rollout_inputs {
  view<const T, 1, Space> old_logp{};  ///< [tokens]
  view<const T, 1, Space> ref_logp{};  ///< [tokens]; not needed where no KL is paid in the reward (coefficient 0)
  view<const T, 1, Space> score{};     ///< [sequences]; may be left out where the KL is all that is paid
  view<const T, 1, Space> baseline{};  ///< [sequences] the greedy responses' scores (ReMax)
  mask_view<Space> mask{};             ///< [tokens]
  grouping<Space> groups{};            ///< prompts
};

/// What prepare() writes. Both are required; masked slots are 0, but for a score that is placed there.
template <class T = float, class Space = host_space>
struct group_rollout_outputs {
  view<T, 1, Space> reward{};     ///< [tokens] shaped rewards
  view<T, 1, Space> advantage{};  ///< [tokens]
};

namespace critic_free_detail {

/// The sum of a sequence's elements.
template <class T, class Space>
struct sequence_sum {
  using scalar = compute_t<T>;
  static constexpr int sums = 1, maxima = 0;
  view<const T, 1, Space> x;
  T* out;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return rlhf::unit_stride(x); }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] = acc.sum[0] + load<V>(x, i);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<1>& found) const {
    out[s] = static_cast<T>(found.sum[0]);
  }
};

/// A response's advantage at each of its tokens; 0 in masked slots.
template <class T, class Space>
struct spread_advantage {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  const T* of_response;
  mask_view<Space> mask;
  view<T, 1, Space> out;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(mask) && rlhf::unit_stride(out);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0)), a(number_traits<V>::constant(static_cast<double>(of_response[s])));
    store(out, i, select(load_mask<V>(mask, i), a, zero));
  }
};

template <class Estimator>
inline constexpr bool along_tokens = requires { Estimator::scans; };

}  // namespace critic_free_detail

/// A critic-free algorithm by its parts, each of which may be replaced.
///
/// `Estimator` is one of groups (group_advantage, leave_one_out, optimal_baseline, ...) or one that runs along the tokens
/// (discounted_return); `Loss` a policy_loss or a sequence_policy_loss.
template <class Estimator, class Loss>
struct critic_free {
  kl_in_reward<k1> reward{{}, 0};  ///< the price of KL in the reward, and bounds of the score
  Estimator estimator{};
  bool whiten_advantages = false;
  whiten normalisation{};
  Loss loss{};

  /// Token rewards and advantages of groups of responses. Errors: those of the parts.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status prepare(B& be, const layout<typename B::space>& sequences, const group_rollout_inputs<T, Space>& in,
                 const group_rollout_outputs<T, Space>& out) const {
    using namespace critic_free_detail;
    constexpr const char* name = "critic_free";
    if (!out.reward && sequences.tokens > 0) return remark::null(name, "reward");
    if (!out.advantage && sequences.tokens > 0) return remark::null(name, "advantage");
    if (out.advantage.extent != sequences.tokens)
      return remark::shape(name, "advantage", out.advantage.extent, sequences.tokens);
    if (!in.score && reward.coefficient == 0 && sequences.sequences > 0) return remark::null(name, "score");
    if (auto s = reward_shaping<kl_in_reward<k1>>{reward}(
            be, sequences, shaping_inputs<T, Space>{in.old_logp, in.ref_logp, {}, in.score, in.mask, {}},
            shaping_outputs<T, Space>{out.reward, {}, {}});
        !s)
      return s;
    if constexpr (along_tokens<Estimator>) {
      if (auto s = advantage_estimate<Estimator>{estimator}(
              be, sequences, advantage_inputs<T, Space>{.reward = out.reward, .mask = in.mask, .baseline = in.baseline},
              advantage_outputs<T, Space>{out.advantage, {}});
          !s)
        return s;
    } else {
      auto of_response = be.template scratch<T>(2 * sequences.sequences);
      if (!of_response.data()) return remark::memory(name);
      T* const total = of_response.data();
      T* const found = total + sequences.sequences;
      if (auto s = be.segment_reduce(sequences, sequence_sum<T, Space>{out.reward, total}); !s) return s;
      if (auto s = grouped<Estimator>{estimator}(
              be, group_inputs<T, Space>{in.groups, view<const T, 1, Space>(total, sequences.sequences), {}},
              view<T, 1, Space>(found, sequences.sequences));
          !s)
        return s;
      if (auto s = be.segment_map(sequences, spread_advantage<T, Space>{found, in.mask, out.advantage}, nullptr); !s)
        return s;
    }
    if (!whiten_advantages) return {};
    return whitening{normalisation}(be, whiten_inputs<T, Space>{out.advantage, in.mask}, out.advantage);
  }

  /// The policy's loss, its gradient and statistics; `in.advantage` is [tokens].
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status policy(B& be, const layout<typename B::space>& sequences, const token_inputs<T, Space>& in,
                const token_outputs<T, Space>& out) const {
    if constexpr (requires { loss.reduction; }) {
      if (in.weight)
        return {errc::argument,
                "critic_free",
                "weight",
                "has elements:",
                static_cast<double>(in.weight.extent),
                0,
                "none: multiply the advantages"};
      return loss(be, sequences,
                  sequence_inputs<T, Space>{
                      .logp = in.logp, .old_logp = in.old_logp, .advantage = in.advantage, .mask = in.mask},
                  sequence_outputs<T, Space>{.loss = out.loss, .grad_logp = out.grad_logp, .stats = out.stats});
    } else {
      return loss(be, sequences, in, out);
    }
  }
};

}  // namespace rlhf::inline v1
