#pragma once
// Counts what is allocated; include in one file of a program.

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

/// Bytes of the largest single allocation and of all since the last reset.
inline std::atomic<std::size_t> largest_allocation = 0, all_allocations = 0;

inline void reset_allocations() { largest_allocation = 0, all_allocations = 0; }

void* operator new(std::size_t bytes) {
  if (bytes > largest_allocation) largest_allocation = bytes;
  all_allocations += bytes;
  if (void* const memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
void* operator new[](std::size_t bytes) { return operator new(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
