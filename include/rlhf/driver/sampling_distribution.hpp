#pragma once
// The exact distribution of a sampler, row by row.

#include "rlhf/backend/concept.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/objective/sampling.hpp"

namespace rlhf::inline v1 {

/// Rows of logits or log-probabilities, token against token (or arm against arm). Columns beyond the vocabulary are never read.
template <class T = float, class Space = host_space>
struct sampling_inputs {
  view<const T, 2, Space> policy{};
  view<const T, 2, Space> reference{};
  std::int64_t vocabulary = 0;  ///< 0: all columns
};

/// What sampling_distribution writes; absent views are skipped.
template <class T = float, class Space = host_space>
struct sampling_outputs {
  view<T, 2, Space> log_probability{};  ///< may lie on either input; columns beyond the vocabulary are left alone
  view<T, 1, Space> lse{};              ///< [rows] log-sum-exp of the mixture as it stands
  view<T, 1, Space> log_normaliser{};   ///< [rows] the same if both inputs were normalised first: log sum pi^a ref^b
};

namespace sampling_detail {

template <class V>
using row_sum = online_softmax<V, false, false>;

template <class T>
struct mixed_logit {
  const T* policy;
  const T* reference;
  logit_mixture mixture;
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(std::int64_t j) const {
    return mixture(memory_traits<V>::load(policy + j), memory_traits<V>::load(reference + j));
  }
};

template <class T>
struct write_column {
  mixed_logit<T> mixed;
  T* to;
  T lse;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    memory_traits<V>::store(to + j, mixed.template operator()<V>(j) - V(lse));
  }
};

template <class T, class Space>
struct rows_kernel {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  sampling_inputs<T, Space> in;
  sampling_outputs<T, Space> out;
  logit_mixture mixture;

  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<scalar, 0, 0>&) const {
    const T* const policy = in.policy.row(r);
    const T* const reference = in.reference.row(r);
    const auto lse_of = [&](const logit_mixture& m) {
      return team.template reduce<row_sum>(in.vocabulary, mixed_logit<T>{policy, reference, m}).log_sum_exp();
    };
    const scalar lse = lse_of(mixture);
    if (out.lse) out.lse[r] = static_cast<T>(lse);
    if (out.log_normaliser) {
      const scalar of_policy = lse_of({1, 0}), of_reference = lse_of({0, 1});
      out.log_normaliser[r] = static_cast<T>(lse - (mixture(of_policy, of_reference)));
    }
    if (out.log_probability)
      team.each(in.vocabulary, write_column<T>{{policy, reference, mixture}, out.log_probability.row(r), lse});
  }
};

}  // namespace sampling_detail

/// Log-probabilities of a mixture of two rows of logits, and its normaliser. Shapes [rows, columns >= vocabulary].
/// Errors: null, shape, argument. Cost: two reads of both rows, four with the normaliser.
template <class B, class T = float, class Space = typename B::space>
  requires backend<B>
status sampling_distribution(B& be, const logit_mixture& mixture, sampling_inputs<T, Space> in,
                             const sampling_outputs<T, Space>& out) {
  constexpr const char* name = "sampling_distribution";
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  const std::int64_t rows = in.policy.rows;
  if (rows > 0 && !in.policy) return remark::null(name, "policy");
  if (rows > 0 && !in.reference) return remark::null(name, "reference");
  if (in.reference.rows != rows) return remark::shape(name, "reference", in.reference.rows, rows, "rows");
  if (in.vocabulary == 0) in.vocabulary = in.policy.columns;
  if (in.vocabulary < 0 || in.vocabulary > in.policy.columns || in.vocabulary > in.reference.columns)
    return {errc::shape,
            name,
            "vocabulary",
            "is",
            static_cast<double>(in.vocabulary),
            0,
            "at most the columns of both inputs"};
  if (out.log_probability && out.log_probability.rows != rows)
    return remark::shape(name, "log_probability", out.log_probability.rows, rows, "rows");
  if (out.log_probability && rows > 1 && out.log_probability.pitch < out.log_probability.columns)
    return remark::overlap(name, "log_probability", out.log_probability.pitch);
  if (out.log_probability && out.log_probability.columns < in.vocabulary)
    return {errc::shape,
            name,
            "log_probability",
            "has columns:",
            static_cast<double>(out.log_probability.columns),
            0,
            "at least the vocabulary"};
  if (out.lse && out.lse.extent != rows) return remark::shape(name, "lse", out.lse.extent, rows);
  if (out.log_normaliser && out.log_normaliser.extent != rows)
    return remark::shape(name, "log_normaliser", out.log_normaliser.extent, rows);
  if (auto s = mixture.check(); !s) return s;
  return be.rows(rows, sampling_detail::rows_kernel<T, Space>{in, out, mixture}, nullptr);
}

}  // namespace rlhf::inline v1
