// rlhf-gpu-bench: the table of the GPU benches as JSON lines, each row beside the ceilings measured in the same run.
//
// usage: rlhf-gpu-bench [--only part,...] [--divisor n] [--repetitions n] [--determinism [--runs n]]

#include <algorithm>
#include <cstring>
#include <map>

#include "contest.cuh"

namespace gpu_bench {
namespace {

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x.size() % 2 == 1 ? x[x.size() / 2] : (x[x.size() / 2 - 1] + x[x.size() / 2]) / 2;
}

class stopwatch {
 public:
  explicit stopwatch(cudaStream_t stream) : stream_(stream) {
    require(cudaEventCreate(&begin_), "cudaEventCreate");
    require(cudaEventCreate(&end_), "cudaEventCreate");
  }
  template <class F>
  [[nodiscard]] double seconds(const F& work) {
    require(cudaEventRecord(begin_, stream_), "cudaEventRecord");
    work();
    require(cudaEventRecord(end_, stream_), "cudaEventRecord");
    require(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) * 1e-3;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_{}, end_{};
};

/// Bytes of scratch memory a run holds at most beside its arrays: what the pool's high mark rises to.
double peak_bytes(device& d, const contest& c) {
  cudaMemPool_t pool = nullptr;
  require(cudaDeviceGetDefaultMemPool(&pool, 0), "cudaDeviceGetDefaultMemPool");
  std::uint64_t mark = 0;
  require(cudaStreamSynchronize(d.stream), "cudaStreamSynchronize");
  require(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &mark), "cudaMemPoolSetAttribute");
  c.run();
  require(cudaStreamSynchronize(d.stream), "cudaStreamSynchronize");
  require(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &mark), "cudaMemPoolGetAttribute");
  return static_cast<double>(mark);
}

/// So many runs, the same bits.
bool determinism(device& d, const contests& all, int runs) {
  bool right = true;
  for (const contest& c : all) {
    std::vector<unsigned char> first;
    int same = 0;
    for (int k = 0; k < runs; ++k) {
      if (c.reset) c.reset();
      c.run();
      require(cudaStreamSynchronize(d.stream), "cudaStreamSynchronize");
      auto found = c.outputs();
      if (k == 0) first = std::move(found);
      same += k == 0 || found == first ? 1 : 0;
    }
    right = right && same == runs;
    std::printf("{\"name\": \"%s\", \"runs\": %d, \"same_bits\": %d}\n", c.name.c_str(), runs, same);
    std::fflush(stdout);
  }
  return right;
}

