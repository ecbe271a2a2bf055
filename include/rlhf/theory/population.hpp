#pragma once
// The library's pair objectives in expectation: no samples, every pair with its exact weight.

#include <vector>

#include "rlhf/math/fields.hpp"
#include "rlhf/theory/log_linear.hpp"

namespace rlhf::inline v1::theory {

/// Pairs of responses to one prompt, and what an objective may read about them. What is not given is NaN, as in a driver.
struct pair_population {
  matrix weight;              ///< [responses, responses]: how often y is the chosen one and y' the rejected one
  vector ref_logp = {};       ///< of each response
  vector previous_logp = {};  ///< of each response
  vector reward = {};         ///< of each response

  /// Pairs from `law` [y, y'], labelled with P(y > y'): each pair appears in both orders, as often as its label falls.
  [[nodiscard]] static matrix labelled(const matrix& law, const matrix& preference) {
    return (law + law.transpose()).cwiseProduct(preference);
  }
  /// Two independent draws: from e^logp and from e^other.
  [[nodiscard]] static matrix independent(const vector& logp, const vector& other) {
    return probabilities(logp) * probabilities(other).transpose();
  }
};

/// Expected loss, its gradient and its second derivatives in the log-probabilities of the responses.
struct population_loss {
  double loss = 0;
  vector gradient;
  matrix hessian;
};

namespace detail {

/// Adds w times the objective of the pair (a, b) with these rewards to a loss of the log-probabilities.
template <pair_objective Objective>
void add_pair(const Objective& objective, Eigen::Index a, Eigen::Index b, double w, const double (&reward)[2],
              const vector& logp, const vector& ref_logp, const vector& previous_logp, population_loss& out) {
  using first = dual<double, 2>;
  using second = dual<first, 2>;
  const auto field = [](const vector& x, Eigen::Index y) { return x.size() > 0 ? x[y] : not_a_number; };
  const auto respond = [&](Eigen::Index y, int variable) {
    response<second> r;
    r.logp = second::variable(first::variable(logp[y], variable), variable);
    r.ref_logp = first(field(ref_logp, y));
    r.previous_logp = first(field(previous_logp, y));
    r.reward = first(reward[variable]);
    r.length = first(1.0);  // a response is one action here
    return r;
  };
  pair<second> p;
  p.chosen = respond(a, 0);
  p.rejected = respond(b, 1);
  p.margin = first(not_a_number);
  const second l = objective(p);
  out.loss += w * l.value.value;
  const Eigen::Index at[] = {a, b};
  for (int i = 0; i < 2; ++i) {
    out.gradient[at[i]] += w * l.partial[i].value;
    for (int j = 0; j < 2; ++j) out.hessian(at[i], at[j]) += w * l.partial[i].partial[j];
  }
}

}  // namespace detail

template <pair_objective Objective>
[[nodiscard]] population_loss expected_loss(const Objective& objective, const pair_population& pairs,
                                            const vector& logp) {
  or_throw(check_of(objective));
  const Eigen::Index n = logp.size();
  detail::want_size(static_cast<std::size_t>(pairs.weight.size()), n * n, "expected_loss", "pairs.weight");
  const auto reward = [&](Eigen::Index y) { return pairs.reward.size() > 0 ? pairs.reward[y] : not_a_number; };
  population_loss out{0, vector::Zero(n), matrix::Zero(n, n)};
  for (Eigen::Index a = 0; a < n; ++a)
    for (Eigen::Index b = 0; b < n; ++b)
      if (const double w = pairs.weight(a, b); w > 0)
        detail::add_pair(objective, a, b, w, {reward(a), reward(b)}, logp, pairs.ref_logp, pairs.previous_logp, out);
  return out;
}

/// One pair as it was drawn, with what was said of its two responses: noisy rewards, shares of wins. Not given: NaN.
struct drawn_pair {
  Eigen::Index chosen = 0, rejected = 0;
  double chosen_reward = not_a_number, rejected_reward = not_a_number;
};

/// Finitely many pairs of responses to one prompt, all of the same weight.
struct pair_sample {
  std::vector<drawn_pair> pairs;
  vector ref_logp = {};       ///< of each response
  vector previous_logp = {};  ///< of each response
};

/// The mean loss of a sample: what `expected_loss` is the expectation of.
template <pair_objective Objective>
[[nodiscard]] population_loss mean_loss(const Objective& objective, const pair_sample& sample, const vector& logp) {
  or_throw(check_of(objective));
  detail::want(!sample.pairs.empty(), "mean_loss", "the number of pairs", 0, "at least 1");
  const Eigen::Index n = logp.size();
  const double w = 1 / static_cast<double>(sample.pairs.size());
  population_loss out{0, vector::Zero(n), matrix::Zero(n, n)};
  for (const drawn_pair& p : sample.pairs) {
    for (const Eigen::Index y : {p.chosen, p.rejected})
      detail::want(y >= 0 && y < n, "mean_loss", "a response", static_cast<double>(y), "one of the policy's");
    detail::add_pair(objective, p.chosen, p.rejected, w, {p.chosen_reward, p.rejected_reward}, logp, sample.ref_logp,
                     sample.previous_logp, out);
  }
  return out;
}

/// A loss of the log-probabilities of the responses as one of the parameters of a log-linear policy. `hessian` stays exact.
[[nodiscard]] inline population_loss in_parameters(population_loss l, const log_linear& policy) {
  const matrix s = policy.scores();
  const double sum = l.gradient.sum();
  l.hessian = (s.transpose() * l.hessian * s - sum * policy.fisher()).eval();
  l.gradient = (s.transpose() * l.gradient).eval();
  return l;
}
template <pair_objective Objective>
[[nodiscard]] population_loss expected_loss(const Objective& objective, const pair_population& pairs,
                                            const log_linear& policy) {
  return in_parameters(expected_loss(objective, pairs, policy.logp()), policy);
}

template <pair_objective Objective>
[[nodiscard]] population_loss mean_loss(const Objective& objective, const pair_sample& sample,
                                        const log_linear& policy) {
  return in_parameters(mean_loss(objective, sample, policy.logp()), policy);
}

/// Single responses to one prompt, and what an objective may read about them.
struct response_population {
  vector weight;                          ///< [responses]: how often each is seen
  vector ref_logp = {};                   ///< of each response
  vector label = {};                      ///< of each response: what is wanted of it, as the objective says
  double reference_point = not_a_number;  ///< of the prompt
};

/// An objective of single responses in expectation.
template <unpaired_objective Objective>
[[nodiscard]] population_loss expected_loss(const Objective& objective, const response_population& responses,
                                            const vector& logp) {
  or_throw(check_of(objective));
  const Eigen::Index n = logp.size();
  detail::want_size(static_cast<std::size_t>(responses.weight.size()), n, "expected_loss", "responses.weight");
  using first = dual<double>;
  using second = dual<first>;
  population_loss out{0, vector::Zero(n), matrix::Zero(n, n)};
  for (Eigen::Index y = 0; y < n; ++y) {
    const double w = responses.weight[y];
    if (!(w > 0)) continue;
    labelled_response<second> r;
    r.logp = second::variable(first::variable(logp[y], 0), 0);
    r.ref_logp = first(responses.ref_logp.size() > 0 ? responses.ref_logp[y] : not_a_number);
    r.label = first(responses.label.size() > 0 ? responses.label[y] : not_a_number);
    r.reference_point = first(responses.reference_point);
    r.length = first(1.0);
    const second l = objective(r);
    out.loss += w * l.value.value;
    out.gradient[y] += w * l.partial[0].value;
    out.hessian(y, y) += w * l.partial[0].partial[0];
  }
  return out;
}
template <unpaired_objective Objective>
[[nodiscard]] population_loss expected_loss(const Objective& objective, const response_population& responses,
                                            const log_linear& policy) {
  return in_parameters(expected_loss(objective, responses, policy.logp()), policy);
}
[[nodiscard]] inline population_loss operator+(population_loss a, const population_loss& b) {
  a.loss += b.loss;
  a.gradient += b.gradient;
  a.hessian += b.hessian;
  return a;
}

/// Where Newton's method ended.
struct newton_result {
  log_linear policy;
  double loss = 0;
  double gradient_norm = 0;
  int steps = 0;
  bool converged = false;
};

/// The minimiser of `loss(policy)`, a population_loss in the parameters, over a log-linear class by damped Newton steps of
/// smallest norm (a loss of log-ratio margins is flat along constants). `tolerance` is on the largest element of the gradient.
template <class Loss>
[[nodiscard]] newton_result minimise(const Loss& loss, log_linear start, double tolerance = 1e-13, int most = 100) {
  newton_result out{std::move(start), 0, 0, 0, false};
  population_loss here = loss(out.policy);
  for (;; ++out.steps) {
    out.loss = here.loss;
    out.gradient_norm = here.gradient.cwiseAbs().maxCoeff();
    out.converged = out.gradient_norm <= tolerance;
    if (out.converged || out.steps >= most) return out;
    const vector step = log_linear::pseudo_solve(here.hessian, here.gradient);
    double share = 1;
    for (;; share /= 2) {
      log_linear next = out.policy;
      next.theta -= share * step;
      population_loss there = loss(next);
      // At the bottom the loss itself no longer tells; then the gradient does. Not before: far out it vanishes as well.
      const bool bottom = std::fabs(there.loss - here.loss) <= 1e-13 * (1 + std::fabs(here.loss));
      const bool lower = there.loss < here.loss || (bottom && there.gradient.cwiseAbs().maxCoeff() < out.gradient_norm);
      if (!lower && share < 1e-10) return out;
      if (!lower) continue;
      out.policy = std::move(next);
      here = std::move(there);
      break;
    }
  }
}

/// The minimiser of an expected objective of pairs.
template <pair_objective Objective>
[[nodiscard]] newton_result minimise(const Objective& objective, const pair_population& pairs, log_linear start,
                                     double tolerance = 1e-13, int most = 100) {
  return minimise([&](const log_linear& policy) { return expected_loss(objective, pairs, policy); }, std::move(start),
                  tolerance, most);
}

}  // namespace rlhf::inline v1::theory
