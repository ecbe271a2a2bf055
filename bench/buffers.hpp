#pragma once
// Large arrays with contents that compilers cannot see through, and plain loops as measures of the machine.

#include <cstdint>
#include <new>
#include <vector>

#include "rlhf/backend/thread_pool.hpp"
#include "rlhf/core/numeric.hpp"
#include "rlhf/math/random.hpp"

namespace bench {

/// Arrays begin where those of the trainers' frameworks do, on a cache line: a wide load that straddles two costs double, on
/// both sides of a ratio.
template <class T>
struct on_cache_lines {
  using value_type = T;
  static constexpr std::align_val_t line{64};

  on_cache_lines() = default;
  template <class U>
  on_cache_lines(const on_cache_lines<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), line)); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, line); }
  bool operator==(const on_cache_lines&) const = default;
};
template <class T>
using buffer = std::vector<T, on_cache_lines<T>>;

/// Numbers in [low, high) from a cheap generator: what matters is that they differ.
inline void fill(buffer<float>& x, float low, float high, std::uint32_t seed) {
  std::uint32_t state = seed * 2654435761u + 1;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    v = low + (high - low) * static_cast<float>(state >> 8) * 0x1p-24f;
  }
}

/// Calls f(begin, end) for parts of [0, n) on all threads of a pool.
template <class F>
void in_parallel(rlhf::thread_pool& pool, std::int64_t n, F&& f) {
  const std::int64_t parts = pool.size() == 1 ? 1 : 64, each = (n + parts - 1) / parts;
  pool.run(parts, [&](std::int64_t part) { f(part * each, part * each + each < n ? part * each + each : n); });
}

/// Reads everything once: the sum of the words, in enough accumulators to be bound by memory.
[[nodiscard]] std::uint32_t stream_read(const void* bytes, std::int64_t words);
/// d = a + b * c.
void triad(float* d, const float* a, const float* b, const float* c, std::int64_t n);
/// x *= factor, in place.
void scale(float* x, float factor, std::int64_t n);
void scale(rlhf::bfloat16* x, std::int64_t n);
/// PPO's clipped loss and gradient as one writes it by hand, one token after the other.
[[nodiscard]] double hand_written_ppo(const float* logp, const float* old_logp, const float* advantage, float* gradient,
                                      std::int64_t n);

}  // namespace bench
