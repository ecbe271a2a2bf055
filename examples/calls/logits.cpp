// Stations 1 and 3: logits to log-probabilities, and the gradient back, written over the logits. KL over a whole vocabulary,
// and the k likeliest tokens.

#include <vector>

#include "check.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/full_kl.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/driver/top_k.hpp"
#include "rlhf/objective/weighted.hpp"

using calls::expect;

namespace {

double number(float x) { return static_cast<double>(x); }

}  // namespace

int main() {
  // Two rows of a vocabulary of 3, in rows of 4 columns; the last column is padding of the output layer.
  rlhf::eigen_backend cpu(2);  // two threads; the same bits for any number
  std::vector<float> logits{1, 2, 3, 99, 0, -1e4f, 0, 99};
  const std::vector<std::int32_t> target{2, 0};
  std::vector<float> logp(2), entropy(2), lse(2);

  //! [forward]
  const rlhf::logits_inputs<float> rows{
      .logits = {logits.data(), 2, 4}, .target = target, .vocabulary = 3, .temperature = 0.5};
  rlhf::or_throw(rlhf::token_logp(cpu, rows, rlhf::logp_outputs<float>{.logp = logp, .entropy = entropy, .lse = lse}));
  //! [forward]
  const double z = std::log(std::exp(2.0) + std::exp(4.0) + std::exp(6.0));
  const double p[] = {std::exp(2 - z), std::exp(4 - z), std::exp(6 - z)};
  double h = 0;
  for (const double x : p) h -= x * std::log(x);
  expect("log-probability", number(logp[0]), 6 - z);
  expect("entropy", number(entropy[0]), h);
  expect("an impossible token", number(logp[1]), -std::log(2.0));

  //! [backward]
  // d loss / d logp and d loss / d entropy come from a policy_loss; the gradient takes the logits' place.
  const std::vector<float> grad_logp{-0.5f, 0.25f}, grad_entropy{-0.01f, -0.01f};
  const rlhf::view<float, 2> in_place(logits.data(), 2, 4);
  rlhf::or_throw(rlhf::token_logp_backward(
      cpu, rows,
      rlhf::logp_gradients<float>{.lse = lse, .grad_logp = grad_logp, .entropy = entropy, .grad_entropy = grad_entropy},
      in_place));
  //! [backward]
  for (std::size_t k = 0; k < 3; ++k)
    expect("d loss / d logit", number(logits[k]),
           (-0.5 * ((k == 2 ? 1 : 0) - p[k]) + 0.01 * p[k] * (std::log(p[k]) + h)) / 0.5);
  expect("padding columns get 0", number(logits[3]), 0);

  //! [full-kl]
  std::vector<float> policy{1, 2, 3, 0, 0, 1}, reference{1, 1, 1, 0, 2, 1}, kl(2), gradient(6);
  rlhf::or_throw(rlhf::full_kl(cpu,
                               rlhf::full_kl_inputs<float>{.logits = {policy.data(), 2, 3},
                                                           .ref_logits = {reference.data(), 2, 3},
                                                           .direction = rlhf::kl_direction::reverse},
                               rlhf::full_kl_outputs<float>{.kl = kl, .grad_logits = {gradient.data(), 2, 3}}));
  //! [full-kl]
  const double s = std::log(std::exp(1.0) + std::exp(2.0) + std::exp(3.0));
  double want = 0;
  for (int k = 1; k <= 3; ++k) want += std::exp(k - s) * (k - s + std::log(3.0));
  expect("KL to a uniform reference", number(kl[0]), want);
  expect("its gradient", number(gradient[2]), std::exp(3 - s) * (3 - s + std::log(3.0) - want));

  //! [top-k]
  std::vector<float> top_logp(4), tail(2), top_entropy(2);  // k = 2 for two rows
  std::vector<std::int32_t> top_token(4);
  rlhf::or_throw(rlhf::top_k(
      cpu, rlhf::top_k_inputs<float>{.logits = {policy.data(), 2, 3}},
      rlhf::top_k_outputs<float>{
          .logp = {top_logp.data(), 2, 2}, .token = {top_token.data(), 2, 2}, .tail = tail, .entropy = top_entropy}));
  //! [top-k]
  expect("top-k: the likeliest", top_token[0], 2);
  expect("top-k: of equal ones the first", top_token[3], 0);
  expect("top-k: its log-probability", number(top_logp[1]), 2 - s);
  expect("top-k: the rest", number(tail[0]), 1 - s);

  float loss = 0;
  std::vector<float> grad(2);
  //! [eaft]
  const rlhf::policy_loss eaft{rlhf::entropy_adaptive_fine_tuning{}};
  rlhf::or_throw(eaft(cpu, rlhf::padded(1, 2), rlhf::token_inputs<float>{.logp = logp, .entropy = top_entropy},
                      rlhf::token_outputs<float>{.loss = {&loss, 1}, .grad_logp = grad}));
  //! [eaft]
  expect("eaft: minus the weight", number(grad[0]), -number(top_entropy[0]) / 3 / 2);
  return calls::failures();
}
