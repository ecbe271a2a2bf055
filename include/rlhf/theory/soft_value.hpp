#pragma once
// Finite MDPs solved exactly: soft (and plain) value iteration, policies evaluated by a linear system, occupancies.

#include <Eigen/IterativeLinearSolvers>
#include <Eigen/LU>
#include <Eigen/SparseCore>
#include <string>
#include <vector>

#include "rlhf/formulation/concepts.hpp"
#include "rlhf/theory/distributions.hpp"

namespace rlhf::inline v1::theory {

namespace detail {

/// Log-probabilities of the actions of every state: sums of 1 up to 1e-6, or an error that says where not. Probabilities given in
/// their place would pass for numbers.
template <finite_mdp M>
void want_policy(const M& mdp, const vector& logp, const char* function, const char* argument) {
  want_size(static_cast<std::size_t>(logp.size()), mdp.pairs(), function, argument);
  for (std::int64_t s = 0; s < mdp.states(); ++s) {
    double sum = 0;
    for (std::int64_t a = 0; a < mdp.actions(s); ++a) sum += std::exp(logp[mdp.first(s) + a]);
    if (!(std::fabs(sum - 1) <= 1e-6))
      refuse(function, "the sum of e^" + std::string(argument) + " in state " + std::to_string(s), sum, "1");
  }
}

}  // namespace detail

/// What is maximised: \f$ E\sum_t\gamma^t\left[r_t - \tau\log\frac{\pi(a|s)}{\pi_{ref}(a|s)}\right] \f$. Without `ref_logp` (a number for
/// each pair of state and action, at first(s) + a) the entropy is rewarded instead; temperature 0 is the plain problem.
struct soft_criterion {
  double discount = 0.9;
  double temperature = 1;
  vector ref_logp = {};

  template <finite_mdp M>
  void check(const M& mdp) const {
    constexpr const char* name = "soft_criterion";
    detail::want(discount >= 0 && discount < 1, name, "discount", discount, "0 <= discount < 1");
    check_regularisation(mdp);
  }
  template <finite_mdp M>
  void check_regularisation(const M& mdp) const {
    constexpr const char* name = "soft_criterion";
    detail::want(temperature >= 0 && std::isfinite(temperature), name, "temperature", temperature, "0 or more");
    if constexpr (requires { mdp.check(); }) mdp.check();
    if (ref_logp.size() > 0) detail::want_policy(mdp, ref_logp, name, "ref_logp");
  }
  [[nodiscard]] double ref(std::int64_t pair) const { return ref_logp.size() > 0 ? ref_logp[pair] : 0; }

