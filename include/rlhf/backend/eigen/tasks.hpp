#pragma once
// Who does the chunks of a call: the calling thread alone while that is quick, all threads beyond.

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "rlhf/backend/thread_pool.hpp"

namespace rlhf::inline v1 {

/// Runs numbered chunks. Where nobody knows beforehand what they cost the first ones are timed; when the rest is worth the
/// waking of other threads it is handed out in tasks of several chunks. Results must not depend on who runs a chunk.
class tasks {
  using clock = std::chrono::steady_clock;

 public:
  /// `patience`: how long one thread works alone before others are woken; work that would be done in twice that stays there.
  tasks(int threads, std::chrono::nanoseconds patience) : pool_(threads), patience_(patience) {}
  [[nodiscard]] int threads() const { return pool_.size(); }

  template <class F>
  void run(std::int64_t chunks, const F& f) {
    std::int64_t done = 0;
    if (pool_.size() > 1) {
      const clock::time_point start = clock::now();
      for (std::int64_t look = 1; done < chunks;
           look *= 2) {  // the clock is not read for each chunk: they may be small
        for (; done < std::min(look, chunks); ++done) f(done);
        const auto spent = clock::now() - start;
        if (spent < patience_) continue;
        share(done, chunks, std::max<std::int64_t>(1, spent.count() / done), f);
        return;
      }
    }
    for (; done < chunks; ++done) f(done);
  }
  /// The same where the cost of a chunk is known, roughly.
  template <class F>
  void run(std::int64_t chunks, std::int64_t nanoseconds_each, const F& f) {
    if (pool_.size() > 1) {
      share(0, chunks, std::max<std::int64_t>(1, nanoseconds_each), f);
      return;
    }
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) f(chunk);
  }

 private:
  template <class F>
  void share(std::int64_t done, std::int64_t chunks, std::int64_t nanoseconds_each, const F& f) {
    const std::int64_t left = chunks - done;
    if (left * nanoseconds_each < patience_.count()) {
      for (; done < chunks; ++done) f(done);
      return;
    }
    // Tasks long enough that taking one costs nothing, short enough that no thread waits long for the last.
    constexpr std::int64_t long_enough = 50'000;
    const std::int64_t most = std::max<std::int64_t>(1, left / (4 * pool_.size()));
    const std::int64_t size = std::clamp<std::int64_t>(long_enough / nanoseconds_each, 1, most);
    pool_.run((left + size - 1) / size, [&](std::int64_t task) {
      const std::int64_t first = done + task * size, last = std::min(first + size, chunks);
      for (std::int64_t chunk = first; chunk < last; ++chunk) f(chunk);
    });
  }

  thread_pool pool_;
  std::chrono::nanoseconds patience_;
};

}  // namespace rlhf::inline v1
