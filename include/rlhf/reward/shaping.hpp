#pragma once
// From a score per response to a reward per token.

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Which slot of a response receives its score. A response without tokens drops it.
enum class score_placement {
  last,        ///< the last valid slot (verl, OpenRLHF, RTO)
  after_eos,   ///< the slot after it where there is one, else the last valid slot (TRL's PPO)
  last_column  ///< the last slot of the row, valid or not (Ziegler et al. 2019)
};

/// A score bounded before it is used, \f$ [\mathrm{score}]_{low}^{high} \f$. Catalogue S-02.
struct score_clip {
  double low = -infinity;  ///< of the score
  double high = infinity;  ///< of the score
  [[nodiscard]] RLHF_HD constexpr double operator()(double score) const {
    return score < low ? low : score > high ? high : score;
  }
};

/// KL in the reward: \f$ r_t = -\beta\,k(t) \f$ and the score at its place. The estimator sees old_logp as the policy.
/// A coefficient of 0 is none: nothing is paid where the estimate overflows either, and no reference is needed.
/// Source: Ziegler et al. 2019, arXiv 1909.08593, eq. 2; Stiennon et al. 2020. Catalogue K-12, S-01, S-02.
template <class Estimator>
struct kl_in_reward {
  Estimator estimator{};
  double coefficient = 0.05;                          ///< beta, price of a nat
  score_placement placement = score_placement::last;  ///< which slot receives the score
  score_clip clip{};                                  ///< bounds of the score

  [[nodiscard]] constexpr status check() const {
    if (!(coefficient >= 0)) return remark::argument("kl_in_reward", "coefficient", coefficient, "0 or more");
    if (!(clip.low <= clip.high)) return remark::argument("kl_in_reward", "clip.low", clip.low, "at most clip.high");
    return {};
  }
};
template <class E>
kl_in_reward(E) -> kl_in_reward<E>;
template <class E>
kl_in_reward(E, double) -> kl_in_reward<E>;
template <class E>
kl_in_reward(E, double, score_placement) -> kl_in_reward<E>;
template <class E>
kl_in_reward(E, double, score_placement, score_clip) -> kl_in_reward<E>;

/// Where RTO pays the token rewards of the DPO policy.
enum class rto_mode {
  dense,        ///< each token at its own slot
  semi,         ///< the sum of a segment (a sentence) at the segment's last token
  eos,          ///< the sum of all at the last token (DDPO)
  shaping_only  ///< dense, and their sum taken back at the last token: potential shaping, the total is the score's
};

/// RTO's token reward: \f$ r_t = [\beta_1(\log\pi_{dpo} - \log\pi_{ref})]_{\pm clip} - \beta_2(\log\pi_{old} - \log\pi_{ref}) +
/// \beta_3\,\mathrm{score}\,1[t = e] \f$, e the last token.
///
/// The clip is applied after the scaling; infinite turns it off. beta_1 = 0 is PPO's reward bit for bit.
/// Source: Zhong et al. 2024, arXiv 2404.18922, eq. for r_rto; defaults of zkshan2002/RTO's training script.
struct rto_reward {
  double beta1 = 0.05;              ///< weight of the DPO policy's log-ratio
  double beta2 = 0.01;              ///< weight of the KL penalty
  double beta3 = 1;                 ///< weight of the score
  double clip = 0.05;               ///< of the DPO policy's part, after the scaling
  rto_mode mode = rto_mode::dense;  ///< where the token rewards are paid

  [[nodiscard]] constexpr status check() const {
    if (!(beta1 >= 0)) return remark::argument("rto_reward", "beta1", beta1, "0 or more");
    if (!(beta2 >= 0)) return remark::argument("rto_reward", "beta2", beta2, "0 or more");
    if (!(clip > 0)) return remark::argument("rto_reward", "clip", clip, "more than 0 (infinity turns it off)");
    return {};
  }
  /// The DPO policy's share of a token's reward.
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V token_reward(const V& dpo_logp, const V& ref_logp) const {
    const V scaled = (dpo_logp - ref_logp) * constant<V>(beta1);
    return clip < infinity ? clamp(scaled, constant<V>(-clip), constant<V>(clip)) : scaled;
  }
};

/// DAPO's soft overlong penalty: 0 up to L - B tokens, then \f$ -f\,\frac{n - (L - B)}{B} \f$, falling linearly to -f
/// at L; L is `max_length`, B `buffer`, f `factor`, n the tokens of the response. Source: Yu et al. 2025, arXiv
/// 2503.14476, eq. 13; catalogue S-04, where the peers' three endings are.
struct soft_overlong {
  enum class beyond {
    floor,     ///< -factor beyond max_length (TRL, with factor 1)
    capped,    ///< the same by capping the excess at the buffer (OpenRLHF)
    unbounded  ///< keeps falling (verl)
  };
  double max_length;              ///< L, in tokens
  double buffer;                  ///< B: the last tokens before L, over which it falls
  double factor = 1;              ///< f, the penalty at L
  beyond ending = beyond::floor;  ///< what happens beyond L

  [[nodiscard]] RLHF_HD constexpr double operator()(double length) const {
    const double excess = length - (max_length - buffer);
    if (!(excess > 0)) return 0;
    return ending != beyond::unbounded && excess >= buffer ? -factor : -excess / buffer * factor;
  }
};

}  // namespace rlhf::inline v1
