#pragma once
// Generalised advantage estimation, as affine scans from the last token to the first.

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// What an estimator sees of one step. What stands behind `valid` only where it says that it reads it.
template <number V>
struct reward_step {
  V reward{};         ///< of this step
  V value{};          ///< of the state before it; 0 where none was given
  mask_t<V> valid{};  ///< is it a token of the loss?
  V next_value{};     ///< value of the state that the step leads to
  mask_t<V> done{};   ///< does the episode end with this step?
  V log_ratio{};      ///< log-ratio of the policy to the one that acted
  V gamma{};          ///< discount from this step to the next
  V lambda{};         ///< lambda from this step to the next
};
/// What an estimator reads, as bits of its member `reads`; without that member it reads the reward, and the value if given.
namespace step {

inline constexpr unsigned reward = 1u << 0, next_value = 1u << 1, log_ratio = 1u << 2, gamma = 1u << 3,
                          lambda = 1u << 4;

}  // namespace step
/// What it gives for that step.
template <number V>
struct advantage_step {
  V advantage{};
  V returns{};
};

/// What the recursion does at slots outside the mask (padding, tool output).
enum class gap {
  carry,     ///< skips them: next value and advantage are carried across without decay (verl, NeMo RL)
  zero,      ///< walks through them with reward and value taken as 0 (OpenRLHF, RTO, VinePPO)
  plain,     ///< walks through them as they are (TRL); what stands there must be numbers
  raw_next,  ///< skips them, but takes the next value from the next slot as it is (oat)
  reset      ///< forgets at each of them what came after: discounted_return only (SkyRL)
};

namespace advantage_detail {

/// gae where every slot is a token.
struct dense_gae {
  double gamma = 1;
  double lambda = 0.95;

  static constexpr int scans = 2;
  [[nodiscard]] static RLHF_HD constexpr int level(int k) { return k == 0 ? 0 : -1; }
  /// Beyond the end: the advantage, the value.
  [[nodiscard]] RLHF_HD double initial(int k, double bootstrap) const { return k == 0 ? 0 : bootstrap; }

  template <number V, class Scan>
  RLHF_HD RLHF_INLINE advantage_step<V> operator()(const reward_step<V>& x, double, Scan& scan) const {
    const V g(constant<V>(gamma)), decay(constant<V>(gamma * lambda));
    const V next = scan.next(1, x.value);
    const V a = scan.inclusive(0, decay, x.reward + g * next - x.value);
    return {a, a + x.value};
  }
};

}  // namespace advantage_detail

/// GAE: \f$ \delta_t = r_t + \gamma V_{t+1} - V_t,\quad A_t = \delta_t + \gamma\lambda A_{t+1},\quad G_t = A_t + V_t \f$.
///
/// Beyond the end V is the bootstrap value (0 without one: a finished sequence) and A is 0. The returns are of the plain
/// advantages: whiten those afterwards, never before. gamma 1, lambda 1: A_t = sum of rewards from t on, minus V_t.
/// Source: Schulman et al. 2015, arXiv 1506.02438, eq. 16; catalogue E-01, where the peers' gap rules are.
struct gae {
  double gamma = 1;       ///< discount of a step
  double lambda = 0.95;   ///< 1: Monte Carlo, 0: one step
  gap gaps = gap::carry;  ///< what happens outside the mask

  static constexpr int scans = 3;
  /// The advantages read the value that follows, which reads no other recurrence; the value of the next slot is a shift.
  [[nodiscard]] static RLHF_HD constexpr int level(int k) { return k == 2 ? -1 : k; }
  [[nodiscard]] constexpr status check() const {
    if (!(gamma >= 0 && gamma <= 1)) return remark::argument("gae", "gamma", gamma, "0 <= gamma <= 1");
    if (!(lambda >= 0 && lambda <= 1)) return remark::argument("gae", "lambda", lambda, "0 <= lambda <= 1");
    if (gaps == gap::reset)
      return remark::argument("gae", "gaps", static_cast<double>(gaps), "carry, zero, plain or raw_next");
    return {};
  }
  /// The same numbers where every slot is a token, in half the work.
  [[nodiscard]] constexpr advantage_detail::dense_gae without_gaps() const { return {gamma, lambda}; }
  /// Beyond the end: the value that follows (raw_next: whether a valid token follows), the advantage, the value of the next slot.
  [[nodiscard]] RLHF_HD double initial(int k, double bootstrap) const {
    return k == 1 || (k == 0 && gaps == gap::raw_next) ? 0 : bootstrap;
  }

