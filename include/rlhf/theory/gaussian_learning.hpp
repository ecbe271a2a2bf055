#pragma once
// REBEL on a few-step denoiser in the plane: pairs of trajectories from one starting noise, least squares on their log-ratios.

#include <array>
#include <vector>

#include "rlhf/formulation/gaussian_steps.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/population.hpp"

namespace rlhf::inline v1::theory {

/// Two trajectories from the same x_0 and their rewards: a pair of pictures for one prompt.
struct trajectory_pair {
  std::vector<point> first, second;
  double first_reward = 0, second_reward = 0;
};

/// `count` pairs from a policy; pair k draws x_0 at sample 2k and the trajectories at samples 2k and 2k + 1 of `at.prompt`.
/// `reward(picture)` sees where a trajectory ends.
template <class Reward>
[[nodiscard]] std::vector<trajectory_pair> draw_trajectories(const gaussian_steps& policy, std::uint32_t count,
                                                             const random_numbers& numbers, random_index at,
                                                             const Reward& reward) {
  detail::want(count >= 1, "draw_trajectories", "count", count, "at least 1");
  std::vector<trajectory_pair> out;
  out.reserve(count);
  for (std::uint32_t k = 0; k < count; ++k) {
    trajectory_pair p;
    p.first = policy.sample(numbers, {.prompt = at.prompt, .sample = 2 * k});
    p.second = policy.sample(numbers, {.prompt = at.prompt, .sample = 2 * k + 1}, p.first.front());
    p.first_reward = reward(p.first.back()), p.second_reward = reward(p.second.back());
    out.push_back(std::move(p));
  }
  return out;
}

/// Where a round of regression ended.
struct regression_result {
  double loss = 0;           ///< mean over the pairs, in squared nats
  double gradient_norm = 0;  ///< largest element
  int steps = 0;
  bool converged = false;
};

/// A round of REBEL on pairs drawn from `policy` itself, which it changes: Gauss and Newton's steps on the mean of the library's
/// `rebel` loss, the policy as it was as the reference. The log-ratio of a step is quadratic in its parameters, so that a round
/// is no linear problem; the second derivatives of the loss in the log-probabilities are used, those of the log-probabilities
/// not.
///
/// For a linear reward of the picture the round is exact: \f$ \pi_{t+1}\propto\pi_t\,e^{\eta\langle w,x_K\rangle} \f$ adds
/// \f$ \eta s_k^2\,(A_{K-1}\cdots A_{k+1})^Tw \f$ to b_k and changes nothing else, and REBEL's residual is 0 there.
/// Source: Gao et al. 2024, arXiv 2404.16767 (image generation); the closed form is derived here.
[[nodiscard]] inline regression_result rebel_round(gaussian_steps& policy, const rebel& objective,
                                                   const std::vector<trajectory_pair>& pairs, double tolerance = 1e-10,
                                                   int most = 50) {
  or_throw(objective.check());
  detail::want(!pairs.empty(), "rebel_round", "the number of pairs", 0, "at least 1");
  const auto n = static_cast<Eigen::Index>(policy.parameters().size());
  const double share = 1 / static_cast<double>(pairs.size());
  std::vector<std::array<double, 2>> reference;
  for (const trajectory_pair& p : pairs) reference.push_back({policy.log_prob(p.first), policy.log_prob(p.second)});

  struct local {
    double loss = 0;
    vector gradient;
    matrix curvature;
  };
  const auto look = [&](const gaussian_steps& at, bool derivatives) {
    using first = dual<double, 2>;
    using second = dual<first, 2>;
    local out{0, vector::Zero(n), matrix::Zero(n, n)};
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const auto respond = [&](const std::vector<point>& x, double reward, int variable) {
        response<second> r;
        r.logp = second::variable(first::variable(at.log_prob(x), variable), variable);
        r.ref_logp = first(reference[i][static_cast<std::size_t>(variable)]);
        r.reward = first(reward);
        r.length = first(static_cast<double>(at.steps()));
        return r;
      };
      pair<second> p;
      p.chosen = respond(pairs[i].first, pairs[i].first_reward, 0);
      p.rejected = respond(pairs[i].second, pairs[i].second_reward, 1);
      const second l = objective(p);
      out.loss += share * l.value.value;
      if (!derivatives) continue;
      matrix slope = matrix::Zero(n, 2);  // of both log-probabilities
      at.add_gradient(pairs[i].first, 1, {slope.col(0).data(), static_cast<std::size_t>(n)});
      at.add_gradient(pairs[i].second, 1, {slope.col(1).data(), static_cast<std::size_t>(n)});
      Eigen::Vector2d g;
      Eigen::Matrix2d h;
      for (int a = 0; a < 2; ++a) {
        g[a] = l.partial[a].value;
        for (int b = 0; b < 2; ++b) h(a, b) = l.partial[a].partial[b];
      }
      out.gradient += share * slope * g;
      out.curvature += share * slope * h * slope.transpose();
    }
    return out;
  };

  regression_result out;
  for (local here = look(policy, true);; here = look(policy, true), ++out.steps) {
    out.loss = here.loss;
    out.gradient_norm = here.gradient.cwiseAbs().maxCoeff();
    out.converged = out.gradient_norm <= tolerance;
    if (out.converged || out.steps >= most) return out;
    const vector step = log_linear::pseudo_solve(here.curvature, here.gradient);
    double size = 1;
    for (;; size /= 2) {
      if (size < 1e-10) return out;
      gaussian_steps next = policy;
      for (Eigen::Index k = 0; k < n; ++k) next.parameters()[static_cast<std::size_t>(k)] -= size * step[k];
      if (look(next, false).loss < here.loss || size * step.cwiseAbs().maxCoeff() < 1e-13) {
        policy = std::move(next);
        break;
      }
    }
  }
}

}  // namespace rlhf::inline v1::theory
