#pragma once
// Rewards per token over a batch of responses.

#include "rlhf/backend/concept.hpp"
#include "rlhf/reward/shaping.hpp"

namespace rlhf::inline v1 {

/// What a shaping rule reads: constants of the loss. `old_logp` is required, `ref_logp` too but where KL costs nothing
/// (kl_in_reward with coefficient 0) and `kl` is not asked for.
template <class T = float, class Space = host_space>
struct shaping_inputs {
  view<const T, 1, Space> old_logp{};            ///< [tokens] of the policy that sampled the responses
  view<const T, 1, Space> ref_logp{};            ///< [tokens]
  view<const T, 1, Space> dpo_logp{};            ///< [tokens] of the DPO policy (RTO)
  view<const T, 1, Space> score{};               ///< [sequences]; 0 without it
  mask_view<Space> mask{};                       ///< [tokens]
  view<const std::int32_t, 1, Space> segment{};  ///< [tokens] segment numbers for rto_mode::semi
};

/// What it writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct shaping_outputs {
  view<T, 1, Space> reward{};   ///< [tokens]
  view<T, 1, Space> kl{};       ///< [tokens] the estimate itself, before its coefficient
  view<T, 1, Space> dpo_sum{};  ///< [sequences] sum of the DPO token rewards as paid (RTO)
};

namespace shaping_detail {

/// The slot that receives the score, or -1.
template <class Space>
[[nodiscard]] RLHF_HD RLHF_INLINE std::int64_t score_slot(const segment& range, const mask_view<Space>& mask,
                                                          score_placement placement) {
  std::int64_t last = -1;
  for (std::int64_t i = range.end - 1; i >= range.begin && last < 0; --i)
    if (!mask || mask[i] != 0) last = i;
  if (last < 0 || placement == score_placement::last) return last;
  if (placement == score_placement::last_column) return range.end - 1;
  return last + 1 < range.end ? last + 1 : last;
}

template <class T, class Space, class Estimator>
struct kl_rewards {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  kl_in_reward<Estimator> how;
  layout<Space> sequences;
  shaping_inputs<T, Space> in;
  shaping_outputs<T, Space> out;

  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(in.old_logp) && rlhf::unit_stride(in.ref_logp) && rlhf::unit_stride(in.mask) &&
           rlhf::unit_stride(out.reward) && rlhf::unit_stride(out.kl);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0));
    const mask_t<V> valid = load_mask<V>(in.mask, i);
    token<V> t;
    t.logp = t.old_logp = load<V>(in.old_logp, i);
    t.ref_logp = load_or<V>(in.ref_logp, i, 0);  // absent where nobody looks at the estimate
    const V kl = select(valid, how.estimator(t), zero);
    store(out.kl, i, kl);
    const V paid = kl * V(number_traits<V>::constant(how.coefficient));
    store(out.reward, i, how.coefficient != 0 ? zero - paid : zero);  // an estimate may overflow that nobody pays
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<0>&) const {
    if (out.dpo_sum) out.dpo_sum[s] = T(0);  // this rule pays none
    if (!in.score || !out.reward) return;
    const std::int64_t slot = score_slot(sequences[s], in.mask, how.placement);
    if (slot >= 0)
      out.reward[slot] =
          static_cast<T>(static_cast<double>(out.reward[slot]) + how.clip(static_cast<double>(in.score[s])));
  }
};

/// Rewards of tokens side by side; what is paid at ends of segments (rto_mode::semi) waits for a walk, as only a walk finds them.
template <class T, class Space>
struct rto_rewards {
  using scalar = compute_t<T>;
  static constexpr int sums = 1, maxima = 0;
  rto_reward how;
  layout<Space> sequences;
  shaping_inputs<T, Space> in;
  shaping_outputs<T, Space> out;

  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(in.old_logp) && rlhf::unit_stride(in.ref_logp) && rlhf::unit_stride(in.dpo_logp) &&
           rlhf::unit_stride(in.mask) && rlhf::unit_stride(out.reward) && rlhf::unit_stride(out.kl);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    const V zero(number_traits<V>::constant(0));
    const mask_t<V> valid = load_mask<V>(in.mask, i);
    const V ref = load<V>(in.ref_logp, i);
    const V kl = select(valid, load<V>(in.old_logp, i) - ref, zero);
    V reward = zero - kl * V(number_traits<V>::constant(how.beta2));
    if (how.beta1 != 0) {
      const V dpo = select(valid, how.token_reward(load<V>(in.dpo_logp, i), ref), zero);
      acc.sum[0] = acc.sum[0] + dpo;
      if (how.mode == rto_mode::dense || how.mode == rto_mode::shaping_only) reward = reward + dpo;
    }
    store(out.kl, i, kl);
    store(out.reward, i, reward);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<1>& found) const {
    const double sum = found.sum[0];
    if (out.dpo_sum) out.dpo_sum[s] = static_cast<T>(sum);
    if (!out.reward) return;
    const segment range = sequences[s];
    if (how.mode == rto_mode::semi && how.beta1 != 0) pay_segments(range);
    const std::int64_t last = score_slot(range, in.mask, score_placement::last);
    if (last < 0) return;
    if (how.mode == rto_mode::eos) pay(last, sum);
    if (how.mode == rto_mode::shaping_only) pay(last, -sum);
    if (in.score) pay(last, how.beta3 * static_cast<double>(in.score[s]));
  }

 private:
  RLHF_HD RLHF_INLINE void pay_segments(const segment& range) const {
    double unpaid = 0;
    std::int64_t open = -1;  // the last valid slot so far: where unpaid rewards of its segment go
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      if (in.mask && in.mask[i] == 0) continue;
      if (open >= 0 && in.segment[open] != in.segment[i]) {
        pay(open, unpaid);
        unpaid = 0;
      }
      unpaid += static_cast<double>(
          how.token_reward(static_cast<scalar>(in.dpo_logp[i]), static_cast<scalar>(in.ref_logp[i])));
      open = i;
    }
    if (open >= 0) pay(open, unpaid);
  }
  RLHF_HD RLHF_INLINE void pay(std::int64_t i, double amount) const {
    out.reward[i] = static_cast<T>(static_cast<double>(out.reward[i]) + amount);
  }
};

