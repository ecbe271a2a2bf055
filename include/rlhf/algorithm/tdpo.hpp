#pragma once
// Token-level DPO: DPO with the sequential KL divergence of both responses, from logits to logits.
//
//   M = sum_t log pi(y_t) - log ref(y_t),   K = sum_t KL(ref || pi) over the vocabulary
//   TDPO1: s = (M_c + K_c) - (M_r + K_r)
//   TDPO2: s = (M_c + alpha sg K_c) - (M_r + alpha K_r)
//   loss += -log sigmoid(beta s)
//
// Zeng et al. 2024, "Token-level Direct Preference Optimization", arXiv 2404.11999, eq. 13 (TDPO1) and 17 (TDPO2). The KL is
// summed row by row; no matrix beside the logits and their gradient is kept. Catalogue P-28, P-29.

#include "rlhf/driver/full_kl.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/objective/margin.hpp"

namespace rlhf::inline v1 {

enum class tdpo_version { tdpo1, tdpo2 };

/// One side of the pairs as logits: row i is token i of the layout.
template <class L = float, class Space = host_space, class Index = std::int32_t>
struct tdpo_side {
  layout<Space> sequences{};
  view<const L, 2, Space> logits{};      ///< [tokens, columns >= vocabulary]: differentiable
  view<const L, 2, Space> ref_logits{};  ///< [tokens, columns >= vocabulary]
  view<const Index, 1, Space> target{};  ///< [tokens]; what lies under the mask may be anything within the vocabulary
  mask_view<Space> mask{};
  view<L, 2, Space> grad_logits{};    ///< may lie on the logits; absent: no gradient
  view<compute_t<L>, 1, Space> kl{};  ///< [tokens]: KL(ref || pi) at each token; needed, as scratch or for its own sake
};

namespace tdpo_detail {

/// Adds `scale` times the sum of a response's KL to the offset of its pair.
template <class T, class Space>
struct add_to_offset {
  using scalar = compute_t<T>;
  static constexpr int sums = 1, maxima = 0;
  view<const T, 1, Space> kl;
  mask_view<Space> mask;
  double scale;
  bool first;
  T* offset;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    const V zero(number_traits<V>::constant(0));
    acc.sum[0] = acc.sum[0] + select(load_mask<V>(mask, i), load<V>(kl, i), zero);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<1>& found) const {
    const T more = static_cast<T>(scale * found.sum[0]);
    offset[s] = first ? more : offset[s] + more;
  }
};

/// dz = g [(1{k = y} - (1 - alpha) p_k) - alpha q_k] / tau. At alpha = 1 the policy itself has dropped out.
template <class T, class L>
struct gradient_column {
  const L* policy;
  const L* reference;
  L* to;
  T scale, policy_lse, reference_lse, minus_policy, minus_reference;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    const V p = exp(memory_traits<V>::load(policy + j) * V(scale) - V(policy_lse));
    const V q = exp(memory_traits<V>::load(reference + j) * V(scale) - V(reference_lse));
    memory_traits<V>::store(to + j, p * V(minus_policy) + q * V(minus_reference));
  }
};

template <class T, class L, class Space, class Index>
struct gradient_rows {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  tdpo_side<L, Space, Index> side;
  std::int64_t vocabulary;
  double alpha;
  T scale;
  const T *policy_lse, *reference_lse, *slope;

  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 0, 0>&) const {
    L* const to = side.grad_logits.row(r);
    const T g = slope[r] * scale;
    if (g == T(0) || (side.mask && side.mask[r] == 0)) {
      team.each(side.grad_logits.columns, logp_detail::clear_column<T, L>{to});
      return;
    }
    const L* const policy = side.logits.row(r);
    const L* const reference = side.ref_logits.row(r);
    const std::int64_t target = static_cast<std::int64_t>(side.target[r]);
    const T a = static_cast<T>(alpha);
    // Read before the row is overwritten: the gradient may lie on the logits.
    const T log_p = memory_traits<T>::load(policy + target) * scale - policy_lse[r];
    const T q = exp(memory_traits<T>::load(reference + target) * scale - reference_lse[r]);
    team.each(vocabulary, gradient_column<T, L>{policy, reference, to, scale, policy_lse[r], reference_lse[r],
                                                -g * (T(1) - a), -g * a});
    if (side.grad_logits.columns > vocabulary)
      team.each(side.grad_logits.columns - vocabulary, logp_detail::clear_column<T, L>{to + vocabulary});
    team.one([&] { memory_traits<T>::store(to + target, g * (a * (exp(log_p) - q) - expm1(log_p))); });
  }
};

}  // namespace tdpo_detail

