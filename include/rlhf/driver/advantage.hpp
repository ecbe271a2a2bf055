#pragma once
// Advantages over a batch: scans over sequences, statistics over groups, whitening over everything.

#include "rlhf/advantage/estimated_value.hpp"
#include "rlhf/advantage/gae.hpp"
#include "rlhf/advantage/group.hpp"
#include "rlhf/advantage/group_baseline.hpp"
#include "rlhf/advantage/leave_one_out.hpp"
#include "rlhf/advantage/pass_at_k.hpp"
#include "rlhf/advantage/selection.hpp"
#include "rlhf/advantage/transition.hpp"
#include "rlhf/advantage/whiten.hpp"
#include "rlhf/driver/moments.hpp"

namespace rlhf::inline v1 {

/// What an estimate of advantages reads.
template <class T = float, class Space = host_space>
struct advantage_inputs {
  view<const T, 1, Space> reward{};     ///< [tokens]
  view<const T, 1, Space> value{};      ///< [tokens]; 0 without it
  mask_view<Space> mask{};              ///< [tokens]
  view<const T, 1, Space> bootstrap{};  ///< [sequences] value after the last step of a sequence that was cut short
  view<const T, 1, Space> baseline{};   ///< [sequences] taken from each advantage, not from the returns (ReMax)
  // For estimators that read transitions:
  view<const T, 1, Space> next_value{};  ///< [tokens]; without it that of the next valid step, then the bootstrap
  mask_view<Space> done{};               ///< [tokens] the episode ends there; nowhere without it
  view<const T, 1, Space> logp{};        ///< [tokens] of the policy
  view<const T, 1, Space> old_logp{};    ///< [tokens] of the policy that acted
  // For varying_gae:
  view<const T, 1, Space> gamma{};   ///< [tokens]
  view<const T, 1, Space> lambda{};  ///< [tokens]
};

/// What it writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct advantage_outputs {
  view<T, 1, Space> advantage{};  ///< [tokens]; may be the memory of reward or value
  view<T, 1, Space> returns{};    ///< [tokens]
};

namespace advantage_detail {

template <class Estimator>
[[nodiscard]] constexpr bool reads(unsigned what) {
  if constexpr (requires { Estimator::reads; })
    return (Estimator::reads & what) != 0;
  else
    return what == step::reward;
}

template <class T, class Space, class Estimator>
struct scan_kernel {
  using scalar = compute_t<T>;
  static constexpr bool transitions = reads<Estimator>(step::next_value);
  static constexpr int scans = Estimator::scans + (transitions ? 1 : 0);
  Estimator estimator;
  advantage_inputs<T, Space> in;
  advantage_outputs<T, Space> out;

  [[nodiscard]] RLHF_HD RLHF_INLINE double bootstrap(std::int64_t s) const {
    return in.bootstrap ? static_cast<double>(in.bootstrap[s]) : 0;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE scalar initial(std::int64_t s, int k) const {
    return static_cast<scalar>(k < Estimator::scans ? estimator.initial(k, bootstrap(s)) : bootstrap(s));
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(in.reward) && rlhf::unit_stride(in.value) && rlhf::unit_stride(in.mask) &&
           rlhf::unit_stride(in.next_value) && rlhf::unit_stride(in.done) && rlhf::unit_stride(in.logp) &&
           rlhf::unit_stride(in.old_logp) && rlhf::unit_stride(in.gamma) && rlhf::unit_stride(in.lambda) &&
           rlhf::unit_stride(out.advantage) && rlhf::unit_stride(out.returns);
  }
  template <class V, class Scan>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, Scan& scan) const {
    const V zero(number_traits<V>::constant(0));
    reward_step<V> x{load_or<V>(in.reward, i, 0), load_or<V>(in.value, i, 0), load_mask<V>(in.mask, i)};
    if constexpr (transitions) {
      const V one(number_traits<V>::constant(1));
      x.next_value = in.next_value
                         ? load<V>(in.next_value, i)
                         : scan.exclusive(Estimator::scans, select(x.valid, zero, one), select(x.valid, x.value, zero));
      x.done = in.done ? load_mask<V>(in.done, i) : mask_t<V>(false);
    }
    if constexpr (reads<Estimator>(step::log_ratio)) x.log_ratio = load<V>(in.logp, i) - load<V>(in.old_logp, i);
    if constexpr (reads<Estimator>(step::gamma)) x.gamma = load<V>(in.gamma, i);
    if constexpr (reads<Estimator>(step::lambda)) x.lambda = load<V>(in.lambda, i);
    const advantage_step<V> y = estimator(x, bootstrap(s), scan);
    const double baseline = in.baseline ? static_cast<double>(in.baseline[s]) : 0;
    store(out.advantage, i, select(x.valid, y.advantage - V(number_traits<V>::constant(baseline)), zero));
    store(out.returns, i, select(x.valid, y.returns, zero));
  }
};

template <class T, class Space>
struct whiten_kernel {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  rlhf::whiten how;
  const moments* found;
  view<const T, 1, Space> in;
  mask_view<Space> mask;
  view<T, 1, Space> out;
  double mean = 0, scale = 0, shift = 0;

