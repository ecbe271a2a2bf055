// Corrections, losses of sequences, chosen tokens and the divergence of distillation on Thrust's CUDA system.

#include <rlhf/backend/thrust.hpp>
#include <rlhf/driver/full_jensen_shannon.hpp>
#include <rlhf/driver/future_weights.hpp>
#include <rlhf/driver/importance.hpp>
#include <rlhf/driver/sequence_loss.hpp>
#include <rlhf/driver/surviving_mass.hpp>
#include <rlhf/driver/token_selection.hpp>
#include <rlhf/objective/weighted.hpp>

namespace {

using rlhf::cuda_space;
template <class T>
using cells = rlhf::view<T, 1, cuda_space>;

}  // namespace

rlhf::status corrections(rlhf::thrust_backend& gpu, const rlhf::layout<cuda_space>& sequences,
                         const rlhf::importance_inputs<float, cuda_space>& in,
                         const rlhf::importance_outputs<float, cuda_space>& out) {
  const rlhf::importance_weights tis{rlhf::truncated_token_weights(), true};
  if (auto s = tis(gpu, sequences, in, out); !s) return s;
  return rlhf::importance_weights{rlhf::vespo_weight{}}(gpu, sequences, in, out);
}

rlhf::status sequence_losses(rlhf::thrust_backend& gpu, const rlhf::layout<cuda_space>& sequences,
                             const rlhf::sequence_inputs<float, cuda_space>& in,
                             const rlhf::sequence_outputs<float, cuda_space>& out) {
  const rlhf::sequence_policy_loss gmpo{rlhf::importance_sampling{}, rlhf::one_sided_log_ratio{}};
  if (auto s = gmpo(gpu, sequences, in, out); !s) return s;
  return rlhf::group_sequence_loss{rlhf::real_classification{}}(gpu, sequences, in, out);
}

rlhf::status choices(rlhf::thrust_backend& gpu, const rlhf::layout<cuda_space>& sequences,
                     const rlhf::selection_inputs<float, cuda_space>& in, cells<std::uint8_t> out) {
  if (auto s = rlhf::select_tokens(gpu, sequences, rlhf::clip_covariance{}, in, out); !s) return s;
  return rlhf::select_tokens(gpu, sequences, rlhf::high_entropy{}, in, out);
}

rlhf::status future(rlhf::thrust_backend& gpu, const rlhf::layout<cuda_space>& sequences, cells<const float> x,
                    rlhf::mask_view<cuda_space> mask, cells<float> y) {
  return rlhf::future_weights(gpu, sequences, {}, x, x, x, mask, y);
}

rlhf::status rows_of_logits(rlhf::thrust_backend& gpu, const rlhf::full_kl_inputs<rlhf::bfloat16, cuda_space>& in,
                            const rlhf::full_kl_outputs<rlhf::bfloat16, float, cuda_space>& out) {
  if (auto s = rlhf::full_jensen_shannon(gpu, in, out, 0.3); !s) return s;
  return rlhf::surviving_mass(gpu, in.logits, {.top_k = 50, .top_p = 0.9}, out.kl);
}
