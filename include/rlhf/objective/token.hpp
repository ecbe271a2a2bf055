#pragma once
// Policy-gradient objectives: the loss of one token.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Negative log-likelihood (supervised fine-tuning): \f$ -\log\pi(y_t) \f$, in nats; range [0, inf).
/// Source: maximum likelihood; catalogue D-01.
struct negative_log_likelihood {
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return -t.logp;
  }
};

/// REINFORCE: \f$ -A_t \log\pi(y_t) \f$, gradient -A. Any advantage, any log-probability.
/// Source: Williams 1992; catalogue G-01.
struct reinforce {
  static constexpr unsigned reads = field::advantage;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return -(t.logp * t.advantage);
  }
};

/// PPO with a clipped ratio, and its variants as members:
/// \f$ -\min(\rho A,\ \mathrm{clip}(\rho, 1-\epsilon_{low}, 1+\epsilon_{high}) A) \f$ with
/// \f$ \rho = \exp(\log\pi - \log\pi_{old}) \f$.
///
/// `high` other than `low` is clip-higher (DAPO); `dual_clip` c bounds the loss by -c A where A < 0 (Ye et al. 2020,
/// arXiv 1912.09729, eq. 5; c > 1); `ratio_bound` delta bounds the unclipped ratio above (INTELLECT-2, arXiv 2505.07291);
/// `log_ratio_bound` clamps the log-ratio on both sides before exp (OpenRLHF, verl: 20). Each is off at infinity.
/// Gradient: -A rho where no bound holds the token back, else 0. Ties: bounds are closed, so exactly on 1 + high it is still
/// -A rho; where dual clip's minimum ties it is half of that. Overflow: the ratio is infinite from a log-ratio of 88 (float),
/// then the loss is +infinity where A < 0 and no upper bound is set.
/// Statistics: `clip_fraction` counts a clipped term strictly larger than the unclipped one; `clip_fraction_low` and
/// `_high` count the ratio strictly outside its bound with an advantage that pushes outwards (TRL's clip_ratio).
/// Source: Schulman et al. 2017, arXiv 1707.06347, eq. 7; catalogue G-02 to G-05.
struct ppo_clip {
  double low = 0.2;                   ///< the ratio's lower bound is 1 - low
  double high = 0.2;                  ///< the upper bound is 1 + high
  double dual_clip = infinity;        ///< c: where A < 0 the loss is at most -c A
  double ratio_bound = infinity;      ///< delta: upper bound of the unclipped ratio
  double log_ratio_bound = infinity;  ///< clamps the log-ratio on both sides before exp

  static constexpr unsigned reads = field::old_logp | field::advantage;

  [[nodiscard]] constexpr status check() const {
    if (!(low >= 0 && low <= 1)) return remark::argument("ppo_clip", "low", low, "0 <= low <= 1");
    if (!(high >= 0)) return remark::argument("ppo_clip", "high", high, "0 or more");
    if (!(dual_clip > 1))
      return remark::argument("ppo_clip", "dual_clip", dual_clip, "more than 1 (infinity turns it off)");
    if (!(ratio_bound > 0))
      return remark::argument("ppo_clip", "ratio_bound", ratio_bound, "more than 0 (infinity turns it off)");
    if (!(log_ratio_bound > 0))
      return remark::argument("ppo_clip", "log_ratio_bound", log_ratio_bound, "more than 0 (infinity turns it off)");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    // The ratio is held back on the one side where the advantage would reward it for going on.
    const auto falls = t.advantage < constant<V>(0);
    const value_t<V> lo = select(falls, constant<V>(1 - low), constant<V>(-infinity));
    const value_t<V> hi = select(falls, constant<V>(ratio_bound > 1 + high ? ratio_bound : 1 + high),
                                 constant<V>(ratio_bound < 1 + high ? ratio_bound : 1 + high));
    V loss = clamp(ratio(t), lo, hi) * -t.advantage;
    if (dual_clip < infinity)
      loss = select(t.advantage < constant<V>(0), min(loss, -t.advantage * constant<V>(dual_clip)), loss);
    return loss;
  }

