#pragma once
// A few-step denoiser in the plane as a policy: every step is a Gaussian move, the picture is where the last one ends.

#include <array>
#include <vector>

#include "rlhf/formulation/check.hpp"
#include "rlhf/math/random.hpp"

namespace rlhf::inline v1 {

/// A point of the plane.
using point = std::array<double, 2>;

/// x_{k+1} ~ N(A_k x_k + b_k, s_k^2 I) for k = 0 ... steps - 1, from x_0 ~ N(0, I): the policy of few-step image models, small
/// enough to see. A trajectory is steps + 1 points; its log-probability is the sum over the steps, without x_0, which is the
/// state the episode begins in. Parameters: for each step A_k by rows, then b_k. With a horizon of one it is a Gaussian bandit.
/// Source of the formulation: Black et al. 2023, arXiv 2305.13301; REBEL's image experiments, Gao et al. 2024, arXiv 2404.16767.
class gaussian_steps {
 public:
  static constexpr std::size_t per_step = 6;

  /// One standard deviation for each step; the parameters begin at A = I, b = 0.
  explicit gaussian_steps(std::vector<double> deviations) : deviations_(std::move(deviations)) {
    using formulation_detail::want;
    want(!deviations_.empty(), "gaussian_steps", "the number of steps", 0, "at least 1");
    for (const double s : deviations_)
      want(s > 0 && std::isfinite(s), "gaussian_steps", "a standard deviation", s, "more than 0");
    for (std::size_t k = 0; k < deviations_.size(); ++k) parameters_.insert(parameters_.end(), {1, 0, 0, 1, 0, 0});
  }

  [[nodiscard]] std::size_t steps() const { return deviations_.size(); }
  [[nodiscard]] double deviation(std::size_t step) const { return deviations_[step]; }
  [[nodiscard]] std::span<double> parameters() { return parameters_; }
  [[nodiscard]] std::span<const double> parameters() const { return parameters_; }

  [[nodiscard]] point mean(std::size_t step, const point& x) const {
    const double* const p = parameters_.data() + step * per_step;
    return {p[0] * x[0] + p[1] * x[1] + p[4], p[2] * x[0] + p[3] * x[1] + p[5]};
  }
  /// A trajectory from a drawn x_0, by positions 0 ... steps of `at`.
  [[nodiscard]] std::vector<point> sample(const random_numbers& numbers, random_index at) const {
    return sample(numbers, at,
                  {numbers.normal({at.prompt, at.sample, 0, 0}), numbers.normal({at.prompt, at.sample, 0, 1})});
  }
  /// A trajectory from a given x_0, by positions 1 ... steps of `at`: two of them from the same x_0 are two responses to one prompt.
  [[nodiscard]] std::vector<point> sample(const random_numbers& numbers, random_index at, point start) const {
    const auto normal = [&](std::uint32_t position, std::uint32_t axis) {
      return numbers.normal({at.prompt, at.sample, position, axis});
    };
    std::vector<point> x{start};
    for (std::size_t k = 0; k < steps(); ++k) {
      const point m = mean(k, x.back());
      const auto position = static_cast<std::uint32_t>(k + 1);
      x.push_back({m[0] + deviations_[k] * normal(position, 0), m[1] + deviations_[k] * normal(position, 1)});
    }
    return x;
  }
  [[nodiscard]] double log_prob(std::span<const point> x) const {
    formulation_detail::want_size(x.size(), static_cast<std::int64_t>(steps() + 1), "gaussian_steps: log_prob", "x");
    double sum = 0;
    for (std::size_t k = 0; k < steps(); ++k) {
      const point m = mean(k, x[k]);
      const double u = (x[k + 1][0] - m[0]) / deviations_[k], v = (x[k + 1][1] - m[1]) / deviations_[k];
      sum += -0.5 * (u * u + v * v) - std::log(6.283185307179586476925 * deviations_[k] * deviations_[k]);
    }
    return sum;
  }
  /// Adds `weight` times the gradient of log_prob in the parameters to `out`.
  void add_gradient(std::span<const point> x, double weight, std::span<double> out) const {
    formulation_detail::want_size(x.size(), static_cast<std::int64_t>(steps() + 1), "gaussian_steps: add_gradient",
                                  "x");
    formulation_detail::want_size(out.size(), static_cast<std::int64_t>(parameters_.size()),
                                  "gaussian_steps: add_gradient", "out");
    for (std::size_t k = 0; k < steps(); ++k) {
      const point m = mean(k, x[k]);
      double* const g = out.data() + k * per_step;
      const double scale = weight / (deviations_[k] * deviations_[k]);
      const double u = (x[k + 1][0] - m[0]) * scale, v = (x[k + 1][1] - m[1]) * scale;
      g[0] += u * x[k][0], g[1] += u * x[k][1], g[2] += v * x[k][0], g[3] += v * x[k][1];
      g[4] += u, g[5] += v;
    }
  }

 private:
  std::vector<double> deviations_, parameters_;
};

}  // namespace rlhf::inline v1
