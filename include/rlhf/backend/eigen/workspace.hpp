#pragma once
// Scratch memory that is kept for the next call: fresh pages from the system cost more than the work done in them.

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace rlhf::inline v1 {

/// Blocks of memory that were given back and wait to be used again. Belongs to one backend object, hence to one thread.
///
/// `Isa` keeps the code of translation units with different -m flags apart.
/// It never holds more blocks than were in use at one time: a block that has become too small makes room for its successor.
template <unsigned Isa>
class workspace {
 public:
  static constexpr std::size_t alignment = 64;
  struct block {
    void* data = nullptr;
    std::size_t bytes = 0;
  };

  workspace() = default;
  workspace(const workspace&) = delete;
  workspace& operator=(const workspace&) = delete;
  ~workspace() {
    for (const block& b : free_) release(b);
  }

  /// At least `bytes` bytes; null data when there is no memory.
  [[nodiscard]] block take(std::size_t bytes) {
    std::size_t best = free_.size(), smaller = free_.size();
    for (std::size_t i = 0; i < free_.size(); ++i) {
      const std::size_t size = free_[i].bytes;
      if (size < bytes && (smaller == free_.size() || size > free_[smaller].bytes)) smaller = i;
      // A large block is not spent on a small request.
      if (size >= bytes && size / 8 <= bytes + 512 && (best == free_.size() || size < free_[best].bytes)) best = i;
    }
    if (best < free_.size()) return remove(best);
    if (smaller < free_.size()) release(remove(smaller));
    const std::size_t rounded = (bytes / alignment + 1) * alignment;
    return {::operator new(rounded, std::align_val_t{alignment}, std::nothrow), rounded};
  }
  void give_back(const block& b) {
    if (b.data != nullptr) free_.push_back(b);
  }

 private:
  [[nodiscard]] block remove(std::size_t i) {
    const block b = free_[i];
    free_[i] = free_.back();
    free_.pop_back();
    return b;
  }
  static void release(const block& b) { ::operator delete(b.data, std::align_val_t{alignment}); }

  std::vector<block> free_;
};

/// n elements out of a workspace, given back when this goes; it must not outlive the backend that made it.
template <class T, unsigned Isa>
class workspace_scratch {
 public:
  workspace_scratch(workspace<Isa>& home, std::int64_t n)
      : home_(&home), block_(home.take(sizeof(T) * static_cast<std::size_t>(n > 0 ? n : 1))) {}
  workspace_scratch(workspace_scratch&& other) noexcept : home_(other.home_), block_(other.block_) {
    other.block_ = {};
  }
  workspace_scratch& operator=(workspace_scratch&&) = delete;
  ~workspace_scratch() { home_->give_back(block_); }
  [[nodiscard]] T* data() const { return static_cast<T*>(block_.data); }

 private:
  workspace<Isa>* home_;
  typename workspace<Isa>::block block_;
};

}  // namespace rlhf::inline v1
