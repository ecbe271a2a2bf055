#pragma once
// Reasoning steps: values of their states from rollouts, and what a step has given to its tokens.

#include "rlhf/advantage/estimated_value.hpp"
#include "rlhf/backend/concept.hpp"

namespace rlhf::inline v1 {

/// What rollout_values writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct rollout_value_outputs {
  view<T, 1, Space> value{};     ///< [states]
  view<T, 1, Space> variance{};  ///< [states] of that value
};

namespace steps_detail {

template <class T, class Space>
struct average {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  layout<Space> rollouts;
  view<const T, 1, Space> returns;
  rollout_value_outputs<T, Space> out;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t, accumulator<V, 0, 0>&) const {}
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<0>&) const {
    moments all;
    for (std::int64_t i = rollouts[s].begin; i < rollouts[s].end; ++i) {
      const double r = static_cast<double>(returns[i]);
      if (r == r) all.merge({1, r, 0});
    }
    const rollout_value found = rollout_value::of(all);
    if (out.value) out.value[s] = static_cast<T>(found.value);
    if (out.variance) out.variance[s] = static_cast<T>(found.variance);
  }
};

template <class T, class Space>
struct spread_steps {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  layout<Space> steps;
  view<const T, 1, Space> x;
  view<const std::int32_t, 1, Space> step;
  mask_view<Space> mask;
  view<T, 1, Space> out;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, 0, 0>&) const {
    const segment range = steps[s];
    const bool valid = !mask || mask[i] != 0;
    const std::int64_t k = valid ? step[i] : -1;  // what stands outside the mask is not looked at
    const bool there = k >= 0 && k < range.end - range.begin;
    out[i] = there ? x[range.begin + k] : valid ? static_cast<T>(not_a_number) : T(0);
  }
};

}  // namespace steps_detail

/// Values of states from the returns of rollouts, a sequence of them for each state: `padded(states, K)` or packed.
///
/// A NaN return is "no rollout"; a state without any has value and variance NaN: not estimated, as step_advantage takes
/// it. Source: Kazemnejad et al. 2024 (VinePPO), arXiv 2410.01679; catalogue E-19. Errors: null, shape. Cost: one
/// thread a state.
struct rollout_values {
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& rollouts, const view<const T, 1, Space>& returns,
                    const std::type_identity_t<rollout_value_outputs<T, Space>>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "rollout_values";
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = rlhf::check(rollouts, name, "rollouts", "rollouts.offsets"); !s) return s;
    if (!returns && rollouts.tokens > 0) return remark::null(name, "returns");
    if (returns && returns.extent != rollouts.tokens)
      return remark::shape(name, "returns", returns.extent, rollouts.tokens);
    if (out.value && out.value.extent != rollouts.sequences)
      return remark::shape(name, "value", out.value.extent, rollouts.sequences);
    if (out.variance && out.variance.extent != rollouts.sequences)
      return remark::shape(name, "variance", out.variance.extent, rollouts.sequences);
    return be.segment_reduce(rollouts, steps_detail::average<T, Space>{rollouts, returns, out});
  }
};

/// Numbers of steps, and which step each token is in.
template <class T = float, class Space = host_space>
struct step_inputs {
  layout<Space> steps{};                      ///< the steps of each sequence
  view<const T, 1, Space> x{};                ///< [steps.tokens]
  view<const std::int32_t, 1, Space> step{};  ///< [tokens] number of the step within its sequence, from 0
  mask_view<Space> mask{};                    ///< [tokens]
};

/// Gives each token what its step has; masked tokens get exactly 0. A step that the sequence does not have is an error on the
/// host, and gives NaN on a device. Errors: null, shape, index. Cost: one pass.
struct steps_to_tokens {
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const step_inputs<T, Space>& in,
                    const std::type_identity_t<view<T, 1, Space>>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "steps_to_tokens";
    const std::int64_t n = sequences.tokens;
    if constexpr (std::same_as<Space, host_space>) {
      if (auto s = rlhf::check(sequences, name); !s) return s;
      if (auto s = rlhf::check(in.steps, name, "steps", "steps.offsets"); !s) return s;
    }
    if (in.steps.sequences != sequences.sequences)
      return remark::shape(name, "steps", in.steps.sequences, sequences.sequences);
    if (!in.x && in.steps.tokens > 0) return remark::null(name, "x");
    if (in.x && in.x.extent != in.steps.tokens) return remark::shape(name, "x", in.x.extent, in.steps.tokens);
    if (!in.step && n > 0) return remark::null(name, "step");
    if (in.step && in.step.extent != n) return remark::shape(name, "step", in.step.extent, n);
    if (in.mask && in.mask.extent != n) return remark::shape(name, "mask", in.mask.extent, n);
    if (!out && n > 0) return remark::null(name, "out");
    if (out.extent != n) return remark::shape(name, "out", out.extent, n);
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = in_range(name, sequences, in); !s) return s;
    return be.segment_map(sequences, steps_detail::spread_steps<T, Space>{in.steps, in.x, in.step, in.mask, out},
                          nullptr);
  }

 private:
  template <class T>
  [[nodiscard]] static status in_range(const char* name, const layout<>& sequences, const step_inputs<T>& in) {
    for (std::int64_t s = 0; s < sequences.sequences; ++s)
      for (std::int64_t i = sequences[s].begin; i < sequences[s].end; ++i)
        if ((!in.mask || in.mask[i] != 0) && (in.step[i] < 0 || in.step[i] >= in.steps[s].end - in.steps[s].begin))
          return {errc::index,
                  name,
                  "step",
                  "has the element",
                  static_cast<double>(in.step[i]),
                  0,
                  "the number of a step of its sequence"};
    return {};
  }
};

}  // namespace rlhf::inline v1
