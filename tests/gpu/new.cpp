// Replaces the program's `new` by memory that host and device both see.

#include "gpu/both_sides.hpp"

void* operator new(std::size_t n) {
  if (void* const p = both_sides::allocate(n)) return p;
  throw std::bad_alloc();
}
void* operator new[](std::size_t n) { return operator new(n); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return both_sides::allocate(n); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return both_sides::allocate(n); }
void operator delete(void* p) noexcept { both_sides::release(p); }
void operator delete[](void* p) noexcept { both_sides::release(p); }
void operator delete(void* p, std::size_t) noexcept { both_sides::release(p); }
void operator delete[](void* p, std::size_t) noexcept { both_sides::release(p); }
