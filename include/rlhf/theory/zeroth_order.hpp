#pragma once
// Policy gradients from preferences without a reward model: two policies side by side, people say which did better.

#include <vector>

#include "rlhf/math/dual.hpp"
#include "rlhf/math/normal.hpp"
#include "rlhf/math/random.hpp"
#include "rlhf/theory/distributions.hpp"

namespace rlhf::inline v1::theory {

/// P(preferred) as a function of the difference of returns, and back. A link is increasing; these two are symmetric,
/// F(-z) = 1 - F(z), complementary_log_log is not.
struct logistic_link {
  [[nodiscard]] double operator()(double z) const { return sigmoid(z); }
  [[nodiscard]] double inverse(double p) const { return std::log(p) - std::log1p(-p); }
};
struct probit_link {
  [[nodiscard]] double operator()(double z) const { return std::exp(log_normal_cdf(z)); }
  [[nodiscard]] double inverse(double p) const {
    if (p > 0.5) return -inverse(1 - p);
    double z = p < 1e-5 ? -std::sqrt(-2 * std::log(p)) : 0;
    for (int i = 0; i < 60; ++i) {  // Newton on log Phi, which is concave: no step overshoots for long
      dual<double> x = dual<double>::variable(z, 0);
      const dual<double> f = log_normal_cdf(x);
      const double step = (f.value - std::log(p)) / f.partial[0];
      z -= step;
      if (std::fabs(step) < 1e-14 * (1 + std::fabs(z))) break;
    }
    return z;
  }
};
/// \f$ 1 - e^{-\log 2\,e^z} \f$ (Weibull): 1/2 at 0, but not symmetric.
struct complementary_log_log_link {
  [[nodiscard]] double operator()(double z) const { return -std::expm1(-0.6931471805599453 * std::exp(z)); }
  [[nodiscard]] double inverse(double p) const { return std::log(-std::log1p(-p) / 0.6931471805599453); }
};

/// A direction to try: uniform on the unit sphere (block 0), or +-1/sqrt(block) on that many coordinates drawn without
/// replacement, 0 elsewhere (ZBCPG). \f$ E\,vv^T = I/d \f$ for all of them.
[[nodiscard]] inline vector search_direction(Eigen::Index d, Eigen::Index block, const random_numbers& numbers,
                                             random_index at) {
  detail::want(d >= 1, "search_direction", "d", static_cast<double>(d), "at least 1");
  detail::want(block >= 0 && block <= d, "search_direction", "block", static_cast<double>(block),
               "0 (the sphere) to d");
  vector v = vector::Zero(d);
  if (block == 0) {
    for (Eigen::Index i = 0; i < d; ++i)
      v[i] = numbers.normal({at.prompt, at.sample, static_cast<std::uint32_t>(i), at.draw});
    return v / v.norm();
  }
  std::vector<Eigen::Index> order(static_cast<std::size_t>(d));
  permutation(order, numbers, {at.prompt, at.sample, 0, at.draw});
  for (Eigen::Index i = 0; i < block; ++i) {
    const auto place = static_cast<std::uint32_t>(d + i);
    const bool up = (numbers.bits({at.prompt, at.sample, place, at.draw}) & 1) != 0;
    v[detail::at(order, i)] = (up ? 1 : -1) / std::sqrt(static_cast<double>(block));
  }
  return v;
}

/// The difference of two policies' values from how often the second one's trajectory was preferred in each pair of them:
/// \f$ \frac1N\sum_n F^{-1}(\mathrm{clip}(\hat p_n, c, 1-c)) \f$. The link is inverted before averaging, because it is the returns'
/// difference that is averaged. The bias of a pair is -(1-2p)/(2Mp(1-p)) + O(M^-2) for the logistic link.
template <class Link>
[[nodiscard]] double value_difference(std::span<const double> preferred, double labels, const Link& link, double clip) {
  detail::want(!preferred.empty(), "value_difference", "the number of pairs", 0, "at least 1");
  detail::want(labels >= 1, "value_difference", "labels", labels, "at least 1");
  detail::want(clip > 0 && clip < 0.5, "value_difference", "clip", clip, "0 < clip < 1/2");
  double sum = 0;
  for (const double count : preferred) {
    detail::want(count >= 0 && count <= labels, "value_difference", "a count", count, "between 0 and labels");
    sum += link.inverse(std::min(std::max(count / labels, clip), 1 - clip));
  }
  return sum / static_cast<double>(preferred.size());
}

/// ZPG's gradient estimate: \f$ \frac d\mu\,\hat D\,v \f$ for the difference D of the values at theta + mu v and theta. With a
/// two-sided difference halve it. Source: Zhang and Ying 2024, arXiv 2409.17401.
[[nodiscard]] inline vector zeroth_order_gradient(double difference, const vector& direction, double radius) {
  detail::want(radius > 0 && std::isfinite(radius), "zeroth_order_gradient", "radius", radius, "more than 0");
  return static_cast<double>(direction.size()) / radius * difference * direction;
}
/// The sign variant, for an unknown link: only which one is preferred more often counts. Source: arXiv 2506.03066.
[[nodiscard]] inline vector sign_gradient(double difference, const vector& direction) {
  return (difference > 0 ? 1.0 : difference < 0 ? -1.0 : 0.0) * direction;
}

}  // namespace rlhf::inline v1::theory