  RLHF_HD RLHF_INLINE void prepare() {
    const rlhf::whiten::map m = how.of(*found);
    mean = found->mean;
    scale = m.scale;
    shift = m.shift;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(in) && rlhf::unit_stride(mask) && rlhf::unit_stride(out);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0));
    const V y = (load<V>(in, i) - V(number_traits<V>::constant(mean))) * V(number_traits<V>::constant(scale)) +
                V(number_traits<V>::constant(shift));
    store(out, i, select(load_mask<V>(mask, i), y, zero));
  }
};

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
template <class T, class Space>
struct set_at {
  view<T, 1, Space> advantage;
  grouping<Space> groups;
  std::int64_t begin;
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j, double a) const {
    advantage[groups[begin + j]] = static_cast<T>(a);
  }
};

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
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t, accumulator<V, 0, 0>&) const {}
  RLHF_HD RLHF_INLINE void finish(std::int64_t g, const totals<0>&) const {
    const segment range = groups.groups[g];
    estimator(range.end - range.begin, reward_at<T, Space>{reward, weight, groups, range.begin},
              set_at<T, Space>{out, groups, range.begin}, reward_moments{*batch, nonzero->sum[0]});
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

}  // namespace advantage_detail

/// An estimator that scans each sequence from its end: gae, varying_gae, discounted_return, td_lambda, vtrace, step_advantage,
/// action_value.
///
/// ReMax is discounted_return with the reward of the greedy response as the baseline (Li et al. 2023, arXiv 2310.10505;
/// catalogue E-10). Shapes [layout.tokens], bootstrap and baseline [sequences]. Masked slots give exactly 0 in both outputs. Empty sequences are passed
/// over. Constants of the loss: no gradient flows through them.
/// Errors: null, shape, argument. Cost: one pass; on lanes the recurrence costs log2(lanes) steps a packet.
template <class Estimator>
struct advantage_estimate {
  Estimator estimator{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const advantage_inputs<T, Space>& in,
                    const advantage_outputs<T, Space>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "advantage_estimate";
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = rlhf::check(sequences, name); !s) return s;
    const std::int64_t n = sequences.tokens;
    const auto sized = [&](const auto& v, const char* what, std::int64_t want) -> status {
      return !v || v.extent == want ? status{} : remark::shape(name, what, v.extent, want);
    };
    // An input that the estimator reads must be there; any that is there must be as long as it should.
    const auto given = [&](const auto& v, const char* what, unsigned read) -> status {
      if (n > 0 && !v && advantage_detail::reads<Estimator>(read)) return remark::null(name, what);
      return sized(v, what, n);
    };
    if (auto s = given(in.reward, "reward", step::reward); !s) return s;
    if (auto s = sized(in.value, "value", n); !s) return s;
    if (auto s = sized(in.mask, "mask", n); !s) return s;
    if (auto s = sized(in.bootstrap, "bootstrap", sequences.sequences); !s) return s;
    if (auto s = sized(in.baseline, "baseline", sequences.sequences); !s) return s;
    if (auto s = sized(in.next_value, "next_value", n); !s) return s;
    if (auto s = sized(in.done, "done", n); !s) return s;
    if (auto s = given(in.logp, "logp", step::log_ratio); !s) return s;
    if (auto s = given(in.old_logp, "old_logp", step::log_ratio); !s) return s;
    if (auto s = given(in.gamma, "gamma", step::gamma); !s) return s;
    if (auto s = given(in.lambda, "lambda", step::lambda); !s) return s;
    if (auto s = sized(out.advantage, "advantage", n); !s) return s;
    if (auto s = sized(out.returns, "returns", n); !s) return s;
    if (auto s = estimator.check(); !s) return s;
    return be.segment_scan(sequences, advantage_detail::scan_kernel<T, Space, Estimator>{estimator, in, out});
  }
};
template <class E>
advantage_estimate(E) -> advantage_estimate<E>;

