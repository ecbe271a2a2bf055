#pragma once
// A policy of numbers instead of words: a few Gaussian moves in the plane, as few-step image models make them.

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "rlhf/policy/concepts.hpp"

namespace rlhf::inline v1 {

/// A number as a token, and back: the same 32 bits.
[[nodiscard]] constexpr std::int32_t token_of(float x) { return std::bit_cast<std::int32_t>(x); }
[[nodiscard]] constexpr float number_of(std::int32_t token) { return std::bit_cast<float>(token); }

/// x_{k+1} ~ N(A_k x_k + b_k, s_k^2 I), k = 0 ... steps - 1: a denoiser of few steps, its reward what the last point is worth.
///
/// A response is the points after the start, coordinate by coordinate: each coordinate is a token, and its log-probability
/// the density's, so that every loop over tokens is one over coordinates. A prompt is a number and then the point the moves
/// start from, two tokens; a prompt that is only a number gets its start from N(0, I) when it is sampled for, the same for
/// all of its responses. Parameters, float: for each step A by rows, then b; at first A = I and b = 0.
/// Source of the formulation: Black et al. 2023, arXiv 2305.13301; REBEL's image experiments, Gao et al. 2024, arXiv
/// 2404.16767.
class gaussian_policy {
 public:
  static constexpr std::size_t per_step = 6;

  /// One standard deviation for each step.
  explicit gaussian_policy(std::vector<double> deviations) : deviations_(std::move(deviations)) {
    if (deviations_.empty()) throw std::invalid_argument("gaussian_policy: wants at least one step");
    for (const double s : deviations_)
      if (!(s > 0 && std::isfinite(s)))
        throw std::invalid_argument("gaussian_policy: a standard deviation is " + std::to_string(s) +
                                    ", wants a finite number above 0");
    for (std::size_t k = 0; k < deviations_.size(); ++k) parameters_.insert(parameters_.end(), {1, 0, 0, 1, 0, 0});
    gradient_.assign(parameters_.size(), 0.0f);
  }

  [[nodiscard]] std::span<float> parameters() { return parameters_; }
  [[nodiscard]] std::span<float> gradient() { return gradient_; }
  [[nodiscard]] std::size_t steps() const { return deviations_.size(); }

  void log_probs(const responses& batch, std::span<float> out) {
    if (static_cast<std::int64_t>(out.size()) != batch.response_tokens())
      throw std::invalid_argument("gaussian_policy: log_probs: out has " + std::to_string(out.size()) +
                                  " elements, wants " + std::to_string(batch.response_tokens()));
    last_ = batch;
    std::size_t t = 0;
    walk(batch, [&](std::size_t k, int, const double*, double off) {
      const double u = off / deviations_[k];
      out[t++] = static_cast<float>(-0.5 * u * u - std::log(deviations_[k]) - 0.91893853320467274);
    });
  }

  void backward(std::span<const float> grad_logp) {
    std::size_t t = 0;
    walk(last_, [&](std::size_t k, int axis, const double* x, double off) {
      const double g = static_cast<double>(grad_logp[t++]) * off / (deviations_[k] * deviations_[k]);
      float* const slope = gradient_.data() + k * per_step;
      slope[2 * axis] += static_cast<float>(g * x[0]);
      slope[2 * axis + 1] += static_cast<float>(g * x[1]);
      slope[4 + axis] += static_cast<float>(g);
    });
  }

  [[nodiscard]] responses sample(const prompt_list& prompts, std::int64_t n, random_key key) const {
    const random_numbers numbers(key);
    responses out;
    std::vector<std::int32_t> moves;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      std::vector<std::int32_t> prompt = prompts[p];
      const auto number = static_cast<std::uint32_t>(p);
      if (prompt.size() == 1)
        for (const std::uint32_t axis : {0u, 1u})
          prompt.push_back(token_of(static_cast<float>(numbers.normal({.prompt = number, .draw = 2 + axis}))));
      check_prompt(prompt);
      for (std::int64_t s = 0; s < n; ++s) {
        double x[] = {coordinate(prompt[1]), coordinate(prompt[2])};
        moves.clear();
        for (std::size_t k = 0; k < steps(); ++k) {
          const double m[] = {mean(k, 0, x), mean(k, 1, x)};
          for (const std::uint32_t axis : {0u, 1u}) {
            const double noise =
                numbers.normal({number, static_cast<std::uint32_t>(s), static_cast<std::uint32_t>(2 * k) + axis});
            moves.push_back(token_of(static_cast<float>(m[axis] + deviations_[k] * noise)));
            x[axis] = coordinate(moves.back());
          }
        }
        out.add(prompt, moves);
      }
    }
    return out;
  }

  /// Where step k moves a point on average, along an axis.
  [[nodiscard]] double mean(std::size_t k, int axis, const double* x) const {
    const float* const p = parameters_.data() + k * per_step;
    return static_cast<double>(p[2 * axis]) * x[0] + static_cast<double>(p[2 * axis + 1]) * x[1] +
           static_cast<double>(p[4 + axis]);
  }

 private:
  [[nodiscard]] static double coordinate(std::int32_t token) { return static_cast<double>(number_of(token)); }
  static void check_prompt(std::span<const std::int32_t> prompt) {
    if (prompt.size() != 3)
      throw std::invalid_argument("gaussian_policy: a prompt has " + std::to_string(prompt.size()) +
                                  " tokens, wants a number and the two coordinates of a start");
  }
  /// Every coordinate of every move: f(step, axis, the point before, how far it is from the mean).
  template <class F>
  void walk(const responses& batch, F&& f) const {
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      check_prompt(batch.prompt(i));
      const auto moves = batch.response(i);
      if (moves.size() != 2 * steps())
        throw std::invalid_argument("gaussian_policy: a response has " + std::to_string(moves.size()) +
                                    " tokens, wants " + std::to_string(2 * steps()));
      double x[] = {coordinate(batch.prompt(i)[1]), coordinate(batch.prompt(i)[2])};
      for (std::size_t k = 0; k < steps(); ++k) {
        const double to[] = {coordinate(moves[2 * k]), coordinate(moves[2 * k + 1])};
        for (const int axis : {0, 1}) f(k, axis, x, to[axis] - mean(k, axis, x));
        x[0] = to[0];
        x[1] = to[1];
      }
    }
  }

  std::vector<double> deviations_;
  std::vector<float> parameters_, gradient_;
  responses last_;
};

static_assert(trainable_policy<gaussian_policy> && sampling_policy<gaussian_policy>);

}  // namespace rlhf::inline v1
