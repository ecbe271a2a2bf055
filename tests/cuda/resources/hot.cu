// The kernels that a training step spends its time in. Compiled for their report: registers, shared memory, spills.

#include <rlhf/backend/cuda.cuh>
#include <rlhf/driver/advantage.hpp>
#include <rlhf/driver/grouped.hpp>
#include <rlhf/driver/policy_loss.hpp>
#include <rlhf/driver/preference_loss.hpp>
#include <rlhf/driver/token_logp.hpp>
#include <rlhf/objective/kl.hpp>
#include <rlhf/objective/preference.hpp>

namespace {

using rlhf::cuda_backend;
using rlhf::cuda_space;
using rlhf::status;
template <class T>
using cells = rlhf::view<T, 1, cuda_space>;
using sequences = rlhf::layout<cuda_space>;
using rlhf::bfloat16;

}  // namespace

status forward(cuda_backend& gpu, const rlhf::logits_inputs<bfloat16, cuda_space>& in,
               const rlhf::logp_outputs<float, cuda_space>& out) {
  return rlhf::token_logp(gpu, in, out);
}
status backward(cuda_backend& gpu, const rlhf::logits_inputs<bfloat16, cuda_space>& in,
                const rlhf::logp_gradients<float, cuda_space>& gradients,
                const rlhf::view<bfloat16, 2, cuda_space>& to) {
  return rlhf::token_logp_backward(gpu, in, gradients, to);
}
status forward_of_floats(cuda_backend& gpu, const rlhf::logits_inputs<float, cuda_space>& in,
                         const rlhf::logp_outputs<float, cuda_space>& out) {
  return rlhf::token_logp(gpu, in, out);
}
status backward_of_floats(cuda_backend& gpu, const rlhf::logits_inputs<float, cuda_space>& in,
                          const rlhf::logp_gradients<float, cuda_space>& gradients,
                          const rlhf::view<float, 2, cuda_space>& to) {
  return rlhf::token_logp_backward(gpu, in, gradients, to);
}

status proximal(cuda_backend& gpu, const sequences& s, const rlhf::token_inputs<float, cuda_space>& in,
                const rlhf::token_outputs<float, cuda_space>& out) {
  return rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.02}, rlhf::token_mean{}}(gpu, s, in, out);
}
status pairs(cuda_backend& gpu, const rlhf::token_pair_inputs<float, cuda_space>& in,
             const rlhf::pair_outputs<float, cuda_space>& out) {
  return rlhf::preference_loss{rlhf::dpo_sigmoid{}}(gpu, in, out);
}

status advantages(cuda_backend& gpu, const sequences& s, const rlhf::advantage_inputs<float, cuda_space>& in,
                  const rlhf::advantage_outputs<float, cuda_space>& out) {
  if (auto done = rlhf::advantage_estimate{rlhf::gae{}}(gpu, s, in, out); !done) return done;
  if (auto done = rlhf::advantage_estimate{rlhf::discounted_return{}}(gpu, s, in, out); !done) return done;
  return rlhf::whitening{}(gpu, rlhf::whiten_inputs<float, cuda_space>{out.advantage, in.mask}, out.advantage);
}
status relative(cuda_backend& gpu, const rlhf::group_inputs<float, cuda_space>& in, const cells<float>& out) {
  return rlhf::grouped{rlhf::group_advantage{}}(gpu, in, out);
}
status order(cuda_backend& gpu, const cells<const float>& keys, const cells<std::int64_t>& out) {
  return gpu.argsort(keys.extent, keys.data, out.data);
}
