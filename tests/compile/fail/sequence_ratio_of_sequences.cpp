// expect: rlhf: here the ratio is already the sequence's, so sequence_ratio has nothing to wrap: give its objective
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/sequence_loss.hpp>
#include <rlhf/objective/token.hpp>

rlhf::status call(rlhf::sequence_inputs<> in, rlhf::sequence_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::sequence_policy_loss{rlhf::sequence_ratio{rlhf::ppo_clip{}}, rlhf::summed_log_ratio{}}(
      cpu, rlhf::padded(2, 3), in, out);
#endif
  return rlhf::sequence_policy_loss{rlhf::ppo_clip{}, rlhf::summed_log_ratio{}}(cpu, rlhf::padded(2, 3), in, out);
}
