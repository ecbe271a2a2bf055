// One term beside DPO's loss, of either sign: pessimism about what offline data do not show, optimism to go and see
// (VPO, XPO).

#include "calls/check.hpp"
#include "rlhf/theory/online_learning.hpp"

using namespace rlhf::theory;

int main() {
  using calls::expect;
  //! [data]
  // Arms worth 0.5, 0 and -1. The bad one was compared once, and won.
  vector reward(3);
  reward << 0.5, 0, -1;
  matrix wins = matrix::Zero(3, 3);
  wins(0, 1) = 62, wins(1, 0) = 38, wins(2, 1) = 1;
  vector calibration(3);
  calibration << 0.5, 0.49, 0.01;  // where the data are
  const regularised_bandit truth{reward, uniform_logp(3), 0.3};
  //! [data]

  //! [fit]
  // sum NLL - alpha J*(r): alpha < 0 pulls to the calibration policy, alpha > 0 away from it. |r| <= 3.
  const auto learn = [&](double alpha, const matrix& from) {
    const value_incentive loss{
        .beta = 0.3, .alpha = alpha, .ref_logp = truth.ref_logp, .calibration = calibration, .wins = from};
    return loss.policy_of(loss.fit(vector::Zero(3), 3));
  };
  const vector likely = learn(0, wins), pessimist = learn(-4, wins);
  matrix before = wins;  // and before anybody had tried the third arm:
  before(2, 1) = 0;
  const vector neutral = learn(0, before), optimist = learn(0.5, before);
  //! [fit]
  std::printf("P(third arm): one lucky win %.3f, pessimistic %.3f; never seen %.3f, optimistic %.3f\n",
              std::exp(likely[2]), std::exp(pessimist[2]), std::exp(neutral[2]), std::exp(optimist[2]));
  expect("maximum likelihood plays the lucky arm", std::exp(likely[2]) > 0.9);
  expect("pessimism lacks a tenth as much", truth.gap(pessimist) < 0.1 * truth.gap(likely));
  expect("an arm that was never seen: optimism tries it", std::exp(optimist[2]) > 0.9 && std::exp(neutral[2]) < 0.5);

  // The term as a property of the policy: the same number, and all it costs is a log-probability.
  vector r(3);
  r << 0.3, -0.2, 0.4;
  const value_incentive loss{
      .beta = 0.3, .alpha = 0.5, .ref_logp = truth.ref_logp, .calibration = calibration, .wins = wins};
  expect("reward form and policy form", loss.loss_of_reward(r), loss.loss_of_policy(truth.ref_logp + r / 0.3).loss,
         1e-9);

  //! [enhancer]
  // Online, the second response of a pair: of those not clearly worse, the one least known (GSHF).
  matrix design_rows(4, 3);
  design_rows << 1, -1, 0, 1, -1, 0, -1, 1, 0, 0, 1, -1;  // three comparisons of the first two arms, one with the third
  const design_matrix design(design_rows, 1);
  vector estimate(3), unknown(3);
  estimate << 0.4, 0.0, 0.2;
  for (Eigen::Index y = 0; y < 3; ++y) unknown[y] = design.uncertainty(vector::Unit(3, y) - vector::Unit(3, 0));
  const Eigen::Index second = enhancer(estimate, unknown, 1.0);
  //! [enhancer]
  expect("beside arm 0 the one to ask about is arm 2", second == 2);

  //! [loop]
  // The loop around it, for any learner and any partner: 400 labels, all of them fitted again and again.
  vector worth(6);
  worth << 1, 0.5, 0, -0.5, -1, 0.8;
  const labelled_bandit problem({worth, uniform_logp(6), 0.3});
  const rlhf::random_numbers numbers({4, 0});
  value_incentive_learner<with_reference> xpo{.beta = 0.3, .optimism = 0.05, .ref_logp = uniform_logp(6)};
  linear_reward_learner<with_enhancer> gshf{
      .features = matrix::Identity(6, 6), .beta = 0.3, .ref_logp = uniform_logp(6)};
  const double xpo_regret = learn_online(problem, xpo, 400, numbers).regret;
  const double gshf_regret = learn_online(problem, gshf, 400, numbers).regret;
  //! [loop]
  const double first = problem.bandit.gap(uniform_logp(6));
  std::printf("regret of 400 rounds: XPO %.1f, GSHF %.1f; without learning %.1f\n", xpo_regret, gshf_regret,
              400 * first);
  expect("both learn", xpo_regret < 100 * first && gshf_regret < 100 * first);
  expect("and end near the best policy",
         problem.bandit.gap(xpo.logp) < first / 10 && problem.bandit.gap(gshf.logp) < first / 10);
  return calls::failures();
}
