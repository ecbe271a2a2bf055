// In a file of its own, so that no compiler pairs these with the calls that it sees.

#include "allocation.hpp"

#include <cstdlib>
#include <new>

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
