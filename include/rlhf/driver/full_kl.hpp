#pragma once
// KL divergence over the whole vocabulary between two rows of logits, and its gradient.

#include "rlhf/driver/logp_kernels.hpp"

namespace rlhf::inline v1 {

/// Which of the two weighs the terms.
enum class kl_direction {
  reverse,  ///< KL(pi || pi_ref) = sum p (log p - log q)
  forward   ///< KL(pi_ref || pi) = sum q (log q - log p)
};

/// Two matrices of logits, row against row. Columns beyond the vocabulary are never read.
template <class L = float, class Space = host_space>
struct full_kl_inputs {
  view<const L, 2, Space> logits{};      ///< of the policy: differentiable
  view<const L, 2, Space> ref_logits{};  ///< of the reference
  mask_view<Space> mask{};               ///< [rows]; masked rows give 0
  std::int64_t vocabulary = 0;           ///< 0: all columns
  double temperature = 1;                ///< divides both
  kl_direction direction = kl_direction::reverse;
};

/// What full_kl writes, and the gradient that flows back; absent views are skipped.
template <class L = float, class T = compute_t<L>, class Space = host_space>
struct full_kl_outputs {
  view<T, 1, Space> kl{};             ///< [rows], nats
  view<const T, 1, Space> grad_kl{};  ///< [rows] d loss / d kl; 1 without it
  view<L, 2, Space> grad_logits{};    ///< may lie on the logits
};

namespace full_kl_detail {

using logp_detail::clear_column, logp_detail::logit_of_row;
template <class V>
using row_sum = logp_detail::plain_row<V>;

/// A plain sum as a reduction state.
template <class V>
struct total {
  V sum = V(number_traits<V>::constant(0));
  RLHF_HD RLHF_INLINE void add(const V& x) { sum = sum + x; }
  RLHF_HD RLHF_INLINE void merge(const total& other) { sum = sum + other.sum; }
};

/// One term of the divergence; a token of probability 0 under the weighing side adds 0.
template <class T, class L, bool Forward>
struct divergence_term {
  const L* policy;
  const L* reference;
  T scale, policy_lse, reference_lse;
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(std::int64_t j) const {
    const V zero(number_traits<V>::constant(0));
    const V log_p = memory_traits<V>::load(policy + j) * V(scale) - V(policy_lse);
    const V log_q = memory_traits<V>::load(reference + j) * V(scale) - V(reference_lse);
    const V weight = exp(Forward ? log_q : log_p);
    const V difference = Forward ? log_q - log_p : log_p - log_q;
    return select(weight > zero, weight * difference, zero);
  }
};

template <class T, class L, bool Forward>
struct gradient_column {
  const L* policy;
  const L* reference;
  L* to;
  T scale, policy_lse, reference_lse, kl, g;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    const V zero(number_traits<V>::constant(0));
    const V log_p = memory_traits<V>::load(policy + j) * V(scale) - V(policy_lse);
    const V log_q = memory_traits<V>::load(reference + j) * V(scale) - V(reference_lse);
    const V p = exp(log_p);
    const V slope = Forward ? p - exp(log_q) : select(p > zero, p * (log_p - log_q - V(kl)), zero);
    memory_traits<V>::store(to + j, slope * V(g * scale));
  }
};

template <class T, class L, class Space, bool Forward>
struct rows_kernel {
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
    const L* const policy = in.logits.row(r);
    const L* const reference = in.ref_logits.row(r);
    const T scale = static_cast<T>(1 / in.temperature);
    const auto empty = row_sum<T>::at_temperature(in.temperature);
    const T policy_lse = team.template reduce<row_sum>(in.vocabulary, logit_of_row<L>{policy}, empty).log_sum_exp();
    const T reference_lse =
        team.template reduce<row_sum>(in.vocabulary, logit_of_row<L>{reference}, empty).log_sum_exp();
    const T kl = team.template reduce<total>(in.vocabulary, divergence_term<T, L, Forward>{policy, reference, scale,
                                                                                           policy_lse, reference_lse})
                     .sum;
    if (out.kl) out.kl[r] = kl;
    if (to == nullptr) return;
    const T g = out.grad_kl ? out.grad_kl[r] : T(1);
    team.each(in.vocabulary,
              gradient_column<T, L, Forward>{policy, reference, to, scale, policy_lse, reference_lse, kl, g});
    if (out.grad_logits.columns > in.vocabulary)
      team.each(out.grad_logits.columns - in.vocabulary, clear_column<T, L>{to + in.vocabulary});
  }
};

