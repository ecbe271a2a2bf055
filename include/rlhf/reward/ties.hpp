#pragma once
// Paired comparisons that may end in a tie.
//
// The field `probability` is the points of the first response ("chosen"): 1 it won, 0 it lost, 1/2 a tie. The field `tie` is
// one differentiable number for all pairs. D = r_first - r_second.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

namespace ties_detail {

/// `won`, `lost` or `tied`, whichever the points say.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V by_outcome(const value_t<V>& points, const V& won, const V& lost, const V& tied) {
  return select(points > constant<V>(0.75), won, select(points < constant<V>(0.25), lost, tied));
}

/// log(1 + e^a + e^b): minus the log of the first of three shares, whose own exponent is 0.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V log_of_three(const V& a, const V& b) {
  const value_t<V> top = max(max(stop_gradient(a), stop_gradient(b)), constant<V>(0));
  return log1p(exp(a - top) + exp(b - top) + (exp(-top) - constant<V>(1))) + top;
}

}  // namespace ties_detail

/// Davidson: shares \f$ e^{D/2} : e^{-D/2} : \nu \f$ of winning, losing, and a tie; -log of the one that happened.
/// The field `tie` is log nu; towards minus infinity this is Bradley-Terry on the pairs that have a winner.
/// Source: Davidson 1970, J. Am. Stat. Assoc. 65, 317. Catalogue spec-b-9.
struct davidson {
  static constexpr int partials = 3;
  static constexpr unsigned reads = field::probability | field::tie;

  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const score_pair<V>& p) const {
    using namespace ties_detail;
    const V d = p.chosen - p.rejected, half = d * constant<V>(0.5);
    // The other two exponents, less that of the outcome.
    const V first = by_outcome<V>(p.probability, -d, d, half - p.tie);
    const V second = by_outcome<V>(p.probability, p.tie - half, p.tie + half, -half - p.tie);
    return log_of_three(first, second);
  }
};

/// Rao-Kupper: \f$ P(\mathrm{win}) = \sigma(D-\ell) \f$, \f$ P(\mathrm{loss}) = \sigma(-D-\ell) \f$, a tie otherwise; -log of the one
/// that happened. The field `tie` is \f$ \ell = \log\theta > 0 \f$; at 0 a tie is impossible and this is Bradley-Terry.
/// learned_tie takes it through a softplus. Source: Rao and Kupper 1967, J. Am. Stat. Assoc. 62, 194. Catalogue spec-b-9.
struct rao_kupper {
  static constexpr int partials = 3;
  static constexpr unsigned reads = field::probability | field::tie;
  static constexpr bool positive_tie = true;

  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const score_pair<V>& p) const {
    const V d = p.chosen - p.rejected;
    const V won = softplus(p.tie - d), lost = softplus(p.tie + d);
    const V twice = p.tie + p.tie;
    // P(tie) = (theta^2 - 1) P(win) P(loss), and log(e^x - 1) = x + log(1 - e^-x)
    return ties_detail::by_outcome<V>(p.probability, won, lost, won + lost - twice - log1mexp(-twice));
  }
};

}  // namespace rlhf::inline v1
