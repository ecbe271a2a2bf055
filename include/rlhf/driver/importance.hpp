#pragma once
// Importance weights and rejections over a batch of sequences: what policy_loss takes as `weight` and `keep`.

#include "rlhf/driver/weights.hpp"
#include "rlhf/objective/importance.hpp"

namespace rlhf::inline v1 {

/// What a correction reads. `advantage` and `weight` have one element for each token, or one for each sequence.
template <class T = float, class Space = host_space>
struct importance_inputs {
  view<const T, 1, Space> logp{};          ///< [tokens] the trainer's: of the old policy, or of the present one
  view<const T, 1, Space> rollout_logp{};  ///< [tokens] the sampling engine's
  /// [tokens] log of the probability that top-k, top-p or min-p left to the sampler, where its log-probabilities are those
  /// of the distribution that they leave: added to rollout_logp, or the ratio would carry it (surviving_mass computes it).
  view<const T, 1, Space> log_mass{};
  view<const T, 1, Space> advantage{};
  view<const T, 1, Space> weight{};  ///< weights of an earlier correction
  mask_view<Space> mask{};           ///< [tokens]
  mask_view<Space> keep{};           ///< [tokens] what an earlier correction kept
  /// Sum and number of the weights of the whole batch, all parts of it added up, for `normalise`; in the backend's space. Else
  /// of these weights.
  const totals<2>* found = nullptr;
};

/// What it writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct importance_outputs {
  view<T, 1, Space> weight{};            ///< [tokens] 0 where rejected or masked
  view<std::uint8_t, 1, Space> keep{};   ///< [tokens] 0 where rejected or masked
  view<T, 1, Space> sequence_weight{};   ///< [sequences] of corrections that give a sequence one weight
  view<T, 1, Space> sequence_measure{};  ///< [sequences] what the rejection looked at
  totals<2>* total = nullptr;  ///< sum and number of the weights before they are normalised: a part of `found`
};

namespace importance_detail {

/// A view of tokens or of sequences, read by both numbers.
template <class T, class Space>
struct token_or_sequence {
  view<const T, 1, Space> from;
  bool by_token = true;
  double absent = not_a_number;
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V token(std::int64_t i) const {
    return by_token ? load_or<V>(from, i, absent) : V(number_traits<V>::constant(absent));
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double sequence(std::int64_t s) const {
    return !by_token && from ? static_cast<double>(from[s]) : absent;
  }
};

template <class T, class Space, class Correction>
struct streams {
  importance_inputs<T, Space> in;
  token_or_sequence<T, Space> advantage, weight;

  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE mismatch<V> token(std::int64_t i) const {
    mismatch<V> t;
    t.log_weight = load<V>(in.logp, i) - (load<V>(in.rollout_logp, i) + load_or<V>(in.log_mass, i, 0));
    t.advantage = advantage.template token<V>(i);
    t.weight = weight.template token<V>(i);
    t.sequence_weight = V(number_traits<V>::constant(1));
    return t;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(in.logp) && rlhf::unit_stride(in.rollout_logp) && rlhf::unit_stride(in.log_mass) &&
           rlhf::unit_stride(in.advantage) && rlhf::unit_stride(in.weight) && rlhf::unit_stride(in.mask) &&
           rlhf::unit_stride(in.keep);
  }
};

/// Tokens and sums of each sequence, and what is the same for all of its tokens.
template <class T, class Space, class Correction>
struct add_up {
  using scalar = compute_t<T>;
  static constexpr int sums = Correction::sums + 1, maxima = 0;
  Correction correction;
  streams<T, Space, Correction> from;
  importance_outputs<T, Space> out;
  double* found;

  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return from.unit_stride(); }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, sums, 0>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const mask_t<V> in = load_mask<V>(from.in.mask, i);
    V terms[static_cast<unsigned>(Correction::sums)];
    correction.add(from.template token<V>(i), terms);
    acc.sum[0] = acc.sum[0] + select(in, one, zero);
    for (int k = 1; k < sums; ++k) acc.sum[k] = acc.sum[k] + select(in, terms[k - 1], zero);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<sums>& total) const {
    double* const mine = found + s * sums;
    for (int k = 0; k < sums; ++k) mine[k] = total.sum[k];
    if (out.sequence_measure) out.sequence_measure[s] = static_cast<T>(correction.measure(mine[0], mine + 1));
    if (!out.sequence_weight) return;
    const mismatch<double> whole{not_a_number, from.advantage.sequence(s), 1, from.weight.sequence(s)};
    const bool kept = correction.keeps(whole, mine[0], mine + 1);
    out.sequence_weight[s] = static_cast<T>(kept ? correction.weigh(whole, mine[0], mine + 1) : 0);
  }
};

