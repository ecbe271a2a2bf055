// The snippets of the pages on pair losses (docs/formulas), with the numbers they give.

#include <array>
#include <vector>

#include "check.hpp"
#include "rlhf/algorithm/rebel.hpp"
#include "rlhf/algorithm/reward_model.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/preference.hpp"

using calls::expect;

namespace {

double number(float x) { return static_cast<double>(x); }

/// One pair: a = 0.6 over 4 tokens, b = -0.9 over 2 tokens, D = 1.5.
struct pairs {
  std::vector<float> w{-3.4f}, l{-5.9f}, ref_w{-4.0f}, ref_l{-5.0f}, tokens_w{4}, tokens_l{2};
};

/// Two responses as tokens: 4 and 2 of them.
struct tokens {
  std::array<std::int64_t, 2> offsets_w{0, 4}, offsets_l{0, 2};
  std::vector<float> w{-1.0f, -0.5f, -2.0f, -0.1f}, ref_w{-1.3f, -0.4f, -1.6f, -0.3f};
  std::vector<float> l{-0.7f, -1.2f}, ref_l{-0.9f, -0.6f};
};

double softplus(double x) { return std::log1p(std::exp(x)); }

}  // namespace

int main() {
  rlhf::reference_backend cpu;
  const pairs p;
  const tokens t;
  float loss = 0;
  std::vector<float> grad_w(1), grad_l(1);
  const rlhf::pair_outputs<float> out{.loss = {&loss, 1}, .grad_chosen = grad_w, .grad_rejected = grad_l};
  const rlhf::pair_inputs<float> in{.chosen = p.w,
                                    .rejected = p.l,
                                    .ref_chosen = p.ref_w,
                                    .ref_rejected = p.ref_l,
                                    .chosen_length = p.tokens_w,
                                    .rejected_length = p.tokens_l};
  // Any of the objectives below, on the same pair.
  const auto check = [&](const char* name, const auto& loss_of, double value, double slope_w, double slope_l) {
    rlhf::or_throw(loss_of(cpu, in, out));
    std::printf("%s\n", name);
    expect("  loss", number(loss), value);
    expect("  d / d chosen", number(grad_w[0]), slope_w);
    expect("  d / d rejected", number(grad_l[0]), slope_l);
  };

  {
    //! [sigmoid]
    const rlhf::preference_loss loss_of{rlhf::dpo_sigmoid{.beta = 0.1, .label_smoothing = 0.1}, rlhf::batch_mean{}};
    rlhf::or_throw(loss_of(cpu, {.chosen = p.w, .rejected = p.l, .ref_chosen = p.ref_w, .ref_rejected = p.ref_l},
                           {.loss = {&loss, 1}, .grad_chosen = grad_w, .grad_rejected = grad_l}));
    //! [sigmoid]
    const double u = 0.15, slope = 0.1 * (1 / (1 + std::exp(-u)) - 0.9);
    check("sigmoid, smoothed", loss_of, 0.9 * softplus(-u) + 0.1 * softplus(u), slope, -slope);
  }
  {
    //! [norm]
    const rlhf::preference_loss loss_of{rlhf::dpo_sigmoid_norm{.beta = 5}, rlhf::batch_mean{}};  // wants the lengths
    //! [norm]
    const double u = 5 * (0.15 + 0.45), s = -5 / (1 + std::exp(u));
    check("sigmoid_norm", loss_of, softplus(-u), s / 4, -s / 2);
  }
  {
    //! [hinge]
    const rlhf::preference_loss loss_of{rlhf::dpo_hinge{.beta = 0.1}, rlhf::batch_mean{}};
    //! [hinge]
    check("hinge", loss_of, 1 - 0.15, -0.1, 0.1);
  }
  {
    //! [ipo]
    const rlhf::preference_loss averages{rlhf::ipo{.beta = 0.1}, rlhf::batch_mean{}};  // as TRL; wants the lengths
    const rlhf::preference_loss sums{rlhf::ipo_sum{.beta = 0.1}, rlhf::batch_mean{}};  // as the paper
    //! [ipo]
    check("ipo, averages", averages, (0.6 - 5) * (0.6 - 5), 2 * (0.6 - 5) / 4, -2 * (0.6 - 5) / 2);
    check("ipo, sums", sums, 3.5 * 3.5, -7, 7);
  }
  {
    //! [robust]
    const rlhf::preference_loss loss_of{rlhf::dpo_robust{.beta = 0.1, .label_smoothing = 0.1}, rlhf::batch_mean{}};
    //! [robust]
    const double s = -0.1 * (0.9 / (1 + std::exp(0.15)) + 0.1 / (1 + std::exp(-0.15))) / 0.8;
    check("robust", loss_of, (0.9 * softplus(-0.15) - 0.1 * softplus(0.15)) / 0.8, s, -s);
  }
  {
    //! [divergence]
    // DPO under another divergence: forward_kl{}, jensen_shannon{} or alpha_divergence{.alpha = 0.5}.
    const rlhf::preference_loss loss_of{rlhf::with_divergence{rlhf::dpo_sigmoid{.beta = 0.1}, rlhf::jensen_shannon{}},
                                        rlhf::batch_mean{}};
    //! [divergence]
    const double u = 0.1 * (-softplus(-0.6) + softplus(0.9)), s = -0.1 / (1 + std::exp(u));
    check("Jensen-Shannon", loss_of, softplus(-u), s / (1 + std::exp(0.6)), -s / (1 + std::exp(-0.9)));
    const rlhf::preference_loss forward{rlhf::with_divergence{rlhf::dpo_sigmoid{.beta = 0.1}, rlhf::forward_kl{}},
                                        rlhf::batch_mean{}};
    const double v = 0.1 * (-std::exp(-0.6) + std::exp(0.9)), r = -0.1 / (1 + std::exp(v));
    check("forward KL", forward, softplus(-v), r * std::exp(-0.6), -r * std::exp(0.9));
    const rlhf::preference_loss alpha{
        rlhf::with_divergence{rlhf::dpo_sigmoid{.beta = 0.1}, rlhf::alpha_divergence{0.5}}, rlhf::batch_mean{}};
    const double w = 0.1 * (-2 * std::exp(-0.3) + 2 * std::exp(0.45)), q = -0.1 / (1 + std::exp(w));
    check("alpha divergence", alpha, softplus(-w), q * std::exp(-0.3), -q * std::exp(0.45));
  }
  {
    //! [reference-free]
    const rlhf::preference_loss loss_of{rlhf::reference_free{rlhf::dpo_sigmoid{.beta = 0.1}}, rlhf::batch_mean{}};
    //! [reference-free]
    const double s = -0.1 / (1 + std::exp(0.25));
    check("reference-free", loss_of, softplus(-0.25), s, -s);
  }
  {
    //! [rebel]
    // pi_t's log-probabilities in the references' place, the rewards of both samples beside them.
    const std::vector<float> reward_1{1.0f}, reward_2{-0.5f};
    const rlhf::rebel_regression rebel{.eta = 0.5};
    rlhf::or_throw(rebel(cpu,
                         {.chosen = p.w,
                          .rejected = p.l,
                          .ref_chosen = p.ref_w,
                          .ref_rejected = p.ref_l,
                          .chosen_reward = reward_1,
                          .rejected_reward = reward_2},
                         {.loss = {&loss, 1}, .grad_chosen = grad_w, .grad_rejected = grad_l}));
    //! [rebel]
    expect("rebel: (1.5 - 0.5 * 1.5)^2", number(loss), 0.5625);
    expect("rebel: gradient", number(grad_w[0]), 1.5);
  }

  std::vector<float> token_grad_w(4), token_grad_l(2);
  const rlhf::token_pair_inputs<float> token_in{.chosen = {rlhf::packed(t.offsets_w), t.w, t.ref_w, {}},
                                                .rejected = {rlhf::packed(t.offsets_l), t.l, t.ref_l, {}}};
  const rlhf::pair_outputs<float> token_out{
      .loss = {&loss, 1}, .grad_chosen = token_grad_w, .grad_rejected = token_grad_l};
  {
    //! [length-desensitised]
    const rlhf::preference_loss loss_of{rlhf::dpo_sigmoid{.beta = 0.1}, rlhf::batch_mean{}, rlhf::chosen_nll{},
                                        rlhf::length_desensitised{.alpha = 0.5}};
    rlhf::or_throw(loss_of(cpu, token_in, token_out));
    //! [length-desensitised]
    const double u = 0.1 * (0.3 - 0.1 + 0.5 * (-0.4 + 0.2) + 0.4);  // the first two tokens in full, the rest by half
    expect("length-desensitised: loss", number(loss), softplus(-u));
    expect("length-desensitised: a token in full", number(token_grad_w[1]), -0.1 / (1 + std::exp(u)));
    expect("length-desensitised: a token beyond", number(token_grad_w[2]), -0.05 / (1 + std::exp(u)));
  }
  {
    //! [humanline]
    const rlhf::preference_loss loss_of{rlhf::dpo_sigmoid{.beta = 0.1}, rlhf::batch_mean{}, rlhf::chosen_nll{},
                                        rlhf::clamped_log_ratio{.low = -0.5, .high = 0.25}};
    rlhf::or_throw(loss_of(cpu, token_in, token_out));
    //! [humanline]
    const double u = 0.1 * ((0.25 - 0.1 - 0.4 + 0.2) - (0.2 - 0.5));
    expect("humanline: loss", number(loss), softplus(-u));
    expect("humanline: a clamped token has no slope", number(token_grad_w[0]), 0);
    expect("humanline: another one has", number(token_grad_w[1]), -0.1 / (1 + std::exp(u)));
  }
  {
    //! [nll]
    const rlhf::preference_loss loss_of{rlhf::dpo_sigmoid{.beta = 0.1}, rlhf::batch_mean{},
                                        rlhf::chosen_nll{.weight = 0.2, .reduction = rlhf::nll_reduction::token_mean}};
    rlhf::or_throw(loss_of(cpu, token_in, token_out));
    //! [nll]
    const double u = 0.1 * (0.0 + 0.4), s = -0.1 / (1 + std::exp(u));
    expect("NLL term: loss", number(loss), softplus(-u) + 0.2 * 3.6 / 4);
    expect("NLL term: chosen tokens", number(token_grad_w[0]), s - 0.2 / 4);
    expect("NLL term: rejected tokens", number(token_grad_l[0]), -s);
  }
  {
    //! [bradley-terry]
    const std::vector<float> chosen{1.2f, 0.3f}, rejected{0.4f, 0.8f}, margin{0.5f, 0};
    std::vector<float> grad_chosen(2), grad_rejected(2);
    rlhf::statistics metrics;
    const rlhf::reward_model model{.objective = {.center = 0.01, .use_margin = true}};
    rlhf::or_throw(
        model(cpu, {.chosen = chosen, .rejected = rejected, .margin = margin},
              {.loss = {&loss, 1}, .grad_chosen = grad_chosen, .grad_rejected = grad_rejected, .stats = &metrics}));
    //! [bradley-terry]
    expect("Bradley-Terry: loss", number(loss),
           (softplus(-0.3) + 0.01 * 1.6 * 1.6 + softplus(0.5) + 0.01 * 1.1 * 1.1) / 2);
    expect("Bradley-Terry: gradient", number(grad_chosen[0]), (-1 / (1 + std::exp(0.3)) + 0.02 * 1.6) / 2);
    expect("Bradley-Terry: accuracy", metrics["accuracy"], 0.5);
  }
  return calls::failures();
}