void measure(device& d, const contests& all, int repetitions) {
  // The ceilings: 4 GiB copied, read and written; a large bfloat16 product.
  const std::int64_t half = std::int64_t{1} << 32;
  const array<unsigned char> from(half), to(half);
  const auto copy = [&] {
    require(cudaMemcpyAsync(to.data(), from.data(), from.bytes(), cudaMemcpyDeviceToDevice, d.stream),
            "cudaMemcpyAsync");
  };
  // Before each run, untimed: the device is busy with a copy of 512 MiB while the host queues the run, so that the
  // kernels are timed, not the queueing; and what the run before left in the caches is gone.
  const auto lead = [&] {
    require(cudaMemcpyAsync(to.data(), from.data(), std::size_t{1} << 29, cudaMemcpyDeviceToDevice, d.stream),
            "cudaMemcpyAsync");
  };
  constexpr int side = 8192;
  const array<rlhf::bfloat16> x(std::int64_t{side} * side, -1, 1, 21), y(std::int64_t{side} * side, -1, 1, 22),
      z(std::int64_t{side} * side);
  const float one = 1, zero = 0;
  const auto product = [&] {
    require(
        cublasGemmEx(d.cublas, CUBLAS_OP_N, CUBLAS_OP_N, side, side, side, &one, x.data(), CUDA_R_16BF, side, y.data(),
                     CUDA_R_16BF, side, &zero, z.data(), CUDA_R_16BF, side, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
  };
  std::map<std::string, std::vector<double>> times;
  stopwatch watch(d.stream);
  // Rounds over everything, so that a change of the clocks meets all rows alike; the first two warm up.
  for (int round = -2; round < repetitions; ++round) {
    const auto note = [&](const std::string& name, const std::function<void()>& work) {
      lead();
      const double s = watch.seconds(work);
      if (round >= 0) times[name].push_back(s);
    };
    note("copy", copy);
    note("product", product);
    for (const contest& c : all) {
      if (c.reset) c.reset();
      note(c.name, c.run);
      if (c.bare) note(c.name + "#bare", c.bare);
    }
  }
  const double rate = 2.0 * static_cast<double>(half) / median(times["copy"]);
  const double operations = 2.0 * side * side * static_cast<double>(side) / median(times["product"]);
  cudaDeviceProp properties{};
  require(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  std::printf(
      "{\"name\": \"ceilings\", \"device\": \"%s\", \"bytes_per_second\": %.6g, \"operations_per_second\": %.6g, "
      "\"repetitions\": %d}\n",
      properties.name, rate, operations, repetitions);
  for (const contest& c : all) {
    const std::vector<double>& t = times[c.name];
    const double s = median(t);
    const bool bytes = c.against == ceiling::copy;
    const double bare = bytes ? c.bytes / rate : median(times[c.name + "#bare"]);
    const double found = bytes ? bare / s : s / bare;
    std::printf(
        "{\"name\": \"%s\", \"seconds\": %.6g, \"least\": %.6g, \"most\": %.6g, \"ceiling\": \"%s\", "
        "\"ceiling_seconds\": %.6g, \"of_ceiling\": %.4f, \"goal\": %.2f, \"reached\": %s, \"bytes\": %.6g, "
        "\"operations\": %.6g, \"scratch_bytes\": %.6g}\n",
        c.name.c_str(), s, *std::min_element(t.begin(), t.end()), *std::max_element(t.begin(), t.end()),
        bytes ? "copy" : "bare products", bare, found, c.goal,
        (bytes ? found >= c.goal : found <= c.goal) ? "true" : "false", c.bytes, c.operations, peak_bytes(d, c));
  }
}

}  // namespace
}  // namespace gpu_bench

int main(int argc, char** argv) {
  using namespace gpu_bench;
  std::string only = "logits,tokens,sequences,linear";
  long divisor = 1, repetitions = 20;
  int runs = 10;
  bool same_bits = false;
  for (int i = 1; i < argc; ++i) {
    const bool more = i + 1 < argc;
    if (std::strcmp(argv[i], "--only") == 0 && more) {
      only = argv[++i];
    } else if (std::strcmp(argv[i], "--divisor") == 0 && more) {
      divisor = std::atol(argv[++i]);
    } else if (std::strcmp(argv[i], "--repetitions") == 0 && more) {
      repetitions = std::atol(argv[++i]);
    } else if (std::strcmp(argv[i], "--determinism") == 0) {
      same_bits = true;
    } else if (std::strcmp(argv[i], "--runs") == 0 && more) {
      runs = std::atoi(argv[++i]);
    } else {
      std::fprintf(
          stderr,
          "usage: rlhf-gpu-bench [--only part,...] [--divisor n] [--repetitions n] [--determinism [--runs n]]\n"
          "parts: logits, tokens, sequences, linear\n");
      return 2;
    }
  }
  if (divisor < 1 || divisor > 64 || repetitions < 1) {
    std::fprintf(stderr, "rlhf-gpu-bench: the divisor is 1 to 64, the repetitions at least 1\n");
    return 2;
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "rlhf-gpu-bench: no CUDA device\n");
    return 2;
  }
  device d;
  bool right = true;
  // Part after part: each has its arrays to itself, and ceilings of its own.
  const std::pair<const char*, void (*)(contests&, device&, std::int64_t)> parts[] = {
      {"logits", add_logits}, {"tokens", add_tokens}, {"sequences", add_sequences}, {"linear", add_linear}};
  for (const auto& [name, add] : parts) {
    if (("," + only + ",").find(std::string(",") + name + ",") == std::string::npos) continue;
    contests all;
    add(all, d, divisor);
    require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    if (same_bits)
      right = determinism(d, all, runs) && right;
    else
      measure(d, all, static_cast<int>(repetitions));
  }
  return right ? 0 : 1;
}
