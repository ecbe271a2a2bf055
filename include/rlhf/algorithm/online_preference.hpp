#pragma once
// Learning from comparisons of the policy's own samples, without a reward model.
//
//   repeat:
//     sample two responses to each prompt (by a pair sampler); ask which one is better
//     for each epoch, each minibatch:
//       loss = pair loss(chosen, rejected) + c log pi / pi_ref of one more response      (the bonus, where there is one)
//
//   online_dpo   DPO on fresh pairs                       Guo et al. 2024, arXiv 2402.04792
//   vpo          + alpha beta on samples of pi_ref        Cen et al. 2024, arXiv 2405.19320
//   selm         + alpha beta on samples of the iterate, which is the reference, too   Zhang et al. 2024, arXiv 2405.19332
//   online_xpo   pairs (pi, pi_ref), + alpha on the second   Xie et al. 2024, arXiv 2405.21046: with sample_hybrid
//   online_inpo  mirror descent to the Nash policy        Zhang et al. 2024, arXiv 2407.00617
//   online_sppo  regression on the chance of winning, the iterate as the reference   Wu et al. 2024, arXiv 2405.00675
//
// Defaults: beta 0.1; the other numbers as the objectives have them.

#include "rlhf/algorithm/dpo.hpp"
#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/exploration.hpp"
#include "rlhf/objective/self_play.hpp"

namespace rlhf::inline v1 {

/// What becomes of the judge's probability that the first response of a pair is better.
enum class pair_label {
  drawn,       ///< a coin: what a person would answer
  likelier,    ///< the better one is chosen; at 1/2 the first
  probability  ///< no decision: objectives that read rewards see the probabilities, of others the expected loss is taken
};

/// Which policy the loss and its bonus call their reference.
enum class pair_anchor {
  reference,  ///< the frozen one
  iterate     ///< the policy that sampled
};

/// Where the responses of the bonus come from.
enum class bonus_source { none, reference, policy };

/// An online preference algorithm by its parts. An objective that reads rewards sees the pairs in the order they were
/// sampled in and decides itself; others see the chosen one first.
template <class Loss = dpo>
struct online_preference {
  Loss loss{};
  pair_label label = pair_label::drawn;
  pair_anchor anchor = pair_anchor::reference;
  optimism bonus{.coefficient = 0};
  bonus_source bonus_on = bonus_source::none;
};

using online_dpo = online_preference<dpo>;

/// VPO: optimism where `alpha` is above 0, pessimism below.
[[nodiscard]] constexpr online_preference<dpo> vpo(double beta = 0.1, double alpha = 1e-3) {
  return {.loss = {.beta = beta}, .bonus = {.coefficient = alpha * beta}, .bonus_on = bonus_source::reference};
}
/// SELM: \f$ -\log\sigma(\beta\,\Delta\log\pi/\pi_t) + \alpha\beta\,E_{y\sim\pi_t}\log\pi(y)/\pi_t(y) \f$, \f$ \Delta \f$ chosen
/// less rejected, in nats. After each iteration what was trained becomes the reference, of the DPO term and of the bonus: it is
/// the iterate pi_t that sampled. (The paper's pairs are the best and the worst of two given responses and one of pi_t; here the
/// sampler says.) So the start holds nothing back: an iteration that is solved multiplies pi_t by e^(r / beta) (alpha 0), T of
/// them reach the optimum of reward less beta / T KL, and in the end the best response has it all. To stop before that make few
/// iterations; to stay near the start set `anchor` to pair_anchor::reference, which is online DPO whose bonus pulls nowhere at
/// its optimum. The bonus has no lower bound: with an alpha that is large next to how likely the pairs of a response are, an
/// iteration of many epochs runs off to a corner. Source: Zhang et al. 2024, arXiv 2405.19332, algorithm 1, and its program.
[[nodiscard]] constexpr online_preference<dpo> selm(double beta = 0.01, double alpha = 1e-3) {
  return {.loss = {.beta = beta},
          .anchor = pair_anchor::iterate,
          .bonus = {.coefficient = alpha * beta},
          .bonus_on = bonus_source::policy};
}
[[nodiscard]] constexpr online_preference<preference_loss<xpo<dpo_sigmoid>>> online_xpo(double beta = 0.1,
                                                                                        double alpha = 1e-5) {
  return {.loss = {xpo<dpo_sigmoid>{{.beta = beta}, alpha}, {}, {}, {}}};
}
[[nodiscard]] constexpr online_preference<preference_loss<inpo>> online_inpo(double tau = 0.1,
                                                                             double inverse_step = 0.3) {
  return {.loss = {{.tau = tau, .inverse_step = inverse_step}, {}, {}, {}}};
}
[[nodiscard]] constexpr online_preference<preference_loss<sppo>> online_sppo(double beta = 1e-3) {
  return {.loss = {{.beta = beta}, {}, {}, {}}, .label = pair_label::probability, .anchor = pair_anchor::iterate};
}

}  // namespace rlhf::inline v1
