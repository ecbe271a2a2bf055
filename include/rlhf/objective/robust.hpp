#pragma once
// Sets of weights over which a worst case is taken: which weights w near the given weights q make sum w l largest?
//
// q adds up to 1 here; u = l - max l. The worst weights are q h(u, x) up to a factor, for one number x found by bisection. They
// are also the gradient of the worst case in the losses (Danskin). Catalogue spec-b-6.

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// What is known of the losses before the search; weights are relative to their sum.
struct loss_survey {
  double mass = 0;  ///< the sum of the weights as given
  double mean = 0, variance = 0;
  double top = 0, bottom = 0;  ///< the largest and the smallest loss with a weight
  double top_share = 0;        ///< weight of the losses that equal the largest
};

/// How far a search has come. `x` is what is tried.
struct weight_search {
  enum class answer {
    open,      ///< x is looked for, or has been found
    base,      ///< the weights as they are
    top_alone  ///< the largest losses take all
  };
  answer found = answer::open;
  double low = 0, high = 0, x = 0;

  RLHF_HD RLHF_INLINE void between(double from, double to) {
    low = from;
    high = to;
    x = from + 0.5 * (to - from);
    if (!(x < to)) x = from;  // between neighbouring numbers there is none
  }
};

/// What one step of a search measures: two sums with weights, and two maxima.
struct weight_measure {
  double sum[2] = {0, 0};
  double max[2] = {-infinity, -infinity};
};

namespace robust_detail {

[[nodiscard]] RLHF_INLINE constexpr status check_radius(const char* set, double radius) {
  return radius >= 0 ? status{} : remark::argument(set, "radius", radius, "0 or more");
}

/// The answers that need no search: no room, nothing to tell apart, or room for everything.
[[nodiscard]] RLHF_HD RLHF_INLINE weight_search::answer without_search(const loss_survey& s, double radius,
                                                                       double limit) {
  if (!(radius > 0) || !(s.top > s.bottom)) return weight_search::answer::base;
  return radius >= limit ? weight_search::answer::top_alone : weight_search::answer::open;
}

}  // namespace robust_detail

