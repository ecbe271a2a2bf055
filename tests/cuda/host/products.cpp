// What cublas_product asks of cuBLAS, by stand-ins for the library's functions: no device, no library.

#include <rlhf/backend/cuda/cublas_product.cuh>
//
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

int failures = 0;
void check(bool holds, const char* what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what);
}

/// The state of the one handle there is, and what the last product was given.
struct library {
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
  int mode = CUBLAS_DEFAULT_MATH;
  int products = 0, mode_of_product = 0;
  std::int64_t pitch_a = 0, pitch_b = 0, pitch_c = 0;
  cublasStatus_t answer = CUBLAS_STATUS_SUCCESS;
} fake;

}  // namespace

extern "C" {
cublasStatus_t cublasGetStream_v2(cublasHandle_t, cudaStream_t* s) { return *s = fake.stream, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t, cublasPointerMode_t* p) {
  return *p = fake.pointers, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t, cublasMath_t* m) {
  return *m = static_cast<cublasMath_t>(fake.mode), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t m) { return fake.mode = m, CUBLAS_STATUS_SUCCESS; }
const char* cublasGetStatusString(cublasStatus_t) { return "words of cuBLAS"; }
cublasStatus_t cublasGemmEx_64(cublasHandle_t, cublasOperation_t, cublasOperation_t, std::int64_t, std::int64_t,
                               std::int64_t, const void*, const void*, cudaDataType, std::int64_t pitch_b, const void*,
                               cudaDataType, std::int64_t pitch_a, const void*, void*, cudaDataType,
                               std::int64_t pitch_c, cublasComputeType_t, cublasGemmAlgo_t) {
  ++fake.products;
  fake.mode_of_product = fake.mode;
  fake.pitch_a = pitch_a, fake.pitch_b = pitch_b, fake.pitch_c = pitch_c;
  return fake.answer;
}
}

namespace {

using rlhf::cuda_space;

struct stand_in {
  using space = cuda_space;
  cudaStream_t queue = nullptr;
  [[nodiscard]] cudaStream_t stream() const { return queue; }
};

template <class L>
rlhf::status multiply(stand_in be = {}, std::int64_t depth = 3, std::int64_t pitch = 0) {
  static std::vector<float> memory(64);
  L* const data = reinterpret_cast<L*>(memory.data());
  const rlhf::factor<L, cuda_space> a{{data, 1, depth, pitch}, false}, b{{data, depth, 2, 2}, false};
  const rlhf::cublas_product product{reinterpret_cast<cublasHandle_t>(memory.data())};
  return product(be, a, b, rlhf::view<L, 2, cuda_space>(data, 1, 2, pitch), false);
}

void math_mode() {
  constexpr int exact = CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
  fake = {};
  fake.mode = CUBLAS_TF32_TENSOR_OP_MATH;
  check(static_cast<bool>(multiply<rlhf::bfloat16>()), "a product of bfloat16");
  check(fake.mode_of_product == (CUBLAS_TF32_TENSOR_OP_MATH | exact), "sums of 16-bit factors are kept, the flags too");
  check(fake.mode == CUBLAS_TF32_TENSOR_OP_MATH, "the caller's mode comes back");
  fake.answer = CUBLAS_STATUS_NOT_SUPPORTED;
  const rlhf::status s = multiply<rlhf::float16>();
  check(s.code == rlhf::errc::backend && std::strcmp(s.argument, "cublasGemmEx_64") == 0, "what cuBLAS refuses");
  check(fake.mode == CUBLAS_TF32_TENSOR_OP_MATH, "and after an error too");
  fake = {};
  check(multiply<float>() && fake.mode_of_product == CUBLAS_DEFAULT_MATH, "float leaves the mode alone");
}

void handle() {
  fake = {};
  stand_in other{reinterpret_cast<cudaStream_t>(std::uintptr_t{4096})};
  const rlhf::status s = multiply<float>(other);
  std::printf("%s\n", s.message().c_str());
  check(s.code == rlhf::errc::argument && fake.products == 0, "another stream is refused");
  fake.stream = other.queue;
  check(static_cast<bool>(multiply<float>(other)), "the same one is not");
  fake.stream = cudaStreamLegacy;
  check(static_cast<bool>(multiply<float>()), "the default stream has two names");
  fake.pointers = CUBLAS_POINTER_MODE_DEVICE;
  const rlhf::status p = multiply<float>();
  std::printf("%s\n", p.message().c_str());
  check(p.code == rlhf::errc::argument && fake.products == 1 + 1, "scalars on the device are refused");
}

void pitches() {
  fake = {};
  check(multiply<float>({}, 3, 0) && fake.pitch_a == 3 && fake.pitch_c == 2, "one row of any pitch");
  check(multiply<float>({}, 0, 0) && fake.pitch_a == 1 && fake.pitch_b == 2, "no depth");
  check(multiply<float>({}, 3, 8) && fake.pitch_a == 8 && fake.pitch_c == 8, "a pitch that is one stays");
}

}  // namespace

int main() {
  math_mode();
  handle();
  pitches();
  std::printf("%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}
