#pragma once
// The passes behind preference_loss: tokens to responses and back, implicit rewards, the NLL term.

#include "rlhf/driver/fill.hpp"
#include "rlhf/driver/preference_inputs.hpp"
#include "rlhf/driver/weights.hpp"
#include "rlhf/objective/response.hpp"

namespace rlhf::inline v1 {

namespace preference_detail {

template <class Objective>
[[nodiscard]] constexpr double reward_scale(const Objective& o) {
  if constexpr (requires { o.reward_scale(); })
    return o.reward_scale();
  else if constexpr (requires { o.beta; })
    return o.beta;
  else
    return 1;
}

/// Implicit rewards of both sides.
template <class T, class Space>
struct implicit_rewards {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  item_streams<pair, T, Space> streams;
  observer<pair> observe;
  mask_view<Space> mask;
  view<T, 1, Space> chosen, rejected;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return streams.unit_strides() && rlhf::unit_stride(mask) && rlhf::unit_stride(chosen) &&
           rlhf::unit_stride(rejected);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0));
    const mask_t<V> in = load_mask<V>(mask, i);
    const pair<V> p = streams.template plain<V>(i);
    store(chosen, i, select(in, observe.reward(p.chosen), zero));
    store(rejected, i, select(in, observe.reward(p.rejected), zero));
  }
};

/// Sums for the NLL term: -logp, tokens, -logp / tokens, pairs.
template <class T, class Space>
struct nll_sums {
  using scalar = compute_t<T>;
  static constexpr int sums = 4, maxima = 0;
  view<const T, 1, Space> logp, length;
  mask_view<Space> mask;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 4, 0>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const auto in = load_mask<V>(mask, i);
    const V nll = select(in, -load<V>(logp, i), zero), n = select(in, load<V>(length, i), zero);
    acc.sum[0] = acc.sum[0] + nll;
    acc.sum[1] = acc.sum[1] + n;
    acc.sum[2] = acc.sum[2] + nll / max(n, one);
    acc.sum[3] = acc.sum[3] + select(in, one, zero);
  }
};

template <class T, class Space>
struct add_nll {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  chosen_nll nll;
  const totals<4>* found;
  view<const T, 1, Space> length;
  mask_view<Space> mask;
  view<T, 1, Space> gradient;
  double scale = 0;
  RLHF_HD RLHF_INLINE void prepare() {
    const double over = nll.denominator(found->sum[1], found->sum[3]);
    scale = over > 0 ? nll.weight / over : 0;
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    V slope(number_traits<V>::constant(-scale));
    if (nll.reduction == nll_reduction::sequence_mean) slope = slope / max(load<V>(length, i), one);
    store(gradient, i, load<V>(gradient, i) + select(load_mask<V>(mask, i), slope, zero));
  }
};

template <class T>
struct write_nll {
  chosen_nll nll;
  const totals<4>* found;
  T* loss;
  T* term;
  RLHF_HD RLHF_INLINE void operator()() const {
    const bool by_token = nll.reduction == nll_reduction::token_mean;
    const double over = nll.denominator(found->sum[1], found->sum[3]);
    const double value = over > 0 ? found->sum[by_token ? 0 : 2] / over : 0;
    if (term != nullptr) *term = static_cast<T>(value);
    if (loss != nullptr) *loss = static_cast<T>(static_cast<double>(*loss) + nll.weight * value);
  }
};

/// Position of each valid token in its response, counted from the response's end by the scan.
template <class T, class Space>
struct mark_positions {
  using scalar = T;
  static constexpr int scans = 1;
  mask_view<Space> mask;
  const double* length;
  T* position;
  [[nodiscard]] RLHF_HD RLHF_INLINE T initial(std::int64_t, int) const { return 0; }
  template <class V, class Scan>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, Scan& scan) const {
    const V one(number_traits<V>::constant(1)), zero(number_traits<V>::constant(0));
    const V from_end = scan.inclusive(0, one, select(load_mask<V>(mask, i), one, zero));
    memory_traits<V>::store(position + i, V(number_traits<V>::constant(length[s] + 1)) - from_end);
  }
};

/// Does every token reach the sum of its response with slope 1? (`unit_slope`; a reduction that does not say: no.)
template <class Reduction>
[[nodiscard]] RLHF_HD constexpr bool has_unit_slope() {
  if constexpr (requires { requires Reduction::unit_slope; })
    return true;
  else
    return false;
}

/// The valid tokens of a side's responses: what was counted, or what the layout says where there is no mask.
template <class Space>
struct response_lengths {
  layout<Space> sequences;
  bool masked;
  [[nodiscard]] RLHF_HD RLHF_INLINE double operator()(std::int64_t s, double counted) const {
    const segment range = sequences[s];
    return masked ? counted : static_cast<double>(range.end - range.begin);
  }
};

