#pragma once
// Coefficients of a KL penalty that hold still or follow a target.

#include "rlhf/core/status.hpp"

namespace rlhf::inline v1 {

/// A constant coefficient, \f$ c \leftarrow c \f$. Catalogue K-15.
struct fixed_kl_controller {
  double coefficient = 0.05;  ///< price of a nat
  constexpr void update(double /*observed*/, double /*steps*/) {}
};

/// Proportional control: \f$ c \leftarrow c\,(1 + [\mathrm{kl}/\mathrm{target} - 1]_{\pm 0.2}\; n/\mathrm{horizon}) \f$.
///
/// `observed` in the unit of `target` (the original: nats per sequence); `steps` the episodes since the last update. A NaN
/// observation changes nothing; the factor is kept positive, whatever the steps.
/// Source: Ziegler et al. 2019, arXiv 1909.08593, section 2.2; catalogue K-16.
struct adaptive_kl_controller {
  double coefficient = 0.2;  ///< c, as it is now
  double target = 6;         ///< of the observed KL
  double horizon = 10000;    ///< episodes after which a bounded error has been applied once

  /// Call it once where the numbers come from a user: update() takes them as they are.
  [[nodiscard]] constexpr status check() const {
    if (!(target > 0)) return remark::argument("adaptive_kl_controller", "target", target, "more than 0");
    if (!(horizon > 0)) return remark::argument("adaptive_kl_controller", "horizon", horizon, "more than 0");
    return {};
  }
  constexpr void update(double observed, double steps) {
    if (observed != observed) return;
    const double error = observed / target - 1;
    const double bounded = error < -0.2 ? -0.2 : error > 0.2 ? 0.2 : error;
    const double factor = 1 + bounded * steps / horizon;
    if (factor > 0) coefficient *= factor;
  }
};

}  // namespace rlhf::inline v1
