#pragma once
// Pair objectives of the margin D = a - b with another shape, another target or another term than DPO's.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"
#include "rlhf/math/smoothed.hpp"

namespace rlhf::inline v1 {

/// EXO on pairs: reverse KL of \f$ q = \sigma(\beta D) \f$ to the smoothed label,
/// \f$ q\log\frac{q}{1-e} + (1-q)\log\frac{1-q}{e} \f$; e must be more than 0 (1e-3 advised).
/// Source: Ji et al. 2024, arXiv 2402.00856; catalogue P-06.
struct exo_pair {
  double beta = 0.1;              ///< inverse temperature: weight of the log-ratios
  double label_smoothing = 1e-3;  ///< e: the target of the rejected response
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("exo_pair", "beta", beta, "more than 0");
    if (!(label_smoothing > 0 && label_smoothing < 0.5))
      return remark::argument("exo_pair", "label_smoothing", label_smoothing, "0 < label_smoothing < 0.5");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V u = p.log_ratio_margin() * constant<V>(beta);
    const value_t<V> right = log(constant<V>(1 - label_smoothing)), wrong = log(constant<V>(label_smoothing));
    return sigmoid(u) * (log_sigmoid(u) - right) + sigmoid(-u) * (log_sigmoid(-u) - wrong);
  }
};

/// DiscoPOP: a logistic and an exponential loss mixed by \f$ M = \sigma(\beta D/\tau) \f$:
/// \f$ (1-M)\,\mathrm{softplus}(-u) + M e^{-u},\ u = \beta D \f$. The product M e^-u is formed as one exponential, so that no
/// infinity meets a zero. Source: Lu et al. 2024, arXiv 2406.08414, eq. 5; catalogue P-16.
struct discopop {
  double beta = 0.1;          ///< inverse temperature: weight of the log-ratios
  double temperature = 0.05;  ///< tau: how sharply the two shapes are mixed
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("discopop", "beta", beta, "more than 0");
    if (!(temperature > 0 && temperature < 1))
      return remark::argument("discopop", "temperature", temperature, "0 < temperature < 1");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V u = p.log_ratio_margin() * constant<V>(beta), mixing = u * constant<V>(1 / temperature);
    return sigmoid(-mixing) * softplus(-u) + exp(log_sigmoid(mixing) - u);
  }
};

/// DPO-positive: \f$ -\log\sigma(\beta(D - \lambda\max(0, -a))) \f$, with label smoothing as DPO's: no credit for a margin bought with a falling chosen one.
/// Source: Pal et al. 2024, arXiv 2402.13228, eq. 3; catalogue P-34.
struct dpo_positive {
  double beta = 0.1;           ///< inverse temperature: weight of the log-ratios
  double lambda = 5;           ///< price of a nat that the chosen response has fallen below the reference
  double label_smoothing = 0;  ///< e: probability that a label is flipped
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("dpo_positive", "beta", beta, "more than 0");
    if (!(lambda >= 0)) return remark::argument("dpo_positive", "lambda", lambda, "0 or more");
    if (!(label_smoothing >= 0 && label_smoothing < 0.5))
      return remark::argument("dpo_positive", "label_smoothing", label_smoothing, "0 <= label_smoothing < 0.5");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V penalty = relu(-p.chosen.log_ratio()) * constant<V>(lambda);
    return smoothed_logistic((p.log_ratio_margin() - penalty) * constant<V>(beta), label_smoothing);
  }
};

/// Length-regularised DPO: \f$ -\log\sigma(\beta D + \alpha(n_c - n_r)) \f$; with `per_token` the log-ratios are averages
/// (oat). A negative alpha disfavours length. Source: Park et al. 2024, arXiv 2403.19159; catalogue P-33.
struct length_regularised_dpo {
  double beta = 0.1;       ///< inverse temperature: weight of the log-ratios
  double alpha = 0.05;     ///< of the difference in tokens, in units of the logit
  bool per_token = false;  ///< log-ratios are averages
  static constexpr unsigned reads = field::references | field::lengths;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("length_regularised_dpo", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V margin = per_token
                         ? p.chosen.log_ratio() / p.chosen.divisor() - p.rejected.log_ratio() / p.rejected.divisor()
                         : p.log_ratio_margin();
    return -log_sigmoid(margin * constant<V>(beta) + (p.chosen.length - p.rejected.length) * constant<V>(alpha));
  }
};

/// Reward-aware preference optimisation: match the margin to the ground truth's, \f$ p = \sigma(\eta(g_c - g_r)) \f$ against
/// \f$ q = \sigma(\beta D) \f$, by a KL in either direction or by squares of the logits.
/// Source: Nemotron-4, arXiv 2406.11704, section 3.3.2; catalogue P-25.
struct reward_aware_dpo {
  enum class distance { backward_kl, forward_kl, square };
  double beta = 0.1;                         ///< inverse temperature: weight of the log-ratios
  double eta = 1;                            ///< scale of the rewards
  distance measure = distance::backward_kl;  ///< how the two margins are compared
  static constexpr unsigned reads = field::references | field::rewards;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("reward_aware_dpo", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V u = p.log_ratio_margin() * constant<V>(beta);
    const value_t<V> truth = (p.chosen.reward - p.rejected.reward) * constant<V>(eta);
    if (measure == distance::square) return square(u - truth);
    const V right = log_sigmoid(u) - log_sigmoid(truth), wrong = log_sigmoid(-u) - log_sigmoid(-truth);
    if (measure == distance::forward_kl) return sigmoid(u) * right + sigmoid(-u) * wrong;
    return -(right * sigmoid(truth) + wrong * sigmoid(-truth));
  }
};

/// DPO with an offset: \f$ -\log\sigma(\beta D - o) \f$, o the pair's `margin` field, in units of the logit: how far the margin
/// must be before a pair counts as learned. Source: Amini et al. 2024, arXiv 2402.10571, eq. 7 (o there alpha times the log
/// of the score gap). Token-level DPO is this with o = -beta alpha (K_c - K_r): see tdpo_offset.
struct dpo_offset {
  double beta = 0.1;  ///< inverse temperature: weight of the log-ratios
  static constexpr unsigned reads = field::references | field::pair_margin;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("dpo_offset", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return -log_sigmoid(p.log_ratio_margin() * constant<V>(beta) - p.margin);
  }
};

/// DPO with a cap on the margin (PCRM): \f$ -\log\sigma(\beta D) - \log\sigma(\delta^* - \beta D) \f$, delta* the
/// pair's `margin` field, from similarity_cap. Stationary at half the cap, so it must be more than 0; an infinite one
/// leaves DPO. With smoothing both terms are smoothed. Source: Zhou et al. 2024, arXiv 2404.00978; catalogue spec-b-4.
struct pcrm_dpo {
  double beta = 0.1;           ///< inverse temperature: weight of the log-ratios
  double label_smoothing = 0;  ///< e: probability that a label is flipped
  static constexpr unsigned reads = field::references | field::pair_margin;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("pcrm_dpo", "beta", beta, "more than 0");
    if (!(label_smoothing >= 0 && label_smoothing < 0.5))
      return remark::argument("pcrm_dpo", "label_smoothing", label_smoothing, "0 <= label_smoothing < 0.5");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V u = p.log_ratio_margin() * constant<V>(beta);
    return smoothed_logistic(u, label_smoothing) + smoothed_logistic(p.margin - u, label_smoothing);
  }
};

}  // namespace rlhf::inline v1
