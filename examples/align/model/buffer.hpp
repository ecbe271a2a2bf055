#pragma once
// Memory for activations: it only grows, so that a training loop allocates in its first step and never again.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

namespace align {

/// An array aligned to cache lines, with one zeroed cache line behind its end for readers of whole panels.
///
/// `reserve` keeps nothing of the old contents when it grows; new memory is zero.
template <class Scalar>
class buffer {
 public:
  buffer() = default;

  void reserve(std::ptrdiff_t elements) {
    asked_ = elements;
    if (elements <= capacity_) return;
    const std::size_t bytes = (static_cast<std::size_t>(elements) * sizeof(Scalar) + 63) / 64 * 64 + 64;
    memory_.reset();
    capacity_ = 0;
    memory_.reset(static_cast<Scalar*>(::operator new(bytes, std::align_val_t{64})));
    std::memset(static_cast<void*>(memory_.get()), 0, bytes);
    capacity_ = elements;
  }

  [[nodiscard]] Scalar* data() const { return memory_.get(); }
  /// What was last asked for; what is held may be more, from before.
  [[nodiscard]] std::int64_t bytes() const { return asked_ * static_cast<std::int64_t>(sizeof(Scalar)); }

 private:
  struct release {
    void operator()(Scalar* memory) const { ::operator delete(memory, std::align_val_t{64}); }
  };

  std::unique_ptr<Scalar, release> memory_;
  std::ptrdiff_t capacity_ = 0, asked_ = 0;
};

/// Cuts aligned pieces off a buffer.
template <class Scalar>
class arena {
 public:
  explicit arena(Scalar* memory) : next_(memory) {}

  Scalar* take(std::ptrdiff_t elements) {
    Scalar* const piece = next_;
    next_ += rounded(elements);
    return piece;
  }

  /// What a piece costs: whole cache lines.
  static constexpr std::ptrdiff_t rounded(std::ptrdiff_t elements) {
    constexpr auto line = static_cast<std::ptrdiff_t>(64 / sizeof(Scalar));
    return (elements + line - 1) / line * line;
  }

 private:
  Scalar* next_;
};

/// Scratch buffers for the threads of a pool, one each. Whoever starts a piece of work takes the buffer that was used
/// last, which is still in a cache.
template <class Scalar>
class scratch_memory {
 public:
  /// Makes ready for so many threads at once; not while any holds a buffer.
  void reserve(int threads, std::ptrdiff_t elements) {
    buffers_.resize(static_cast<std::size_t>(threads));
    idle_.clear();
    for (auto& memory : buffers_) {
      memory.reserve(elements);
      idle_.push_back(memory.data());
    }
  }

  [[nodiscard]] std::int64_t bytes() const {
    std::int64_t sum = 0;
    for (const auto& memory : buffers_) sum += memory.bytes();
    return sum;
  }

  /// Holds a buffer as long as it lives.
  class lease {
   public:
    explicit lease(scratch_memory& owner) : owner_(owner) {
      const std::lock_guard lock(owner_.mutex_);
      memory_ = owner_.idle_.back();
      owner_.idle_.pop_back();
    }
    ~lease() {
      const std::lock_guard lock(owner_.mutex_);
      owner_.idle_.push_back(memory_);
    }
    lease(const lease&) = delete;
    lease& operator=(const lease&) = delete;

    [[nodiscard]] arena<Scalar> pieces() const { return arena<Scalar>(memory_); }

   private:
    scratch_memory& owner_;
    Scalar* memory_ = nullptr;
  };

 private:
  std::mutex mutex_;
  std::vector<buffer<Scalar>> buffers_;
  std::vector<Scalar*> idle_;
};

}  // namespace align
