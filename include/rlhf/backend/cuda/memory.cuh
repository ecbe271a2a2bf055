#pragma once
// Scratch memory in the order of a stream, from the runtime's pool or from wherever the user says.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "rlhf/core/status.hpp"

namespace rlhf::inline v1 {

/// Where a cuda_backend takes scratch memory from. Both functions are called on the host and work in the order of the stream:
/// memory given back may still be read by work that is queued, and may be handed out again for later work on that stream.
/// `allocate` gives null when there is none, aligned to 256 bytes otherwise. They must not wait for the device.
struct cuda_memory {
  void* (*allocate)(void* self, std::size_t bytes, cudaStream_t stream) = nullptr;
  void (*release)(void* self, void* memory, std::size_t bytes, cudaStream_t stream) = nullptr;
  void* self = nullptr;
};

/// A piece of device memory that serves one backend, so that calls allocate nothing. Calls give back all they took, mostly in the
/// reverse order; what lies below something still held is used again when that goes.
///
/// `cuda_arena arena(pointer, bytes); cuda_backend be{stream, arena.memory()};` The arena must outlive the backend's calls. Of a
/// pointer that is no multiple of 256 the bytes up to the next one are left out.
class cuda_arena {
 public:
  cuda_arena(void* data, std::size_t bytes) : data_(static_cast<unsigned char*>(data)), bytes_(bytes) {
    const std::size_t over = reinterpret_cast<std::uintptr_t>(data) % unit, skipped = over > 0 ? unit - over : 0;
    data_ += skipped < bytes_ ? skipped : bytes_;
    bytes_ -= skipped < bytes_ ? skipped : bytes_;
  }
  cuda_arena(const cuda_arena&) = delete;
  cuda_arena& operator=(const cuda_arena&) = delete;

  [[nodiscard]] cuda_memory memory() {
    return {[](void* self, std::size_t bytes, cudaStream_t) { return static_cast<cuda_arena*>(self)->take(bytes); },
            [](void* self, void* memory, std::size_t bytes, cudaStream_t) {
              static_cast<cuda_arena*>(self)->put_back(memory, bytes);
            },
            this};
  }
  /// The most that was in use at a time: how large the piece should have been.
  [[nodiscard]] std::size_t peak() const { return peak_; }

 private:
  static constexpr std::size_t unit = 256;
  [[nodiscard]] static std::size_t rounded(std::size_t bytes) { return (bytes + unit - 1) / unit * unit; }
  void* take(std::size_t bytes) {
    const std::size_t begin = used_;
    peak_ = begin + rounded(bytes) > peak_ ? begin + rounded(bytes) : peak_;
    if (rounded(bytes) > bytes_ - begin) return nullptr;
    used_ += rounded(bytes);
    ++held_;
    return data_ + begin;
  }
  void put_back(void* memory, std::size_t bytes) {
    if (--held_ == 0)
      used_ = 0;
    else if (static_cast<unsigned char*>(memory) + rounded(bytes) == data_ + used_)
      used_ -= rounded(bytes);
  }

  unsigned char* data_;
  std::size_t bytes_, used_ = 0, peak_ = 0, held_ = 0;
};

namespace cuda_detail {

/// The runtime's own pool of the current device.
inline void* allocate_async(void*, std::size_t bytes, cudaStream_t stream) {
  void* memory = nullptr;
  if (cudaMallocAsync(&memory, bytes, stream) == cudaSuccess) return memory;
  static_cast<void>(cudaGetLastError());  // reported as errc::memory, not to the next caller
  return nullptr;
}
inline void release_async(void*, void* memory, std::size_t, cudaStream_t stream) {
  static_cast<void>(cudaFreeAsync(memory, stream));
}

/// Owns scratch memory until the work that is queued by then is done with it.
template <class T>
class scratch {
 public:
  scratch(const cuda_memory& from, cudaStream_t stream, std::int64_t n)
      : from_(from), stream_(stream), bytes_(sizeof(T) * static_cast<std::size_t>(n > 0 ? n : 1)) {
    data_ = static_cast<T*>(from_.allocate(from_.self, bytes_, stream_));
  }
  scratch(scratch&& other) noexcept
      : from_(other.from_), stream_(other.stream_), bytes_(other.bytes_), data_(other.data_) {
    other.data_ = nullptr;
  }
  scratch& operator=(scratch&&) = delete;
  ~scratch() {
    if (data_ != nullptr) from_.release(from_.self, data_, bytes_, stream_);
  }
  [[nodiscard]] T* data() const { return data_; }

 private:
  cuda_memory from_;
  cudaStream_t stream_;
  std::size_t bytes_;
  T* data_ = nullptr;
};

}  // namespace cuda_detail

}  // namespace rlhf::inline v1
