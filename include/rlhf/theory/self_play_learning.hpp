#pragma once
// Learners against themselves: SPPO's regression and SPO's queue, with exact win rates or sampled ones.

#include <deque>

#include "rlhf/objective/anchored.hpp"
#include "rlhf/theory/rebel_learning.hpp"

namespace rlhf::inline v1::theory {

/// The mean of the policies of all rounds, which approaches a minimax winner where the last one circles.
struct policy_average {
  vector sum = {};
  double rounds = 0;

  void add(const vector& logp) {
    sum = sum.size() > 0 ? vector(sum + probabilities(logp)) : probabilities(logp);
    rounds += 1;
  }
  [[nodiscard]] vector logp() const {
    detail::want(rounds > 0, "policy_average", "the number of rounds", rounds, "at least 1");
    return (sum / rounds).array().log();
  }
};

/// What Hedge with step eta lacks in the mean of T rounds against payoffs within [0, 1]:
/// \f$ \frac{\max_y\log(1/\pi_1(y))}{\eta T}+\frac\eta8 \f$. Twice that is the duality gap of the average policy in self-play.
/// Source: Cesa-Bianchi and Lugosi 2006, theorem 2.2, from any first policy.
[[nodiscard]] inline double hedge_regret(const vector& first_logp, double step, double rounds) {
  detail::want(step > 0 && rounds >= 1, "hedge_regret", "step", step, "more than 0, and a round");
  return -first_logp.minCoeff() / (step * rounds) + step / 8;
}

/// How often each response wins against `opponents` draws of e^opponent_logp: a coin for each meeting. Means are the win rates P pi,
/// variances p(1 - p)/opponents. All responses meet the same opponents, as when a judge model ranks candidates.
[[nodiscard]] inline vector sampled_win_rates(const preference_game& game, const vector& opponent_logp,
                                              std::uint32_t opponents, const random_numbers& numbers, random_index at) {
  detail::want(opponents >= 1, "sampled_win_rates", "opponents", opponents, "at least 1");
  const auto n = static_cast<std::uint32_t>(game.actions());
  vector won = vector::Zero(game.actions());
  for (std::uint32_t k = 0; k < opponents; ++k) {
    const auto uniform = [&](std::uint32_t i) { return numbers.uniform({at.prompt, at.sample, k, i}); };
    const Eigen::Index z = draw(opponent_logp, uniform(n));
    for (std::uint32_t y = 0; y < n; ++y) won[y] += uniform(y) < game.preference(y, z);
  }
  return won / opponents;
}

/// SPPO: each round regresses the log-ratio to the last policy on (win rate - 1/2)/beta by the library's `sppo` loss over the
/// policy's own responses; beta is the inverse step size.
///
/// The exact step would be \f$ \pi_t\,e^{P\pi_t/\beta}/Z \f$, Hedge in self-play. The loss takes 1/(2 beta) for log Z; over normalised
/// policies its minimiser solves \f$ h + \mu e^h = (P\pi_t-\frac12)/\beta,\ h = \log(\pi_{t+1}/\pi_t) \f$ for the multiplier mu of the
/// normalisation, which differs from the exact step by the order of beta^-3 up to a constant.
/// Source: Wu et al. 2024, arXiv 2405.00675, equations 4.6 and 4.7; the minimiser is derived here.
struct sppo_learner {
  sppo objective{.beta = 10};  ///< inverse step size
  log_linear policy;
  policy_average average = {};  ///< of the policies before each round

