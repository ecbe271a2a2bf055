#pragma once
// The token MDP solved exactly: soft-optimal policies, values, divergences and occupancies by recursion over the tree.
//
// A policy is a table of conditional log-probabilities, `token_mdp::cell(prompt, prefix, token)` says where.

#include <vector>

#include "rlhf/formulation/views.hpp"
#include "rlhf/theory/distributions.hpp"

namespace rlhf::inline v1::theory {

using table = std::vector<double>;

/// The uniform policy, and a policy from any table of logits.
[[nodiscard]] inline table token_softmax(const token_mdp& mdp, table logits) {
  detail::want_size(logits.size(), mdp.cells(), "token_softmax", "logits");
  const Eigen::Index v = mdp.vocabulary();
  for (std::size_t row = 0; row < logits.size(); row += static_cast<std::size_t>(v)) {
    Eigen::Map<vector> z(logits.data() + row, v);
    z = log_softmax(z);
  }
  return logits;
}
[[nodiscard]] inline table uniform_tokens(const token_mdp& mdp) {
  return table(static_cast<std::size_t>(mdp.cells()), -std::log(static_cast<double>(mdp.vocabulary())));
}

/// Backward recursion: value[x, p] = row(x, p, q) of the row q(a) = reward + value of the child (0 behind the end), for every
/// prompt and prefix. `row` sees and may change the row of Q values. Values [prompts, prefixes].
template <class Row>
[[nodiscard]] table backward(const token_mdp& mdp, std::span<const double> rewards, Row&& row) {
  detail::want_size(rewards.size(), mdp.cells(), "backward", "rewards");
  using detail::at;
  const std::int64_t v = mdp.vocabulary();
  table value(static_cast<std::size_t>(mdp.prompts() * mdp.prefixes()));
  vector q(v);
  for (std::int64_t x = 0; x < mdp.prompts(); ++x)
    for (std::int64_t p = mdp.prefixes() - 1; p >= 0; --p) {
      for (std::int64_t a = 0; a < v; ++a) {
        const double after = mdp.completes(p, a) ? 0 : at(value, x * mdp.prefixes() + mdp.child(p, a));
        q[a] = at(rewards, mdp.cell(x, p, a)) + after;
      }
      at(value, x * mdp.prefixes() + p) = row(x, p, q);
    }
  return value;
}

/// The soft-optimal policy of a token MDP and its values.
struct soft_solution {
  table value;   ///< V*(s), [prompts, prefixes]
  table policy;  ///< log pi*(a|s)
};

/// Soft Bellman equations on a deterministic tree: \f$ V(s)=\beta\log\sum_a\pi_{ref}(a|s)e^{(r+V(s'))/\beta} \f$,
/// \f$ \pi^*=\pi_{ref}e^{(r+V(s')-V(s))/\beta} \f$, V behind the end 0. Other rewards than the MDP's own may be given.
[[nodiscard]] inline soft_solution soft_optimal(const token_mdp& mdp, std::span<const double> ref, double beta,
                                                std::span<const double> rewards = {}) {
  detail::want_beta(beta, "soft_optimal");
  detail::want_size(ref.size(), mdp.cells(), "soft_optimal", "ref");
  soft_solution out;
  out.policy.resize(ref.size());
  out.value =
      backward(mdp, rewards.empty() ? mdp.rewards() : rewards, [&](std::int64_t x, std::int64_t p, const vector& q) {
        const auto row = static_cast<std::size_t>(mdp.cell(x, p, 0));
        const vector r = Eigen::Map<const vector>(ref.data() + row, q.size());
        const regularised_bandit here{q, r, beta};
        Eigen::Map<vector>(out.policy.data() + row, q.size()) = here.best();
        return here.best_value();
      });
  return out;
}

/// The mean of the summed `rewards` of the tokens that a policy writes, from every prefix on: [prompts, prefixes].
[[nodiscard]] inline table policy_value(const token_mdp& mdp, std::span<const double> policy,
                                        std::span<const double> rewards) {
  detail::want_size(policy.size(), mdp.cells(), "policy_value", "policy");
  return backward(mdp, rewards, [&](std::int64_t x, std::int64_t p, const vector& q) {
    const vector logp = Eigen::Map<const vector>(policy.data() + mdp.cell(x, p, 0), q.size());
    return expectation(logp, q);
  });
}

/// The token rewards of a policy's log-ratio to another: \f$ \log\pi(a|s) - \log\pi'(a|s) \f$ at every cell.
[[nodiscard]] inline table log_ratio(std::span<const double> policy, std::span<const double> other) {
  table out(policy.begin(), policy.end());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] -= other[i];
  return out;
}

/// KL of the distributions over responses, from every prefix on; the first element of a prompt is that of whole responses.
[[nodiscard]] inline table response_kl(const token_mdp& mdp, std::span<const double> policy,
                                       std::span<const double> other) {
  return policy_value(mdp, policy, log_ratio(policy, other));
}

/// \f$ V_\beta^\pi \f$: rewards less beta times the log-ratio to the reference.
[[nodiscard]] inline table regularised_value(const token_mdp& mdp, std::span<const double> policy,
                                             std::span<const double> ref, double beta,
                                             std::span<const double> rewards = {}) {
  table shaped = log_ratio(ref, policy);
  const auto r = rewards.empty() ? mdp.rewards() : rewards;
  for (std::size_t i = 0; i < shaped.size(); ++i) shaped[i] = r[i] + beta * shaped[i];
  return policy_value(mdp, policy, shaped);
}

/// How often a policy visits each (prompt, prefix, token), for each prompt as if it were the only one: sums over the prefixes
/// of a length, and completed responses, to 1.
[[nodiscard]] inline table occupancy(const token_mdp& mdp, std::span<const double> policy) {
  detail::want_size(policy.size(), mdp.cells(), "occupancy", "policy");
  using detail::at;
  table out(policy.size());
  table reach(static_cast<std::size_t>(mdp.prefixes()));
  for (std::int64_t x = 0; x < mdp.prompts(); ++x) {
    std::fill(reach.begin(), reach.end(), 0.0);
    reach[0] = 1;
    for (std::int64_t p = 0; p < mdp.prefixes(); ++p)
      for (std::int64_t a = 0; a < mdp.vocabulary(); ++a) {
        const std::int64_t c = mdp.cell(x, p, a);
        at(out, c) = at(reach, p) > 0 ? at(reach, p) * std::exp(at(policy, c)) : 0;
        if (!mdp.completes(p, a)) at(reach, mdp.child(p, a)) = at(out, c);
      }
  }
  return out;
}

}  // namespace rlhf::inline v1::theory
