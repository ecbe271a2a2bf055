#pragma once
// Wrappers of pair objectives: another divergence to the reference, or no reference at all.

#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// The score of a log-ratio a under the forward KL, \f$ f(a) = -e^{-a} \f$, slope \f$ e^{-a} \f$; a float overflows
/// below a = -88. Source: Wang et al. 2023 (f-DPO), arXiv 2309.16240. Catalogue P-20.
struct forward_kl {
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const V& a) const {
    return -exp(-a);
  }
};

/// The score under the Jensen-Shannon divergence, \f$ f(a) = \log\sigma(a) \f$, slope \f$ \sigma(-a) \f$.
/// Source: as forward_kl, arXiv 2309.16240. Catalogue P-20.
struct jensen_shannon {
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const V& a) const {
    return log_sigmoid(a);
  }
};

/// The score under an alpha divergence, \f$ e^{[(\alpha-1)a]_{\le 80}}/(\alpha-1) \f$; the reverse KL (a itself) for
/// |alpha - 1| < 1e-6. Slope \f$ e^{(\alpha-1)a} \f$, 0 beyond the bound. Source: as forward_kl, arXiv 2309.16240.
/// Catalogue P-20.
struct alpha_divergence {
  double alpha = 0.5;          ///< 1: reverse KL, 0: forward KL
  double exponent_bound = 80;  ///< upper bound of the exponent

  [[nodiscard]] constexpr status check() const {
    if (!(alpha > -infinity && alpha < infinity))
      return remark::argument("alpha_divergence", "alpha", alpha, "a finite number");
    if (!(exponent_bound > 0))
      return remark::argument("alpha_divergence", "exponent_bound", exponent_bound, "more than 0");
    return {};
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const V& a) const {
    const double shift = alpha - 1;
    if (shift < 1e-6 && shift > -1e-6) return a;
    return exp(min(a * constant<V>(shift), constant<V>(exponent_bound))) * constant<V>(1 / shift);
  }
};

/// A pair objective on transformed scores: each log-ratio to the reference is replaced by its score under a divergence,
/// \f$ L(f(a), f(b)) \f$ in place of \f$ L(a, b) \f$.
/// Source: f-DPO, Wang et al. 2023, arXiv 2309.16240. Catalogue P-20.
template <class Objective, class Divergence>
struct with_divergence {
  Objective objective;
  Divergence divergence;
  static constexpr unsigned reads = reads_of<Objective>() | field::references;
  [[nodiscard]] constexpr unsigned needs() const { return needs_of(objective) | field::references; }
  [[nodiscard]] constexpr status check() const {
    if (auto s = check_of(divergence); !s) return s;
    return check_of(objective);
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    pair<V> scored = p;
    scored.chosen.logp = divergence(p.chosen.log_ratio());
    scored.rejected.logp = divergence(p.rejected.log_ratio());
    scored.chosen.ref_logp = scored.rejected.ref_logp = value_t<V>(constant<V>(0));
    return objective(scored);
  }
  [[nodiscard]] RLHF_HD double reward_scale() const {
    if constexpr (requires { objective.beta; })
      return objective.beta;
    else
      return 1;
  }
};
template <class Objective, class Divergence>
with_divergence(Objective, Divergence) -> with_divergence<Objective, Divergence>;

/// A pair objective with the reference's log-probabilities taken as 0 (a uniform reference): \f$ a = L_c,\ b = L_r \f$.
/// Source: the program of DPO's authors; ms-swift and Liger have it too. Catalogue P-23.
template <class Objective>
struct reference_free {
  Objective objective;
  static constexpr unsigned reads = reads_of<Objective>() & ~field::references;
  [[nodiscard]] constexpr unsigned needs() const { return needs_of(objective) & ~field::references; }
  [[nodiscard]] constexpr status check() const { return check_of(objective); }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const pair<V>& p) const {
    pair<V> free = p;
    free.chosen.ref_logp = free.rejected.ref_logp = value_t<V>(constant<V>(0));
    return objective(free);
  }
  [[nodiscard]] RLHF_HD double reward_scale() const {
    if constexpr (requires { objective.beta; })
      return objective.beta;
    else
      return 1;
  }
  static constexpr bool without_reference = true;
};
template <class Objective>
reference_free(Objective) -> reference_free<Objective>;

}  // namespace rlhf::inline v1
