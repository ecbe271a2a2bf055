#pragma once
// What a matrix product is asked for: two factors, each as it lies in memory or transposed, and where the result goes.

#include <concepts>

#include "rlhf/core/status.hpp"
#include "rlhf/core/view.hpp"

namespace rlhf::inline v1 {

/// A factor of a matrix product: a row-major matrix, read as it lies or transposed.
template <class T, class Space = host_space>
struct factor {
  view<const T, 2, Space> matrix{};
  bool transposed = false;

  [[nodiscard]] RLHF_HD constexpr std::int64_t rows() const { return transposed ? matrix.columns : matrix.rows; }
  [[nodiscard]] RLHF_HD constexpr std::int64_t columns() const { return transposed ? matrix.rows : matrix.columns; }
  /// Where element (i, j) of the factor is.
  [[nodiscard]] RLHF_HD constexpr const T* at(std::int64_t i, std::int64_t j) const {
    return transposed ? matrix.row(j) + i : matrix.row(i) + j;
  }
};

/// Something that multiplies: `product(be, a, b, c, add)` makes \f$ C = AB \f$, or \f$ C \mathrel{+}= AB \f$ with `add`, in
/// order with the other work of the backend `be`.
///
/// A [m, k] and B [k, n] are stored as `L`, C [m, n] as `C` (`L` or its arithmetic type); sums are kept in float or wider and
/// rounded once, on the store (cuBLAS splits long ones and does so only when told, as cublas_product does). The caller has checked the shapes; k may be 0. A trainer's own routine is as good as ours:
/// `plain_product` (any backend), `eigen_product` (SIMD), `cublas_product` (CUDA), or a struct of yours.
template <class P, class B, class L, class C>
concept matrix_product = requires(const P& product, B& be, const factor<L, typename B::space>& a,
                                  const factor<L, typename B::space>& b, const view<C, 2, typename B::space>& c) {
  { product(be, a, b, c, bool{}) } -> std::same_as<status>;
};

}  // namespace rlhf::inline v1