  /// A round with these win rates.
  newton_result round(const vector& win_rates) {
    const vector logp = policy.logp();
    detail::want_size(static_cast<std::size_t>(win_rates.size()), logp.size(), "sppo_learner: round", "win_rates");
    average.add(logp);
    const pair_population pairs{
        .weight = pair_population::independent(logp, logp), .ref_logp = logp, .reward = win_rates};
    newton_result found = minimise(objective, pairs, policy);
    policy = found.policy;
    return found;
  }
  /// A round with the exact win rates against the policy itself.
  newton_result round(const preference_game& game) { return round(game.win_rates(policy.logp())); }
  /// A round with win rates estimated from `opponents` draws of the policy (5 in the published runs).
  newton_result round(const preference_game& game, std::uint32_t opponents, const random_numbers& numbers,
                      random_index at) {
    return round(sampled_win_rates(game, policy.logp(), opponents, numbers, at));
  }
};

/// A round of `rebel` over all pairs as an update from rewards: what `mirror_step` does in closed form.
struct rebel_update {
  rebel objective{};
  [[nodiscard]] vector operator()(const vector& logp, const vector& reward) const {
    rebel_learner learner{objective, log_linear::tabular(logp)};
    learner.round(reward);
    return learner.policy.logp();
  }
};

/// SPO: the reward of a response is its mean win rate against a queue of the learner's own recent responses, given to any
/// learner from rewards: `update(logp, reward)` (mirror_step, rebel_update, ...).
///
/// With q_t the law of the queue the duality gap of the mean opponent is at most twice the learner's mean regret plus twice the
/// mean of \f$ \langle\pi_t, Pq_t\rangle-\frac12 \f$, how late the queue is. A queue of one exact round is never late: then SPO is
/// self-play, with mirror_step Hedge. A longer one averages the noise of samples.
/// Source: Swamy et al. 2024, arXiv 2401.04056, algorithm 1; the term of lateness is derived here.
template <class Update = mirror_step>
struct spo_learner {
  Update update{};
  std::size_t queue = 1;  ///< rounds that are remembered
  vector logp;
  policy_average policies = {}, opponents = {};  ///< of all rounds
  double lateness = 0;                           ///< sum over the rounds of <pi_t, P q_t> - 1/2
  std::deque<vector> recent = {};  ///< of each remembered round the policy, or how often each response was drawn

  /// A round with exact expectations: the queue holds policies.
  void round(const preference_game& game) {
    const vector law = remember(game, probabilities(logp));
    step(game.preference * law);
  }
  /// A round with `samples` responses, which join the queue; the reward of each response is the share of its meetings with all of
  /// the queue that it won, a coin for each. One learner's rounds are all exact or all sampled.
  void round(const preference_game& game, std::uint32_t samples, const random_numbers& numbers, random_index at) {
    detail::want(samples >= 1, "spo_learner: round", "samples", samples, "at least 1");
    const auto uniform = [&](std::uint32_t position, std::uint32_t i) {
      return numbers.uniform({at.prompt, at.sample, position, i});
    };
    vector drawn = vector::Zero(logp.size()), won = drawn;
    for (std::uint32_t k = 0; k < samples; ++k) drawn[draw(logp, uniform(k, 0))] += 1;
    remember(game, std::move(drawn));
    std::uint32_t meeting = 0;
    for (const vector& count : recent)
      for (Eigen::Index z = 0; z < count.size(); ++z)
        for (auto left = std::lround(count[z]); left > 0; --left, ++meeting)
          for (Eigen::Index y = 0; y < won.size(); ++y)
            won[y] += uniform(meeting, static_cast<std::uint32_t>(y + 1)) < game.preference(y, z);
    step(won / meeting);
  }

 private:
  vector remember(const preference_game& game, vector now) {
    detail::want(queue >= 1, "spo_learner", "queue", static_cast<double>(queue), "at least 1");
    detail::want_size(static_cast<std::size_t>(logp.size()), game.actions(), "spo_learner", "logp");
    recent.push_back(std::move(now));
    if (recent.size() > queue) recent.pop_front();
    vector sum = vector::Zero(logp.size());
    for (const vector& law : recent) sum += law;
    sum /= sum.sum();
    policies.add(logp);
    opponents.add(sum.array().log());
    lateness += probabilities(logp).dot(game.preference * sum) - 0.5;
    return sum;
  }
  void step(const vector& reward) { logp = update(logp, reward); }
};

}  // namespace rlhf::inline v1::theory
