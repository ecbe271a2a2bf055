#pragma once
// The CUDA backend as suites for host backends see it: every call is done when it returns, cells and scratch are readable.

#include <memory>
#include <stdexcept>

#include "rlhf/backend/cuda.cuh"

namespace both_sides {

/// A stream that does not wait for the default one, for the program's life.
inline cudaStream_t stream_of_its_own() {
  cudaStream_t stream = nullptr;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess) return stream;
  throw std::runtime_error("cudaStreamCreateWithFlags failed");
}

/// cuda_backend over memory that both sides see (new.cpp). Sequences come with host layouts; the totals may lie anywhere.
class host_view {
 public:
  using space = rlhf::host_space;
  static constexpr bool deterministic = true;
  static constexpr bool synchronous = true;

  explicit host_view(cudaStream_t stream = nullptr) : gpu_(stream) {}

  template <class Kernel>
  rlhf::status map(std::int64_t n, Kernel kernel, rlhf::totals_of<Kernel>* out) {
    return with(out, [&](auto* cell) { return gpu_.map(n, kernel, cell); });
  }
  template <class Kernel>
  rlhf::status segment_map(const rlhf::layout<>& sequences, Kernel kernel, rlhf::totals_of<Kernel>* out) {
    return with(out, [&](auto* cell) { return gpu_.segment_map(on_device(sequences), kernel, cell); });
  }
  template <class Kernel>
  rlhf::status segment_reduce(const rlhf::layout<>& sequences, Kernel kernel) {
    return done(gpu_.segment_reduce(on_device(sequences), kernel));
  }
  template <class Kernel>
  rlhf::status segment_scan(const rlhf::layout<>& sequences, Kernel kernel) {
    return done(gpu_.segment_scan(on_device(sequences), kernel));
  }
  template <class Kernel>
  rlhf::status rows(std::int64_t n, Kernel kernel, rlhf::totals_of<Kernel>* out) {
    return with(out, [&](auto* cell) { return gpu_.rows(n, kernel, cell); });
  }
  template <class T>
  rlhf::status argsort(std::int64_t n, const T* keys, std::int64_t* order) {
    return done(gpu_.argsort(n, keys, order));
  }
  template <class F>
  rlhf::status once(F f) {
    return done(gpu_.once(f));
  }
  template <class T>
  struct scratch_memory {
    std::unique_ptr<T[]> memory;
    [[nodiscard]] T* data() const { return memory.get(); }
  };
  template <class T>
  [[nodiscard]] scratch_memory<T> scratch(std::int64_t n) {
    return {std::make_unique<T[]>(static_cast<std::size_t>(n > 0 ? n : 1))};
  }
  template <class T>
  [[nodiscard]] T read(const T* cell) {
    return *cell;
  }

 private:
  [[nodiscard]] static rlhf::layout<rlhf::cuda_space> on_device(const rlhf::layout<>& s) {
    return {s.offsets, s.sequences, s.width, s.tokens};
  }
  [[nodiscard]] rlhf::status done(const rlhf::status& s) { return s ? gpu_.synchronize() : s; }
  template <class Total, class F>
  [[nodiscard]] rlhf::status with(Total* out, const F& call) {
    if (out == nullptr) return done(call(static_cast<Total*>(nullptr)));
    const auto cell = std::make_unique<Total>();
    const rlhf::status s = done(call(cell.get()));
    if (s) *out = *cell;
    return s;
  }

  rlhf::cuda_backend gpu_;
};

static_assert(rlhf::backend<host_view>);

}  // namespace both_sides
