#pragma once
// The row kernels behind token_logp: what it takes and gives, and the two passes over a row.

#include "rlhf/backend/concept.hpp"
#include "rlhf/core/statistics.hpp"
#include "rlhf/driver/largest.hpp"

namespace rlhf::inline v1 {

/// Rows of logits and the token each row is scored at. `L` is the stored type: float, double, bfloat16 or float16.
///
/// The row's first `vocabulary` columns are the vocabulary (0: all columns); what follows is padding that is never read.
/// Minus infinity is a legal logit (an impossible token). Logits are divided by `temperature` in the arithmetic type.
template <class L = float, class Space = host_space, class Index = std::int32_t>
struct logits_inputs {
  view<const L, 2, Space> logits{};      ///< [rows, columns >= vocabulary]
  view<const Index, 1, Space> target{};  ///< [rows]
  std::int64_t vocabulary = 0;
  double temperature = 1;
  std::int64_t ignore_index = -100;  ///< rows with this target give 0 everywhere and are not counted
};

/// What token_logp writes; what is absent is not computed.
template <class T = float, class Space = host_space>
struct logp_outputs {
  view<T, 1, Space> logp{};                  ///< log-probability of the target, nats
  view<T, 1, Space> entropy{};               ///< of the whole distribution, nats
  view<T, 1, Space> lse{};                   ///< log-sum-exp of the scaled logits: keep it for the backward pass
  view<T, 1, Space> square_sum{};            ///< sum of p squared
  view<std::int64_t, 1, Space> argmax{};     ///< the most likely token, the first of equals
  statistics* stats = nullptr;               ///< rows, nonfinite log-probabilities, mean entropy where computed
  view<T, 2, Space> top_logp{};              ///< [rows, k] the k largest log-probabilities, from the largest down
  view<std::int64_t, 2, Space> top_token{};  ///< [rows, k] whose they are; of equal ones the smaller id comes first
};

/// What flows back. With null `entropy` no entropy gradient is taken.
template <class T = float, class Space = host_space>
struct logp_gradients {
  view<const T, 1, Space> lse{};
  view<const T, 1, Space> grad_logp{};     ///< d loss / d logp
  view<const T, 1, Space> entropy{};       ///< the forward pass's entropy, needed for grad_entropy
  view<const T, 1, Space> grad_entropy{};  ///< d loss / d entropy
};

namespace logp_detail {

template <class V>
using plain_row = online_softmax<V, false, false>;
template <class V>
using entropy_row = online_softmax<V, true, false>;
template <class V>
using square_row = online_softmax<V, false, true>;
template <class V>
using full_row = online_softmax<V, true, true>;
// For teams that know places: the largest logit's place comes with the same read.
template <class V>
using placed_plain_row = placed_softmax<V, false, false>;
template <class V>
using placed_entropy_row = placed_softmax<V, true, false>;
template <class V>
using placed_square_row = placed_softmax<V, false, true>;
template <class V>
using placed_full_row = placed_softmax<V, true, true>;

/// Are there as many rows of a matrix as there should be, and, where it is written, do they lie apart?
template <class T, class Space>
[[nodiscard]] constexpr status check_rows(const view<T, 2, Space>& v, const char* function, const char* argument,
                                          std::int64_t rows) {
  if (v.rows != rows) return remark::shape(function, argument, v.rows, rows, "rows");
  if (!std::is_const_v<T> && rows > 1 && v.pitch < v.columns) return remark::overlap(function, argument, v.pitch);
  return {};
}

/// The views of the top k: both or none, of one shape.
template <class T, class Space>
[[nodiscard]] status check_top(const logp_outputs<T, Space>& out, std::int64_t rows, std::int64_t vocabulary,
                               const char* name) {
  if (!out.top_logp && !out.top_token) return {};
  if (!out.top_logp && rows > 0) return remark::null(name, "top_logp");
  if (!out.top_token && rows > 0) return remark::null(name, "top_token");
  if (auto s = check_rows(out.top_logp, name, "top_logp", rows); !s) return s;
  if (auto s = check_rows(out.top_token, name, "top_token", rows); !s) return s;
  const std::int64_t k = out.top_logp.columns;
  if (out.top_token.columns != k) return remark::shape(name, "top_token", out.top_token.columns, k, "columns");
  if (k < 1 || k > vocabulary)
    return remark::argument(name, "top_logp", static_cast<double>(k), "columns from 1 to the vocabulary");
  return {};
}

/// The logit at a column.
template <class L>
struct logit_of_row {
  using stored = L;
  const L* row;
  [[nodiscard]] RLHF_HD RLHF_INLINE const L* origin() const { return row; }
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(std::int64_t j) const {
    return load_in_any_order<V>(row + j);
  }
};

/// Sums: rows scored, rows whose log-probability is not finite, targets outside the vocabulary, sum of entropies.
template <class T, class L, class Space, class Index, bool Entropy, bool Squares, bool Top>
struct forward_rows {
  using scalar = T;
  static constexpr int sums = 4, maxima = 0;
  static constexpr int resident = Top ? 2
                                  : Entropy && Squares
                                      ? 3
                                      : 4;  ///< blocks of 256 threads that a device's processor should hold
  logits_inputs<L, Space, Index> in;
  logp_outputs<T, Space> out;

