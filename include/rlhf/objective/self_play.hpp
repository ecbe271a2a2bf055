#pragma once
// Pair objectives for samples of the policy itself: ranked by scores, towards an equilibrium, or with optimism.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// A pair objective on two samples whose rewards say which one is chosen, \f$ L(a, b) \f$ where \f$ r_1 \ge r_2 \f$,
/// else \f$ L(b, a) \f$; at a tie it is the first (`chosen`). The gradient returns to the sample that it belongs to.
/// With dpo_sigmoid or ipo_sum it is online DPO; a penalty for a missing end of text belongs into the rewards. Source:
/// Guo et al. 2024, arXiv 2402.04792; catalogue N-01.
template <class Objective>
struct ranked {
  Objective objective;
  static constexpr unsigned reads = reads_of<Objective>() | field::rewards;
  [[nodiscard]] constexpr unsigned needs() const { return needs_of(objective) | field::rewards; }
  [[nodiscard]] constexpr status check() const { return check_of(objective); }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const auto first = p.chosen.reward >= p.rejected.reward;
    pair<V> r = p;
    choose(first, p.chosen, p.rejected, r.chosen);
    choose(first, p.rejected, p.chosen, r.rejected);
    return objective(r);
  }
  [[nodiscard]] RLHF_HD constexpr double reward_scale() const {
    if constexpr (requires { objective.beta; })
      return objective.beta;
    else
      return 1;
  }

 private:
  template <class M, number V>
  RLHF_HD RLHF_INLINE static void choose(const M& first, const response<V>& a, const response<V>& b, response<V>& out) {
    out.logp = select(first, a.logp, b.logp);
    out.ref_logp = select(first, a.ref_logp, b.ref_logp);
    out.length = select(first, a.length, b.length);
    out.reward = select(first, a.reward, b.reward);
    out.previous_logp = select(first, a.previous_logp, b.previous_logp);
  }
};
template <class O>
ranked(O) -> ranked<O>;

/// XPO: online DPO between a sample of the policy (`chosen`) and one of the reference (`rejected`), ranked by their rewards,
/// and optimism: \f$ +\alpha\log\pi(y_{ref}) \f$, without beta (VPO's alpha is this over beta).
/// Source: Xie et al. 2024, arXiv 2405.21046, algorithm 1; catalogue N-02.
template <class Objective>
struct xpo {
  Objective objective;
  double alpha = 1e-5;  ///< weight of the optimism
  static constexpr unsigned reads = ranked<Objective>::reads;
  [[nodiscard]] constexpr unsigned needs() const { return needs_of(objective) | field::rewards; }
  [[nodiscard]] constexpr status check() const {
    if (!(alpha >= 0)) return remark::argument("xpo", "alpha", alpha, "0 or more");
    return check_of(objective);
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return ranked<Objective>{objective}(p) + p.rejected.logp * constant<V>(alpha);
  }
  [[nodiscard]] RLHF_HD constexpr double reward_scale() const { return ranked<Objective>{objective}.reward_scale(); }
};
template <class O>
xpo(O, double) -> xpo<O>;

/// INPO: one step of mirror descent towards the Nash policy of a preference game, regularised to the reference:
/// \f$ (g - \frac{1}{2\eta'})^2,\ g = \Delta\log\pi - \frac{\tau}{\eta'}\Delta\log\pi_{ref} - (1-\frac{\tau}{\eta'})\Delta\log\pi_{t} \f$, Delta of
/// chosen less rejected, pi_t the last iterate (`previous_logp`), eta' the INVERSE step size.
/// Source: Zhang et al. 2024, arXiv 2407.00617, eq. 8.
struct inpo {
  double tau = 0.1;           ///< pull to the reference
  double inverse_step = 0.3;  ///< eta', the inverse of the step size
  static constexpr unsigned reads = field::references | field::previous;
  [[nodiscard]] constexpr status check() const {
    if (!(tau >= 0)) return remark::argument("inpo", "tau", tau, "0 or more");
    if (!(inverse_step > 0)) return remark::argument("inpo", "inverse_step", inverse_step, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const double share = tau / inverse_step;
    const value_t<V> reference = p.chosen.ref_logp - p.rejected.ref_logp;
    const value_t<V> previous = p.chosen.previous_logp - p.rejected.previous_logp;
    const V g = p.chosen.logp - p.rejected.logp - (reference * constant<V>(share) + previous * constant<V>(1 - share));
    return square(g - constant<V>(1 / (2 * inverse_step)));
  }
};

}  // namespace rlhf::inline v1
