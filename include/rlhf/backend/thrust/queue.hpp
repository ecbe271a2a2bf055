#pragma once
// What one Thrust system gives to its backend: an execution policy, memory, and its exceptions as a status.
//
// The system is Thrust's device system. A C++ compiler is told which (-DTHRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_CPP, _OMP or
// _TBB; the CMake target rlhf::thrust does it); under nvcc it is CUDA.

#if !defined(__CUDACC__) && !defined(THRUST_DEVICE_SYSTEM)
#error \
    "rlhf: name Thrust's device system for this compiler: -DTHRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_CPP (or link the CMake target rlhf::thrust)"
#endif

#include <thrust/execution_policy.h>
#include <thrust/memory.h>

#include <cstddef>
#include <cstdint>
#include <new>

#if defined(__cpp_exceptions)
#include <thrust/system_error.h>  // does not compile without exceptions
#endif
#if THRUST_DEVICE_SYSTEM == THRUST_DEVICE_SYSTEM_CUDA
#include <thrust/system/cuda/execution_policy.h>
#endif

#include "rlhf/core/status.hpp"
#include "rlhf/core/view.hpp"

namespace rlhf::inline v1::thrust_detail {

/// How work is given to a Thrust system, and which memory it reads. Host systems need no more than their tag.
template <class System>
struct queue {
  using space = host_space;
  static constexpr bool deterministic =
      THRUST_DEVICE_SYSTEM != THRUST_DEVICE_SYSTEM_TBB;  // which splits as threads are free

  [[nodiscard]] System policy() const { return {}; }
  template <class T>
  [[nodiscard]] T read(const T* cell) const {
    return *cell;
  }
  [[nodiscard]] status trouble() const { return {}; }
  [[nodiscard]] static const char* words(int) { return "failed"; }
};

#if THRUST_DEVICE_SYSTEM == THRUST_DEVICE_SYSTEM_CUDA
/// On CUDA work goes into a stream that stays the caller's.
template <>
struct queue<thrust::cuda_cub::tag> {
  using space = cuda_space;
  static constexpr bool deterministic = true;
  cudaStream_t stream = nullptr;
  cudaError_t failed = cudaSuccess;  // of the last read that failed

  [[nodiscard]] auto policy() const { return thrust::cuda::par_nosync.on(stream); }
  template <class T>
  [[nodiscard]] T read(const T* cell) {
    T value{};
    cudaError_t error = cudaMemcpyAsync(&value, cell, sizeof(T), cudaMemcpyDeviceToHost, stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
    if (error == cudaSuccess) return value;
    static_cast<void>(cudaGetLastError());  // it is reported here, not to whoever asks next
    failed = error;
    return T{};
  }
  [[nodiscard]] status trouble() const {
    return failed == cudaSuccess ? status{} : status{errc::backend, "read", "Thrust", words(failed), 0, 0, nullptr};
  }
  [[nodiscard]] static const char* words(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
};
#endif

/// Runs f; what Thrust throws becomes a status.
template <class Queue, class F>
[[nodiscard]] status guarded([[maybe_unused]] const char* function, F&& f) {
#if defined(__cpp_exceptions)
  try {
    f();
  } catch (const std::bad_alloc&) {
    return remark::memory(function);
  } catch (const thrust::system_error& e) {
    return {errc::backend, function, "Thrust", Queue::words(e.code().value()), 0, 0, nullptr};
  }
#else
  f();
#endif
  return {};
}

/// Scratch memory of a Thrust system; null when the memory could not be had.
template <class T, class Queue>
class scratch {
 public:
  scratch(const Queue& queue, std::int64_t n) : queue_(queue) {
    const status got = guarded<Queue>("scratch", [&] {
      data_ = thrust::raw_pointer_cast(thrust::malloc<T>(queue_.policy(), static_cast<std::size_t>(n > 0 ? n : 1)));
    });
    if (!got) data_ = nullptr;
  }
  scratch(scratch&& other) noexcept : queue_(other.queue_), data_(other.data_) { other.data_ = nullptr; }
  scratch& operator=(scratch&&) = delete;
  ~scratch() {
    if (data_ != nullptr) static_cast<void>(guarded<Queue>("scratch", [&] { thrust::free(queue_.policy(), data_); }));
  }
  [[nodiscard]] T* data() const { return data_; }

 private:
  Queue queue_;
  T* data_ = nullptr;
};

}  // namespace rlhf::inline v1::thrust_detail
