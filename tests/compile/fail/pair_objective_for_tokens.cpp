// expect: rlhf: this objective compares two whole responses, a token has no partner: call preference_loss
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>
#include <rlhf/objective/preference.hpp>

rlhf::status call(rlhf::token_inputs<> in, rlhf::token_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::policy_loss{rlhf::dpo_sigmoid{}}(cpu, rlhf::padded(2, 3), in, out);
#endif
  return rlhf::policy_loss{rlhf::ppo_clip{}}(cpu, rlhf::padded(2, 3), in, out);
}
