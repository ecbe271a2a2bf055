#pragma once
// From losses per token to one number: each mode is a rule for the weight of a token, with its denominator in the open.
//
// A weight depends on counts alone, never on the losses, so the gradient of the aggregate is weight times the gradient of
// the token. Where a denominator is a member, 0 means "count it in this call"; give the count of the whole batch and any
// split of the batch into calls adds up to the same loss and the same gradient.

#include <concepts>

#include "rlhf/core/config.hpp"
#include "rlhf/core/status.hpp"

namespace rlhf::inline v1 {

/// What the weights may depend on. Doubles, because they may be counts of a batch spread over many machines.
struct aggregation_counts {
  double tokens = 0;     ///< valid tokens of the call
  double sequences = 0;  ///< all sequences of the call, empty ones too
  double nonempty = 0;   ///< sequences with at least one valid token
  double groups = 0;     ///< groups (prompts), where the caller gave them
};

namespace aggregate_detail {
/// x / n, and 0 where n is not positive.
[[nodiscard]] RLHF_HD constexpr double over(double x, double n) { return n > 0 ? x / n : 0; }
[[nodiscard]] constexpr status check_scale(const char* function, double scale) {
  return scale - scale == 0 ? status{} : remark::argument(function, "scale", scale, "a finite number");
}
}  // namespace aggregate_detail

/// \f$ \sum_{it} m l / \sum m \f$: every token counts the same. TRL bnpo and dapo (`tokens` = num_items / processes),
/// verl token-mean (`tokens` = global count, `scale` = data-parallel size). Source: Yu et al. 2025 (DAPO), arXiv
/// 2503.14476. Catalogue N-A1, N-A2.
struct token_mean {
  double tokens = 0;  ///< valid tokens of the whole batch; 0: those of the call
  double scale = 1;   ///< factor of the sum
  static constexpr bool uniform = true;
  [[nodiscard]] constexpr status check() const {
    if (!(tokens >= 0)) return remark::argument("token_mean", "tokens", tokens, "0 (count them) or more");
    return aggregate_detail::check_scale("token_mean", scale);
  }
  [[nodiscard]] RLHF_HD constexpr double weight(double, double, const aggregation_counts& counts) const {
    return aggregate_detail::over(scale, tokens > 0 ? tokens : counts.tokens);
  }
};

/// \f$ \sum_{it} m l \f$ times `scale`: a plain sum, for callers who divide later. Catalogue N-A3.
struct token_sum {
  double scale = 1;  ///< factor of the sum
  static constexpr bool uniform = true;
  [[nodiscard]] constexpr status check() const { return aggregate_detail::check_scale("token_sum", scale); }
  [[nodiscard]] RLHF_HD constexpr double weight(double, double, const aggregation_counts&) const { return scale; }
};

/// A number without a default: to leave it out does not compile.
struct required {
  double value;
  RLHF_HD constexpr required(double x) : value(x) {}
  [[nodiscard]] RLHF_HD constexpr operator double() const { return value; }
};

/// \f$ \sum_{it} m l / (B\,L) \f$ over all B sequences with a constant L (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783). L is
/// required: a mask's width is an accident of padding. Catalogue N-A7.
struct fixed_length {
  required length;       ///< L
  double sequences = 0;  ///< B of the whole batch; 0: those of the call
  static constexpr bool uniform = true;
  [[nodiscard]] constexpr status check() const {
    if (!(length > 0)) return remark::argument("fixed_length", "length", length, "more than 0");
    if (!(sequences >= 0)) return remark::argument("fixed_length", "sequences", sequences, "0 (count them) or more");
    return {};
  }
  [[nodiscard]] RLHF_HD constexpr double weight(double, double, const aggregation_counts& counts) const {
    return aggregate_detail::over(1, length * (sequences > 0 ? sequences : counts.sequences));
  }
};

/// \f$ \frac1B \sum_i \frac{1}{n_i}\sum_t m l \f$ over all B sequences; an empty one counts as 0 in the mean (TRL grpo).
/// Source: Shao et al. 2024 (GRPO), arXiv 2402.03300. Catalogue N-A4.
struct row_mean {
  double sequences = 0;  ///< B of the whole batch; 0: those of the call
  static constexpr bool uniform = false;
  [[nodiscard]] constexpr status check() const {
    if (!(sequences >= 0)) return remark::argument("row_mean", "sequences", sequences, "0 (count them) or more");
    return {};
  }
  [[nodiscard]] RLHF_HD constexpr double weight(double n, double, const aggregation_counts& counts) const {
    return aggregate_detail::over(1, n * (sequences > 0 ? sequences : counts.sequences));
  }
};

/// \f$ \frac1{B'} \sum_i \frac{1}{n_i}\sum_t m l \f$ over the B' sequences that have tokens (verl seq-mean-token-mean;
/// `sequences` = global batch, `scale` = its data-parallel size). Catalogue N-A5.
struct sequence_mean_token_mean {
  double sequences = 0;  ///< B of the whole batch; 0: those of the call that have tokens
  double scale = 1;      ///< factor of the sum
  static constexpr bool uniform = false;
  [[nodiscard]] constexpr status check() const {
    if (!(sequences >= 0))
      return remark::argument("sequence_mean_token_mean", "sequences", sequences, "0 (count them) or more");
    return aggregate_detail::check_scale("sequence_mean_token_mean", scale);
  }
  [[nodiscard]] RLHF_HD constexpr double weight(double n, double, const aggregation_counts& counts) const {
    return aggregate_detail::over(scale, n * (sequences > 0 ? sequences : counts.nonempty));
  }
};

/// \f$ \frac1{B'}\sum_i \sum_t m l \f$ over the B' sequences that have tokens; `divisor` divides further (verl
/// seq-mean-token-sum, and -norm with its loss scale factor). Catalogue N-A6, N-A7.
struct sequence_mean_token_sum {
  double sequences = 0;  ///< B' of the whole batch; 0: those of the call that have tokens
  double scale = 1;      ///< factor of the sum
  double divisor = 1;    ///< divides further
  static constexpr bool uniform = false;
  [[nodiscard]] constexpr status check() const {
    if (!(sequences >= 0))
      return remark::argument("sequence_mean_token_sum", "sequences", sequences, "0 (count them) or more");
    if (!(divisor > 0)) return remark::argument("sequence_mean_token_sum", "divisor", divisor, "more than 0");
    return aggregate_detail::check_scale("sequence_mean_token_sum", scale);
  }
  [[nodiscard]] RLHF_HD constexpr double weight(double, double, const aggregation_counts& counts) const {
    return aggregate_detail::over(scale, divisor * (sequences > 0 ? sequences : counts.nonempty));
  }
};

/// \f$ \frac1P \sum_p \sum_{i\in p,t} m l / \sum_{i\in p} n_i \f$: prompts count the same, tokens of a prompt count the same.
/// Needs the caller's groups. Source: SkyRL; catalogue N-A8.
struct prompt_mean {
  double groups = 0;  ///< P of the whole batch; 0: those of the call
  static constexpr bool uniform = false;
  static constexpr bool grouped = true;
  [[nodiscard]] constexpr status check() const {
    if (!(groups >= 0)) return remark::argument("prompt_mean", "groups", groups, "0 (count them) or more");
    return {};
  }
  [[nodiscard]] RLHF_HD constexpr double weight(double, double group_tokens, const aggregation_counts& counts) const {
    return aggregate_detail::over(1, group_tokens * (groups > 0 ? groups : counts.groups));
  }
};

/// \f$ \frac1B \sum_i n_i \bar l_i \f$: each sequence weighs by its length (LUSPO, with sequence_ratio). Source: TRL;
/// catalogue N-A9.
struct length_weighted_mean {
  double sequences = 0;  ///< B of the whole batch; 0: those of the call
  static constexpr bool uniform = true;
  [[nodiscard]] constexpr status check() const {
    if (!(sequences >= 0))
      return remark::argument("length_weighted_mean", "sequences", sequences, "0 (count them) or more");
    return {};
  }
  [[nodiscard]] RLHF_HD constexpr double weight(double, double, const aggregation_counts& counts) const {
    return aggregate_detail::over(1, sequences > 0 ? sequences : counts.sequences);
  }
};

/// \f$ \frac1N\sum_i l_i \f$ over items that are not tokens: pairs, scores, prompts. `items` = the global count.
struct batch_mean {
  double items = 0;  ///< N of the whole batch; 0: those of the call
  static constexpr bool uniform = true;
  [[nodiscard]] constexpr status check() const {
    if (!(items >= 0)) return remark::argument("batch_mean", "items", items, "0 (count them) or more");
    return {};
  }
  [[nodiscard]] RLHF_HD constexpr double weight(double, double, const aggregation_counts& counts) const {
    return aggregate_detail::over(1, items > 0 ? items : counts.tokens);
  }
};

/// A rule that drivers can weigh tokens with.
template <class A>
concept aggregation = requires(const A& a, const aggregation_counts& counts) {
  { A::uniform } -> std::convertible_to<bool>;
  { a.weight(double{}, double{}, counts) } -> std::convertible_to<double>;
};

}  // namespace rlhf::inline v1