  [[nodiscard]] std::int64_t columns() const { return in.vocabulary; }
  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 4, 0>& acc) const {
    const L* const row = in.logits.row(r);
    const std::int64_t target = static_cast<std::int64_t>(in.target[r]);
    const bool ignored = target == in.ignore_index, outside = !ignored && (target < 0 || target >= in.vocabulary);
    acc.sum[2] += outside ? T(1) : T(0);
    if (ignored || outside) {
      write(r, T(0), T(0), T(0), T(0));
      store(out.argmax, r, std::int64_t{0});
      if constexpr (Top) team.one([&] { clear_top(r); });
      return;
    }
    const auto state = reduce(team, row);
    const T lse = state.log_sum_exp();
    const T logp = state.log_probability(memory_traits<T>::load(row + target));
    T entropy = 0, squares = 0;
    if constexpr (Entropy) entropy = state.entropy();
    if constexpr (Squares) squares = state.square_sum();
    write(r, logp, entropy, lse, squares);
    if (out.argmax) {
      if constexpr (knows_places<Team>)
        out.argmax[r] = state.place < 0 ? 0 : state.place;
      else
        out.argmax[r] = first_of(row);
    }
    if constexpr (Top) write_top(r, team, row, state);
    acc.sum[0] += T(1);
    acc.sum[1] += is_finite(logp) ? T(0) : T(1);
    acc.sum[3] += entropy;
  }

 private:
  template <class Team>
  [[nodiscard]] RLHF_HD RLHF_INLINE auto reduce(Team& team, const L* row) const {
    if constexpr (knows_places<Team> && Entropy && Squares)
      return softmax_of<placed_full_row>(team, row);
    else if constexpr (knows_places<Team> && Entropy)
      return softmax_of<placed_entropy_row>(team, row);
    else if constexpr (knows_places<Team> && Squares)
      return softmax_of<placed_square_row>(team, row);
    else if constexpr (knows_places<Team>)
      return softmax_of<placed_plain_row>(team, row);
    else if constexpr (Entropy && Squares)
      return softmax_of<full_row>(team, row);
    else if constexpr (Entropy)
      return softmax_of<entropy_row>(team, row);
    else if constexpr (Squares)
      return softmax_of<square_row>(team, row);
    else
      return softmax_of<plain_row>(team, row);
  }
  template <template <class> class State, class Team>
  [[nodiscard]] RLHF_HD RLHF_INLINE auto softmax_of(Team& team, const L* row) const {
    return team.template reduce<State>(in.vocabulary, logit_of_row<L>{row}, State<T>::at_temperature(in.temperature));
  }
  /// The row has just been read: it is looked at again where it lies in the cache.
  template <class Team, class State>
  RLHF_HD RLHF_INLINE void write_top(std::int64_t r, Team& team, const L* row, const State& state) const {
    T* const held = out.top_logp.row(r);
    const std::int64_t k = out.top_logp.columns;
    collect_largest<T>(team, logit_of_row<L>{row}, in.vocabulary, k, held, out.top_token.row(r));
    team.one([&] {
      for (std::int64_t i = 0; i < k; ++i) held[i] = state.log_probability(held[i]);
    });
  }
  RLHF_HD RLHF_INLINE void clear_top(std::int64_t r) const {
    for (std::int64_t i = 0; i < out.top_logp.columns; ++i) out.top_logp.row(r)[i] = 0, out.top_token.row(r)[i] = 0;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE std::int64_t first_of(const L* row) const {
    std::int64_t best = 0;
    T top = memory_traits<T>::load(row);
    for (std::int64_t j = 1; j < in.vocabulary; ++j) {
      const T z = memory_traits<T>::load(row + j);
      if (z > top) {
        top = z;
        best = j;
      }
    }
    return best;
  }
  RLHF_HD RLHF_INLINE void write(std::int64_t r, T logp, T entropy, T lse, T squares) const {
    store(out.logp, r, logp);
    store(out.lse, r, lse);
    store(out.entropy, r, entropy);
    store(out.square_sum, r, squares);
  }
  RLHF_HD RLHF_INLINE static void store(const view<T, 1, Space>& v, std::int64_t r, T x) {
    if (v) v[r] = x;
  }
  RLHF_HD RLHF_INLINE static void store(const view<std::int64_t, 1, Space>& v, std::int64_t r, std::int64_t x) {
    if (v) v[r] = x;
  }
};

/// Do two rows lie alike against 16 bytes?
template <class L>
[[nodiscard]] RLHF_HD RLHF_INLINE bool same_alignment(const L* a, const L* b) {
  return (reinterpret_cast<std::uintptr_t>(a) ^ reinterpret_cast<std::uintptr_t>(b)) % 16 == 0;
}

/// dz_k = [g (1{k = y} - p_k) - h p_k (log p_k + H)] / tau.
template <class T, class L, bool Entropy>
struct backward_column {
  using stored = L;
  const L* from;
  L* to;
  T scale, lse, minus_g, minus_h, entropy;  // g and h already divided by tau
  [[nodiscard]] RLHF_HD RLHF_INLINE const L* origin() const { return same_alignment(from, to) ? from : nullptr; }

  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    place<V>(j, fetch<V>(j));
  }
  // The same in two steps, for teams that read ahead of what they write.
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V fetch(std::int64_t j) const {
    return load_in_any_order<V>(from + j);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void place(std::int64_t j, const V& z) const {
    const V zero(number_traits<V>::constant(0));
    const V log_p = z * V(scale) - V(lse);
    const V p = exp2_weight(log_p * V(number_traits<V>::constant(1.4426950408889634)));
    V slope(minus_g);
    if constexpr (Entropy) slope = slope + V(minus_h) * select(p > zero, log_p + V(entropy), zero);
    store_in_any_order(to + j, p * slope);
  }
};

template <class T, class L>
struct clear_column {
  using stored = L;
  L* to;
  [[nodiscard]] RLHF_HD RLHF_INLINE const L* origin() const { return to; }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    memory_traits<V>::store(to + j, V(number_traits<V>::constant(0)));
  }
};

template <class T, class L, class Space, class Index, bool Entropy>
struct backward_rows {
  using scalar = T;
  static constexpr int sums = 1, maxima = 0;  // targets outside the vocabulary
  static constexpr int resident = 4;
  logits_inputs<L, Space, Index> in;
  logp_gradients<T, Space> gradients;
  view<L, 2, Space> grad_logits;

