// Top-k, distillation from k tokens, total variation, cosines and weights by prefix on Thrust's CUDA system.

#include <rlhf/backend/thrust.hpp>
#include <rlhf/driver/cosine_distance.hpp>
#include <rlhf/driver/full_total_variation.hpp>
#include <rlhf/driver/prefix_weights.hpp>
#include <rlhf/driver/top_k_divergence.hpp>

using rlhf::bfloat16;
using rlhf::cuda_space;

rlhf::status k_tokens(rlhf::thrust_backend& gpu, const rlhf::top_k_inputs<bfloat16, cuda_space>& teacher,
                      const rlhf::top_k_outputs<float, cuda_space>& likeliest,
                      const rlhf::top_k_divergence_inputs<bfloat16, float, cuda_space>& in,
                      const rlhf::full_kl_outputs<bfloat16, float, cuda_space>& out) {
  if (auto s = rlhf::top_k(gpu, teacher, likeliest); !s) return s;
  return rlhf::top_k_divergence{.forward = 0.5}(gpu, in, out);
}

rlhf::status distances(rlhf::thrust_backend& gpu, const rlhf::full_kl_inputs<bfloat16, cuda_space>& in,
                       const rlhf::full_kl_outputs<bfloat16, float, cuda_space>& out,
                       const rlhf::cosine_inputs<bfloat16, cuda_space>& hidden,
                       const rlhf::cosine_outputs<bfloat16, float, cuda_space>& apart) {
  if (auto s = rlhf::full_total_variation(gpu, in, out); !s) return s;
  return rlhf::cosine_distance(gpu, hidden, apart);
}

rlhf::status prefixes(rlhf::thrust_backend& gpu, const rlhf::layout<cuda_space>& sequences,
                      rlhf::view<const float, 1, cuda_space> a, rlhf::mask_view<cuda_space> mask,
                      rlhf::view<float, 1, cuda_space> w) {
  return rlhf::prefix_weights(gpu, sequences, {}, a, mask, w);
}
