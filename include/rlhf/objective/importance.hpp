#pragma once
// Where the sampling engine is not the trainer: importance weights and rejections from the log-ratio of the two.
//
// w_t = exp(log pi - log pi_rollout) of a token, W = prod_t w_t of its sequence, G = W^(1/n) the geometric mean.
// A weight multiplies a token's objective; a rejected token loses it, and is still counted unless its mask goes too.

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// One token of a sampled sequence as a correction sees it.
template <number V>
struct mismatch {
  V log_weight{};       ///< log pi - log pi_rollout
  V advantage{};        ///< NaN where none was given
  V weight{};           ///< an earlier correction's weight of this token; 1 without one
  V sequence_weight{};  ///< the same for its sequence
};

/// Which ratio becomes the weight.
enum class weight_of {
  none,      ///< 1: reject only
  token,     ///< w_t
  sequence,  ///< W: unbiased, and of a variance that grows with the length
  geometric  ///< G
};

/// \f$ [\,w\,]_{low}^{high} \f$: a truncated importance weight; both bounds are off by default.
///
/// `log_ratio_bound` clamps the logarithm (of the token, or the sum over the sequence) before exp. A weight that is not
/// finite stays so, to be seen, unless `finite_only` makes it 0.
/// Source: Ionides 2008; Yao et al. 2025 ("TIS"); catalogue I-01, I-02, I-13. Peers: `high` 2 (verl), 3 (TRL), [0.5, 5]
/// (OpenRLHF); verl bounds the logarithm at 20.
struct importance_weight {
  weight_of level = weight_of::token;  ///< which ratio
  double low = 0;                      ///< of the weight
  double high = infinity;              ///< of the weight
  double log_ratio_bound = infinity;   ///< clamps the logarithm on both sides before exp
  bool finite_only = false;            ///< a weight that is not finite becomes 0

  [[nodiscard]] constexpr status check() const {
    if (!(low >= 0 && low <= high)) return remark::argument("importance_weight", "low", low, "0 <= low <= high");
    if (!(log_ratio_bound > 0))
      return remark::argument("importance_weight", "log_ratio_bound", log_ratio_bound, "more than 0 (infinity: off)");
    return {};
  }
  /// Of a token's log-ratio, the sum of its sequence's, and its length.
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(const V& log_weight, double log_sum, double tokens) const {
    if (level == weight_of::none) return constant<V>(1);
    V d = log_weight;
    if (level == weight_of::sequence) d = constant<V>(log_sum);
    if (level == weight_of::geometric) d = constant<V>(tokens > 0 ? log_sum / tokens : 0);
    if (log_ratio_bound < infinity) d = clamp(d, constant<V>(-log_ratio_bound), constant<V>(log_ratio_bound));
    const V w = exp(d), bounded = clamp(w, constant<V>(low), constant<V>(high));
    return finite_only ? V(select(is_finite(w), bounded, constant<V>(0))) : bounded;
  }
};

/// What a rejection looks at; d = log w.
enum class mismatch_measure {
  ratio,           ///< w; added up as logarithms, so that a sum gives W and a mean gives G
  k1,              ///< -d
  k2,              ///< d^2 / 2
  k3,              ///< e^d - 1 - d, never negative; its mean estimates KL(rollout || pi)
  total_variation  ///< |w - 1|
};

/// Over what it adds up.
enum class mismatch_level {
  off,    ///< nothing is rejected
  token,  ///< each token by itself
  sum,    ///< the sequence's sum
  mean,   ///< the sequence's mean; 0 of a sequence without tokens
  every   ///< all of the sequence's tokens must lie inside: a single outlier rejects it
};

/// Who is kept whatever the measure says.
enum class mismatch_exemption {
  nobody,
  gaining,   ///< A >= 0 (OPSM)
  returning  ///< log w and A of different signs: the update leads back to the sampler (VACO)
};

/// Keeps a token while its measure lies within the bounds, \f$ low \le m \le high \f$, both included; NaN is rejected.
///
/// Source: the peers' rejections, catalogue I-03 to I-10. IcePop is the ratio of each token; MIS the sequence's
/// product; OPSM (DeepSeek-V3.2, arXiv 2512.02556) the mean of k1 with an exemption. verl compares its k1 with log
/// bounds, which act inverted on w.
struct mismatch_gate {
  mismatch_level level = mismatch_level::off;              ///< what the measure is added up over
  mismatch_measure measure = mismatch_measure::ratio;      ///< what is measured
  double low = -infinity;                                  ///< of the measure, closed
  double high = infinity;                                  ///< of the measure, closed
  mismatch_exemption exempt = mismatch_exemption::nobody;  ///< who is kept whatever the measure says