  [[nodiscard]] std::int64_t columns() const { return in.vocabulary; }
  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 1, 0>& acc) const {
    L* const to = grad_logits.row(r);
    const std::int64_t target = static_cast<std::int64_t>(in.target[r]);
    const bool ignored = target == in.ignore_index, outside = !ignored && (target < 0 || target >= in.vocabulary);
    acc.sum[0] += outside ? T(1) : T(0);
    const T g = gradients.grad_logp ? gradients.grad_logp[r] : T(0);
    T h = 0, entropy = 0;
    if constexpr (Entropy) {
      h = gradients.grad_entropy[r];
      entropy = gradients.entropy[r];
    }
    if (ignored || outside || (g == T(0) && h == T(0))) {
      team.each(grad_logits.columns, clear_column<T, L>{to});
      return;
    }
    const T scale = static_cast<T>(1 / in.temperature), lse = gradients.lse[r];
    const L* const from = in.logits.row(r);
    // Read before the row is overwritten: the gradient may lie on the logits.
    const T log_p = memory_traits<T>::load(from + target) * scale - lse;
    team.each(in.vocabulary, backward_column<T, L, Entropy>{from, to, scale, lse, -g * scale, -h * scale, entropy});
    if (grad_logits.columns > in.vocabulary)
      team.each(grad_logits.columns - in.vocabulary, clear_column<T, L>{to + in.vocabulary});
    // The target's own column in full, so that p - 1 is never formed from a rounded p.
    T at_target = -g * expm1(log_p);
    if constexpr (Entropy) {
      const T p = exp(log_p);
      at_target -= h * (p > T(0) ? p * (log_p + entropy) : T(0));
    }
    team.one([&] { memory_traits<T>::store(to + target, at_target * scale); });
  }
};

template <class L, class Space, class Index>
[[nodiscard]] constexpr status check(const logits_inputs<L, Space, Index>& in, const char* function) {
  if (in.logits.rows < 0)
    return {errc::shape, function, "logits", "has rows:", static_cast<double>(in.logits.rows), 0, "0 or more"};
  if (in.logits.rows > 0 && !in.logits) return remark::null(function, "logits");
  if (in.logits.rows > 0 && !in.target) return remark::null(function, "target");
  if (in.target.extent != in.logits.rows) return remark::shape(function, "target", in.target.extent, in.logits.rows);
  if (in.vocabulary < 0 || in.vocabulary > in.logits.columns)
    return {errc::shape,
            function,
            "vocabulary",
            "is",
            static_cast<double>(in.vocabulary),
            0,
            "at most the columns of logits"};
  if (in.logits.rows > 0 && in.logits.columns <= 0)
    return {errc::shape, function, "logits", "has columns:", static_cast<double>(in.logits.columns), 0, "at least one"};
  if (in.logits.rows > 1 && in.logits.pitch < in.logits.columns)
    return remark::overlap(function, "logits", in.logits.pitch);
  if (!(in.temperature > 0)) return remark::argument(function, "temperature", in.temperature, "more than 0");
  return {};
}

}  // namespace logp_detail

}  // namespace rlhf::inline v1
