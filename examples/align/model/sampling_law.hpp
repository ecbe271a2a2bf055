#pragma once
// What a policy's samples are drawn from, and how likely that made them, by the library's own drivers.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "rlhf/core/throw.hpp"
#include "rlhf/driver/surviving_mass.hpp"
#include "rlhf/driver/token_logp.hpp"

namespace align {

/// How tokens are drawn: sampling_options says what each means. The default is the policy itself.
struct sampling_law {
  double temperature = 1;
  std::int64_t top_k = 0;
  double top_p = 1;

  [[nodiscard]] bool operator==(const sampling_law&) const = default;
  /// Is it the policy itself?
  [[nodiscard]] bool plain() const { return *this == sampling_law{}; }
};

/// From the logits [targets, vocabulary] that tokens were drawn by: the log-probability of each under the law, at most 0, and
/// the mass that truncation left to it. Throws rlhf::error.
template <rlhf::backend Backend>
void describe_draws(Backend& backend, const rlhf::view<const float, 2>& logits, std::span<const std::int32_t> targets,
                    const sampling_law& law, std::span<float> logp, std::span<float> mass) {
  rlhf::or_throw(
      rlhf::token_logp(backend, {.logits = logits, .target = targets, .temperature = law.temperature}, {.logp = logp}));
  rlhf::or_throw(rlhf::surviving_mass(backend, logits, {.top_k = law.top_k, .top_p = law.top_p},
                                      rlhf::view<float>(mass), law.temperature));
  for (std::size_t i = 0; i < logp.size(); ++i) {
    logp[i] = std::min(0.0f, logp[i] - mass[i]);
    mass[i] = std::exp(mass[i]);
  }
}

}  // namespace align
