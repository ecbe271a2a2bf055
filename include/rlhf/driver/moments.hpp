#pragma once
// Masked count, mean and squared deviations, in two passes, in double.

#include "rlhf/backend/concept.hpp"
#include "rlhf/driver/weights.hpp"

namespace rlhf::inline v1 {

namespace moments_detail {

template <class T, class Space>
struct sum_values {
  using scalar = compute_t<T>;
  static constexpr int sums = 2, maxima = 0;
  view<const T, 1, Space> x;
  mask_view<Space> mask;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return rlhf::unit_stride(x) && rlhf::unit_stride(mask); }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 2, 0>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const mask_t<V> in = load_mask<V>(mask, i);
    acc.sum[0] = acc.sum[0] + select(in, load<V>(x, i), zero);
    acc.sum[1] = acc.sum[1] + select(in, one, zero);
  }
};

/// Deviations from the rounded mean; their own sum corrects what rounding the mean left.
template <class T, class Space>
struct sum_deviations {
  using scalar = compute_t<T>;
  static constexpr int sums = 2, maxima = 0;
  view<const T, 1, Space> x;
  mask_view<Space> mask;
  const totals<2>* found;
  double center = 0;
  RLHF_HD RLHF_INLINE void prepare() { center = found->sum[1] > 0 ? found->sum[0] / found->sum[1] : 0; }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return rlhf::unit_stride(x) && rlhf::unit_stride(mask); }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 2, 0>& acc) const {
    const V zero(number_traits<V>::constant(0));
    const V d = select(load_mask<V>(mask, i), load<V>(x, i) - V(number_traits<V>::constant(center)), zero);
    acc.sum[0] = acc.sum[0] + d;
    acc.sum[1] = acc.sum[1] + d * d;
  }
};

template <class T>
struct write_moments {
  const totals<2>* first;
  const totals<2>* second;
  moments* out;
  RLHF_HD RLHF_INLINE void operator()() const {
    const double n = first->sum[1];
    if (n <= 0) {
      *out = {};
      return;
    }
    // The arithmetic type's mean is what deviations were taken from.
    const double center = static_cast<double>(static_cast<T>(first->sum[0] / n)), shift = second->sum[0] / n;
    const double m2 = second->sum[1] - second->sum[0] * shift;
    *out = {n, center + shift, m2 > 0 ? m2 : 0};
  }
};

}  // namespace moments_detail

/// Moments of the valid elements into a cell of the backend's space. Two passes; nothing valid gives count 0.
template <class B, class T, class Space>
[[nodiscard]] status masked_moments(B& be, const char* function, const view<const T, 1, Space>& x,
                                    const mask_view<Space>& mask, moments* cell) {
  using namespace moments_detail;
  auto first = be.template scratch<totals<2>>(1);
  auto second = be.template scratch<totals<2>>(1);
  if (!first.data() || !second.data()) return remark::memory(function);
  if (auto s = be.map(x.extent, sum_values<T, Space>{x, mask}, first.data()); !s) return s;
  if (auto s = be.map(x.extent, sum_deviations<T, Space>{x, mask, first.data()}, second.data()); !s) return s;
  return be.once(write_moments<compute_t<T>>{first.data(), second.data(), cell});
}

}  // namespace rlhf::inline v1
