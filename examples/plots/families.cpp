// The figures of the pages of families: several formulas in one picture.

#include "figures.hpp"

#include "curves.hpp"
#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/objective/self_play.hpp"
#include "rlhf/objective/token.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/objective/value.hpp"
#include "rlhf/objective/weighted.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/prior_constrained.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"

namespace plots {

std::vector<figure> families() {
  using distance = rlhf::reward_aware_dpo::distance;
  const std::string margin = "margin D, nats", in_chosen = "slope in log pi(chosen)";
  const std::string ratio = "ratio", in_logp = "slope in log pi";
  return {
      {"dpo",
       margin,
       in_chosen,
       -40,
       40,
       {pair("sigmoid", rlhf::dpo_sigmoid{}), pair("smoothed 0.2", rlhf::dpo_sigmoid{.label_smoothing = 0.2}),
        pair("robust 0.2", rlhf::dpo_robust{.label_smoothing = 0.2}), pair("hinge", rlhf::dpo_hinge{})}},
      {"anchored",
       margin,
       in_chosen,
       -40,
       40,
       {pair("NCA", rlhf::nca_pair{}), pair("BCO", rlhf::bco_pair{}), pair("APO-zero", rlhf::apo_zero{}),
        pair("APO-down", rlhf::apo_down{})}},
      {"margins",
       margin,
       in_chosen,
       -40,
       40,
       {pair("EXO, 0.1", rlhf::exo_pair{.label_smoothing = 0.1}),
        pair("DiscoPOP, tau 1/2", rlhf::discopop{.temperature = 0.5}),
        pair("DPO-positive, 1", rlhf::dpo_positive{.lambda = 1}), pair("capped at 2", rlhf::pcrm_dpo{}),
        pair("offset 2", rlhf::dpo_offset{}),
        pair("reward-aware", rlhf::reward_aware_dpo{.eta = 2, .measure = distance::backward_kl})}},
      {"reference-free",
       "L(chosen) - L(rejected), nats, 10 tokens each",
       in_chosen,
       -10,
       10,
       {pair("CPO", rlhf::cpo{}), pair("SimPO", rlhf::simpo{}), pair("AlphaPO", rlhf::alphapo{}),
        pair("SimPER", rlhf::simper{}), pair("ORPO, 1", rlhf::orpo{.beta = 1})}},
      {"divergences",
       "log-ratio a, nats",
       "slope of the score",
       -2,
       4,
       {score("forward KL", rlhf::forward_kl{}), score("Jensen-Shannon", rlhf::jensen_shannon{}),
        score("alpha 1/2", rlhf::alpha_divergence{}),
        score("alpha 1: reverse KL", rlhf::alpha_divergence{.alpha = 1})}},
      {"rebel",
       margin,
       in_chosen,
       -5,
       5,
       {pair("REBEL, rewards 0.9 and 0.1", rlhf::rebel{}),
        pair("INPO, 1/2", rlhf::inpo{.tau = 0.1, .inverse_step = 0.5})}},
      {"unpaired",
       "log-ratio h, nats",
       in_logp,
       -40,
       40,
       {response("KTO, desirable", rlhf::kto{}, 1), response("KTO, undesirable", rlhf::kto{}, 0),
        response("BCO, desirable", rlhf::bco{}, 1), response("BCO, undesirable", rlhf::bco{}, 0),
        response("NPO", rlhf::negative_preference{}, 0)}},
      {"ppo-clip",
       ratio,
       in_logp,
       0.05,
       3.5,
       {token("A = 1", rlhf::ppo_clip{}, 1), token("A = -1", rlhf::ppo_clip{}, -1),
        token("A = -1, dual clip at 2", rlhf::ppo_clip{.dual_clip = 2}, -1),
        token("A = 1, clip-higher 0.6", rlhf::ppo_clip{.high = 0.6}, 1)}},
      {"trust-regions",
       ratio,
       in_logp,
       0.05,
       3.5,
       {token("SAPO, A = 1", rlhf::sapo{}, 1), token("SAPO, A = -1", rlhf::sapo{}, -1),
        token("DPPO (TV), A = 1", rlhf::dppo_total_variation{}, 1),
        token("DPPO (KL), A = 1", rlhf::dppo_binary_kl{}, 1)}},
      {"reinforce",
       ratio,
       in_logp,
       0.05,
       3.5,
       {token("REINFORCE, A = 1", rlhf::reinforce{}, 1), token("CISPO, at most 2, A = 1", rlhf::cispo{.high = 2}, 1),
        token("importance sampling, A = 1", rlhf::importance_sampling{}, 1),
        token("DRO, A = 1", rlhf::direct_reward_optimisation{.beta = 1}, 1)}},
      {"kl",
       "log-ratio to the reference, nats",
       in_logp,
       -2.5,
       2.5,
       {divergence("k1", rlhf::k1{}), divergence("k2", rlhf::k2{}), divergence("k3", rlhf::k3{}),
        divergence("absolute", rlhf::absolute{})}},
      {"value-loss",
       "value, old 0, return 1",
       "slope in the value",
       -1.5,
       2.5,
       {value("squared", rlhf::squared_value{}), value("clipped at 0.2", rlhf::clipped_value{}),
        value("Huber", rlhf::huber_value{})}},
      {"bradley-terry",
       "score of chosen less rejected",
       "slope in the better score",
       -6,
       6,
       {scores("Bradley-Terry", rlhf::bradley_terry{}), scores("Thurstone", rlhf::thurstone{}),
        scores("capped margin (PCRM)", rlhf::prior_constrained{})}},
  };
}

}  // namespace plots
