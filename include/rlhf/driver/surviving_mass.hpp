#pragma once
// How much probability top-k, top-p and min-p leave to a sampler, row by row.

#include "rlhf/driver/full_kl.hpp"
#include "rlhf/math/sortable.hpp"

namespace rlhf::inline v1 {

/// A truncated sampler, in the order in which it truncates: min-p, top-k, top-p of what those leave (vLLM).
struct truncation {
  double min_p = 0;        ///< tokens less likely than this times the likeliest go; 0: off
  std::int64_t top_k = 0;  ///< all but the k likeliest go; 0: off
  double top_p = 1;        ///< the fewest likeliest stay whose share is at least this; 1: off

  [[nodiscard]] constexpr status check() const {
    if (!(min_p >= 0 && min_p <= 1)) return remark::argument("truncation", "min_p", min_p, "0 <= min_p <= 1");
    if (top_k < 0) return remark::argument("truncation", "top_k", static_cast<double>(top_k), "0 (off) or more");
    if (!(top_p > 0 && top_p <= 1)) return remark::argument("truncation", "top_p", top_p, "0 < top_p <= 1");
    return {};
  }
};

namespace full_kl_detail {

/// 1, or the probability, of a column whose logit is at least a bound.
template <class T, class L, bool Count>
struct column_from {
  const L* row;
  T bound, scale, lse;
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(std::int64_t j) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const V z = load_in_any_order<V>(row + j);
    return select(z >= V(bound), Count ? one : exp(z * V(scale) - V(lse)), zero);
  }
};

/// The largest logit, by the state of a reduction.
template <class V>
struct largest_of {
  V value = V(number_traits<V>::constant(-infinity));
  RLHF_HD RLHF_INLINE void add(const V& x) { value = select(x > value, x, value); }
  RLHF_HD RLHF_INLINE void merge(const largest_of& other) { add(other.value); }
};

template <class T, class L, class Space>
struct mass_rows {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  view<const L, 2, Space> logits;
  mask_view<Space> mask;
  std::int64_t vocabulary;
  double temperature;
  truncation how;
  view<T, 1, Space> log_mass;

  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 0, 0>&) const {
    if (mask && mask[r] == 0) {
      log_mass[r] = 0;
      return;
    }
    const L* const row = logits.row(r);
    const T scale = static_cast<T>(1 / temperature);
    const T lse =
        team.template reduce<row_sum>(vocabulary, logit_of_row<L>{row}, row_sum<T>::at_temperature(temperature))
            .log_sum_exp();
    const auto mass = [&](T bound) {
      return team.template reduce<total>(vocabulary, column_from<T, L, false>{row, bound, scale, lse}).sum;
    };
    const auto count = [&](T bound) {
      return team.template reduce<total>(vocabulary, column_from<T, L, true>{row, bound, scale, lse}).sum;
    };
    const T least = static_cast<T>(-infinity);
    T bound = least;
    if (how.min_p > 0)
      bound = team.template reduce<largest_of>(vocabulary, logit_of_row<L>{row}).value +
              static_cast<T>(rlhf::log(how.min_p) * temperature);
    if (how.top_k > 0 && how.top_k < vocabulary) {
      const T k = static_cast<T>(how.top_k);
      bound = higher(bound, last_with([&](T b) { return count(b) >= k; }));
    }
    if (how.top_p < 1) {
      const T want = static_cast<T>(how.top_p) * mass(bound);
      bound = higher(bound, last_with([&](T b) { return mass(b) >= want; }));
    }
    const T left = bound > least ? rlhf::log(mass(bound)) : T(0);
    log_mass[r] = left < 0 ? left : T(0);  // rounding may exceed the whole
  }

 private:
  [[nodiscard]] static RLHF_HD RLHF_INLINE T higher(T a, T b) { return b > a ? b : a; }
  /// The largest number that passes a test which holds up to somewhere and fails beyond, found bit by bit.
  template <class Test>
  [[nodiscard]] static RLHF_HD RLHF_INLINE T last_with(const Test& test) {
    const sortable_t<T> lowest = sortable(static_cast<T>(-infinity));  // passes; below it lie NaNs
    sortable_t<T> found = 0;
    for (int k = sortable_bits<T> - 1; k >= 0; --k) {
      const auto next = static_cast<sortable_t<T>>(found | (sortable_t<T>{1} << k));
      if (next <= lowest || test(from_sortable<T>(next))) found = next;
    }
    return from_sortable<T>(found < lowest ? lowest : found);
  }
};

}  // namespace full_kl_detail

/// \f$ \log \sum_{v\ \mathrm{kept}} p_v \f$ of each row of logits under a truncation: what importance_weights takes as
/// `log_mass` where the sampler reports log-probabilities of the truncated and renormalised distribution, so that the ratio to
/// the trainer's is one of like things.
///
/// Ties with the last kept logit are kept. Logits beyond the vocabulary are never read; masked rows give 0. Exact in the
/// thresholds: they are logits. Errors: null, shape, argument. Cost: one read of a row, and 32 (float) or 64 (double) more for
/// each of top-k and top-p; rows stay in cache. Catalogue I-14.
template <class B, class L = float, class T = compute_t<L>, class Space = typename B::space>
  requires backend<B>
status surviving_mass(B& be, const view<const L, 2, Space>& logits, const truncation& how,
                      const view<T, 1, Space>& log_mass, double temperature = 1, std::int64_t vocabulary = 0,
                      const mask_view<Space>& mask = {}) {
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  constexpr const char* name = "surviving_mass";
  const std::int64_t rows = logits.rows;
  if (rows > 0 && !logits) return remark::null(name, "logits");
  if (rows > 0 && !log_mass) return remark::null(name, "log_mass");
  if (log_mass.extent != rows) return remark::shape(name, "log_mass", log_mass.extent, rows);
  if (vocabulary == 0) vocabulary = logits.columns;
  if (vocabulary < 0 || vocabulary > logits.columns)
    return {
        errc::shape, name, "vocabulary", "is", static_cast<double>(vocabulary), 0, "at most the columns of the logits"};
  if (!(temperature > 0)) return remark::argument(name, "temperature", temperature, "more than 0");
  if (mask && mask.extent != rows) return remark::shape(name, "mask", mask.extent, rows);
  if (auto s = how.check(); !s) return s;
  return be.rows(rows, full_kl_detail::mass_rows<T, L, Space>{logits, mask, vocabulary, temperature, how, log_mass},
                 nullptr);
}

}  // namespace rlhf::inline v1
