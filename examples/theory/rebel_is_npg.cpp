// A round of REBEL, solved exactly, is a step of natural policy gradient and of mirror descent.

#include "calls/check.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/mirror_descent.hpp"
#include "rlhf/theory/population.hpp"

using namespace rlhf::theory;

//! [round]
// Regress the difference of log-ratios on the difference of rewards, over all pairs of the policy's own responses.
log_linear rebel_round(const log_linear& policy, const vector& reward, double eta) {
  const vector logp = policy.logp();
  const pair_population pairs{.weight = pair_population::independent(logp, logp), .ref_logp = logp, .reward = reward};
  return minimise(rlhf::rebel{.eta = eta}, pairs, policy, 1e-14).policy;
}
//! [round]

int main() {
  using calls::expect;
  const double eta = 0.7, beta = 0.25;
  vector reward(4), logits(4);
  reward << 1.0, 0.3, -0.4, 0.6;
  logits << 0.2, -0.5, 0.4, 0.0;
  const log_linear policy = log_linear::tabular(logits);

  //! [natural]
  const vector by_rebel = rebel_round(policy, reward, eta).logp();
  log_linear natural = policy;  // theta + eta F^+ grad J
  natural.theta += eta * policy.natural(policy.gradient(reward));
  const vector mirror = mirror_step{.step = eta}(policy.logp(), reward);  // pi e^(eta r) / Z
  //! [natural]
  expect("REBEL less natural gradient, largest", (by_rebel - natural.logp()).cwiseAbs().maxCoeff(), 0, 1e-9);
  expect("REBEL less mirror descent, largest", (by_rebel - mirror).cwiseAbs().maxCoeff(), 0, 1e-9);

  // Fewer parameters than responses: a log-linear class, where REBEL is still the natural gradient.
  matrix features(4, 2);
  features << 0.5, 0.5, -0.5, 0.5, 0.5, -0.5, -0.5, -0.5;
  const log_linear small{features, vector::Zero(2)};
  const vector step = eta * small.natural(small.gradient(reward));
  expect("log-linear: REBEL's step less eta F^+ grad J", (rebel_round(small, reward, eta).theta - step).norm(), 0,
         1e-9);

  //! [loop]
  // With the price of KL in the reward the rounds contract by exactly 1 - eta beta towards pi_ref e^(r/beta) / Z.
  const vector ref_logp = policy.logp(), best = regularised_bandit{reward, ref_logp, beta}.best();
  log_linear now = policy;
  double before = range_of(now.logp() - best), worst = 0;
  for (int t = 0; t < 20; ++t) {
    now = rebel_round(now, reward - beta * (now.logp() - ref_logp), eta);
    const double after = range_of(now.logp() - best);
    worst = std::max(worst, std::fabs(after - (1 - eta * beta) * before));
    before = after;
  }
  //! [loop]
  expect("a round's range less (1 - eta beta) times the last", worst, 0, 1e-9);
  expect("J(pi*) - J after 20 rounds, below", regularised_bandit{reward, ref_logp, beta}.gap(now.logp()) < 1e-3);
  return calls::failures();
}
