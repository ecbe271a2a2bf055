// The functions of the CUDA runtime that this library and its programs call, on the machine. What is asked of a stream is done as late
// as it may be: when somebody waits for it. So a program that reads too early reads what was there before.

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "machine.hpp"
#include "memory.hpp"
#include "program.hpp"
#include "runtime.hpp"

namespace ptx {
namespace {

using task = std::function<void()>;

struct stream {
  std::deque<task> tasks;
  std::vector<task>* captured = nullptr;
  bool blocking = true;
};
struct event {
  std::shared_ptr<bool> done = std::make_shared<bool>(true);
  stream* where = nullptr;
  std::chrono::steady_clock::time_point when;
};

/// The one device of the program, never destroyed: memory is given back after main too.
class device {
 public:
  static device& the() {
    static device* const one = new device;
    return *one;
  }
  device() {
    static report all;
    if (std::getenv("RLHF_MACHINE_REPORT") == nullptr) return;
    machine_.count_into(all);
    std::atexit([] { all.write(std::getenv("RLHF_MACHINE_REPORT")); });
  }

  void add(module* m, const void* host, std::string name) { kernels_[host] = {m, std::move(name)}; }
  [[nodiscard]] const kernel& find(const void* host) {
    const auto found = kernels_.find(host);
    if (found == kernels_.end()) throw fault("a launch of what is no kernel");
    module& m = *found->second.first;
    if (!m.has(found->second.second)) throw fault("no PTX of kernel " + found->second.second);
    for (auto& [name, v] : m.variables())
      if (v.address == 0) {
        v.address = bytes_.allocate(v.bytes, false);
        std::memset(bytes_.bytes(v.address), 0, v.bytes);
        bytes_.mark_written(v.address, v.bytes);
      }
    return m.get(found->second.second);
  }

  /// What `cudaGetLastError` gives once, and after a fault every call.
  cudaError_t say(cudaError_t e) {
    if (broken_ != cudaSuccess) e = broken_;
    if (e != cudaSuccess) last_ = e;
    return e;
  }
  [[nodiscard]] cudaError_t last(bool forget) {
    const cudaError_t e = last_;
    if (forget) last_ = broken_;
    return e;
  }
  /// Runs something of the device's own.
  template <class F>
  cudaError_t guarded(const F& f) {
    if (broken_ != cudaSuccess) return say(broken_);
    try {
      return say(f());
    } catch (const fault& wrong) {
      std::fprintf(stderr, "the machine: %s\n", wrong.what());
      broken_ = cudaErrorLaunchFailure;
      return say(broken_);
    }
  }

  [[nodiscard]] stream& of(cudaStream_t s) {
    const auto number = reinterpret_cast<std::uintptr_t>(s);
    if (number <= 2) return common_;  // the default ones
    auto& mine = *reinterpret_cast<stream*>(s);
    return mine.blocking && mine.captured == nullptr ? common_ : mine;
  }
  [[nodiscard]] static stream* own(cudaStream_t s) {
    return reinterpret_cast<std::uintptr_t>(s) <= 2 ? nullptr : reinterpret_cast<stream*>(s);
  }
  cudaError_t later(cudaStream_t s, task t) {
    return guarded([&] {
      stream& where = of(s);
      if (where.captured != nullptr)
        where.captured->push_back(std::move(t));
      else
        where.tasks.push_back(std::move(t));
      return cudaSuccess;
    });
  }
  void wait(stream& s) {
    while (!s.tasks.empty()) {
      const task t = std::move(s.tasks.front());
      s.tasks.pop_front();
      t();
    }
  }
  void wait_all() {
    wait(common_);
    for (const auto& s : streams_) wait(*s);
  }
  [[nodiscard]] bool capturing() const {
    for (const auto& s : streams_)
      if (s->captured != nullptr) return true;
    return false;
  }

  std::deque<std::unique_ptr<stream>> streams_;
  memory bytes_;
  machine machine_{bytes_, seed()};

