// What of the CUDA backend runs without a device: the arithmetic of an arena, and how the runtime's refusals come back.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <rlhf/backend/cuda.cuh>

namespace {

int failures = 0;
void check(bool holds, const char* what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what);
}

struct nothing {
  RLHF_HD void operator()() const {}
};

void arena() {
  // Addresses that nobody reads.
  rlhf::cuda_arena arena(reinterpret_cast<void*>(std::uintptr_t{4096}), 1024);
  const rlhf::cuda_memory memory = arena.memory();
  const auto take = [&](std::size_t n) {
    return reinterpret_cast<std::uintptr_t>(memory.allocate(memory.self, n, nullptr));
  };
  const auto give = [&](std::uintptr_t p, std::size_t n) {
    memory.release(memory.self, reinterpret_cast<void*>(p), n, nullptr);
  };
  const auto a = take(1), b = take(300);
  check(a == 4096 && b == 4096 + 256, "pieces begin at multiples of 256 bytes");
  check(take(600) == 0, "what does not fit is null");
  check(arena.peak() == 256 + 512 + 768, "the peak tells what would have fitted");
  give(b, 300);
  const auto c = take(768);
  check(c == b, "the last piece is used again");
  give(a, 1);
  check(take(1) == 0, "what lies below a piece that is held is not");
  give(c, 768);
  check(take(1024) == 4096, "with nothing held all is there");
}

void arena_anywhere() {
  rlhf::cuda_arena arena(reinterpret_cast<void*>(std::uintptr_t{4096 + 1}), 1024);
  const rlhf::cuda_memory memory = arena.memory();
  const auto first = memory.allocate(memory.self, 512, nullptr);
  check(reinterpret_cast<std::uintptr_t>(first) == 4096 + 256, "the first piece too begins at a multiple of 256");
  check(memory.allocate(memory.self, 512, nullptr) == nullptr, "and what was left out is not there");
  rlhf::cuda_arena tiny(reinterpret_cast<void*>(std::uintptr_t{4096 + 1}), 8);
  const rlhf::cuda_memory none = tiny.memory();
  check(none.allocate(none.self, 1, nullptr) == nullptr, "nothing is left of a few bytes");
}

void half_a_memory() {
  rlhf::cuda_memory memory;
  memory.allocate = [](void*, std::size_t, cudaStream_t) -> void* { return nullptr; };
  rlhf::cuda_backend gpu(nullptr, memory);
  const rlhf::status s = gpu.once(nothing{});
  std::printf("%s\n", s.message().c_str());
  check(s.code == rlhf::errc::null && std::strcmp(s.argument, "memory.release") == 0, "half a memory is an error");
  check(gpu.scratch<float>(10).data() == nullptr, "and none of its functions is called");
  check(gpu.synchronize().code == rlhf::errc::null, "whatever is asked");
}

void without_device() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) {
    std::printf("a device is here: its absence cannot be tested\n");
    return;
  }
  static_cast<void>(cudaGetLastError());
  rlhf::cuda_backend gpu;
  const rlhf::status once = gpu.once(nothing{});
  std::printf("%s\n", once.message().c_str());
  check(once.code == rlhf::errc::backend, "a launch without a device is an error of the backend");
  check(std::strcmp(once.function, "once") == 0, "it names the primitive");
  check(std::strcmp(once.argument, "cudaLaunchKernelEx") == 0, "and the call");
  check(std::strlen(once.what) > 0, "with the runtime's words");
  check(gpu.scratch<float>(10).data() == nullptr, "scratch memory without a device is null");
  std::int64_t order = 0;
  const float key = 0;
  check(gpu.argsort(1, &key, &order).code == rlhf::errc::memory, "and a call that needs some says so");
  check(gpu.synchronize().code == rlhf::errc::backend, "nothing to wait for");
  check(static_cast<bool>(gpu.trouble()), "no read has failed");
  check(gpu.read(&key) == 0, "a cell that cannot be read is 0");
  check(gpu.trouble().code == rlhf::errc::backend, "which the backend tells");
  const rlhf::status later = gpu.once(nothing{});
  std::printf("%s\n", later.message().c_str());
  check(std::strcmp(later.function, "read") == 0, "and the next call tells why");
}

}  // namespace

int main() {
  arena();
  arena_anywhere();
  half_a_memory();
  without_device();
  std::printf("%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}
