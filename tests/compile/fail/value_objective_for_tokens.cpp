// expect: rlhf: this objective is of a critic's values, not of log-probabilities: call value_loss
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>
#include <rlhf/objective/value.hpp>

rlhf::status call(rlhf::token_inputs<> in, rlhf::token_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::policy_loss{rlhf::clipped_value{}}(cpu, rlhf::padded(2, 3), in, out);
#endif
  return rlhf::policy_loss{rlhf::ppo_clip{}}(cpu, rlhf::padded(2, 3), in, out);
}
