#pragma once
// The associative accumulators of all reductions and scans. Each merges with its like in any grouping.

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// What one pass over elements adds up: K sums and M maxima, kept per lane while the pass runs.
template <class V, int K, int M = 0>
struct accumulator {
  V sum[static_cast<unsigned>(K > 0 ? K : 1)];
  V max[static_cast<unsigned>(M > 0 ? M : 1)];

  RLHF_HD RLHF_INLINE accumulator() {
    for (auto& s : sum) s = V(number_traits<V>::constant(0));
    for (auto& m : max) m = V(number_traits<V>::constant(-infinity));
  }
};

/// The result of a pass: always double, folded in a fixed order.
template <int K, int M = 0>
struct totals {
  double sum[static_cast<unsigned>(K > 0 ? K : 1)] = {};
  double max[static_cast<unsigned>(M > 0 ? M : 1)] = {};

  RLHF_HD RLHF_INLINE totals() {
    for (auto& m : max) m = -infinity;
  }
  RLHF_HD RLHF_INLINE void merge(const totals& other) {
    for (int k = 0; k < K; ++k) sum[k] += other.sum[k];
    for (int m = 0; m < M; ++m) max[m] = other.max[m] > max[m] ? other.max[m] : max[m];
  }
  template <class T>
  RLHF_HD RLHF_INLINE void add(const accumulator<T, K, M>& scalar) {
    for (int k = 0; k < K; ++k) sum[k] += static_cast<double>(scalar.sum[k]);
    for (int m = 0; m < M; ++m) {
      const double x = static_cast<double>(scalar.max[m]);
      max[m] = x > max[m] ? x : max[m];
    }
  }
};

/// Count, mean and sum of squared deviations: merged by Chan, Golub and LeVeque (1979), so that no variance is ever the
/// difference of two large numbers, and shards of a batch give the same answer as the batch.
struct moments {
  double count = 0;
  double mean = 0;
  double m2 = 0;

  RLHF_HD RLHF_INLINE void merge(const moments& other) {
    if (other.count <= 0) return;
    const double total = count + other.count;
    const double delta = other.mean - mean;
    mean += delta * other.count / total;
    m2 += other.m2 + delta * delta * count * other.count / total;
    count = total;
  }
  /// The same bits as merging {1, x, 0}, without the steps that change nothing.
  RLHF_HD RLHF_INLINE void add(double x) {
    const double total = count + 1, delta = x - mean;
    mean += delta / total;
    m2 += delta * delta * count / total;
    count = total;
  }
  /// m2 / (count - 1), or m2 / count when biased; 0 where that is undefined.
  [[nodiscard]] RLHF_HD RLHF_INLINE double variance(bool biased = false) const {
    const double divisor = biased ? count : count - 1;
    return divisor > 0 ? m2 / divisor : 0;
  }
};

/// The map y -> a y + b. Composition is associative: discounted sums, GAE and carried values are scans of these.
template <class V>
struct affine {
  V a;
  V b;
  /// First `inner`, then this.
  [[nodiscard]] RLHF_HD RLHF_INLINE affine after(const affine& inner) const { return {a * inner.a, b + a * inner.b}; }
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(const V& y) const { return b + a * y; }
};

/// Online softmax of a row (Milakov and Gimelshein 2018): the largest logit so far and the sums relative to it.
///
/// A logit z counts `unit` z nats, where unit is the inverse of the temperature. All lanes share one maximum, so it rises a
/// few times a row and rescaling is rare. Minus infinity is a legal logit (probability 0), a row of nothing else has
/// log-sum-exp minus infinity. `Entropy` also collects sum e^(z-m) (z-m), `Squares` sum e^(2(z-m)), on the same pass.
template <class V, bool Entropy = false, bool Squares = false>
struct online_softmax {
  V unit = V(number_traits<V>::constant(1));                   ///< nats of a logit of 1
  V bits = V(number_traits<V>::constant(1.4426950408889634));  ///< the same in units of log 2
  V max = V(number_traits<V>::constant(lowest));               ///< finite, so that -inf - max is never NaN
  V sum = V(number_traits<V>::constant(0));
  V weighted = V(number_traits<V>::constant(0));  ///< sum of e^(z-m) (z-m), z in its own unit
  V squares = V(number_traits<V>::constant(0));   ///< sum of e^(2(z-m))

  static constexpr double lowest = -3.0e38;

  [[nodiscard]] static RLHF_HD RLHF_INLINE online_softmax at_temperature(double temperature) {
    online_softmax row;
    row.unit = V(number_traits<V>::constant(1 / temperature));
    row.bits = V(number_traits<V>::constant(1.4426950408889634 / temperature));
    return row;
  }

