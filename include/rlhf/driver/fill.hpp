#pragma once
// The kernel that writes one number everywhere.

#include "rlhf/backend/concept.hpp"

namespace rlhf::inline v1 {

template <class T>
struct fill {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  T* out;
  T value;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    out[i] = value;
  }
};

}  // namespace rlhf::inline v1
