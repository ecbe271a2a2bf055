#pragma once
// Cosine distance between rows of two matrices: distillation of hidden states, or of logits.

#include "rlhf/driver/full_kl.hpp"

namespace rlhf::inline v1 {

/// Two matrices of equal shape, row against row.
template <class L = float, class Space = host_space>
struct cosine_inputs {
  view<const L, 2, Space> x{};  ///< of the student: differentiable
  view<const L, 2, Space> y{};  ///< of the teacher
  mask_view<Space> mask{};      ///< [rows]; masked rows give 0
};

/// What cosine_distance writes, and the gradient that flows back; absent views are skipped.
template <class L = float, class T = compute_t<L>, class Space = host_space>
struct cosine_outputs {
  view<T, 1, Space> distance{};             ///< [rows], 0 to 2
  view<const T, 1, Space> grad_distance{};  ///< [rows] d loss / d distance; 1 without it
  view<L, 2, Space> grad_x{};               ///< may lie on x
};

namespace cosine_detail {

/// A product of two columns, both scaled down first.
template <class T, class L>
struct product {
  const L* a;
  const L* b;
  T scale_a, scale_b;
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(std::int64_t j) const {
    return memory_traits<V>::load(a + j) * V(scale_a) * (memory_traits<V>::load(b + j) * V(scale_b));
  }
};
template <class V>
struct largest_magnitude {
  V value = V(number_traits<V>::constant(0));
  RLHF_HD RLHF_INLINE void add(const V& x) { value = max(value, abs(x)); }
  RLHF_HD RLHF_INLINE void merge(const largest_magnitude& other) { value = max(value, other.value); }
};
/// -(y / |y| - cos x / |x|) / |x|, times the weight.
template <class T, class L>
struct gradient_column {
  const L* x;
  const L* y;
  L* to;
  T unit_x, unit_y, of_x, of_y;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    const V slope =
        memory_traits<V>::load(x + j) * V(unit_x) * V(of_x) - memory_traits<V>::load(y + j) * V(unit_y) * V(of_y);
    memory_traits<V>::store(to + j, slope);
  }
};

template <class T, class L, class Space>
struct rows_kernel {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  cosine_inputs<L, Space> in;
  cosine_outputs<L, T, Space> out;

  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 0, 0>&) const {
    using full_kl_detail::clear_column, full_kl_detail::total, full_kl_detail::logit_of_row;
    const std::int64_t n = in.x.columns;
    L* const to = out.grad_x ? out.grad_x.row(r) : nullptr;
    const L* const x = in.x.row(r);
    const L* const y = in.y.row(r);
    const bool masked = in.mask && in.mask[r] == 0;
    // Scaled by their largest components, so that no square overflows.
    const T top_x = masked ? T(0) : team.template reduce<largest_magnitude>(n, logit_of_row<L>{x}).value;
    const T top_y = masked ? T(0) : team.template reduce<largest_magnitude>(n, logit_of_row<L>{y}).value;
    const T sx = T(1) / top_x, sy = T(1) / top_y;
    if (masked || sx == static_cast<T>(infinity) || sy == static_cast<T>(infinity)) {
      if (out.distance) out.distance[r] = masked ? T(0) : T(1);
      if (to != nullptr) team.each(out.grad_x.columns, clear_column<T, L>{to});
      return;
    }
    const auto sum = [&](const L* a, const L* b, T scale_a, T scale_b) {
      return team.template reduce<total>(n, product<T, L>{a, b, scale_a, scale_b}).sum;
    };
    const T unit_x = sx / sqrt(sum(x, x, sx, sx)), unit_y = sy / sqrt(sum(y, y, sy, sy));
    const T cosine = sum(x, y, unit_x, unit_y);
    if (out.distance) out.distance[r] = T(1) - cosine;
    if (to == nullptr) return;
    const T g = (out.grad_distance ? out.grad_distance[r] : T(1)) * unit_x;
    team.each(n, gradient_column<T, L>{x, y, to, unit_x, unit_y, g * cosine, g});
  }
};

}  // namespace cosine_detail

/// \f$ 1 - \frac{x\cdot y}{|x||y|} \f$ row by row; gradient in x: \f$ -\frac1{|x|}\Big(\frac{y}{|y|} - \cos\frac{x}{|x|}\Big) \f$.
///
/// A row of zeros, or of numbers whose reciprocals overflow, has no direction: distance 1, gradient 0. No square overflows. Shapes: x and y [rows, columns].
/// Errors: null, shape. Cost: five reads of a row, six with the gradient. Source: Liger; catalogue D-09.
template <class B, class L = float, class T = compute_t<L>, class Space = typename B::space>
  requires backend<B>
status cosine_distance(B& be, const cosine_inputs<L, Space>& in, const cosine_outputs<L, T, Space>& out) {
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  constexpr const char* name = "cosine_distance";
  const std::int64_t rows = in.x.rows;
  if (rows > 0 && !in.x) return remark::null(name, "x");
  if (rows > 0 && !in.y) return remark::null(name, "y");
  if (auto s = logp_detail::check_rows(in.y, name, "y", rows); !s) return s;
  if (in.y.columns != in.x.columns)
    return {errc::shape, name, "y", "has columns:", static_cast<double>(in.y.columns), 0, "those of x"};
  if (in.mask && in.mask.extent != rows) return remark::shape(name, "mask", in.mask.extent, rows);
  if (out.distance && out.distance.extent != rows) return remark::shape(name, "distance", out.distance.extent, rows);
  if (out.grad_distance && out.grad_distance.extent != rows)
    return remark::shape(name, "grad_distance", out.grad_distance.extent, rows);
  if (out.grad_x)
    if (auto s = logp_detail::check_rows(out.grad_x, name, "grad_x", rows); !s) return s;
  if (out.grad_x && out.grad_x.columns != in.x.columns)
    return {errc::shape, name, "grad_x", "has columns:", static_cast<double>(out.grad_x.columns), 0, "those of x"};
  return be.rows(rows, cosine_detail::rows_kernel<T, L, Space>{in, out}, nullptr);
}

}  // namespace rlhf::inline v1