template <class T, class Space>
[[nodiscard]] status check(const char* name, const layout<Space>& sequences, const shaping_inputs<T, Space>& in,
                           const shaping_outputs<T, Space>& out) {
  if constexpr (std::same_as<Space, host_space>)
    if (auto s = rlhf::check(sequences, name); !s) return s;
  const std::int64_t n = sequences.tokens;
  const auto sized = [&](const auto& v, const char* what, std::int64_t want, bool required) -> status {
    if (!v) return required && want > 0 ? remark::null(name, what) : status{};
    return v.extent == want ? status{} : remark::shape(name, what, v.extent, want);
  };
  if (auto s = sized(in.old_logp, "old_logp", n, true); !s) return s;
  if (auto s = sized(in.ref_logp, "ref_logp", n, false); !s) return s;
  if (auto s = sized(in.dpo_logp, "dpo_logp", n, false); !s) return s;
  if (auto s = sized(in.mask, "mask", n, false); !s) return s;
  if (auto s = sized(in.segment, "segment", n, false); !s) return s;
  if (auto s = sized(in.score, "score", sequences.sequences, false); !s) return s;
  if (auto s = sized(out.reward, "reward", n, false); !s) return s;
  if (auto s = sized(out.kl, "kl", n, false); !s) return s;
  return sized(out.dpo_sum, "dpo_sum", sequences.sequences, false);
}

}  // namespace shaping_detail

/// Token rewards of a shaping rule: kl_in_reward or rto_reward.
///
/// Shapes [layout.tokens], score and dpo_sum [sequences]. Masked slots are 0 (but for a score that is placed there).
/// No gradient flows through rewards. Empty: a response without tokens drops its score. Errors: null, shape, argument.
/// Cost: one pass, then a search of each response's last token from its end.
template <class Rule>
struct reward_shaping {
  Rule rule{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const shaping_inputs<T, Space>& in,
                    const shaping_outputs<T, Space>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    static_assert(
        std::same_as<Rule, rto_reward> ||
            requires(const Rule& r) {
              r.estimator;
              r.placement;
            },
        "rlhf: a shaping rule makes rewards of tokens: kl_in_reward or rto_reward; a function of a score or a length "
        "(score_clip, soft_overlong, missing_eos) is called on the score before");
    constexpr const char* name = "reward_shaping";
    if (auto s = shaping_detail::check(name, sequences, in, out); !s) return s;
    if (auto s = rule.check(); !s) return s;
    return run(be, rule, sequences, in, out);
  }

 private:
  template <class B, class T, class Space, class Estimator>
  [[nodiscard]] static status run(B& be, const kl_in_reward<Estimator>& how, const layout<Space>& sequences,
                                  const shaping_inputs<T, Space>& in, const shaping_outputs<T, Space>& out) {
    if ((how.coefficient != 0 || out.kl) && !in.ref_logp && sequences.tokens > 0)
      return remark::null("reward_shaping", "ref_logp");
    return be.segment_reduce(sequences, shaping_detail::kl_rewards<T, Space, Estimator>{how, sequences, in, out});
  }
  template <class B, class T, class Space>
  [[nodiscard]] static status run(B& be, const rto_reward& how, const layout<Space>& sequences,
                                  const shaping_inputs<T, Space>& in, const shaping_outputs<T, Space>& out) {
    if (!in.ref_logp && sequences.tokens > 0) return remark::null("reward_shaping", "ref_logp");
    if (how.beta1 != 0 && !in.dpo_logp && sequences.tokens > 0) return remark::null("reward_shaping", "dpo_logp");
    if (how.mode == rto_mode::semi && !in.segment && sequences.tokens > 0)
      return remark::null("reward_shaping", "segment");
    return be.segment_reduce(sequences, shaping_detail::rto_rewards<T, Space>{how, sequences, in, out});
  }
};
template <class R>
reward_shaping(R) -> reward_shaping<R>;

}  // namespace rlhf::inline v1