  /// Value of a state from its row of Q values, \f$ \tau\log\sum_a\pi_{ref}e^{Q/\tau} \f$ or their maximum.
  [[nodiscard]] double value(std::span<const double> q, std::int64_t first) const {
    double top = -infinity, sum = 0;
    for (std::size_t a = 0; a < q.size(); ++a) {
      const double score = q[a] + temperature * ref(first + static_cast<std::int64_t>(a));
      if (score > top) top = score;
    }
    if (temperature == 0) return top;
    for (std::size_t a = 0; a < q.size(); ++a)
      sum += std::exp((q[a] - top) / temperature + ref(first + static_cast<std::int64_t>(a)));
    return top + temperature * std::log(sum);
  }
};

/// Q values of all pairs from the values of the states.
template <finite_mdp M>
[[nodiscard]] vector q_values(const M& mdp, double discount, const vector& value) {
  vector q(mdp.pairs());
  for (std::int64_t s = 0; s < mdp.states(); ++s)
    for (std::int64_t a = 0; a < mdp.actions(s); ++a)
      q[mdp.first(s) + a] = mdp.reward(s, a) + discount * mdp.expect(s, a, span_of(value));
  return q;
}

/// The soft Bellman operator: values of the states from values of the states. A gamma-contraction in the largest difference.
template <finite_mdp M>
[[nodiscard]] vector soft_bellman(const M& mdp, const soft_criterion& c, const vector& value) {
  vector out(mdp.states());
  std::vector<double> q;
  for (std::int64_t s = 0; s < mdp.states(); ++s) {
    q.clear();
    for (std::int64_t a = 0; a < mdp.actions(s); ++a)
      q.push_back(mdp.reward(s, a) + c.discount * mdp.expect(s, a, span_of(value)));
    out[s] = c.value(q, mdp.first(s));
  }
  return out;
}

/// The policy that is soft-greedy for Q values: \f$ \pi\propto\pi_{ref}e^{Q/\tau} \f$; at temperature 0 the first best action.
template <finite_mdp M>
[[nodiscard]] vector soft_greedy(const M& mdp, const soft_criterion& c, const vector& q) {
  vector logp(q.size());
  for (std::int64_t s = 0; s < mdp.states(); ++s) {
    const std::int64_t first = mdp.first(s), n = mdp.actions(s);
    if (c.temperature == 0) {
      Eigen::Index best = 0;
      q.segment(first, n).maxCoeff(&best);
      logp.segment(first, n).setConstant(-infinity);
      logp[first + best] = 0;
      continue;
    }
    vector z = q.segment(first, n) / c.temperature;
    if (c.ref_logp.size() > 0) z += c.ref_logp.segment(first, n);
    logp.segment(first, n) = log_softmax(z);
  }
  return logp;
}

/// A policy with its values.
struct solved_mdp {
  vector value;   ///< of each state
  vector q;       ///< of each pair
  vector policy;  ///< log pi(a|s) of each pair
  std::int64_t sweeps = 0;
  double error = 0;  ///< bound on |value - V*|: gamma / (1 - gamma) of the last change
};

/// Soft value iteration until the bound on the error is at most `tolerance`.
template <finite_mdp M>
[[nodiscard]] solved_mdp soft_value_iteration(const M& mdp, const soft_criterion& c, double tolerance = 1e-10,
                                              std::int64_t most = 1000000) {
  c.check(mdp);
  detail::want(tolerance > 0, "soft_value_iteration", "tolerance", tolerance, "more than 0");
  solved_mdp out{vector::Zero(mdp.states()), {}, {}, 0, infinity};
  while (out.error > tolerance && out.sweeps < most) {
    vector next = soft_bellman(mdp, c, out.value);
    out.error = (next - out.value).cwiseAbs().maxCoeff() * c.discount / (1 - c.discount);
    out.value = std::move(next);
    ++out.sweeps;
  }
  out.q = q_values(mdp, c.discount, out.value);
  out.policy = soft_greedy(mdp, c, out.q);
  return out;
}

/// Soft-optimal values with `steps` actions to go and no discount: element t is what t actions are worth, from each state.
template <finite_mdp M>
[[nodiscard]] std::vector<vector> finite_horizon(const M& mdp, soft_criterion c, std::int64_t steps) {
  c.discount = 1;
  c.check_regularisation(mdp);
  detail::want(steps >= 0, "finite_horizon", "steps", static_cast<double>(steps), "0 or more");
  std::vector<vector> value{vector::Zero(mdp.states())};
  for (std::int64_t t = 0; t < steps; ++t) value.push_back(soft_bellman(mdp, c, value.back()));
  return value;
}

namespace detail {

/// The matrix I - gamma P of a policy, and what it pays in each state.
struct policy_system {
  Eigen::SparseMatrix<double> system;
  vector reward;
};

template <finite_mdp M>
[[nodiscard]] policy_system system_of(const M& mdp, const soft_criterion& c, const vector& policy) {
  c.check(mdp);
  want_policy(mdp, policy, "a policy's values", "policy");
  policy_system out{Eigen::SparseMatrix<double>(mdp.states(), mdp.states()), vector::Zero(mdp.states())};
  std::vector<Eigen::Triplet<double>> cells;
  // A state's row is summed over its actions first: a cell for each successor, not for each successor of each action.
  std::vector<double> row(static_cast<std::size_t>(mdp.states()), 0.0);
  std::vector<char> seen(row.size(), 0);
  std::vector<std::int64_t> successors;
  const auto add = [&](std::int64_t next, double x) {
    if (!at(seen, next)) at(seen, next) = 1, successors.push_back(next);
    at(row, next) += x;
  };
  for (std::int64_t s = 0; s < mdp.states(); ++s) {
    add(s, 1);
    for (std::int64_t a = 0; a < mdp.actions(s); ++a) {
      const double logp = policy[mdp.first(s) + a], p = std::exp(logp);
      if (!(p > 0)) continue;
      const double entropy = c.temperature > 0 ? c.temperature * (logp - c.ref(mdp.first(s) + a)) : 0;
      out.reward[s] += p * (mdp.reward(s, a) - entropy);
      mdp.visit(s, a, [&](std::int64_t next, double q) { add(next, -c.discount * p * q); });
    }
    for (const std::int64_t next : successors) {
      cells.emplace_back(s, next, at(row, next));
      at(row, next) = 0, at(seen, next) = 0;
    }
    successors.clear();
  }
  out.system.setFromTriplets(cells.begin(), cells.end());
  return out;
}

/// x of A x = b: by elimination where A is small, else by iteration to 1e-13.
[[nodiscard]] inline vector solve(const Eigen::SparseMatrix<double>& a, const vector& b) {
  if (a.rows() <= 1500) return matrix(a).partialPivLu().solve(b);
  Eigen::BiCGSTAB<Eigen::SparseMatrix<double, Eigen::RowMajor>> solver;
  solver.setTolerance(1e-13);
  solver.compute(a);
  vector x = solver.solve(b);
  want(solver.info() == Eigen::Success, "a policy's values", "the iteration's residual", solver.error(), "1e-13");
  return x;
}

}  // namespace detail

/// Values of the states under a policy (log-probabilities of the pairs), regularisation included.
template <finite_mdp M>
[[nodiscard]] vector evaluate(const M& mdp, const soft_criterion& c, const vector& policy) {
  const auto [system, reward] = detail::system_of(mdp, c, policy);
  return detail::solve(system, reward);
}

/// Discounted occupancy of the pairs from initial states drawn with `start`: \f$ (1-\gamma)\sum_t\gamma^t P(s_t, a_t) \f$, sum 1.
template <finite_mdp M>
[[nodiscard]] vector occupancy(const M& mdp, const soft_criterion& c, const vector& policy, const vector& start) {
  detail::want_size(static_cast<std::size_t>(start.size()), mdp.states(), "occupancy", "start");
  detail::want_distribution(span_of(start), "occupancy", "start");
  const auto parts = detail::system_of(mdp, c, policy);
  const vector states = detail::solve(Eigen::SparseMatrix<double>(parts.system.transpose()), (1 - c.discount) * start);
  vector out(policy.size());
  for (std::int64_t s = 0; s < mdp.states(); ++s)
    for (std::int64_t a = 0; a < mdp.actions(s); ++a)
      out[mdp.first(s) + a] = states[s] * std::exp(policy[mdp.first(s) + a]);
  return out;
}

/// One step of natural policy gradient (mirror descent in every state), \f$ \pi_{t+1}\propto\pi_t^{1-\eta\tau/(1-\gamma)}
/// (\pi_{ref}\,e^{Q/\tau})^{\eta\tau/(1-\gamma)} \f$, Q the policy's own. With eta = (1 - gamma)/tau it is soft policy iteration.
/// Source: Cen et al. 2020, arXiv 2007.06558; without regularisation Agarwal et al. 2019, arXiv 1908.00261.
template <finite_mdp M>
[[nodiscard]] vector natural_step(const M& mdp, const soft_criterion& c, const vector& policy, double step) {
  detail::want(step > 0, "natural_step", "step", step, "more than 0");
  const double rate = step / (1 - c.discount), keep = 1 - rate * c.temperature;
  detail::want(keep >= -1e-12, "natural_step", "step", step, "at most (1 - discount) / temperature");
  const vector q = q_values(mdp, c.discount, evaluate(mdp, c, policy));
  vector out(policy.size());
  for (std::int64_t s = 0; s < mdp.states(); ++s) {
    const std::int64_t first = mdp.first(s), n = mdp.actions(s);
    vector z = rate * q.segment(first, n);
    if (keep > 1e-12) z += keep * policy.segment(first, n);
    if (c.ref_logp.size() > 0) z += (1 - keep) * c.ref_logp.segment(first, n);
    out.segment(first, n) = log_softmax(z);
  }
  return out;
}

}  // namespace rlhf::inline v1::theory
