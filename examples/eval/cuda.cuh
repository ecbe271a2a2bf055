#pragma once
// rlhf-eval on a CUDA device: the memory of a case, and the backend.

#include <cuda_runtime.h>

#include "rlhf/backend/cuda.cuh"
#include "workspace.hpp"

namespace eval {

inline void require_cuda(cudaError_t error, const char* call) {
  if (error != cudaSuccess) throw failure{"backend", text(call, ": ", cudaGetErrorString(error))};
}

template <>
class memory<rlhf::cuda_space> {
 public:
  template <class T>
  [[nodiscard]] T* upload(const std::vector<T>& values) {
    const std::size_t bytes = values.size() * sizeof(T);
    void* data = nullptr;
    require_cuda(cudaMalloc(&data, bytes + sizeof(T)), "cudaMalloc");  // an empty array is an array: not null
    kept_.push_back(std::shared_ptr<void>(data, [](void* p) { static_cast<void>(cudaFree(p)); }));
    if (bytes > 0) require_cuda(cudaMemcpy(data, values.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    return static_cast<T*>(data);
  }
  /// Waits for what was queued before.
  template <class T>
  [[nodiscard]] std::vector<T> download(const T* data, std::int64_t n) const {
    std::vector<T> values(static_cast<std::size_t>(n));
    require_cuda(cudaMemcpy(values.data(), data, values.size() * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }

 private:
  std::deque<std::shared_ptr<void>> kept_;
};

}  // namespace eval
