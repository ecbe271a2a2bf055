#pragma once
// Inputs, outputs and kernels of robust_aggregate: a survey, a search, the weights.

#include "rlhf/backend/concept.hpp"
#include "rlhf/core/statistics.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/objective/robust.hpp"

namespace rlhf::inline v1 {

/// Losses of units: tokens, spans or sequences, whatever robustness is wanted over. Shapes [units].
template <class T = float, class Space = host_space>
struct robust_inputs {
  view<const T, 1, Space> loss{};
  view<const T, 1, Space> weight{};  ///< 0 or more, in any unit; absent: all the same
  mask_view<Space> mask{};
};

/// What robust_aggregate writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct robust_outputs {
  view<T, 1, Space> loss{};     ///< one element
  view<T, 1, Space> weight{};   ///< [units], they add up to 1: d loss / d loss of the unit
  view<T, 1, Space> dual{};     ///< one element: see the set
  statistics* stats = nullptr;  ///< effective_size = 1 / sum w^2, max_weight_ratio = max w / q
};

namespace robust_detail {

/// The cells of a call, in the backend's space.
struct cells {
  totals<3, 2> first;
  totals<2> second;
  totals<2, 2> step;
  totals<1> share;
  totals<3, 1> last;
  loss_survey survey;
  weight_search search;
};

template <class T, class Space>
struct units {
  robust_inputs<T, Space> in;
  /// The weight of a unit; 0 where it is masked.
  [[nodiscard]] RLHF_HD RLHF_INLINE double weight(std::int64_t i) const {
    return load_mask<double>(in.mask, i) ? load_or<double>(in.weight, i, 1) : 0;
  }
  [[nodiscard]] RLHF_HD RLHF_INLINE double loss(std::int64_t i) const { return load<double>(in.loss, i); }
};

template <class T, class Space>
struct first_look {
  using scalar = double;
  static constexpr int sums = 3, maxima = 2;
  units<T, Space> unit;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 3, 2>& acc) const {
    const double q = unit.weight(i);
    if (!(q > 0)) return;
    const double l = unit.loss(i);
    acc.sum[0] = acc.sum[0] + q;
    acc.sum[1] = acc.sum[1] + q * l;
    acc.sum[2] = acc.sum[2] + 1;
    acc.max[0] = max(acc.max[0], l);
    acc.max[1] = max(acc.max[1], -l);
  }
};

template <class T, class Space>
struct second_look {
  using scalar = double;
  static constexpr int sums = 2, maxima = 0;
  units<T, Space> unit;
  const cells* c;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 2, 0>& acc) const {
    const double q = unit.weight(i);
    if (!(q > 0)) return;
    const double l = unit.loss(i), mean = c->first.sum[1] / c->first.sum[0];
    acc.sum[0] = acc.sum[0] + q * square(l - mean);
    acc.sum[1] = acc.sum[1] + (l >= c->first.max[0] ? q : 0);
  }
};

template <class Set>
struct start_search {
  Set set;
  cells* c;
  RLHF_HD RLHF_INLINE void operator()() const {
    const double mass = c->first.sum[0];
    c->survey = {};
    c->search = {};
    if (!(mass > 0)) return;
    c->survey = {mass,
                 c->first.sum[1] / mass,
                 c->second.sum[0] / mass,
                 c->first.max[0],
                 -c->first.max[1],
                 c->second.sum[1] / mass};
    c->search = set.start(c->survey);
  }
};

template <class Set, class T, class Space>
struct measure_units {
  using scalar = double;
  static constexpr int sums = 2, maxima = 2;
  units<T, Space> unit;
  Set set;
  const cells* c;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 2, 2>& acc) const {
    const double q = unit.weight(i);
    if (!(q > 0)) return;
    weight_measure m;
    set.measure(unit.loss(i) - c->survey.top, c->search.x, m);
    for (int k = 0; k < 2; ++k) {
      acc.sum[k] = acc.sum[k] + q / c->survey.mass * m.sum[k];
      acc.max[k] = max(acc.max[k], m.max[k]);
    }
  }
};

template <class Set>
struct next_step {
  Set set;
  cells* c;
  RLHF_HD RLHF_INLINE void operator()() const {
    if (c->search.found != weight_search::answer::open) return;
    weight_measure m;
    for (int k = 0; k < 2; ++k) {
      m.sum[k] = c->step.sum[k];
      m.max[k] = c->step.max[k];
    }
    set.step(c->search, m);
  }
};

