#pragma once
// Advantages of responses within their groups.

#include "rlhf/advantage/group.hpp"
#include "rlhf/advantage/group_baseline.hpp"
#include "rlhf/advantage/leave_one_out.hpp"
#include "rlhf/advantage/length_shaped.hpp"
#include "rlhf/advantage/pass_at_k.hpp"
#include "rlhf/advantage/selection.hpp"
#include "rlhf/driver/moments.hpp"

namespace rlhf::inline v1 {

namespace grouped_detail {

template <class T, class Space>
struct reward_at {
  view<const T, 1, Space> reward, response_weight;
  grouping<Space> groups;
  std::int64_t begin;
  [[nodiscard]] RLHF_HD RLHF_INLINE double operator()(std::int64_t j) const {
    return static_cast<double>(reward[groups[begin + j]]);
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double weight(std::int64_t j) const {
    return response_weight ? static_cast<double>(response_weight[groups[begin + j]]) : 1;
  }
};
/// The same in shared memory, where the groups lie side by side.
template <class T, int Arrays>
struct staged_reward {
  staged_row<T, Arrays> row;
  [[nodiscard]] RLHF_HD RLHF_INLINE double operator()(std::int64_t j) const {
    return static_cast<double>(row.in[0][j]);
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double weight([[maybe_unused]] std::int64_t j) const {
    if constexpr (Arrays > 1)
      return static_cast<double>(row.in[1][j]);
    else
      return 1;
  }
};
template <class T, int Arrays>
struct set_staged {
  staged_row<T, Arrays> row;
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j, double a) const { row.out[j] = static_cast<T>(a); }
};
template <class T, class Space>
struct set_at {
  view<T, 1, Space> advantage;
  grouping<Space> groups;
  std::int64_t begin;
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j, double a) const {
    advantage[groups[begin + j]] = static_cast<T>(a);
  }
};

template <class Estimator>
[[nodiscard]] RLHF_HD constexpr bool is_weighed() {
  if constexpr (requires { Estimator::weighed; })
    return Estimator::weighed;
  else
    return false;
}

/// A group is a handful of responses: one thread walks it.
template <class T, class Space, class Estimator>
struct group_kernel {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  Estimator estimator;
  grouping<Space> groups;
  view<const T, 1, Space> reward, weight;
  view<T, 1, Space> out;
  const moments* batch;
  const totals<1>* nonzero;
  const reward_moments* found;

  using stored = T;
  static constexpr int staged = is_weighed<Estimator>() ? 2 : 1;
  [[nodiscard]] RLHF_HD const T* staged_input(int k) const {
    return side_by_side() ? (k == 0 ? reward : weight).data : nullptr;
  }
  [[nodiscard]] RLHF_HD T* staged_output() const { return side_by_side() ? out.data : nullptr; }

  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t, accumulator<V, 0, 0>&) const {}
  RLHF_HD RLHF_INLINE void finish(std::int64_t g, const totals<0>&) const {
    const segment range = groups.groups[g];
    estimator(range.end - range.begin, reward_at<T, Space>{reward, weight, groups, range.begin},
              set_at<T, Space>{out, groups, range.begin}, of_the_batch());
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t, const staged_row<T, staged>& row) const {
    estimator(row.n, staged_reward<T, staged>{row}, set_staged<T, staged>{row}, of_the_batch());
  }

 private:
  [[nodiscard]] RLHF_HD RLHF_INLINE reward_moments of_the_batch() const {
    if (found != nullptr) return *found;
    return batch != nullptr ? reward_moments{*batch, nonzero->sum[0]} : reward_moments{};
  }
  [[nodiscard]] RLHF_HD bool side_by_side() const {
    return groups.order == nullptr && unit_stride(reward) && unit_stride(weight) && unit_stride(out) &&
           static_cast<bool>(weight) == is_weighed<Estimator>();
  }
};

/// Which elements are numbers; the sum counts those that are not 0.
template <class T, class Space>
struct mark_numbers {
  using scalar = double;
  static constexpr int sums = 1, maxima = 0;
  view<const T, 1, Space> x;
  std::uint8_t* out;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    const double value = static_cast<double>(x[i]);
    out[i] = value == value ? 1 : 0;
    acc.sum[0] = acc.sum[0] + (value == value && value != 0 ? 1.0 : 0.0);
  }
};

}  // namespace grouped_detail

/// Rewards of responses, and which of them belong together.
template <class T = float, class Space = host_space>
struct group_inputs {
  grouping<Space> groups{};
  view<const T, 1, Space> reward{};  ///< [responses]; NaN: no reward
  view<const T, 1, Space> weight{};  ///< [responses] such as their lengths, for estimators that weigh; 1 without it
  /// Of the rewards of the whole batch, all parts of it merged, for estimators that look at it; in the backend's space. Else of
  /// `reward` itself.
  const reward_moments* found = nullptr;
};

/// Advantages of responses within their groups: group_advantage, leave_one_out, optimal_baseline, group_policy_gradient,
/// mean_normalized, pass_at_k; or what is left of their rewards: group_filter, best_of_group.
///
/// Shapes: reward, weight and out [responses]; `out` must not be the memory of one of the others. A group without a reward
/// gives 0.
/// Errors: null, shape, argument, memory. Cost: one thread a group; three passes over the rewards before that where the estimator
/// looks at the batch.
template <class Estimator = group_advantage>
struct grouped {
  Estimator estimator{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const group_inputs<T, Space>& in, const std::type_identity_t<view<T, 1, Space>>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    static_assert(
        !requires { Estimator::scans; },
        "rlhf: this estimator runs along the tokens of a sequence, not over the responses of a group: call "
        "advantage_estimate");
    constexpr const char* name = "grouped";
    const std::int64_t n = in.reward.extent;
    if (!in.reward && n > 0) return remark::null(name, "reward");
    if (!out && n > 0) return remark::null(name, "out");
    if constexpr (grouped_detail::is_weighed<Estimator>())
      if (n > 0 && !in.weight) return remark::null(name, "weight");
    if (in.weight && in.weight.extent != n) return remark::shape(name, "weight", in.weight.extent, n);
    if (auto s = check(in.groups, n, name); !s) return s;
    if (out.extent != n) return remark::shape(name, "out", out.extent, n);
    if (auto s = estimator.check(); !s) return s;
    const auto walk = [&](const moments* batch, const totals<1>* nonzero) {
      return be.segment_reduce(in.groups.groups,
                               grouped_detail::group_kernel<T, Space, Estimator>{
                                   estimator, in.groups, in.reward, in.weight, out, batch, nonzero, in.found});
    };
    if (in.found != nullptr || !looks_at_batch(estimator)) return walk(nullptr, nullptr);
    auto cell = be.template scratch<moments>(1);
    auto scored = be.template scratch<std::uint8_t>(n);
    auto nonzero = be.template scratch<totals<1>>(1);
    if (!cell.data() || !scored.data() || !nonzero.data()) return remark::memory(name);
    if (auto s = be.map(n, grouped_detail::mark_numbers<T, Space>{in.reward, scored.data()}, nonzero.data()); !s)
      return s;
    if (auto s = masked_moments(be, name, in.reward, mask_view<Space>(scored.data(), n), cell.data()); !s) return s;
    return walk(cell.data(), nonzero.data());
  }
};
template <class E>
grouped(E) -> grouped<E>;

}  // namespace rlhf::inline v1
