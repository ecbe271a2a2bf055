#pragma once
// What the two programs share: device memory with its contents, and what they do without a device.

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "rlhf/core/status.hpp"
#include "rlhf/core/view.hpp"

namespace example {

inline void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}
inline void require(const rlhf::status& s) {
  if (s) return;
  std::fprintf(stderr, "%s\n", s.message().c_str());
  std::exit(1);
}

/// The exit code that says: skipped, there is no device (CTest's SKIP_RETURN_CODE).
inline constexpr int skipped = 77;
[[nodiscard]] inline bool has_device() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) return true;
  std::printf("no CUDA device: skipped\n");
  return false;
}

/// An array on the device. Copies go in the order of a stream.
template <class T>
class array {
 public:
  array(const std::vector<T>& values, cudaStream_t stream) : n_(static_cast<std::int64_t>(values.size())) {
    require(cudaMalloc(&data_, values.size() * sizeof(T)));
    assign(values, stream);
  }
  array(std::size_t n, cudaStream_t stream) : array(std::vector<T>(n), stream) {}
  array(const array&) = delete;
  array& operator=(const array&) = delete;
  ~array() { static_cast<void>(cudaFree(data_)); }

  void assign(const std::vector<T>& values, cudaStream_t stream) {
    require(cudaMemcpyAsync(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, stream));
    require(cudaStreamSynchronize(stream));
  }
  [[nodiscard]] std::vector<T> read(cudaStream_t stream) const {
    std::vector<T> values(static_cast<std::size_t>(n_));
    require(cudaMemcpyAsync(values.data(), data_, values.size() * sizeof(T), cudaMemcpyDeviceToHost, stream));
    require(cudaStreamSynchronize(stream));
    return values;
  }
  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] rlhf::view<T, 1, rlhf::cuda_space> view() const { return {data_, n_}; }
  /// Elements [begin, begin + n).
  [[nodiscard]] rlhf::view<T, 1, rlhf::cuda_space> part(std::int64_t begin, std::int64_t n) const {
    return {data_ + begin, n};
  }

 private:
  std::int64_t n_;
  T* data_ = nullptr;
};

/// Numbers that differ.
[[nodiscard]] inline std::vector<float> numbers(std::int64_t n, float low, float high, std::uint32_t seed) {
  std::vector<float> x(static_cast<std::size_t>(n));
  std::uint32_t state = seed;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    v = low + (high - low) * static_cast<float>(state >> 8) * 0x1p-24f;
  }
  return x;
}

/// How far two arrays are apart, relative to the second.
[[nodiscard]] inline double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double apart = 0, size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    apart += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(apart / size);
}

}  // namespace example
