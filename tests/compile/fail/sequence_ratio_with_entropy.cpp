// expect: rlhf: give the entropy bonus its own policy_loss
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>

rlhf::status call(rlhf::token_inputs<> in, rlhf::token_outputs<> out) {
  rlhf::reference_backend cpu;
#ifdef MUST_FAIL
  return rlhf::policy_loss{rlhf::sequence_ratio{rlhf::ppo_clip{}}, rlhf::entropy_bonus{}}(cpu, rlhf::padded(2, 3), in,
                                                                                          out);
#endif
  return rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::entropy_bonus{}}(cpu, rlhf::padded(2, 3), in, out);
}
