// The part of cuBLAS that cublas_product calls: products by plain loops, in double, when the stream comes to them.

#include <cublas_v2.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "rlhf/core/numeric.hpp"
#include "runtime.hpp"

namespace {

struct handle {
  cudaStream_t stream = nullptr;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
};
[[nodiscard]] handle& of(cublasHandle_t h) { return *reinterpret_cast<handle*>(h); }

[[nodiscard]] std::size_t bytes_of(cudaDataType type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }
template <class T>
[[nodiscard]] T get(const void* at) {
  T x;
  std::memcpy(static_cast<void*>(&x), at, sizeof(T));
  return x;
}
[[nodiscard]] double load(const void* array, cudaDataType type, std::int64_t i) {
  const auto* const at = static_cast<const unsigned char*>(array) + static_cast<std::size_t>(i) * bytes_of(type);
  switch (type) {
    case CUDA_R_64F:
      return get<double>(at);
    case CUDA_R_32F:
      return static_cast<double>(get<float>(at));
    case CUDA_R_16BF:
      return static_cast<double>(static_cast<float>(get<rlhf::bfloat16>(at)));
    default:
      return static_cast<double>(static_cast<float>(get<rlhf::float16>(at)));
  }
}
void store(void* array, cudaDataType type, std::int64_t i, double x) {
  auto* const at = static_cast<unsigned char*>(array) + static_cast<std::size_t>(i) * bytes_of(type);
  const auto put = [at](auto value) { std::memcpy(at, static_cast<const void*>(&value), sizeof(value)); };
  switch (type) {
    case CUDA_R_64F:
      return put(x);
    case CUDA_R_32F:
      return put(static_cast<float>(x));
    case CUDA_R_16BF:
      return put(rlhf::bfloat16(static_cast<float>(x)));
    default:
      return put(rlhf::float16(static_cast<float>(x)));
  }
}

struct matrix {
  const void* data;
  cudaDataType type;
  std::int64_t pitch;
  bool transposed;
  [[nodiscard]] std::int64_t at(std::int64_t row, std::int64_t column) const {
    return transposed ? row * pitch + column : column * pitch + row;
  }
  [[nodiscard]] std::size_t bytes(std::int64_t rows, std::int64_t columns) const {
    return rows == 0 || columns == 0 ? 0 : static_cast<std::size_t>(at(rows - 1, columns - 1) + 1) * bytes_of(type);
  }
};

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* h) {
  *h = reinterpret_cast<cublasHandle_t>(new handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t h) {
  delete &of(h);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t h, cudaStream_t s) { return of(h).stream = s, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasGetStream_v2(cublasHandle_t h, cudaStream_t* s) {
  return *s = of(h).stream, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t h, cublasMath_t m) { return of(h).math = m, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasGetMathMode(cublasHandle_t h, cublasMath_t* m) { return *m = of(h).math, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t m) {
  return of(h).pointers = m, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t* m) {
  return *m = of(h).pointers, CUBLAS_STATUS_SUCCESS;
}
const char* cublasGetStatusString(cublasStatus_t s) {
  return s == CUBLAS_STATUS_SUCCESS ? "the operation completed successfully" : "an error of the machine";
}

cublasStatus_t cublasGemmEx_64(cublasHandle_t h, cublasOperation_t transpose_a, cublasOperation_t transpose_b,
                               int64_t m, int64_t n, int64_t k, const void* alpha, const void* a, cudaDataType a_type,
                               int64_t a_pitch, const void* b, cudaDataType b_type, int64_t b_pitch, const void* beta,
                               void* c, cudaDataType c_type, int64_t c_pitch, cublasComputeType_t compute,
                               cublasGemmAlgo_t) {
  const matrix left{a, a_type, a_pitch, transpose_a != CUBLAS_OP_N},
      right{b, b_type, b_pitch, transpose_b != CUBLAS_OP_N};
  const matrix out{c, c_type, c_pitch, false};
  const auto shorter = [](const matrix& x, int64_t rows, int64_t columns) {
    return x.pitch < std::max<int64_t>(x.transposed ? columns : rows, 1);
  };
  if (m < 0 || n < 0 || k < 0 || shorter(left, m, k) || shorter(right, k, n) || shorter(out, m, n))
    return CUBLAS_STATUS_INVALID_VALUE;
  const bool wide = compute == CUBLAS_COMPUTE_64F;
  const double scale = wide ? get<double>(alpha) : static_cast<double>(get<float>(alpha));
  const double rest = wide ? get<double>(beta) : static_cast<double>(get<float>(beta));
  const cudaError_t done = ptx::later(of(h).stream, [=] {
    const auto* const x = ptx::to_read(a, left.bytes(m, k));
    const auto* const y = ptx::to_read(b, right.bytes(k, n));
    if (rest != 0) static_cast<void>(ptx::to_read(c, out.bytes(m, n)));
    auto* const z = ptx::to_write(c, out.bytes(m, n));
    for (int64_t j = 0; j < n; ++j)
      for (int64_t i = 0; i < m; ++i) {
        double sum = 0;
        for (int64_t l = 0; l < k; ++l) sum += load(x, a_type, left.at(i, l)) * load(y, b_type, right.at(l, j));
        store(z, c_type, out.at(i, j), scale * sum + (rest != 0 ? rest * load(z, c_type, out.at(i, j)) : 0));
      }
  });
  return done == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t transpose_a, cublasOperation_t transpose_b, int m,
                            int n, int k, const void* alpha, const void* a, cudaDataType a_type, int a_pitch,
                            const void* b, cudaDataType b_type, int b_pitch, const void* beta, void* c,
                            cudaDataType c_type, int c_pitch, cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  return cublasGemmEx_64(h, transpose_a, transpose_b, m, n, k, alpha, a, a_type, a_pitch, b, b_type, b_pitch, beta, c,
                         c_type, c_pitch, compute, algorithm);
}

}  // extern "C"
