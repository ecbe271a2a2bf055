#pragma once
// AdamW and gradient clipping over flat arrays of parameters.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

/// The settings of AdamW, with PyTorch's defaults. The learning rate is an argument of every step, so that a schedule
/// is any function of the step.
struct adamw_options {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
};

/// AdamW: Adam with weight decay applied to the parameters, apart from the gradient.
///
/// \f$ \theta \leftarrow \theta(1 - \eta\lambda);\; m \leftarrow m + (1-\beta_1)(g - m);\;
///     v \leftarrow \beta_2 v + (1-\beta_2)g^2;\;
///     \theta \leftarrow \theta - \frac{\eta}{1-\beta_1^t}\, m \big/ (\sqrt{v}/\sqrt{1-\beta_2^t} + \epsilon) \f$
///
/// The state is three public members: whoever saves and restores them (and `options`) continues the run bit by bit. A
/// gradient that is not finite makes the parameters so; look at `clip_gradient_norm`'s result before the step.
/// Source: Loshchilov and Hutter 2017, arXiv 1711.05101, algorithm 2; the order of operations and the place of epsilon
/// are those of torch.optim.AdamW.
struct adamw {
  adamw_options options;
  std::int64_t steps = 0;                 ///< steps done
  std::vector<float> first_moment = {};   ///< m, as long as the parameters; empty before the first step
  std::vector<float> second_moment = {};  ///< v, likewise

  /// One update of `parameters` [n] against `gradient` [n]. Throws std::invalid_argument when a size does not match.
  void step(std::span<float> parameters, std::span<const float> gradient, double learning_rate) {
    if (gradient.size() != parameters.size())
      throw std::invalid_argument("adamw: the gradient has another size than the parameters");
    if (first_moment.empty() && second_moment.empty()) {
      first_moment.assign(parameters.size(), 0.0f);
      second_moment.assign(parameters.size(), 0.0f);
    }
    if (first_moment.size() != parameters.size() || second_moment.size() != parameters.size())
      throw std::invalid_argument("adamw: the moments have another size than the parameters");
    ++steps;
    const auto t = static_cast<double>(steps);
    const auto keep = static_cast<float>(1 - learning_rate * options.weight_decay);
    const auto take1 = static_cast<float>(1 - options.beta1);
    const auto keep2 = static_cast<float>(options.beta2), take2 = static_cast<float>(1 - options.beta2);
    const auto rate = static_cast<float>(learning_rate / (1 - std::pow(options.beta1, t)));
    const auto scale = static_cast<float>(std::sqrt(1 - std::pow(options.beta2, t)));
    const auto epsilon = static_cast<float>(options.epsilon);
    float* const m = first_moment.data();
    float* const v = second_moment.data();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const float g = gradient[i];
      m[i] += take1 * (g - m[i]);
      v[i] = keep2 * v[i] + take2 * g * g;
      parameters[i] = parameters[i] * keep - rate * (m[i] / (std::sqrt(v[i]) / scale + epsilon));
    }
  }
};

/// The Euclidean norm of all gradients together, accumulated in double in a fixed order.
[[nodiscard]] inline double gradient_norm(std::span<const float> gradient) {
  // Four sums, because one would wait for its own addition at every element.
  double sum[4] = {};
  std::size_t i = 0;
  for (; i + 4 <= gradient.size(); i += 4)
    for (std::size_t lane = 0; lane < 4; ++lane)
      sum[lane] += static_cast<double>(gradient[i + lane]) * gradient[i + lane];
  for (; i < gradient.size(); ++i) sum[0] += static_cast<double>(gradient[i]) * gradient[i];
  return std::sqrt((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/// Scales the gradient down to the norm `maximum` where it is longer; returns the norm it had.
///
/// The factor is min(1, maximum / (norm + 1e-6)), as in torch.nn.utils.clip_grad_norm_. With a norm that is not finite
/// the gradient is left as it is (PyTorch would write NaN into it, or zeros for an infinite norm): the caller reads the
/// norm and skips the step.
inline double clip_gradient_norm(std::span<float> gradient, double maximum) {
  const double norm = gradient_norm(gradient);
  if (!std::isfinite(norm)) return norm;
  const double factor = std::min(1.0, maximum / (norm + 1e-6));
  if (factor < 1)
    for (float& g : gradient) g *= static_cast<float>(factor);
  return norm;
}

}  // namespace rlhf::inline v1
