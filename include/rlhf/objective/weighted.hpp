#pragma once
// Policy-gradient objectives whose ratio weighs the gradient instead of clipping the loss.
//
// rho = exp(log pi - log pi_old); sg(.) is a constant of the loss; A the advantage.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

namespace weighted_detail {

/// The ratio, its logarithm bounded on both sides where a bound is given.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V ratio(const token<V>& t, double log_ratio_bound) {
  V difference = t.logp - t.old_logp;
  if (log_ratio_bound < infinity)
    difference = clamp(difference, constant<V>(-log_ratio_bound), constant<V>(log_ratio_bound));
  return exp(difference);
}

}  // namespace weighted_detail

/// CISPO: \f$ -\mathrm{sg}([\rho]_{low}^{high})\,A\log\pi \f$: a clipped token keeps its gradient, with a bounded weight.
///
/// Bounds are of the ratio itself (verl's 1 - eps and 1 + eps; TRL: no lower one). With low 0 and high 1 it is truncated
/// importance-sampled REINFORCE. `through`: the gradient goes through the clamp instead, so that clipped tokens lose it
/// (TorchRL's variant). Statistics: `clip_fraction`, the ratio strictly outside its bounds.
/// Source: MiniMax-M1, arXiv 2506.13585, eq. 4-5; catalogue G-06, G-22.
struct cispo {
  double low = 0;                     ///< lower bound of the ratio itself
  double high = 5;                    ///< upper bound of the ratio itself
  double log_ratio_bound = infinity;  ///< clamps the log-ratio on both sides before exp
  bool through = false;               ///< the gradient goes through the clamped ratio instead of log pi

  static constexpr unsigned reads = field::old_logp | field::advantage;
  [[nodiscard]] constexpr status check() const {
    if (!(low >= 0 && low <= high)) return remark::argument("cispo", "low", low, "0 <= low <= high");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const V weight = clamp(weighted_detail::ratio(t, log_ratio_bound), constant<V>(low), constant<V>(high));
    if (through) return weight * -t.advantage;
    return t.logp * (stop_gradient(weight) * -t.advantage);
  }
  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"clip_fraction"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const token<V>& t, V (&out)[1]) const {
    const V r = weighted_detail::ratio(t, log_ratio_bound), lo = constant<V>(low), hi = constant<V>(high);
    out[0] = select((r < lo) | (r > hi), constant<V>(1), constant<V>(0));
  }
};

/// REINFORCE with importance weights, zero outside a trust region: \f$ -\mathrm{sg}(\rho\,1[1-\epsilon_l<\rho<1+\epsilon_h])
/// A\log\pi \f$. Source: SkyRL's rollout_is; catalogue G-07.
struct masked_importance {
  double low = 0.2;   ///< the ratio must be above 1 - low
  double high = 0.2;  ///< and below 1 + high
  static constexpr unsigned reads = field::old_logp | field::advantage;
  [[nodiscard]] constexpr status check() const {
    if (!(low >= 0 && low <= 1)) return remark::argument("masked_importance", "low", low, "0 <= low <= 1");
    if (!(high >= 0)) return remark::argument("masked_importance", "high", high, "0 or more");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const value_t<V> r = exp(stop_gradient(t.logp) - t.old_logp), lo = constant<V>(1 - low), hi = constant<V>(1 + high);
    return t.logp * (select((r > lo) & (r < hi), r, constant<V>(0)) * -t.advantage);
  }
};

/// The plain importance-sampled gain: \f$ -\rho A \f$. Source: SkyRL; catalogue G-23.
struct importance_sampling {
  static constexpr unsigned reads = field::old_logp | field::advantage;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return exp(t.logp - t.old_logp) * -t.advantage;
  }
};

