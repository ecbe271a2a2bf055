#pragma once
// VinePPO: PPO whose values are means over fresh rollouts from the states between the steps of a response.
//
//   sample responses; cut each into steps
//   V(s)  = mean return of K rollouts of the policy from every prefix s that ends where a step begins
//   A_i   = V(after step i) - V(before it), behind the last step the response's own return; the same for its tokens
//   A     = whiten(A)
//   loss  = -min(ratio A, clip(ratio) A), token mean, + 1e-4 times the sum of k3 over a response
//
// Kazemnejad et al. 2024, "VinePPO", arXiv 2410.01679 (ICML 2025). Defaults: theirs, K = 9. Catalogue E-19.

#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/steps.hpp"
#include "rlhf/objective/kl.hpp"

namespace rlhf::inline v1 {

/// What is known of the steps of responses.
template <class T = float, class Space = host_space>
struct vine_inputs {
  layout<Space> steps{};                      ///< the steps of each response
  view<const T, 1, Space> value{};            ///< [steps] of the state before each; NaN: not estimated
  view<const T, 1, Space> returns{};          ///< [sequences] of the responses themselves
  view<const std::int32_t, 1, Space> step{};  ///< [tokens] which step of its response a token is in
};

namespace vineppo_detail {

/// Adds the slopes of another loss.
template <class T, class Space>
struct add_to {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  const T* more;
  view<T, 1, Space> to;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    to[i] = to[i] + more[i];
  }
};

}  // namespace vineppo_detail

/// VinePPO. The loop that samples reads `rollouts`, `max_steps`, `kl_in_return` and `max_length`.
struct vineppo {
  std::int64_t rollouts = 9;    ///< K
  std::int64_t max_steps = 0;   ///< states of a response whose value is estimated; 0: all
  double kl_in_return = 0;      ///< beta: a return is the score less beta log pi / pi_ref of the whole response
  std::int64_t max_length = 0;  ///< tokens of a response with a rollout from within it; 0: each as the policy says
  bool whiten_advantages = true;
  whiten normalisation{};
  policy_loss<ppo_clip> objective{};
  policy_loss<none, kl_penalty<k3>, sequence_mean_token_sum> penalty{{}, {{.bound = 10}, 1e-4}, {}};

  [[nodiscard]] constexpr status check() const {
    if (rollouts < 1) return remark::argument("vineppo", "rollouts", static_cast<double>(rollouts), "1 or more");
    if (max_steps < 0)
      return remark::argument("vineppo", "max_steps", static_cast<double>(max_steps), "0 (all) or more");
    if (!(kl_in_return >= 0)) return remark::argument("vineppo", "kl_in_return", kl_in_return, "0 or more");
    if (max_length < 0)
      return remark::argument("vineppo", "max_length", static_cast<double>(max_length),
                              "0 (as the policy says) or more");
    return {};
  }

  /// Advantages [tokens]. Errors: those of the parts.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status prepare(B& be, const layout<typename B::space>& sequences, const vine_inputs<T, Space>& in,
                 const std::type_identity_t<view<T, 1, Space>>& advantage) const {
    auto of_step = be.template scratch<T>(in.steps.tokens);
    if (!of_step.data()) return remark::memory("vineppo");
    const view<T, 1, Space> gain(of_step.data(), in.steps.tokens);
    if (auto s = advantage_estimate<step_advantage>{}(
            be, in.steps, advantage_inputs<T, Space>{.value = in.value, .bootstrap = in.returns},
            advantage_outputs<T, Space>{gain, {}});
        !s)
      return s;
    if (auto s = steps_to_tokens{}(be, sequences, step_inputs<T, Space>{in.steps, gain, in.step, {}}, advantage); !s)
      return s;
    if (!whiten_advantages) return {};
    return whitening{normalisation}(be, whiten_inputs<T, Space>{advantage, {}}, advantage);
  }
  /// The policy's loss with the penalty, and its gradient.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status policy(B& be, const layout<typename B::space>& sequences, const token_inputs<T, Space>& in,
                const token_outputs<T, Space>& out) const {
    if (penalty.term.coefficient == 0) return objective(be, sequences, in, out);
    auto memory = be.template scratch<T>(sequences.tokens + 1);
    if (!memory.data()) return remark::memory("vineppo");
    const view<T, 1, Space> slope(memory.data(), sequences.tokens), value(memory.data() + sequences.tokens, 1);
    if (auto s = objective(be, sequences, in, out); !s) return s;
    if (auto s = penalty(be, sequences, in, token_outputs<T, Space>{.loss = value, .grad_logp = slope}); !s) return s;
    if (out.grad_logp)
      if (auto s = be.map(sequences.tokens, vineppo_detail::add_to<T, Space>{slope.data, out.grad_logp}, nullptr); !s)
        return s;
    return out.loss ? be.map(1, vineppo_detail::add_to<T, Space>{value.data, out.loss}, nullptr) : status{};
  }
};

}  // namespace rlhf::inline v1
