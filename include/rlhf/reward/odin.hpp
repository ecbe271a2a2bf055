#pragma once
// A reward model with two heads, one of which takes the length upon itself.

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Sums of squares and products about the means: what Pearson's correlations of scores with lengths are made of.
struct length_covariances {
  double count = 0, length_mean = 0, quality_mean = 0, length_score_mean = 0;
  double length_square = 0, quality_square = 0, length_score_square = 0;
  double quality_length = 0, length_score_length = 0, quality_length_score = 0;
};

/// The correlation of a score with the length, and its slope in the score of one response:
/// \f$ \frac{L_i-\bar L}{\sqrt{S_{LL}S_{aa}}} - \mathrm{corr}\,\frac{a_i-\bar a}{S_{aa}} \f$. Where either does not vary: 0.
struct length_correlation {
  double value = 0;
  double by_length = 0;  ///< slope for each unit of the length above its mean
  double by_score = 0;   ///< and for each unit of the score above its mean

  RLHF_HD RLHF_INLINE length_correlation() = default;
  RLHF_HD RLHF_INLINE length_correlation(double product, double score_square, double score_mean,
                                         const length_covariances& c) {
    // What rounding of the mean leaves of numbers that are all equal is no variance.
    const auto varies = [&](double sum, double mean) { return sum > c.count * square(1e-11 * mean); };
    if (!varies(c.length_square, c.length_mean) || !varies(score_square, score_mean)) return;
    by_length = 1 / (rlhf::sqrt(c.length_square) * rlhf::sqrt(score_square));
    value = product * by_length;
    by_score = -value / score_square;
  }
};

/// ODIN: the sum of a quality and a length score is trained by Bradley-Terry, while the length score is drawn towards
/// the length and the quality score away from it: \f$ \mathrm{mean}(-\log\sigma(D)) + c_o|\langle w_q, w_l\rangle| +
/// c_l[(1 - \rho(L, r_l)) + |\rho(L, r_q)| + |\rho(L, r_q + r_l)|] \f$. The correlations are over all responses of the
/// batch, chosen and rejected; give the whole batch. Only the quality score is used afterwards. The last term is in the
/// published program, not in the paper: `total_correlation` turns it off. Source: Chen et al. 2024, arXiv 2402.07319.
/// Catalogue R-09.
struct odin {
  double orthogonality = 1;       ///< c_o, times the absolute inner product of the heads' normalised weights
  double correlation = 1;         ///< c_l
  bool total_correlation = true;  ///< count the correlation of the sum too

  [[nodiscard]] constexpr status check() const {
    if (!(orthogonality >= 0)) return remark::argument("odin", "orthogonality", orthogonality, "0 or more");
    if (!(correlation >= 0)) return remark::argument("odin", "correlation", correlation, "0 or more");
    return {};
  }

  /// The correlations of a batch, what they add to the loss, and how a response's scores move that.
  struct penalty {
    length_correlation quality, length_score, total;
    double loss = 0;
    double quality_sign = 0, total_sign = 0;

    RLHF_HD RLHF_INLINE penalty() = default;
    RLHF_HD RLHF_INLINE penalty(const odin& f, const length_covariances& c)
        : quality(c.quality_length, c.quality_square, c.quality_mean, c),
          length_score(c.length_score_length, c.length_score_square, c.length_score_mean, c),
          total(c.quality_length + c.length_score_length,
                c.quality_square + 2 * c.quality_length_score + c.length_score_square,
                c.quality_mean + c.length_score_mean, c),
          quality_sign(sign(quality.value)),
          total_sign(f.total_correlation ? sign(total.value) : 0) {
      loss = f.correlation * (1 - length_score.value + quality_sign * quality.value + total_sign * total.value);
    }
    [[nodiscard]] static RLHF_HD RLHF_INLINE double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }
  };

  /// Slopes of the correlation terms in the two scores of a response; deviations are from the batch's means.
  RLHF_HD RLHF_INLINE void slopes(const penalty& p, double length, double quality, double length_score,
                                  double& in_quality, double& in_length_score) const {
    const auto slope = [&](const length_correlation& c, double score) {
      return length * c.by_length + score * c.by_score;
    };
    const double total = p.total_sign * slope(p.total, quality + length_score);
    in_quality = correlation * (p.quality_sign * slope(p.quality, quality) + total);
    in_length_score = correlation * (total - slope(p.length_score, length_score));
  }
};

}  // namespace rlhf::inline v1
