// The snippets of the pages on rewards and advantages (docs/formulas), with the numbers they give.

#include <array>
#include <limits>

#include "batch.hpp"
#include "check.hpp"
#include "rlhf/algorithm/grpo.hpp"
#include "rlhf/algorithm/rto.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/reward/kl_controller.hpp"

using calls::expect;

namespace {

double number(float x) { return static_cast<double>(x); }

}  // namespace

int main() {
  rlhf::reference_backend cpu;
  const calls::token_batch b;
  const auto rows = rlhf::padded(2, 4);
  std::vector<float> reward(8), kl(8), advantage(8), returns(8);

  {
    //! [kl-in-reward]
    const rlhf::reward_shaping shape{
        rlhf::kl_in_reward{rlhf::k1{}, 0.05, rlhf::score_placement::last, rlhf::score_clip{-10, 10}}};
    rlhf::or_throw(shape(cpu, rows, {.old_logp = b.old_logp, .ref_logp = b.ref_logp, .score = b.score, .mask = b.mask},
                         {.reward = reward, .kl = kl}));
    //! [kl-in-reward]
    expect("kl_in_reward: -0.05 (0.2)", number(reward[0]), -0.01);
    expect("kl_in_reward: the last token has the score", number(reward[5]), -0.5 - 0.05 * -0.2);
    expect("kl_in_reward: masked slots", number(reward[6]), 0);
  }
  {
    //! [rto]
    rlhf::rto rto;  // beta1 0.05 clipped at 0.05, beta2 0.01, beta3 1
    const std::vector<float>& v = b.old_value;
    rlhf::or_throw(rto.prepare(cpu, rows,
                               {.old_logp = b.old_logp,
                                .ref_logp = b.ref_logp,
                                .dpo_logp = b.dpo_logp,
                                .value = v,
                                .score = b.score,
                                .mask = b.mask},
                               {.reward = reward, .advantage = advantage, .returns = returns}));
    //! [rto]
    const double rewards[] = {0.023, -0.045, 0.029, 1.003, 0.018, -0.513, 0, 0};
    for (std::size_t t = 0; t < 8; ++t) expect("rto: reward", number(reward[t]), rewards[t]);
    expect("rto: return", number(returns[0]), 0.910132125);
  }
  {
    //! [gae]
    const rlhf::advantage_estimate estimate{rlhf::gae{.gamma = 1, .lambda = 0.95, .gaps = rlhf::gap::carry}};
    rlhf::or_throw(estimate(cpu, rows, {.reward = reward, .value = b.old_value, .mask = b.mask},
                            {.advantage = advantage, .returns = returns}));
    //! [gae]
    const double want[] = {0.910132125, 0.4075075, 0.68685, 0.903, -0.87435, -0.413, 0, 0};
    for (std::size_t t = 0; t < 8; ++t) expect("gae: advantage", number(advantage[t]), want[t]);
  }
  {
    // Four tokens, of which the second is a tool's output.
    const std::array<std::int64_t, 2> offsets{0, 4};
    const std::vector<float> r{0, 7, 0, 1}, v{0.5f, 9, 0.2f, 0.4f};
    const std::vector<std::uint8_t> mask{1, 0, 1, 1};
    std::vector<float> a(4);
    const auto first = [&](rlhf::gap gaps) {
      //! [gaps]
      const rlhf::advantage_estimate estimate{rlhf::gae{.gamma = 0.9, .lambda = 0.5, .gaps = gaps}};
      rlhf::or_throw(estimate(cpu, rlhf::packed(offsets), {.reward = r, .value = v, .mask = mask}, {.advantage = a}));
      //! [gaps]
      return number(a[0]);
    };
    const double last = 1 - 0.4, third = 0.9 * 0.4 - 0.2 + 0.45 * last;
    expect("gap::carry", first(rlhf::gap::carry), 0.9 * 0.2 - 0.5 + 0.45 * third);
    expect("gap::zero", first(rlhf::gap::zero), 0 - 0.5 + 0.45 * (0.9 * 0.2 + 0.45 * third));
    expect("gap::plain", first(rlhf::gap::plain), 0.9 * 9 - 0.5 + 0.45 * (7 + 0.9 * 0.2 - 9 + 0.45 * third));
    expect("gap::raw_next", first(rlhf::gap::raw_next), 0.9 * 9 - 0.5 + 0.45 * third);
    expect("the masked slot itself", number(a[1]), 0);
  }
  {
    //! [returns]
    const rlhf::advantage_estimate estimate{rlhf::discounted_return{.gamma = 0.5}};
    rlhf::or_throw(estimate(cpu, rows, {.reward = reward, .mask = b.mask}, {.returns = returns}));
    //! [returns]
    expect("return", number(returns[2]), 0.029 + 0.5 * 1.003);
  }
  {
    //! [group]
    // Three responses to each of two prompts; NaN says "no reward".
    const float none = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> score{1, 0, 2, 0.5f, none, 0.5f};
    std::vector<float> a(6);
    const rlhf::grouped estimate{rlhf::group_advantage{.scale = rlhf::group_scale::group, .epsilon = 1e-4}};
    rlhf::or_throw(estimate(cpu, {.groups = {rlhf::padded(2, 3)}, .reward = score}, a));
    //! [group]
    expect("group: above the mean", number(a[2]), 1 / (1 + 1e-4));
    expect("group: no reward", number(a[4]), 0);
    expect("group: all equal", number(a[3]), 0);
  }
  {
    //! [whiten]
    std::vector<float> x{0.910132125f, 0.4075075f, 0.68685f, 0.903f, -0.87435f, -0.413f, 0, 0};
    const rlhf::whitening whiten{{.biased = true, .divisor = rlhf::spread::clamped, .epsilon = 1e-8}};  // OpenRLHF's
    rlhf::or_throw(whiten(cpu, {.x = x, .mask = b.mask}, x));                                           // in place
    //! [whiten]
    expect("whitened", number(x[0]), 0.9405306962);
    expect("whitened", number(x[5]), -1.0035861061);
    expect("whitened: masked slots", number(x[6]), 0);
  }
  {
    //! [controller]
    rlhf::adaptive_kl_controller control{.coefficient = 0.15, .target = 6, .horizon = 10000};
    control.update(12.0, 512);  // the KL seen, in nats per response, and the responses since the last update
    //! [controller]
    expect("controller: too much KL", control.coefficient, 0.151536);
    rlhf::adaptive_kl_controller small{.coefficient = 0.15};
    small.update(3.0, 512);
    expect("controller: too little", small.coefficient, 0.148464);
  }
  {
    //! [overlong]
    const rlhf::soft_overlong penalty{.max_length = 100, .buffer = 20, .factor = 1};
    const double score = 0.7 + penalty(90);  // a response of 90 tokens
    //! [overlong]
    expect("overlong", score, 0.7 - 0.5);
    expect("overlong, beyond", penalty(140), -1);
  }
  {
    //! [grpo]
    const rlhf::grpo grpo;  // or rlhf::dr_grpo(256), with the longest response allowed
    std::vector<float> per_response(2), logp_gradient(8);
    float loss = 0;
    rlhf::or_throw(grpo.prepare(cpu, {.groups = {rlhf::padded(1, 2)}, .reward = b.score}, per_response));
    rlhf::or_throw(grpo.policy(
        cpu, rows,
        {.logp = b.logp, .old_logp = b.old_logp, .ref_logp = b.ref_logp, .advantage = per_response, .mask = b.mask},
        {.loss = {&loss, 1}, .grad_logp = logp_gradient}));
    //! [grpo]
    expect("grpo: advantages", number(per_response[0]), 0.75 / (0.75 * std::sqrt(2.0) + 1e-4));
    const double a = number(per_response[0]);
    const double ppo[] = {-std::exp(0.1) * a, -1.2 * a, -std::exp(-0.5) * a, -a, a, 0.8 * a};
    const double d[] = {0.3, -0.1, -0.4, 0.2, 0.2, -0.6};
    double rows_mean = 0;
    for (std::size_t t = 0; t < 6; ++t) rows_mean += (ppo[t] + 0.04 * (std::expm1(-d[t]) + d[t])) / (t < 4 ? 8 : 4);
    expect("grpo: loss", number(loss), rows_mean);
  }
  return calls::failures();
}