/// Weight and fate of each token. Sums: the weights, and how many they are.
template <class T, class Space, class Correction>
struct weigh_tokens {
  using scalar = compute_t<T>;
  static constexpr int sums = 2, maxima = 0;
  Correction correction;
  streams<T, Space, Correction> from;
  importance_outputs<T, Space> out;
  const double* found;

  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return from.unit_stride() && !out.keep && rlhf::unit_stride(out.weight);  // lanes store no bytes
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, 2, 0>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    constexpr int stride = Correction::sums + 1;
    const double tokens = found[s * stride];
    const double* const mine = found + s * stride + 1;
    mismatch<V> t = from.template token<V>(i);
    if (!from.advantage.by_token) t.advantage = V(number_traits<V>::constant(from.advantage.sequence(s)));
    if (!from.weight.by_token) t.sequence_weight = V(number_traits<V>::constant(from.weight.sequence(s)));
    const mask_t<V> in = load_mask<V>(from.in.mask, i);
    const mask_t<V> earlier = load_mask<V>(from.in.keep, i), passes = correction.keeps(t, tokens, mine);
    const mask_t<V> kept = in & earlier & passes;
    const V weight = select(kept, correction.weigh(t, tokens, mine), zero);
    acc.sum[0] = acc.sum[0] + weight;
    acc.sum[1] = acc.sum[1] + select(in, one, zero);
    store(out.weight, i, weight);
    if constexpr (memory_traits<V>::lanes == 1)
      if (out.keep) out.keep[i] = kept ? 1 : 0;
  }
};

/// The mean over the sequences that have tokens.
template <class T, class Space>
struct sequence_mean {
  using scalar = double;
  static constexpr int sums = 2, maxima = 0;
  view<const T, 1, Space> weight;
  const double* found;
  int stride;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, accumulator<V, 2, 0>& acc) const {
    if (!(found[s * stride] > 0)) return;
    acc.sum[0] = acc.sum[0] + static_cast<double>(weight[s]);
    acc.sum[1] = acc.sum[1] + 1;
  }
};

struct copy_total {
  const totals<2>* from;
  totals<2>* to;
  RLHF_HD RLHF_INLINE void operator()() const { *to = *from; }
};

template <class T, class Space>
struct divide {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  view<T, 1, Space> weight;
  const totals<2>* total;
  double scale = 1;
  RLHF_HD RLHF_INLINE void prepare() { scale = total->sum[0] > 0 ? total->sum[1] / total->sum[0] : 1; }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return rlhf::unit_stride(weight); }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    store(weight, i, load_or<V>(weight, i, 0) * V(number_traits<V>::constant(scale)));
  }
};

}  // namespace importance_detail