/// Sums a side's tokens into its responses, counts them, and keeps each token's slope for the way back.
template <class T, class Space, class Reduction>
struct sum_responses {
  using scalar = compute_t<T>;
  static constexpr int sums = 4, maxima = 0;
  Reduction reduction;
  response_tokens<T, Space> side;
  const scalar* position;  // null where the reduction does not ask
  const scalar* shorter;   // [tokens]
  scalar* slope;           // not written where it is 1
  T* logp;
  T* ref_logp;
  T* plain;
  T* length;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(side.logp) && rlhf::unit_stride(side.ref_logp) && rlhf::unit_stride(side.mask);
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool aligned() const
    requires(has_unit_slope<Reduction>() && !Reduction::needs_position)
  {
    return begins_aligned(side.logp) && begins_aligned(side.ref_logp) && begins_aligned(side.mask);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 4, 0>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const mask_t<V> in = load_mask<V>(side.mask, i);
    response_token<dual<V, 1>> t;
    t.logp = dual<V, 1>::variable(load<V>(side.logp, i), 0);
    t.ref_logp = load_or<V>(side.ref_logp, i, 0);
    if constexpr (Reduction::needs_position) {
      t.position = memory_traits<V>::load(position + i);
      t.shorter = memory_traits<V>::load(shorter + i);
    }
    const contribution<dual<V, 1>> c = reduction(t);
    acc.sum[0] = acc.sum[0] + select(in, c.logp.value, zero);
    acc.sum[1] = acc.sum[1] + select(in, c.ref_logp, zero);
    if constexpr (!has_unit_slope<Reduction>()) {
      acc.sum[2] = acc.sum[2] + select(in, t.logp.value, zero);
      memory_traits<V>::store(slope + i, select(in, c.logp.partial[0], zero));
    }
    if (side.mask) acc.sum[3] = acc.sum[3] + select(in, one, zero);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<4>& found) const {
    logp[s] = static_cast<T>(found.sum[0]);
    ref_logp[s] = static_cast<T>(found.sum[1]);
    plain[s] = static_cast<T>(found.sum[has_unit_slope<Reduction>() ? 0 : 2]);
    length[s] = static_cast<T>(response_lengths<Space>{side.sequences, static_cast<bool>(side.mask)}(s, found.sum[3]));
  }
};

/// The gradient of a response, handed to its tokens; the NLL term's reaches every valid token alike.
template <class T, class Space, bool UnitSlope>
struct spread_gradient {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  const T* per_pair;
  const T* nll;         // null without the term
  const scalar* slope;  // not read where it is 1
  mask_view<Space> mask;
  view<T, 1, Space> gradient;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(mask) && rlhf::unit_stride(gradient);
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool aligned() const
    requires UnitSlope
  {
    return begins_aligned(mask) && begins_aligned(gradient);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0));
    V g(static_cast<scalar>(per_pair[s]));
    if constexpr (!UnitSlope) g = g * memory_traits<V>::load(slope + i);
    if (nll != nullptr) g = g + V(static_cast<scalar>(nll[s]));
    store(gradient, i, select(load_mask<V>(mask, i), g, zero));
  }
};

/// The same kernel over two sides of one padded shape, the second one's elements and sequences after the first one's: one launch.
template <class Kernel>
struct two_sides {
  using scalar = typename Kernel::scalar;
  static constexpr int sums = Kernel::sums, maxima = Kernel::maxima;
  Kernel first, second;
  std::int64_t elements, sequences;  ///< of the first side
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return first.unit_stride() && second.unit_stride(); }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool aligned() const
    requires requires(const Kernel& kernel) { kernel.aligned(); }
  {
    return elements % 16 == 0 && first.aligned() && second.aligned();
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, sums, maxima>& acc) const {
    if (i < elements)
      first.template operator()<V>(i, acc);
    else
      second.template operator()<V>(i - elements, acc);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, sums, maxima>& acc) const {
    if (i < elements)
      first.template operator()<V>(s, i, acc);
    else
      second.template operator()<V>(s - sequences, i - elements, acc);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<sums, maxima>& found) const {
    if (s < sequences)
      first.finish(s, found);
    else
      second.finish(s - sequences, found);
  }
};

/// The lengths of both sides, before their tokens are summed: for reductions that ask where a token stands.
template <class Space>
struct write_lengths {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  response_lengths<Space> chosen_length, rejected_length;
  double* chosen;  // counted where there is a mask
  double* rejected;
  double* shorter;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    chosen[i] = chosen_length(i, chosen[i]);
    rejected[i] = rejected_length(i, rejected[i]);
    shorter[i] = chosen[i] < rejected[i] ? chosen[i] : rejected[i];
  }
};

}  // namespace preference_detail

}  // namespace rlhf::inline v1
