#pragma once
// Distillation from a teacher's k likeliest tokens: forward, reverse and mixed KL with one bucket for all other tokens.

#include "rlhf/driver/top_k.hpp"

namespace rlhf::inline v1 {

/// The student's logits, and what is known of the teacher: k tokens of each row and their log-probabilities.
template <class L = float, class T = compute_t<L>, class Space = host_space, class Index = std::int32_t>
struct top_k_divergence_inputs {
  view<const L, 2, Space> logits{};        ///< of the student: differentiable
  view<const Index, 2, Space> token{};     ///< [rows, k] the teacher's tokens, in any order, all different
  view<const T, 2, Space> teacher_logp{};  ///< [rows, k] under the whole vocabulary, at the same temperature
  view<const T, 1, Space> teacher_tail{};  ///< [rows] log of what the teacher's others have; else 1 less the k
  mask_view<Space> mask{};                 ///< [rows]; masked rows give 0
  std::int64_t vocabulary = 0;             ///< 0: all columns
  double temperature = 1;                  ///< divides the student's logits
};

namespace full_kl_detail {

/// Slope of a token outside the k: p a - (p / p_tail) b.
template <class T, class L>
struct tail_column {
  const L* from;
  L* to;
  T scale, lse, log_tail, a, b;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    const V zero(number_traits<V>::constant(0));
    const V log_p = memory_traits<V>::load(from + j) * V(scale) - V(lse);
    const V slope = exp(log_p) * V(a) - exp(log_p - V(log_tail)) * V(b);
    memory_traits<V>::store(to + j, select(log_p > V(number_traits<V>::constant(-infinity)), slope, zero));
  }
};

/// w F + (1 - w) R over the k tokens and, with `tail`, the bucket of the rest.
template <class T>
struct top_k_terms {
  T forward_share, least_tail;
  T value = 0;            // the divergence
  T reverse = 0;          // R
  T teacher = 0;          // sum of q over all terms
  T outside_reverse = 0;  // log p / q of the bucket; without a bucket -1
  T tail_teacher = 0;     // q of the bucket

  RLHF_HD RLHF_INLINE void add(T log_p, T log_q) {
    const T p = exp(log_p), q = exp(log_q);
    teacher += q;
    if (forward_share > 0 && q > 0) value += forward_share * q * (log_q - log_p);
    if (forward_share < 1 && p > 0) reverse += p * (log_p - log_q);
  }
  RLHF_HD RLHF_INLINE void add_tail(T log_p, T log_q) {
    const T p = exp(log_p), q = exp(log_q), denominator = log_q < least_tail ? least_tail : log_q;
    tail_teacher = q;
    teacher += q;
    if (forward_share > 0 && q > 0) value += forward_share * q * (log_q - log_p);
    if (forward_share < 1 && p > 0) {
      outside_reverse = log_p - denominator;
      reverse += p * outside_reverse;
    }
  }
};

template <class T, class L, class Space, class Index>
struct top_k_divergence_rows {
  using scalar = T;
  static constexpr int sums = 1, maxima = 0;  // rows whose tokens are outside the vocabulary or stand there twice
  top_k_divergence_inputs<L, T, Space, Index> in;
  full_kl_outputs<L, T, Space> out;
  double forward, least_tail;
  bool tail, at_least_zero;
  std::int64_t* sorted;  // [rows, k]
  T* student;            // [rows, k] log-probabilities

  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 1, 0>& acc) const {
    const std::int64_t k = in.token.columns;
    const Index* const token = in.token.row(r);
    std::int64_t* const order = sorted + r * k;
    const bool masked = in.mask && in.mask[r] == 0;
    if (!masked) team.one([&] { sort(token, k, order); });
    const bool wrong = !masked && !different(order, k);
    acc.sum[0] += wrong ? T(1) : T(0);
    L* const to = out.grad_logits ? out.grad_logits.row(r) : nullptr;
    if (masked || wrong) {
      if (out.kl) out.kl[r] = 0;
      if (to != nullptr) team.each(out.grad_logits.columns, clear_column<T, L>{to});
      return;
    }
    const L* const row = in.logits.row(r);
    const T* const teacher = in.teacher_logp.row(r);
    T* const log_p = student + r * k;
    // The others are summed themselves, between the k: 1 less the k would lose what a sure student leaves to them.
    const auto rest = outside(team, row, order, k);
    auto whole = rest;
    for (std::int64_t i = 0; i < k; ++i) whole.add(memory_traits<T>::load(row + token[i]));
    team.one([&] {
      for (std::int64_t i = 0; i < k; ++i) log_p[i] = whole.log_probability(memory_traits<T>::load(row + token[i]));
    });
    const T log_tail = log_share(rest, whole);
    const bool bucket = tail && k < in.vocabulary;
    top_k_terms<T> terms{static_cast<T>(forward), static_cast<T>(in.teacher_tail ? -infinity : rlhf::log(least_tail))};
    for (std::int64_t i = 0; i < k; ++i) terms.add(log_p[i], teacher[i]);
    if (bucket) terms.add_tail(log_tail, in.teacher_tail ? in.teacher_tail[r] : rest_of(teacher, k));
    const T w = static_cast<T>(forward), v = static_cast<T>(1 - forward);
    T value = terms.value + (v > 0 ? v * terms.reverse : T(0));
    const bool flat = at_least_zero && value < 0;
    if (flat) value = 0;
    if (out.kl) out.kl[r] = value;
    if (to == nullptr) return;
    const T scale = static_cast<T>(1 / in.temperature);
    const T g = flat ? T(0) : (out.grad_kl ? out.grad_kl[r] : T(1)) * scale;
    // Without a bucket the terms of R have p_K together, not 1: d R / d p_i is log p_i / q_i + 1 and that 1 is left over.
    const T left_over = bucket || k == in.vocabulary ? T(0) : exp(log_tail);
    const T inside = v > 0 ? v * (left_over - terms.reverse) : T(0);
    const T beyond = v > 0 ? v * ((bucket ? terms.outside_reverse : left_over - 1) - terms.reverse) : T(0);
    const T lse = whole.log_sum_exp();
    team.each(in.vocabulary, tail_column<T, L>{row, to, scale, lse, log_tail, g * (w * terms.teacher + beyond),
                                               bucket ? g * w * terms.tail_teacher : T(0)});
    if (out.grad_logits.columns > in.vocabulary)
      team.each(out.grad_logits.columns - in.vocabulary, clear_column<T, L>{to + in.vocabulary});
    team.one([&] {
      for (std::int64_t i = 0; i < k; ++i) {
        const T p = exp(log_p[i]);
        T slope = w > 0 ? w * (p * terms.teacher - exp(teacher[i])) : T(0);
        if (v > 0 && p > 0) slope += p * (v * (log_p[i] - teacher[i]) + inside);
        memory_traits<T>::store(to + token[i], slope * g);
      }
    });
  }

