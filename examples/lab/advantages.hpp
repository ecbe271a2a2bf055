#pragma once
// The library's advantage estimators on plain lists in double.

#include <vector>

#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/advantage.hpp"

namespace lab {

/// Rows of `width` steps one after the other; `bootstrap` has one value for each row, or none.
template <class Estimator>
[[nodiscard]] std::vector<double> advantages(const Estimator& estimator, std::int64_t width,
                                             const std::vector<double>& reward, const std::vector<double>& value,
                                             const std::vector<double>& bootstrap = {},
                                             const std::vector<std::uint8_t>& mask = {}) {
  rlhf::reference_backend be;
  std::vector<double> out(value.size());
  rlhf::advantage_inputs<double> in;
  if (!reward.empty()) in.reward = reward;
  in.value = value;
  if (!bootstrap.empty()) in.bootstrap = bootstrap;
  if (!mask.empty()) in.mask = mask;
  const auto rows = static_cast<std::int64_t>(value.size()) / width;
  rlhf::or_throw(rlhf::advantage_estimate{estimator}(be, rlhf::padded(rows, width), in,
                                                     rlhf::advantage_outputs<double>{.advantage = out, .returns = {}}));
  return out;
}

}  // namespace lab
