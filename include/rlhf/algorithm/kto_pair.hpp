#pragma once
// KTO on pairs: each side's log-ratios are compared with the other side's mean.
//
//   K_c = max(0, mean of a),  K_r = max(0, mean of b)
//   loss = mean over 2P items of  1 - sigmoid(beta (a - K_r))  and  1 - sigmoid(beta (K_c - b))
//
// The means are of the batch itself, and the gradient goes through them. Ethayarajh et al. 2024, arXiv 2402.01306, in the form
// that TRL had from 0.8 to 0.11 (`kto_pair`). Catalogue P-24.

#include "rlhf/driver/fill.hpp"
#include "rlhf/driver/preference_inputs.hpp"
#include "rlhf/driver/reference_point.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/objective/unpaired.hpp"

namespace rlhf::inline v1 {

namespace kto_pair_detail {

/// Both sides halved, and what flows through the other side's reference point: minus the sum of its slopes, shared out.
template <class T, class Space>
struct through_mean {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  const totals<4>* found;  // slopes of both sides, log-ratios of both
  const T* slope;
  int side;
  double pairs;
  view<T, 1, Space> gradient;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    // A clamp passes on its closed bound.
    const double shared = found->sum[2 + side] >= 0 ? -found->sum[1 - side] / pairs : 0;
    gradient[i] = static_cast<T>((static_cast<double>(slope[i]) + shared) / 2);
  }
};

template <class T, class Space>
struct sum_both {
  using scalar = compute_t<T>;
  static constexpr int sums = 4, maxima = 0;
  pair_inputs<T, Space> in;
  const T *chosen, *rejected;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 4, 0>& acc) const {
    const auto add = [&](int k, double x) { acc.sum[k] = acc.sum[k] + V(number_traits<V>::constant(x)); };
    add(0, static_cast<double>(chosen[i]));
    add(1, static_cast<double>(rejected[i]));
    add(2, static_cast<double>(in.chosen[i]) - static_cast<double>(in.ref_chosen[i]));
    add(3, static_cast<double>(in.rejected[i]) - static_cast<double>(in.ref_rejected[i]));
  }
};

template <class T>
struct half_of_both {
  const T *up, *down;
  T* out;
  RLHF_HD RLHF_INLINE void operator()() const { *out = (*up + *down) / T(2); }
};

}  // namespace kto_pair_detail

/// Takes pair_inputs without masks or weights. `out.per_pair` is [2 pairs], all chosen and then all rejected ones; of the
/// other outputs it writes the loss and both gradients. Empty: loss 0, `errc::empty_mask`.
struct kto_pair {
  double beta = 0.1;  ///< inverse temperature: weight of the log-ratios
  static constexpr unsigned reads = field::references;
  static constexpr bool weighs_pairs = false;

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out) const {
    using namespace kto_pair_detail;
    constexpr const char* name = "kto_pair";
    const std::int64_t n = in.chosen.extent;
    if (in.mask)
      return {errc::argument, name, "mask", "is given", 0, 0, "none: the reference points are of the whole batch"};
    if (in.weight) return {errc::argument, name, "weight", "is given", 0, 0, "none"};
    if (n < 0) return {errc::shape, name, "chosen", "has elements:", static_cast<double>(n), 0, "0 or more"};
    if (in.rejected.extent != n) return remark::shape(name, "rejected", in.rejected.extent, n);
    const auto sized = [&](const view<T, 1, Space>& v, const char* what, std::int64_t want) {
      return !v || v.extent == want ? status{} : remark::shape(name, what, v.extent, want);
    };
    if (auto s = sized(out.loss, "loss", 1); !s) return s;
    if (auto s = sized(out.grad_chosen, "grad_chosen", n); !s) return s;
    if (auto s = sized(out.grad_rejected, "grad_rejected", n); !s) return s;
    if (auto s = sized(out.per_pair, "per_pair", 2 * n); !s) return s;
    auto cells = be.template scratch<T>(4 * n + 4);
    auto found = be.template scratch<totals<4>>(1);
    if (!cells.data() || !found.data()) return remark::memory(name);
    T* const label = cells.data();  // two columns of labels, two of slopes; two reference points, two losses
    T* const slope[] = {label + 2 * n, label + 3 * n};
    T* const point = label + 4 * n;
    T* const loss = point + 2;
    if (auto s = be.map(n, fill<T>{label, T(1)}, nullptr); !s) return s;
    if (auto s = be.map(n, fill<T>{label + n, T(0)}, nullptr); !s) return s;
    const auto cell = [](T* data, std::int64_t count) { return view<T, 1, Space>(data, count); };
    const log_ratio_inputs<T, Space> side[] = {{in.chosen, in.ref_chosen, {}}, {in.rejected, in.ref_rejected, {}}};
    for (int k = 0; k < 2; ++k)
      if (auto s = kto_reference_point{}(be, side[k], cell(point + k, 1)); !s && s.code != errc::empty_mask) return s;
    for (int k = 0; k < 2; ++k) {
      unpaired_inputs<T, Space> one;
      one.logp = side[k].logp;
      one.ref_logp = side[k].ref_logp;
      one.label = cell(label + k * n, n);
      one.reference_point = cell(point + 1 - k, 1);
      unpaired_outputs<T, Space> to;
      to.loss = cell(loss + k, 1);
      to.grad_logp = cell(slope[k], n);
      if (out.per_pair) to.per_response = {out.per_pair.data + k * n * out.per_pair.stride, n, out.per_pair.stride};
      if (auto s = unpaired_loss<kto>{{.beta = beta}}(be, one, to); !s && s.code != errc::empty_mask) return s;
    }
    if (out.loss)
      if (auto s = be.once(half_of_both<T>{loss, loss + 1, out.loss.data}); !s) return s;
    if (auto s = be.map(n, sum_both<T, Space>{in, slope[0], slope[1]}, found.data()); !s) return s;
    const view<T, 1, Space> gradient[] = {out.grad_chosen, out.grad_rejected};
    for (int k = 0; k < 2; ++k) {
      if (!gradient[k]) continue;
      const through_mean<T, Space> kernel{found.data(), slope[k], k, static_cast<double>(n), gradient[k]};
      if (auto s = be.map(n, kernel, nullptr); !s) return s;
    }
    return n > 0 ? status{} : remark::empty(name, "chosen");
  }
};

}  // namespace rlhf::inline v1