/// SAPO: a sigmoid gate in place of the clip, \f$ -\frac4\tau\sigma(\tau(\rho - 1))A \f$, tau by the sign of A; slope -A at
/// rho = 1 for every tau. Source: Gao et al. 2025, arXiv 2511.20347; catalogue G-11.
struct sapo {
  double temperature_positive = 1;     ///< tau where A > 0
  double temperature_negative = 1.05;  ///< tau elsewhere
  double log_ratio_bound = infinity;   ///< clamps the log-ratio on both sides before exp
  static constexpr unsigned reads = field::old_logp | field::advantage;
  [[nodiscard]] constexpr status check() const {
    if (!(temperature_positive > 0))
      return remark::argument("sapo", "temperature_positive", temperature_positive, "more than 0");
    if (!(temperature_negative > 0))
      return remark::argument("sapo", "temperature_negative", temperature_negative, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const value_t<V> zero = constant<V>(0), one = constant<V>(1), four = constant<V>(4);
    const value_t<V> tau =
        select(t.advantage > zero, constant<V>(temperature_positive), constant<V>(temperature_negative));
    return sigmoid((weighted_detail::ratio(t, log_ratio_bound) - one) * tau) * (four / tau * -t.advantage);
  }
};

/// DRO: \f$ -(A\log\pi - \frac\beta2(\log\pi - \log\pi_{old})^2) \f$. Source: Richemond et al. 2024, arXiv 2405.19107; with
/// the squared term's weight as tau it is Kimi k1.5's, arXiv 2501.12599. Catalogue G-19, G-20.
struct direct_reward_optimisation {
  double beta = 0.1;  ///< weight of the squared log-ratio
  static constexpr unsigned reads = field::old_logp | field::advantage;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("direct_reward_optimisation", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return square(t.logp - t.old_logp) * constant<V>(beta / 2) - t.logp * t.advantage;
  }
};

/// DPPO with total variation: a token counts while its probability has not moved further than the bound in the direction
/// its advantage pushes: kept if A > 0 and p - p_old <= high, or A <= 0 and p - p_old >= -low.
///
/// Kept tokens: \f$ -\mathrm{sg}([\rho]^{bound})A\log\pi \f$ (verl), or with `through_ratio` \f$ -\rho A \f$ (SkyRL,
/// prime-rl). Statistics: `clip_fraction`, tokens not kept. Source: verl, SkyRL, prime-rl; catalogue G-14.
struct dppo_total_variation {
  double low = 0.2;                   ///< how far a probability may fall where A <= 0
  double high = 0.2;                  ///< how far it may rise where A > 0
  double ratio_bound = 20;            ///< upper bound of the weight
  double log_ratio_bound = infinity;  ///< clamps the log-ratio on both sides before exp
  bool through_ratio = false;         ///< the gradient goes through the unbounded ratio instead of log pi
  static constexpr unsigned reads = field::old_logp | field::advantage;

  [[nodiscard]] constexpr status check() const {
    if (!(low >= 0)) return remark::argument("dppo_total_variation", "low", low, "0 or more");
    if (!(high >= 0)) return remark::argument("dppo_total_variation", "high", high, "0 or more");
    if (!(ratio_bound > 0)) return remark::argument("dppo_total_variation", "ratio_bound", ratio_bound, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const V r = weighted_detail::ratio(t, log_ratio_bound);
    const V gain = through_ratio ? r : t.logp * min(stop_gradient(r), constant<V>(ratio_bound));
    return select(kept(t), gain * -t.advantage, V(constant<V>(0)));
  }
  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"clip_fraction"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const token<V>& t, V (&out)[1]) const {
    out[0] = select(kept(t), constant<V>(0), constant<V>(1));
  }

 private:
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE mask_t<V> kept(const token<V>& t) const {
    const value_t<V> moved = exp(stop_gradient(t.logp)) - exp(t.old_logp), zero = constant<V>(0);
    const value_t<V> hi = constant<V>(high), lo = constant<V>(-low);
    return ((t.advantage > zero) & (moved <= hi)) | ((t.advantage <= zero) & (moved >= lo));
  }
};

/// DPPO with the binary KL of the token's probability: dropped where
/// \f$ p_o\log\frac{p_o}{p} + (1-p_o)\log\frac{1-p_o}{1-p} \f$ exceeds the bound and the probability moved the advantage's
/// way; `low` bounds falling, `high` rising tokens. Otherwise as dppo_total_variation. Source: verl, SkyRL;
/// catalogue G-15.
struct dppo_binary_kl {
  double low = 0.1;                   ///< of the binary KL, for falling tokens with A <= 0
  double high = 0.1;                  ///< for rising tokens with A > 0
  double ratio_bound = 20;            ///< upper bound of the weight
  double log_ratio_bound = infinity;  ///< clamps the log-ratio on both sides before exp
  double guard = 1e-8;                ///< added to both sides of the second ratio
  static constexpr unsigned reads = field::old_logp | field::advantage;

