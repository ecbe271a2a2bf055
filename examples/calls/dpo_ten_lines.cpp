// DPO in ten lines: arrays that somebody else owns go in, the loss and its exact gradient come out.
//
// Without Eigen: include <rlhf/backend/reference.hpp> and say rlhf::reference_backend. Nothing else changes.

//! [pointers]
#include <rlhf/algorithm/dpo.hpp>
#include <rlhf/backend/eigen.hpp>

// w, l: log pi(y | x) of the chosen and the rejected responses, in nats; ref_w, ref_l: the same under the reference.
rlhf::status dpo_step(const float* w, const float* l, const float* ref_w, const float* ref_l, std::int64_t pairs,
                      float* loss, float* grad_w, float* grad_l) {
  rlhf::eigen_backend cpu;
  const rlhf::dpo dpo{.beta = 0.1};
  return dpo(
      cpu, {.chosen = {w, pairs}, .rejected = {l, pairs}, .ref_chosen = {ref_w, pairs}, .ref_rejected = {ref_l, pairs}},
      {.loss = {loss, 1}, .grad_chosen = {grad_w, pairs}, .grad_rejected = {grad_l, pairs}});
}
//! [pointers]

#include <array>
#include <span>
#include <vector>

#include "check.hpp"

//! [tokens]
// One side of the pairs as tokens: log-probabilities of all its responses, one response after the other.
struct side {
  std::span<const std::int64_t> offsets;  // [pairs + 1]: response i is [offsets[i], offsets[i + 1])
  std::span<const float> logp, ref_logp;  // [offsets.back()]
  std::span<float> gradient;              // [offsets.back()]: d loss / d logp, token by token
};

rlhf::status dpo_on_tokens(const side& w, const side& l, float& loss, rlhf::statistics& metrics) {
  rlhf::eigen_backend cpu;
  return rlhf::dpo{.beta = 0.1}(
      cpu,
      rlhf::token_pair_inputs<float>{.chosen = {rlhf::packed(w.offsets), w.logp, w.ref_logp, {}},
                                     .rejected = {rlhf::packed(l.offsets), l.logp, l.ref_logp, {}}},
      rlhf::pair_outputs<float>{
          .loss = {&loss, 1}, .grad_chosen = w.gradient, .grad_rejected = l.gradient, .stats = &metrics});
}
//! [tokens]

int main() {
  using calls::expect;

  // Two pairs whose log-ratio margins are 2 and -1.
  const float w[] = {-10, -12}, l[] = {-14, -13}, ref_w[] = {-11, -12}, ref_l[] = {-13, -14};
  float loss = 0, grad_w[2], grad_l[2];
  expect(dpo_step(w, l, ref_w, ref_l, 2, &loss, grad_w, grad_l));
  const double want = (std::log1p(std::exp(-0.2)) + std::log1p(std::exp(0.1))) / 2;
  const double slope = -0.1 / (1 + std::exp(0.2)) / 2;
  expect("loss", static_cast<double>(loss), want);
  expect("d loss / d chosen[0]", static_cast<double>(grad_w[0]), slope);
  expect("d loss / d rejected[0]", static_cast<double>(grad_l[0]), -slope);

  // The same pairs as tokens.
  const std::array<std::int64_t, 3> offsets_w{0, 2, 5}, offsets_l{0, 3, 4};
  const std::vector<float> logp_w{-4, -6, -3, -4, -5}, ref_logp_w{-5, -6, -4, -4, -4};
  const std::vector<float> logp_l{-4, -5, -5, -13}, ref_logp_l{-4, -5, -4, -14};
  std::vector<float> gradient_w(5), gradient_l(4);
  rlhf::statistics metrics;
  expect(dpo_on_tokens({offsets_w, logp_w, ref_logp_w, gradient_w}, {offsets_l, logp_l, ref_logp_l, gradient_l}, loss,
                       metrics));
  expect("loss from tokens", static_cast<double>(loss), want);
  expect("d loss / d (first token of chosen[0])", static_cast<double>(gradient_w[0]), slope);
  expect("d loss / d (last token of rejected[0])", static_cast<double>(gradient_l[2]), -slope);
  expect("rewards/margins", metrics["rewards/margins"], 0.1 * (2 - 1) / 2);
  expect("rewards/accuracies", metrics["rewards/accuracies"], 0.5);

  // A call that cannot be right says why, and writes nothing.
  rlhf::eigen_backend cpu;
  const rlhf::status refused =
      rlhf::dpo{}(cpu, {.chosen = {w, 2}, .rejected = {l, 2}, .ref_chosen = {ref_w, 1}, .ref_rejected = {ref_l, 2}},
                  {.loss = {&loss, 1}});
  std::printf("refused: %s\n", refused.message().c_str());
  expect("a reference of another size is refused", refused.code == rlhf::errc::shape);
  return calls::failures();
}