  static constexpr int statistics_count = 4;
  static constexpr const char* statistics_names[] = {"clip_fraction", "clip_fraction_low", "clip_fraction_high",
                                                     "dual_clip_fraction"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const token<V>& t, V (&out)[4]) const {
    const V one = constant<V>(1), zero = constant<V>(0), lo = constant<V>(1 - low), hi = constant<V>(1 + high);
    const V r = ratio(t);
    const V plain = unclipped(r) * -t.advantage;
    const V bounded = clamp(r, lo, hi) * -t.advantage;
    out[0] = select(bounded > plain, one, zero);
    out[1] = select((r < lo) & (t.advantage < zero), one, zero);
    out[2] = select((r > hi) & (t.advantage > zero), one, zero);
    out[3] = zero;
    if (dual_clip < infinity)
      out[3] = select((t.advantage < zero) & (max(plain, bounded) > -t.advantage * constant<V>(dual_clip)), one, zero);
  }

 private:
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V ratio(const token<V>& t) const {
    V difference = t.logp - t.old_logp;
    if (log_ratio_bound < infinity)
      difference = clamp(difference, constant<V>(-log_ratio_bound), constant<V>(log_ratio_bound));
    return exp(difference);
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V unclipped(const V& r) const {
    if (ratio_bound < infinity) return min(r, constant<V>(ratio_bound));
    return r;
  }
};

/// A token objective with the sequence's ratio in place of the token's: the log-ratio is the mean over the sequence's
/// tokens, \f$ s_i = \exp(\frac{1}{n_i}\sum_t \log\pi_t - \log\pi_{old,t}) \f$, and its gradient reaches all of them.
/// Source: GSPO, Zheng et al. 2025, arXiv 2507.18071, eq. 7; catalogue G-08. The aggregation stays the caller's choice:
/// with row_mean it is the paper's, with token_mean each sequence weighs by its length (TRL's dapo, bnpo).
template <class Objective>
struct sequence_ratio {
  Objective objective;

  static constexpr unsigned reads = reads_of<Objective>() | field::old_logp;
};
template <class Objective>
sequence_ratio(Objective) -> sequence_ratio<Objective>;

/// \f$ -c H_t \f$, H in nats: a term that keeps the policy from collapsing. Gradient: -c in the entropy, none in logp.
/// Source: Williams and Peng 1991; catalogue G-30.
struct entropy_bonus {
  double coefficient = 0.01;  ///< c, loss for each nat of entropy

  static constexpr unsigned reads = field::entropy;
  static constexpr int partials = 2;

  [[nodiscard]] constexpr status check() const {
    if (!(coefficient > -infinity && coefficient < infinity))
      return remark::argument("entropy_bonus", "coefficient", coefficient, "a finite number");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return t.entropy * constant<V>(-coefficient);
  }
};

/// Two token terms added, \f$ L = L_1 + L_2 \f$, such as a KL penalty and an entropy bonus; slopes add up. Catalogue
/// K-14, G-30.
template <class First, class Second>
struct both {
  First first;
  Second second;

  static constexpr unsigned reads = reads_of<First>() | reads_of<Second>();
  static constexpr int partials = partials_of<token, First, Second>();
  static constexpr bool beside_sequence_ratio = beside_sequence_ratio_of<First>() || beside_sequence_ratio_of<Second>();

  [[nodiscard]] constexpr unsigned needs() const { return needs_of(first) | needs_of(second); }
  [[nodiscard]] constexpr status check() const {
    if (auto s = check_of(first); !s) return s;
    return check_of(second);
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return first(t) + second(t);
  }
};
template <class First, class Second>
both(First, Second) -> both<First, Second>;

}  // namespace rlhf::inline v1
