#pragma once
// FIPO's weights over a batch of sequences: a scan of each from its end.

#include "rlhf/driver/weights.hpp"
#include "rlhf/objective/future.hpp"

namespace rlhf::inline v1 {

namespace future_detail {

template <class T, class Space>
struct scan_kernel {
  using scalar = compute_t<T>;
  static constexpr int scans = 1;
  future_weight how;
  view<const T, 1, Space> logp, old_logp, advantage;
  mask_view<Space> mask;
  view<T, 1, Space> out;

  [[nodiscard]] RLHF_HD RLHF_INLINE scalar initial(std::int64_t, int) const { return 0; }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(logp) && rlhf::unit_stride(old_logp) && rlhf::unit_stride(advantage) &&
           rlhf::unit_stride(mask) && rlhf::unit_stride(out);
  }
  template <class V>
  struct token {
    V difference{}, advantage{};
    mask_t<V> in{};
  };
  template <class V>
  [[nodiscard]] RLHF_HD RLHF_INLINE token<V> fetch(std::int64_t i) const {
    const mask_t<V> in = load_mask<V>(mask, i);
    const V d = select(in, load<V>(logp, i) - load<V>(old_logp, i), V(number_traits<V>::constant(0)));
    return {d, load<V>(advantage, i), in};
  }
  template <class V, class Scan>
  [[nodiscard]] RLHF_HD RLHF_INLINE V solve(std::int64_t, const token<V>& x, Scan& scan) const {
    const V gamma = select(x.in, V(number_traits<V>::constant(how.discount())), V(number_traits<V>::constant(1)));
    const V sum = scan.inclusive(0, gamma, how.term(x.difference));
    return how(sum, x.difference, x.advantage);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void place(std::int64_t, std::int64_t i, const token<V>& x, const V& weight) const {
    store(out, i, select(x.in, weight, V(number_traits<V>::constant(0))));
  }
  template <class V, class Scan>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, Scan& scan) const {
    const token<V> x = fetch<V>(i);
    place<V>(s, i, x, solve<V>(s, x, scan));
  }
};

}  // namespace future_detail

/// The weights of future_weight, for policy_loss to take as `weight`.
///
/// Shapes [layout.tokens], advantage [layout.tokens] or [layout.sequences]. Masked slots give 0, whatever lies there.
/// Errors: null, shape, argument, memory. Cost: one scan.
template <class B, class T = float, class Space = typename B::space>
  requires backend<B>
status future_weights(B& be, const layout<typename B::space>& sequences, const future_weight& how,
                      const view<const T, 1, Space>& logp, const view<const T, 1, Space>& old_logp,
                      view<const T, 1, Space> advantage, const mask_view<Space>& mask, const view<T, 1, Space>& out) {
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  constexpr const char* name = "future_weights";
  const std::int64_t n = sequences.tokens;
  if constexpr (std::same_as<Space, host_space>)
    if (auto s = check(sequences, name); !s) return s;
  const bool spread = advantage && advantage.extent == sequences.sequences && advantage.extent != n;
  const auto sized = [&](const auto& v, const char* what, bool required) -> status {
    if (!v) return required && n > 0 ? remark::null(name, what) : status{};
    return v.extent == n ? status{} : remark::shape(name, what, v.extent, n);
  };
  if (auto s = sized(logp, "logp", true); !s) return s;
  if (auto s = sized(old_logp, "old_logp", true); !s) return s;
  if (!spread)
    if (auto s = sized(advantage, "advantage", true); !s) return s;
  if (auto s = sized(mask, "mask", false); !s) return s;
  if (auto s = sized(out, "weight", true); !s) return s;
  if (auto s = how.check(); !s) return s;
  auto tokens = be.template scratch<T>(spread ? n : 0);
  if (!tokens.data()) return remark::memory(name);
  if (spread) {
    if (auto s = be.segment_map(sequences, broadcast_to_tokens<T, T>{advantage.data, advantage.stride, tokens.data()},
                                nullptr);
        !s)
      return s;
    advantage = {tokens.data(), n};
  }
  return be.segment_scan(sequences, future_detail::scan_kernel<T, Space>{how, logp, old_logp, advantage, mask, out});
}

}  // namespace rlhf::inline v1
