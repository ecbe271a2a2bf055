#pragma once
// The backend for CUDA devices: the bodies of backend/team on CUB's primitives, on the caller's stream.

#if !defined(__CUDACC__)
#error "rlhf: rlhf/backend/cuda.cuh is for nvcc: include it from a .cu file"
#endif
#if __CUDACC_VER_MAJOR__ < 13
#error "rlhf: the CUDA backend needs CUDA 13.0 or later: older ones have never been tested"
#endif

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <cub/device/device_merge_sort.cuh>

#include "rlhf/backend/concept.hpp"
#include "rlhf/backend/cuda/group.cuh"
#include "rlhf/backend/cuda/memory.cuh"
#include "rlhf/backend/team/backend.hpp"

namespace rlhf::inline v1 {

namespace cuda_detail {

/// Blocks that a multiprocessor should hold at once: it bounds the registers of a thread (4: 64, 2: 128).
template <class Body>
[[nodiscard]] constexpr int resident() {
  if constexpr (requires { Body::resident; })
    return Body::resident;
  else
    return 2;
}

/// The one kernel: a body in groups of Width threads.
template <int Width, class Body>
__global__ void __launch_bounds__(launch::block_threads, resident<Body>())
    run(const __grid_constant__ Body body, std::int64_t groups) {
  if constexpr (Width >= launch::block_threads) {
    block_group<Width> group;
    body(group, static_cast<std::int64_t>(blockIdx.x), groups);
  } else {
    warp_group<Width> group;
    body(group, static_cast<std::int64_t>(blockIdx.x) * (launch::block_threads / Width) + threadIdx.x / Width, groups);
  }
}

[[nodiscard]] inline status failed(const char* function, const char* call, cudaError_t error) {
  static_cast<void>(cudaGetLastError());  // it is reported here, not to whoever asks next
  return {errc::backend, function, call, cudaGetErrorString(error), 0, 0, nullptr};
}

struct iota_body {
  std::int64_t n;
  std::int64_t* order;
  template <class Group>
  __device__ void operator()(Group&, std::int64_t index, std::int64_t count) const {
    for (std::int64_t i = index; i < n; i += count) order[i] = i;
  }
};
template <class T>
struct copy_body {
  std::int64_t n;
  const T* from;
  T* to;
  template <class Group>
  __device__ void operator()(Group&, std::int64_t index, std::int64_t count) const {
    for (std::int64_t i = index; i < n; i += count) to[i] = from[i];
  }
};
struct nan_last {
  template <class T>
  __host__ __device__ bool operator()(const T& a, const T& b) const {
    return a < b || (a == a && b != b);
  }
};

/// Launches on a stream that stays the caller's. Nothing waits but `read` and `synchronize`.
class executor {
 public:
  using space = cuda_space;
  static constexpr bool deterministic = true;
  static constexpr bool synchronous = false;

  executor(cudaStream_t stream = nullptr, cuda_memory memory = {}) : stream_(stream), memory_(memory) {
    if (memory_.allocate == nullptr && memory_.release == nullptr) memory_ = {allocate_async, release_async, nullptr};
    if (memory_.allocate == nullptr || memory_.release == nullptr) {
      trouble_ = remark::null("cuda_backend", memory_.allocate == nullptr ? "memory.allocate" : "memory.release");
      memory_ = {[](void*, std::size_t, cudaStream_t) -> void* { return nullptr; },
                 [](void*, void*, std::size_t, cudaStream_t) {}, nullptr};
    }
  }
  [[nodiscard]] cudaStream_t stream() const { return stream_; }

  template <int Width, class Body>
  [[nodiscard]] status launch(const char* function, std::int64_t groups, const Body& body) {
    if (!trouble_) return trouble_;
    const std::int64_t blocks = launch::blocks(groups, Width);
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(launch::smaller(blocks, launch::most_blocks)));
    config.blockDim = dim3(launch::block_threads);
    config.stream = stream_;
    const cudaError_t error =
        cudaLaunchKernelEx(&config, run<Width, Body>, body, blocks * launch::groups_in_block(Width));
    return error == cudaSuccess ? status{} : failed(function, "cudaLaunchKernelEx", error);
  }