  RLHF_HD RLHF_INLINE void add(const V& z) {
    if (number_traits<V>::exceeds(z, max)) rescale(number_traits<V>::largest(z));
    weigh(z);
  }
  /// Several scalars with one look at the maximum: what a thread does that reads some at a time. NaN passes it.
  template <std::size_t N>
  RLHF_HD RLHF_INLINE void add_all(const V (&z)[N])
    requires std::floating_point<V>
  {
    add_all(z, [](const V&) {});
  }
  /// The same without a look at the maximum, for a block of logits that is taken back where it leaves the row not `sound`:
  /// some logit was far above the maximum, or infinite, or NaN.
  RLHF_HD RLHF_INLINE void add_unseen(const V& z)
    requires requires { number_traits<V>::exp2_finite(z); }
  {
    const V above = z - max;
    put(number_traits<V>::exp2_finite(above * bits), above);
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool sound() const {
    const V bound = V(number_traits<V>::constant(1 << 20));
    const bool finite = number_traits<V>::all_below(sum, bound);
    if constexpr (Entropy) return finite && number_traits<V>::all_below(weighted, bound * bound);
    return finite;
  }
  RLHF_HD RLHF_INLINE void merge(const online_softmax& other) {
    online_softmax o = other;
    const V top = rlhf::max(max, o.max);
    rescale(top);
    o.rescale(top);
    sum = sum + o.sum;
    if constexpr (Entropy) weighted = weighted + o.weighted;
    if constexpr (Squares) squares = squares + o.squares;
  }
  RLHF_HD RLHF_INLINE void rescale(const V& top) {
    const V shift = max - top;  // <= 0
    const V factor = rlhf::exp(shift * unit);
    if constexpr (Entropy) weighted = factor * (weighted + shift * sum);
    if constexpr (Squares) squares = squares * factor * factor;
    sum = sum * factor;
    max = top;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE V log_sum_exp() const { return max * unit + rlhf::log(sum); }
  /// log p of a logit of the row, relative to the largest one: that keeps the digits where logits are large.
  [[nodiscard]] RLHF_HD RLHF_INLINE V log_probability(const V& z) const { return (z - max) * unit - rlhf::log(sum); }
  /// -sum p log p = log_sum_exp - sum p z.
  [[nodiscard]] RLHF_HD RLHF_INLINE V entropy() const { return rlhf::log(sum) - weighted / sum * unit; }
  /// sum of p squared.
  [[nodiscard]] RLHF_HD RLHF_INLINE V square_sum() const { return squares / (sum * sum); }

 protected:
  /// `on_rise(top)` where the maximum rises: rarely, so that all that is done then stands behind one branch.
  template <std::size_t N, class F>
  RLHF_HD RLHF_INLINE void add_all(const V (&z)[N], const F& on_rise) {
    V top = max;
    for (const V& x : z) top = larger(x, top);
    if (top > max) {
      on_rise(top);
      rescale(top);
    }
    for (const V& x : z) weigh(x);
  }

 private:
  RLHF_HD RLHF_INLINE void weigh(const V& z) {
    const V above = z - max;
    // An impossible token: 0 times minus infinity is 0 here.
    const V floor = V(number_traits<V>::constant(lowest));
    put(rlhf::exp2_weight(above * bits), larger(floor, above));
  }
  RLHF_HD RLHF_INLINE void put(const V& e, const V& above) {
    sum = sum + e;
    if constexpr (Entropy) weighted = weighted + e * above;
    if constexpr (Squares) squares = squares + e * e;
  }
};

/// The same, with the place of the largest logit; the first of equals, if each state sees places that rise. For states of scalars
/// that are told where they read.
template <class V, bool Entropy = false, bool Squares = false>
struct placed_softmax : online_softmax<V, Entropy, Squares> {
  using base = online_softmax<V, Entropy, Squares>;
  std::int64_t place = -1;  ///< -1: nothing above minus infinity

  placed_softmax() = default;
  RLHF_HD RLHF_INLINE explicit placed_softmax(const base& row) : base(row) {}
  [[nodiscard]] static RLHF_HD RLHF_INLINE placed_softmax at_temperature(double temperature) {
    return placed_softmax(base::at_temperature(temperature));
  }
  template <std::size_t N>
  RLHF_HD RLHF_INLINE void add_at(const V (&z)[N], std::int64_t first) {
    base::add_all(z, [&](const V& top) {
      std::size_t k = N;
      while (k > 0)
        if (--k, z[k] >= top) place = first + static_cast<std::int64_t>(k);
    });
  }
  RLHF_HD RLHF_INLINE void merge(const placed_softmax& other) {
    const bool first = other.place >= 0 && (place < 0 || other.place < place);
    if (other.max > this->max || (other.max >= this->max && first)) place = other.place;
    base::merge(other);
  }
};

}  // namespace rlhf::inline v1
