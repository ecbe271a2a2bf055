// The last layer and the loss in one call: hidden states and weight to loss and gradients, a chunk of logits at a time.

#include <vector>

#include "check.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/backend/eigen/product.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/fused_linear.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/preference.hpp"

using calls::expect;

namespace {

constexpr std::int64_t tokens = 8, depth = 3, vocabulary = 5;

double number(float x) { return static_cast<double>(x); }

}  // namespace

int main() {
  rlhf::eigen_backend cpu;
  std::vector<float> hidden, weight, grad_hidden(tokens * depth), grad_weight(vocabulary * depth);
  for (int i = 0; i < tokens * depth; ++i) hidden.push_back(static_cast<float>(std::sin(i)));
  for (int i = 0; i < vocabulary * depth; ++i) weight.push_back(static_cast<float>(std::cos(2 * i)));
  const std::vector<std::int32_t> target{0, 1, 2, 3, 4, 0, 1, 2};
  const std::vector<float> reference(tokens, -1.5f);
  float loss = 0;

  //! [layer]
  rlhf::linear_inputs<float> in;
  in.head.hidden = {hidden.data(), tokens, depth};
  in.head.weight = {weight.data(), vocabulary, depth};
  in.head.transposed = true;  // a row for each token of the vocabulary, as trainers keep it
  in.target = target;
  rlhf::linear_outputs<float> out;
  out.grad_hidden = {grad_hidden.data(), tokens, depth};
  out.grad_weight = {grad_weight.data(), vocabulary, depth};
  //! [layer]

  //! [dpo]
  // Two pairs of responses of two tokens: the chosen ones first, the rejected ones behind them.
  rlhf::token_pair_inputs<float> pairs;
  pairs.chosen = {.sequences = rlhf::padded(2, 2), .ref_logp = {reference.data(), 4}};
  pairs.rejected = {.sequences = rlhf::padded(2, 2), .ref_logp = {reference.data() + 4, 4}};
  const rlhf::fused_linear<rlhf::eigen_product> fused{.chunk = 3};
  rlhf::or_throw(fused(cpu, in,
                       rlhf::over_pairs{rlhf::preference_loss{rlhf::dpo_sigmoid{.beta = 0.1}}, pairs,
                                        rlhf::pair_outputs<float>{.loss = {&loss, 1}}},
                       out));
  //! [dpo]

  // By hand: log-probabilities, margins, the mean of -log sigmoid.
  double logp[tokens];
  for (std::size_t t = 0; t < tokens; ++t) {
    double z[vocabulary], sum = 0;
    for (std::size_t v = 0; v < vocabulary; ++v) {
      z[v] = 0;
      for (std::size_t k = 0; k < depth; ++k) z[v] += number(hidden[t * depth + k]) * number(weight[v * depth + k]);
      sum += std::exp(z[v]);
    }
    logp[t] = z[static_cast<std::size_t>(target[t])] - std::log(sum);
  }
  double want = 0;
  for (std::size_t p = 0; p < 2; ++p) {
    const double margin = logp[2 * p] + logp[2 * p + 1] - logp[4 + 2 * p] - logp[5 + 2 * p];
    want += std::log1p(std::exp(-0.1 * margin)) / 2;
  }
  expect("the loss of two pairs", number(loss), want);
  const auto whole = fused.workspace(tokens, depth, vocabulary, true, false, true, false);
  expect("numbers of logits at one time", static_cast<double>(whole.logits), 3 * 5);

  //! [supervised]
  rlhf::or_throw(fused(cpu, in,
                       rlhf::over_tokens{rlhf::policy_loss{rlhf::negative_log_likelihood{}}, rlhf::padded(4, 2),
                                         rlhf::token_inputs<float>{}, rlhf::token_outputs<float>{.loss = {&loss, 1}}},
                       out));
  //! [supervised]
  double mean = 0;
  for (const double x : logp) mean -= x / tokens;
  expect("the mean negative log-likelihood", number(loss), mean);

  //! [distillation]
  const rlhf::linear_head<float> teacher{.hidden = in.head.hidden, .weight = in.head.weight, .transposed = true};
  rlhf::over_rows rows{rlhf::jensen_shannon_rows{.beta = 0.5}, teacher};
  rows.loss = {&loss, 1};
  rlhf::or_throw(fused(cpu, in, rows, out));
  //! [distillation]
  expect("the divergence of a student from itself", number(loss), 0);
  return calls::failures();
}
