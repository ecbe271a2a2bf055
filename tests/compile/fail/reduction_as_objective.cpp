// expect: rlhf: this makes the log-ratio of a sequence and is no loss: give it to sequence_policy_loss
// It has the shape of a token objective, so that it would compile and train nothing of use.
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>
#include <rlhf/objective/sequence.hpp>

rlhf::status call(rlhf::token_inputs<> in, rlhf::token_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::policy_loss{rlhf::summed_log_ratio{}}(cpu, rlhf::padded(2, 3), in, out);
#endif
  return rlhf::policy_loss{rlhf::ppo_clip{}}(cpu, rlhf::padded(2, 3), in, out);
}