/// Do the shapes fit? Sets the vocabulary where it was left open.
template <class L, class T, class Space>
[[nodiscard]] status check(const char* name, full_kl_inputs<L, Space>& in, const full_kl_outputs<L, T, Space>& out) {
  const std::int64_t rows = in.logits.rows;
  if (rows < 0) return {errc::shape, name, "logits", "has rows:", static_cast<double>(rows), 0, "0 or more"};
  if (rows > 0 && !in.logits) return remark::null(name, "logits");
  if (rows > 0 && !in.ref_logits) return remark::null(name, "ref_logits");
  if (auto s = logp_detail::check_rows(in.ref_logits, name, "ref_logits", rows); !s) return s;
  if (in.vocabulary == 0) in.vocabulary = in.logits.columns;
  if (in.vocabulary < 0 || in.vocabulary > in.logits.columns || in.vocabulary > in.ref_logits.columns)
    return {errc::shape,
            name,
            "vocabulary",
            "is",
            static_cast<double>(in.vocabulary),
            0,
            "at most the columns of both logits"};
  if (!(in.temperature > 0)) return remark::argument(name, "temperature", in.temperature, "more than 0");
  if (in.mask && in.mask.extent != rows) return remark::shape(name, "mask", in.mask.extent, rows);
  if (out.kl && out.kl.extent != rows) return remark::shape(name, "kl", out.kl.extent, rows);
  if (out.grad_kl && out.grad_kl.extent != rows) return remark::shape(name, "grad_kl", out.grad_kl.extent, rows);
  if (out.grad_logits)
    if (auto s = logp_detail::check_rows(out.grad_logits, name, "grad_logits", rows); !s) return s;
  if (out.grad_logits && out.grad_logits.columns < in.vocabulary)
    return {errc::shape,
            name,
            "grad_logits",
            "has columns:",
            static_cast<double>(out.grad_logits.columns),
            0,
            "at least the vocabulary"};
  return {};
}

}  // namespace full_kl_detail

/// KL between the policy's and the reference's distributions, row by row, \f$ K = \sum_k p_k(\log p_k - \log q_k) \f$
/// or the other way around, and its gradient in the policy's logits: reverse \f$ dK/dz_k = p_k(\log p_k - \log q_k -
/// K)/\tau \f$, forward \f$ (p_k - q_k)/\tau \f$.
///
/// Shapes: logits and ref_logits [rows, columns >= vocabulary]. Where the weighing distribution is 0 the term is 0, so an
/// impossible token of the reference costs infinity only where the policy gives it probability.
/// Errors: null, shape, argument. Cost: three reads of each row (four with the gradient); rows stay in cache.
/// Source: catalogue K-09.
template <class B, class L = float, class T = compute_t<L>, class Space = typename B::space>
  requires backend<B>
status full_kl(B& be, full_kl_inputs<L, Space> in, const full_kl_outputs<L, T, Space>& out) {
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  if (auto s = full_kl_detail::check("full_kl", in, out); !s) return s;
  return in.direction == kl_direction::forward
             ? be.rows(in.logits.rows, full_kl_detail::rows_kernel<T, L, Space, true>{in, out}, nullptr)
             : be.rows(in.logits.rows, full_kl_detail::rows_kernel<T, L, Space, false>{in, out}, nullptr);
}

}  // namespace rlhf::inline v1
