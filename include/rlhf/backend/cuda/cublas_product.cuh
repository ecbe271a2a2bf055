#pragma once
// Matrix products of device memory by cuBLAS. Link with it: -lcublas.
//
// Plain host code: any C++ compiler that finds the toolkit's headers takes it.

#include <cublas_v2.h>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "rlhf/core/numeric.hpp"
#include "rlhf/math/product.hpp"

#if CUBLAS_VER_MAJOR < 12
#error "rlhf: cublas_product needs the 64-bit calls of cuBLAS 12 or later (CUDA 12)"
#endif

namespace rlhf::inline v1 {

namespace cublas_detail {

template <class T>
inline constexpr cudaDataType_t type_of = CUDA_R_32F;
template <>
inline constexpr cudaDataType_t type_of<double> = CUDA_R_64F;
template <>
inline constexpr cudaDataType_t type_of<bfloat16> = CUDA_R_16BF;
template <>
inline constexpr cudaDataType_t type_of<float16> = CUDA_R_16F;

[[nodiscard]] inline status failed(const char* call, cublasStatus_t error) {
  return {errc::backend, "cublas_product", call, cublasGetStatusString(error), 0, 0, nullptr};
}
/// The default stream has two names.
[[nodiscard]] inline bool same_stream(cudaStream_t a, cudaStream_t b) {
  const auto is_default = [](cudaStream_t s) { return s == nullptr || s == cudaStreamLegacy; };
  return a == b || (is_default(a) && is_default(b));
}
/// Rows of an empty factor, and a single row, may come with any pitch; cuBLAS wants a sound one.
template <class V>
[[nodiscard]] std::int64_t pitch_of(const V& matrix) {
  return std::max({matrix.pitch, matrix.columns, std::int64_t{1}});
}

/// While it lives, partial sums of 16-bit factors are not rounded to 16 bits; the caller's other flags stay.
class exact_sums {
 public:
  exact_sums(cublasHandle_t handle, bool wanted) : handle_(handle), wanted_(wanted) {
    if (!wanted_) return;
    error = cublasGetMathMode(handle_, &before_);
    if (error == CUBLAS_STATUS_SUCCESS)
      error = cublasSetMathMode(handle_,
                                static_cast<cublasMath_t>(before_ | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
    wanted_ = error == CUBLAS_STATUS_SUCCESS;
  }
  exact_sums(const exact_sums&) = delete;
  exact_sums& operator=(const exact_sums&) = delete;
  ~exact_sums() {
    if (wanted_) static_cast<void>(cublasSetMathMode(handle_, before_));
  }
  cublasStatus_t error = CUBLAS_STATUS_SUCCESS;

 private:
  cublasHandle_t handle_;
  bool wanted_;
  cublasMath_t before_ = CUBLAS_DEFAULT_MATH;
};

}  // namespace cublas_detail

/// Matrix products by cuBLAS on the handle's stream, which must be the backend's (cublasSetStream), with scalars on the host
/// (cublasSetPointerMode); the handle, its workspace and its math mode stay the caller's. Sums in float (double for double),
/// rounded once: for 16-bit factors cuBLAS may not round the parts of a sum that it splits. float is not shortened to TF32
/// unless the handle's math mode says so. Give the handle a workspace (cublasSetWorkspace) where a CUDA graph is captured.
///
/// cuBLAS counts columns first: a row-major C = AB is its C^T = B^T A^T.
/// The same bits on every run on one device, as cuBLAS promises for one stream at a time.
struct cublas_product {
  cublasHandle_t handle = nullptr;

  template <class B, class L, class C>
    requires std::same_as<typename B::space, cuda_space>
  status operator()(B& be, const factor<L, cuda_space>& a, const factor<L, cuda_space>& b,
                    const view<C, 2, cuda_space>& c, bool add) const {
    using T = compute_t<L>;
    static_assert(std::same_as<C, L> || std::same_as<C, T>, "rlhf: cuBLAS writes the stored or the arithmetic type");
    if (c.rows == 0 || c.columns == 0) return {};
    if (handle == nullptr) return remark::null("cublas_product", "handle");
    using namespace cublas_detail;
    if constexpr (requires { be.stream(); }) {
      cudaStream_t stream = nullptr;
      if (const cublasStatus_t e = cublasGetStream(handle, &stream); e != CUBLAS_STATUS_SUCCESS)
        return failed("cublasGetStream", e);
      if (!same_stream(stream, be.stream()))
        return {errc::argument,
                "cublas_product",
                "handle",
                "shares streams with the backend:",
                0,
                0,
                "one: cublasSetStream(handle, be.stream())"};
    }
    cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
    if (const cublasStatus_t e = cublasGetPointerMode(handle, &pointers); e != CUBLAS_STATUS_SUCCESS)
      return failed("cublasGetPointerMode", e);
    if (pointers != CUBLAS_POINTER_MODE_HOST)
      return {errc::argument,
              "cublas_product",
              "handle",
              "has a pointer mode of",
              static_cast<double>(pointers),
              0,
              "CUBLAS_POINTER_MODE_HOST"};
    const exact_sums sums(handle, sizeof(L) == 2);
    if (sums.error != CUBLAS_STATUS_SUCCESS) return failed("cublasSetMathMode", sums.error);
    const T one = 1, rest = add ? T(1) : T(0);
    const auto op = [](const factor<L, cuda_space>& f) { return f.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    const cublasStatus_t done = cublasGemmEx_64(
        handle, op(b), op(a), c.columns, c.rows, a.columns(), &one, b.matrix.data, type_of<L>, pitch_of(b.matrix),
        a.matrix.data, type_of<L>, pitch_of(a.matrix), &rest, c.data, type_of<C>, pitch_of(c),
        std::same_as<T, double> ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    return done == CUBLAS_STATUS_SUCCESS ? status{} : failed("cublasGemmEx_64", done);
  }
};

}  // namespace rlhf::inline v1
