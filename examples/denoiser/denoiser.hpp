#pragma once
// A few-step denoiser as a policy, and a critic for it.

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "denoiser/pictures.hpp"
#include "denoiser/step_networks.hpp"
#include "rlhf/policy/concepts.hpp"

namespace denoising {

/// Every move of a batch: f(row, step, kind asked for, the point before the move, the point after it). Throws where a prompt is not a
/// kind and a start, or a response not `steps` moves.
template <class F>
void for_each_move(const rlhf::responses& batch, std::size_t steps, F&& f) {
  for (std::int64_t i = 0; i < batch.size(); ++i) {
    const auto prompt = batch.prompt(i), moves = batch.response(i);
    if (prompt.size() != 3 || prompt[0] < 0 || static_cast<std::size_t>(prompt[0]) >= kinds ||
        moves.size() != 2 * steps)
      throw std::invalid_argument("denoiser: response " + std::to_string(i) + " is no picture of " +
                                  std::to_string(steps) + " moves after a kind and a start");
    float x[] = {rlhf::number_of(prompt[1]), rlhf::number_of(prompt[2])};
    for (std::size_t k = 0; k < steps; ++k) {
      const float to[] = {rlhf::number_of(moves[2 * k]), rlhf::number_of(moves[2 * k + 1])};
      f(static_cast<std::size_t>(i), k, static_cast<std::size_t>(prompt[0]), x, to);
      x[0] = to[0];
      x[1] = to[1];
    }
  }
}

//! [policy]
/// x_{k+1} ~ N(x_k + network_k(x_k, kind), s_k^2 I): each coordinate of each move is a token, its log-probability a density's.
class denoiser {
 public:
  bool noise_learns = true;  ///< whether the deviations s_k have a gradient: while it is fitted to data, not afterwards

  denoiser(std::size_t steps, rlhf::random_key key) : steps_(steps), means_(steps, kinds, 2, key) {
    const auto weights = means_.parameters();
    parameters_.assign(weights.begin(), weights.end());
    parameters_.resize(weights.size() + steps, std::log(0.5f));  // behind the networks' weights: log s_k
    gradient_.resize(parameters_.size());
  }
  [[nodiscard]] std::span<float> parameters() { return parameters_; }
  [[nodiscard]] std::span<float> gradient() { return gradient_; }
  [[nodiscard]] std::size_t steps() const { return steps_; }

  void log_probs(const rlhf::responses& batch, std::span<float> out) {
    last_ = batch;
    load();
    std::size_t t = 0;
    for_each_move(batch, steps_, [&](std::size_t, std::size_t k, std::size_t asked, const float* x, const float* to) {
      float m[2];
      mean(k, asked, x, m);
      const float log_s = parameters_[parameters_.size() - steps_ + k];
      for (const int axis : {0, 1}) {
        const float u = (to[axis] - m[axis]) * std::exp(-log_s);
        out[t++] = -0.5f * u * u - log_s - 0.9189385332f;
      }
    });
  }

  void backward(std::span<const float> grad_logp) {
    std::size_t t = 0;
    std::vector<float> of_noise(steps_);
    for_each_move(last_, steps_, [&](std::size_t, std::size_t k, std::size_t asked, const float* x, const float* to) {
      float m[2], slope[2];
      mean(k, asked, x, m);
      const float precision = std::exp(-2 * parameters_[parameters_.size() - steps_ + k]);
      for (const int axis : {0, 1}) {
        const float g = grad_logp[t++], off = to[axis] - m[axis];
        slope[axis] = g * off * precision;
        of_noise[k] += g * (off * off * precision - 1);
      }
      means_.backward(k, asked, x, slope);
    });
    const auto of_weights = means_.gradient();
    for (std::size_t i = 0; i < of_weights.size(); ++i) gradient_[i] += of_weights[i];
    std::fill(of_weights.begin(), of_weights.end(), 0.0f);
    if (noise_learns)
      for (std::size_t k = 0; k < steps_; ++k) gradient_[of_weights.size() + k] += of_noise[k];
  }
  //! [policy]

