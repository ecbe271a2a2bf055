#pragma once
// Weights of tokens by how far student and teacher have drifted apart before them: importance-weighted on-policy distillation.

#include "rlhf/driver/weights.hpp"

namespace rlhf::inline v1 {

/// \f$ w_t = 1 + \gamma\Big(1 - \frac{\sum_{j\le t}|a_j|}{\epsilon + \sum_j|a_j|}\Big) \f$, a = teacher's log-probability less the
/// sampler's: early tokens weigh up to 1 + gamma, the last one 1.
///
/// Computed as \f$ 1 + \gamma(\epsilon + \sum_{j>t}|a_j|)/(\epsilon + \sum_j|a_j|) \f$, which subtracts nothing; where student and
/// teacher agree throughout it is 1 + gamma. `inclusive = false` counts the tokens before t only, so that the first one has
/// 1 + gamma. Source: Xie et al. 2026 (IW-OPD), arXiv 2606.22600; defaults of TRL; catalogue D-07.
struct prefix_weight {
  double gamma = 0.5;     ///< how much more the first token weighs
  double epsilon = 1e-8;  ///< keeps both fractions defined
  bool inclusive = true;  ///< does a token count in its own prefix?

  [[nodiscard]] constexpr status check() const {
    if (!(gamma >= 0)) return remark::argument("prefix_weight", "gamma", gamma, "0 or more");
    if (!(epsilon > 0)) return remark::argument("prefix_weight", "epsilon", epsilon, "more than 0");
    return {};
  }
  /// From what follows the prefix and the sum of all.
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(const V& follows, const V& total) const {
    const V one(constant<V>(1)), e(constant<V>(epsilon));
    return one + V(constant<V>(gamma)) * ((follows + e) / (total + e));
  }
};

namespace prefix_detail {

template <class T, class Space>
struct sum_kernel {
  using scalar = compute_t<T>;
  static constexpr int sums = 1, maxima = 0;
  view<const T, 1, Space> advantage;
  mask_view<Space> mask;
  double* total;

  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(advantage) && rlhf::unit_stride(mask);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] =
        acc.sum[0] + select(load_mask<V>(mask, i), abs(load<V>(advantage, i)), V(number_traits<V>::constant(0)));
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<1>& found) const { total[s] = found.sum[0]; }
};

template <class T, class Space>
struct scan_kernel {
  using scalar = compute_t<T>;
  static constexpr int scans = 1;
  prefix_weight how;
  view<const T, 1, Space> advantage;
  mask_view<Space> mask;
  const double* total;
  view<T, 1, Space> out;

  [[nodiscard]] RLHF_HD RLHF_INLINE scalar initial(std::int64_t, int) const { return 0; }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(advantage) && rlhf::unit_stride(mask) && rlhf::unit_stride(out);
  }
  template <class V>
  struct token {
    V size{};
    mask_t<V> in{};
  };
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE token<V> fetch(std::int64_t i) const {
    const mask_t<V> in = load_mask<V>(mask, i);
    return {select(in, abs(load<V>(advantage, i)), V(number_traits<V>::constant(0))), in};
  }
  template <class V, class Scan>
  [[nodiscard]] RLHF_HD RLHF_INLINE V solve(std::int64_t s, const token<V>& x, Scan& scan) const {
    const V after = scan.exclusive(0, V(number_traits<V>::constant(1)), x.size);
    return how(how.inclusive ? after : after + x.size, V(number_traits<V>::constant(total[s])));
  }
  template <class V>
  RLHF_HD RLHF_INLINE void place(std::int64_t, std::int64_t i, const token<V>& x, const V& weight) const {
    store(out, i, select(x.in, weight, V(number_traits<V>::constant(0))));
  }
  template <class V, class Scan>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, Scan& scan) const {
    const token<V> x = fetch<V>(i);
    place<V>(s, i, x, solve<V>(s, x, scan));
  }
};

}  // namespace prefix_detail

/// The weights of prefix_weight, for policy_loss to take as `weight` beside the same `advantage`: with `reinforce` the loss of a
/// token is \f$ -w a \log\pi \f$.
///
/// Shapes [layout.tokens]. Masked slots give 0 and stand in no prefix, whatever lies there. Errors: null, shape, argument,
/// memory. Cost: one reduction and one scan.
template <class B, class T = float, class Space = typename B::space>
  requires backend<B>
status prefix_weights(B& be, const layout<typename B::space>& sequences, const prefix_weight& how,
                      const view<const T, 1, Space>& advantage, const mask_view<Space>& mask,
                      const view<T, 1, Space>& out) {
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  constexpr const char* name = "prefix_weights";
  const std::int64_t n = sequences.tokens;
  if constexpr (std::same_as<Space, host_space>)
    if (auto s = check(sequences, name); !s) return s;
  if (n > 0 && !advantage) return remark::null(name, "advantage");
  if (n > 0 && !out) return remark::null(name, "weight");
  if (advantage.extent != n) return remark::shape(name, "advantage", advantage.extent, n);
  if (mask && mask.extent != n) return remark::shape(name, "mask", mask.extent, n);
  if (out.extent != n) return remark::shape(name, "weight", out.extent, n);
  if (auto s = how.check(); !s) return s;
  auto total = be.template scratch<double>(sequences.sequences);
  if (!total.data()) return remark::memory(name);
  if (auto s = be.segment_reduce(sequences, prefix_detail::sum_kernel<T, Space>{advantage, mask, total.data()}); !s)
    return s;
  return be.segment_scan(sequences, prefix_detail::scan_kernel<T, Space>{how, advantage, mask, total.data(), out});
}

}  // namespace rlhf::inline v1
