#pragma once
// Pair objectives that need no reference model.
//
// L_c, L_r are the log-probabilities of the responses, sums over tokens in nats; a bar is the average per token. An NLL
// term on the chosen response, where the papers have one, is preference_loss's `nll`.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"
#include "rlhf/math/smoothed.hpp"

namespace rlhf::inline v1 {

/// The average log-probability per token.
template <number V>
[[nodiscard]] RLHF_HD RLHF_INLINE V average_logp(const response<V>& r) {
  return r.logp / r.divisor();
}

/// CPO: \f$ -\log\sigma(\beta(L_c - L_r)) \f$ with label smoothing. Source: Xu et al. 2024, arXiv 2401.08417; catalogue P-40.
struct cpo {
  double beta = 0.1;           ///< inverse temperature: weight of the log-ratios
  double label_smoothing = 0;  ///< e: probability that a label is flipped
  static constexpr unsigned reads = 0;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("cpo", "beta", beta, "more than 0");
    if (!(label_smoothing >= 0 && label_smoothing < 0.5))
      return remark::argument("cpo", "label_smoothing", label_smoothing, "0 <= label_smoothing < 0.5");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return smoothed_logistic((p.chosen.logp - p.rejected.logp) * constant<V>(beta), label_smoothing);
  }
};

/// CPO with a hinge: \f$ \max(0, 1 - \beta(L_c - L_r)) \f$. Catalogue P-41.
struct cpo_hinge {
  double beta = 0.1;  ///< inverse temperature: weight of the log-ratios
  static constexpr unsigned reads = 0;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("cpo_hinge", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return relu(constant<V>(1) - (p.chosen.logp - p.rejected.logp) * constant<V>(beta));
  }
};

/// CPO with IPO's square, on averages: \f$ (\bar L_c - \bar L_r - \frac{1}{2\beta})^2 \f$. Source: TRL;
/// catalogue P-41.
struct cpo_ipo {
  double beta = 0.1;  ///< the target margin per token is 1 / (2 beta)
  static constexpr unsigned reads = field::lengths;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("cpo_ipo", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return square(average_logp(p.chosen) - average_logp(p.rejected) - constant<V>(1 / (2 * beta)));
  }
};

/// SimPO: \f$ -\log\sigma(\beta(\bar L_c - \bar L_r) - \gamma) \f$, gamma in units of the logit (princeton's code gives
/// gamma / beta). Source: Meng et al. 2024, arXiv 2405.14734, eq. 6; catalogue P-42.
struct simpo {
  double beta = 2;             ///< scale of the average log-probabilities
  double gamma = 0.5;          ///< target margin, in units of the logit
  double label_smoothing = 0;  ///< e: probability that a label is flipped
  static constexpr unsigned reads = field::lengths;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("simpo", "beta", beta, "more than 0");
    if (!(label_smoothing >= 0 && label_smoothing < 0.5))
      return remark::argument("simpo", "label_smoothing", label_smoothing, "0 <= label_smoothing < 0.5");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V margin = average_logp(p.chosen) - average_logp(p.rejected);
    return smoothed_logistic(margin * constant<V>(beta) - constant<V>(gamma), label_smoothing);
  }
};

/// SimPO with a hinge: \f$ \max(0, 1 - (\beta(\bar L_c - \bar L_r) - \gamma)) \f$. Source: oat, TRL; catalogue P-42.
struct simpo_hinge {
  double beta = 2;     ///< scale of the average log-probabilities
  double gamma = 0.5;  ///< target margin, in units of the logit
  static constexpr unsigned reads = field::lengths;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("simpo_hinge", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V margin = average_logp(p.chosen) - average_logp(p.rejected);
    return relu(constant<V>(1 + gamma) - margin * constant<V>(beta));
  }
};

/// AlphaPO: SimPO on \f$ (1 - e^{-\alpha\bar L})/\alpha \f$ in place of the average; SimPO itself at alpha = 0.
/// Source: Gupta et al. 2025, arXiv 2501.03884; catalogue P-44.
struct alphapo {
  double beta = 2;      ///< scale of the transformed averages
  double gamma = 0.5;   ///< target margin, in units of the logit
  double alpha = 0.25;  ///< 0: the averages as they are (SimPO)
  static constexpr unsigned reads = field::lengths;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("alphapo", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return -log_sigmoid((score(p.chosen) - score(p.rejected)) * constant<V>(beta) - constant<V>(gamma));
  }

 private:
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V score(const response<V>& r) const {
    if (alpha == 0) return average_logp(r);
    return expm1(average_logp(r) * constant<V>(-alpha)) * constant<V>(-1 / alpha);
  }
};

/// SimPER: \f$ -e^{\bar L_c} + e^{\bar L_r} \f$, no parameter. Source: Xiao et al. 2025, arXiv 2502.00883; catalogue P-45.
struct simper {
  static constexpr unsigned reads = field::lengths;
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return exp(average_logp(p.rejected)) - exp(average_logp(p.chosen));
  }
};

/// ORPO's odds-ratio term: \f$ -\beta\log\sigma(g(\bar L_c) - g(\bar L_r)),\ g(l) = l - \log(1 - e^l) \f$. The NLL term is
/// preference_loss's. An average of exactly 0 (certainty) has infinite odds; value and slopes are then the limits.
/// Source: Hong et al. 2024, arXiv 2403.07691, eq. 6-7; catalogue P-46.
struct orpo {
  double beta = 0.1;  ///< weight of the odds-ratio term
  static constexpr unsigned reads = field::lengths;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("orpo", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V chosen = average_logp(p.chosen), rejected = average_logp(p.rejected);
    const value_t<V> c = stop_gradient(chosen), r = stop_gradient(rejected), scale = constant<V>(beta);
    const value_t<V> loss = log_sigmoid((c - log1mexp(c)) - (r - log1mexp(r))) * -scale;
    // sigma(-u) times the slope of the odds, with the infinities of both cancelled on paper.
    const value_t<V> not_c = abs(expm1(c)), not_r = abs(expm1(r)), both = not_c + not_r * exp(c - r);
    return chain(chosen, loss, -scale / both) + chain(rejected, constant<V>(0), scale * not_c / (not_r * both));
  }
};

/// SLiC without a reference (HALOs): \f$ \max(0, \beta - L_c + L_r) \f$; its regulariser is the NLL term on sums.
/// Source: Zhao et al. 2023, arXiv 2305.10425; catalogue P-03b.
struct slic_reference_free {
  double beta = 1;          ///< the margin that is enough, nats
  double nll_weight = 0.1;  ///< of -L_c, the sum, per pair
  static constexpr unsigned reads = 0;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("slic_reference_free", "beta", beta, "more than 0");
    if (!(nll_weight >= 0)) return remark::argument("slic_reference_free", "nll_weight", nll_weight, "0 or more");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return relu(constant<V>(beta) - (p.chosen.logp - p.rejected.logp)) - p.chosen.logp * constant<V>(nll_weight);
  }
};

}  // namespace rlhf::inline v1
