#pragma once
// Pair objectives that hold each response to an anchor of its own, not only the two to each other.
//
// a = log pi(chosen) - log ref(chosen), b the same of the rejected response, D = a - b, sums over tokens, in nats.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// NCA: \f$ -\log\sigma(\beta a) - \frac12\log\sigma(-\beta a) - \frac12\log\sigma(-\beta b) \f$.
/// Source: Chen et al. 2024, arXiv 2402.05369, eq. 12; catalogue P-07.
struct nca_pair {
  double beta = 0.1;  ///< inverse temperature: weight of the log-ratios
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("nca_pair", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V a = p.chosen.log_ratio() * constant<V>(beta), b = p.rejected.log_ratio() * constant<V>(beta);
    return -log_sigmoid(a) - (log_sigmoid(-a) + log_sigmoid(-b)) * constant<V>(0.5);
  }
};

/// BCO on pairs: \f$ -\log\sigma(\beta a - \delta) - \log\sigma(-(\beta b - \delta)) \f$, delta a reference point of the
/// rewards (0 in TRL today, a running mean before). Source: Jung et al. 2024, arXiv 2404.04656; catalogue P-09, P-09b.
struct bco_pair {
  double beta = 0.1;  ///< inverse temperature: weight of the log-ratios
  double delta = 0;   ///< reference point of the rewards beta a
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("bco_pair", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const V a = p.chosen.log_ratio() * constant<V>(beta) - constant<V>(delta);
    const V b = p.rejected.log_ratio() * constant<V>(beta) - constant<V>(delta);
    return -log_sigmoid(a) - log_sigmoid(-b);
  }
};

/// SPPO with hard labels: \f$ (a - \frac{1}{2\beta})^2 + (b + \frac{1}{2\beta})^2 \f$.
/// Source: Wu et al. 2024, arXiv 2405.00675, eq. 4.7; catalogue P-10.
struct sppo_hard {
  double beta = 0.1;  ///< the targets are plus and minus 1 / (2 beta)
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("sppo_hard", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const value_t<V> target = constant<V>(1 / (2 * beta));
    return square(p.chosen.log_ratio() - target) + square(p.rejected.log_ratio() + target);
  }
};

/// SPPO with win probabilities, given as the rewards of the two responses:
/// \f$ \frac12[(a - (p_c - \frac12)/\beta)^2 + (b - (p_r - \frac12)/\beta)^2] \f$.
/// Source: Wu et al. 2024, arXiv 2405.00675, and its program. Catalogue P-11.
struct sppo {
  double beta = 1e-3;  ///< the targets are (p - 1/2) / beta
  static constexpr unsigned reads = field::references | field::rewards;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("sppo", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    const value_t<V> half = constant<V>(0.5), step = constant<V>(1 / beta);
    return (square(p.chosen.log_ratio() - (p.chosen.reward - half) * step) +
            square(p.rejected.log_ratio() - (p.rejected.reward - half) * step)) *
           half;
  }
};

/// APO-zero: \f$ 1 - \sigma(\beta a) + \sigma(\beta b) \f$: the chosen one up, the rejected one down; range (0, 2).
/// Source: D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 4; catalogue P-14.
struct apo_zero {
  double beta = 0.1;  ///< inverse temperature: weight of the log-ratios
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("apo_zero", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return sigmoid(p.chosen.log_ratio() * constant<V>(-beta)) + sigmoid(p.rejected.log_ratio() * constant<V>(beta));
  }
};

/// APO-down: \f$ \sigma(\beta a) + 1 - \sigma(\beta D) \f$: both down, the rejected one further. Source: D'Oosterlinck
/// et al. 2024, arXiv 2408.06266, eq. 5; catalogue P-15.
struct apo_down {
  double beta = 0.1;  ///< inverse temperature: weight of the log-ratios
  static constexpr unsigned reads = field::references;
  [[nodiscard]] constexpr status check() const {
    return beta > 0 ? status{} : remark::argument("apo_down", "beta", beta, "more than 0");
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    return sigmoid(p.chosen.log_ratio() * constant<V>(beta)) + sigmoid(p.log_ratio_margin() * constant<V>(-beta));
  }
};

}  // namespace rlhf::inline v1
