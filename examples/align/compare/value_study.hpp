#pragma once
// How wrong the values of states are, and what that does to the policy gradient: VinePPO's, and a learned critic's.

#include "align/run/plan_of_runs.hpp"
#include "align/run/settings.hpp"

namespace align {

/// For each seed: PPO is trained (OUT/seed-S, as any run), then with its policy and its critic standing still
///
///   values     of states inside fresh responses, by K rollouts and by the critic, against the mean of many other rollouts:
///              error (root of the mean square, without what the truth itself errs), bias, correlation
///   gradients  of the policy, one a batch of fresh responses, by the advantages of these values over steps, by the critic's GAE
///              and by the return alone: variance (trace of the covariance), and its ratio to the squared mean
///
/// Writes report.html, values.csv and values.json into `out`, with Student's intervals over the seeds. A value is of the reward
/// less --ppo-kl times the log-ratio to the start; steps are --vine-step tokens. Throws std::runtime_error.
void run_value_study(const request& asked);

/// Rehearses both for one seed. Writes nothing. Throws std::runtime_error.
[[nodiscard]] plan_of_runs plan_value_study(const request& asked);

}  // namespace align
