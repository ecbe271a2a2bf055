// expect: rlhf: this objective is of a reward model's scores, not of log-probabilities: call reward_loss
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>
#include <rlhf/reward/bradley_terry.hpp>

rlhf::status call(rlhf::token_inputs<> in, rlhf::token_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::policy_loss{rlhf::bradley_terry{}}(cpu, rlhf::padded(2, 3), in, out);
#endif
  return rlhf::policy_loss{rlhf::reinforce{}}(cpu, rlhf::padded(2, 3), in, out);
}