 private:
  RLHF_HD RLHF_INLINE static void sort(const Index* token, std::int64_t k, std::int64_t* order) {
    for (std::int64_t n = 0; n < k; ++n) {
      const auto id = static_cast<std::int64_t>(token[n]);
      std::int64_t i = n;
      for (; i > 0 && id < order[i - 1]; --i) order[i] = order[i - 1];
      order[i] = id;
    }
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool different(const std::int64_t* order, std::int64_t k) const {
    for (std::int64_t i = 1; i < k; ++i)
      if (order[i] == order[i - 1]) return false;
    return order[0] >= 0 && order[k - 1] < in.vocabulary;
  }
  /// All columns but the k.
  template <class Team>
  [[nodiscard]] RLHF_HD RLHF_INLINE row_sum<T> outside(Team& team, const L* row, const std::int64_t* order,
                                                       std::int64_t k) const {
    const auto empty = row_sum<T>::at_temperature(in.temperature);
    auto rest = empty;
    std::int64_t from = 0;
    for (std::int64_t i = 0; i <= k; ++i) {
      const std::int64_t stop = i < k ? order[i] : in.vocabulary;
      if (stop > from) rest.merge(team.template reduce<row_sum>(stop - from, logit_of_row<L>{row + from}, empty));
      from = stop + 1;
    }
    return rest;
  }
  /// log(1 - sum of exp), and minus infinity where rounding leaves nothing.
  [[nodiscard]] RLHF_HD RLHF_INLINE static T rest_of(const T* logp, std::int64_t k) {
    row_sum<T> all;
    for (std::int64_t i = 0; i < k; ++i) all.add(logp[i]);
    const T held = all.log_sum_exp();
    return held < 0 ? rlhf::log1mexp(held) : static_cast<T>(-infinity);
  }
};

}  // namespace full_kl_detail