 private:
  [[nodiscard]] static std::uint64_t seed() {
    const char* const said = std::getenv("RLHF_MACHINE_SEED");
    return said == nullptr ? 1 : std::strtoull(said, nullptr, 10);
  }
  std::unordered_map<const void*, std::pair<module*, std::string>> kernels_;
  stream common_;  ///< the default stream and those that wait for it, in the order of their calls
  cudaError_t last_ = cudaSuccess, broken_ = cudaSuccess;
};

/// The uncompressed PTX in what nvcc put into the program (`--no-compress`, code=compute_...).
[[nodiscard]] std::string text_of(const void* wrapper) {
  struct segment {
    std::uint32_t magic, version;
    const unsigned char* data;
  };
  const auto& s = *static_cast<const segment*>(wrapper);
  const auto number = [](const unsigned char* at, int bytes) {
    std::uint64_t n = 0;
    std::memcpy(&n, at, static_cast<std::size_t>(bytes));
    return n;
  };
  const unsigned char* const end = s.data + 16 + number(s.data + 8, 8);
  for (const unsigned char* at = s.data + number(s.data + 6, 2); at < end;) {
    const std::uint64_t kind = number(at, 2), header = number(at + 4, 4), size = number(at + 8, 8);
    if (kind == 1) {
      const auto* const text = reinterpret_cast<const char*>(at + header);
      std::string ptx(text, strnlen(text, size));
      if (ptx.find(".version") == std::string::npos)
        throw fault("the program's PTX is compressed: nvcc needs --no-compress");
      return ptx;
    }
    at += header + size;
  }
  throw fault("the program holds no PTX: nvcc needs -gencode arch=compute_90,code=compute_90");
}

void copy(void* to, const void* from, std::size_t n) {
  memory& m = device::the().bytes_;
  const auto on_device = [&](const void* p) { return m.is_device(reinterpret_cast<word>(p)); };
  const void* const here = on_device(from) ? to_read(from, n) : from;
  if (n == 0) return;
  std::memmove(on_device(to) ? to_write(to, n) : to, here, n);
}

cudaError_t start(const void* host, dim3 grid, dim3 block, void** arguments, std::size_t shared, cudaStream_t s) {
  device& d = device::the();
  return d.guarded([&] {
    const kernel& k = d.find(host);
    const std::vector<ptx::parameter>& parameters = k.routines.front().parameters;
    const std::size_t bytes = parameters.empty() ? 0 : parameters.back().offset + parameters.back().bytes;
    launch l{{grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared, std::vector<unsigned char>(bytes)};
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 ||
        std::int64_t{block.x} * block.y * block.z > k.most_threads)
      return cudaErrorInvalidConfiguration;
    for (std::size_t p = 0; p < parameters.size(); ++p)
      std::memcpy(l.parameters.data() + parameters[p].offset, arguments[p], parameters[p].bytes);
    return d.later(s, [&d, &k, l = std::move(l)] { d.machine_.run(k, l); });
  });
}
cudaError_t allocate(void** p, std::size_t n, bool both_sides) {
  device& d = device::the();
  return d.guarded([&] {
    const word at = d.bytes_.allocate(n, both_sides);
    *p = reinterpret_cast<void*>(at);
    return at == 0 ? cudaErrorMemoryAllocation : cudaSuccess;
  });
}
void give_back(void* p) {
  if (p != nullptr && !device::the().bytes_.release(reinterpret_cast<word>(p)))
    throw fault("memory given back that is not there");
}

}  // namespace

cudaError_t later(cudaStream_t stream, task t) { return device::the().later(stream, std::move(t)); }
const unsigned char* to_read(const void* p, std::size_t n) {
  const memory& m = device::the().bytes_;
  const auto address = reinterpret_cast<word>(p);
  if (n == 0) return nullptr;
  if (const std::string what = m.outside(address, n); !what.empty())
    throw fault("a copy or product of " + std::to_string(n) + " bytes: " + what);
  if (!m.written(address, n)) throw fault("a copy or product of memory that nobody has written");
  return m.bytes(address);
}
unsigned char* to_write(void* p, std::size_t n) {
  memory& m = device::the().bytes_;
  const auto address = reinterpret_cast<word>(p);
  if (n == 0) return nullptr;
  if (const std::string what = m.outside(address, n); !what.empty())
    throw fault("a copy or product of " + std::to_string(n) + " bytes: " + what);
  m.mark_written(address, n);
  return m.bytes(address);
}

}  // namespace ptx

using ptx::device;

