#pragma once
// Estimators from transitions that may end or lead anywhere, and from another policy's actions: TD(lambda) and V-trace.

#include "rlhf/advantage/gae.hpp"

namespace rlhf::inline v1 {

/// TD(lambda): \f$ G_t = r_t + \gamma(1-d_t)\left[(1-\lambda)V'_t + \lambda G_{t+1}\right],\quad A_t = G_t - V_t \f$.
///
/// V' is the value of the state that the step leads to, d whether the episode ends there; behind the last step of a sequence G
/// is that step's V'. lambda 0 is TD(0), lambda 1 is TD(1): Monte Carlo. Slots outside the mask are skipped, nothing decays.
/// Where V'_t is V_{t+1} and nothing ends the returns are those of gae.
/// Source: Sutton 1988; Sutton and Barto 2018, eq. 12.2 and 12.3. Catalogue E-24.
struct td_lambda {
  double gamma = 1;      ///< discount of a step
  double lambda = 0.95;  ///< 1: Monte Carlo, 0: one step

  static constexpr unsigned reads = step::reward | step::next_value;
  static constexpr int scans = 2;
  /// The returns read the next value and whether a step follows.
  [[nodiscard]] static RLHF_HD constexpr int level(int k) { return k == 0 ? 1 : 0; }
  [[nodiscard]] constexpr status check() const {
    if (!(gamma >= 0 && gamma <= 1)) return remark::argument("td_lambda", "gamma", gamma, "0 <= gamma <= 1");
    if (!(lambda >= 0 && lambda <= 1)) return remark::argument("td_lambda", "lambda", lambda, "0 <= lambda <= 1");
    return {};
  }
  [[nodiscard]] RLHF_HD double initial(int, double) const { return 0; }

  template <number V, class Scan>
  RLHF_HD RLHF_INLINE advantage_step<V> operator()(const reward_step<V>& x, double, Scan& scan) const {
    const V zero(constant<V>(0)), one(constant<V>(1)), g(constant<V>(gamma)), l(constant<V>(lambda));
    const V follows = scan.exclusive(1, select(x.valid, zero, one), select(x.valid, one, zero));
    const V kept = select(follows > zero, l, zero);  // the last step has its own next value and nothing else
    const V own = x.reward + select(x.done, zero, g * (one - kept) * x.next_value);
    const V sum = scan.inclusive(0, select(x.valid, select(x.done, zero, g * kept), one), select(x.valid, own, zero));
    return {sum - x.value, sum};
  }
};

/// V-trace: \f$ v_t = V_t + \rho_t\delta_t + \gamma(1-d_t)c_t(v_{t+1} - V_{t+1}),\quad
/// A_t = \rho_t(r_t + \gamma(1-d_t)v_{t+1} - V_t) \f$, with \f$ \delta_t = r_t + \gamma(1-d_t)V'_t - V_t \f$,
/// \f$ \rho_t = \min(\bar\rho, w_t) \f$, \f$ c_t = \lambda\min(\bar c, w_t) \f$ and w = exp(log_ratio), the policy's over the actor's.
///
/// The returns are v. Behind the last step v is that step's V', and no correction comes from there. Slots outside the mask are
/// skipped. On policy with both bounds 1 or more: v are the returns of TD(lambda).
/// Source: Espeholt et al. 2018, arXiv 1802.01561, eq. 1 and section 4.1; TorchRL. Catalogue E-24.
struct vtrace {
  double gamma = 1;    ///< discount of a step
  double rho_bar = 1;  ///< bound of the weight of a temporal difference
  double c_bar = 1;    ///< bound of the weight of what comes after
  double lambda = 1;   ///< factor of that weight

  static constexpr unsigned reads = step::reward | step::next_value | step::log_ratio;
  static constexpr int scans = 3;
  /// The corrections read the next value; the target that follows reads them; whether a step follows reads nothing.
  [[nodiscard]] static RLHF_HD constexpr int level(int k) { return k == 0 ? 1 : k == 1 ? 2 : 0; }
  [[nodiscard]] constexpr status check() const {
    if (!(gamma >= 0 && gamma <= 1)) return remark::argument("vtrace", "gamma", gamma, "0 <= gamma <= 1");
    if (!(rho_bar > 0)) return remark::argument("vtrace", "rho_bar", rho_bar, "more than 0 (infinity turns it off)");
    if (!(c_bar > 0)) return remark::argument("vtrace", "c_bar", c_bar, "more than 0 (infinity turns it off)");
    if (!(lambda >= 0 && lambda <= 1)) return remark::argument("vtrace", "lambda", lambda, "0 <= lambda <= 1");
    return {};
  }
  [[nodiscard]] RLHF_HD double initial(int, double) const { return 0; }

  template <number V, class Scan>
  RLHF_HD RLHF_INLINE advantage_step<V> operator()(const reward_step<V>& x, double, Scan& scan) const {
    const V zero(constant<V>(0)), one(constant<V>(1)), g(constant<V>(gamma));
    const V ratio = exp(x.log_ratio);
    const V rho = min(ratio, V(constant<V>(rho_bar))), c = min(ratio, V(constant<V>(c_bar))) * V(constant<V>(lambda));
    const V skip = select(x.valid, zero, one);
    const V delta = rho * (x.reward + select(x.done, zero, g * x.next_value) - x.value);
    const V correction =
        scan.inclusive(0, select(x.valid, select(x.done, zero, g * c), one), select(x.valid, delta, zero));
    const V target = x.value + correction;
    const V following = scan.exclusive(1, skip, select(x.valid, target, zero));
    const V follows = scan.exclusive(2, skip, select(x.valid, one, zero));
    const V after = select(follows > zero, following, x.next_value);
    return {rho * (x.reward + select(x.done, zero, g * after) - x.value), target};
  }
};

}  // namespace rlhf::inline v1
