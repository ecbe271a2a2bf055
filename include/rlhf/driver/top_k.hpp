#pragma once
// The k most likely tokens of each row of logits, with their log-probabilities under the whole vocabulary.

#include "rlhf/driver/full_kl.hpp"
#include "rlhf/driver/largest.hpp"

namespace rlhf::inline v1 {

/// Rows of logits. Columns beyond the vocabulary are never read.
template <class L = float, class Space = host_space>
struct top_k_inputs {
  view<const L, 2, Space> logits{};
  mask_view<Space> mask{};      ///< [rows]; masked rows give 0 everywhere
  std::int64_t vocabulary = 0;  ///< 0: all columns
  double temperature = 1;
};

/// What top_k writes; k is the number of columns of `logp` and `token`.
template <class T = float, class Space = host_space, class Index = std::int32_t>
struct top_k_outputs {
  view<T, 2, Space> logp{};       ///< [rows, k] from the largest down, nats
  view<Index, 2, Space> token{};  ///< [rows, k]; of equal ones the smaller id comes first
  view<T, 1, Space> tail{};       ///< [rows] log of the probability of all other tokens; -inf where k is the vocabulary
  view<T, 1, Space> entropy{};    ///< [rows] of the k renormalised, nats: between 0 and log k
};

namespace full_kl_detail {

/// The logits below a bound; minus infinity for the others.
template <class T, class L>
struct logit_below {
  const L* row;
  T bound;
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(std::int64_t j) const {
    const V z = load_in_any_order<V>(row + j);
    return select(z < V(bound), z, V(number_traits<V>::constant(-infinity)));
  }
};
/// 1 where a logit is the given one.
template <class T, class L>
struct logit_equal {
  const L* row;
  T other;
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(std::int64_t j) const {
    const V z = load_in_any_order<V>(row + j), zero(number_traits<V>::constant(0));
    return select((z >= V(other)) & (z <= V(other)), V(number_traits<V>::constant(1)), zero);
  }
};

/// log of the probability of a part of a row, without the difference of two large logarithms.
template <class T>
[[nodiscard]] RLHF_HD RLHF_INLINE T log_share(const row_sum<T>& part, const row_sum<T>& whole) {
  return whole.log_probability(part.max) + rlhf::log(part.sum);
}

template <class T, class L, class Space, class Index>
struct top_k_rows {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  top_k_inputs<L, Space> in;
  top_k_outputs<T, Space, Index> out;

  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 0, 0>&) const {
    T* const logp = out.logp.row(r);
    Index* const token = out.token.row(r);
    const std::int64_t k = out.logp.columns;
    if (in.mask && in.mask[r] == 0) {
      team.one([&] {
        for (std::int64_t i = 0; i < k; ++i) logp[i] = 0, token[i] = 0;
      });
      write(r, T(0), T(0));
      return;
    }
    const L* const row = in.logits.row(r);
    const auto empty = row_sum<T>::at_temperature(in.temperature);
    const auto whole = team.template reduce<row_sum>(in.vocabulary, logit_of_row<L>{row}, empty);
    logp_detail::collect_largest<T>(team, logit_of_row<L>{row}, in.vocabulary, k, logp, token);
    T tail = 0;
    if (out.tail) {
      const T bound = logp[k - 1];
      auto rest = team.template reduce<row_sum>(in.vocabulary, logit_below<T, L>{row, bound}, empty);
      // Tokens as likely as the last of the k that found no place among them.
      const T equal = team.template reduce<total>(in.vocabulary, logit_equal<T, L>{row, bound}).sum;
      T held = 0;
      for (std::int64_t i = 0; i < k; ++i) held += logp[i] > bound ? T(0) : T(1);
      for (; held < equal; held += 1) rest.add(bound);
      tail = log_share(rest, whole);
    }
    team.one([&] {
      for (std::int64_t i = 0; i < k; ++i) logp[i] = whole.log_probability(logp[i]);
    });
    write(r, tail, out.entropy ? entropy_of(logp, k) : T(0));
  }

 private:
  [[nodiscard]] RLHF_HD RLHF_INLINE static T entropy_of(const T* logp, std::int64_t k) {
    row_sum_with_entropy all;
    for (std::int64_t i = 0; i < k; ++i) all.add(logp[i]);
    const T h = all.entropy();
    return h < 0 ? T(0) : h;  // of rounding
  }
  using row_sum_with_entropy = online_softmax<T, true, false>;
  RLHF_HD RLHF_INLINE void write(std::int64_t r, T tail, T entropy) const {
    if (out.tail) out.tail[r] = tail;
    if (out.entropy) out.entropy[r] = entropy;
  }
};

}  // namespace full_kl_detail

/// For each row of logits the k largest log-probabilities, from the largest down, and their tokens; k is the columns of the
/// outputs, from 1 to the vocabulary.
///
/// \f$ \log p_v = z_v/\tau - \log\sum_u e^{z_u/\tau} \f$ over the whole vocabulary, not over the k. Minus infinity is a legal
/// logit. Of equal ones the smaller id is first, and stays where there is room for one.
/// Shapes: logits [rows, columns >= vocabulary], logp and token [rows, k]. Errors: null, shape, argument. Cost: two reads of a
/// row (four with the tail) and, for each token that enters, at most k moves: rows stay in cache, k wants to be small.
template <class B, class L = float, class T = compute_t<L>, class Space = typename B::space, class Index = std::int32_t>
  requires backend<B>
status top_k(B& be, top_k_inputs<L, Space> in, const top_k_outputs<T, Space, Index>& out) {
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  constexpr const char* name = "top_k";
  const std::int64_t rows = in.logits.rows, k = out.logp.columns;
  if (rows < 0) return {errc::shape, name, "logits", "has rows:", static_cast<double>(rows), 0, "0 or more"};
  if (rows > 0 && !in.logits) return remark::null(name, "logits");
  if (in.vocabulary == 0) in.vocabulary = in.logits.columns;
  if (in.vocabulary < 0 || in.vocabulary > in.logits.columns)
    return {errc::shape,
            name,
            "vocabulary",
            "is",
            static_cast<double>(in.vocabulary),
            0,
            "at most the columns of the logits"};
  if (rows > 0 && !out.logp) return remark::null(name, "logp");
  if (rows > 0 && !out.token) return remark::null(name, "token");
  if (auto s = logp_detail::check_rows(out.logp, name, "logp", rows); !s) return s;
  if (auto s = logp_detail::check_rows(out.token, name, "token", rows); !s) return s;
  if (rows > 0 && (k < 1 || k > in.vocabulary))
    return {errc::shape, name, "logp", "has columns:", static_cast<double>(k), 0, "1 to the vocabulary"};
  if (out.token.columns != k)
    return {
        errc::shape,    name, "token", "has columns:", static_cast<double>(out.token.columns), static_cast<double>(k),
        "those of logp"};
  if (in.mask && in.mask.extent != rows) return remark::shape(name, "mask", in.mask.extent, rows);
  if (out.tail && out.tail.extent != rows) return remark::shape(name, "tail", out.tail.extent, rows);
  if (out.entropy && out.entropy.extent != rows) return remark::shape(name, "entropy", out.entropy.extent, rows);
  if (!(in.temperature > 0)) return remark::argument(name, "temperature", in.temperature, "more than 0");
  return be.rows(rows, full_kl_detail::top_k_rows<T, L, Space, Index>{in, out}, nullptr);
}

}  // namespace rlhf::inline v1
