#pragma once
// What the GPU benches share: arrays on the device, and contests with their bytes, operations and goals.

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rlhf/backend/cuda.cuh"

namespace gpu_bench {

/// Programs end where the device fails: a figure after an error would be none.
inline void require(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "rlhf-gpu-bench: %s: %s\n", call, cudaGetErrorString(error));
  std::exit(1);
}
inline void require(const rlhf::status& s) {
  if (s) return;
  std::fprintf(stderr, "rlhf-gpu-bench: %s\n", s.message().c_str());
  std::exit(1);
}
inline void require(cublasStatus_t s, const char* call) {
  if (s == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "rlhf-gpu-bench: %s: %s\n", call, cublasGetStatusString(s));
  std::exit(1);
}

/// Numbers that differ, from their place alone.
__host__ __device__ inline float mixed(std::int64_t i, std::uint32_t seed) {
  auto x = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return static_cast<float>((x ^ (x >> 31)) >> 40) * 0x1p-24f;
}

template <class T>
__global__ void fill_kernel(T* out, std::int64_t n, float low, float high, std::uint32_t seed) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step)
    out[i] = T(low + (high - low) * mixed(i, seed));
}

/// n elements of device memory.
template <class T>
class array {
 public:
  explicit array(std::int64_t n) : n_(n) {
    void* p = nullptr;
    require(cudaMalloc(&p, static_cast<std::size_t>(n) * sizeof(T)), "cudaMalloc");
    data_ = std::shared_ptr<T>(static_cast<T*>(p), [](T* q) { static_cast<void>(cudaFree(q)); });
    require(cudaMemset(p, 0xff, bytes()), "cudaMemset");  // NaN: what nobody wrote is seen
  }
  array(std::int64_t n, float low, float high, std::uint32_t seed) : array(n) {
    fill_kernel<T><<<2048, 256>>>(data(), n, low, high, seed);
    require(cudaGetLastError(), "fill_kernel");
  }
  explicit array(const std::vector<T>& values) : array(static_cast<std::int64_t>(values.size())) {
    require(cudaMemcpy(data(), values.data(), bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  [[nodiscard]] T* data() const { return data_.get(); }
  [[nodiscard]] std::int64_t size() const { return n_; }
  [[nodiscard]] std::size_t bytes() const { return static_cast<std::size_t>(n_) * sizeof(T); }
  [[nodiscard]] rlhf::view<T, 1, rlhf::cuda_space> view() const { return {data(), n_}; }
  [[nodiscard]] rlhf::view<const T, 1, rlhf::cuda_space> input() const { return {data(), n_}; }
  [[nodiscard]] std::vector<unsigned char> download() const {
    std::vector<unsigned char> host(bytes());
    require(cudaMemcpy(host.data(), data(), bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return host;
  }

 private:
  std::int64_t n_;
  std::shared_ptr<T> data_;
};

/// The device of a run: one stream, the backend on it, cuBLAS on it.
struct device {
  cudaStream_t stream = nullptr;
  cublasHandle_t cublas = nullptr;
  rlhf::cuda_backend backend;

  device() : stream(make_stream()), backend(stream) {
    require(cublasCreate(&cublas), "cublasCreate");
    require(cublasSetStream(cublas, stream), "cublasSetStream");
    // Scratch memory stays with the pool between calls, as it does in a trainer.
    cudaMemPool_t pool = nullptr;
    require(cudaDeviceGetDefaultMemPool(&pool, 0), "cudaDeviceGetDefaultMemPool");
    std::uint64_t all = ~std::uint64_t{0};
    require(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "cudaMemPoolSetAttribute");
  }
  device(const device&) = delete;
  device& operator=(const device&) = delete;

 private:
  [[nodiscard]] static cudaStream_t make_stream() {
    cudaStream_t s = nullptr;
    require(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    return s;
  }
};

enum class ceiling {
  copy,    ///< bytes at the rate of a large device-to-device copy
  product  ///< the time of the bare products beside it (`bare`)
};

/// One row of the table.
struct contest {
  std::string name;
  ceiling against = ceiling::copy;
  double bytes = 0;               ///< that must move: each input read once, each output written once
  double operations = 0;          ///< of the products
  double goal = 0;                ///< copy: at least this share of the rate; product: at most this multiple of the time
  std::function<void()> run;      ///< queues the work once
  std::function<void()> bare{};   ///< product: what it is measured against
  std::function<void()> reset{};  ///< before each run, untimed: puts back what a run in place overwrites
  std::function<std::vector<unsigned char>()> outputs{};  ///< what ten runs must give alike
};

using contests = std::vector<contest>;

/// Sizes are divided by this: 1 for the table, more for a quick look or a sanitizer.
void add_logits(contests& all, device& d, std::int64_t divisor);
void add_tokens(contests& all, device& d, std::int64_t divisor);
void add_sequences(contests& all, device& d, std::int64_t divisor);
void add_linear(contests& all, device& d, std::int64_t divisor);

[[nodiscard]] inline std::vector<unsigned char> joined(std::initializer_list<std::vector<unsigned char>> parts) {
  std::vector<unsigned char> all;
  for (const auto& p : parts) all.insert(all.end(), p.begin(), p.end());
  return all;
}

}  // namespace gpu_bench
