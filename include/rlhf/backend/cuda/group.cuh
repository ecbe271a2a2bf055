#pragma once
// Groups of CUDA threads, on CUB: a block, or a part of a warp. What they offer: backend/team/group.hpp.

#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/util_ptx.cuh>
#include <cub/warp/warp_reduce.cuh>
#include <cub/warp/warp_scan.cuh>

#include "rlhf/backend/team/group.hpp"

namespace rlhf::inline v1::cuda_detail {

/// An X of each thread, in its registers.
template <class X>
struct in_registers {
  X x;
  [[nodiscard]] __device__ __forceinline__ X& operator[](int) { return x; }
};

/// N of X for each of `Groups` groups of a block, in its shared memory.
template <class X, int N, int Groups>
struct in_shared {
  [[nodiscard]] __device__ __forceinline__ X* data() const {
    __shared__ X x[static_cast<unsigned>(N * Groups)];
    return x + (Groups > 1 ? static_cast<int>(threadIdx.x) / (256 / Groups) * N : 0);
  }
};

/// All threads of a block.
template <int Width>
struct block_group {
  static constexpr int width = Width;
  template <class X>
  using per = in_registers<X>;
  template <class X, int N>
  using common = in_shared<X, N, 1>;

  template <class F>
  __device__ __forceinline__ void run(F&& f) const {
    f(static_cast<int>(threadIdx.x));
  }
  __device__ __forceinline__ void barrier() const { __syncthreads(); }
  template <class F>
  __device__ __forceinline__ void once(F&& f) const {
    if (threadIdx.x == 0) f();
  }
  template <class X, class Merge>
  [[nodiscard]] __device__ __forceinline__ X fold(per<X>& x, const Merge& merge) const {
    using reduce = cub::BlockReduce<X, Width>;
    struct shared {
      typename reduce::TempStorage temporary;
      X result;
    };
    __shared__ cub::Uninitialized<shared> memory;
    shared& mine = memory.Alias();
    const X all = reduce(mine.temporary).Reduce(x.x, merge);
    if (threadIdx.x == 0) mine.result = all;
    __syncthreads();
    const X result = mine.result;
    __syncthreads();  // the memory may be used again
    return result;
  }
  template <class X, class Compose>
  [[nodiscard]] __device__ __forceinline__ X scan(per<X>& x, const X& identity, const Compose& compose) const {
    using exclusive = cub::BlockScan<X, Width, cub::BLOCK_SCAN_WARP_SCANS>;
    __shared__ typename exclusive::TempStorage temporary;
    X before, all;
    exclusive(temporary).ExclusiveScan(x.x, before, identity, compose, all);
    __syncthreads();
    x.x = before;
    return all;
  }
  template <class X>
  [[nodiscard]] __device__ __forceinline__ X shift(per<X>& x, const X& before) const {
    __shared__ X all[Width];
    all[threadIdx.x] = x.x;
    __syncthreads();
    const X last = all[Width - 1];
    x.x = threadIdx.x == 0 ? before : all[threadIdx.x - 1];
    __syncthreads();
    return last;
  }
};

/// `Width` neighbouring threads of a warp, Width a power of 2 up to 32.
template <int Width>
struct warp_group {
  static constexpr int width = Width;
  template <class X>
  using per = in_registers<X>;
  template <class X, int N>
  using common = in_shared<X, N, 256 / Width>;

  template <class F>
  __device__ __forceinline__ void run(F&& f) const {
    f(lane());
  }
  __device__ __forceinline__ void barrier() const { __syncwarp(members()); }
  template <class F>
  __device__ __forceinline__ void once(F&& f) const {
    if (lane() == 0) f();
  }
  template <class X, class Merge>
  [[nodiscard]] __device__ __forceinline__ X fold(per<X>& x, const Merge& merge) const {
    using reduce = cub::WarpReduce<X, Width>;
    __shared__ typename reduce::TempStorage temporary[256 / Width];
    const X all = reduce(temporary[threadIdx.x / Width]).Reduce(x.x, merge);
    return cub::ShuffleIndex<Width>(all, 0, members());
  }
  template <class X, class Compose>
  [[nodiscard]] __device__ __forceinline__ X scan(per<X>& x, const X& identity, const Compose& compose) const {
    using exclusive = cub::WarpScan<X, Width>;
    __shared__ typename exclusive::TempStorage temporary[256 / Width];
    X before, all;
    exclusive(temporary[threadIdx.x / Width]).ExclusiveScan(x.x, before, identity, compose, all);
    barrier();
    x.x = before;
    return all;
  }
  template <class X>
  [[nodiscard]] __device__ __forceinline__ X shift(per<X>& x, const X& before) const {
    const X last = cub::ShuffleIndex<Width>(x.x, Width - 1, members());
    const X other = cub::ShuffleUp<Width>(x.x, 1, 0, members());
    x.x = lane() == 0 ? before : other;
    return last;
  }

 private:
  [[nodiscard]] static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % Width; }
  [[nodiscard]] static __device__ __forceinline__ unsigned members() {
    if constexpr (Width == 32)
      return 0xffffffffu;
    else
      return ((1u << Width) - 1u) << (threadIdx.x % 32 / Width * Width);
  }
};
/// One thread is its own twin.
template <>
struct warp_group<1> : serial_group<1> {};

}  // namespace rlhf::inline v1::cuda_detail
