#pragma once
// A baseline that follows the rewards of one role, over the calls.

#include "rlhf/core/status.hpp"

namespace rlhf::inline v1 {

/// Role-conditioned advantage: \f$ b \leftarrow \alpha b + (1-\alpha) r,\quad A = r - b \f$, one b for each role (player, tool,
/// questioner) of each game.
///
/// The baseline moves before it is subtracted. A NaN reward moves nothing and has advantage 0.
/// Source: Liu et al. 2025, arXiv 2506.24119; catalogue E-16.
struct role_baseline {
  double decay = 0.95;  ///< alpha
  double value = 0;     ///< b

  /// Call it once where the numbers come from a user: advantage() takes them as they are.
  [[nodiscard]] constexpr status check() const {
    if (!(decay >= 0 && decay <= 1)) return remark::argument("role_baseline", "decay", decay, "0 <= decay <= 1");
    return {};
  }
  constexpr double advantage(double reward) {
    if (reward != reward) return 0;
    value = decay * value + (1 - decay) * reward;
    return reward - value;
  }
};

}  // namespace rlhf::inline v1
