#pragma once
// Alignment by optimal transport: the distributions of rewards are compared, not the rewards of a pair.
//
//   sort the batch's rewards of the chosen responses, and those of the rejected ones, each by itself
//   loss += -log sigmoid(beta (u_(k) - v_(k)))  for every rank k
//
// In one dimension the sorted order is the optimal transport plan, so the loss pushes the chosen responses' distribution to
// dominate the rejected ones'. Melnyk et al. 2024, "Distributional Preference Alignment of LLMs via Optimal Transport",
// arXiv 2406.05882, algorithms 1 and 2; TRL's aot (paired) and aot_unpaired. Catalogue P-12, P-13.

#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/preference.hpp"

namespace rlhf::inline v1 {

namespace aot_detail {

/// The keys to sort: with pairs u = L_c - L_r and v = R_c - R_r, without u = a and v = b. Pairs that do not count go last.
template <class T, class Space>
struct write_keys {
  using scalar = T;
  static constexpr int sums = 1, maxima = 0;  // pairs that count
  pair_inputs<T, Space> in;
  bool paired;
  T* u;
  T* v;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    const bool counts = !in.mask || in.mask[i] != 0;
    const T last = static_cast<T>(infinity);
    const T a = in.chosen[i], b = in.rejected[i], c = in.ref_chosen[i], d = in.ref_rejected[i];
    u[i] = counts ? (paired ? a - b : a - c) : last;
    v[i] = counts ? (paired ? c - d : b - d) : last;
    acc.sum[0] += counts ? T(1) : T(0);
  }
};

/// The k-th smallest of both, as pairs without a reference.
template <class T>
struct gather {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  const T *u, *v;
  const std::int64_t *u_order, *v_order;
  const totals<1>* counted;
  T *chosen, *rejected;
  std::uint8_t* counts;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t k, accumulator<V, 0, 0>&) const {
    chosen[k] = u[u_order[k]];
    rejected[k] = v[v_order[k]];
    counts[k] = static_cast<double>(k) < counted->sum[0] ? 1 : 0;
  }
};

/// A slope of rank k back to the responses whose keys have that rank.
template <class T, class Space>
struct scatter {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  const std::int64_t *u_order, *v_order;
  const T *u_slope, *v_slope;
  bool paired;
  view<T, 1, Space> chosen, rejected;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t k, accumulator<V, 0, 0>&) const {
    if (chosen) chosen[u_order[k]] = u_slope[k];
    if (rejected && paired) rejected[u_order[k]] = T(0) - u_slope[k];
    if (rejected && !paired) rejected[v_order[k]] = v_slope[k];
  }
};

}  // namespace aot_detail

/// AOT. `objective` is any pair objective of the margin D alone; per_pair is by rank, the smallest first.
///
/// Masked pairs take no part. Sorting is stable. The pair weights of the inputs have no meaning here and are refused; so are
/// other divergences (wrap the objective in vain: it sees no log-ratios). The statistics and the implicit rewards are of the
/// pairs as they came.
template <class Objective = dpo_sigmoid>
struct aot {
  Objective objective{};  ///< of a margin
  bool paired = true;     ///< sort the margins of policy and reference; false: the log-ratios of chosen and rejected

  static constexpr bool weighs_pairs = false;
  [[nodiscard]] constexpr unsigned needs() const { return needs_of(objective) | field::references; }

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out) const {
    constexpr const char* name = "aot";
    const std::int64_t n = in.chosen.extent;
    if (in.weight) return {errc::argument, name, "weight", "is given", 0, 0, "none: a rank belongs to no pair"};
    // Shapes, implicit rewards and statistics of the pairs as they came.
    pair_outputs<T, Space> as_given = out;
    as_given.loss = as_given.grad_chosen = as_given.grad_rejected = as_given.per_pair = as_given.nll = {};
    const status checked =
        preference_loss<given>{{needs(), preference_detail::reward_scale(objective)}}(be, in, as_given);
    if (!checked && checked.code != errc::empty_mask) return checked;
    const auto sized = [&](const view<T, 1, Space>& v, const char* argument) {
      return !v || v.extent == n ? status{} : remark::shape(name, argument, v.extent, n);
    };
    if (auto s = sized(out.grad_chosen, "grad_chosen"); !s) return s;
    if (auto s = sized(out.grad_rejected, "grad_rejected"); !s) return s;

    auto numbers = be.template scratch<T>(7 * n);
    auto orders = be.template scratch<std::int64_t>(2 * n);
    auto counts = be.template scratch<std::uint8_t>(n);
    auto counted = be.template scratch<totals<1>>(1);
    if (!numbers.data() || !orders.data() || !counts.data() || !counted.data()) return remark::memory(name);
    const auto column = [&](int k) { return numbers.data() + k * n; };
    std::int64_t* const u_order = orders.data();
    std::int64_t* const v_order = orders.data() + n;
    using namespace aot_detail;
    if (auto s = be.map(n, write_keys<T, Space>{in, paired, column(0), column(1)}, counted.data()); !s) return s;
    if (auto s = be.argsort(n, column(0), u_order); !s) return s;
    if (auto s = be.argsort(n, column(1), v_order); !s) return s;
    if (auto s = be.map(
            n, gather<T>{column(0), column(1), u_order, v_order, counted.data(), column(2), column(3), counts.data()},
            nullptr);
        !s)
      return s;
    if (auto s = be.map(n, fill<T>{column(6), T(0)}, nullptr); !s) return s;

    const auto ranked_view = [&](int k) { return view<T, 1, Space>(column(k), n); };
    pair_inputs<T, Space> ranked_in;
    ranked_in.chosen = ranked_view(2);
    ranked_in.rejected = ranked_view(3);
    ranked_in.ref_chosen = ranked_in.ref_rejected = ranked_view(6);
    ranked_in.mask = mask_view<Space>(counts.data(), n);
    pair_outputs<T, Space> ranked_out;
    ranked_out.loss = out.loss;
    ranked_out.per_pair = out.per_pair;
    ranked_out.grad_chosen = ranked_view(4);
    ranked_out.grad_rejected = ranked_view(5);
    const status done = preference_loss<Objective>{objective}(be, ranked_in, ranked_out);
    if (!done && done.code != errc::empty_mask) return done;
    if (auto s = be.map(
            n, scatter<T, Space>{u_order, v_order, column(4), column(5), paired, out.grad_chosen, out.grad_rejected},
            nullptr);
        !s)
      return s;
    return done;
  }

  /// Stands for the objective where only the inputs are looked at. Of no use to callers; public because nvcc launches no kernel
  /// over a private type.
  struct given {
    unsigned reads_these = 0;
    double scale = 1;
    [[nodiscard]] constexpr unsigned needs() const { return reads_these; }
    [[nodiscard]] RLHF_HD constexpr double reward_scale() const { return scale; }
    template <number V>
    RLHF_HD RLHF_INLINE V operator()(const pair<V>&) const {
      return V(constant<V>(0));
    }
  };
};
template <class O>
aot(O, bool) -> aot<O>;

}  // namespace rlhf::inline v1
