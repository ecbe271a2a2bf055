#pragma once
// A pool of threads that belongs to one backend object: nothing global, no OpenMP, no flag on the user.

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace rlhf::inline v1 {

/// A fixed team of threads that runs numbered chunks of work.
///
/// `run(chunks, f)` calls `f(chunk)` once for every `chunk` in `[0, chunks)` on any thread of the team, the calling
/// thread included, and returns when all are done. Which thread takes a chunk is not fixed; results are the same for any
/// number of threads as long as each chunk writes its own cells and the caller folds them in the order of the chunks.
/// One `run` at a time: the pool belongs to one backend object, which belongs to one thread. `f` must not throw.
class thread_pool {
 public:
  /// `threads` counts the caller; 1 (or less) starts no thread at all.
  explicit thread_pool(int threads = 1) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }

  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  ~thread_pool() {
    stopping_.store(true, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  [[nodiscard]] int size() const { return static_cast<int>(workers_.size()) + 1; }

  template <class F>
  void run(std::int64_t chunks, F&& f) {
    if (chunks <= 0) return;
    if (workers_.empty() || chunks == 1) {
      for (std::int64_t chunk = 0; chunk < chunks; ++chunk) f(chunk);
      return;
    }
    using function = std::remove_reference_t<F>;
    call_ = [](void* object, std::int64_t chunk) { (*static_cast<function*>(object))(chunk); };
    object_ = const_cast<void*>(static_cast<const void*>(&f));
    chunks_ = chunks;
    next_.store(0, std::memory_order_relaxed);
    gate_.store(open, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    drain();
    // Whoever is inside finishes its chunk; whoever has not woken up by now is not waited for.
    gate_.fetch_and(~open, std::memory_order_acq_rel);
    for (auto inside = gate_.load(std::memory_order_acquire); inside != 0;
         inside = gate_.load(std::memory_order_acquire))
      gate_.wait(inside, std::memory_order_acquire);
  }

 private:
  static constexpr std::uint32_t open = 1u << 31;

  void drain() {
    for (std::int64_t chunk = next_.fetch_add(1, std::memory_order_relaxed); chunk < chunks_;
         chunk = next_.fetch_add(1, std::memory_order_relaxed))
      call_(object_, chunk);
  }

  [[nodiscard]] bool enter() {
    auto gate = gate_.load(std::memory_order_relaxed);
    while ((gate & open) != 0)
      if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel, std::memory_order_relaxed))
        return true;
    return false;
  }

  void work() {
    for (std::uint32_t seen = 0;;) {
      generation_.wait(seen, std::memory_order_acquire);
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_.load(std::memory_order_acquire)) return;
      if (!enter()) continue;
      drain();
      if (gate_.fetch_sub(1, std::memory_order_acq_rel) == 1) gate_.notify_one();
    }
  }

  std::vector<std::thread> workers_;
  void (*call_)(void*, std::int64_t) = nullptr;
  void* object_ = nullptr;
  std::int64_t chunks_ = 0;
  std::atomic<std::int64_t> next_{0};
  std::atomic<std::uint32_t> generation_{0};
  std::atomic<std::uint32_t> gate_{0};  ///< workers inside the current run, and whether more may enter
  std::atomic<bool> stopping_{false};
};

}  // namespace rlhf::inline v1
