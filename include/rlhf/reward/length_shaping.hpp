#pragma once
// Rewards of responses that depend on how they ended, how long they are, and how often they repeat themselves.

#include <cmath>
#include <cstdint>

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// A response without an end-of-text token: its reward falls by the penalty, \f$ r - p \f$, or is replaced by it.
/// Source: Stiennon et al. 2020 (replaced, by -1); TRL (subtracted, 1); catalogue S-06.
struct missing_eos {
  double penalty = 1;    ///< what is subtracted, or with replace the reward itself
  bool replace = false;  ///< the penalty is the reward

  [[nodiscard]] RLHF_HD constexpr double operator()(double reward, bool has_eos) const {
    if (has_eos) return reward;
    return replace ? penalty : reward - penalty;
  }
};

/// A response that was cut off: a coefficient in [0, 1] multiplies its reward, \f$ c\,r \f$, one below 0 replaces it.
/// Source: ProRL, Liu et al. 2025, arXiv 2505.24864; OpenRLHF, NeMo RL; catalogue S-05.
struct stop_properly {
  double coefficient = 0;  ///< 0 to 1: a factor; below 0: the reward itself

  [[nodiscard]] constexpr status check() const {
    return coefficient <= 1
               ? status{}
               : remark::argument("stop_properly", "coefficient", coefficient, "1 or less (below 0: replaces)");
  }
  [[nodiscard]] RLHF_HD constexpr double operator()(double reward, bool truncated) const {
    if (!truncated) return reward;
    return coefficient < 0 ? coefficient : reward * coefficient;
  }
};

/// A reward between two ends along half a cosine of the length,
/// \f$ b + \frac12(a - b)(1 + \cos(\pi\min(len/L, 1))) \f$: right answers fall from `max_correct` to `min_correct` as they
/// grow, wrong ones rise from `min_wrong` to `max_wrong`, so that short is best where right and long where wrong.
/// Source: Yeo et al. 2025, arXiv 2502.03373; defaults of TRL; catalogue S-08.
struct cosine_length {
  double max_length;         ///< L: tokens from which on the reward stands still
  double min_correct = 0.5;  ///< of a right answer of L tokens
  double max_correct = 1;    ///< of a right answer without length
  double min_wrong = -1;     ///< of a wrong answer without length
  double max_wrong = -0.5;   ///< of a wrong answer of L tokens

  [[nodiscard]] constexpr status check() const {
    return max_length > 0 ? status{} : remark::argument("cosine_length", "max_length", max_length, "more than 0");
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double operator()(double length, bool correct) const {
    const double start = correct ? max_correct : min_wrong, end = correct ? min_correct : max_wrong;
    const double progress = length < max_length ? length / max_length : 1;
    return end + 0.5 * (start - end) * (1 + std::cos(3.14159265358979323846 * progress));
  }
};

/// Repeated n-grams: \f$ (1 - \frac{distinct}{all})\,p \f$ over the n-grams of a response; 0 of one shorter than n.
///
/// `max_penalty` p is what a response of a single n-gram over and over tends to. Cost: every pair of n-grams is compared, and
/// nothing is stored. Source: Yeo et al. 2025, arXiv 2502.03373; TRL; catalogue S-09.
struct repetition_penalty {
  std::int64_t n = 3;       ///< length of the n-grams
  double max_penalty = -1;  ///< p, where all n-grams are the same

  [[nodiscard]] constexpr status check() const {
    if (!(n >= 1)) return remark::argument("repetition_penalty", "n", static_cast<double>(n), "1 or more");
    if (!(max_penalty <= 0)) return remark::argument("repetition_penalty", "max_penalty", max_penalty, "0 or less");
    return {};
  }
  /// `token(i)`: the i-th token of a response of `length`.
  template <class Token>
  [[nodiscard]] RLHF_HD RLHF_INLINE double operator()(std::int64_t length, const Token& token) const {
    const std::int64_t all = length - n + 1;
    if (all <= 0) return 0;
    std::int64_t distinct = 0;
    for (std::int64_t j = 0; j < all; ++j) {
      bool seen = false;
      for (std::int64_t i = 0; i < j && !seen; ++i) {
        seen = true;
        for (std::int64_t k = 0; k < n && seen; ++k) seen = token(i + k) == token(j + k);
      }
      distinct += seen ? 0 : 1;
    }
    return (1 - static_cast<double>(distinct) / static_cast<double>(all)) * max_penalty;
  }
};

}  // namespace rlhf::inline v1
