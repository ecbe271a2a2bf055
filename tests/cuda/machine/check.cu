// The machine itself: what kernels may not do is found, what they may do is not, and instructions that the library's kernels use in few
// places do what the manual says. Each case is a process of its own, since a fault is for ever.

#include <cuda_runtime.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

void require(bool right, const char* what) {
  if (right) return;
  std::printf("wrong: %s\n", what);
  std::fflush(stdout);
  std::_Exit(3);
}
template <class T>
T* on_device(int n) {
  void* p = nullptr;
  require(cudaMalloc(&p, static_cast<size_t>(n) * sizeof(T)) == cudaSuccess, "cudaMalloc");
  return static_cast<T*>(p);
}
template <class T>
T* zeros(int n) {
  T* const p = on_device<T>(n);
  require(cudaMemset(p, 0, static_cast<size_t>(n) * sizeof(T)) == cudaSuccess, "cudaMemset");
  return p;
}
template <class T>
T read(const T* p, int i = 0) {
  T x{};
  require(cudaMemcpy(&x, p + i, sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess, "cudaMemcpy");
  return x;
}
void done() { require(cudaDeviceSynchronize() == cudaSuccess, "a fault"); }

__global__ void fill(int* to, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) to[i] = i;
}
__global__ void sum_of_two(const int* from, int* to) { to[0] = from[0] + from[1]; }
__global__ void by_fours(const float* from, float* to) {
  float x, y, z, w;
  asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(x), "=f"(y), "=f"(z), "=f"(w) : "l"(from));
  *to = x + y + z + w;
}
/// Each thread takes what its neighbour put down.
template <bool Barrier>
__global__ void neighbours(int* to) {
  __shared__ int held[64];
  held[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (Barrier) __syncthreads();
  to[threadIdx.x] = held[(threadIdx.x + 1) % 64];
}
template <bool Barrier>
__global__ void neighbours_in_a_warp(int* to) {
  __shared__ int held[32];
  held[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (Barrier) __syncwarp();
  to[threadIdx.x] = held[(threadIdx.x + 1) % 32];
}
__global__ void number_of_block(int* to) { *to = static_cast<int>(blockIdx.x); }
__global__ void the_same_of_all(int* to) { *to = 7; }
__global__ void overtaking(int* x) {
  if (threadIdx.x == 40) x[0] = 1;
  if (threadIdx.x == 3) x[1] = x[0];
}
__global__ void half_at_a_barrier(int* to) {
  if (threadIdx.x < 16) {
    __syncthreads();
    to[threadIdx.x] = 1;
  } else {
    to[threadIdx.x] = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x), 0);
  }
}
__global__ void __launch_bounds__(64) of_64(int* to) { to[threadIdx.x] = 1; }

__device__ __noinline__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
__device__ __noinline__ void turned(int* list, int n) {
  for (int i = 0; i < n / 2; ++i) {
    const int x = list[i];
    list[i] = list[n - 1 - i];
    list[n - 1 - i] = x;
  }
}
__global__ void calls(int* to, int n) {
  int own[8];
  for (int i = 0; i < 8; ++i) own[i] = i * n;
  turned(own, n);
  to[threadIdx.x] = fibonacci(static_cast<int>(threadIdx.x)) * 1000 + own[threadIdx.x % 8];
}

