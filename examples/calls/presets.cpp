// The snippets of the page on presets and on the step before the first, with their numbers.

#include <cmath>
#include <string>

#include "batch.hpp"
#include "check.hpp"
#include "rlhf/algorithm/preset/openrlhf.hpp"
#include "rlhf/algorithm/preset/trl_1_9.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/train/diagnose.hpp"

using calls::expect;

int main() {
  rlhf::reference_backend cpu;
  const calls::token_batch b;
  float loss = 0;
  const std::vector<float> chosen{-10}, rejected{-12}, ref_chosen{-11}, ref_rejected{-11}, lengths{4};
  const rlhf::pair_inputs<float> in{.chosen = chosen,
                                    .rejected = rejected,
                                    .ref_chosen = ref_chosen,
                                    .ref_rejected = ref_rejected,
                                    .chosen_length = lengths,
                                    .rejected_length = lengths};
  const rlhf::pair_outputs<float> out{.loss = {&loss, 1}};

  //! [preset]
  auto ipo = rlhf::preset::trl_1_9::ipo();                           // averages per token
  ipo.objective.beta = 0.3;                                          // every member may be changed
  rlhf::or_throw(ipo(cpu, in, out));                                 // as any preference_loss
  rlhf::or_throw(rlhf::preset::openrlhf::ipo()(cpu, in, out));       // sums
  const auto grpo = rlhf::preset::trl_1_9::loss_type::dr_grpo(512);  // parts: estimator, objective, penalty, aggregate
  //! [preset]
  expect("IPO of sums", static_cast<double>(loss), (2.0 - 5) * (2.0 - 5));
  expect("the epsilon of TRL's GRPO", grpo.estimator.epsilon, 1e-4);

  //! [diagnose]
  const rlhf::step_zero<float> batch{.sequences = rlhf::padded(2, 4),
                                     .mask = b.mask,
                                     .logp = b.logp,
                                     .old_logp = b.old_logp,
                                     .ref_logp = b.logp,
                                     .entropy = b.entropy,
                                     .vocabulary = 32000};
  const rlhf::diagnosis found =
      rlhf::diagnose(batch, {{"dpo", 0.6931472, rlhf::loss_at_reference(rlhf::dpo_sigmoid{})}});
  for (int i = 0; i < found.size; ++i) std::puts(found.findings[i].message().c_str());
  //! [diagnose]
  expect("findings", found.size, 1);
  expect("the ratio is not 1", found.find(rlhf::identity::ratio_is_one) != nullptr);
  return calls::failures();
}
