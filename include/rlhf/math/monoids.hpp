#pragma once
// The associative accumulators of all reductions and scans. Each merges with its like in any grouping.

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
/// All lanes share one maximum, so it rises a few times a row and rescaling is rare. Minus infinity is a legal logit
/// (probability 0), a row of nothing else has log-sum-exp minus infinity.
/// `Entropy` also collects sum e^(z-m) (z-m), `Squares` sum e^(2(z-m)), on the same pass.
template <class V, bool Entropy = false, bool Squares = false>
struct online_softmax {
  V max = V(number_traits<V>::constant(lowest));  ///< finite, so that -inf - max is never NaN
  V sum = V(number_traits<V>::constant(0));
  V weighted = V(number_traits<V>::constant(0));  ///< sum of e^(z-m) (z-m)
  V squares = V(number_traits<V>::constant(0));   ///< sum of e^(2(z-m))

  static constexpr double lowest = -3.0e38;

  RLHF_HD RLHF_INLINE void add(const V& z) {
    if (number_traits<V>::exceeds(z, max)) rescale(number_traits<V>::largest(z));
    const V shifted = z - max;
    const V e = rlhf::exp_weight(shifted);
    sum = sum + e;
    // An impossible token: 0 times minus infinity is 0 here.
    if constexpr (Entropy) {
      const V floor = V(number_traits<V>::constant(lowest));
      weighted = weighted + e * rlhf::select(floor > shifted, floor, shifted);
    }
    if constexpr (Squares) squares = squares + e * e;
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
    const V factor = rlhf::exp(shift);
    if constexpr (Entropy) weighted = factor * (weighted + shift * sum);
    if constexpr (Squares) squares = squares * factor * factor;
    sum = sum * factor;
    max = top;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE V log_sum_exp() const { return max + rlhf::log(sum); }
  /// -sum p log p = log_sum_exp - sum p z.
  [[nodiscard]] RLHF_HD RLHF_INLINE V entropy() const { return rlhf::log(sum) - weighted / sum; }
  /// sum of p squared.
  [[nodiscard]] RLHF_HD RLHF_INLINE V square_sum() const { return squares / (sum * sum); }
};

}  // namespace rlhf::inline v1
