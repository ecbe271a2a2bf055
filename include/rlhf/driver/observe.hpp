#pragma once
// What a loss reports of its items beside its value, whatever the formula.

#include "rlhf/core/statistics.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// Common statistics of an item kind: `sums` masked means and `maxima` masked maxima, by name. Fields that the caller did
/// not give are NaN and are left out (their means are over the items that have them).
template <template <class> class Item>
struct observer;

template <>
struct observer<token> {
  static constexpr int sums = 5, maxima = 2;
  static constexpr const char* sum_names[] = {"approx_kl_k1", "approx_kl_k2", "approx_kl_k3", "ratio_mean", "entropy"};
  static constexpr const char* maximum_names[] = {"ratio_max", "log_ratio_abs_max"};
  bool with_entropy = true;

  template <number V>
  RLHF_HD RLHF_INLINE void operator()(const token<V>& t, V (&sum)[5], V (&maximum)[2]) const {
    const V d = t.logp - t.old_logp;
    const V ratio = exp(d);
    sum[0] = -d;
    sum[1] = d * d * constant<V>(0.5);
    sum[2] = expm1(d) - d;
    sum[3] = ratio;
    sum[4] = with_entropy ? t.entropy : constant<V>(not_a_number);
    maximum[0] = ratio;
    maximum[1] = abs(d);
  }
};

/// Rewards are beta times the raw log-ratio even under another divergence, as TRL reports them; accuracy is strict.
template <>
struct observer<pair> {
  static constexpr int sums = 6, maxima = 0;
  static constexpr const char* sum_names[] = {"rewards/chosen",  "rewards/rejected", "rewards/accuracies",
                                              "rewards/margins", "logps/chosen",     "logps/rejected"};
  static constexpr const char* maximum_names[] = {""};
  double beta = 1;
  bool without_reference = false;

  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V reward(const response<V>& r) const {
    return (without_reference ? r.logp : r.log_ratio()) * constant<V>(beta);
  }
  template <number V>
  RLHF_HD RLHF_INLINE void operator()(const pair<V>& p, V (&sum)[6], V (&)[1]) const {
    sum[0] = reward(p.chosen);
    sum[1] = reward(p.rejected);
    sum[2] = select(sum[0] > sum[1], constant<V>(1), constant<V>(0));
    sum[3] = sum[0] - sum[1];
    sum[4] = p.chosen.logp;
    sum[5] = p.rejected.logp;
  }
};

template <>
struct observer<score_pair> {
  static constexpr int sums = 4, maxima = 0;
  static constexpr const char* sum_names[] = {"accuracy", "margin", "mean_chosen", "mean_rejected"};
  static constexpr const char* maximum_names[] = {""};

  template <number V>
  RLHF_HD RLHF_INLINE void operator()(const score_pair<V>& p, V (&sum)[4], V (&)[1]) const {
    sum[0] = select(p.chosen > p.rejected, constant<V>(1), constant<V>(0));
    sum[1] = p.chosen - p.rejected;
    sum[2] = p.chosen;
    sum[3] = p.rejected;
  }
};

template <>
struct observer<value_item> {
  static constexpr int sums = 2, maxima = 0;
  static constexpr const char* sum_names[] = {"value_mean", "returns_mean"};
  static constexpr const char* maximum_names[] = {""};

  template <number V>
  RLHF_HD RLHF_INLINE void operator()(const value_item<V>& v, V (&sum)[2], V (&)[1]) const {
    sum[0] = v.value;
    sum[1] = v.returns;
  }
};

/// TRL's names: "chosen" are the desirable ones. Means of one kind are over the responses of that kind, so `divisor` says
/// which of the sums divides each (-1: the number of items).
template <>
struct observer<labelled_response> {
  static constexpr int sums = 6, maxima = 0;
  static constexpr const char* sum_names[] = {"desirable",        "undesirable",  "rewards/chosen",
                                              "rewards/rejected", "logps/chosen", "logps/rejected"};
  static constexpr const char* maximum_names[] = {""};
  static constexpr int divisor[] = {-1, -1, 0, 1, 0, 1};
  double beta = 1;

  template <number V>
  RLHF_HD RLHF_INLINE void operator()(const labelled_response<V>& r, V (&sum)[6], V (&)[1]) const {
    const V zero = constant<V>(0), one = constant<V>(1), reward = r.log_ratio() * constant<V>(beta);
    const mask_t<V> desirable = r.desirable();
    sum[0] = select(desirable, one, zero);
    sum[1] = select(desirable, zero, one);
    sum[2] = select(desirable, reward, zero);
    sum[3] = select(desirable, zero, reward);
    sum[4] = select(desirable, r.logp, zero);
    sum[5] = select(desirable, zero, r.logp);
  }
};

/// How many statistics a formula reports of its own: it declares `statistics_count`, `statistics_names` and a templated
/// `statistics(item, out)`; nothing where it declares nothing. A wrapper names the formula it speaks for as `statistics_of`.
template <class Formula>
[[nodiscard]] constexpr int statistics_count_of() {
  if constexpr (requires { Formula::statistics_count; })
    return Formula::statistics_count;
  else
    return 0;
}

template <class Formula>
[[nodiscard]] constexpr const char* statistics_name_of(int k) {
  if constexpr (requires { typename Formula::statistics_of; })
    return statistics_name_of<typename Formula::statistics_of>(k);
  else
    return Formula::statistics_names[k];
}

}  // namespace rlhf::inline v1
