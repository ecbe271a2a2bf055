#pragma once
// From a gradient to a step: clipping, schedule, optimiser.

#include <algorithm>
#include <cstdint>
#include <limits>

#include "rlhf/core/statistics.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/policy/concepts.hpp"
#include "rlhf/train/optimizer.hpp"
#include "rlhf/train/schedule.hpp"

namespace rlhf::inline v1 {

/// What turns a model's accumulated gradient into a step. Its whole state is the optimiser's.
template <class Schedule = constant_schedule>
struct parameter_update {
  Schedule rate{};
  adamw optimiser{};
  double maximum_norm = 1;  ///< a longer gradient is scaled down to it; infinity turns it off

  /// Clips, steps, zeroes the gradient; the norm before clipping. A gradient that is not finite is dropped: the parameters
  /// stay as they are. Throws rlhf::error for a maximum that is not positive (0 would stop, a negative one ascend), for a
  /// rate that is negative or not finite, and for a gradient of another length than the parameters.
  template <parameterised Model>
  double apply(Model& model) {
    if (!(maximum_norm > 0))
      throw error(
          remark::argument("parameter_update", "maximum_norm", maximum_norm, "more than 0 (infinity turns it off)"));
    const std::span<float> gradient = model.gradient();
    if (const auto elements = model.parameters().size(); gradient.size() != elements)
      throw error(remark::shape("parameter_update", "the model's gradient", static_cast<std::int64_t>(gradient.size()),
                                static_cast<std::int64_t>(elements)));
    const double eta = rate(optimiser.steps);
    if (!(eta >= 0 && eta - eta == 0))
      throw error(remark::argument("parameter_update", "the rate", eta, "a finite number, 0 or more"));
    const double norm = clip_gradient_norm(gradient, maximum_norm);
    if (norm - norm == 0) optimiser.step(model.parameters(), gradient, eta);
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    return norm;
  }
  /// The same, told to some metrics: the norm before clipping, finite or not, and the rate of the step.
  template <parameterised Model>
  double apply(Model& model, statistics& metrics, const char* norm_name = "grad_norm",
               const char* rate_name = "learning_rate") {
    metrics.add(rate_name, rate(optimiser.steps), 1);
    const double norm = apply(model);
    metrics.add(norm_name, norm, 1);
    return norm;
  }
};
template <class S>
parameter_update(S) -> parameter_update<S>;
template <class S>
parameter_update(S, adamw) -> parameter_update<S>;
template <class S>
parameter_update(S, adamw, double) -> parameter_update<S>;

}  // namespace rlhf::inline v1
