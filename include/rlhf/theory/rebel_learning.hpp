#pragma once
// REBEL round by round: exactly over all pairs, or by least squares on finitely many of them.

#include <array>

#include "rlhf/math/random.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/games.hpp"
#include "rlhf/theory/population.hpp"

namespace rlhf::inline v1::theory {

/// `count` pairs, the first response drawn from e^logp, the second from e^partner, by draws 0 and 1 of position `pair` of `at`.
/// `judge(first, second, index)` says what the two are worth, [first, second]; it may use draws from 2 on.
template <class Judge>
[[nodiscard]] std::vector<drawn_pair> draw_pairs(const vector& logp, const vector& partner_logp, std::uint32_t count,
                                                 const random_numbers& numbers, random_index at, const Judge& judge) {
  detail::want(count >= 1, "draw_pairs", "count", count, "at least 1");
  detail::want_size(static_cast<std::size_t>(partner_logp.size()), logp.size(), "draw_pairs", "partner_logp");
  std::vector<drawn_pair> out;
  out.reserve(count);
  for (std::uint32_t k = 0; k < count; ++k) {
    const auto index = [&](std::uint32_t draw) { return random_index{at.prompt, at.sample, k, draw}; };
    const Eigen::Index a = draw(logp, numbers.uniform(index(0))), b = draw(partner_logp, numbers.uniform(index(1)));
    const std::array<double, 2> worth = judge(a, b, index(2));
    out.push_back({a, b, worth[0], worth[1]});
  }
  return out;
}

/// A judge who knows the rewards up to independent normal errors.
struct noisy_rewards {
  vector reward;
  double deviation = 0;  ///< of each of the two errors, in units of reward
  random_numbers numbers;

  [[nodiscard]] std::array<double, 2> operator()(Eigen::Index a, Eigen::Index b, random_index at) const {
    const auto one = [&](Eigen::Index y, std::uint32_t side) {
      const random_index own{at.prompt, at.sample, at.position, at.draw + side};
      return deviation > 0 ? reward[y] + deviation * numbers.normal(own) : reward[y];
    };
    return {one(a, 0), one(b, 1)};
  }
};

/// A judge who lets both responses meet the same `opponents` drawn from e^opponent_logp: rewards are the shares of wins, whose
/// means are the win rates. Preferences need not be transitive.
/// Source: Gao et al. 2024, arXiv 2404.16767, section 5 (a third response of the policy).
struct shares_of_wins {
  const preference_game* game = nullptr;
  vector opponent_logp;
  std::uint32_t opponents = 1;
  random_numbers numbers;

  [[nodiscard]] std::array<double, 2> operator()(Eigen::Index a, Eigen::Index b, random_index at) const {
    detail::want(opponents >= 1, "shares_of_wins", "opponents", opponents, "at least 1");
    std::array<double, 2> won{};
    for (std::uint32_t k = 0; k < opponents; ++k) {
      const auto uniform = [&](std::uint32_t i) {
        return numbers.uniform({at.prompt, at.sample, at.position, at.draw + 3 * k + i});
      };
      const Eigen::Index z = draw(opponent_logp, uniform(0));
      won[0] += uniform(1) < game->preference(a, z);
      won[1] += uniform(2) < game->preference(b, z);
    }
    return {won[0] / opponents, won[1] / opponents};
  }
};

/// REBEL over the responses to one prompt: each round minimises the mean of the library's `rebel` loss over pairs, the policy of
/// the round before as its reference, by Newton's method (a least-squares problem where the class is log-linear: one step).
///
/// With all pairs at their exact weights it is natural policy gradient. With M pairs and errors of deviation s beside rewards
/// that are linear in the features, the parameters are normal around that step with covariance
/// \f$ 2 s^2\eta^2 (X^TX)^{-1} \f$, X the differences of features, so that the regression error is of the order of d/M. What the
/// pairs do not see stays as it was: steps are of smallest norm.
/// Source: Gao et al. 2024, arXiv 2404.16767, algorithm 1.
struct rebel_learner {
  rebel objective{};
  log_linear policy;

  /// A round over all pairs, the second responses drawn from e^partner_logp (none given: the policy itself).
  newton_result round(const vector& reward, const vector& partner_logp = {}) {
    const vector logp = policy.logp();
    const pair_population pairs{
        .weight = pair_population::independent(logp, partner_logp.size() > 0 ? partner_logp : logp),
        .ref_logp = logp,
        .reward = reward};
    return accept([&](const log_linear& p) { return expected_loss(objective, pairs, p); });
  }
  /// A round on pairs as they were drawn.
  newton_result round(std::vector<drawn_pair> pairs) {
    const pair_sample sample{.pairs = std::move(pairs), .ref_logp = policy.logp()};
    return accept([&](const log_linear& p) { return mean_loss(objective, sample, p); });
  }
  /// \f$ \epsilon = E_{y\sim\pi_t,y'\sim\mu}\left[\Delta(y)-\Delta(y')\right]^2,\ \Delta = \frac1\eta\log\frac{\pi_{t+1}}{\pi_t}-r \f$: how
  /// far a round from `before` to `policy` was from the exact one, in squared units of reward.
  [[nodiscard]] double regression_error(const vector& before_logp, const vector& reward,
                                        const vector& partner_logp) const {
    const pair_population pairs{
        .weight = pair_population::independent(before_logp, partner_logp), .ref_logp = before_logp, .reward = reward};
    return expected_loss(rebel{.eta = objective.eta, .paper_scaling = true}, pairs, policy.logp()).loss;
  }

 private:
  template <class Loss>
  newton_result accept(const Loss& loss) {
    newton_result found = minimise(loss, policy, 1e-13);
    policy = found.policy;
    return found;
  }
};

/// What the mean shortfall of T rounds of REBEL is at most: \f$ \frac{KL(\pi^*\|\pi_1)}{\eta T} + \eta A^2 + \sqrt{C\epsilon} \f$, with
/// A at least |g - E g| for g = log(pi_{t+1}/pi_t)/eta in every round and eta A <= 1, epsilon the largest regression error, C the
/// largest pi*(y)/mu(y). Source: Gao et al. 2024, arXiv 2404.16767, theorem 1, with constants re-derived.
[[nodiscard]] inline double rebel_bound(double divergence, double eta, double rounds, double range, double coverage,
                                        double error) {
  detail::want(eta > 0 && eta * range <= 1 + 1e-12, "rebel_bound", "eta", eta, "0 < eta <= 1 / range");
  detail::want(rounds >= 1, "rebel_bound", "rounds", rounds, "at least 1");
  return divergence / (eta * rounds) + eta * range * range + std::sqrt(coverage * error);
}

}  // namespace rlhf::inline v1::theory
