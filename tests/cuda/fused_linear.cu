// The fused linear layer on device memory, with cuBLAS for the products and with plain ones.

#include <rlhf/backend/cuda/cublas_product.cuh>
#include <rlhf/backend/thrust.hpp>
#include <rlhf/driver/fused_linear.hpp>
#include <rlhf/driver/preference_loss.hpp>
#include <rlhf/objective/preference.hpp>

using rlhf::cuda_space;

rlhf::status dpo_step(rlhf::thrust_backend& gpu, cublasHandle_t cublas,
                      const rlhf::linear_inputs<rlhf::bfloat16, cuda_space>& in,
                      const rlhf::token_pair_inputs<float, cuda_space>& pairs,
                      const rlhf::view<float, 1, cuda_space>& loss,
                      const rlhf::linear_outputs<rlhf::bfloat16, cuda_space>& out) {
  const rlhf::fused_linear<rlhf::cublas_product> fused{.product = {cublas}};
  return fused(gpu, in,
               rlhf::over_pairs{rlhf::preference_loss{rlhf::dpo_sigmoid{}}, pairs,
                                rlhf::pair_outputs<float, cuda_space>{.loss = loss}},
               out);
}

rlhf::status supervised_step(rlhf::thrust_backend& gpu, const rlhf::layout<cuda_space>& sequences,
                             const rlhf::linear_inputs<float, cuda_space>& in,
                             const rlhf::linear_outputs<float, cuda_space>& out) {
  return rlhf::fused_linear<>{}(
      gpu, in,
      rlhf::over_tokens{rlhf::policy_loss{rlhf::negative_log_likelihood{}}, sequences,
                        rlhf::token_inputs<float, cuda_space>{}, rlhf::token_outputs<float, cuda_space>{}},
      out);
}

rlhf::status distillation_step(rlhf::thrust_backend& gpu, cublasHandle_t cublas,
                               const rlhf::linear_inputs<rlhf::bfloat16, cuda_space>& in,
                               const rlhf::linear_head<rlhf::bfloat16, cuda_space>& teacher,
                               const rlhf::linear_outputs<rlhf::bfloat16, cuda_space>& out) {
  const rlhf::fused_linear<rlhf::cublas_product> fused{.product = {cublas}};
  return fused(gpu, in, rlhf::over_rows{rlhf::jensen_shannon_rows{}, teacher}, out);
}
