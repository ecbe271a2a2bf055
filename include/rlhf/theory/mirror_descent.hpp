#pragma once
// Mirror descent with the KL divergence on the simplex: natural policy gradient of a tabular softmax.

#include "rlhf/theory/distributions.hpp"

namespace rlhf::inline v1::theory {

/// \f$ \pi_{t+1}\propto\pi_t^{1-\eta\beta}\,\pi_{ref}^{\eta\beta}\,e^{\eta r} \f$, the step with payoffs r, step size eta and temperature
/// beta towards a reference (0: none). The range of log pi_t - log pi* shrinks by exactly 1 - eta beta where r is fixed.
struct mirror_step {
  double step = 1;         ///< eta
  double temperature = 0;  ///< beta

  [[nodiscard]] vector operator()(const vector& logp, const vector& payoff, const vector& ref_logp = {}) const {
    detail::want(step > 0 && std::isfinite(step), "mirror_step", "step", step, "more than 0");
    detail::want(temperature >= 0, "mirror_step", "temperature", temperature, "0 or more");
    const double share = step * temperature;
    vector z = share == 0 ? logp : vector((1 - share) * logp + share * ref_logp);
    return log_softmax(z + step * payoff);
  }
};

}  // namespace rlhf::inline v1::theory
