#pragma once
// Advantages from values alone: of reasoning steps whose values come from rollouts (VinePPO), of a frozen critic (DVPO).

#include "rlhf/advantage/gae.hpp"
#include "rlhf/math/monoids.hpp"

namespace rlhf::inline v1 {

/// VinePPO: \f$ A_i = V_{i+1} - V_i \f$ over the steps of a response, V behind its last step the score.
///
/// The score is the `bootstrap` of the response, so that the advantages add up to score - V_0. A value that is NaN was not
/// estimated: it is taken from the next step, so that steps behind the last estimate give 0 and the step that leaves it
/// score - V. `returns` are the values, those filled in too. No discount, no reward before the end.
/// Source: Kazemnejad et al. 2024, arXiv 2410.01679; catalogue E-19.
struct step_advantage {
  static constexpr unsigned reads = 0;
  static constexpr int scans = 1;
  [[nodiscard]] constexpr status check() const { return {}; }
  [[nodiscard]] RLHF_HD double initial(int, double bootstrap) const { return bootstrap; }

  template <number V, class Scan>
  RLHF_HD RLHF_INLINE advantage_step<V> operator()(const reward_step<V>& x, double, Scan& scan) const {
    const V zero(constant<V>(0)), one(constant<V>(1));
    const auto estimated = x.valid & (x.value <= x.value);
    const V next = scan.exclusive(0, select(estimated, zero, one), select(estimated, x.value, zero));
    const V own = select(estimated, x.value, next);
    return {next - own, own};
  }
};

/// DVPO's static advantage: \f$ A_t = V_{t+1} \f$, the value of what token t leads to; behind the end the bootstrap.
///
/// Without a bootstrap the last token has 0, whatever it is worth: give the value after it. The advantage with V_t as the
/// baseline is gae with lambda 0. Slots outside the mask are skipped. `returns` are the same.
/// Source: Huang et al. 2025, arXiv 2502.16944.
struct action_value {
  static constexpr unsigned reads = 0;
  static constexpr int scans = 1;
  [[nodiscard]] constexpr status check() const { return {}; }
  [[nodiscard]] RLHF_HD double initial(int, double bootstrap) const { return bootstrap; }

  template <number V, class Scan>
  RLHF_HD RLHF_INLINE advantage_step<V> operator()(const reward_step<V>& x, double, Scan& scan) const {
    const V zero(constant<V>(0)), one(constant<V>(1));
    const V next = scan.exclusive(0, select(x.valid, zero, one), select(x.valid, x.value, zero));
    return {next, next};
  }
};

/// A Monte Carlo value: the mean of K returns of rollouts from a state, and the variance of that mean, the biased variance of
/// the returns over K. For returns 0 and 1 it is V(1 - V)/K. Source: arXiv 2410.01679; catalogue E-19.
struct rollout_value {
  double value = 0;
  double variance = 0;

  [[nodiscard]] static RLHF_HD RLHF_INLINE rollout_value of(const moments& returns) {
    if (!(returns.count > 0)) return {not_a_number, not_a_number};
    return {returns.mean, returns.variance(true) / returns.count};
  }
};

}  // namespace rlhf::inline v1
