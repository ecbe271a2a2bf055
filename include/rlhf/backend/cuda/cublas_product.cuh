#pragma once
// Matrix products of device memory by cuBLAS. Link with it: -lcublas.
//
// Plain host code: any C++ compiler that finds the toolkit's headers takes it.

#include <cublas_v2.h>

#include <concepts>
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

}  // namespace cublas_detail

/// Matrix products by cuBLAS on the handle's stream, which must be the backend's (cublasSetStream); the handle, its
/// workspace and its math mode stay the caller's. Sums in float (double for double); float is not shortened to TF32 unless
/// the handle's math mode says so. Give the handle a workspace (cublasSetWorkspace) where a CUDA graph is captured.
///
/// cuBLAS counts columns first: a row-major C = AB is its C^T = B^T A^T.
/// The same bits on every run on one device, as cuBLAS promises for one stream at a time.
struct cublas_product {
  cublasHandle_t handle = nullptr;

  template <class B, class L, class C>
    requires std::same_as<typename B::space, cuda_space>
  status operator()(B&, const factor<L, cuda_space>& a, const factor<L, cuda_space>& b, const view<C, 2, cuda_space>& c,
                    bool add) const {
    using T = compute_t<L>;
    static_assert(std::same_as<C, L> || std::same_as<C, T>, "rlhf: cuBLAS writes the stored or the arithmetic type");
    if (c.rows == 0 || c.columns == 0) return {};
    if (handle == nullptr) return remark::null("cublas_product", "handle");
    const T one = 1, rest = add ? T(1) : T(0);
    const auto op = [](const factor<L, cuda_space>& f) { return f.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    const cublasStatus_t done =
        cublasGemmEx_64(handle, op(b), op(a), c.columns, c.rows, a.columns(), &one, b.matrix.data,
                        cublas_detail::type_of<L>, b.matrix.pitch, a.matrix.data, cublas_detail::type_of<L>,
                        a.matrix.pitch, &rest, c.data, cublas_detail::type_of<C>, c.pitch,
                        std::same_as<T, double> ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    if (done == CUBLAS_STATUS_SUCCESS) return {};
    return {errc::backend, "cublas_product", "cublasGemmEx_64", cublasGetStatusString(done), 0, 0, nullptr};
  }
};

}  // namespace rlhf::inline v1
