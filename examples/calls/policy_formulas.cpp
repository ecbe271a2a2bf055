// The snippets of the pages on token losses (docs/formulas), with the numbers they give.

#include "batch.hpp"
#include "check.hpp"
#include "rlhf/algorithm/sft.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/kl.hpp"

using calls::expect;

namespace {

double number(float x) { return static_cast<double>(x); }

}  // namespace

int main() {
  rlhf::reference_backend cpu;
  const calls::token_batch b;
  const auto rows = rlhf::padded(2, 4);
  float loss = 0;
  std::vector<float> grad_logp(8), grad_entropy(8), grad_value(8);
  rlhf::statistics metrics;

  {
    //! [sft]
    const rlhf::sft sft;  // .tokens = the count of the whole batch, where the batch comes in pieces
    rlhf::or_throw(sft(cpu, rows, {.logp = b.logp, .mask = b.mask}, {.loss = {&loss, 1}, .grad_logp = grad_logp}));
    //! [sft]
    expect("sft: mean of -logp", number(loss), 5.5 / 6);
    expect("sft: gradient", number(grad_logp[0]), -1.0 / 6);
  }
  {
    //! [reinforce]
    const rlhf::policy_loss loss_of{rlhf::reinforce{}};
    rlhf::or_throw(loss_of(cpu, rows, {.logp = b.logp, .advantage = b.advantage, .mask = b.mask},
                           {.loss = {&loss, 1}, .grad_logp = grad_logp}));
    //! [reinforce]
    expect("reinforce: gradient -A / N", number(grad_logp[4]), 1.6814611798 / 6);
  }
  {
    //! [ppo-clip]
    const rlhf::policy_loss loss_of{rlhf::ppo_clip{.low = 0.2, .high = 0.28, .dual_clip = 3}};
    rlhf::or_throw(loss_of(cpu, rows,
                           {.logp = b.logp, .old_logp = b.old_logp, .advantage = b.advantage, .mask = b.mask},
                           {.loss = {&loss, 1}, .grad_logp = grad_logp, .stats = &metrics}));
    //! [ppo-clip]
    expect("ppo_clip: two of six are clipped", metrics["clip_fraction"], 2.0 / 6);
    const rlhf::policy_loss plain{rlhf::ppo_clip{}};
    rlhf::or_throw(plain(cpu, rows, {.logp = b.logp, .old_logp = b.old_logp, .advantage = b.advantage, .mask = b.mask},
                         {.loss = {&loss, 1}, .grad_logp = grad_logp}));
    expect("ppo_clip, token_mean", number(loss), -0.01650884473);
    expect("ppo_clip: gradient", number(grad_logp[0]), -0.1732411955);
    expect("ppo_clip: none where clipped", number(grad_logp[1]), 0);
  }
  {
    //! [sequence-ratio]
    const rlhf::policy_loss gspo{rlhf::sequence_ratio{rlhf::ppo_clip{.low = 3e-4, .high = 4e-4}}, rlhf::none{},
                                 rlhf::row_mean{}};
    const std::vector<float> advantage{0.5f, -0.5f};  // one for each response
    rlhf::or_throw(gspo(cpu, rows, {.logp = b.logp, .old_logp = b.old_logp, .advantage = advantage, .mask = b.mask},
                        {.loss = {&loss, 1}, .grad_logp = grad_logp}));
    //! [sequence-ratio]
    // Mean log-ratios 0 and -0.2: the first gives -A, the second is clipped from below and pushed back.
    expect("sequence ratio: loss", number(loss), 0.5 * (-0.5 + 0.5 * (1 - 3e-4)));
    expect("sequence ratio: gradient -A s / (2 n)", number(grad_logp[2]), -0.5 / 8);
    expect("sequence ratio: none where clipped", number(grad_logp[4]), 0);
  }
  {
    //! [importance]
    const std::vector<float> weight{
        1, 1, 0.5f, 1, 2, 1, calls::token_batch::pad, calls::token_batch::pad};  // pi_old / pi_rollout, truncated
    const std::vector<std::uint8_t> keep{1, 1, 1, 0, 1, 1, 1, 1};                // 0: rejected, but still counted
    const rlhf::policy_loss loss_of{rlhf::ppo_clip{}};
    rlhf::or_throw(loss_of(cpu, rows,
                           {.logp = b.logp,
                            .old_logp = b.old_logp,
                            .advantage = b.advantage,
                            .mask = b.mask,
                            .keep = keep,
                            .weight = weight},
                           {.loss = {&loss, 1}, .grad_logp = grad_logp}));
    //! [importance]
    expect("importance: weight times the gradient", number(grad_logp[2]), 0.5 * -0.061912196);
    expect("importance: none where rejected", number(grad_logp[3]), 0);
    expect("importance: the others as before", number(grad_logp[0]), -0.1732411955);
  }
  {
    //! [kl-in-loss]
    // PPO with k3 in the loss; then its value with k2's gradient; then the bias-corrected form.
    const rlhf::policy_loss plain{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.04}};
    const rlhf::policy_loss straight{rlhf::ppo_clip{},
                                     rlhf::kl_penalty{rlhf::value_and_gradient{rlhf::k3{}, rlhf::k2{}}, 0.04}};
    const rlhf::policy_loss corrected{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::importance_weighted{rlhf::k3{}}, 0.04}};
    //! [kl-in-loss]
    //! [kl-alone]
    // Any estimator by itself: no objective, a penalty with coefficient 1.
    const rlhf::policy_loss kl{rlhf::none{}, rlhf::kl_penalty{rlhf::k3{}, 1}};
    rlhf::or_throw(kl(cpu, rows, {.logp = b.logp, .ref_logp = b.ref_logp, .mask = b.mask},
                      {.loss = {&loss, 1}, .grad_logp = grad_logp, .stats = &metrics}));
    //! [kl-alone]
    const double d[] = {0.3, -0.1, -0.4, 0.2, 0.2, -0.6};  // log pi - log pi_ref
    double k3 = 0;
    for (const double x : d) k3 += (std::expm1(-x) + x) / 6;
    expect("k3: mean", number(loss), k3);
    expect("k3: gradient 1 - e^-d", number(grad_logp[0]), -std::expm1(-0.3) / 6);
    const rlhf::token_inputs<float> in{
        .logp = b.logp, .old_logp = b.old_logp, .ref_logp = b.ref_logp, .advantage = b.advantage, .mask = b.mask};
    const rlhf::token_outputs<float> out{.loss = {&loss, 1}, .grad_logp = grad_logp};
    const double without = -0.1732411955;
    rlhf::or_throw(plain(cpu, rows, in, out));
    expect("k3 in the loss", number(loss), -0.01650884473 + 0.04 * k3);
    rlhf::or_throw(straight(cpu, rows, in, out));
    expect("its value, k2's gradient: value", number(loss), -0.01650884473 + 0.04 * k3);
    expect("its value, k2's gradient: gradient", number(grad_logp[0]), without + 0.04 * 0.3 / 6);
    rlhf::or_throw(corrected(cpu, rows, in, out));
    expect("bias-corrected: gradient rho d", number(grad_logp[0]), without + 0.04 * std::exp(0.1) * 0.3 / 6);
  }
  {
    //! [entropy]
    const rlhf::policy_loss loss_of{rlhf::ppo_clip{}, rlhf::entropy_bonus{.coefficient = 0.01}};
    rlhf::or_throw(loss_of(
        cpu, rows,
        {.logp = b.logp, .entropy = b.entropy, .old_logp = b.old_logp, .advantage = b.advantage, .mask = b.mask},
        {.loss = {&loss, 1}, .grad_logp = grad_logp, .grad_entropy = grad_entropy}));
    //! [entropy]
    expect("entropy bonus: loss", number(loss), -0.01650884473 - 0.01 * 5.9 / 6);
    expect("entropy bonus: d loss / d entropy", number(grad_entropy[0]), -0.01 / 6);
  }
  {
    //! [both]
    // Two terms: KL to the reference and an entropy bonus.
    const rlhf::policy_loss loss_of{rlhf::ppo_clip{},
                                    rlhf::both{rlhf::kl_penalty{rlhf::k2{}, 0.05}, rlhf::entropy_bonus{0.01}}};
    //! [both]
    rlhf::or_throw(loss_of(cpu, rows,
                           {.logp = b.logp,
                            .entropy = b.entropy,
                            .old_logp = b.old_logp,
                            .ref_logp = b.ref_logp,
                            .advantage = b.advantage,
                            .mask = b.mask},
                           {.loss = {&loss, 1}, .grad_logp = grad_logp, .grad_entropy = grad_entropy}));
    expect("both: gradient", number(grad_logp[0]), -0.1732411955 + 0.05 * 0.3 / 6);
  }
  {
    //! [value]
    const rlhf::value_loss loss_of{rlhf::clipped_value{.clip = 0.2}, rlhf::sequence_mean_token_mean{}};
    rlhf::or_throw(loss_of(cpu, rows,
                           {.value = b.value, .old_value = b.old_value, .returns = b.returns, .mask = b.mask},
                           {.loss = {&loss, 1}, .grad_value = grad_value, .stats = &metrics}));
    //! [value]
    expect("value loss", number(loss), 0.2635941681);
    expect("value loss: gradient", number(grad_value[0]), -0.1012665156);
    expect("value loss: gradient of the last", number(grad_value[5]), 0.07825);
  }
  {
    //! [aggregate]
    // The same tokens under four rules; give the count of the whole batch where the batch comes in pieces.
    const auto total = [&](const auto& aggregate) {
      const rlhf::policy_loss loss_of{rlhf::reinforce{}, rlhf::none{}, aggregate};
      rlhf::or_throw(
          loss_of(cpu, rows, {.logp = b.logp, .advantage = b.advantage, .mask = b.mask}, {.loss = {&loss, 1}}));
      return static_cast<double>(loss);
    };
    const double token_mean = total(rlhf::token_mean{}), row_mean = total(rlhf::row_mean{}),
                 constant = total(rlhf::fixed_length{.length = 4}), split = total(rlhf::token_mean{.tokens = 12});
    //! [aggregate]
    double first = 0, second = 0;
    for (std::size_t t = 0; t < 4; ++t) first -= number(b.advantage[t]) * number(b.logp[t]);
    for (std::size_t t = 4; t < 6; ++t) second -= number(b.advantage[t]) * number(b.logp[t]);
    expect("token_mean", token_mean, (first + second) / 6);
    expect("row_mean", row_mean, (first / 4 + second / 2) / 2);
    expect("fixed_length", constant, (first + second) / 8);
    expect("token_mean with a count from outside", split, (first + second) / 12);
    const std::vector<std::int64_t> members{0, 2};
    const rlhf::policy_loss by_prompt{rlhf::reinforce{}, rlhf::none{}, rlhf::prompt_mean{}};
    rlhf::or_throw(by_prompt(
        cpu, rows, {.logp = b.logp, .advantage = b.advantage, .mask = b.mask, .groups = {rlhf::packed(members)}},
        {.loss = {&loss, 1}}));
    expect("prompt_mean of a single prompt", number(loss), (first + second) / 6);
  }
  return calls::failures();
}