__global__ void instructions(std::uint32_t* to, std::uint32_t a, std::uint32_t b, float x, float nan) {
  asm("prmt.b32 %0, %1, %2, 0x8276;" : "=r"(to[0]) : "r"(a), "r"(b));                    // its digit 8 spreads a sign
  asm("lop3.b32 %0, %1, %2, %3, 0xe8;" : "=r"(to[1]) : "r"(a), "r"(b), "r"(a ^ 0xffu));  // the majority
  asm("shr.s32 %0, %1, 40;" : "=r"(to[2]) : "r"(0x80000000u));
  asm("shl.b32 %0, %1, 32;" : "=r"(to[3]) : "r"(a));
  asm("mul.hi.u32 %0, %1, %2;" : "=r"(to[4]) : "r"(a), "r"(b));
  asm("shf.l.wrap.b32 %0, %1, %2, 8;" : "=r"(to[5]) : "r"(a), "r"(b));
  asm("cvt.rni.s32.f32 %0, %1;" : "=r"(to[6]) : "f"(x));
  asm("cvt.rzi.s32.f32 %0, %1;" : "=r"(to[7]) : "f"(nan));
  asm("{.reg .f32 y; max.f32 y, %1, %2; mov.b32 %0, y;}" : "=r"(to[8]) : "f"(x), "f"(nan));
  asm("{.reg .f32 y; cvt.sat.f32.f32 y, %1; mov.b32 %0, y;}" : "=r"(to[9]) : "f"(nan));
  asm("{.reg .f32 y; max.NaN.f32 y, %1, %2; mov.b32 %0, y;}" : "=r"(to[10]) : "f"(x), "f"(nan));
  // Rounded towards 0, downwards, and then to nearest again: a sum of 0 would be -0 downwards.
  const float tiny = x * 0x1p-25f, zero = x - 2.5f;
  asm("{.reg .f32 y; add.rz.f32 y, %1, %2; mov.b32 %0, y;}" : "=r"(to[11]) : "f"(1.0f), "f"(tiny));
  asm("{.reg .f32 y; fma.rm.f32 y, %1, %2, %3; mov.b32 %0, y;}" : "=r"(to[12]) : "f"(-1.0f), "f"(1.0f), "f"(-tiny));
  asm("{.reg .f32 y; add.f32 y, %1, %2; mov.b32 %0, y;}" : "=r"(to[13]) : "f"(1.0f), "f"(tiny));
  asm("{.reg .f32 y; sub.f32 y, %1, %2; mov.b32 %0, y;}" : "=r"(to[14]) : "f"(zero), "f"(zero));
}
__global__ void shuffles(int* to) {
  const int lane = static_cast<int>(threadIdx.x);
  to[lane] = __shfl_up_sync(0xffffffffu, lane, 3, 8);
  to[32 + lane] = __shfl_down_sync(0xffffffffu, lane, 3, 8);
  to[64 + lane] = __shfl_xor_sync(0xffffffffu, lane, 5);
  to[96 + lane] = __shfl_sync(0xffffffffu, lane, 2, 8);
  to[128 + lane] = static_cast<int>(__ballot_sync(0xffffffffu, lane % 3 == 0));
}

struct example {
  const char* name;
  void (*run)();
  const char* fault;  ///< what is printed of it; null: none
};