/// The factor of a unit's weight. Where the search has an answer without x, that is the answer.
template <class Set>
[[nodiscard]] RLHF_HD RLHF_INLINE double factor(const Set& set, const cells& c, double u) {
  if (c.search.found == weight_search::answer::base) return 1;
  if (c.search.found == weight_search::answer::top_alone) return u >= 0 ? 1 : 0;
  if constexpr (Set::ties_in_order)
    return u > c.search.high ? 1 : 0;  // those at the edge come in order
  else
    return set.factor(u, c.search.x);
}

/// The sum of the weights before they are divided by it; with ties in order, of those above the edge, and of those at it.
template <class Set, class T, class Space>
struct sum_factors {
  using scalar = double;
  static constexpr int sums = 1, maxima = 0;
  units<T, Space> unit;
  Set set;
  const cells* c;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    const double q = unit.weight(i);
    if (q > 0) acc.sum[0] = acc.sum[0] + q / c->survey.mass * factor(set, *c, unit.loss(i) - c->survey.top);
  }
};

/// Weight of the units at the edge that stand before each, by a scan from the end: all of it, less what comes after.
template <class T, class Space>
struct weights_after {
  using scalar = double;
  static constexpr int scans = 1;
  units<T, Space> unit;
  const cells* c;
  double* after;
  [[nodiscard]] RLHF_HD RLHF_INLINE double initial(std::int64_t, int) const { return 0; }
  template <class V, class Scan>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t, std::int64_t i, Scan& scan) const {
    const double q = unit.weight(i), u = q > 0 ? unit.loss(i) - c->survey.top : -infinity;
    const double here = q > 0 && !(u < c->search.high) && !(u > c->search.high) ? q / c->survey.mass : 0;
    after[i] = scan.inclusive(0, V(1), V(here));
  }
};

template <class Set, class T, class Space>
struct write_weights {
  using scalar = double;
  static constexpr int sums = 3, maxima = 1;
  units<T, Space> unit;
  Set set;
  double robustness;
  const cells* c;
  const double* after;  ///< with ties in order: weight at the edge from each unit to the end
  robust_outputs<T, Space> out;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 3, 1>& acc) const {
    const double given = unit.weight(i);
    if (!(given > 0)) {
      store(out.weight, i, 0.0);
      return;
    }
    const double q = given / c->survey.mass, l = unit.loss(i), worst = worst_weight(i, q, l - c->survey.top);
    // Written so that equal weights stay equal to the last bit.
    const double w = robustness < 1 ? q + robustness * (worst - q) : worst;
    store(out.weight, i, w);
    acc.sum[0] = acc.sum[0] + (worst > 0 ? worst * l : 0);
    acc.sum[1] = acc.sum[1] + w * w;
    acc.sum[2] = acc.sum[2] + w;
    acc.max[0] = max(acc.max[0], w / q);
  }

 private:
  [[nodiscard]] RLHF_HD RLHF_INLINE double worst_weight(std::int64_t i, double q, double u) const {
    if (c->search.found == weight_search::answer::base) return q;
    if constexpr (Set::ties_in_order) {
      if (u > c->search.high) return q / set.alpha;
      if (u < c->search.high) return 0;
      const double before = after[0] - after[i], left = set.alpha - c->share.sum[0] - before;
      return clamp(left, 0.0, q) / set.alpha;
    } else {
      return q * factor(set, *c, u) / c->share.sum[0];
    }
  }
};

template <class Set, class T, class Space>
struct write_results {
  Set set;
  double robustness;
  const cells* c;
  robust_outputs<T, Space> out;
  RLHF_HD RLHF_INLINE void operator()() const {
    const bool any = c->survey.mass > 0;
    const double worst = set.value(c->survey, c->share.sum[0], c->last.sum[0]), mean = c->survey.mean;
    store(out.loss, 0, !any ? 0 : robustness < 1 ? mean + robustness * (worst - mean) : worst);
    store(out.dual, 0, any ? set.dual(c->survey, c->search) : 0);
  }
};

}  // namespace robust_detail

}  // namespace rlhf::inline v1