/// The offset that makes dpo_offset TDPO: -beta alpha (K_c - K_r), each K the sum over a response's valid tokens of the
/// KL(ref || pi) given per token. alpha times dpo_offset's gradient in a log-probability is what flows into the KL beside it
/// (TDPO2: nothing on the chosen side).
template <class B, class T = float, class Space = typename B::space>
  requires backend<B>
status tdpo_offset(B& be, double beta, double alpha, const layout<Space>& chosen,
                   const std::type_identity_t<view<const T, 1, Space>>& chosen_kl,
                   const std::type_identity_t<mask_view<Space>>& chosen_mask, const layout<Space>& rejected,
                   const std::type_identity_t<view<const T, 1, Space>>& rejected_kl,
                   const std::type_identity_t<mask_view<Space>>& rejected_mask, const view<T, 1, Space>& offset) {
  constexpr const char* name = "tdpo_offset";
  const auto sized = [](std::int64_t got, std::int64_t want, const char* argument) {
    return got == want ? status{} : remark::shape(name, argument, got, want);
  };
  if (auto s = sized(rejected.sequences, chosen.sequences, "rejected"); !s) return s;
  if (auto s = sized(offset.extent, chosen.sequences, "offset"); !s) return s;
  if (auto s = sized(chosen_kl.extent, chosen.tokens, "chosen_kl"); !s) return s;
  if (auto s = sized(rejected_kl.extent, rejected.tokens, "rejected_kl"); !s) return s;
  using kernel = tdpo_detail::add_to_offset<T, Space>;
  if (auto s = be.segment_reduce(chosen, kernel{chosen_kl, chosen_mask, -beta * alpha, true, offset.data}); !s)
    return s;
  return be.segment_reduce(rejected, kernel{rejected_kl, rejected_mask, beta * alpha, false, offset.data});
}

/// TDPO. Errors are those of token_logp, full_kl and preference_loss, by which it is composed; costs four reads of each
/// matrix of logits and one write of the gradient.
struct tdpo {
  double beta = 0.1;                           ///< inverse temperature: weight of the log-ratios
  double alpha = 0.5;                          ///< of TDPO2; TDPO1 has 1
  tdpo_version version = tdpo_version::tdpo2;  ///< which of the two
  double temperature = 1;                      ///< divides the logits
  std::int64_t vocabulary = 0;                 ///< 0: all columns

