// A number type of one's own: intervals, admitted by one specialisation of rlhf::number_traits. Every formula then gives
// bounds instead of values, and dual numbers over intervals give bounds of the gradient.
//
// Here they answer: if each log-probability is only known to 0.01 nats, how far may PPO's loss and gradient be off?
// (float, double and long double are numbers already.)

#include <algorithm>
#include <cmath>

#include "check.hpp"
#include "rlhf/math/dual.hpp"
#include "rlhf/math/random.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/token.hpp"

//! [type]
/// All numbers from lo to hi. The bounds are rounded to nearest, so the last bits are not proven.
struct interval {
  double lo = 0, hi = 0;
  interval() = default;
  explicit interval(double x) : lo(x), hi(x) {}
  interval(double low, double high) : lo(low), hi(high) {}
};

/// A comparison of intervals may hold for some of their numbers and fail for others.
struct trilean {
  bool can_hold, can_fail;
};

inline interval operator-(interval a) { return {-a.hi, -a.lo}; }
inline interval operator+(interval a, interval b) { return {a.lo + b.lo, a.hi + b.hi}; }
inline interval operator-(interval a, interval b) { return {a.lo - b.hi, a.hi - b.lo}; }
inline interval operator*(interval a, interval b) {
  const auto [lo, hi] = std::minmax({a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi});
  return {lo, hi};
}
inline interval operator/(interval a, interval b) { return a * interval(1 / b.hi, 1 / b.lo); }  // 0 not inside b
inline trilean operator<(interval a, interval b) { return {a.lo < b.hi, a.hi >= b.lo}; }
inline trilean operator<=(interval a, interval b) { return {a.lo <= b.hi, a.hi > b.lo}; }
inline trilean operator>(interval a, interval b) { return b < a; }
inline trilean operator>=(interval a, interval b) { return b <= a; }
inline trilean operator&(trilean a, trilean b) { return {a.can_hold && b.can_hold, a.can_fail || b.can_fail}; }
inline trilean operator|(trilean a, trilean b) { return {a.can_hold || b.can_hold, a.can_fail && b.can_fail}; }
inline trilean operator!(trilean a) { return {a.can_fail, a.can_hold}; }
//! [type]

//! [traits]
template <>
struct rlhf::number_traits<interval> {
  using scalar = double;
  using value = interval;  // what constants of a formula are
  using mask = trilean;    // what comparisons give

  static interval constant(double c) { return interval(c); }
  static interval value_of(interval x) { return x; }
  static interval chain(interval, interval f, interval) { return f; }

  static interval exp(interval x) { return {std::exp(x.lo), std::exp(x.hi)}; }
  static interval log(interval x) { return {std::log(x.lo), std::log(x.hi)}; }
  static interval log1p(interval x) { return {std::log1p(x.lo), std::log1p(x.hi)}; }
  static interval expm1(interval x) { return {std::expm1(x.lo), std::expm1(x.hi)}; }
  static interval tanh(interval x) { return {std::tanh(x.lo), std::tanh(x.hi)}; }
  static interval sqrt(interval x) { return {std::sqrt(x.lo), std::sqrt(x.hi)}; }
  static interval abs(interval x) {
    const double a = std::abs(x.lo), b = std::abs(x.hi);
    return {x.lo <= 0 && x.hi >= 0 ? 0 : std::min(a, b), std::max(a, b)};
  }
  static interval min(interval a, interval b) { return {std::min(a.lo, b.lo), std::min(a.hi, b.hi)}; }
  static interval max(interval a, interval b) { return {std::max(a.lo, b.lo), std::max(a.hi, b.hi)}; }
  static interval select(trilean m, interval a, interval b) {  // undecided: whatever either side may be
    if (!m.can_fail) return a;
    if (!m.can_hold) return b;
    return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
  }
  static interval clamp(interval x, interval lo, interval hi) { return min(max(x, lo), hi); }
  static bool exceeds(interval x, interval bound) { return x.hi > bound.lo; }
  static interval largest(interval x) { return x; }
};
//! [traits]

namespace {

using calls::expect;

template <rlhf::number V>
rlhf::token<V> token_of(const V& logp, double old_logp, double advantage) {
  rlhf::token<V> t;
  t.logp = logp;
  t.old_logp = rlhf::constant<V>(old_logp);
  t.advantage = rlhf::constant<V>(advantage);
  return t;
}

/// Do the bounds hold every value, and the bounds of the derivative every derivative, of points in the interval?
template <class Objective>
void enclose(const char* name, const Objective& objective, double center, double radius, double advantage) {
  //! [bounds]
  using number = rlhf::dual<interval>;
  const interval logp(center - radius, center + radius);
  const number loss = objective(token_of(number::variable(logp, 0), -1.0, advantage));
  const interval value = loss.value, slope = loss.partial[0];
  //! [bounds]
  bool inside = true;
  for (std::uint32_t i = 0; i < 2000; ++i) {
    const double x = logp.lo + (logp.hi - logp.lo) * rlhf::random_numbers({1, 1}).uniform({i});
    const auto point = objective(token_of(rlhf::dual<double>::variable(x, 0), -1.0, advantage));
    const double margin = 1e-12;
    inside = inside && value.lo - margin <= point.value && point.value <= value.hi + margin &&
             slope.lo - margin <= point.partial[0] && point.partial[0] <= slope.hi + margin;
  }
  std::printf("%-28s loss in [%9.5f, %9.5f], d loss / d logp in [%9.5f, %9.5f]\n", name, value.lo, value.hi,
              slope.lo + 0.0, slope.hi + 0.0);  // no minus zero
  expect("  2000 points lie inside", inside);
}

}  // namespace

int main() {
  const rlhf::ppo_clip ppo;
  enclose("PPO, ratio near 1", ppo, -1.0, 0.01, 1.5);
  enclose("PPO, on the edge of the clip", ppo, -1.0 + std::log(1.2), 0.01,
          1.5);  // clipped or not: the slope is undecided
  enclose("PPO, beyond the clip", ppo, -0.7, 0.01, 1.5);
  enclose("PPO, pushed back", ppo, -0.7, 0.01, -1.5);
  enclose("reinforce", rlhf::reinforce{}, -1.0, 0.01, 1.5);

  // The same for a pair: DPO's loss where both log-ratios are known to 0.5 nats.
  rlhf::pair<interval> p;
  p.chosen.logp = interval(-10.5, -9.5);
  p.rejected.logp = interval(-14.5, -13.5);
  p.chosen.ref_logp = interval(-11);
  p.rejected.ref_logp = interval(-13);
  const interval loss = rlhf::dpo_sigmoid{}(p);
  std::printf("DPO: loss in [%.5f, %.5f]\n", loss.lo, loss.hi);
  expect("  lower bound: margin 3", loss.lo, std::log1p(std::exp(-0.3)), 1e-12);
  expect("  upper bound: margin 1", loss.hi, std::log1p(std::exp(-0.1)), 1e-12);

  // long double needs nothing at all.
  rlhf::token<long double> exact;
  exact.logp = -1.25L;
  exact.ref_logp = -1.25L + 1e-9L;
  expect("k3 in long double, at a difference of 1e-9", static_cast<double>(rlhf::k3{}(exact)) * 1e18, 0.5, 1e-8);
  return calls::failures();
}
