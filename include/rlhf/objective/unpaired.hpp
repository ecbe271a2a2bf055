#pragma once
// Objectives of single responses that are labelled desirable or not, or carry a rating.
//
// h = log pi(y|x) - log ref(y|x), sums over tokens, in nats; the implicit reward is z = beta h.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

namespace unpaired_detail {

[[nodiscard]] RLHF_INLINE constexpr status check_weighted(const char* formula, double beta, double desirable,
                                                          double undesirable) {
  if (!(beta > 0)) return remark::argument(formula, "beta", beta, "more than 0");
  if (!(desirable >= 0)) return remark::argument(formula, "desirable_weight", desirable, "0 or more");
  if (!(undesirable >= 0)) return remark::argument(formula, "undesirable_weight", undesirable, "0 or more");
  return {};
}

/// w (1 - sigma(u)) of a desirable response, w' sigma(u) of another: 1 - sigma(u) = sigma(-u) without cancellation.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V weighted_sigmoid(const V& u, const mask_t<V>& desirable, double weight,
                                                     double other_weight) {
  return sigmoid(select(desirable, -u, u)) * select(desirable, constant<V>(weight), constant<V>(other_weight));
}

}  // namespace unpaired_detail

/// KTO: \f$ w_d(1-\sigma(\beta(h-K))) \f$ of a desirable response, \f$ w_u\,\sigma(\beta(h-K)) \f$ of an undesirable one.
///
/// K, the field `reference_point` in nats, is an estimate of KL(pi || ref) and a constant: see kto_reference_point.
/// Range [0, max(w_d, w_u)]. The authors advise (w_d n_d) / (w_u n_u) in [1, 4/3], n the numbers of responses.
/// Source: Ethayarajh et al. 2024, arXiv 2402.01306; catalogue U-01, U-02.
struct kto {
  double beta = 0.1;              ///< inverse temperature: weight of the log-ratios
  double desirable_weight = 1;    ///< w_d
  double undesirable_weight = 1;  ///< w_u
  static constexpr unsigned reads = field::label | field::ref_logp | field::reference_point;
  [[nodiscard]] constexpr status check() const {
    return unpaired_detail::check_weighted("kto", beta, desirable_weight, undesirable_weight);
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const labelled_response<V>& r) const {
    const V u = (r.log_ratio() - r.reference_point) * constant<V>(beta);
    return unpaired_detail::weighted_sigmoid(u, r.desirable(), desirable_weight, undesirable_weight);
  }

  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"kl"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const labelled_response<V>& r, V (&out)[1]) const {
    out[0] = r.reference_point;
  }
};

/// APO-zero on single responses: KTO with K = 0, \f$ w_d(1-\sigma(\beta h)) \f$ of a desirable one, \f$
/// w_u\,\sigma(\beta h) \f$ of another. Source: D'Oosterlinck et al. 2024, arXiv 2408.06266; catalogue U-03.
struct apo_zero_unpaired {
  double beta = 0.1;              ///< inverse temperature: weight of the log-ratios
  double desirable_weight = 1;    ///< w_d
  double undesirable_weight = 1;  ///< w_u
  static constexpr unsigned reads = field::label | field::ref_logp;
  [[nodiscard]] constexpr status check() const {
    return unpaired_detail::check_weighted("apo_zero_unpaired", beta, desirable_weight, undesirable_weight);
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const labelled_response<V>& r) const {
    return unpaired_detail::weighted_sigmoid(r.log_ratio() * constant<V>(beta), r.desirable(), desirable_weight,
                                             undesirable_weight);
  }
};

