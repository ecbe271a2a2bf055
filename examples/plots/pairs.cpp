// Objectives of pairs, one by one.

#include "curves.hpp"
#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/mixture.hpp"
#include "rlhf/objective/one_of.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/objective/self_play.hpp"

namespace plots {

std::vector<drawing> pairs() {
  using namespace rlhf;
  using distance = reward_aware_dpo::distance;
  const std::vector<std::string> both{"in log π(chosen)", "in log π(rejected)"};
  const axis margin{"margin D, nats", -40, 40, {-20, -5, 0, 5, 20}, both};
  const axis narrow{"margin D, nats", -6, 6, {-4, -1, 0, 1, 4}, both};
  const axis averages{"a − b, nats, 10 tokens each", -40, 40, {-20, -5, 0, 5, 20}, both};
  const axis free{"L(chosen) − L(rejected), nats, 10 tokens each", -10, 10, {-8, -2, 0, 2, 8}, both};
  const axis split{"a = −b = D/2; D, nats", -40, 40, {-20, -5, 0, 5, 20}, both};
  return {
      {"dpo_sigmoid",
       margin,
       {pair("defaults", dpo_sigmoid{}), pair("label_smoothing 0.2", dpo_sigmoid{.label_smoothing = 0.2})}},
      {"dpo_sigmoid_norm", averages, {pair("defaults", dpo_sigmoid_norm{})}},
      {"dpo_hinge", margin, {pair("defaults", dpo_hinge{})}},
      {"ipo", averages, {pair("defaults", ipo{})}},
      {"ipo_sum", margin, {pair("defaults", ipo_sum{})}},
      {"dpo_robust",
       margin,
       {pair("defaults", dpo_robust{}), pair("label_smoothing 0.3", dpo_robust{.label_smoothing = 0.3})}},
      {"rebel", narrow, {pair("rewards 0.9 and 0.1", rebel{}), pair("eta 2, paper_scaling", rebel{2, true})}},
      {"exo_pair", margin, {pair("defaults", exo_pair{}), pair("label_smoothing 0.1", exo_pair{0.1, 0.1})}},
      {"discopop", margin, {pair("defaults", discopop{}), pair("temperature 1/2", discopop{.temperature = 0.5})}},
      {"dpo_positive", split, {pair("defaults", dpo_positive{}), pair("lambda 1", dpo_positive{.lambda = 1})}},
      {"length_regularised_dpo", margin, {pair("equal lengths", length_regularised_dpo{})}},
      {"reward_aware_dpo",
       margin,
       {pair("backward KL", reward_aware_dpo{}), pair("forward KL", reward_aware_dpo{.measure = distance::forward_kl}),
        pair("square", reward_aware_dpo{.measure = distance::square})}},
      {"dpo_offset", margin, {pair("offset 2", dpo_offset{})}},
      {"pcrm_dpo", margin, {pair("cap 2", pcrm_dpo{})}},
      {"nca_pair", split, {pair("defaults", nca_pair{})}},
      {"bco_pair", split, {pair("defaults", bco_pair{}), pair("delta 1", bco_pair{.delta = 1})}},
      {"sppo_hard", split, {pair("defaults", sppo_hard{})}},
      {"sppo", split, {pair("beta 0.1, p 0.9 and 0.1", sppo{0.1})}},
      {"apo_zero", split, {pair("defaults", apo_zero{})}},
      {"apo_down", split, {pair("defaults", apo_down{})}},
      {"cpo", free, {pair("defaults", cpo{}), pair("label_smoothing 0.2", cpo{.label_smoothing = 0.2})}},
      {"cpo_hinge", free, {pair("beta 0.5", cpo_hinge{.beta = 0.5})}},
      {"cpo_ipo", free, {pair("defaults", cpo_ipo{})}},
      {"simpo", free, {pair("defaults", simpo{})}},
      {"simpo_hinge", free, {pair("defaults", simpo_hinge{})}},
      {"alphapo", free, {pair("defaults", alphapo{}), pair("alpha 1", alphapo{.alpha = 1})}},
      {"simper", free, {pair("defaults", simper{})}},
      {"orpo", free, {pair("defaults", orpo{}), pair("beta 1", orpo{.beta = 1})}},
      {"slic_reference_free", free, {pair("defaults", slic_reference_free{})}},
      {"with_divergence",
       narrow,
       {pair("DPO, forward KL", with_divergence{dpo_sigmoid{}, forward_kl{}}),
        pair("DPO, Jensen-Shannon", with_divergence{dpo_sigmoid{}, jensen_shannon{}}),
        pair("DPO, alpha 1/2", with_divergence{dpo_sigmoid{}, alpha_divergence{}})}},
      {"reference_free", free, {pair("of dpo_sigmoid", reference_free{dpo_sigmoid{}})}},
      {"ranked", margin, {pair("of dpo_sigmoid, first better", ranked{dpo_sigmoid{}})}},
      {"xpo", margin, {pair("of dpo_sigmoid, alpha 0.01", xpo{dpo_sigmoid{}, 0.01})}},
      {"inpo", narrow, {pair("defaults", inpo{})}},
      {"mixture",
       margin,
       {pair("0.8 dpo_sigmoid + 0.2 bco_pair", mixture{weighted{dpo_sigmoid{}, 0.8}, weighted{bco_pair{}, 0.2}})}},
  };
}

}  // namespace plots
