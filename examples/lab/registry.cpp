// The table of experiments. A new one: a file in experiments/, its declaration, its place.

#include "lab/experiment.hpp"

namespace lab {

experiment x01_soft_bellman();
experiment x02_rto_fixed_point();
experiment x03_gap_identity();
experiment x04_token_reward_learning();
experiment x05_search();
experiment x06_rebel_is_natural_gradient();
experiment x07_mirror_descent_envelope();
experiment x08_regression_floor();
experiment x09_intransitive();
experiment x10_kl_estimators();
experiment x11_shaping_invariance();
experiment x12_frozen_value();
experiment x13_vine_values();
experiment x14_tdpo_gradient();
experiment x15_dense_credit();
experiment e01_pilaf_gradient();
experiment e02_pilaf_labels();
experiment e03_preference_gradient();
experiment e03b_zeroth_order();
experiment e04_lotteries();
experiment e05_offline_pessimism();
experiment e06_online_pairs();
experiment e07_margin_caps();
experiment e08_una_offset();
experiment e09_robust_groups();
experiment e10_over_optimisation();
experiment e11_fast_rate();
experiment e12_dpo_equivalence();
experiment e13_likelihood_rate();
experiment e14_greedy_failure();
experiment e15_rankings();
experiment e16_enhancer();
experiment e17_kl_regret();
experiment e18_nash_dynamics();
experiment e19_policy_gradient();

std::vector<experiment> all_experiments() {
  return {
      x01_soft_bellman(),
      x02_rto_fixed_point(),
      x03_gap_identity(),
      x04_token_reward_learning(),
      x05_search(),
      x06_rebel_is_natural_gradient(),
      x07_mirror_descent_envelope(),
      x08_regression_floor(),
      x09_intransitive(),
      x10_kl_estimators(),
      x11_shaping_invariance(),
      x12_frozen_value(),
      x13_vine_values(),
      x14_tdpo_gradient(),
      x15_dense_credit(),
      e01_pilaf_gradient(),
      e02_pilaf_labels(),
      e03_preference_gradient(),
      e03b_zeroth_order(),
      e04_lotteries(),
      e05_offline_pessimism(),
      e06_online_pairs(),
      e07_margin_caps(),
      e08_una_offset(),
      e09_robust_groups(),
      e10_over_optimisation(),
      e11_fast_rate(),
      e12_dpo_equivalence(),
      e13_likelihood_rate(),
      e14_greedy_failure(),
      e15_rankings(),
      e16_enhancer(),
      e17_kl_regret(),
      e18_nash_dynamics(),
      e19_policy_gradient(),
  };
}

}  // namespace lab
