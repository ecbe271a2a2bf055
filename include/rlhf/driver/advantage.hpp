#pragma once
// Advantages over a batch: scans over sequences, whitening over everything; groups are in driver/grouped.hpp.

#include "rlhf/advantage/estimated_value.hpp"
#include "rlhf/advantage/gae.hpp"
#include "rlhf/advantage/transition.hpp"
#include "rlhf/advantage/whiten.hpp"
#include "rlhf/driver/grouped.hpp"
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
[[nodiscard]] RLHF_HD constexpr bool reads(unsigned what) {
  if constexpr (requires { Estimator::reads; })
    return (Estimator::reads & what) != 0;
  else
    return what == step::reward;
}

template <class Estimator>
concept tells_levels = requires { Estimator::level(0); };

/// Without a mask (`Masked` false) every slot is a token.
template <class T, class Space, class Estimator, bool Masked = true>
struct scan_kernel {
  using scalar = compute_t<T>;
  static constexpr bool transitions = reads<Estimator>(step::next_value);
  static constexpr int scans = Estimator::scans + (transitions ? 1 : 0);
  [[nodiscard]] static RLHF_HD constexpr int level(int k)
    requires tells_levels<Estimator>
  {
    return k == Estimator::scans ? 0 : Estimator::level(k);
  }
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
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE reward_step<V> fetch(std::int64_t i) const {
    reward_step<V> x{load_or<V>(in.reward, i, 0), load_or<V>(in.value, i, 0), mask_t<V>(true)};
    if constexpr (Masked) x.valid = load_mask<V>(in.mask, i);
    if constexpr (transitions) {
      x.next_value = load_or<V>(in.next_value, i, 0);
      x.done = in.done ? load_mask<V>(in.done, i) : mask_t<V>(false);
    }
    if constexpr (reads<Estimator>(step::log_ratio)) x.log_ratio = load<V>(in.logp, i) - load<V>(in.old_logp, i);
    if constexpr (reads<Estimator>(step::gamma)) x.gamma = load<V>(in.gamma, i);
    if constexpr (reads<Estimator>(step::lambda)) x.lambda = load<V>(in.lambda, i);
    return x;
  }
  template <class V, class Scan>
  [[nodiscard]] RLHF_HD RLHF_INLINE advantage_step<V> solve(std::int64_t s, reward_step<V> x, Scan& scan) const {
    if constexpr (transitions) {
      const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
      if (!in.next_value)
        x.next_value = scan.exclusive(Estimator::scans, select(x.valid, zero, one), select(x.valid, x.value, zero));
    }
    return estimator(x, bootstrap(s), scan);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void place(std::int64_t s, std::int64_t i, const reward_step<V>& x,
                                 const advantage_step<V>& y) const {
    const V zero(number_traits<V>::constant(0));
    V advantage = y.advantage;
    if (in.baseline) advantage = advantage - V(number_traits<V>::constant(static_cast<double>(in.baseline[s])));
    store(out.advantage, i, Masked ? select(x.valid, advantage, zero) : advantage);
    store(out.returns, i, Masked ? select(x.valid, y.returns, zero) : y.returns);
  }
  template <class V, class Scan>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, Scan& scan) const {
    const reward_step<V> x = fetch<V>(i);
    place<V>(s, i, x, solve<V>(s, x, scan));
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
    static_assert(
        requires { Estimator::scans; },
        "rlhf: this estimator does not run along a sequence (it has no `scans`): estimators of groups go into "
        "grouped, whiten into whitening, optimal_token_baseline into token_baseline");
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
    if constexpr (requires { estimator.without_gaps(); }) {
      if (!in.mask) {
        const auto dense = estimator.without_gaps();
        return be.segment_scan(
            sequences,
            advantage_detail::scan_kernel<T, Space, std::remove_const_t<decltype(dense)>, false>{dense, in, out});
      }
    }
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
    if constexpr (B::synchronous) {
      moments seen;
      if (auto s = read_cell(be, found, seen); !s) return s;
      if (seen.count == 0) return remark::empty(name, "mask");
    }
    return {};
  }
};

}  // namespace rlhf::inline v1