  /// `out` takes the loss, per_pair, the implicit rewards beta M and statistics; gradients go to the sides' grad_logits.
  template <class B, class L = float, class Space = typename B::space, class Index = std::int32_t>
    requires backend<B>
  status operator()(B& be, const tdpo_side<L, Space, Index>& chosen, const tdpo_side<L, Space, Index>& rejected,
                    pair_outputs<compute_t<L>, Space> out) const {
    using T = compute_t<L>;
    constexpr const char* name = "tdpo";
    if (!(alpha >= 0)) return remark::argument(name, "alpha", alpha, "0 or more");
    const std::int64_t n[] = {chosen.sequences.tokens, rejected.sequences.tokens};
    const std::int64_t pairs = chosen.sequences.sequences;
    auto numbers = be.template scratch<T>(5 * (n[0] + n[1]) + pairs);
    if (!numbers.data()) return remark::memory(name);
    T* const of_chosen = numbers.data();
    T* const of_rejected = of_chosen + 5 * n[0];
    const view<T, 1, Space> offset(of_rejected + 5 * n[1], pairs);
    token_pair_inputs<T, Space> in;
    if (auto s = look(be, chosen, of_chosen, in.chosen); !s) return s;
    if (auto s = look(be, rejected, of_rejected, in.rejected); !s) return s;
    const double share = version == tdpo_version::tdpo1 ? 1 : alpha;
    if (auto s = tdpo_offset<B, T, Space>(be, beta, share, chosen.sequences, chosen.kl, chosen.mask, rejected.sequences,
                                          rejected.kl, rejected.mask, offset);
        !s)
      return s;
    in.margin = offset;
    out.grad_chosen = view<T, 1, Space>(of_chosen + 4 * n[0], n[0]);
    out.grad_rejected = view<T, 1, Space>(of_rejected + 4 * n[1], n[1]);
    const status done = preference_loss<dpo_offset>{{.beta = beta}}(be, in, out);
    if (!done && done.code != errc::empty_mask) return done;
    // TDPO2 lets nothing through the chosen side's KL.
    if (auto s = back(be, chosen, of_chosen, version == tdpo_version::tdpo1 ? 1 : 0); !s) return s;
    if (auto s = back(be, rejected, of_rejected, share); !s) return s;
    return done;
  }

 private:
  /// [tokens] each: logp, lse, ref_logp, ref_lse, slope.
  template <class B, class L, class Space, class Index, class T>
  [[nodiscard]] status look(B& be, const tdpo_side<L, Space, Index>& side, T* cells,
                            response_tokens<T, Space>& out) const {
    const std::int64_t n = side.sequences.tokens;
    const auto column = [&](int k) { return view<T, 1, Space>(cells + k * n, n); };
    if (!side.kl && n > 0) return remark::null("tdpo", "kl");
    logits_inputs<L, Space, Index> in{side.logits, side.target, vocabulary, temperature};
    in.ignore_index = static_cast<std::int64_t>(-1) << 62;  // the mask says what counts
    if (auto s = token_logp(be, in, logp_outputs<T, Space>{.logp = column(0), .lse = column(1)}); !s) return s;
    in.logits = side.ref_logits;
    if (auto s = token_logp(be, in, logp_outputs<T, Space>{.logp = column(2), .lse = column(3)}); !s) return s;
    if (auto s = full_kl(be,
                         full_kl_inputs<L, Space>{side.logits, side.ref_logits, side.mask, vocabulary, temperature,
                                                  kl_direction::forward},
                         full_kl_outputs<L, T, Space>{side.kl, {}, {}});
        !s)
      return s;
    out.sequences = side.sequences;
    out.logp = column(0);
    out.ref_logp = column(2);
    out.mask = side.mask;
    return {};
  }
  template <class B, class L, class Space, class Index, class T>
  [[nodiscard]] status back(B& be, const tdpo_side<L, Space, Index>& side, const T* cells, double share) const {
    if (!side.grad_logits) return {};
    const std::int64_t n = side.sequences.tokens;
    const std::int64_t columns = vocabulary > 0 ? vocabulary : side.logits.columns;
    if (side.grad_logits.rows != n) return remark::shape("tdpo", "grad_logits", side.grad_logits.rows, n);
    if (side.grad_logits.columns < columns)
      return {errc::shape,
              "tdpo",
              "grad_logits",
              "has columns:",
              static_cast<double>(side.grad_logits.columns),
              0,
              "at least the vocabulary"};
    return be.rows(n,
                   tdpo_detail::gradient_rows<T, L, Space, Index>{side, columns, share, static_cast<T>(1 / temperature),
                                                                  cells + n, cells + 3 * n, cells + 4 * n},
                   nullptr);
  }
};

}  // namespace rlhf::inline v1
