#pragma once
// Weighted preference optimisation: off-policy pairs count by how likely the policy itself would have written them.
//
//   w(y) = exp( mean_t [ log pi(y_t) - log sum_v pi(v)^2 ] )      a constant
//   loss = mean of w(chosen) w(rejected) L(pair), for any pair loss L
//
// Zhou et al. 2024, "WPO: Enhancing RLHF with Weighted Preference Optimization", arXiv 2406.11827, section 3.2 (sampled
// alignment); TRL's use_weighting. log sum_v pi(v)^2 is the logarithm of token_logp's square_sum. Catalogue P-19.

#include "rlhf/driver/fill.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/preference.hpp"

namespace rlhf::inline v1 {

namespace wpo_detail {

template <class T, class Space>
struct response_weight {
  using scalar = compute_t<T>;
  static constexpr int sums = 2, maxima = 0;
  view<const T, 1, Space> logp, log_square_sum;
  mask_view<Space> mask;
  view<T, 1, Space> weight;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 2, 0>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const auto in = load_mask<V>(mask, i);
    acc.sum[0] = acc.sum[0] + select(in, load<V>(logp, i) - load<V>(log_square_sum, i), zero);
    acc.sum[1] = acc.sum[1] + select(in, one, zero);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<2>& found) const {
    const double mean = found.sum[1] > 0 ? found.sum[0] / found.sum[1] : 0;
    weight[s] = weight[s] * static_cast<T>(exp(mean));
  }
};

template <class T, class Space>
struct multiply {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  view<const T, 1, Space> by;
  T* weight;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    weight[i] = weight[i] * by[i];
  }
};

}  // namespace wpo_detail

/// Writes the weight of each pair, w(chosen) w(rejected): what preference_loss takes as `weight`.
///
/// Shapes: `log_square_sum` [tokens] of either side as its logp; `weight` [pairs]. A response without tokens weighs 1.
template <class B, class T = float, class Space = typename B::space>
  requires backend<B>
status wpo_weights(B& be, const response_tokens<T, Space>& chosen,
                   const std::type_identity_t<view<const T, 1, Space>>& chosen_log_square_sum,
                   const response_tokens<T, Space>& rejected,
                   const std::type_identity_t<view<const T, 1, Space>>& rejected_log_square_sum,
                   const std::type_identity_t<view<T, 1, Space>>& weight) {
  constexpr const char* name = "wpo_weights";
  const std::int64_t pairs = chosen.sequences.sequences;
  if (rejected.sequences.sequences != pairs)
    return remark::shape(name, "rejected", rejected.sequences.sequences, pairs);
  if (!weight && pairs > 0) return remark::null(name, "weight");
  if (weight.extent != pairs) return remark::shape(name, "weight", weight.extent, pairs);
  if (auto s = be.map(pairs, fill<T>{weight.data, T(1)}, nullptr); !s) return s;
  const auto multiply = [&](const response_tokens<T, Space>& side, const view<const T, 1, Space>& squares,
                            const char* logp, const char* argument) -> status {
    const std::int64_t n = side.sequences.tokens;
    if (!side.logp && n > 0) return remark::null(name, logp);
    if (side.logp.extent != n) return remark::shape(name, logp, side.logp.extent, n);
    if (!squares && n > 0) return remark::null(name, argument);
    if (squares.extent != n) return remark::shape(name, argument, squares.extent, n);
    if (side.mask && side.mask.extent != n) return remark::shape(name, "mask", side.mask.extent, n);
    return be.segment_reduce(side.sequences,
                             wpo_detail::response_weight<T, Space>{side.logp, squares, side.mask, weight});
  };
  if (auto s = multiply(chosen, chosen_log_square_sum, "chosen.logp", "chosen_log_square_sum"); !s) return s;
  return multiply(rejected, rejected_log_square_sum, "rejected.logp", "rejected_log_square_sum");
}

/// Any pair loss with its pairs weighed by how likely the policy would have written them, as of this very call: `loss` is what
/// takes token_pair_inputs. Both sides of the inputs want `log_square_sum`; weights of the inputs multiply on top.
template <class Loss = preference_loss<dpo_sigmoid>>
struct wpo {
  Loss loss{};

  static constexpr bool needs_log_square_sum = true;
  [[nodiscard]] constexpr unsigned needs() const {
    if constexpr (declares_reads<Loss>())
      return needs_of(loss);
    else
      return field::references;
  }

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const token_pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out) const {
    constexpr const char* name = "wpo";
    const std::int64_t pairs = in.chosen.sequences.sequences;
    if (in.weight && in.weight.extent != pairs) return remark::shape(name, "weight", in.weight.extent, pairs);
    auto weight = be.template scratch<T>(pairs);
    if (!weight.data()) return remark::memory(name);
    token_pair_inputs<T, Space> weighed = in;
    weighed.weight = view<const T, 1, Space>(weight.data(), pairs);
    if (auto s = wpo_weights(be, in.chosen, in.chosen.log_square_sum, in.rejected, in.rejected.log_square_sum,
                             view<T, 1, Space>(weight.data(), pairs));
        !s)
      return s;
    if (in.weight)
      if (auto s = be.map(pairs, wpo_detail::multiply<T, Space>{in.weight, weight.data()}, nullptr); !s) return s;
    return loss(be, weighed, out);
  }
};
template <class L>
wpo(L) -> wpo<L>;

}  // namespace rlhf::inline v1
