#pragma once
// Groups of two levels: episodes that answer the same task, and their steps that start from the same state (GiGPO).

#include "rlhf/driver/advantage.hpp"

namespace rlhf::inline v1 {

/// Episodes of an agent, as sequences of steps.
template <class T = float, class Space = host_space>
struct anchor_inputs {
  view<const T, 1, Space> reward{};  ///< [steps]
  grouping<Space> tasks{};           ///< which episodes belong to the same task
  grouping<Space> anchors{};         ///< which steps start from the same state of the same task
  mask_view<Space> mask{};           ///< [steps]; for padded episodes. Masked steps may be in any group
};

namespace anchor_detail {

template <class T, class Space>
struct episode_returns {
  using scalar = compute_t<T>;
  static constexpr int sums = 1, maxima = 0;
  view<const T, 1, Space> reward;
  mask_view<Space> mask;
  view<T, 1, Space> out;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(reward) && rlhf::unit_stride(mask);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] = acc.sum[0] + select(load_mask<V>(mask, i), load<V>(reward, i), V(number_traits<V>::constant(0)));
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<1>& found) const {
    out[s] = static_cast<T>(found.sum[0]);
  }
};

/// Steps outside the mask have no return: groups leave them out.
template <class T, class Space>
struct drop_masked {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  mask_view<Space> mask;
  view<T, 1, Space> x;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    if (mask && mask[i] == 0) x[i] = static_cast<T>(not_a_number);
  }
};

template <class T, class Space>
struct add_levels {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  view<const T, 1, Space> episode, step;
  mask_view<Space> mask;
  double weight;
  view<T, 1, Space> out;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, 0, 0>&) const {
    const double sum = static_cast<double>(episode[s]) + weight * static_cast<double>(step[i]);
    out[i] = mask && mask[i] == 0 ? T(0) : static_cast<T>(sum);
  }
};

}  // namespace anchor_detail

/// GiGPO: \f$ A_{it} = A^E_i + \omega A^S_{it} \f$, A^E the advantage of the episode's summed reward within its task, A^S that of
/// the step's discounted return within the steps that start from the same state.
///
/// `estimator` is both; `scale` none is the paper's variant without a deviation. A step whose state no other episode visits has
/// A^S = 0 with `lone_response::zero`. Masked steps give exactly 0.
/// Source: Feng et al. 2025, arXiv 2505.10978; catalogue E-17. Errors: null, shape, index, argument, memory. Cost: two calls of
/// `grouped`, one scan, three passes.
template <class Estimator = group_advantage>
struct anchor_groups {
  Estimator estimator{};
  double gamma = 0.95;  ///< discount of a step
  double weight = 1;    ///< omega

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& episodes, const anchor_inputs<T, Space>& in,
                    const std::type_identity_t<view<T, 1, Space>>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    using namespace anchor_detail;
    constexpr const char* name = "anchor_groups";
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = rlhf::check(episodes, name); !s) return s;
    const std::int64_t n = episodes.tokens, count = episodes.sequences;
    if (!in.reward && n > 0) return remark::null(name, "reward");
    if (in.reward && in.reward.extent != n) return remark::shape(name, "reward", in.reward.extent, n);
    if (in.mask && in.mask.extent != n) return remark::shape(name, "mask", in.mask.extent, n);
    if (!out && n > 0) return remark::null(name, "out");
    if (out.extent != n) return remark::shape(name, "out", out.extent, n);
    auto episode = be.template scratch<T>(count);
    auto step = be.template scratch<T>(n);
    auto relative = be.template scratch<T>(count);
    auto relative_step = be.template scratch<T>(n);
    if (!episode.data() || !step.data() || !relative.data() || !relative_step.data()) return remark::memory(name);
    const view<T, 1, Space> per_episode(episode.data(), count), per_step(step.data(), n);
    const view<T, 1, Space> between(relative.data(), count), within(relative_step.data(), n);
    if (auto s = be.segment_reduce(episodes, episode_returns<T, Space>{in.reward, in.mask, per_episode}); !s) return s;
    if (auto s = grouped<Estimator>{estimator}(be, group_inputs<T, Space>{in.tasks, per_episode, {}}, between); !s)
      return s;
    advantage_inputs<T, Space> steps;
    steps.reward = in.reward;
    steps.mask = in.mask;
    if (auto s = advantage_estimate<discounted_return>{{gamma}}(be, episodes, steps,
                                                                advantage_outputs<T, Space>{{}, per_step});
        !s)
      return s;
    if (auto s = be.map(n, drop_masked<T, Space>{in.mask, per_step}, nullptr); !s) return s;
    if (auto s = grouped<Estimator>{estimator}(be, group_inputs<T, Space>{in.anchors, per_step, {}}, within); !s)
      return s;
    return be.segment_map(episodes, add_levels<T, Space>{between, within, in.mask, weight, out}, nullptr);
  }
};
template <class E>
anchor_groups(E) -> anchor_groups<E>;
template <class E>
anchor_groups(E, double) -> anchor_groups<E>;
template <class E>
anchor_groups(E, double, double) -> anchor_groups<E>;

}  // namespace rlhf::inline v1
