#pragma once
// What an unpaired loss compares rewards with: KTO's KL from mismatched responses, BCO's running mean.

#include "rlhf/driver/moments.hpp"

namespace rlhf::inline v1 {

/// Log-probabilities [responses] under the policy and the reference, sums over tokens.
template <class T = float, class Space = host_space>
struct log_ratio_inputs {
  view<const T, 1, Space> logp{};
  view<const T, 1, Space> ref_logp{};
  mask_view<Space> mask{};
};

namespace reference_point_detail {

/// Sum, number, and number of those that are not 0.
template <class T, class Space>
struct sum_log_ratios {
  using scalar = compute_t<T>;
  static constexpr int sums = 3, maxima = 0;
  log_ratio_inputs<T, Space> in;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(in.logp) && rlhf::unit_stride(in.ref_logp) && rlhf::unit_stride(in.mask);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 3, 0>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const mask_t<V> valid = load_mask<V>(in.mask, i);
    const V ratio = select(valid, load<V>(in.logp, i) - load<V>(in.ref_logp, i), zero);
    acc.sum[0] = acc.sum[0] + ratio;
    acc.sum[1] = acc.sum[1] + select(valid, one, zero);
    acc.sum[2] = acc.sum[2] + select((ratio > zero) | (ratio < zero), one, zero);
  }
};

template <class T>
struct write_kl {
  const totals<3>* found;
  bool nonzero;
  T* out;
  RLHF_HD RLHF_INLINE void operator()() const {
    const double n = found->sum[nonzero ? 2 : 1], kl = n > 0 ? found->sum[0] / n : 0;
    *out = static_cast<T>(kl < 0 ? 0 : kl);  // NaN stays NaN
  }
};

template <class T, class Space>
struct write_log_ratios {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  log_ratio_inputs<T, Space> in;
  T* out;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(in.logp) && rlhf::unit_stride(in.ref_logp);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    memory_traits<V>::store(out + i, load<V>(in.logp, i) - load<V>(in.ref_logp, i));
  }
};

template <class T, class Space>
[[nodiscard]] constexpr status check(const log_ratio_inputs<T, Space>& in, const char* function) {
  const std::int64_t n = in.logp.extent;
  if (n > 0 && !in.logp) return remark::null(function, "logp");
  if (n > 0 && !in.ref_logp) return remark::null(function, "ref_logp");
  if (in.ref_logp.extent != n) return remark::shape(function, "ref_logp", in.ref_logp.extent, n);
  if (in.mask && in.mask.extent != n) return remark::shape(function, "mask", in.mask.extent, n);
  return {};
}

}  // namespace reference_point_detail

/// KTO's estimate of KL(pi || ref): \f$ K = \max(0, \frac1n\sum_i \log\pi(y_i|x'_i) - \log\pi_{ref}(y_i|x'_i)) \f$, the
/// mean log-ratio of responses that were paired with prompts x' they do not answer, and 0 where that is negative. A
/// constant of the loss; nats.
///
/// `nonzero` divides by the number of responses whose log-ratio is not 0 (HALOs), otherwise by the number of responses (TRL).
/// How responses are mismatched is the caller's: both libraries take the next row's response of the batch. In data
/// parallel runs the reference point is the mean over the ranks, taken before the clamp: give this call all of them.
/// Nothing valid: 0 and `errc::empty_mask`. Source: Ethayarajh et al. 2024, arXiv 2402.01306; catalogue U-01, U-02.
struct kto_reference_point {
  bool nonzero = false;  ///< divide by the log-ratios that are not 0

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const log_ratio_inputs<T, Space>& in,
                    const std::type_identity_t<view<T, 1, Space>>& kl) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    using namespace reference_point_detail;
    constexpr const char* name = "kto_reference_point";
    if (auto s = reference_point_detail::check(in, name); !s) return s;
    if (!kl) return remark::null(name, "kl");
    if (kl.extent != 1) return remark::shape(name, "kl", kl.extent, 1);
    auto cell = be.template scratch<totals<3>>(1);
    if (cell.data() == nullptr) return remark::memory(name);
    if (auto s = be.map(in.logp.extent, sum_log_ratios<T, Space>{in}, cell.data()); !s) return s;
    if (auto s = be.once(write_kl<T>{cell.data(), nonzero, kl.data}); !s) return s;
    if constexpr (B::synchronous) {
      totals<3> found;
      if (auto s = read_cell(be, cell.data(), found); !s) return s;
      if (found.sum[1] == 0) return remark::empty(name, "mask");
    }
    return {};
  }
};

/// BCO's reference point: the mean of all implicit rewards beta (log pi - log ref) seen so far, this batch included where
/// `update` comes before the loss, as it should. A host object: keep it between steps, save it with the model.
/// Source: Jung et al. 2024, arXiv 2404.04656; catalogue U-04. It starts at mean 0, variance 1 and a count of
/// 1e-24 as the published running moments do, so that the first batch decides.
struct running_reference {
  double beta = 0.1;                 ///< of the implicit rewards
  moments rewards{1e-24, 0, 1e-24};  ///< of all seen so far

  [[nodiscard]] RLHF_INLINE constexpr double mean() const { return rewards.mean; }
  [[nodiscard]] RLHF_INLINE double variance() const { return rewards.variance(true); }

  /// Takes a batch in; waits for the backend. Ranks merge their `moments` instead and give `merge` the result.
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status update(B& be, const log_ratio_inputs<T, Space>& in) {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    using namespace reference_point_detail;
    constexpr const char* name = "running_reference";
    if (!(beta > 0)) return remark::argument(name, "beta", beta, "more than 0");
    if (auto s = reference_point_detail::check(in, name); !s) return s;
    auto ratios = be.template scratch<T>(in.logp.extent);
    auto cell = be.template scratch<moments>(1);
    if (ratios.data() == nullptr || cell.data() == nullptr) return remark::memory(name);
    if (auto s = be.map(in.logp.extent, write_log_ratios<T, Space>{in, ratios.data()}, nullptr); !s) return s;
    const view<const T, 1, Space> all{ratios.data(), in.logp.extent};
    if (auto s = masked_moments(be, name, all, in.mask, cell.data()); !s) return s;
    moments batch;
    if (auto s = read_cell(be, cell.data(), batch); !s) return s;  // the rewards seen so far stay
    merge(batch);
    return {};
  }
  /// Takes in the moments of log-ratios.
  RLHF_INLINE void merge(const moments& log_ratios) {
    rewards.merge({log_ratios.count, log_ratios.mean * beta, log_ratios.m2 * beta * beta});
  }
};

}  // namespace rlhf::inline v1
