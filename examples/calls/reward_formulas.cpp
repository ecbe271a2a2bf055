// The snippets of the pages on single responses, reward models, worst cases and samplers (docs/formulas), with their numbers.

#include <cmath>
#include <vector>

#include "check.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/ensemble_reward.hpp"
#include "rlhf/driver/ranking_loss.hpp"
#include "rlhf/driver/reference_point.hpp"
#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/driver/robust_aggregate.hpp"
#include "rlhf/driver/sampling_distribution.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/reward/ensemble.hpp"
#include "rlhf/reward/ranking.hpp"
#include "rlhf/reward/ties.hpp"

using calls::expect;

namespace {

double number(float x) { return static_cast<double>(x); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

int main() {
  rlhf::reference_backend cpu;
  float loss = 0;
  {
    //! [kto]
    // Three responses, two of them good; and two that answer another prompt than the one they are scored with.
    const std::vector<float> logp{-4, -7, -6}, ref_logp{-5, -6, -6.5f}, label{1, 0, 1};
    const std::vector<float> mismatched{-9, -8}, ref_mismatched{-9.5f, -8.3f};
    std::vector<float> kl(1), grad(3);
    rlhf::or_throw(rlhf::kto_reference_point{}(cpu, {.logp = mismatched, .ref_logp = ref_mismatched}, kl));
    const rlhf::unpaired_loss kto{rlhf::kto{.beta = 0.1}};
    rlhf::or_throw(kto(cpu, {.logp = logp, .ref_logp = ref_logp, .label = label, .reference_point = kl},
                       {.loss = {&loss, 1}, .grad_logp = grad}));
    //! [kto]
    expect("KTO: reference point", number(kl[0]), 0.4);
    expect("KTO: loss", number(loss), (sigmoid(-0.06) + sigmoid(-0.14) + sigmoid(-0.01)) / 3);
    expect("KTO: gradient", number(grad[1]), 0.1 * sigmoid(-0.14) * sigmoid(0.14) / 3);
  }
  {
    //! [bco]
    rlhf::running_reference running{.beta = 0.1};  // kept between steps
    const std::vector<float> logp{-4, -7, -6}, ref_logp{-5, -6, -6.5f}, label{1, 0, 1};
    std::vector<float> grad(3);
    rlhf::or_throw(running.update(cpu, rlhf::log_ratio_inputs<float>{.logp = logp, .ref_logp = ref_logp}));
    const std::vector<float> delta{static_cast<float>(running.mean())};
    const rlhf::unpaired_loss bco{rlhf::bco{.beta = 0.1}};
    rlhf::or_throw(bco(cpu, {.logp = logp, .ref_logp = ref_logp, .label = label, .reference_point = delta},
                       {.loss = {&loss, 1}, .grad_logp = grad}));
    //! [bco]
    const double d = 0.1 * (1 - 1 + 0.5) / 3;
    expect("BCO: reference point", number(delta[0]), d);
    expect("BCO: gradient", number(grad[0]), -0.1 * sigmoid(d - 0.1) / 3);
  }
  {
    //! [ties]
    const std::vector<float> first{1.2f, 0.3f}, second{0.5f, 0.3f}, points{1, 0.5f}, log_nu{0.1823215568f};
    std::vector<float> grad(2), grad_tie(1);
    const rlhf::reward_loss ties{rlhf::davidson{}};
    rlhf::or_throw(ties(cpu, {.chosen = first, .rejected = second, .probability = points, .tie = log_nu},
                        {.loss = {&loss, 1}, .grad_chosen = grad, .grad_tie = grad_tie}));
    //! [ties]
    expect("Davidson: loss", number(loss), (-std::log(0.42694702) - std::log(1.2 / 3.2)) / 2);
    expect("Davidson: the tie's gradient", number(grad_tie[0]), (0.36103737 + 1.2 / 3.2 - 1) / 2);
  }
  {
    //! [ranking]
    const std::vector<float> score{1, 0.5f, -0.2f};  // ranked in this order
    std::vector<float> grad(3);
    const rlhf::ranking_loss ranking{rlhf::plackett_luce{}};
    rlhf::or_throw(ranking(cpu, rlhf::padded(1, 3), {.score = score}, {.loss = {&loss, 1}, .grad_score = grad}));
    //! [ranking]
    expect("Plackett-Luce: loss", number(loss), 1.04909741);
    expect("Plackett-Luce: gradient", number(grad[2]), 0.48969360);
  }
  {
    //! [ensemble]
    const std::vector<float> scores{1, 2, 4};  // of three models, for one response
    std::vector<float> reward(1);
    const rlhf::ensemble_reward ensemble{rlhf::uncertainty_weighted{.lambda = 0.5}};
    rlhf::or_throw(ensemble(cpu, rlhf::view<const float, 2>{scores.data(), 3, 1}, {.reward = reward}));
    //! [ensemble]
    expect("UWO: reward", number(reward[0]), 1.55555556);
  }
  {
    //! [robust]
    const std::vector<float> losses{1, 2, 4};  // of spans, say
    std::vector<float> weight(3);
    const rlhf::robust_aggregate worst{rlhf::chi_square_ball{.radius = 0.1}};
    rlhf::or_throw(worst(cpu, {.loss = losses}, {.loss = {&loss, 1}, .weight = weight}));
    //! [robust]
    expect("chi-square ball: loss", number(loss), 2.89110668);
    expect("chi-square ball: a weight", number(weight[2]), 0.53253810);
  }
  {
    //! [pilaf]
    const std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.2f)};
    const std::vector<float> ref_logits{std::log(0.2f), std::log(0.3f), std::log(0.5f)};
    std::vector<float> log_probability(3), log_z(1);
    rlhf::or_throw(rlhf::sampling_distribution(
        cpu, rlhf::pilaf(0.5),
        rlhf::sampling_inputs<float>{.policy = {logits.data(), 1, 3}, .reference = {ref_logits.data(), 1, 3}},
        rlhf::sampling_outputs<float>{.log_probability = {log_probability.data(), 1, 3}, .log_normaliser = log_z}));
    //! [pilaf]
    expect("PILAF: Z+", std::exp(number(log_z[0])), 1.21706052);
    expect("PILAF: a probability", std::exp(number(log_probability[0])), 0.64957280);
  }
  return calls::failures();
}
