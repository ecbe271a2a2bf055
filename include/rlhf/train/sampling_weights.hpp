#pragma once
// Policy gradients on samples of a tempered or truncated sampler: what each token weighs.

#include <cmath>
#include <vector>

#include "rlhf/driver/importance.hpp"
#include "rlhf/train/rollout.hpp"

namespace rlhf::inline v1 {

/// \f$ [\,\pi_{old}(a_t)/\mu(a_t)\,]_0^{cap} \f$ of each token of a rollout: truncated importance weights of the policy that
/// sampled over what it really drew from, constants of the loss. With weight_of::sequence every token has that of its response,
/// \f$ [\,\prod_t \pi_{old}/\mu\,]_0^{cap} \f$: of losses that know whole responses only.
///
/// \f$ \log\mu \f$ is `sampled_logp` + log `support`: the policy at its temperature before top-k and top-p, for what these took
/// away no weight brings back. Empty, as if all were 1: the policy drew from itself, nobody knows what from, or `cap` is 0.
/// Adds the mean weight to the metrics, `sampling/importance_sampling_ratio/mean` (TRL's name). Source: catalogue I-01, I-02,
/// I-14; Yao et al. 2025 (TIS). Throws rlhf::error.
template <class B>
[[nodiscard]] std::vector<float> sampling_weights(B& be, const rollout& r, double cap, statistics& metrics,
                                                  weight_of level = weight_of::token) {
  if (cap == 0 || r.sampled_logp.empty() || r.sampled_logp == r.old_logp) return {};
  std::vector<float> log_mass, weight(r.sampled_logp.size());
  for (const float m : r.support) log_mass.push_back(std::log(m));
  or_throw(importance_weights{importance_correction{{.level = level, .high = cap}, {}}}(
      be, r.batch.layout(),
      importance_inputs<float>{.logp = r.old_logp, .rollout_logp = r.sampled_logp, .log_mass = log_mass},
      importance_outputs<float>{.weight = weight}));
  double sum = 0;
  for (const float w : weight) sum += static_cast<double>(w);
  metrics.add("sampling/importance_sampling_ratio/mean", sum, static_cast<double>(weight.size()));
  return weight;
}

}  // namespace rlhf::inline v1
