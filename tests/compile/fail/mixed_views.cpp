// expect: no match(ing function)? for call
// The gradient of float log-probabilities is not written into doubles behind the caller's back.
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>

rlhf::status call(rlhf::token_inputs<float> in, rlhf::token_outputs<float> out, rlhf::token_outputs<double> wide) {
  rlhf::reference_backend cpu;
  const rlhf::policy_loss loss{rlhf::reinforce{}};
#ifdef MUST_FAIL
  return loss(cpu, rlhf::padded(2, 3), in, wide);
#endif
  return loss(cpu, rlhf::padded(2, 3), in, out);
}
