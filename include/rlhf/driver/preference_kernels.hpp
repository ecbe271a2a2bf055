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

/// Sums a side's tokens into its responses, and keeps each token's slope for the way back.
template <class T, class Space, class Reduction>
struct sum_responses {
  using scalar = compute_t<T>;
  static constexpr int sums = 3, maxima = 0;
  Reduction reduction;
  response_tokens<T, Space> side;
  const scalar* position;  // null where the reduction does not ask
  const scalar* shorter;   // [tokens]
  scalar* slope;
  T* logp;
  T* ref_logp;
  T* plain;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(side.logp) && rlhf::unit_stride(side.ref_logp) && rlhf::unit_stride(side.mask);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 3, 0>& acc) const {
    const V zero(number_traits<V>::constant(0));
    const mask_t<V> in = load_mask<V>(side.mask, i);
    response_token<dual<V, 1>> t;
    t.logp = dual<V, 1>::variable(load<V>(side.logp, i), 0);
    t.ref_logp = load_or<V>(side.ref_logp, i, 0);
    if (position != nullptr) {
      t.position = memory_traits<V>::load(position + i);
      t.shorter = memory_traits<V>::load(shorter + i);
    }
    const contribution<dual<V, 1>> c = reduction(t);
    acc.sum[0] = acc.sum[0] + select(in, c.logp.value, zero);
    acc.sum[1] = acc.sum[1] + select(in, c.ref_logp, zero);
    acc.sum[2] = acc.sum[2] + select(in, t.logp.value, zero);
    memory_traits<V>::store(slope + i, select(in, c.logp.partial[0], zero));
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<3>& found) const {
    logp[s] = static_cast<T>(found.sum[0]);
    ref_logp[s] = static_cast<T>(found.sum[1]);
    plain[s] = static_cast<T>(found.sum[2]);
  }
};

/// The gradient of a response, handed to its tokens; the NLL term's reaches every valid token alike.
template <class T, class Space>
struct spread_gradient {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  const T* per_pair;
  const T* nll;  // null without the term
  const scalar* slope;
  mask_view<Space> mask;
  view<T, 1, Space> gradient;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(mask) && rlhf::unit_stride(gradient);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0));
    V g = V(number_traits<V>::constant(static_cast<double>(per_pair[s]))) * memory_traits<V>::load(slope + i);
    if (nll != nullptr) g = g + V(number_traits<V>::constant(static_cast<double>(nll[s])));
    store(gradient, i, select(load_mask<V>(mask, i), g, zero));
  }
};

template <class T>
struct write_lengths {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  const double* chosen;
  const double* rejected;
  T* chosen_length;
  T* rejected_length;
  double* shorter;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    chosen_length[i] = static_cast<T>(chosen[i]);
    rejected_length[i] = static_cast<T>(rejected[i]);
    shorter[i] = chosen[i] < rejected[i] ? chosen[i] : rejected[i];
  }
};

}  // namespace preference_detail

}  // namespace rlhf::inline v1