/// \f$ w F + (1-w) R \f$ row by row, over the teacher's k tokens and one bucket that holds all others:
/// \f$ F = \sum_i q_i(\log q_i - \log p_i) \f$ (forward), \f$ R = \sum_i p_i(\log p_i - \log q_i) \f$ (reverse), q the teacher,
/// p the student, i over the k and the bucket. Gradient in the student's logits z_j, j in term i with share
/// \f$ s = p_j/p_i \f$: \f$ [w(p_j\Sigma q - s\,q_i) + (1-w)p_j(\log p_i - \log q_i - R)]/\tau \f$.
///
/// Merging tokens only lowers a KL, so it is at most full_kl of the same rows and never below 0; with k the vocabulary it is
/// full_kl. `tail = false` leaves the bucket out (verl, NeMo RL without a tail): the terms do not add up to distributions then and
/// the sum can fall below 0; `at_least_zero` clamps it, with slope 0 below. The student's bucket is summed from its logits.
/// The teacher's is `teacher_tail` (top_k writes it) or \f$ 1 - \sum q \f$, which in R counts as `least_tail` at least, since
/// rounding may leave nothing of it (TRL's floor). A token of teacher probability 0 costs R infinity where the student has any.
/// Inputs [rows, k]; out of range or repeated tokens give 0 for the row and, on host backends, `errc::index` after all
/// rows are done. `grad_logits` may lie on the logits. Errors: null, shape, argument, index, memory. Cost: one read of a row,
/// two with the gradient, and k^2 / 4 moves to sort k tokens.
/// Source: TRL, NeMo RL (mixed: w 0.5), verl (tail false, at_least_zero); catalogue D-05, D-10.
struct top_k_divergence {
  double forward = 1;          ///< w: 1 forward, 0 reverse
  bool tail = true;            ///< with the bucket of all other tokens
  bool at_least_zero = false;  ///< clamp the sum at 0
  double least_tail = 1e-7;    ///< the teacher's bucket counts as this much at least, in R

  [[nodiscard]] constexpr status check() const {
    if (!(forward >= 0 && forward <= 1))
      return remark::argument("top_k_divergence", "forward", forward, "0 <= forward <= 1");
    if (!(least_tail > 0 && least_tail < 1))
      return remark::argument("top_k_divergence", "least_tail", least_tail, "0 < least_tail < 1");
    return {};
  }

  template <class B, class L = float, class T = compute_t<L>, class Space = typename B::space,
            class Index = std::int32_t>
    requires backend<B>
  status operator()(B& be, const top_k_divergence_inputs<L, T, Space, Index>& in,
                    const full_kl_outputs<L, T, Space>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "top_k_divergence";
    const std::int64_t rows = in.logits.rows, k = in.token.columns;
    if (auto s = check(); !s) return s;
    // What it shares with full_kl, the student in both places.
    full_kl_inputs<L, Space> shared{in.logits, in.logits, in.mask, in.vocabulary, in.temperature};
    if (auto s = full_kl_detail::check(name, shared, out); !s) return s;
    if (rows > 0 && !in.token) return remark::null(name, "token");
    if (rows > 0 && !in.teacher_logp) return remark::null(name, "teacher_logp");
    if (auto s = logp_detail::check_rows(in.token, name, "token", rows); !s) return s;
    if (auto s = logp_detail::check_rows(in.teacher_logp, name, "teacher_logp", rows); !s) return s;
    if (rows > 0 && (k < 1 || k > shared.vocabulary))
      return {errc::shape, name, "token", "has columns:", static_cast<double>(k), 0, "1 to the vocabulary"};
    if (in.teacher_logp.columns != k)
      return {errc::shape,     name, "teacher_logp", "has columns:", static_cast<double>(in.teacher_logp.columns), 0,
              "those of token"};
    if (in.teacher_tail && in.teacher_tail.extent != rows)
      return remark::shape(name, "teacher_tail", in.teacher_tail.extent, rows);
    auto sorted = be.template scratch<std::int64_t>(rows * k);
    auto student = be.template scratch<T>(rows * k);
    auto cell = be.template scratch<totals<1>>(1);
    if (!sorted.data() || !student.data() || !cell.data()) return remark::memory(name);
    auto known = in;
    known.vocabulary = shared.vocabulary;
    if (auto s = be.rows(rows,
                         full_kl_detail::top_k_divergence_rows<T, L, Space, Index>{
                             known, out, forward, least_tail, tail, at_least_zero, sorted.data(), student.data()},
                         cell.data());
        !s)
      return s;
    if constexpr (B::synchronous) {
      totals<1> bad;
      if (auto s = read_cell(be, cell.data(), bad); !s) return s;
      if (bad.sum[0] > 0)
        return {errc::index, name, "token", "wrong in rows:", bad.sum[0], 0, "different tokens of the vocabulary"};
    }
    return {};
  }
};

}  // namespace rlhf::inline v1