/// BCO: \f$ -\log\sigma(z-\delta) \f$ of a desirable response, \f$ -\log\sigma(\delta-z) \f$ of another.
///
/// delta, the field `reference_point`, is in units of reward: the running mean of all rewards, see running_reference.
/// Weights for the mismatch of the two sets of prompts go into `weight`: see prompt_match_weight.
/// Source: Jung et al. 2024, arXiv 2404.04656; catalogue U-04.
struct bco {
  double beta = 0.1;  ///< inverse temperature: weight of the log-ratios
  static constexpr unsigned reads = field::label | field::ref_logp | field::reference_point;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("bco", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const labelled_response<V>& r) const {
    const V u = r.log_ratio() * constant<V>(beta) - r.reference_point;
    return -log_sigmoid(select(r.desirable(), u, -u));
  }

  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"delta"};
  template <number V>
  RLHF_HD RLHF_INLINE void statistics(const labelled_response<V>& r, V (&out)[1]) const {
    out[0] = r.reference_point;
  }
};

/// How much an undesirable response counts in BCO when desirable and undesirable ones come from different prompts:
/// \f$ [p/(1-p)]_{low}^{high} \f$, p a classifier's probability that its prompt is from the desirable set. A weight, not a
/// loss; desirable responses count 1. Source: Jung et al.
/// 2024, arXiv 2404.04656; catalogue U-04, with the published 1e-8 in the divisor.
struct prompt_match_weight {
  double low = 0.5;  ///< of the weight
  double high = 10;  ///< of the weight
  [[nodiscard]] constexpr status check() const {
    return low >= 0 && low <= high ? status{}
                                   : remark::argument("prompt_match_weight", "low", low, "0 or more, and at most high");
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(const V& probability) const {
    return clamp(probability / (constant<V>(1 + 1e-8) - probability), constant<V>(low), constant<V>(high));
  }
};

/// UNA on ratings: \f$ (\sigma(z) - y)^2 \f$, y the label in [0, 1]. Not convex in z, and flat far from 0.
/// Source: Wang et al. 2024, arXiv 2408.15339; catalogue P-32. The paper's losses carry a minus sign that its program does
/// not; the program adds squared errors up, this is a mean.
struct una_rating {
  double beta = 0.03;  ///< scale of the log-ratio before the sigmoid
  static constexpr unsigned reads = field::label | field::ref_logp;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("una_rating", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const labelled_response<V>& r) const {
    return square(sigmoid(r.log_ratio() * constant<V>(beta)) - r.label);
  }
};

/// UNA on binary feedback: \f$ -y\log\sigma(z) - (1-y)\log\sigma(-z) \f$, y in [0, 1].
/// Source: Wang et al. 2024, arXiv 2408.15339; catalogue P-32.
struct una_binary {
  double beta = 0.01;  ///< scale of the log-ratio before the sigmoid
  static constexpr unsigned reads = field::label | field::ref_logp;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("una_binary", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const labelled_response<V>& r) const {
    const V z = r.log_ratio() * constant<V>(beta);
    return softplus(-z) * r.label + softplus(z) * (constant<V>(1) - r.label);
  }
};

/// UNA on rewards: \f$ (z - y)^2 \f$, y any number. It takes \f$ \beta\log Z(x) \f$ for 0, so that the best policy is met
/// only where \f$ E_{ref}\,e^{y/\beta} = 1 \f$. Source: Wang et al. 2024, arXiv 2408.15339; catalogue P-32.
struct una_reward {
  double beta = 0.03;  ///< scale of the log-ratio, in units of reward
  static constexpr unsigned reads = field::label | field::ref_logp;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("una_reward", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const labelled_response<V>& r) const {
    return square(r.log_ratio() * constant<V>(beta) - r.label);
  }
};

/// NPO: \f$ -\frac2\beta\log\sigma(-z) \f$: DPO's rejected side alone, to unlearn responses; labels are not read. Its
/// gradient is that of gradient ascent times \f$ 2\sigma(z) \f$, which fades as the response is forgotten.
/// Source: Zhang et al. 2024, arXiv 2404.05868.
struct negative_preference {
  double beta = 0.1;  ///< inverse temperature: weight of the log-ratios
  static constexpr unsigned reads = field::ref_logp;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("negative_preference", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const labelled_response<V>& r) const {
    return softplus(r.log_ratio() * constant<V>(beta)) * constant<V>(2 / beta);
  }
};

}  // namespace rlhf::inline v1