  /// A prompt is a kind and a start; one that is only a kind gets its start from N(0, I), the same for all of its responses.
  [[nodiscard]] rlhf::responses sample(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key) {
    load();
    const rlhf::random_numbers numbers(key);
    rlhf::responses out;
    std::vector<std::int32_t> moves(2 * steps_);
    for (std::uint32_t p = 0; p < prompts.size(); ++p) {
      std::vector<std::int32_t> prompt = prompts[p];
      if (prompt.size() == 1)
        for (const std::uint32_t axis : {0u, 1u})
          prompt.push_back(rlhf::token_of(static_cast<float>(numbers.normal({.prompt = p, .draw = 2 + axis}))));
      for (std::uint32_t s = 0; s < static_cast<std::uint32_t>(n); ++s) {
        float x[] = {rlhf::number_of(prompt[1]), rlhf::number_of(prompt[2])};
        for (std::uint32_t k = 0; k < steps_; ++k) {
          float m[2];
          mean(k, static_cast<std::size_t>(prompt[0]), x, m);
          for (const std::uint32_t axis : {0u, 1u}) {
            x[axis] = m[axis] + deviation(k) * static_cast<float>(numbers.normal({p, s, 2 * k + axis}));
            moves[2 * k + axis] = rlhf::token_of(x[axis]);
          }
        }
        out.add(prompt, moves);
      }
    }
    return out;
  }

  [[nodiscard]] float deviation(std::size_t k) const { return std::exp(parameters_[parameters_.size() - steps_ + k]); }

  /// KL(this || other) along each given response, nats: the exact one of every move at the points that it passed.
  [[nodiscard]] std::vector<double> kl(denoiser& other, const rlhf::responses& drawn) {
    load();
    other.load();
    std::vector<double> out(static_cast<std::size_t>(drawn.size()));
    for_each_move(drawn, steps_, [&](std::size_t i, std::size_t k, std::size_t asked, const float* x, const float*) {
      float a[2], b[2];
      mean(k, asked, x, a);
      other.mean(k, asked, x, b);
      const double s = static_cast<double>(other.deviation(k)), ratio = static_cast<double>(deviation(k)) / s;
      const double dx = static_cast<double>(a[0] - b[0]) / s, dy = static_cast<double>(a[1] - b[1]) / s;
      out[i] += (dx * dx + dy * dy) / 2 + ratio * ratio - 1 - 2 * std::log(ratio);
    });
    return out;
  }

 private:
  void load() { std::copy_n(parameters_.begin(), means_.parameters().size(), means_.parameters().begin()); }
  void mean(std::size_t k, std::size_t asked, const float* x, float* out) const {
    means_.forward(k, asked, x, out);
    out[0] += x[0];
    out[1] += x[1];
  }

  std::size_t steps_;
  step_networks means_;
  std::vector<float> parameters_, gradient_;
  rlhf::responses last_;
};

static_assert(rlhf::trainable_policy<denoiser> && rlhf::sampling_policy<denoiser>);

/// What the rest of a picture will be worth, from the point before a move: the same for both of its coordinates.
class critic {
 public:
  critic(std::size_t steps, rlhf::random_key key) : steps_(steps), values_(steps, kinds, 1, key) {}
  [[nodiscard]] std::span<float> parameters() { return values_.parameters(); }
  [[nodiscard]] std::span<float> gradient() { return values_.gradient(); }
  void values(const rlhf::responses& batch, std::span<float> out) {
    last_ = batch;
    std::size_t t = 0;
    for_each_move(batch, steps_, [&](std::size_t, std::size_t k, std::size_t asked, const float* x, const float*) {
      values_.forward(k, asked, x, &out[t]);
      out[t + 1] = out[t];
      t += 2;
    });
  }
  void backward_values(std::span<const float> g) {
    std::size_t t = 0;
    for_each_move(last_, steps_, [&](std::size_t, std::size_t k, std::size_t asked, const float* x, const float*) {
      const float slope = g[t] + g[t + 1];
      values_.backward(k, asked, x, &slope);
      t += 2;
    });
  }

 private:
  std::size_t steps_;
  step_networks values_;
  rlhf::responses last_;
};

static_assert(rlhf::trainable_critic<critic>);

}  // namespace denoising
