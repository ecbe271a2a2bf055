#pragma once
// Whether the probabilities that scores imply are those that come true.

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

namespace align {

/// A law of paired comparisons: the log-odds \f$ \log\frac{P(\mathrm{win})}{P(\mathrm{loss})} \f$ of a response whose score is
/// higher by d than the other one's, where there is a winner. Odd and rising in d. Empty: d itself, the law of Bradley and Terry,
/// and of Davidson.
using win_law = std::function<double(double d)>;

/// Thurstone's case V with normal noise of deviation 1 on each score: \f$ \log\Phi(d/\sqrt2) - \log\Phi(-d/\sqrt2) \f$.
/// Source: Thurstone 1927.
[[nodiscard]] double thurstone_log_odds(double d);
/// Rao and Kupper's: \f$ \log\frac{1+\theta e^{d}}{1+\theta e^{-d}} \f$, with a slope of \f$ 2\theta/(1+\theta) \f$ at 0 and of 1
/// far away; at `log_theta` 0 it is Bradley and Terry's, below 0 none. Source: Rao and Kupper 1967, J. Am. Stat. Assoc. 62, 194.
[[nodiscard]] double rao_kupper_log_odds(double d, double log_theta);

/// Pairs of similar confidence.
struct reliability_bin {
  double low = 0, high = 0;  ///< of the confidence
  double confidence = 0;     ///< mean
  double accuracy = 0;       ///< ties half
  std::int64_t count = 0;
};

/// Of margins d, chosen minus rejected (of another law than the logistic one, its log-odds), as the Bradley-Terry probability \f$ \sigma(d) \f$ that the chosen one wins.
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
