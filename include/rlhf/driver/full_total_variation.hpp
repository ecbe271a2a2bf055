#pragma once
// Total variation over the whole vocabulary between a student's and a teacher's logits: distillation.

#include "rlhf/driver/full_kl.hpp"

namespace rlhf::inline v1 {

namespace full_kl_detail {

/// A column's probability p of the student, and the side s = sign(p - q) on which it lies of the teacher's; 0 on neither.
template <class T, class L>
struct side_column {
  const L* student;
  const L* teacher;
  T scale, student_lse, teacher_lse;

  template <class V>
  struct pair_of {
    V p, q, side;
  };
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE pair_of<V> at(std::int64_t j) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const V p = exp(memory_traits<V>::load(student + j) * V(scale) - V(student_lse));
    const V q = exp(memory_traits<V>::load(teacher + j) * V(scale) - V(teacher_lse));
    return {p, q, select(p > q, one, select(q > p, -one, zero))};
  }
};

/// |p - q|, or s p.
template <class T, class L, bool Mean>
struct side_term {
  side_column<T, L> column;
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(std::int64_t j) const {
    const auto x = column.template at<V>(j);
    return x.side * (Mean ? x.p : x.p - x.q);
  }
};

template <class T, class L>
struct side_gradient {
  side_column<T, L> column;
  L* to;
  T mean, factor;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    const auto x = column.template at<V>(j);
    memory_traits<V>::store(to + j, x.p * (x.side - V(mean)) * V(factor));
  }
};

template <class T, class L, class Space>
struct total_variation_rows {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  full_kl_inputs<L, Space> in;
  full_kl_outputs<L, T, Space> out;

  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 0, 0>&) const {
    L* const to = out.grad_logits ? out.grad_logits.row(r) : nullptr;
    if (in.mask && in.mask[r] == 0) {
      if (out.kl) out.kl[r] = 0;
      if (to != nullptr) team.each(out.grad_logits.columns, clear_column<T, L>{to});
      return;
    }
    const L* const student = in.logits.row(r);
    const L* const teacher = in.ref_logits.row(r);
    const auto empty = row_sum<T>::at_temperature(in.temperature);
    const T student_lse = team.template reduce<row_sum>(in.vocabulary, logit_of_row<L>{student}, empty).log_sum_exp();
    const T teacher_lse = team.template reduce<row_sum>(in.vocabulary, logit_of_row<L>{teacher}, empty).log_sum_exp();
    const side_column<T, L> column{student, teacher, static_cast<T>(1 / in.temperature), student_lse, teacher_lse};
    if (out.kl)
      out.kl[r] = team.template reduce<total>(in.vocabulary, side_term<T, L, false>{column}).sum * static_cast<T>(0.5);
    if (to == nullptr) return;
    const T mean = team.template reduce<total>(in.vocabulary, side_term<T, L, true>{column}).sum;
    const T g = out.grad_kl ? out.grad_kl[r] : T(1);
    team.each(in.vocabulary, side_gradient<T, L>{column, to, mean, g * static_cast<T>(0.5 / in.temperature)});
    if (out.grad_logits.columns > in.vocabulary)
      team.each(out.grad_logits.columns - in.vocabulary, clear_column<T, L>{to + in.vocabulary});
  }
};

}  // namespace full_kl_detail

/// \f$ \frac12\sum_v |p_v - q_v| \f$ row by row, p the policy (`logits`) and q the teacher (`ref_logits`), between 0 and 1.
/// Gradient in the policy's logits: \f$ \frac{p_k}{2\tau}(s_k - \sum_v p_v s_v),\ s = \mathrm{sign}(p - q) \f$, 0 on a tie.
///
/// Inputs, outputs (the divergence goes to `kl`) and errors are full_kl's; `direction` is not read. Finite whatever the
/// supports. Cost: three reads of each row, five with the gradient. Source: Wen et al. 2023 (f-distill), arXiv 2307.15190;
/// Liger; catalogue D-09.
template <class B, class L = float, class T = compute_t<L>, class Space = typename B::space>
  requires backend<B>
status full_total_variation(B& be, full_kl_inputs<L, Space> in, const full_kl_outputs<L, T, Space>& out) {
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  if (auto s = full_kl_detail::check("full_total_variation", in, out); !s) return s;
  return be.rows(in.logits.rows, full_kl_detail::total_variation_rows<T, L, Space>{in, out}, nullptr);
}

}  // namespace rlhf::inline v1
