#pragma once
// A reference that follows the policy: parameters copied or mixed in every few updates.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "rlhf/core/config.hpp"

namespace rlhf::inline v1 {

/// Reference synchronisation: after every `every` updates \f$ \theta_{ref} \leftarrow a\,\theta + (1-a)\,\theta_{ref} \f$.
///
/// a = 1 copies; a = 0.6 every 512 updates is TR-DPO's soft update with TRL's defaults; a small a after every update is an
/// exponential moving average of the policy. Against a policy that stands still the distance shrinks by 1 - a each time.
/// Mixed in double and rounded once: parameters that agree stay as they are, bit by bit; where a times the distance is below
/// half a unit in the last place of the reference, it does not move.
/// The state is `steps`: whoever saves and restores it (and the reference) continues the run bit by bit. A policy loop calls
/// `step` once after each update of the optimizer; reference log-probabilities kept from before a move are then out of date.
/// Source: Gorbatovski et al. 2024 (TR-DPO), arXiv 2404.09656, eq. 2 and 3; catalogue P-37, B-03.
struct reference_sync {
  double mixing = 0.6;       ///< a
  std::int64_t every = 512;  ///< updates between two moves
  std::int64_t steps = 0;    ///< updates seen

  /// Counts an update of the policy and moves `reference` [n] towards `policy` [n] when it is time; did it move? Throws
  /// std::invalid_argument when the sizes differ or a setting is out of range; then nothing was counted.
  bool step(std::span<float> reference, std::span<const float> policy) {
    if (reference.size() != policy.size())
      throw std::invalid_argument("reference_sync: the reference has another size than the policy");
    if (!(mixing >= 0 && mixing <= 1)) throw std::invalid_argument("reference_sync: mixing wants 0 <= mixing <= 1");
    if (every < 1) throw std::invalid_argument("reference_sync: every wants 1 or more");
    if (++steps % every != 0) return false;
    for (std::size_t i = 0; i < reference.size(); ++i)
      reference[i] = mixing < 1 ? static_cast<float>(mixing * static_cast<double>(policy[i]) +
                                                     (1 - mixing) * static_cast<double>(reference[i]))
                                : policy[i];
    return true;
  }
};

/// BEMA: an exponential moving average with falling weights, and a part of the way from the start added to undo its lag:
/// \f$ \mu_t = (1-\beta_t)\mu_{t-1} + \beta_t\theta_t,\quad \hat\theta_t = \mu_t + \alpha_t(\theta_t - \theta_0),\quad
/// \beta_t = (\rho + \gamma t)^{-\kappa},\ \alpha_t = (\rho + \gamma t)^{-\eta} \f$.
///
/// The parameters at the first call are \f$ \theta_0 = \mu_0 \f$; t counts the updates after it, and every `every` of them
/// both are brought up to date. With \f$ \alpha = 0 \f$ (`bias_power` infinite) it is the moving average alone. The average is
/// kept in double. The state is `steps`, `start` and `average`.
/// Source: Block and Zhang 2025, arXiv 2508.00180, algorithm 1; defaults of TRL. Catalogue P-37, B-03.
struct bias_corrected_average {
  double average_power = 0.5;        ///< kappa
  double bias_power = 0.2;           ///< eta
  double lag = 10;                   ///< rho
  double multiplier = 1;             ///< gamma
  std::int64_t every = 400;          ///< updates between two moves
  std::int64_t steps = 0;            ///< calls seen
  std::vector<float> start = {};     ///< theta_0; empty before the first call
  std::vector<double> average = {};  ///< mu, likewise

  /// Counts an update and writes the corrected average to `reference` [n] when it is time (on the first call: `policy`
  /// itself); did it write? Throws std::invalid_argument when a size does not match or a setting is out of range.
  bool step(std::span<float> reference, std::span<const float> policy) {
    if (reference.size() != policy.size())
      throw std::invalid_argument("bias_corrected_average: the reference has another size than the policy");
    if (!(average_power >= 0 && bias_power >= 0))
      throw std::invalid_argument("bias_corrected_average: powers want 0 or more");
    if (!(lag >= 1 && multiplier >= 0))
      throw std::invalid_argument("bias_corrected_average: wants lag >= 1 and multiplier >= 0");
    if (every < 1) throw std::invalid_argument("bias_corrected_average: every wants 1 or more");
    if (start.empty() && average.empty()) {
      start.assign(policy.begin(), policy.end());
      average.assign(policy.begin(), policy.end());
    }
    if (start.size() != policy.size() || average.size() != policy.size())
      throw std::invalid_argument("bias_corrected_average: the average has another size than the policy");
    const std::int64_t t = steps++;
    if (t % every != 0) return false;
    const double age = lag + multiplier * static_cast<double>(t);
    const double beta = t > 0 ? std::pow(age, -average_power) : 0, alpha = t > 0 ? std::pow(age, -bias_power) : 0;
    for (std::size_t i = 0; i < policy.size(); ++i) {
      const double theta = static_cast<double>(policy[i]);
      average[i] = (1 - beta) * average[i] + beta * theta;
      reference[i] = static_cast<float>(average[i] + alpha * (theta - static_cast<double>(start[i])));
    }
    return true;
  }
};

}  // namespace rlhf::inline v1