  [[nodiscard]] constexpr status check() const {
    if (!(low >= 0)) return remark::argument("dppo_binary_kl", "low", low, "0 or more");
    if (!(high >= 0)) return remark::argument("dppo_binary_kl", "high", high, "0 or more");
    if (!(ratio_bound > 0)) return remark::argument("dppo_binary_kl", "ratio_bound", ratio_bound, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const value_t<V> r = stop_gradient(weighted_detail::ratio(t, log_ratio_bound));
    return select(kept(t), t.logp * (min(r, constant<V>(ratio_bound)) * -t.advantage), V(constant<V>(0)));
  }
  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"clip_fraction"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const token<V>& t, V (&out)[1]) const {
    out[0] = select(kept(t), constant<V>(0), constant<V>(1));
  }

 private:
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE mask_t<V> kept(const token<V>& t) const {
    const value_t<V> one = constant<V>(1), zero = constant<V>(0), small = constant<V>(guard);
    const value_t<V> logp = stop_gradient(t.logp), p = exp(logp), old = exp(t.old_logp);
    const value_t<V> kl = old * (t.old_logp - logp) + (one - old) * log((one - old + small) / (one - p + small));
    const value_t<V> hi = constant<V>(high), lo = constant<V>(low);
    const auto rose = (t.advantage > zero) & (p > old) & (kl > hi),
               fell = (t.advantage <= zero) & (p < old) & (kl > lo);
    return !(rose | fell);
  }
};

/// Prime-RL's masked importance sampling with a pull to the old policy: tokens whose probability moved more than `bound`
/// lose the gain, \f$ -\rho A + \tau(\log\rho)^2 \f$. Source: prime-rl, which calls it ipo; catalogue G-16.
struct importance_with_pull {
  double bound = 0.1;  ///< how far a probability may move before the token loses its gain
  double pull = 1e-3;  ///< tau, of the squared log-ratio
  static constexpr unsigned reads = field::old_logp | field::advantage;
  [[nodiscard]] constexpr status check() const {
    if (!(bound >= 0)) return remark::argument("importance_with_pull", "bound", bound, "0 or more");
    if (!(pull >= 0)) return remark::argument("importance_with_pull", "pull", pull, "0 or more");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const value_t<V> moved = abs(exp(stop_gradient(t.logp)) - exp(t.old_logp)), limit = constant<V>(bound);
    const V difference = t.logp - t.old_logp;
    return select(moved > limit, V(constant<V>(0)), exp(difference) * -t.advantage) +
           square(difference) * constant<V>(pull);
  }
};

/// GSPO-token: the sequence's ratio as the value, the token's own log-probability as the way the gradient goes,
/// \f$ s_t = \exp(\log\pi - \mathrm{sg}\log\pi + \mathrm{sg}(\overline{\log\rho})) \f$, then PPO's clip.
/// Source: Zheng et al. 2025, arXiv 2507.18071, eq. 14; catalogue G-09.
struct gspo_token {
  double low = 3e-4;            ///< the sequence's ratio is bounded at 1 - low
  double high = 4e-4;           ///< and at 1 + high
  double log_ratio_bound = 10;  ///< clamps the log-ratio above, before exp
  static constexpr unsigned reads = field::old_logp | field::advantage | field::sequence_log_ratio;

  [[nodiscard]] constexpr status check() const {
    if (!(low >= 0 && low <= 1)) return remark::argument("gspo_token", "low", low, "0 <= low <= 1");
    if (!(high >= 0)) return remark::argument("gspo_token", "high", high, "0 or more");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const V s = ratio(t);
    return max(s * -t.advantage, clamp(s, constant<V>(1 - low), constant<V>(1 + high)) * -t.advantage);
  }
  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"clip_fraction"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const token<V>& t, V (&out)[1]) const {
    const V s = ratio(t), clipped = clamp(s, constant<V>(1 - low), constant<V>(1 + high)) * -t.advantage;
    out[0] = select(clipped > s * -t.advantage, constant<V>(1), constant<V>(0));
  }

 private:
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V ratio(const token<V>& t) const {
    const V moved = t.logp - stop_gradient(t.logp) + t.sequence_log_ratio;
    return exp(clamp(moved, constant<V>(-infinity), constant<V>(log_ratio_bound)));
  }
};

