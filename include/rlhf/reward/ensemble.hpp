#pragma once
// One reward from the scores that several reward models give to a response.
//
// The formulas see the members' scores as a list: `size()`, `score(k)`, and `slope(k, x)` for the derivative of the reward in
// score k; all in double.

#include <cstdint>

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

namespace ensemble_detail {

template <class Members>
[[nodiscard]] RLHF_HD RLHF_INLINE double mean(const Members& members) {
  double sum = 0;
  for (std::int64_t k = 0; k < members.size(); ++k) sum += members.score(k);
  return sum / static_cast<double>(members.size());
}

/// The mean, and what its rounding left out: of members that agree it is exactly what they say.
template <class Members>
[[nodiscard]] RLHF_HD RLHF_INLINE double exact_mean(const Members& members) {
  const double rounded = mean(members);
  double left = 0;
  for (std::int64_t k = 0; k < members.size(); ++k) left += members.score(k) - rounded;
  return rounded + left / static_cast<double>(members.size());
}

/// Variance about the mean, divided by n, or by n - 1 for a sample; 0 where that is undefined.
template <class Members>
[[nodiscard]] RLHF_HD RLHF_INLINE double variance(const Members& members, double mean, double divisor) {
  double sum = 0;
  for (std::int64_t k = 0; k < members.size(); ++k) sum += square(members.score(k) - mean);
  return divisor > 0 ? sum / divisor : 0;
}

template <class Members>
[[nodiscard]] RLHF_HD RLHF_INLINE double divisor(const Members& members, bool sample) {
  return static_cast<double>(members.size() - (sample ? 1 : 0));
}

}  // namespace ensemble_detail

/// The mean of the members, \f$ \bar r = \frac1M\sum_i r_i \f$. Slope: 1 / M. Source: Coste et al. 2023, arXiv
/// 2310.02743. Catalogue R-09, spec-b-9.
struct ensemble_mean {
  template <class Members>
  RLHF_HD RLHF_INLINE double operator()(const Members& members) const {
    for (std::int64_t k = 0; k < members.size(); ++k) members.slope(k, 1 / static_cast<double>(members.size()));
    return ensemble_detail::mean(members);
  }
};

/// Worst-case optimisation: the lowest score, \f$ \min_i r_i \f$; at a tie the first member takes the slope.
/// Source: Coste et al. 2023, arXiv 2310.02743. Catalogue R-09, spec-b-9.
struct worst_case {
  template <class Members>
  RLHF_HD RLHF_INLINE double operator()(const Members& members) const {
    std::int64_t lowest = 0;
    for (std::int64_t k = 1; k < members.size(); ++k)
      if (members.score(k) < members.score(lowest)) lowest = k;
    for (std::int64_t k = 0; k < members.size(); ++k) members.slope(k, k == lowest ? 1 : 0);
    return members.score(lowest);
  }
};

/// Uncertainty-weighted optimisation: \f$ \bar r - \lambda\,\mathrm{Var}(r) \f$. Source: Coste et al. 2023, arXiv
/// 2310.02743; lambda 0.5 in its best-of-n runs with the variance over n, 0.1 in its PPO runs with that over n - 1.
struct uncertainty_weighted {
  double lambda = 0.5;  ///< price of the variance
  bool sample = false;  ///< divide by n - 1
  [[nodiscard]] constexpr status check() const {
    return lambda >= 0 ? status{} : remark::argument("uncertainty_weighted", "lambda", lambda, "0 or more");
  }
  template <class Members>
  RLHF_HD RLHF_INLINE double operator()(const Members& members) const {
    using namespace ensemble_detail;
    const double n = static_cast<double>(members.size()), over = divisor(members, sample), center = mean(members);
    const double steep = over > 0 ? 2 * lambda / over : 0;
    for (std::int64_t k = 0; k < members.size(); ++k) members.slope(k, 1 / n - steep * (members.score(k) - center));
    return center - lambda * variance(members, center, over);
  }
};

/// A lower confidence bound: \f$ \bar r - k\,\mathrm{sd}(r) \f$. Members that agree: the mean, with the mean's slopes.
/// Catalogue R-09, spec-b-9.
struct lower_confidence_bound {
  double deviations = 1;  ///< k
  bool sample = false;    ///< divide by n - 1
  [[nodiscard]] constexpr status check() const {
    return deviations >= 0 ? status{}
                           : remark::argument("lower_confidence_bound", "deviations", deviations, "0 or more");
  }
  template <class Members>
  RLHF_HD RLHF_INLINE double operator()(const Members& members) const {
    using namespace ensemble_detail;
    // Of a mean that is off by a rounding, members that agree would deviate by that much, and the slope is one by it.
    const double n = static_cast<double>(members.size()), over = divisor(members, sample), center = exact_mean(members);
    const double deviation = rlhf::sqrt(variance(members, center, over));
    const double steep = deviation > 0 ? deviations / (over * deviation) : 0;
    for (std::int64_t k = 0; k < members.size(); ++k) members.slope(k, 1 / n - steep * (members.score(k) - center));
    return center - deviations * deviation;
  }
};

/// The median; of an even number, the mean of the two in the middle. Equal scores stand in the order of the members.
/// Source: Eisenstein et al. 2023, arXiv 2312.09244. Catalogue R-09, spec-b-9.
struct ensemble_median {
  template <class Members>
  RLHF_HD RLHF_INLINE double operator()(const Members& members) const {
    const std::int64_t n = members.size(), low = (n - 1) / 2, high = n / 2;
    double median = 0;
    for (std::int64_t k = 0; k < n; ++k) {
      const double score = members.score(k);
      std::int64_t rank = 0;  // ensembles are small: counting beats sorting
      for (std::int64_t j = 0; j < n; ++j)
        rank += members.score(j) < score || (j < k && members.score(j) == score) ? 1 : 0;
      const double share = (rank == low ? 0.5 : 0) + (rank == high ? 0.5 : 0);
      members.slope(k, share);
      if (share > 0) median += share * score;
    }
    return median;
  }
};

}  // namespace rlhf::inline v1
