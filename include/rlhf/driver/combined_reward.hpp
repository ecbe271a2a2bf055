#pragma once
// Several reward functions: combined before the groups look at them, or normalised in the groups each for itself.

#include "rlhf/advantage/combined_reward.hpp"
#include "rlhf/driver/advantage.hpp"

namespace rlhf::inline v1 {

/// What several reward functions say of each response.
template <class T = float, class Space = host_space>
struct rewards_inputs {
  view<const T, 2, Space> rewards{};  ///< [responses][functions]; NaN: the function does not apply
  view<const T, 1, Space> weight{};   ///< [functions]; 1 without it
  view<const T, 1, Space> penalty{};  ///< [responses] what combined_reward subtracts; 0 without it
};

namespace combined_detail {

template <class T>
struct row_of {
  const T* data;
  [[nodiscard]] RLHF_HD RLHF_INLINE double operator()(std::int64_t k) const { return static_cast<double>(data[k]); }
};
template <class T, class Space>
struct weight_of {
  view<const T, 1, Space> weight;
  [[nodiscard]] RLHF_HD RLHF_INLINE double operator()(std::int64_t k) const {
    return weight ? static_cast<double>(weight[k]) : 1;
  }
};

template <class T, class Space>
struct combine {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  combined_reward how;
  rewards_inputs<T, Space> in;
  view<T, 1, Space> out;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    const double paid = in.penalty ? static_cast<double>(in.penalty[i]) : 0;
    out[i] =
        static_cast<T>(how(in.rewards.columns, row_of<T>{in.rewards.row(i)}, weight_of<T, Space>{in.weight}, paid));
  }
};

template <class T, class Space>
[[nodiscard]] status check(const char* name, const rewards_inputs<T, Space>& in, const view<T, 1, Space>& out) {
  const std::int64_t n = in.rewards.rows, k = in.rewards.columns;
  if (n > 0 && !in.rewards) return remark::null(name, "rewards");
  if (in.weight && in.weight.extent != k) return remark::shape(name, "weight", in.weight.extent, k);
  if (in.penalty && in.penalty.extent != n) return remark::shape(name, "penalty", in.penalty.extent, n);
  if (n > 0 && !out) return remark::null(name, "out");
  return out.extent == n ? status{} : remark::shape(name, "out", out.extent, n);
}

}  // namespace combined_detail

/// The rewards of responses from those of the functions. Errors: null, shape, argument. Cost: one pass.
struct reward_combination {
  combined_reward how{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const rewards_inputs<T, Space>& in,
                    const std::type_identity_t<view<T, 1, Space>>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    if (auto s = combined_detail::check("reward_combination", in, out); !s) return s;
    if (auto s = how.check(); !s) return s;
    return be.map(in.rewards.rows, combined_detail::combine<T, Space>{how, in, out}, nullptr);
  }
};

/// GDPO: \f$ R_i = \sum_k w_k A_{ik} \f$, each reward function k made relative to its group on its own, so that functions with
/// large rewards do not drown the others. Whiten R afterwards: over responses (TRL) or over their tokens (verl).
///
/// A response to which a function does not apply (NaN) gets nothing from it. Any estimator of a group will do.
/// Source: Liu et al. 2026, arXiv 2601.05242; catalogue E-06. Errors: null, shape, argument, memory. Cost: `grouped` for each
/// function, then one pass.
template <class Estimator = group_advantage>
struct decoupled_groups {
  Estimator estimator{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const grouping<Space>& groups, const rewards_inputs<T, Space>& in,
                    const std::type_identity_t<view<T, 1, Space>>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "decoupled_groups";
    if (auto s = combined_detail::check(name, in, out); !s) return s;
    const std::int64_t n = in.rewards.rows, functions = in.rewards.columns;
    auto relative = be.template scratch<T>(n * functions);
    if (!relative.data()) return remark::memory(name);
    for (std::int64_t k = 0; k < functions; ++k) {
      const group_inputs<T, Space> one{groups, {in.rewards.data + k, n, in.rewards.pitch}, {}};
      if (auto s = grouped<Estimator>{estimator}(be, one, view<T, 1, Space>(relative.data() + k, n, functions)); !s)
        return s;
    }
    const rewards_inputs<T, Space> all{{relative.data(), n, functions}, in.weight, {}};
    return be.map(n, combined_detail::combine<T, Space>{{}, all, out}, nullptr);
  }
};
template <class E>
decoupled_groups(E) -> decoupled_groups<E>;

}  // namespace rlhf::inline v1
