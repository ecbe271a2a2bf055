// The drivers on Thrust's CUDA system: every kernel of theirs compiles for the device.

#include <rlhf/algorithm/dpo.hpp>
#include <rlhf/algorithm/ppo.hpp>
#include <rlhf/backend/thrust.hpp>
#include <rlhf/driver/token_logp.hpp>

namespace {

using rlhf::cuda_space;
template <class T>
using cells = rlhf::view<T, 1, cuda_space>;

}  // namespace

rlhf::status policy_step(rlhf::thrust_backend& gpu, const rlhf::layout<cuda_space>& sequences, cells<const float> x,
                         rlhf::mask_view<cuda_space> mask, cells<float> y, rlhf::statistics& stats) {
  const rlhf::policy_loss loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.02}, rlhf::row_mean{}};
  return loss(gpu, sequences,
              rlhf::token_inputs<float, cuda_space>{
                  .logp = x, .old_logp = x, .ref_logp = x, .advantage = x, .mask = mask},
              rlhf::token_outputs<float, cuda_space>{.grad_logp = y, .stats = &stats});
}

rlhf::status advantages(rlhf::thrust_backend& gpu, const rlhf::layout<cuda_space>& sequences,
                        const rlhf::rollout_inputs<float, cuda_space>& in, const rlhf::rollout_outputs<float, cuda_space>& out) {
  return rlhf::ppo{}.prepare(gpu, sequences, in, out);
}

rlhf::status preference_step(rlhf::thrust_backend& gpu, const rlhf::token_pair_inputs<float, cuda_space>& in,
                             const rlhf::pair_outputs<float, cuda_space>& out) {
  return rlhf::dpo{}(gpu, in, out);
}

rlhf::status log_probabilities(rlhf::thrust_backend& gpu, const rlhf::logits_inputs<rlhf::bfloat16, cuda_space>& in,
                               const rlhf::logp_outputs<float, cuda_space>& out,
                               const rlhf::logp_gradients<float, cuda_space>& gradients,
                               const rlhf::view<rlhf::bfloat16, 2, cuda_space>& grad_logits) {
  if (auto s = rlhf::token_logp(gpu, in, out); !s) return s;
  return rlhf::token_logp_backward(gpu, in, gradients, grad_logits);
}