extern "C" {

// What nvcc writes into each program.
void** __cudaRegisterFatBinary(void* wrapper) {
  try {
    return reinterpret_cast<void**>(new ptx::module(ptx::text_of(wrapper)));
  } catch (const ptx::fault& wrong) {
    std::fprintf(stderr, "the machine: %s\n", wrong.what());
    std::abort();
  }
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  device::the().add(reinterpret_cast<ptx::module*>(handle), host, name);
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(host));
  return cudaSuccess;
}
namespace {
struct configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};
std::vector<configuration>& configurations() {
  static std::vector<configuration> all;
  return all;
}
}  // namespace
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  configurations().push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const configuration c = configurations().back();
  configurations().pop_back();
  *grid = c.grid, *block = c.block, *shared = c.shared;
  std::memcpy(stream, &c.stream, sizeof(c.stream));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                               cudaStream_t s) {
  return ptx::start(kernel, grid, block, arguments, shared, s);
}
cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                             cudaStream_t s) {
  return ptx::start(kernel, grid, block, arguments, shared, s);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* kernel, void** arguments) {
  return ptx::start(kernel, c->gridDim, c->blockDim, arguments, c->dynamicSmemBytes, c->stream);
}

// Errors and the device.
cudaError_t cudaGetLastError() { return device::the().last(true); }
cudaError_t cudaPeekAtLastError() { return device::the().last(false); }
const char* cudaGetErrorString(cudaError_t e) {
  switch (e) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    default:
      return "an error of the machine";
  }
}
const char* cudaGetErrorName(cudaError_t e) { return cudaGetErrorString(e); }
cudaError_t cudaGetDeviceCount(int* n) { return *n = 1, device::the().say(cudaSuccess); }
cudaError_t cudaGetDevice(int* d) { return *d = 0, device::the().say(cudaSuccess); }
cudaError_t cudaSetDevice(int) { return device::the().say(cudaSuccess); }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = 132;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = 2147483647;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = 48 * 1024;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 227 * 1024;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    default:
      return device::the().say(cudaErrorInvalidValue);
  }
  return device::the().say(cudaSuccess);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {};
  std::strcpy(p->name, "the machine of the tests");
  p->major = 9;
  p->multiProcessorCount = 132;
  p->warpSize = 32;
  return device::the().say(cudaSuccess);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, const void*) {
  *a = {};
  a->ptxVersion = a->binaryVersion = 90;
  a->maxThreadsPerBlock = 1024;
  return device::the().say(cudaSuccess);
}

// Memory.
cudaError_t cudaMalloc(void** p, size_t n) { return ptx::allocate(p, n, false); }
cudaError_t cudaMallocManaged(void** p, size_t n, unsigned) { return ptx::allocate(p, n, true); }
cudaError_t cudaMallocHost(void** p, size_t n) { return ptx::allocate(p, n, true); }
cudaError_t cudaMallocAsync(void** p, size_t n, cudaStream_t) { return ptx::allocate(p, n, false); }
cudaError_t cudaFree(void* p) {
  device& d = device::the();
  if (d.capturing()) return d.say(cudaErrorStreamCaptureUnsupported);
  return d.guarded([&] {
    d.wait_all();
    ptx::give_back(p);
    return cudaSuccess;
  });
}
cudaError_t cudaFreeHost(void* p) { return cudaFree(p); }
cudaError_t cudaFreeAsync(void* p, cudaStream_t s) {
  return device::the().later(s, [p] { ptx::give_back(p); });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind, cudaStream_t s) {
  device& d = device::the();
  if (d.bytes_.is_device(reinterpret_cast<ptx::word>(from))) return d.later(s, [=] { ptx::copy(to, from, n); });
  // The runtime has read pageable memory of the program's when the call returns.
  const auto* const first = static_cast<const unsigned char*>(from);
  return d.later(s, [to, n, kept = std::vector<unsigned char>(first, first + n)] { ptx::copy(to, kept.data(), n); });
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind kind) {
  if (const cudaError_t e = cudaMemcpyAsync(to, from, n, kind, nullptr); e != cudaSuccess) return e;
  return cudaStreamSynchronize(nullptr);
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t s) {
  return device::the().later(s, [=] {
    if (n > 0) std::memset(ptx::to_write(p, n), value, n);
  });
}
cudaError_t cudaMemset(void* p, int value, size_t n) {
  if (const cudaError_t e = cudaMemsetAsync(p, value, n, nullptr); e != cudaSuccess) return e;
  return cudaStreamSynchronize(nullptr);
}
// One pool, of which only the high mark is known.
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  return *pool = reinterpret_cast<cudaMemPool_t>(&device::the()), device::the().say(cudaSuccess);
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute, void*) {
  if (attribute == cudaMemPoolAttrUsedMemHigh) device::the().bytes_.reset_peak();
  return device::the().say(cudaSuccess);
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute, void* value) {
  if (attribute != cudaMemPoolAttrUsedMemHigh) return device::the().say(cudaErrorInvalidValue);
  const std::uint64_t peak = device::the().bytes_.peak();
  std::memcpy(value, &peak, sizeof(peak));
  return device::the().say(cudaSuccess);
}

