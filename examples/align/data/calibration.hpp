#pragma once
// Whether the probabilities that scores imply are those that come true.

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace align {

/// Pairs of similar confidence.
struct reliability_bin {
  double low = 0, high = 0;  ///< of the confidence
  double confidence = 0;     ///< mean
  double accuracy = 0;       ///< ties half
  std::int64_t count = 0;
};

/// Of margins d, chosen minus rejected, as the Bradley-Terry probability \f$ \sigma(d) \f$ that the chosen one wins.
///
/// Which response was called chosen must not matter, so a pair's confidence is \f$ \max(\sigma(d), \sigma(-d)) \f$, in
/// [1/2, 1], and it is right when d > 0. \f$ \mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b -
/// \mathrm{confidence}_b| \f$ over bins of equal width; the adaptive one over bins of equal count. Brier: mean of
/// \f$ (1-\sigma(d))^2 \f$. The temperature T minimises the mean of \f$ -\log\sigma(d/T) \f$, in nats: above 1 the scores are
/// too sure of themselves, below 1 too modest. It is 0 when no margin is negative and infinite when their mean is not
/// positive; what comes after scaling is NaN then. Fitted on the margins themselves, it flatters the scaled figures a little.
/// Source: Guo et al. 2017, arXiv 1706.04599.
struct calibration {
  double ece = 0;
  double adaptive_ece = 0;
  double brier = 0;
  double nll = 0;
  double temperature = 1;
  double scaled_ece = 0;  ///< of d / T
  double scaled_nll = 0;
  std::vector<reliability_bin> bins = {};  ///< of equal width, empty ones too
};

/// Throws std::invalid_argument for no margins, one that is not finite, or no bins.
[[nodiscard]] calibration calibrate(std::span<const double> margins, int bins = 15);

}  // namespace align
