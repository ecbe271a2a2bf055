#include <rlhf/backend/cuda.cuh>

#include "dpo.hpp"

// Compiled, not run: that takes a GPU. All pointers are to device memory.
rlhf::status step_on_device(cudaStream_t stream, const float* w, const float* l, const float* ref_w, const float* ref_l,
                            std::int64_t pairs, float* loss, float* grad_w, float* grad_l) {
  rlhf::cuda_backend gpu{stream};
  return dpo_step(gpu, w, l, ref_w, ref_l, pairs, loss, grad_w, grad_l);
}