// Streams, events and graphs.
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned flags) {
  device& d = device::the();
  return d.guarded([&] {
    d.streams_.push_back(std::make_unique<ptx::stream>());
    d.streams_.back()->blocking = (flags & cudaStreamNonBlocking) == 0;
    *s = reinterpret_cast<cudaStream_t>(d.streams_.back().get());
    return cudaSuccess;
  });
}
cudaError_t cudaStreamCreate(cudaStream_t* s) { return cudaStreamCreateWithFlags(s, 0); }
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  device& d = device::the();
  return d.guarded([&] {
    ptx::stream& mine = d.of(s);
    if (mine.captured != nullptr) return cudaErrorStreamCaptureUnsupported;
    d.wait(mine);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamDestroy(cudaStream_t s) { return cudaStreamSynchronize(s); }
cudaError_t cudaDeviceSynchronize() {
  device& d = device::the();
  if (d.capturing()) return d.say(cudaErrorStreamCaptureUnsupported);
  return d.guarded([&] {
    d.wait_all();
    return cudaSuccess;
  });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  *e = reinterpret_cast<cudaEvent_t>(new ptx::event);
  return device::the().say(cudaSuccess);
}
cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t) { return device::the().say(cudaSuccess); }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  auto& mine = *reinterpret_cast<ptx::event*>(e);
  mine.done = std::make_shared<bool>(false);
  mine.where = &device::the().of(s);
  return device::the().later(s, [&mine, done = mine.done] {
    *done = true;
    mine.when = std::chrono::steady_clock::now();
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  const auto& mine = *reinterpret_cast<ptx::event*>(e);
  return device::the().guarded([&] {
    if (!*mine.done) device::the().wait(*mine.where);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  const auto& mine = *reinterpret_cast<ptx::event*>(e);
  return device::the().later(s, [done = mine.done, where = mine.where] {
    if (!*done) device::the().wait(*where);
  });
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
  *ms = std::chrono::duration<float, std::milli>(reinterpret_cast<ptx::event*>(to)->when -
                                                 reinterpret_cast<ptx::event*>(from)->when)
            .count();
  return device::the().say(cudaSuccess);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* status) {
  const ptx::stream* const mine = device::own(s);
  *status = mine != nullptr && mine->captured != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return device::the().say(cudaSuccess);
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
  ptx::stream* const mine = device::own(s);
  if (mine == nullptr || mine->captured != nullptr) return device::the().say(cudaErrorStreamCaptureUnsupported);
  mine->captured = new std::vector<ptx::task>;
  return device::the().say(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  ptx::stream* const mine = device::own(s);
  if (mine == nullptr || mine->captured == nullptr) return device::the().say(cudaErrorInvalidValue);
  *graph = reinterpret_cast<cudaGraph_t>(std::exchange(mine->captured, nullptr));
  return device::the().say(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  *ready =
      reinterpret_cast<cudaGraphExec_t>(new std::vector<ptx::task>(*reinterpret_cast<std::vector<ptx::task>*>(graph)));
  return device::the().say(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t s) {
  for (const ptx::task& t : *reinterpret_cast<std::vector<ptx::task>*>(ready))
    if (const cudaError_t e = device::the().later(s, t); e != cudaSuccess) return e;
  return device::the().say(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<std::vector<ptx::task>*>(graph);
  return device::the().say(cudaSuccess);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
  delete reinterpret_cast<std::vector<ptx::task>*>(ready);
  return device::the().say(cudaSuccess);
}

}  // extern "C"
