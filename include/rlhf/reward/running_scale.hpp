#pragma once
// Scores brought to the scale that scores have had so far.

#include "rlhf/math/monoids.hpp"

namespace rlhf::inline v1 {

/// Scores divided by the standard deviation of all scores seen, \f$ [(x - \mu)/\sigma]_{\pm clip} \f$ or \f$
/// [x/\sigma]_{\pm clip} \f$.
///
/// `add` the scores of an iteration first, then scale them: the moments have seen them. sigma has n - 1 in its divisor;
/// until it is more than 0 scores are not divided. The state is `seen`: public, to be saved, and to be merged across
/// machines. Source: Engstrom et al. 2020, arXiv 2005.12729; trlX (its running moments); catalogue S-03.
struct running_scale {
  bool center = true;      ///< subtract the mean
  double clip = infinity;  ///< bound on both sides
  moments seen{};          ///< moments of all scores so far

  RLHF_HD RLHF_INLINE void add(double score) { seen.merge({1, score, 0}); }
  [[nodiscard]] RLHF_HD RLHF_INLINE double deviation() const { return rlhf::sqrt(seen.variance()); }
  [[nodiscard]] RLHF_HD RLHF_INLINE double operator()(double score) const {
    const double std = deviation(), moved = center ? score - seen.mean : score;
    const double scaled = std > 0 ? moved / std : moved;
    return scaled < -clip ? -clip : scaled > clip ? clip : scaled;
  }
};

}  // namespace rlhf::inline v1
