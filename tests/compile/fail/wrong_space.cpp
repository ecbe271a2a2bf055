// expect: rlhf: these views live in another memory space than the backend works in
#include <rlhf/backend/reference.hpp>
#include <rlhf/driver/policy_loss.hpp>

rlhf::status call(rlhf::token_inputs<float, rlhf::cuda_space> device_in,
                  rlhf::token_outputs<float, rlhf::cuda_space> device_out, rlhf::token_inputs<> in,
                  rlhf::token_outputs<> out) {
  rlhf::reference_backend cpu;
  const rlhf::policy_loss loss{rlhf::ppo_clip{}};
#ifdef MUST_FAIL
  return loss(cpu, rlhf::padded(2, 3), device_in, device_out);
#endif
  return loss(cpu, rlhf::padded(2, 3), in, out);
}