  template <number V, class Scan>
  RLHF_HD RLHF_INLINE advantage_step<V> operator()(const reward_step<V>& x, double bootstrap, Scan& scan) const {
    const V zero(constant<V>(0)), one(constant<V>(1)), g(constant<V>(gamma)), decay(constant<V>(gamma * lambda));
    if (gaps == gap::plain) {
      const V next = scan.next(2, x.value);
      const V a = scan.inclusive(1, decay, x.reward + g * next - x.value);
      return {a, a + x.value};
    }
    const V value = select(x.valid, x.value, zero), reward = select(x.valid, x.reward, zero);
    if (gaps == gap::zero) {
      const V next = scan.next(2, value);
      const V a = scan.inclusive(1, decay, reward + g * next - value);
      return {a, a + value};
    }
    V next;
    if (gaps == gap::carry) {
      next = scan.exclusive(0, select(x.valid, zero, one), value);
    } else {
      const V follows = scan.exclusive(0, select(x.valid, zero, one), select(x.valid, one, zero));
      next = select(follows > zero, scan.next(2, x.value), V(constant<V>(bootstrap)));
    }
    const V a = scan.inclusive(1, select(x.valid, decay, one), select(x.valid, reward + g * next - value, zero));
    return {a, a + value};
  }
};

/// GAE with a discount and a lambda for each token: \f$ \delta_t = r_t + \gamma_t V_{t+1} - V_t,\quad
/// A_t = \delta_t + \gamma_t\lambda_t A_{t+1},\quad G_t = A_t + V_t \f$.
///
/// For discounts that count turns and not tokens (gamma below 1 at the last token of a turn, 1 elsewhere), and for a lambda of
/// each sequence. Slots outside the mask are skipped, nothing decays there. The numbers are the caller's and are not checked.
/// Source: as gae; a lambda for each response: Yue et al. 2025, arXiv 2504.05118. Catalogue E-02.
struct varying_gae {
  static constexpr unsigned reads = step::reward | step::gamma | step::lambda;
  static constexpr int scans = 2;
  [[nodiscard]] static RLHF_HD constexpr int level(int k) { return k; }
  [[nodiscard]] constexpr status check() const { return {}; }
  [[nodiscard]] RLHF_HD double initial(int k, double bootstrap) const { return k == 0 ? bootstrap : 0; }

  template <number V, class Scan>
  RLHF_HD RLHF_INLINE advantage_step<V> operator()(const reward_step<V>& x, double, Scan& scan) const {
    const V zero(constant<V>(0)), one(constant<V>(1));
    const V next = scan.exclusive(0, select(x.valid, zero, one), select(x.valid, x.value, zero));
    const V delta = x.reward + x.gamma * next - x.value;
    const V a = scan.inclusive(1, select(x.valid, x.gamma * x.lambda, one), select(x.valid, delta, zero));
    return {a, a + x.value};
  }
};

/// VAPO's lambda of a response of n tokens: \f$ \lambda = 1 - 1/\max(\alpha n, 1) \f$, so that the decay reaches as far as the
/// response is long. Source: Yue et al. 2025, arXiv 2504.05118; alpha 0.05 there. Catalogue E-02.
struct length_adaptive_lambda {
  double alpha = 0.05;  ///< 1 / (1 - lambda) is alpha n tokens
  [[nodiscard]] RLHF_HD constexpr double operator()(double tokens) const {
    const double reach = alpha * tokens;
    return reach > 1 ? 1 - 1 / reach : 0;
  }
};

/// Discounted sum of the rewards from each token on: \f$ G_t = r_t + \gamma G_{t+1} \f$; advantage and returns are both G.
/// Gaps are carried across (verl), walked through with reward 0 (gap::zero) or cut the sum off (gap::reset, SkyRL).
/// Source: REINFORCE++, Hu 2025, arXiv 2501.03262; catalogue E-08.
struct discounted_return {
  double gamma = 1;       ///< discount of a step
  gap gaps = gap::carry;  ///< what happens outside the mask

  static constexpr int scans = 1;
  [[nodiscard]] constexpr status check() const {
    if (!(gamma >= 0 && gamma <= 1)) return remark::argument("discounted_return", "gamma", gamma, "0 <= gamma <= 1");
    return {};
  }
  [[nodiscard]] RLHF_HD double initial(int, double bootstrap) const { return bootstrap; }

  template <number V, class Scan>
  RLHF_HD RLHF_INLINE advantage_step<V> operator()(const reward_step<V>& x, double, Scan& scan) const {
    const V zero(constant<V>(0)), one(constant<V>(1)), g(constant<V>(gamma));
    const V reward = select(x.valid, x.reward, zero);
    const V across = gaps == gap::carry ? one : gaps == gap::reset ? zero : g;
    const V sum = scan.inclusive(0, select(x.valid, g, across), reward);
    return {sum, sum};
  }
};

}  // namespace rlhf::inline v1
