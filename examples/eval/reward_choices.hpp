#pragma once
// Reward-model formulas chosen by name at run time, so that one kernel serves all of a kind: see choices.hpp.

#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/ensemble.hpp"
#include "rlhf/reward/prior_constrained.hpp"
#include "rlhf/reward/ranking.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"

namespace eval {

/// Any of the objectives of a pair of scores, chosen at run time.
struct any_score_pair {
  enum class kind { bradley_terry, thurstone, prior_constrained };
  kind which = kind::bradley_terry;
  rlhf::bradley_terry bradley_terry{};
  rlhf::thurstone thurstone{};
  rlhf::prior_constrained prior{};

  [[nodiscard]] constexpr rlhf::status check() const {
    switch (which) {
      case kind::thurstone:
        return thurstone.check();
      case kind::prior_constrained:
        return prior.check();
      default:
        return bradley_terry.check();
    }
  }
  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::score_pair<V>& p) const {
    switch (which) {
      case kind::thurstone:
        return thurstone(p);
      case kind::prior_constrained:
        return prior(p);
      default:
        return bradley_terry(p);
    }
  }

  static constexpr int statistics_count = rlhf::prior_constrained::statistics_count;
  using statistics_of = rlhf::prior_constrained;
  template <rlhf::number V>
  RLHF_HD void statistics(const rlhf::score_pair<V>& p, V (&out)[2]) const {
    if (which == kind::prior_constrained) return prior.statistics(p, out);
    out[0] = out[1] = V(rlhf::constant<V>(rlhf::not_a_number));  // it has none
  }
};

/// Either of the models that know ties.
struct any_tie {
  bool davidson = false;
  static constexpr int partials = 3;
  static constexpr unsigned reads = rlhf::reads_of<rlhf::davidson>();
  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::score_pair<V>& p) const {
    return davidson ? rlhf::davidson{}(p) : rlhf::rao_kupper{}(p);
  }
};

/// Any of the objectives of a ranked list.
struct any_ranking {
  bool pairs = false;
  rlhf::plackett_luce plackett_luce{};
  [[nodiscard]] constexpr rlhf::status check() const { return plackett_luce.check(); }
  template <class List>
  RLHF_HD double operator()(const List& list) const {
    return pairs ? rlhf::ranked_pairs{}(list) : plackett_luce(list);
  }
};

/// Any of the ways in which the members of an ensemble become one reward.
struct any_ensemble {
  enum class kind { mean, worst, uncertainty, bound, median };
  kind which = kind::mean;
  rlhf::uncertainty_weighted uncertainty{};
  rlhf::lower_confidence_bound bound{};
  [[nodiscard]] constexpr rlhf::status check() const {
    if (auto s = uncertainty.check(); !s) return s;
    return bound.check();
  }
  template <class Members>
  RLHF_HD double operator()(const Members& members) const {
    switch (which) {
      case kind::worst:
        return rlhf::worst_case{}(members);
      case kind::uncertainty:
        return uncertainty(members);
      case kind::bound:
        return bound(members);
      case kind::median:
        return rlhf::ensemble_median{}(members);
      default:
        return rlhf::ensemble_mean{}(members);
    }
  }
};

}  // namespace eval
