#pragma once
// The loop of online preference learning that VPO, XPO and GSHF share: fit all labels, ask about a pair, again.

#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/theory/confidence.hpp"
#include "rlhf/theory/online_preferences.hpp"
#include "rlhf/theory/pair_laws.hpp"
#include "rlhf/theory/reward_learning.hpp"
#include "rlhf/theory/value_incentive.hpp"

namespace rlhf::inline v1::theory {

/// Whom the policy's response is compared with, as a law of pairs: two of the policy's own.
struct with_itself {
  template <class Learner>
  [[nodiscard]] pair_law operator()(const Learner& l) const {
    return vanilla_pairs(l.logp);
  }
};
/// One of the policy, one of the reference (XPO).
struct with_reference {
  template <class Learner>
  [[nodiscard]] pair_law operator()(const Learner& l) const {
    return hybrid_pairs(l.logp, l.ref_logp);
  }
};
/// T-PILAF's pairs.
struct with_pilaf {
  template <class Learner>
  [[nodiscard]] pair_law operator()(const Learner& l) const {
    return pilaf_sampler(l.logp, l.ref_logp, l.beta).exact();
  }
};
/// One of the policy, and the single response that tells most (GSHF), for learners of linear rewards.
struct with_enhancer {
  double radius = 10;  ///< c of `enhancer`: that of a confidence set, or responses are given up too early
  template <class Learner>
  [[nodiscard]] pair_law operator()(const Learner& l) const {
    const Eigen::Index n = l.features.rows();
    const vector mean = l.features.transpose() * probabilities(l.logp);
    vector uncertainty(n);
    for (Eigen::Index y = 0; y < n; ++y) uncertainty[y] = l.design.uncertainty(l.features.row(y).transpose() - mean);
    return probabilities(l.logp) * vector::Unit(n, enhancer(l.reward, uncertainty, radius)).transpose();
  }
};

/// Learns by VPO's objective with a free reward for each response: alpha = optimism sqrt(t) beside the sum over t labels. Optimism
/// 0 is online DPO; with the reference as calibration and partner it is XPO, whose alpha is this one times beta.
/// Source: Cen et al. 2024, arXiv 2405.19320; Xie et al. 2024, arXiv 2405.21046.
template <class Pairing = with_reference>
struct value_incentive_learner {
  double beta = 0.1;
  double optimism = 0;
  vector ref_logp;
  vector calibration = {};  ///< probabilities; none: the reference
  Pairing pairing{};
  double bound = 4;  ///< of |r - E_cal r|
  int newton_steps = 20;
  double tolerance = 1e-6;

  vector reward = {}, logp = {};
  pair_law law = {};

  void start() {
    reward = vector::Zero(ref_logp.size());
    if (calibration.size() == 0) calibration = probabilities(ref_logp);
    logp = ref_logp;
    law = pairing(*this);
  }
  void fit(const matrix& wins, double rounds) {
    const value_incentive objective{.beta = beta,
                                    .alpha = optimism * std::sqrt(rounds),
                                    .ref_logp = ref_logp,
                                    .calibration = calibration,
                                    .wins = wins};
    reward = objective.fit(reward, bound, newton_steps, tolerance);
    logp = objective.policy_of(reward);
    law = pairing(*this);
  }
};

/// Learns linear rewards by maximum likelihood with a ridge and plays the best policy for them; `design` says how sure it is.
/// With `with_enhancer` it is GSHF.
/// Source: Xiong et al. 2023, arXiv 2312.11456.
template <class Pairing = with_enhancer>
struct linear_reward_learner {
  matrix features;  ///< [responses, d]
  double beta = 0.1;
  vector ref_logp;
  Pairing pairing{};
  double ridge = 0.1;       ///< of the sum of the losses
  double design_ridge = 1;  ///< lambda of the design
  double tolerance = 1e-8;

  vector reward = {}, logp = {};
  pair_law law = {};
  design_matrix design = design_matrix::of_sum(matrix::Zero(1, 1), 1);

  void start() {
    reward = vector::Zero(features.rows());
    logp = ref_logp;
    law = vanilla_pairs(ref_logp);  // nothing is known: any two
    design = design_matrix::of_sum(matrix::Zero(features.cols(), features.cols()), design_ridge);
  }
  void fit(const matrix& wins, double) {
    matrix sum = matrix::Zero(features.cols(), features.cols());
    reward = vector::Zero(features.rows());
    if (const double labels = wins.sum(); labels > 0) {
      comparisons data = comparisons_of(wins);
      data.difference = (data.difference * features).eval();
      reward = features * fit_reward(bradley_terry{}, data, {.ridge = ridge / labels, .tolerance = tolerance}).theta;
      sum = data.difference.transpose() * data.count.asDiagonal() * data.difference;
    }
    logp = regularised_bandit{reward, ref_logp, beta}.best();
    design = design_matrix::of_sum(sum, design_ridge);
    law = pairing(*this);
  }
};

/// Labels so far, and what the policies lacked.
struct online_history {
  matrix wins = {};
  double regret = 0;  ///< sum of J(best) - J(policy) over the rounds
  std::uint32_t rounds = 0, fitted = 0;
};

/// Rounds of online learning: `learner.fit(wins, rounds)` on all labels, at every round at first and then whenever one in
/// sixteen is new; a labelled pair of `learner.law`, drawn by position t of `at`; `watch(history, learner)`. A pair of equal
/// responses tells nothing, but is a round. Goes on from `history` and from the learner as it is.
///
/// A learner has `start()`, `fit(wins, rounds)`, and the fields `logp` (its policy) and `law` (its pairs).
template <class Learner, class Watch>
void learn_online(const labelled_bandit& problem, Learner& learner, std::uint32_t rounds, const random_numbers& numbers,
                  random_index at, online_history& history, Watch&& watch) {
  const Eigen::Index n = problem.preference.rows();
  if (history.rounds == 0) {
    history.wins = matrix::Zero(n, n);
    learner.start();
  }
  detail::want_size(static_cast<std::size_t>(learner.logp.size()), n, "learn_online", "the learner's policy");
  double gap = problem.bandit.gap(learner.logp);
  for (const std::uint32_t end = history.rounds + rounds; history.rounds < end;) {
    if (const std::uint32_t t = history.rounds; t > 0 && t - history.fitted >= 1 + history.fitted / 16) {
      learner.fit(history.wins, static_cast<double>(t));
      gap = problem.bandit.gap(learner.logp);
      history.fitted = t;
    }
    history.regret += gap;
    at.position = history.rounds;
    problem.ask(learner.law, history.wins, numbers, at);
    ++history.rounds;
    watch(std::as_const(history), std::as_const(learner));
  }
}
template <class Learner>
online_history learn_online(const labelled_bandit& problem, Learner& learner, std::uint32_t rounds,
                            const random_numbers& numbers, random_index at = {}) {
  online_history history;
  learn_online(problem, learner, rounds, numbers, at, history, [](const online_history&, const Learner&) {});
  return history;
}

}  // namespace rlhf::inline v1::theory
