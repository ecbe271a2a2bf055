#pragma once
// Bounds and replacements of advantages, of tokens or of responses.

#include "rlhf/advantage/bounds.hpp"
#include "rlhf/backend/concept.hpp"

namespace rlhf::inline v1 {

/// What is bounded.
template <class T = float, class Space = host_space>
struct bounding_inputs {
  view<const T, 1, Space> advantage{};
  mask_view<Space> flagged{};  ///< which are replaced; none without it
  mask_view<Space> mask{};     ///< the others give exactly 0
};

namespace bounds_detail {

template <class T, class Space>
struct bound_kernel {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  advantage_bounds how;
  bounding_inputs<T, Space> in;
  view<T, 1, Space> out;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(in.advantage) && rlhf::unit_stride(in.flagged) && rlhf::unit_stride(in.mask) &&
           rlhf::unit_stride(out);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0));
    const mask_t<V> flag = in.flagged ? load_mask<V>(in.flagged, i) : mask_t<V>(false);
    store(out, i, select(load_mask<V>(in.mask, i), how(load<V>(in.advantage, i), flag), zero));
  }
};

}  // namespace bounds_detail

/// Bounds advantages into `out`, which may be the same memory. Shapes: all alike. Errors: null, shape, argument. Cost: one pass.
struct advantage_bounding {
  advantage_bounds how{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const bounding_inputs<T, Space>& in,
                    const std::type_identity_t<view<T, 1, Space>>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "advantage_bounding";
    const std::int64_t n = in.advantage.extent;
    if (!in.advantage && n > 0) return remark::null(name, "advantage");
    if (!out && n > 0) return remark::null(name, "out");
    if (in.flagged && in.flagged.extent != n) return remark::shape(name, "flagged", in.flagged.extent, n);
    if (in.mask && in.mask.extent != n) return remark::shape(name, "mask", in.mask.extent, n);
    if (out.extent != n) return remark::shape(name, "out", out.extent, n);
    if (auto s = how.check(); !s) return s;
    return be.map(n, bounds_detail::bound_kernel<T, Space>{how, in, out}, nullptr);
  }
};

}  // namespace rlhf::inline v1
