#pragma once
// A matrix product from the primitives of any backend: the meaning of one, for tests and for backends without another.

#include "rlhf/backend/concept.hpp"
#include "rlhf/math/product.hpp"

namespace rlhf::inline v1 {

namespace product_detail {

template <class V>
struct sum_of {
  V sum = V(number_traits<V>::constant(0));
  RLHF_HD RLHF_INLINE void add(const V& x) { sum = sum + x; }
  RLHF_HD RLHF_INLINE void merge(const sum_of& other) { sum = sum + other.sum; }
};

/// Element j of a row of C, where the rows of B lie along j.
template <class T, class L, class C, class Space>
struct across {
  factor<L, Space> a, b;
  C* to;
  std::int64_t i;
  bool add;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    V sum(number_traits<V>::constant(0));
    for (std::int64_t k = 0; k < a.columns(); ++k)
      sum = sum + V(memory_traits<T>::load(a.at(i, k))) * memory_traits<V>::load(b.matrix.row(k) + j);
    if (add) sum = memory_traits<V>::load(to + j) + sum;
    memory_traits<V>::store(to + j, sum);
  }
};

/// One term of an element, where the rows of B lie along k.
template <class L>
struct term {
  const L* a;
  const L* b;
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(std::int64_t k) const {
    return memory_traits<V>::load(a + k) * memory_traits<V>::load(b + k);
  }
};

template <class T, class L, class C, class Space>
struct row_of_product {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  factor<L, Space> a, b;
  view<C, 2, Space> c;
  bool add;

  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, Team& team, accumulator<T, 0, 0>&) const {
    C* const to = c.row(i);
    if (!b.transposed) {
      team.each(c.columns, across<T, L, C, Space>{a, b, to, i, add});
      return;
    }
    for (std::int64_t j = 0; j < c.columns; ++j) {
      T sum;
      if (a.transposed) {  // no lane walks down a column
        sum = 0;
        for (std::int64_t k = 0; k < a.columns(); ++k)
          sum += memory_traits<T>::load(a.at(i, k)) * memory_traits<T>::load(b.at(k, j));
      } else {
        sum = team.template reduce<sum_of>(a.columns(), term<L>{a.matrix.row(i), b.matrix.row(j)}).sum;
      }
      team.one([&] { memory_traits<T>::store(to + j, add ? memory_traits<T>::load(to + j) + sum : sum); });
    }
  }
};

}  // namespace product_detail

/// \f$ c_{ij} = \sum_k a_{ik} b_{kj} \f$ row by row, in the arithmetic type of L: no blocking, no memory of its own. It is what
/// the other products are tested against; for work, take one of theirs.
struct plain_product {
  template <class B, class L, class C, class Space>
    requires backend<B>
  status operator()(B& be, const factor<L, Space>& a, const factor<L, Space>& b, const view<C, 2, Space>& c,
                    bool add) const {
    return be.rows(c.rows, product_detail::row_of_product<compute_t<L>, L, C, Space>{a, b, c, add}, nullptr);
  }
};

}  // namespace rlhf::inline v1