  [[nodiscard]] constexpr status check() const {
    return low <= high ? status{} : remark::argument("mismatch_gate", "low", low, "at most high");
  }
  /// The measure of a token.
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V of(const V& d) const {
    switch (measure) {
      case mismatch_measure::ratio:
        return exp(d);
      case mismatch_measure::k1:
        return -d;
      case mismatch_measure::k2:
        return square(d) * constant<V>(0.5);
      case mismatch_measure::k3:
        return expm1(d) - d;
      default:
        return abs(expm1(d));
    }
  }
  /// The measure of a sequence from the sum of what it adds up (logarithms for the ratio).
  [[nodiscard]] RLHF_HD RLHF_INLINE double of_sequence(double sum, double tokens) const {
    const double total = level == mismatch_level::mean ? (tokens > 0 ? sum / tokens : 0) : sum;
    return measure == mismatch_measure::ratio ? rlhf::exp(total) : total;
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE mask_t<V> inside(const V& x) const {
    const V lowest = constant<V>(low), highest = constant<V>(high);
    return (x >= lowest) & (x <= highest);
  }
};

/// A weight and a rejection together, \f$ w\,1[low \le m \le high] \f$: what the peers call TIS, MIS, IcePop, OPSM and
/// so on are values of its members (the functions below name them). Corrections chain: give the weights and masks of
/// one as `weight` and `keep` of the next. Source: as importance_weight and mismatch_gate; catalogue I-01 to I-13.
struct importance_correction {
  importance_weight weight{};  ///< how much a token counts
  mismatch_gate gate{};        ///< whether it counts

  static constexpr int sums = 3;  // log weights, measures, tokens whose measure is outside

  [[nodiscard]] constexpr status check() const {
    if (auto s = weight.check(); !s) return s;
    return gate.check();
  }
  /// Do all tokens of a sequence receive the same?
  [[nodiscard]] constexpr bool by_sequence(bool token_advantages, bool token_weights) const {
    return weight.level != weight_of::token && gate.level != mismatch_level::token &&
           gate.exempt != mismatch_exemption::returning && !(token_advantages && reads_advantage()) && !token_weights;
  }
  [[nodiscard]] constexpr bool reads_advantage() const { return gate.exempt != mismatch_exemption::nobody; }