  template <class T>
  [[nodiscard]] cuda_detail::scratch<T> scratch(std::int64_t n) {
    return {memory_, stream_, n};
  }

  template <class T>
  status argsort(std::int64_t n, const T* keys, std::int64_t* order) {
    constexpr const char* name = "argsort";
    if (n <= 0) return {};
    auto sorted = scratch<T>(n);
    if (sorted.data() == nullptr) return remark::memory(name);
    const std::int64_t threads = launch::groups(n, 1, launch::most_map_blocks * launch::block_threads);
    if (auto s = launch<1>(name, threads, iota_body{n, order}); !s) return s;
    if (auto s = launch<1>(name, threads, copy_body<T>{n, keys, sorted.data()}); !s) return s;
    constexpr const char* call = "cub::DeviceMergeSort::StableSortPairs";
    std::size_t bytes = 0;
    cudaError_t error =
        cub::DeviceMergeSort::StableSortPairs(nullptr, bytes, sorted.data(), order, n, nan_last{}, stream_);
    if (error != cudaSuccess) return failed(name, call, error);
    auto temporary = scratch<unsigned char>(static_cast<std::int64_t>(bytes));
    if (temporary.data() == nullptr) return remark::memory(name);
    error =
        cub::DeviceMergeSort::StableSortPairs(temporary.data(), bytes, sorted.data(), order, n, nan_last{}, stream_);
    return error == cudaSuccess ? status{} : failed(name, call, error);
  }

  /// Waits for the stream. What goes wrong here is `trouble`, and the status of every later call.
  template <class T>
  [[nodiscard]] T read(const T* cell) {
    T value{};
    cudaError_t error = cudaMemcpyAsync(&value, cell, sizeof(T), cudaMemcpyDeviceToHost, stream_);
    if (error != cudaSuccess) {
      trouble_ = failed("read", "cudaMemcpyAsync", error);
      return T{};
    }
    error = cudaStreamSynchronize(stream_);
    if (error == cudaSuccess) return value;
    trouble_ = failed("read", "cudaStreamSynchronize", error);
    return T{};
  }
  [[nodiscard]] status trouble() const { return trouble_; }
  /// Waits until all work given so far is done, and tells how it went.
  [[nodiscard]] status synchronize() {
    if (!trouble_) return trouble_;
    const cudaError_t error = cudaStreamSynchronize(stream_);
    return error == cudaSuccess ? status{} : failed("synchronize", "cudaStreamSynchronize", error);
  }

 private:
  cudaStream_t stream_;
  cuda_memory memory_;
  status trouble_{};
};

}  // namespace cuda_detail

/// `cuda_backend be{stream};` runs everything on that stream, which stays the caller's; one object for each stream, used by one
/// thread at a time. `cuda_backend be{stream, memory}` takes scratch memory from the user's allocator (cuda_memory, cuda_arena)
/// instead of cudaMallocAsync.
///
/// No call waits for the device but `read`, which drivers use for statistics that were asked for, and `synchronize`; none
/// allocates but through `memory` (one function of the two: every call is `errc::null`, or `errc::memory` where it needs some); so calls without statistics can be captured into a CUDA graph. Views are of `cuda_space`: a
/// host view does not compile. Errors of the runtime come back as `errc::backend` with the call that failed.
/// The same bits on every run: sums are folded in an order that depends on the sizes alone. No figure has been measured yet.
class cuda_backend : public team_backend<cuda_detail::executor> {
 public:
  cuda_backend(cudaStream_t stream = nullptr, cuda_memory memory = {})
      : team_backend<cuda_detail::executor>(stream, memory) {}
};

static_assert(backend<cuda_backend>);

}  // namespace rlhf::inline v1
