// expect: rlhf: this objective is of a policy's log-probabilities, not of a critic's values: call policy_loss
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/value_loss.hpp>
#include <rlhf/objective/token.hpp>

rlhf::status call(rlhf::value_inputs<> in, rlhf::value_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::value_loss{rlhf::ppo_clip{}}(cpu, rlhf::padded(2, 3), in, out);
#endif
  return rlhf::value_loss{rlhf::clipped_value{}}(cpu, rlhf::padded(2, 3), in, out);
}