const example examples[] = {
    {"a grid that fits",
     [] {
       int* const x = on_device<int>(1000);
       fill<<<4, 256>>>(x, 1000);
       done();
       require(read(x, 999) == 999, "999");
     },
     nullptr},
    {"an element too many",
     [] {
       fill<<<4, 256>>>(on_device<int>(1000), 1001);
       cudaDeviceSynchronize();
     },
     "4 bytes beyond a piece of 4000"},
    {"memory of the host",
     [] {
       static int x[4];
       fill<<<1, 4>>>(x, 4);
       cudaDeviceSynchronize();
     },
     "not memory of the device"},
    {"a null pointer",
     [] {
       fill<<<1, 1>>>(nullptr, 1);
       cudaDeviceSynchronize();
     },
     "a null pointer"},
    {"memory that was given back",
     [] {
       int* const x = on_device<int>(4);
       cudaFree(x);
       fill<<<1, 4>>>(x, 4);
       cudaDeviceSynchronize();
     },
     "memory"},
    {"memory that nobody wrote",
     [] {
       int* const x = on_device<int>(2);
       require(cudaMemset(x, 0, 4) == cudaSuccess, "cudaMemset");
       sum_of_two<<<1, 1>>>(x, zeros<int>(1));
       cudaDeviceSynchronize();
     },
     "nobody has written"},
    {"16 bytes at 4",
     [] {
       by_fours<<<1, 1>>>(zeros<float>(8) + 1, zeros<float>(1));
       cudaDeviceSynchronize();
     },
     "not aligned to 16"},
    {"16 bytes at 16",
     [] {
       by_fours<<<1, 1>>>(zeros<float>(8) + 4, zeros<float>(1));
       done();
     },
     nullptr},
    {"a neighbour's number, no barrier",
     [] {
       neighbours<false><<<1, 64>>>(on_device<int>(64));
       cudaDeviceSynchronize();
     },
     "of shared memory, and no barrier"},
    {"a neighbour's number",
     [] {
       int* const x = on_device<int>(64);
       neighbours<true><<<1, 64>>>(x);
       done();
       require(read(x, 63) == 0 && read(x, 5) == 6, "6");
     },
     nullptr},
    {"a neighbour's number in a warp, no barrier",
     [] {
       neighbours_in_a_warp<false><<<1, 32>>>(on_device<int>(32));
       cudaDeviceSynchronize();
     },
     "of shared memory, and no barrier"},
    {"a neighbour's number in a warp",
     [] {
       neighbours_in_a_warp<true><<<1, 32>>>(on_device<int>(32));
       done();
     },
     nullptr},
    {"two blocks, two numbers, one place",
     [] {
       number_of_block<<<2, 1>>>(on_device<int>(1));
       cudaDeviceSynchronize();
     },
     "has written this byte of global memory"},
    {"all threads, one number, one place",
     [] {
       the_same_of_all<<<2, 64>>>(on_device<int>(1));
       done();
     },
     nullptr},
    {"a warp that reads what another writes",
     [] {
       overtaking<<<1, 64>>>(zeros<int>(2));
       cudaDeviceSynchronize();
     },
     "this byte of global memory, and no barrier"},
    {"a barrier that not all reach",
     [] {
       half_at_a_barrier<<<1, 32>>>(on_device<int>(32));
       cudaDeviceSynchronize();
     },
     "waits for threads that do not come"},
    {"more threads than the kernel has registers for",
     [] {
       of_64<<<1, 65>>>(on_device<int>(65));
       require(cudaGetLastError() == cudaErrorInvalidConfiguration, "no error");
     },
     nullptr},
    {"a stream nobody waits for has done nothing",
     [] {
       int* const x = zeros<int>(4);
       cudaStream_t s = nullptr;
       require(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess, "cudaStreamCreateWithFlags");
       fill<<<1, 4, 0, s>>>(x, 4);
       require(read(x, 3) == 0, "done before anybody asked");
       require(cudaStreamSynchronize(s) == cudaSuccess && read(x, 3) == 3, "3");
     },
     nullptr},
    {"functions, recursion and arrays of a thread's own",
     [] {
       int* const x = on_device<int>(12);
       calls<<<1, 12>>>(x, 8);
       done();
       require(read(x, 11) == 89 * 1000 + 8 * (7 - 3), "fibonacci(11) and the fifth of eight");
     },
     nullptr},
    {"instructions",
     [] {
       std::uint32_t* const x = on_device<std::uint32_t>(15);
       const float infinite = HUGE_VALF;
       instructions<<<1, 1>>>(x, 0x11223384u, 0x556677a8u, 2.5f, infinite - infinite);
       done();
       const std::uint32_t want[] = {
           0xff225566u,
           (0x11223384u & 0x556677a8u) | ((0x11223384u ^ 0xffu) & (0x11223384u | 0x556677a8u)),
           0xffffffffu,
           0,
           static_cast<std::uint32_t>(std::uint64_t{0x11223384u} * 0x556677a8u >> 32),
           0x6677a811u,
           2,
           0,
           0x40200000u,
           0};
       for (int k = 0; k < 10; ++k)
         if (read(x, k) != want[k]) {
           std::printf("instruction %d: %08x, not %08x\n", k, read(x, k), want[k]);
           require(false, "an instruction");
         }
       require((read(x, 10) & 0x7f800000u) == 0x7f800000u && (read(x, 10) & 0x7fffffu) != 0, "max.NaN");
       const std::uint32_t rounded[] = {0x3f800000u, 0xbf800001u, 0x3f800001u, 0};
       for (int k = 0; k < 4; ++k) require(read(x, 11 + k) == rounded[k], "a direction of rounding");
     },
     nullptr},
    {"shuffles",
     [] {
       int* const x = on_device<int>(160);
       shuffles<<<1, 32>>>(x);
       done();
       for (int lane = 0; lane < 32; ++lane) {
         require(read(x, lane) == (lane % 8 < 3 ? lane : lane - 3), "up");
         require(read(x, 32 + lane) == (lane % 8 > 4 ? lane : lane + 3), "down");
         require(read(x, 64 + lane) == (lane ^ 5), "xor");
         require(read(x, 96 + lane) == lane / 8 * 8 + 2, "of lane 2 of 8");
         require(read(x, 128 + lane) == 0x49249249, "ballot");
       }
     },
     nullptr},
};

/// What a case prints, and how it ended.
std::string output_of(const example& e, int& status) {
  int ends[2];
  if (pipe(ends) != 0) std::abort();
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    close(ends[0]);
    e.run();
    std::fflush(stdout);
    std::_Exit(0);
  }
  close(ends[1]);
  std::string text;
  char part[512];
  for (ssize_t n; (n = ::read(ends[0], part, sizeof part)) > 0;) text.append(part, static_cast<size_t>(n));
  close(ends[0]);
  waitpid(child, &status, 0);
  return text;
}

}  // namespace

int main() {
  int wrong = 0;
  for (const example& e : examples) {
    int status = 0;
    const std::string text = output_of(e, status);
    const bool found = e.fault != nullptr ? text.find(e.fault) != std::string::npos : text.empty();
    const bool right = status == 0 && found;
    std::printf("%s: %s\n", right ? "right" : "WRONG", e.name);
    if (!right)
      std::printf("  wanted %s, status %d, printed: %s\n", e.fault != nullptr ? e.fault : "no fault", status,
                  text.c_str());
    wrong += right ? 0 : 1;
  }
  return wrong == 0 ? 0 : 1;
}