/// Decoupled PPO for asynchronous training: the clip is around the proximal policy (given as old_logp), the gain is
/// weighed by proximal over behaviour (given as rollout_logp), \f$ -w\min(\rho A,\ [\rho]_{1-low}^{1+high}A) \f$ with
/// \f$ w = \exp(\log\pi_{old} - \log\pi_{rollout}) \f$; tokens whose weight exceeds `cap` are dropped.
/// Source: Hilton et al. 2022, arXiv 2110.00641; AReaL, arXiv 2505.24298; catalogue G-26.
struct decoupled_ppo {
  double low = 0.2;       ///< the ratio's lower bound is 1 - low
  double high = 0.2;      ///< the upper bound is 1 + high
  double cap = infinity;  ///< largest weight of a token that counts
  static constexpr unsigned reads = field::old_logp | field::rollout_logp | field::advantage;

  [[nodiscard]] constexpr status check() const {
    if (!(low >= 0 && low <= 1)) return remark::argument("decoupled_ppo", "low", low, "0 <= low <= 1");
    if (!(high >= 0)) return remark::argument("decoupled_ppo", "high", high, "0 or more");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const V r = exp(t.logp - t.old_logp);
    const value_t<V> behaviour = exp(t.old_logp - t.rollout_logp), limit = constant<V>(cap);
    const V loss = max(r * -t.advantage, clamp(r, constant<V>(1 - low), constant<V>(1 + high)) * -t.advantage);
    return select(behaviour > limit, V(constant<V>(0)), loss * behaviour);
  }
};

/// TOPR: responses that scored above 0 are imitated, the others pushed away no harder than they are likely by now:
/// \f$ -w_+ A\log\pi \f$ where the score is positive, else \f$ -w_-\,\mathrm{sg}([\rho]_0^1)\,A\log\pi \f$.
/// Source: Le Roux et al. 2025, arXiv 2503.14286; weights of ROLL; catalogue G-21.
struct topr {
  double positive = 1;  ///< w_+, where the score is above 0
  double negative = 1;  ///< w_-, elsewhere
  static constexpr unsigned reads = field::old_logp | field::advantage | field::score;

  [[nodiscard]] constexpr status check() const {
    if (!(positive >= 0)) return remark::argument("topr", "positive", positive, "0 or more");
    if (!(negative >= 0)) return remark::argument("topr", "negative", negative, "0 or more");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    const value_t<V> one = constant<V>(1), zero = constant<V>(0);
    const value_t<V> truncated = min(exp(stop_gradient(t.logp) - t.old_logp), one);
    const value_t<V> w = select(t.score > zero, constant<V>(positive), truncated * constant<V>(negative));
    return t.logp * (w * -t.advantage);
  }
};

/// Dynamic fine-tuning: negative log-likelihood weighed by the probability itself, \f$ -\mathrm{sg}(\pi)\log\pi \f$.
/// Source: Wu et al. 2025, arXiv 2508.05629; catalogue D-02.
struct dynamic_fine_tuning {
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return t.logp * -exp(stop_gradient(t.logp));
  }
};

/// Entropy-adaptive fine-tuning: negative log-likelihood weighed by how undecided the policy is,
/// \f$ -\mathrm{sg}\big((H/s)^\alpha\big)\log\pi \f$, so that tokens about which it is sure pull less.
///
/// H, the token's `entropy`, is that of the 20 likeliest tokens renormalised (top_k's `entropy` with k 20); s = 3 nats is about
/// log 20. Negative entropies, of rounding, count as 0; at alpha = 0 it is the negative log-likelihood.
/// Source: Diao et al. 2026, arXiv 2601.02151; k and scale of LLaMA-Factory; catalogue D-03.
struct entropy_adaptive_fine_tuning {
  double alpha = 1;  ///< the power of the entropy
  double scale = 3;  ///< s: an entropy that weighs 1, nats
  static constexpr unsigned reads = field::entropy;

  [[nodiscard]] constexpr status check() const {
    if (!(alpha >= 0)) return remark::argument("entropy_adaptive_fine_tuning", "alpha", alpha, "0 or more");
    if (!(scale > 0)) return remark::argument("entropy_adaptive_fine_tuning", "scale", scale, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    if (!(alpha > 0)) return -t.logp;
    const value_t<V> h = max(stop_gradient(t.entropy), constant<V>(0)) / constant<V>(scale);
    return t.logp * -exp(log(h) * constant<V>(alpha));
  }
};

}  // namespace rlhf::inline v1
