// PPO in ten lines: from scores and log-probabilities to the gradients of policy and critic.
//
// Without Eigen: include <rlhf/backend/reference.hpp> and say rlhf::reference_backend. Nothing else changes.

#include <cstdint>
#include <span>

//! [ppo]
#include <rlhf/algorithm/ppo.hpp>
#include <rlhf/backend/eigen.hpp>

struct rollout {  // of a batch of responses, `width` slots each
  std::int64_t responses, width;
  std::span<const float> old_logp, ref_logp, value, score;  // [responses x width], score [responses]
  std::span<const std::uint8_t> mask;                       // 1 where a slot is a token of the response
  std::span<float> reward, advantage, returns;              // filled by prepare
};

// Once after sampling: KL in the reward, GAE, whitening.
rlhf::status prepare(rlhf::eigen_backend& cpu, const rlhf::ppo& ppo, const rollout& r) {
  return ppo.prepare(
      cpu, rlhf::padded(r.responses, r.width),
      {.old_logp = r.old_logp, .ref_logp = r.ref_logp, .value = r.value, .score = r.score, .mask = r.mask},
      {.reward = r.reward, .advantage = r.advantage, .returns = r.returns});
}

// For every update: the losses of policy and critic, and d loss / d logp, d loss / d value.
rlhf::status update(rlhf::eigen_backend& cpu, const rlhf::ppo& ppo, const rollout& r, std::span<const float> logp,
                    std::span<const float> value, float loss[2], std::span<float> grad_logp,
                    std::span<float> grad_value, rlhf::statistics& metrics) {
  const auto rows = rlhf::padded(r.responses, r.width);
  if (auto s = ppo.policy(cpu, rows, {.logp = logp, .old_logp = r.old_logp, .advantage = r.advantage, .mask = r.mask},
                          {.loss = {&loss[0], 1}, .grad_logp = grad_logp, .stats = &metrics});
      !s)
    return s;
  return ppo.value(cpu, rows, {.value = value, .old_value = r.value, .returns = r.returns, .mask = r.mask},
                   {.loss = {&loss[1], 1}, .grad_value = grad_value});
}
//! [ppo]

#include <vector>

#include "check.hpp"

int main() {
  using calls::expect;
  const float pad = 123;  // whatever stands in masked slots
  const std::vector<float> old_logp{-1.1f, -0.9f, -1.5f, -0.1f, -0.7f, -0.8f, pad, pad};
  const std::vector<float> ref_logp{-1.3f, -0.4f, -1.6f, -0.3f, -0.9f, -0.6f, pad, pad};
  const std::vector<float> value{0, 0.5f, 0.3f, 0.1f, 0.4f, -0.1f, pad, pad}, score{1, -0.5f};
  const std::vector<std::uint8_t> mask{1, 1, 1, 1, 1, 1, 0, 0};
  std::vector<float> reward(8), advantage(8), returns(8), grad_logp(8), grad_value(8);
  const rollout r{2, 4, old_logp, ref_logp, value, score, mask, reward, advantage, returns};

  rlhf::eigen_backend cpu;
  rlhf::ppo ppo;  // clip 0.2, gamma 1, lambda 0.95, KL 0.05 in the reward
  expect(prepare(cpu, ppo, r));
  expect("reward of the first token, -0.05 * 0.2", static_cast<double>(reward[0]), -0.01);
  expect("reward of the last, with the score", static_cast<double>(reward[3]), 1 - 0.05 * 0.2);
  double mean = 0, square = 0;
  for (const float a : advantage) {
    mean += static_cast<double>(a) / 6;
    square += static_cast<double>(a * a) / 5;
  }
  expect("whitened: mean of the advantages", mean, 0);
  expect("whitened: their variance", square, 1, 1e-5);

  // Before the first update the policy is the old policy: every ratio is 1, and the loss is minus the mean advantage.
  float loss[2] = {};
  rlhf::statistics metrics;
  expect(update(cpu, ppo, r, old_logp, value, loss, grad_logp, grad_value, metrics));
  expect("policy loss at ratio 1", static_cast<double>(loss[0]), -mean);
  expect("its gradient, -advantage / tokens", static_cast<double>(grad_logp[0]),
         static_cast<double>(-advantage[0]) / 6);
  expect("nothing is clipped yet", metrics["clip_fraction"], 0);
  expect("approx_kl_k3 at ratio 1", metrics["approx_kl_k3"], 0);
  expect("a masked slot has no gradient", grad_logp[6] == 0.0f && grad_value[7] == 0.0f);

  // After an update it has moved: here up by 0.3 nats everywhere, beyond the clip.
  std::vector<float> logp = old_logp;
  for (float& x : logp) x += 0.3f;
  metrics = {};
  expect(update(cpu, ppo, r, logp, value, loss, grad_logp, grad_value, metrics));
  double positive = 0;
  for (std::size_t t = 0; t < 6; ++t) positive += advantage[t] > 0 ? 1.0 / 6 : 0;
  expect("clipped: the tokens with advantage > 0", metrics["clip_fraction"], positive);
  expect("and they have no gradient", grad_logp[0] == 0.0f);
  return calls::failures();
}
