#pragma once
// Generalised Jensen-Shannon divergence over the whole vocabulary between a student's and a teacher's logits: distillation.

#include "rlhf/driver/full_kl.hpp"

namespace rlhf::inline v1 {

namespace full_kl_detail {

/// Both log-probabilities of a column and the logarithm of their mixture (1 - beta) S + beta T.
template <class T, class L>
struct mixture_column {
  const L* student;
  const L* teacher;
  T scale, student_lse, teacher_lse, log_student_share, log_teacher_share;

  template <class V>
  struct logs {
    V student, teacher, mixture;
  };
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE logs<V> at(std::int64_t j) const {
    const V s = memory_traits<V>::load(student + j) * V(scale) - V(student_lse);
    const V t = memory_traits<V>::load(teacher + j) * V(scale) - V(teacher_lse);
    const V a = s + V(log_student_share), b = t + V(log_teacher_share);
    const V high = max(a, b), low = min(a, b), zero(number_traits<V>::constant(0));
    const V gap = select(high > low, low - high, zero);  // equal infinities have no difference
    return {s, t, high + log1p(exp(gap))};
  }
};

/// One term of KL(Side || M).
template <class T, class L, bool Teacher>
struct mixture_term {
  mixture_column<T, L> column;
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(std::int64_t j) const {
    const auto logs = column.template at<V>(j);
    const V zero(number_traits<V>::constant(0)), log_p = Teacher ? logs.teacher : logs.student;
    const V p = exp(log_p);
    return select(p > zero, p * (log_p - logs.mixture), zero);
  }
};

template <class T, class L>
struct mixture_gradient {
  mixture_column<T, L> column;
  L* to;
  T student_kl, factor;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    const auto logs = column.template at<V>(j);
    const V zero(number_traits<V>::constant(0)), p = exp(logs.student);
    const V slope = select(p > zero, p * (logs.student - logs.mixture - V(student_kl)), zero);
    memory_traits<V>::store(to + j, slope * V(factor));
  }
};

template <class T, class L, class Space>
struct mixture_rows {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  full_kl_inputs<L, Space> in;
  full_kl_outputs<L, T, Space> out;
  double beta;

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
    const mixture_column<T, L> column{student,
                                      teacher,
                                      static_cast<T>(1 / in.temperature),
                                      student_lse,
                                      teacher_lse,
                                      static_cast<T>(rlhf::log1p(-beta)),
                                      static_cast<T>(rlhf::log(beta))};
    const T teacher_kl = team.template reduce<total>(in.vocabulary, mixture_term<T, L, true>{column}).sum;
    const T student_kl = team.template reduce<total>(in.vocabulary, mixture_term<T, L, false>{column}).sum;
    if (out.kl) out.kl[r] = static_cast<T>(beta) * teacher_kl + static_cast<T>(1 - beta) * student_kl;
    if (to == nullptr) return;
    const T g = out.grad_kl ? out.grad_kl[r] : T(1);
    team.each(in.vocabulary,
              mixture_gradient<T, L>{column, to, student_kl, g * static_cast<T>((1 - beta) / in.temperature)});
    if (out.grad_logits.columns > in.vocabulary)
      team.each(out.grad_logits.columns - in.vocabulary, clear_column<T, L>{to + in.vocabulary});
  }
};

}  // namespace full_kl_detail

/// \f$ \beta\,KL(T\|M) + (1-\beta)\,KL(S\|M),\ M = (1-\beta)S + \beta T \f$, row by row, S the policy (`logits`) and T the
/// teacher (`ref_logits`); at beta 0 it is KL(T||S), at beta 1 KL(S||T). Gradient in the student's logits:
/// \f$ (1-\beta)\,S_k(\log S_k - \log M_k - KL(S\|M))/\tau \f$.
///
/// Inputs, outputs and errors are full_kl's; `direction` is not read. Between 0 and 1 it is at most log 2, whatever the
/// logits. Cost: four reads of each row, five with the gradient. Source: Agarwal et al. 2023 (GKD), arXiv 2306.13649, eq. 1;
/// catalogue D-04.
template <class B, class L = float, class T = compute_t<L>, class Space = typename B::space>
  requires backend<B>
status full_jensen_shannon(B& be, full_kl_inputs<L, Space> in, const full_kl_outputs<L, T, Space>& out, double beta) {
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  if (!(beta >= 0 && beta <= 1)) return remark::argument("full_jensen_shannon", "beta", beta, "0 <= beta <= 1");
  in.direction = beta > 0 ? kl_direction::reverse : kl_direction::forward;
  if (beta <= 0 || beta >= 1) return full_kl(be, in, out);
  if (auto s = full_kl_detail::check("full_jensen_shannon", in, out); !s) return s;
  return be.rows(in.logits.rows, full_kl_detail::mixture_rows<T, L, Space>{in, out, beta}, nullptr);
}

}  // namespace rlhf::inline v1
