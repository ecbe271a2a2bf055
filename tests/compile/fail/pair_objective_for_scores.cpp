// expect: rlhf: this objective is of log-probabilities, not of a reward model's scores: call preference_loss
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/reward_loss.hpp>
#include <rlhf/objective/preference.hpp>
#include <rlhf/reward/bradley_terry.hpp>

rlhf::status call(rlhf::score_inputs<> in, rlhf::score_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::reward_loss{rlhf::dpo_sigmoid{}}(cpu, in, out);
#endif
  return rlhf::reward_loss{rlhf::bradley_terry{}}(cpu, in, out);
}