/// A penalty of temperature times KL(w || q): \f$ \tau\log\sum_s q_s e^{l_s/\tau} \f$, weights \f$ \propto q_s e^{l_s/\tau} \f$.
/// Large temperatures give the mean, small ones the maximum. The dual is the temperature.
struct tilted_mean {
  double temperature = 1;  ///< tau, in units of the losses; infinity: the mean
  static constexpr int steps = 0;
  static constexpr bool ties_in_order = false;
  [[nodiscard]] constexpr status check() const {
    return temperature > 0 ? status{} : remark::argument("tilted_mean", "temperature", temperature, "more than 0");
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE weight_search start(const loss_survey&) const {
    weight_search s;
    if (!(temperature < infinity)) s.found = weight_search::answer::base;
    return s;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double factor(double u, double) const { return rlhf::exp(u / temperature); }
  [[nodiscard]] RLHF_HD RLHF_INLINE double value(const loss_survey& s, double share, double weighted) const {
    return temperature < infinity ? s.top + temperature * rlhf::log(share) : weighted;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double dual(const loss_survey&, const weight_search&) const { return temperature; }
};

/// All weights with \f$ \mathrm{KL}(w\|q) \le \rho \f$: those of tilted_mean at the temperature that spends the radius. From
/// \f$ \rho = -\log q(\arg\max) \f$ on it is the maximum. The dual is that temperature.
struct kl_ball {
  double radius = 0.1;  ///< rho, nats
  static constexpr int steps = 64;
  static constexpr bool ties_in_order = false;
  [[nodiscard]] constexpr status check() const { return robust_detail::check_radius("kl_ball", radius); }

  /// x is the log of the temperature in units of the range of the losses.
  [[nodiscard]] RLHF_HD RLHF_INLINE weight_search start(const loss_survey& s) const {
    weight_search out;
    out.found = robust_detail::without_search(s, radius, -rlhf::log(s.top_share));
    out.between(rlhf::log(s.top - s.bottom) - 60, rlhf::log(s.top - s.bottom) + 60);
    return out;
  }
  RLHF_HD RLHF_INLINE void measure(double u, double x, weight_measure& m) const {
    const double exponent = u / rlhf::exp(x), e = rlhf::exp(exponent);
    m.sum[0] = e;
    m.sum[1] = e > 0 ? e * exponent : 0;
  }
  RLHF_HD RLHF_INLINE void step(weight_search& s, const weight_measure& m) const {
    const double divergence = m.sum[1] / m.sum[0] - rlhf::log(m.sum[0]);
    if (divergence > radius)
      s.between(s.x, s.high);  // too cold
    else
      s.between(s.low, s.x);
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double factor(double u, double x) const { return rlhf::exp(u / rlhf::exp(x)); }
  [[nodiscard]] RLHF_HD RLHF_INLINE double value(const loss_survey&, double, double weighted) const { return weighted; }
  [[nodiscard]] RLHF_HD RLHF_INLINE double dual(const loss_survey& s, const weight_search& found) const {
    if (found.found == weight_search::answer::open) return rlhf::exp(found.x);
    return found.found == weight_search::answer::base && s.top > s.bottom ? infinity : 0;
  }
};

/// All weights with \f$ \frac12\sum_s q_s(w_s/q_s-1)^2 \le \rho \f$: weights \f$ \propto q_s\,(l_s-\eta)_+ \f$. While none of them
/// is 0 the worst case is \f$ \bar l + \sqrt{2\rho\,\mathrm{Var}_q(l)} \f$. The dual is eta.
struct chi_square_ball {
  double radius = 0.1;  ///< rho, half the chi-square distance
  static constexpr int steps = 100;
  static constexpr bool ties_in_order = false;
  [[nodiscard]] constexpr status check() const { return robust_detail::check_radius("chi_square_ball", radius); }

  /// x is eta less the largest loss.
  [[nodiscard]] RLHF_HD RLHF_INLINE weight_search start(const loss_survey& s) const {
    weight_search out;
    out.found = robust_detail::without_search(s, radius, 0.5 * (1 / s.top_share - 1));
    const double untruncated = s.mean - rlhf::sqrt(s.variance / (2 * radius));
    if (untruncated <= s.bottom)
      out.between(untruncated - s.top, untruncated - s.top);
    else
      out.between(s.bottom - s.top, 0);
    return out;
  }
  RLHF_HD RLHF_INLINE void measure(double u, double x, weight_measure& m) const {
    m.sum[0] = relu(u - x);
    m.sum[1] = square(m.sum[0]);
  }
  RLHF_HD RLHF_INLINE void step(weight_search& s, const weight_measure& m) const {
    if (!(s.low < s.high)) return;
    const double divergence = 0.5 * (m.sum[1] / square(m.sum[0]) - 1);
    if (m.sum[0] > 0 && divergence < radius)
      s.between(s.x, s.high);
    else
      s.between(s.low, s.x);
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double factor(double u, double x) const { return relu(u - x); }
  [[nodiscard]] RLHF_HD RLHF_INLINE double value(const loss_survey&, double, double weighted) const { return weighted; }
  [[nodiscard]] RLHF_HD RLHF_INLINE double dual(const loss_survey& s, const weight_search& found) const {
    if (found.found == weight_search::answer::base && s.top > s.bottom) return -infinity;
    return s.top + (found.found == weight_search::answer::open ? found.x : 0);
  }
};

/// CVaR: all weights \f$ w_s \le q_s/\alpha \f$: the mean of the worst share alpha of the losses. The loss at its edge counts with
/// what is left, and losses equal to that in the order they stand in. The dual is that loss, the value at risk.
/// Source: Rockafellar and Uryasev 2000.
struct conditional_value_at_risk {
  double alpha = 0.1;               ///< share of the losses that is averaged, the worst ones
  static constexpr int steps = 64;  // each halves the range and stops at a loss
  static constexpr bool ties_in_order = true;
  [[nodiscard]] constexpr status check() const {
    return alpha > 0 && alpha <= 1
               ? status{}
               : remark::argument("conditional_value_at_risk", "alpha", alpha, "more than 0, at most 1");
  }

  /// x is a loss less the largest one; the answer is between low and high, both of them losses.
  [[nodiscard]] RLHF_HD RLHF_INLINE weight_search start(const loss_survey& s) const {
    weight_search out;
    if (alpha >= 1) out.found = weight_search::answer::base;
    out.between(s.bottom - s.top, 0);
    return out;
  }
  RLHF_HD RLHF_INLINE void measure(double u, double x, weight_measure& m) const {
    m.sum[0] = u > x ? 1 : 0;
    m.max[u > x ? 1 : 0] = u > x ? -u : u;  // the nearest losses: at most x, and above it
  }
  RLHF_HD RLHF_INLINE void step(weight_search& s, const weight_measure& m) const {
    if (!(s.low < s.high)) return;
    if (m.sum[0] <= alpha)
      s.between(s.low, m.max[0]);
    else
      s.between(-m.max[1], s.high);
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double value(const loss_survey&, double, double weighted) const { return weighted; }
  [[nodiscard]] RLHF_HD RLHF_INLINE double dual(const loss_survey& s, const weight_search& found) const {
    return found.found == weight_search::answer::base ? s.bottom : s.top + found.high;
  }
};

}  // namespace rlhf::inline v1
