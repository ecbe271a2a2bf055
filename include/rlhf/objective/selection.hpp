#pragma once
// Choices of tokens: a key each, which of them are candidates, and how many with the largest keys are taken.

#include <cmath>
#include <cstdint>

#include "rlhf/core/status.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"
#include "rlhf/math/random.hpp"
#include "rlhf/objective/token.hpp"

namespace rlhf::inline v1 {

/// A token as a choice sees it.
struct selection_token {
  token<double> item{};
  double covariance = 0;   ///< (A - mean A)(log pi - mean log pi), the means over the valid tokens of the batch
  std::int64_t index = 0;  ///< of its slot
};

/// What a choice reads, as bits: `static constexpr unsigned reads`.
namespace selection_reads {
inline constexpr unsigned logp = 1u << 0, old_logp = 1u << 1, advantage = 1u << 2, entropy = 1u << 3;
}

namespace selection_detail {
/// The whole part of a share of n, and at least one.
[[nodiscard]] RLHF_HD RLHF_INLINE double share(double fraction, double n) {
  const double whole = static_cast<double>(static_cast<std::int64_t>(fraction * n));
  return whole > 1 ? whole : 1;
}

/// Are all that tie with the last one taken too?
template <class Choice>
[[nodiscard]] constexpr bool ties_of() {
  if constexpr (requires { Choice::ties; })
    return Choice::ties;
  else
    return false;
}

}  // namespace selection_detail

/// KL-Cov: the tokens whose log-probability and advantage vary together the most, with the largest
/// \f$ (A_t - \bar A)(\log\pi_t - \overline{\log\pi}) \f$, a share of the valid ones and at least one.
/// They pay a penalty on the log-ratio, beside the plain importance-sampled gain: a second policy_loss of kl_penalty<absolute>
/// with old_logp as ref_logp and the chosen tokens as `keep`. Source: Cui et al. 2025, arXiv 2505.22617, eq. 13; catalogue G-18.
struct kl_covariance {
  double fraction = 2e-4;  ///< share of the valid tokens that is taken
  static constexpr unsigned reads = selection_reads::logp | selection_reads::advantage;

  [[nodiscard]] constexpr status check() const {
    if (!(fraction >= 0 && fraction <= 1))
      return remark::argument("kl_covariance", "fraction", fraction, "0 <= fraction <= 1");
    return {};
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double count(double valid) const {
    return selection_detail::share(fraction, valid);
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool candidate(const selection_token&) const { return true; }
  [[nodiscard]] RLHF_HD RLHF_INLINE double key(const selection_token& t) const { return t.covariance; }
};

/// The tokens at forks: those with \f$ H_t \ge Q_{1-f}(H) \f$, whose entropy is at least the quantile 1 - fraction of
/// all valid ones (interpolated linearly, as the peers do; ties are taken). Give them to policy_loss as `keep`:
/// denominators still count the others. Source: Wang et al. 2025, arXiv 2506.01939 (fraction 0.2); TRL's
/// top_entropy_quantile; catalogue G-31.
struct high_entropy {
  double fraction = 0.2;  ///< share of the valid tokens that is taken
  static constexpr unsigned reads = selection_reads::entropy;
  static constexpr bool ties = true;

  [[nodiscard]] constexpr status check() const {
    if (!(fraction > 0 && fraction <= 1))
      return remark::argument("high_entropy", "fraction", fraction, "0 < fraction <= 1");
    return {};
  }
  /// At least the interpolated quantile are the elements from the rank above it on.
  [[nodiscard]] RLHF_HD RLHF_INLINE double count(double valid) const {
    return valid > 0 ? valid - std::ceil((1 - fraction) * (valid - 1)) : 0;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool candidate(const selection_token&) const { return true; }
  [[nodiscard]] RLHF_HD RLHF_INLINE double key(const selection_token& t) const { return t.item.entropy; }
};

/// Clip-Cov: of the tokens that PPO does not clip and whose covariance \f$ (A_t - \bar A)(\log\pi_t -
/// \overline{\log\pi}) \f$ lies strictly between `low` and `high`, a random subset, a share of the valid ones and at
/// least one, loses its loss: give it to policy_loss{ppo_clip} as a `keep` of the others. The choice is a function of
/// the key. Source: Cui et al. 2025, arXiv 2505.22617, eq. 11; catalogue G-17.
struct clip_covariance {
  double fraction = 2e-4;  ///< share of the valid tokens that loses its loss
  double low = 1;          ///< of the covariance, open
  double high = 5;         ///< of the covariance, open
  ppo_clip clip{};         ///< whose clipped tokens are no candidates
  random_key random{};     ///< key of the choice
  static constexpr unsigned reads = selection_reads::logp | selection_reads::old_logp | selection_reads::advantage;

  [[nodiscard]] constexpr status check() const {
    if (!(fraction >= 0 && fraction <= 1))
      return remark::argument("clip_covariance", "fraction", fraction, "0 <= fraction <= 1");
    if (!(low <= high)) return remark::argument("clip_covariance", "low", low, "at most high");
    return clip.check();
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double count(double valid) const {
    return selection_detail::share(fraction, valid);
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool candidate(const selection_token& t) const {
    double found[4];
    clip.statistics(t.item, found);
    return found[0] == 0 && t.covariance > low && t.covariance < high;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double key(const selection_token& t) const {
    const auto at = static_cast<std::uint64_t>(t.index);
    return random_numbers(random).uniform(
        {.prompt = static_cast<std::uint32_t>(at >> 32), .position = static_cast<std::uint32_t>(at)});
  }
};

}  // namespace rlhf::inline v1
