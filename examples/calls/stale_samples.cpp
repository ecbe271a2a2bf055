// A loop of one's own: while the policy learns from what it sampled an iteration ago, the next samples are drawn already, as
// where an engine samples on other machines. The buffer knows how old each sample is, and the clipped ratio mends what may be.

#include <cmath>
#include <limits>
#include <vector>

#include "check.hpp"
#include "rlhf/algorithm/rloo.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/policy/tabular.hpp"
#include "rlhf/train/policy_epochs.hpp"

namespace {

constexpr std::int32_t vocabulary = 4;
constexpr double beta = 0.5;  // the price of a nat of KL

/// Responses of one token; the score is the token.
struct larger_is_better {
  void rewards(const rlhf::responses& batch, std::span<float> out) const {
    for (std::int64_t i = 0; i < batch.size(); ++i)
      out[static_cast<std::size_t>(i)] = 0.5f * static_cast<float>(batch.response(i)[0]);
  }
};

/// Total variation to pi_ref exp(reward / beta) / Z, for a reference that is uniform.
double distance_to_optimum(rlhf::tabular_policy& policy) {
  rlhf::responses all;
  for (std::int32_t token = 0; token < vocabulary; ++token)
    all.add(std::vector<std::int32_t>{0}, std::vector<std::int32_t>{token});
  std::vector<float> logp(vocabulary), score(vocabulary);
  policy.log_probs(all, logp);
  larger_is_better{}.rewards(all, score);
  double z = 0, distance = 0;
  for (const float s : score) z += std::exp(static_cast<double>(s) / beta);
  for (std::size_t k = 0; k < vocabulary; ++k)
    distance +=
        std::abs(std::exp(static_cast<double>(logp[k])) - std::exp(static_cast<double>(score[k]) / beta) / z) / 2;
  return distance;
}

}  // namespace

int main() {
  rlhf::tabular_policy reference(1, vocabulary, 1);
  rlhf::tabular_policy policy = reference;
  larger_is_better reward;
  constexpr std::int64_t iterations = 200, prompts = 64, samples = 8, updates = 4;

  //! [loop]
  rlhf::reference_backend cpu;
  rlhf::rloo algorithm;
  algorithm.reward.coefficient = beta;
  rlhf::parameter_update update{rlhf::linear_schedule{.rate = 0.02, .total = updates * iterations}};
  rlhf::rollout_buffer waiting;
  waiting.maximum_age = updates;  // one iteration; a sample that is older is an error, or left out with drop_old

  const rlhf::random_key key{.seed = 1};
  for (std::int64_t i = 0; i < iterations; ++i) {
    const rlhf::rollout r = waiting.take(update.optimiser.steps);
    // An engine would do this beside the rest of the iteration: it knows nothing of what is learned there.
    waiting.add(rlhf::collect(policy, reference, reward, rlhf::prompt_list(prompts, {0}), samples,
                              rlhf::stream(key, 2 * i), update.optimiser.steps));
    if (r.batch.size() == 0) continue;

    std::vector<float> shaped(r.old_logp.size()), advantage(shaped.size());
    rlhf::or_throw(algorithm.prepare(cpu, r.batch.layout(),
                                     rlhf::group_rollout_inputs<float>{.old_logp = r.old_logp,
                                                                       .ref_logp = r.ref_logp,
                                                                       .score = r.score,
                                                                       .groups = {rlhf::padded(prompts, samples)}},
                                     rlhf::group_rollout_outputs<float>{shaped, advantage}));
    rlhf::statistics metrics;
    rlhf::policy_epochs(cpu, algorithm, policy, update, r, advantage,
                        {.batch = prompts * samples / updates, .epochs = 1, .key = rlhf::stream(key, 2 * i + 1)},
                        std::numeric_limits<double>::infinity(), metrics);
  }
  //! [loop]

  const double before = distance_to_optimum(reference), after = distance_to_optimum(policy);
  std::printf("total variation to the optimum: %.4f before, %.4f after\n", before, after);
  calls::expect("below 0.01", after < 0.01);

  // A policy that has moved on further than the buffer allows.
  bool refused = false;
  try {
    (void)waiting.take(update.optimiser.steps + updates);
  } catch (const rlhf::error& trouble) {
    refused = true;
    std::printf("%s\n", trouble.what());
  }
  calls::expect("older samples are refused", refused);
  return calls::failures();
}