  template <number V>
  RLHF_HD RLHF_INLINE void add(const mismatch<V>& t, V (&out)[sums]) const {
    const V m = gate.of(t.log_weight);
    out[0] = t.log_weight;
    out[1] = gate.measure == mismatch_measure::ratio ? t.log_weight : m;
    out[2] = select(gate.inside(m), constant<V>(0), constant<V>(1));
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V weigh(const mismatch<V>& t, double tokens, const double* found) const {
    return weight(t.log_weight, found[0], tokens) * t.weight * t.sequence_weight;
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE mask_t<V> keeps(const mismatch<V>& t, double tokens, const double* found) const {
    const V zero = constant<V>(0), one = constant<V>(1);
    if (gate.level == mismatch_level::off) return one > zero;
    mask_t<V> inside;
    if (gate.level == mismatch_level::token)
      inside = gate.inside(gate.of(t.log_weight));
    else if (gate.level == mismatch_level::every)
      inside = V(constant<V>(found[2])) <= zero;
    else
      inside = gate.inside(V(constant<V>(gate.of_sequence(found[1], tokens))));
    if (gate.exempt == mismatch_exemption::gaining) return inside | (t.advantage >= zero);
    if (gate.exempt == mismatch_exemption::returning) return inside | (t.log_weight * t.advantage <= zero);
    return inside;
  }
  /// The gate's measure of a sequence; of `every`, how many of its tokens are outside.
  [[nodiscard]] RLHF_HD RLHF_INLINE double measure(double tokens, const double* found) const {
    return gate.level == mismatch_level::every ? found[2] : gate.of_sequence(found[1], tokens);
  }
};

/// \f$ [w_t]_{low}^{high} \f$ per token (TIS). Catalogue I-01.
[[nodiscard]] constexpr importance_correction truncated_token_weights(double high = 2, double low = 0) {
  return {{.level = weight_of::token, .low = low, .high = high}, {}};
}
/// \f$ [W]_{low}^{high} \f$ for all tokens of a sequence. Catalogue I-02.
[[nodiscard]] constexpr importance_correction truncated_sequence_weights(double high = 3, double low = 0) {
  return {{.level = weight_of::sequence, .low = low, .high = high}, {}};
}
/// w_t inside [low, high], else 0 (IcePop, token MIS). Catalogue I-03.
[[nodiscard]] constexpr importance_correction masked_token_weights(double low = 0.5, double high = 2) {
  return {{.level = weight_of::token}, {.level = mismatch_level::token, .low = low, .high = high}};
}
/// W inside [low, high], else 0 (sequence MIS; TRL's default). Catalogue I-04.
[[nodiscard]] constexpr importance_correction masked_sequence_weights(double high = 3, double low = 0) {
  return {{.level = weight_of::sequence}, {.level = mismatch_level::sum, .low = low, .high = high}};
}
/// w_t, not truncated, where the sequence's G is inside [low, high], else 0. Catalogue I-05.
[[nodiscard]] constexpr importance_correction sequence_masked_token_weights(double low = 0.8, double high = 1.2) {
  return {{.level = weight_of::token}, {.level = mismatch_level::mean, .low = low, .high = high}};
}
/// 1 where the sequence's G is inside [low, high], else 0. Catalogue I-07.
[[nodiscard]] constexpr importance_correction geometric_sequence_mask(double low = 0.99, double high = 1.01) {
  return {{.level = weight_of::none}, {.level = mismatch_level::mean, .low = low, .high = high}};
}
/// 1 where A >= 0 or the mean of log pi_rollout - log pi is at most the threshold, else 0: DeepSeek-V3.2's off-policy
/// sequence mask. Here log pi is the policy as it is now, not as it was before the update. Catalogue I-08.
[[nodiscard]] constexpr importance_correction off_policy_sequence_mask(double threshold) {
  return {{.level = weight_of::none},
          {.level = mismatch_level::mean,
           .measure = mismatch_measure::k1,
           .high = threshold,
           .exempt = mismatch_exemption::gaining}};
}

/// VESPO: a smooth weight of a whole sequence that needs no truncation,
/// \f$ \log\phi = \lambda + k\log w - \lambda w \f$, w the sequence's ratio to the old policy with earlier weights in it:
/// \f$ \log w = [\sum_t [\log\pi-\log\pi_{old}]_{\pm 20} + \sum_t [\log w^{earlier}_t]_{\log 10^{-8}}^{20}]_{\log 10^{-8}}^{20} \f$.
///
/// phi(1) = 1; its maximum is at w = k / lambda. k and lambda by the sign of A. The objective is reinforce. phi that is not
/// finite is 0. Source: TRL, Liger; catalogue G-12.
struct vespo_weight {
  double k_positive = 2;        ///< k where A >= 0
  double lambda_positive = 3;   ///< lambda where A >= 0, at least 1e-4
  double k_negative = 3;        ///< k where A < 0
  double lambda_negative = 2;   ///< lambda where A < 0, at least 1e-4
  double log_ratio_bound = 20;  ///< of each token's log-ratio, and of log w above
  double smallest = 1e-8;       ///< of an earlier weight, and of w

  static constexpr int sums = 1;

  [[nodiscard]] constexpr status check() const {
    if (!(k_positive >= 0)) return remark::argument("vespo_weight", "k_positive", k_positive, "0 or more");
    if (!(k_negative >= 0)) return remark::argument("vespo_weight", "k_negative", k_negative, "0 or more");
    if (!(lambda_positive >= 0))
      return remark::argument("vespo_weight", "lambda_positive", lambda_positive, "0 or more");
    if (!(lambda_negative >= 0))
      return remark::argument("vespo_weight", "lambda_negative", lambda_negative, "0 or more");
    if (!(log_ratio_bound > 0))
      return remark::argument("vespo_weight", "log_ratio_bound", log_ratio_bound, "more than 0");
    if (!(smallest > 0)) return remark::argument("vespo_weight", "smallest", smallest, "more than 0");
    return {};
  }
  [[nodiscard]] constexpr bool by_sequence(bool token_advantages, bool) const { return !token_advantages; }
  [[nodiscard]] constexpr bool reads_advantage() const { return true; }

  template <number V>
  RLHF_HD RLHF_INLINE void add(const mismatch<V>& t, V (&out)[sums]) const {
    const V bound = constant<V>(log_ratio_bound);
    out[0] = clamp(t.log_weight, -bound, bound) + bounded_log(t.weight);
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V weigh(const mismatch<V>& t, double, const double* found) const {
    const V zero = constant<V>(0), least = constant<V>(1e-4);
    const auto gains = t.advantage >= zero;
    const V k = select(gains, constant<V>(k_positive), constant<V>(k_negative));
    const V lambda = max(select(gains, constant<V>(lambda_positive), constant<V>(lambda_negative)), least);
    const V log_w = clamp(V(constant<V>(found[0])) + bounded_log(t.sequence_weight), constant<V>(rlhf::log(smallest)),
                          constant<V>(log_ratio_bound));
    const V phi = exp(lambda + k * log_w - lambda * exp(log_w));
    return select(is_finite(phi), phi, zero);
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE mask_t<V> keeps(const mismatch<V>&, double, const double*) const {
    return V(constant<V>(1)) > V(constant<V>(0));
  }
  /// The sum inside the outer clamp.
  [[nodiscard]] RLHF_HD RLHF_INLINE double measure(double, const double* found) const { return found[0]; }

 private:
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V bounded_log(const V& weight) const {
    return clamp(log(weight), constant<V>(rlhf::log(smallest)), constant<V>(log_ratio_bound));
  }
};

}  // namespace rlhf::inline v1
