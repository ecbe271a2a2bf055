#pragma once
// Threads that work off lists of independent pieces, lists within lists included. Who waits for a list works on it.

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace lab {

class crew {
 public:
  explicit crew(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }
  ~crew() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    news_.notify_all();
    for (auto& worker : workers_) worker.join();
  }
  crew(const crew&) = delete;
  crew& operator=(const crew&) = delete;

  /// Calls f(0) ... f(n - 1), each once, in any order and on any thread; returns when all are done. The exception of the
  /// smallest index that threw is thrown on.
  void for_each(std::size_t n, const std::function<void(std::size_t)>& f) {
    const auto list = std::make_shared<pieces>();
    list->total = n;
    list->f = &f;
    std::unique_lock lock(mutex_);
    lists_.push_back(list);
    news_.notify_all();
    while (list->next < list->total) run_one(*list, lock);
    news_.wait(lock, [&] { return list->done == list->total; });
    std::erase(lists_, list);
    lock.unlock();
    if (list->trouble) std::rethrow_exception(list->trouble);
  }

 private:
  struct pieces {
    std::size_t next = 0, done = 0, total = 0, troubled = 0;
    const std::function<void(std::size_t)>* f = nullptr;
    std::exception_ptr trouble;
  };

  void run_one(pieces& list, std::unique_lock<std::mutex>& lock) {
    const std::size_t i = list.next++;
    std::exception_ptr trouble;
    lock.unlock();
    try {
      (*list.f)(i);
    } catch (...) {
      trouble = std::current_exception();
    }
    lock.lock();
    if (trouble && (!list.trouble || i < list.troubled)) {
      list.trouble = trouble;
      list.troubled = i;
    }
    if (++list.done == list.total) news_.notify_all();
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      std::shared_ptr<pieces> open;  // the newest: pieces of a list within a list come first
      for (const auto& list : lists_)
        if (list->next < list->total) open = list;
      if (open) {
        run_one(*open, lock);
      } else if (over_) {
        return;
      } else {
        news_.wait(lock);
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable news_;
  std::vector<std::shared_ptr<pieces>> lists_;
  std::vector<std::thread> workers_;
  bool over_ = false;
};

}  // namespace lab