/// The weights of a correction: importance_correction, vespo_weight, or one of the caller's.
///
/// Shapes: streams [layout.tokens], advantage and weight [layout.tokens] or [layout.sequences]. Masked slots: inputs may be
/// anything, outputs are 0. A sequence without tokens has log-ratio 0: sequence_weight is what that gives. `normalise`
/// divides the weights by their mean over the valid tokens, rejected ones included (over sequences with tokens, for a
/// correction that gives each sequence one weight). No gradient flows: weights are constants of the loss.
/// Errors: null, shape, argument, memory. Cost: two passes over the tokens, one more to normalise. Catalogue I-01 to I-14.
template <class Correction>
struct importance_weights {
  Correction correction{};
  bool normalise = false;  ///< divide by the mean weight

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const importance_inputs<T, Space>& in,
                    const importance_outputs<T, Space>& out) const {
    static_assert(
        requires { Correction::sums; },
        "rlhf: a correction is a weight and a gate together: write importance_correction{weight, gate}, or one of "
        "the functions that name it, such as truncated_token_weights");
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    using namespace importance_detail;
    constexpr const char* name = "importance_weights";
    constexpr int stride = Correction::sums + 1;
    const std::int64_t n = sequences.tokens, rows = sequences.sequences;
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = check(sequences, name); !s) return s;
    const auto sized = [&](const auto& v, const char* what, std::int64_t want, bool required = false) -> status {
      if (!v) return required && want > 0 ? remark::null(name, what) : status{};
      return v.extent == want ? status{} : remark::shape(name, what, v.extent, want);
    };
    // With one token in each row either reading has the right size: a weight is then the token's, an advantage the row's.
    const bool rows_of_one = n == rows && sequences.offsets == nullptr;
    const bool advantage_by_token = !in.advantage || (in.advantage.extent == n && !rows_of_one);
    const bool weight_by_token = !in.weight || in.weight.extent == n;
    if (auto s = sized(in.logp, "logp", n, true); !s) return s;
    if (auto s = sized(in.rollout_logp, "rollout_logp", n, true); !s) return s;
    if (auto s = sized(in.log_mass, "log_mass", n); !s) return s;
    if (auto s = sized(in.advantage, "advantage", advantage_by_token ? n : rows, correction.reads_advantage()); !s)
      return s;
    if (auto s = sized(in.weight, "weight", weight_by_token ? n : rows); !s) return s;
    if (auto s = sized(in.mask, "mask", n); !s) return s;
    if (auto s = sized(in.keep, "keep", n); !s) return s;
    if (auto s = sized(out.weight, "weight", n); !s) return s;
    if (auto s = sized(out.keep, "keep", n); !s) return s;
    if (auto s = sized(out.sequence_weight, "sequence_weight", rows); !s) return s;
    if (auto s = sized(out.sequence_measure, "sequence_measure", rows); !s) return s;
    if (auto s = correction.check(); !s) return s;
    const bool whole = correction.by_sequence(in.advantage && advantage_by_token, in.weight && weight_by_token);
    if (out.sequence_weight && !whole)
      return {errc::argument,
              name,
              "sequence_weight",
              "is asked for",
              0,
              0,
              "a correction, an advantage and a weight that are the same for all tokens of a sequence"};

    auto found = be.template scratch<double>(stride * rows);
    auto total = be.template scratch<totals<2>>(1);
    const bool sums = normalise || out.total != nullptr;
    auto own = be.template scratch<T>(sums && whole && !out.sequence_weight ? rows : 0);
    if (!found.data() || !total.data() || !own.data()) return remark::memory(name);
    const streams<T, Space, Correction> from{
        in, {in.advantage, advantage_by_token, not_a_number}, {in.weight, weight_by_token, 1}};
    importance_outputs<T, Space> to = out;
    if (sums && whole && !to.sequence_weight) to.sequence_weight = {own.data(), rows};

    if (auto s = be.segment_reduce(sequences, add_up<T, Space, Correction>{correction, from, to, found.data()}); !s)
      return s;
    if (auto s = be.segment_map(sequences, weigh_tokens<T, Space, Correction>{correction, from, to, found.data()},
                                total.data());
        !s)
      return s;
    if (!sums) return {};
    if (whole)
      if (auto s = be.map(rows, sequence_mean<T, Space>{to.sequence_weight, found.data(), stride}, total.data()); !s)
        return s;
    if (out.total != nullptr)
      if (auto s = be.once(copy_total{total.data(), out.total}); !s) return s;
    if (!normalise) return {};
    const totals<2>* const by = in.found != nullptr ? in.found : total.data();
    if (out.sequence_weight)
      if (auto s = be.map(rows, divide<T, Space>{out.sequence_weight, by}, nullptr); !s) return s;
    return be.map(n, divide<T, Space>{out.weight, by}, nullptr);
  }
};
template <class C>
importance_weights(C) -> importance_weights<C>;
template <class C>
importance_weights(C, bool) -> importance_weights<C>;

}  // namespace rlhf::inline v1
