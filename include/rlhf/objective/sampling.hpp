#pragma once
// Distributions to draw responses from, as mixtures of two rows of logits.

#include "rlhf/core/status.hpp"
#include "rlhf/math/functions.hpp"

namespace rlhf::inline v1 {

/// \f$ a\,z + b\,z' \f$ of the logits (or log-probabilities) of two distributions: the powers \f$ \pi^a\,\pi'^b \f$ of them, to be
/// normalised. A token that the first one excludes stays excluded, whatever the second one says; a coefficient of 0 reads nothing.
struct logit_mixture {
  double policy = 1;     ///< a
  double reference = 0;  ///< b
  [[nodiscard]] constexpr status check() const {
    if (!(policy > -infinity && policy < infinity))
      return remark::argument("logit_mixture", "policy", policy, "a finite number");
    if (!(reference > -infinity && reference < infinity))
      return remark::argument("logit_mixture", "reference", reference, "a finite number");
    return {};
  }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE V operator()(const V& z, const V& other) const {
    if (policy == 0) return other * constant<V>(reference);
    V mixed = z * constant<V>(policy);
    if (reference != 0) mixed = mixed + other * constant<V>(reference);
    return select(z > constant<V>(-infinity), mixed, V(constant<V>(-infinity)));
  }
};

/// PILAF's exploring policy \f$ \pi_+ \propto \pi^{1+\beta}\pi_{ref}^{-\beta} \f$, away from the reference, or with `plus = false` its
/// partner \f$ \pi_- \propto \pi^{1-\beta}\pi_{ref}^{\beta} \f$. Of the pairs shown to the labeller half are drawn from the policy, half one response
/// from each of these two. Applied token by token it is not the same as over whole responses, whose distribution it is on rows
/// that list responses. The reference must not exclude what the policy allows.
/// Source: Feng et al. 2025, arXiv 2502.04270. Catalogue spec-b-1.
[[nodiscard]] RLHF_INLINE constexpr logit_mixture pilaf(double beta = 0.1, bool plus = true) {
  return {plus ? 1 + beta : 1 - beta, plus ? -beta : beta};
}

/// Nash-MD's opponent \f$ \propto \pi^{1-c}\pi_{ref}^{c} \f$.
/// Source: Munos et al. 2023, arXiv 2312.00886. Catalogue N-03 (the sampler).
[[nodiscard]] RLHF_INLINE constexpr logit_mixture geometric_mixture(double coefficient = 0.5) {
  return {1 - coefficient, coefficient};
}

/// The best policy under a KL penalty, \f$ \pi^*\propto\pi_{ref}\,e^{r/\beta} \f$: rows of the reference's log-probabilities and of
/// rewards. beta times the row's log-sum-exp is the value \f$ \beta\log Z \f$. Catalogue spec-b-10.
[[nodiscard]] RLHF_INLINE constexpr logit_mixture gibbs(double beta) { return {1, 1 / beta}; }

/// T-PILAF: how the pairs of a prompt are drawn and weighed, from \f$ Z_\pm = E_\pi\,e^{\pm\beta\log(\pi/\pi_{ref})} \f$.
struct pilaf_pairs {
  double from_policy;  ///< probability that both responses come from the policy, 1 / weight; at most one half
  double weight;       ///< of the prompt's loss, 1 + Z_+ Z_-
};
/// Takes the logs of both: what sampling_distribution writes as `log_normaliser` for the two signs.
[[nodiscard]] RLHF_HD RLHF_INLINE pilaf_pairs pilaf_pairs_of(double log_z_plus, double log_z_minus) {
  const double product = log_z_plus + log_z_minus;
  return {sigmoid(-product), 1 + rlhf::exp(product)};
}

}  // namespace rlhf::inline v1
