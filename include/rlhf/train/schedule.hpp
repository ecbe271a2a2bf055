#pragma once
// Learning rates as functions of the step. A schedule is any callable from the step to a rate; these are the usual
// ones.

#include <cmath>
#include <cstdint>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

/// The same rate at every step.
struct constant_schedule {
  double rate = 1e-3;

  [[nodiscard]] double operator()(std::int64_t) const { return rate; }
};

namespace schedule_detail {

/// How much of the warm-up is done, in [0, 1]: step / warmup, as in Transformers, so that step 0 has rate 0.
[[nodiscard]] inline double warmed(std::int64_t step, std::int64_t warmup) {
  return step < warmup ? static_cast<double>(step) / static_cast<double>(warmup) : 1.0;
}

/// How much of the decay is done at a step that is past the warm-up, in [0, 1]: 1 from step `total` on.
[[nodiscard]] inline double decayed(std::int64_t step, std::int64_t warmup, std::int64_t total) {
  return step >= total ? 1.0 : static_cast<double>(step - warmup) / static_cast<double>(total - warmup);
}

}  // namespace schedule_detail

/// Linear warm-up from 0 to `rate`, then a straight line down to `final_rate` at step `total` and after.
///
/// Steps count from 0. With final_rate = 0 this is Transformers' `linear` schedule (the default of its trainers).
struct linear_schedule {
  double rate = 1e-3;
  std::int64_t warmup = 0;
  std::int64_t total = 1;
  double final_rate = 0;

  [[nodiscard]] double operator()(std::int64_t step) const {
    if (step < warmup) return rate * schedule_detail::warmed(step, warmup);
    return rate + (final_rate - rate) * schedule_detail::decayed(step, warmup, total);
  }
};

/// Linear warm-up from 0 to `rate`, then half a cosine wave down to `final_rate` at step `total` and after.
///
/// Steps count from 0. With final_rate = 0 this is Transformers' `cosine` schedule.
/// Source: Loshchilov and Hutter 2016, arXiv 1608.03983, equation 5, without restarts.
struct cosine_schedule {
  double rate = 1e-3;
  std::int64_t warmup = 0;
  std::int64_t total = 1;
  double final_rate = 0;

  [[nodiscard]] double operator()(std::int64_t step) const {
    if (step < warmup) return rate * schedule_detail::warmed(step, warmup);
    constexpr double pi = 3.141592653589793238463;
    const double left = 0.5 * (1 + std::cos(pi * schedule_detail::decayed(step, warmup, total)));
    return final_rate + (rate - final_rate) * left;
  }
};

}  // namespace rlhf::inline v1
