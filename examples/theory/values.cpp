// Advantages without a critic in training: values of steps from rollouts (VinePPO), and a frozen critic (DVPO).

#include <vector>

#include "calls/check.hpp"
#include "rlhf/advantage/estimated_value.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/theory/token_tree.hpp"

using namespace rlhf::theory;

// The library's advantages of one response: values before each token, nothing paid on the way, `end` behind the last.
template <class Estimator>
std::vector<double> advantages(const Estimator& estimator, const std::vector<double>& value, double end) {
  rlhf::reference_backend cpu;
  const auto n = static_cast<std::int64_t>(value.size());
  std::vector<double> out(value.size()), none(value.size(), 0.0);
  rlhf::advantage_inputs<double> in{.reward = none, .value = value};
  in.bootstrap = {&end, 1};
  rlhf::or_throw(rlhf::advantage_estimate{estimator}(cpu, rlhf::padded(1, n), in,
                                                     rlhf::advantage_outputs<double>{.advantage = out, .returns = {}}));
  return out;
}

int main() {
  using calls::expect;
  // Three moves over {0, 1}; right is what ends with 1 and has two ones.
  rlhf::token_mdp mdp(1, 2, 3);
  mdp.set_scores(
      [](std::int64_t, std::span<const std::int32_t> y) { return y[2] == 1 && y[0] + y[1] == 1 ? 1.0 : 0.0; });
  const table policy = uniform_tokens(mdp), exact = policy_value(mdp, policy, mdp.rewards());
  const rlhf::random_numbers numbers({1, 0});

  //! [rollouts]
  // V_hat of a prefix: the mean score of K ways to finish it.
  const auto estimate = [&](std::int64_t prefix, std::uint32_t rollouts) {
    rlhf::moments scores;
    for (std::uint32_t k = 0; k < rollouts; ++k) {
      std::int64_t here = prefix;
      for (std::uint32_t t = 0;; ++t) {
        const auto token = numbers.integer(2u, {static_cast<std::uint32_t>(prefix), k, t, 0});
        if (mdp.completes(here, token)) {
          scores.merge({1, mdp.reward(0, here, token), 0});
          break;
        }
        here = mdp.child(here, token);
      }
    }
    return rlhf::rollout_value::of(scores);  // the mean, and its variance V (1 - V) / K
  };
  //! [rollouts]
  const rlhf::rollout_value start = estimate(0, 4096);
  expect("V_hat(prompt) within 4 deviations of V", std::fabs(start.value - exact[0]) < 4 * std::sqrt(start.variance));
  expect("its variance and V (1 - V) / K", start.variance, start.value * (1 - start.value) / 4096, 1e-12);

  //! [vine]
  // The response 1, 0, 1 is right. Its steps: A_i = V_hat(after) - V_hat(before), the score behind the last one.
  const std::int64_t one = mdp.child(0, 1), one_zero = mdp.child(one, 0);
  const std::vector<double> v{start.value, estimate(one, 256).value, estimate(one_zero, 256).value};
  const std::vector<double> steps = advantages(rlhf::step_advantage{}, v, 1.0);
  //! [vine]
  expect("they add up to score - V_hat(prompt)", steps[0] + steps[1] + steps[2], 1 - v[0], 1e-12);

  //! [frozen]
  // DVPO: a frozen critic, here with exact values. With lambda = 1 only the value behind the end tells good from bad.
  const std::vector<double> frozen{exact[0], exact[static_cast<std::size_t>(one)],
                                   exact[static_cast<std::size_t>(one_zero)]};
  const std::vector<double> right = advantages(rlhf::gae{1, 1}, frozen, 1.0);  // Q_end - V_t
  const std::vector<double> released =
      advantages(rlhf::gae{1, 1}, frozen, 0.0);  // -V_t, whatever the response is worth
  //! [frozen]
  for (std::size_t t = 0; t < 3; ++t) {
    expect("the end's value: score - V_t", right[t], 1 - frozen[t], 1e-12);
    expect("nothing behind the end: -V_t, a baseline alone", released[t], -frozen[t], 1e-12);
  }
  return calls::failures();
}
