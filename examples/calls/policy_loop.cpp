// A whole training run on a policy small enough that the optimum is known exactly: a softmax table trained by REBEL reaches
// pi_ref exp(reward / beta) / Z, the best trade of reward against KL.

#include <cmath>
#include <vector>

#include "check.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/policy/tabular.hpp"
#include "rlhf/train/on_policy.hpp"

//! [reward]
/// A rule that scores responses of two tokens; a learned reward model would have the same member.
struct counts_twos {
  void rewards(const rlhf::responses& batch, std::span<float> out) const {
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      const auto y = batch.response(i);
      out[static_cast<std::size_t>(i)] =
          (y[0] == 2 ? 1.0f : 0.0f) + (y[1] == 2 ? 1.0f : 0.0f) - (y[0] == y[1] ? 0.5f : 0.0f);
    }
  }
};
static_assert(rlhf::scores_responses<counts_twos>);
//! [reward]

namespace {

constexpr std::int32_t vocabulary = 3;
constexpr double beta = 0.5;  // the price of a nat of KL

rlhf::responses all_responses() {
  rlhf::responses all;
  const std::int32_t prompt[] = {0};
  for (std::int32_t a = 0; a < vocabulary; ++a)
    for (std::int32_t b = 0; b < vocabulary; ++b) {
      const std::int32_t response[] = {a, b};
      all.add(prompt, response);
    }
  return all;
}

std::vector<double> probabilities(rlhf::tabular_policy& policy) {
  const rlhf::responses all = all_responses();
  std::vector<float> logp(static_cast<std::size_t>(all.response_tokens()));
  policy.log_probs(all, logp);
  std::vector<double> p;
  for (std::size_t i = 0; i < logp.size(); i += 2)
    p.push_back(std::exp(static_cast<double>(logp[i]) + static_cast<double>(logp[i + 1])));
  return p;
}

double total_variation(const std::vector<double>& p, const std::vector<double>& q) {
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += std::abs(p[i] - q[i]) / 2;
  return sum;
}

}  // namespace

int main() {
  // A reference that is not uniform; the policy starts from it.
  rlhf::tabular_policy reference(1, vocabulary, 2);
  const rlhf::random_numbers numbers({.seed = 7, .stream = 1});
  std::uint32_t i = 0;
  for (float& x : reference.parameters()) x = static_cast<float>(0.7 * numbers.normal({i++}));

  //! [loop]
  rlhf::reference_backend cpu;
  rlhf::tabular_policy policy = reference;
  counts_twos reward;
  rlhf::parameter_update update{rlhf::linear_schedule{.rate = 0.05, .total = 640}, rlhf::adamw{{.weight_decay = 0}}};
  const rlhf::rebel_regression rebel{.eta = 1, .kl_coefficient = beta};
  rlhf::train_rebel(
      cpu, rebel, policy, reference, reward, update,
      [](std::int64_t) { return rlhf::prompt_list(512, {0}); },  // the prompts of an iteration: 512 times prompt 0
      {.iterations = 40, .epochs = 8, .minibatch = 256, .key = {.seed = 1}},
      [](const rlhf::iteration& now) {
        if (now.number % 8 == 0)
          std::printf("iteration %2d  reward %.4f  kl %.4f  loss %.1e\n", static_cast<int>(now.number), now.reward,
                      now.kl, (*now.metrics)["loss/policy_avg"]);
      });
  //! [loop]

  const std::vector<double> start = probabilities(reference), reached = probabilities(policy);
  std::vector<double> best = start;
  std::vector<float> score(best.size());
  reward.rewards(all_responses(), score);
  double z = 0;
  for (std::size_t k = 0; k < best.size(); ++k) z += best[k] *= std::exp(static_cast<double>(score[k]) / beta);
  for (double& p : best) p /= z;

  std::printf("response   reference  trained    optimum\n");
  for (std::size_t k = 0; k < best.size(); ++k)
    std::printf("  %d %d      %.5f    %.5f    %.5f\n", static_cast<int>(k) / vocabulary,
                static_cast<int>(k) % vocabulary, start[k], reached[k], best[k]);
  calls::expect("total variation to the optimum below 0.001", total_variation(reached, best) < 1e-3);
  std::printf("before %.4f, after %.4f\n", total_variation(start, best), total_variation(reached, best));
  return calls::failures();
}
