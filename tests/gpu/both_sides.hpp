#pragma once
// Memory that host and device both see, for suites that were written for host backends: once main has started this header's
// pool, every `new` of the program comes out of it. One piece of managed memory of fixed size, cut by powers of two.

#include <cuda_runtime.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>

namespace both_sides {

class pool {
 public:
  static constexpr std::size_t bytes = std::size_t{1} << 30;
  static constexpr int classes = 31;

  /// Called by main: before it, among static objects, the runtime may not be ready. False without a device.
  bool start() {
    void* memory = nullptr;
    if (cudaMallocManaged(&memory, bytes) != cudaSuccess) return false;
    const std::scoped_lock lock(mutex_);
    base_ = static_cast<unsigned char*>(memory);
    return true;
  }
  /// Null before the start and outside the pool's means: the caller takes ordinary memory.
  [[nodiscard]] void* take(std::size_t n) {
    const std::scoped_lock lock(mutex_);
    const int c = class_of(n);
    if (base_ == nullptr || c >= classes) return nullptr;
    if (block* const b = free_[c]; b != nullptr) {
      free_[c] = b->next;
      return b;
    }
    const std::size_t size = std::size_t{1} << c;
    if (bytes - used_ < size) return nullptr;
    unsigned char* const data = base_ + used_;
    used_ += size;
    return data;
  }
  /// False where it is not the pool's.
  [[nodiscard]] bool give_back(void* p, std::size_t n) {
    auto* const data = static_cast<unsigned char*>(p);
    const std::scoped_lock lock(mutex_);
    if (base_ == nullptr || data < base_ || data >= base_ + bytes) return false;
    auto* const b = static_cast<block*>(p);
    b->next = free_[class_of(n)];
    free_[class_of(n)] = b;
    return true;
  }

 private:
  struct block {
    block* next;
  };
  [[nodiscard]] static int class_of(std::size_t n) {
    constexpr std::size_t least = 64;  // and so aligned to 64
    return static_cast<int>(std::bit_width((n > least ? n : least) - 1));
  }
  std::mutex mutex_;
  unsigned char* base_ = nullptr;
  std::size_t used_ = 0;
  block* free_[classes + 1] = {};
};

/// Never destroyed: memory is given back after main too.
inline pool& the_pool() {
  alignas(pool) static unsigned char place[sizeof(pool)];
  static pool* const one = ::new (place) pool;
  return *one;
}

/// Sizes are kept in front, since not every delete knows them.
[[nodiscard]] inline void* allocate(std::size_t n) {
  constexpr std::size_t front = 64;
  void* memory = the_pool().take(n + front);
  if (memory == nullptr) memory = std::aligned_alloc(front, (n + 2 * front - 1) / front * front);
  if (memory == nullptr) return nullptr;
  *static_cast<std::size_t*>(memory) = n + front;
  return static_cast<unsigned char*>(memory) + front;
}
inline void release(void* p) {
  if (p == nullptr) return;
  void* const memory = static_cast<unsigned char*>(p) - 64;
  if (!the_pool().give_back(memory, *static_cast<std::size_t*>(memory))) std::free(memory);
}

}  // namespace both_sides
