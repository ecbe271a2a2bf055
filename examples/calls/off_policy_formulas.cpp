// The snippets of the pages on mismatch corrections, losses of sequences, chosen tokens and distillation, with their numbers.

#include <cmath>

#include "batch.hpp"
#include "check.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/cosine_distance.hpp"
#include "rlhf/driver/full_jensen_shannon.hpp"
#include "rlhf/driver/full_total_variation.hpp"
#include "rlhf/driver/future_weights.hpp"
#include "rlhf/driver/importance.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/prefix_weights.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/driver/sequence_loss.hpp"
#include "rlhf/driver/surviving_mass.hpp"
#include "rlhf/driver/token_selection.hpp"
#include "rlhf/driver/top_k_divergence.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/weighted.hpp"
#include "rlhf/reward/length_shaping.hpp"
#include "rlhf/reward/running_scale.hpp"

using calls::expect;

namespace {

double number(float x) { return static_cast<double>(x); }

}  // namespace

int main() {
  rlhf::reference_backend cpu;
  const calls::token_batch b;
  const auto rows = rlhf::padded(2, 4);
  float loss = 0;
  std::vector<float> grad_logp(8);

  {
    const std::vector<float>& rollout_logp = b.ref_logp;  // any stream will do here
    //! [correction]
    std::vector<float> weight(8);
    const rlhf::importance_weights tis{rlhf::truncated_token_weights(2)};
    rlhf::or_throw(tis(cpu, rows,
                       rlhf::importance_inputs<float>{.logp = b.old_logp, .rollout_logp = rollout_logp, .mask = b.mask},
                       rlhf::importance_outputs<float>{.weight = weight}));
    const rlhf::policy_loss loss_of{rlhf::ppo_clip{}};
    rlhf::or_throw(loss_of(
        cpu, rows, {.logp = b.logp, .old_logp = b.old_logp, .advantage = b.advantage, .mask = b.mask, .weight = weight},
        {.loss = {&loss, 1}, .grad_logp = grad_logp}));
    //! [correction]
    expect("tis: exp of the log-ratio", number(weight[0]), std::exp(0.2));
    expect("tis: 0 where masked", number(weight[6]), 0);
  }
  {
    //! [mass]
    const std::vector<float> logits{2, 1, 0, -1, 0, 0, 0, 0};  // two rows of four
    std::vector<float> log_mass(2);
    rlhf::or_throw(rlhf::surviving_mass(cpu, rlhf::view<const float, 2>(logits.data(), 2, 4), {.top_p = 0.8},
                                        rlhf::view<float>(log_mass)));
    //! [mass]
    expect("mass: of the two likeliest", std::exp(number(log_mass[0])),
           (std::exp(2.0) + std::exp(1.0)) / (std::exp(2.0) + std::exp(1.0) + 1 + std::exp(-1.0)));
    expect("mass: ties stay", number(log_mass[1]), 0);
  }
  {
    //! [rloo]
    const std::vector<float> advantage{0.5f, -0.5f};  // one for each response
    rlhf::sequence_policy_loss rloo{rlhf::ppo_clip{}, rlhf::summed_log_ratio{}};
    rlhf::or_throw(rloo(
        cpu, rows,
        rlhf::sequence_inputs<float>{.logp = b.logp, .old_logp = b.old_logp, .advantage = advantage, .mask = b.mask},
        rlhf::sequence_outputs<float>{.loss = {&loss, 1}, .grad_logp = grad_logp}));
    //! [rloo]
    expect("rloo", number(loss), (-0.5 * 1 + 0.5 * 0.8) / 2);  // log-ratios 0 and -0.4
    expect("rloo: gradient", number(grad_logp[2]), -0.25);
    expect("rloo: none where clipped", number(grad_logp[4]), 0);
  }
  {
    //! [kl-cov]
    std::vector<std::uint8_t> chosen(8);
    const rlhf::selection_inputs<float> from{.logp = b.logp, .advantage = b.advantage, .mask = b.mask};
    rlhf::or_throw(rlhf::select_tokens(cpu, rows, rlhf::kl_covariance{0.2}, from, rlhf::view<std::uint8_t>(chosen)));
    // The plain gain of all tokens, and a price on the log-ratio of the chosen ones.
    const rlhf::policy_loss gain{rlhf::importance_sampling{}};
    const rlhf::policy_loss price{rlhf::kl_penalty{rlhf::absolute{}, 1.0}};
    std::vector<float> grad_price(8);
    float paid = 0;
    rlhf::token_inputs<float> in{.logp = b.logp, .old_logp = b.old_logp, .advantage = b.advantage, .mask = b.mask};
    rlhf::or_throw(gain(cpu, rows, in, {.loss = {&loss, 1}, .grad_logp = grad_logp}));
    in.ref_logp = b.old_logp;
    in.keep = chosen;
    rlhf::or_throw(price(cpu, rows, in, {.loss = {&paid, 1}, .grad_logp = grad_price}));
    //! [kl-cov]
    int count = 0;
    for (const std::uint8_t c : chosen) count += c;
    expect("kl-cov: a fifth of six", count, 1);
    expect("kl-cov: the others pay nothing", number(grad_price[4]), 0);
  }
  {
    //! [fipo]
    std::vector<float> weight(8);
    rlhf::or_throw(rlhf::future_weights(cpu, rows, {.decay = 32}, rlhf::view<const float>(b.logp),
                                        rlhf::view<const float>(b.old_logp), rlhf::view<const float>(b.advantage),
                                        rlhf::mask_view<>(b.mask), rlhf::view<float>(weight)));
    //! [fipo]
    expect("fipo: nothing follows", number(weight[3]), 1);
    expect("fipo: clipped above", number(weight[1]) <= 1.2f, 1);
  }
  {
    //! [distillation]
    std::vector<float> student{1, 2, 3, 0, 0, 1}, teacher{1, 1, 1, 0, 2, 1}, divergence(2), gradient(6);
    rlhf::or_throw(rlhf::full_jensen_shannon(
        cpu, rlhf::full_kl_inputs<float>{.logits = {student.data(), 2, 3}, .ref_logits = {teacher.data(), 2, 3}},
        rlhf::full_kl_outputs<float>{.kl = divergence, .grad_logits = {gradient.data(), 2, 3}}, 0.5));
    //! [distillation]
    expect("distillation: between 0 and log 2", divergence[0] > 0 && divergence[0] < 0.6931, 1);
    expect("distillation: a gradient adds up to 0", number(gradient[0]) + number(gradient[1]) + number(gradient[2]), 0);
  }
  {
    const std::vector<float> student{1, 2, 3, 0, 0, 1};
    //! [top-k]
    const std::vector<std::int32_t> token{2, 0, 1, 0};  // two of each row, as a serving engine reports them
    const std::vector<float> teacher_logp{-0.2f, -2.5f, -0.7f, -0.9f};  // under the whole vocabulary
    std::vector<float> divergence(2), gradient(6);
    rlhf::or_throw(rlhf::top_k_divergence{.forward = 0.5}(
        cpu,
        rlhf::top_k_divergence_inputs<float>{.logits = {student.data(), 2, 3},
                                             .token = {token.data(), 2, 2},
                                             .teacher_logp = {teacher_logp.data(), 2, 2}},
        rlhf::full_kl_outputs<float>{.kl = divergence, .grad_logits = {gradient.data(), 2, 3}}));
    //! [top-k]
    expect("top-k: more than 0", divergence[0] > 0 && divergence[1] > 0, 1);
    expect("top-k: a gradient adds up to 0", number(gradient[3]) + number(gradient[4]) + number(gradient[5]), 0);
  }
  {
    //! [variation]
    const std::vector<float> student{1, 2, 3, 0, 0, 1}, teacher{1, 1, 1, 0, 2, 1};
    std::vector<float> variation(2), gradient(6), distance(2), grad_hidden(6);
    rlhf::or_throw(rlhf::full_total_variation(
        cpu, rlhf::full_kl_inputs<float>{.logits = {student.data(), 2, 3}, .ref_logits = {teacher.data(), 2, 3}},
        rlhf::full_kl_outputs<float>{.kl = variation, .grad_logits = {gradient.data(), 2, 3}}));
    rlhf::or_throw(
        rlhf::cosine_distance(cpu, rlhf::cosine_inputs<float>{.x = {student.data(), 2, 3}, .y = {teacher.data(), 2, 3}},
                              rlhf::cosine_outputs<float>{.distance = distance, .grad_x = {grad_hidden.data(), 2, 3}}));
    //! [variation]
    const double all = std::exp(1.0) + std::exp(2.0) + std::exp(3.0);
    expect("variation: from a uniform teacher", number(variation[0]), std::exp(3.0) / all - 1.0 / 3);
    expect("cosine distance", number(distance[0]), 1 - 6 / std::sqrt(14.0 * 3));
  }
  {
    const std::vector<float>& teacher_logp = b.ref_logp;
    //! [iw-opd]
    std::vector<float> advantage(8),
        weight(8);  // the teacher's log-probability less the sampler's, by way of the reward
    rlhf::or_throw(rlhf::reward_shaping{rlhf::kl_in_reward{rlhf::k1{}, 1.0}}(
        cpu, rows, rlhf::shaping_inputs<float>{.old_logp = b.old_logp, .ref_logp = teacher_logp, .mask = b.mask},
        rlhf::shaping_outputs<float>{.reward = advantage}));
    rlhf::or_throw(rlhf::prefix_weights(cpu, rows, rlhf::prefix_weight{}, rlhf::view<const float>(advantage),
                                        rlhf::mask_view<>(b.mask), rlhf::view<float>(weight)));
    const rlhf::policy_loss iw_opd{rlhf::reinforce{}};
    rlhf::or_throw(iw_opd(cpu, rows, {.logp = b.logp, .advantage = advantage, .mask = b.mask, .weight = weight},
                          {.loss = {&loss, 1}, .grad_logp = grad_logp}));
    //! [iw-opd]
    expect("iw-opd: the last token", number(weight[3]), 1);
    expect("iw-opd: the weight falls", weight[0] <= 1.5f && weight[1] <= weight[0] && weight[2] <= weight[1], 1);
    expect("iw-opd: gradient", number(grad_logp[0]), -number(weight[0] * advantage[0]) / 6);
  }
  {
    //! [endings]
    double score = 0.7;
    score = rlhf::missing_eos{.penalty = 1}(score, /* has_eos */ false);
    score += rlhf::cosine_length{.max_length = 1000}(250, /* correct */ true);
    rlhf::running_scale scale;
    for (const double x : {0.1, 0.5, 0.9}) scale.add(x);
    const double scaled = scale(score);
    //! [endings]
    expect("endings", scaled, (score - 0.5) / 0.4);
  }
  return calls::failures();
}
