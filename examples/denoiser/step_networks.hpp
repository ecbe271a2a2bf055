#pragma once
// One small network for each step of a denoiser, with its own backward pass.

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "rlhf/math/random.hpp"

namespace denoising {

/// For each step: out = b + V softsign(W x + c_p), where x is a point, p says what is asked for, and softsign(u) = u / (1 + |u|).
/// Parameters of a step, float: W's two columns, a column c_p for each p, V by rows, b. At first V and b are 0.
class step_networks {
 public:
  static constexpr std::size_t hidden = 64;

  step_networks(std::size_t steps, std::size_t prompts, std::size_t outputs, rlhf::random_key key)
      : prompts_(prompts), outputs_(outputs), parameters_(steps * per_step()), gradient_(steps * per_step()) {
    const rlhf::random_numbers numbers(key);
    for (std::uint32_t k = 0; k < steps; ++k)
      for (std::uint32_t i = 0; i < (2 + prompts) * hidden; ++i)
        parameters_[k * per_step() + i] = static_cast<float>(2 * numbers.normal({.prompt = k, .position = i}));
  }

  [[nodiscard]] std::span<float> parameters() { return parameters_; }
  [[nodiscard]] std::span<float> gradient() { return gradient_; }

  void forward(std::size_t step, std::size_t prompt, const float* x, float* out) const {
    float unit[hidden];
    activate(step, prompt, x, unit);
    const float* const v = parameters_.data() + step * per_step() + (2 + prompts_) * hidden;
    const float* const b = v + outputs_ * hidden;
    for (std::size_t o = 0; o < outputs_; ++o) {
      out[o] = b[o];
      for (std::size_t h = 0; h < hidden; ++h) out[o] += v[o * hidden + h] * unit[h];
    }
  }

  /// Adds to the gradient what `slope` = d loss / d out makes of it.
  void backward(std::size_t step, std::size_t prompt, const float* x, const float* slope) {
    float unit[hidden];
    activate(step, prompt, x, unit);
    const std::size_t from = step * per_step(), output = (2 + prompts_) * hidden;
    const float* const v = parameters_.data() + from + output;
    float* const g = gradient_.data() + from;
    float* const gv = g + output;
    float* const gc = g + (2 + prompt) * hidden;
    float back[hidden] = {};
    for (std::size_t o = 0; o < outputs_; ++o) {
      gv[outputs_ * hidden + o] += slope[o];
      for (std::size_t h = 0; h < hidden; ++h) {
        back[h] += slope[o] * v[o * hidden + h];
        gv[o * hidden + h] += slope[o] * unit[h];
      }
    }
    for (std::size_t h = 0; h < hidden; ++h) {
      const float rest = 1 - std::abs(unit[h]);  // softsign's slope is its square
      const float d = back[h] * rest * rest;
      g[h] += d * x[0];
      g[hidden + h] += d * x[1];
      gc[h] += d;
    }
  }

 private:
  [[nodiscard]] std::size_t per_step() const { return (2 + prompts_ + outputs_) * hidden + outputs_; }
  void activate(std::size_t step, std::size_t prompt, const float* x, float* unit) const {
    const float* const w = parameters_.data() + step * per_step();
    const float* const c = w + (2 + prompt) * hidden;
    for (std::size_t h = 0; h < hidden; ++h) {
      const float u = w[h] * x[0] + w[hidden + h] * x[1] + c[h];
      unit[h] = u / (1 + std::abs(u));
    }
  }

  std::size_t prompts_, outputs_;
  std::vector<float> parameters_, gradient_;
};

}  // namespace denoising