/// What is whitened, over which elements, and by whose moments.
template <class T = float, class Space = host_space>
struct whiten_inputs {
  view<const T, 1, Space> x{};
  mask_view<Space> mask{};
  const moments* found =
      nullptr;  ///< moments from elsewhere (all shards merged), in the backend's space; else of x itself
};

/// Whitens `in.x` into `out`, which may be the same memory, over the valid elements; the others give exactly 0.
/// Shapes: all alike. Errors: null, shape, memory; nothing valid: `errc::empty_mask`. Cost: three passes, one with moments
/// from elsewhere.
struct whitening {
  whiten how{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const whiten_inputs<T, Space>& in,
                    const std::type_identity_t<view<T, 1, Space>>& out) const {
    constexpr const char* name = "whitening";
    const std::int64_t n = in.x.extent;
    if (!in.x && n > 0) return remark::null(name, "x");
    if (!out && n > 0) return remark::null(name, "out");
    if (in.mask && in.mask.extent != n) return remark::shape(name, "mask", in.mask.extent, n);
    if (out.extent != n) return remark::shape(name, "out", out.extent, n);
    if (auto s = how.check(); !s) return s;
    auto cell = be.template scratch<moments>(1);
    if (!cell.data()) return remark::memory(name);
    const moments* found = in.found;
    if (found == nullptr) {
      if (auto s = masked_moments(be, name, in.x, in.mask, cell.data()); !s) return s;
      found = cell.data();
    }
    if (auto s = be.map(n, advantage_detail::whiten_kernel<T, Space>{how, found, in.x, in.mask, out}, nullptr); !s)
      return s;
    if constexpr (B::synchronous)
      if (be.read(found).count == 0) return remark::empty(name, "mask");
    return {};
  }
};

/// Rewards of responses, and which of them belong together.
template <class T = float, class Space = host_space>
struct group_inputs {
  grouping<Space> groups{};
  view<const T, 1, Space> reward{};  ///< [responses]; NaN: no reward
  view<const T, 1, Space> weight{};  ///< [responses] such as their lengths, for estimators that weigh; 1 without it
};

/// Advantages of responses within their groups: group_advantage, leave_one_out, optimal_baseline, group_policy_gradient,
/// mean_normalized, pass_at_k; or what is left of their rewards: group_filter, best_of_group.
///
/// Shapes: reward, weight and out [responses]; `out` must not be the memory of one of the others. A group without a reward
/// gives 0.
/// Errors: null, shape, argument, memory. Cost: one thread a group.
template <class Estimator = group_advantage>
struct grouped {
  Estimator estimator{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const group_inputs<T, Space>& in, const std::type_identity_t<view<T, 1, Space>>& out) const {
    constexpr const char* name = "grouped";
    const std::int64_t n = in.reward.extent;
    if (!in.reward && n > 0) return remark::null(name, "reward");
    if (!out && n > 0) return remark::null(name, "out");
    if constexpr (requires { Estimator::weighed; })
      if (n > 0 && Estimator::weighed && !in.weight) return remark::null(name, "weight");
    if (in.weight && in.weight.extent != n) return remark::shape(name, "weight", in.weight.extent, n);
    if (auto s = check(in.groups, n, name); !s) return s;
    if (out.extent != n) return remark::shape(name, "out", out.extent, n);
    if (auto s = estimator.check(); !s) return s;
    auto cell = be.template scratch<moments>(1);
    auto scored = be.template scratch<std::uint8_t>(n);
    auto nonzero = be.template scratch<totals<1>>(1);
    if (!cell.data() || !scored.data() || !nonzero.data()) return remark::memory(name);
    if (auto s = be.map(n, advantage_detail::mark_numbers<T, Space>{in.reward, scored.data()}, nonzero.data()); !s)
      return s;
    if (auto s = masked_moments(be, name, in.reward, mask_view<Space>(scored.data(), n), cell.data()); !s) return s;
    return be.segment_reduce(in.groups.groups,
                             advantage_detail::group_kernel<T, Space, Estimator>{
                                 estimator, in.groups, in.reward, in.weight, out, cell.data(), nonzero.data()});
  }
};
template <class E>
grouped(E) -> grouped<E>;

}  // namespace rlhf::inline v1
