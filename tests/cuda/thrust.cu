// Drivers on Thrust's CUDA system: between them they give every primitive a kernel that compiles for the device.

#include <rlhf/backend/thrust.hpp>
#include <rlhf/driver/advantage.hpp>
#include <rlhf/driver/policy_loss.hpp>
#include <rlhf/driver/token_logp.hpp>
#include <rlhf/objective/kl.hpp>

namespace {

using rlhf::cuda_space;
template <class T>
using cells = rlhf::view<T, 1, cuda_space>;

}  // namespace

rlhf::status policy_step(rlhf::thrust_backend& gpu, const rlhf::layout<cuda_space>& sequences, cells<const float> x,
                         rlhf::mask_view<cuda_space> mask, cells<float> y, rlhf::statistics& stats) {
  const rlhf::policy_loss loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.02}, rlhf::row_mean{}};
  return loss(
      gpu, sequences,
      rlhf::token_inputs<float, cuda_space>{.logp = x, .old_logp = x, .ref_logp = x, .advantage = x, .mask = mask},
      rlhf::token_outputs<float, cuda_space>{.grad_logp = y, .stats = &stats});
}

rlhf::status advantages(rlhf::thrust_backend& gpu, const rlhf::layout<cuda_space>& sequences,
                        const rlhf::advantage_inputs<float, cuda_space>& in,
                        const rlhf::advantage_outputs<float, cuda_space>& out) {
  return rlhf::advantage_estimate{rlhf::gae{}}(gpu, sequences, in, out);
}

rlhf::status gradient_of_logits(rlhf::thrust_backend& gpu, const rlhf::logits_inputs<rlhf::bfloat16, cuda_space>& in,
                                const rlhf::logp_gradients<float, cuda_space>& gradients,
                                const rlhf::view<rlhf::bfloat16, 2, cuda_space>& grad_logits) {
  return rlhf::token_logp_backward(gpu, in, gradients, grad_logits);
}
