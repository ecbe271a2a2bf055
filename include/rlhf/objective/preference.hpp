#pragma once
// Direct preference objectives: the loss of a pair of responses from their log-ratios to the reference.
//
// a = log pi(chosen) - log ref(chosen), b the same of the rejected response, D = a - b, all sums over tokens, in nats. A loss
// of D alone has the slopes dL/dD and -dL/dD in the log-probabilities of the two responses.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"
#include "rlhf/math/smoothed.hpp"

namespace rlhf::inline v1 {

/// DPO: \f$ -\log\sigma(\beta D) \f$, with label smoothing e conservative DPO. log 2 at pi = ref.
/// Range [0, inf), linear in -beta D for large negative margins; finite for every finite margin. Slope
/// \f$ \beta(e - \sigma(-\beta D)) \f$ in D.
/// Source: Rafailov et al. 2023, arXiv 2305.18290, eq. 7; smoothing: Mitchell 2023. TRL from 0.29 ignores the smoothing
/// for this type; here it is always honoured. Catalogue P-01, P-02.
struct dpo_sigmoid {
  double beta = 0.1;           ///< inverse temperature: weight of the log-ratios
  double label_smoothing = 0;  ///< e: probability that a label is flipped
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("dpo_sigmoid", "beta", beta, "more than 0");
    if (!(label_smoothing >= 0 && label_smoothing < 0.5))
      return remark::argument("dpo_sigmoid", "label_smoothing", label_smoothing, "0 <= label_smoothing < 0.5");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return smoothed_logistic(p.log_ratio_margin() * constant<V>(beta), label_smoothing);
  }
};

/// DPO on log-ratios per token: \f$ -\log\sigma(\beta(a/n_c - b/n_r)) \f$ (Tulu 3's length-normalised DPO, arXiv 2411.15124).
/// Lengths below 1 count as 1. Catalogue P-17.
struct dpo_sigmoid_norm {
  double beta = 5;             ///< inverse temperature of the log-ratios per token
  double label_smoothing = 0;  ///< e: probability that a label is flipped
  static constexpr unsigned reads = field::references | field::lengths;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("dpo_sigmoid_norm", "beta", beta, "more than 0");
    if (!(label_smoothing >= 0 && label_smoothing < 0.5))
      return remark::argument("dpo_sigmoid_norm", "label_smoothing", label_smoothing, "0 <= label_smoothing < 0.5");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V margin = p.chosen.log_ratio() / p.chosen.divisor() - p.rejected.log_ratio() / p.rejected.divisor();
    return smoothed_logistic(margin * constant<V>(beta), label_smoothing);
  }
};

/// Hinge (SLiC, RSO): \f$ \max(0, 1 - \beta D) \f$; slope 0 at the kink.
/// Source: Zhao et al. 2023, arXiv 2305.10425; Liu et al. 2023, arXiv 2309.06657. Catalogue P-03.
struct dpo_hinge {
  double beta = 0.1;  ///< inverse temperature: weight of the log-ratios
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("dpo_hinge", "beta", beta, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return relu(constant<V>(1) - p.log_ratio_margin() * constant<V>(beta));
  }
};

/// IPO as its authors' code and TRL have it: averages per token, \f$ (a/n_c - b/n_r - \frac{1}{2\beta})^2 \f$.
/// Source: Azar et al. 2023, arXiv 2310.12036, eq. 17. Catalogue P-04.
struct ipo {
  double beta = 0.1;  ///< the target margin per token is 1 / (2 beta); the paper's tau
  static constexpr unsigned reads = field::references | field::lengths;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("ipo", "beta", beta, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V margin = p.chosen.log_ratio() / p.chosen.divisor() - p.rejected.log_ratio() / p.rejected.divisor();
    return square(margin - constant<V>(1 / (2 * beta)));
  }
};

/// IPO as the paper has it: sums over tokens, \f$ (D - \frac{1}{2\beta})^2 \f$. Another name, because the scale of beta
/// differs by the length. Catalogue P-05.
struct ipo_sum {
  double beta = 0.1;  ///< the target margin is 1 / (2 beta); the paper's tau
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("ipo_sum", "beta", beta, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return square(p.log_ratio_margin() - constant<V>(1 / (2 * beta)));
  }
};

/// Robust DPO: unbiased under labels flipped with probability e < 1/2,
/// \f$ [-(1-e)\log\sigma(\beta D) + e\log\sigma(-\beta D)]/(1-2e) \f$; may be negative.
/// Source: Chowdhury et al. 2024, arXiv 2403.00409. Catalogue P-08.
struct dpo_robust {
  double beta = 0.1;             ///< inverse temperature: weight of the log-ratios
  double label_smoothing = 0.1;  ///< e: probability that a label is flipped
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    if (!(beta > 0)) return remark::argument("dpo_robust", "beta", beta, "more than 0");
    if (!(label_smoothing >= 0 && label_smoothing < 0.5))
      return remark::argument("dpo_robust", "label_smoothing", label_smoothing, "0 <= label_smoothing < 0.5");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V u = p.log_ratio_margin() * constant<V>(beta);
    return (log_sigmoid(-u) * constant<V>(label_smoothing) - log_sigmoid(u) * constant<V>(1 - label_smoothing)) *
           constant<V>(1 / (1 - 2 * label_smoothing));
  }
};

/// REBEL: regress the relative reward on the relative log-ratio to the current iterate (give it as the reference):
/// \f$ (D - \eta(r_c - r_r))^2 \f$, or divided by eta squared as the paper writes it.
/// Source: Gao et al. 2024, arXiv 2404.16767, algorithm 1; the code's scaling is the default. "chosen" and "rejected" are
/// just the two samples. Catalogue P-30.
struct rebel {
  double eta = 1;              ///< scale of the rewards, nats for each of their units
  bool paper_scaling = false;  ///< divide the residual by eta
  static constexpr unsigned reads = field::references | field::rewards;
  [[nodiscard]] constexpr status check() const {
    if (!(eta > 0)) return remark::argument("rebel", "eta", eta, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V residual = p.log_ratio_margin() - (p.chosen.reward - p.rejected.reward) * constant<V>(eta);
    return square(paper_scaling ? residual * constant<V>(1 / eta) : residual);
  }
};

}  // namespace rlhf::inline v1
