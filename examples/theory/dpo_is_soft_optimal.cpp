// DPO's loss in expectation, minimised, lands on the soft-optimal policy; where pairs are missing it does not.

#include "calls/check.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/population.hpp"

using namespace rlhf::theory;

int main() {
  using calls::expect;
  const double beta = 0.5;
  vector reward(5), ref_logits(5), seen(5);
  reward << 1.0, 0.2, -0.5, 0.7, -1.2;
  ref_logits << 0.0, 1.0, 0.3, -0.4, 0.5;
  seen << 0.3, -0.2, 0.8, 0.0, -0.6;  // which responses the pairs are made of: neither policy nor reference
  const vector ref_logp = log_softmax(ref_logits);

  //! [dpo]
  matrix preference(5, 5);  // Bradley and Terry: P(a > b) = sigma(r_a - r_b)
  for (Eigen::Index a = 0; a < 5; ++a)
    for (Eigen::Index b = 0; b < 5; ++b) preference(a, b) = rlhf::sigmoid(reward[a] - reward[b]);
  const matrix law = pair_population::independent(log_softmax(seen), log_softmax(seen));
  const pair_population pairs{.weight = pair_population::labelled(law, preference), .ref_logp = ref_logp};

  const rlhf::dpo_sigmoid dpo{.beta = beta};  // the struct that trains models, on dual numbers
  const newton_result trained = minimise(dpo, pairs, log_linear::tabular(ref_logp));
  const vector best = regularised_bandit{reward, ref_logp, beta}.best();  // pi_ref e^(r/beta) / Z
  //! [dpo]
  expect("Newton's method arrives", trained.converged);
  for (Eigen::Index y = 0; y < 5; ++y) expect("pi(y)", std::exp(trained.policy.logp()[y]), std::exp(best[y]), 1e-9);
  expect("gradient of the loss at pi*", expected_loss(dpo, pairs, best).gradient.cwiseAbs().maxCoeff(), 0, 1e-12);

  //! [implicit]
  const vector implicit = beta * (trained.policy.logp() - ref_logp);  // the reward that DPO's policy stands for
  const double shift = reward[0] - implicit[0];                       // beta log Z: no pair can see it
  //! [implicit]
  for (Eigen::Index y = 1; y < 5; ++y) expect("implicit reward + beta log Z", implicit[y] + shift, reward[y], 1e-9);
  expect("the shift is beta log Z", shift, regularised_bandit{reward, ref_logp, beta}.best_value(), 1e-9);

  //! [apart]
  // {0, 1} and {2, 3, 4} are never compared with each other: right within both, whatever one began with between them.
  matrix apart = matrix::Zero(5, 5);
  apart.topLeftCorner(2, 2).setConstant(0.1);
  apart.bottomRightCorner(3, 3).setConstant(0.1);
  const auto from = [&](double tilt) {
    vector start = ref_logp;
    start.head(2).array() += tilt;
    const pair_population few{.weight = pair_population::labelled(apart, preference), .ref_logp = ref_logp};
    return minimise(dpo, few, log_linear::tabular(start)).policy.logp();
  };
  const vector up = from(2), down = from(-2);
  //! [apart]
  expect("apart: log-odds of 0 and 1", up[0] - up[1], best[0] - best[1], 1e-6);
  expect("apart: log-odds of 0 and 2, from both starts", (up[0] - up[2]) - (down[0] - down[2]), 4, 1e-6);
  return calls::failures();
}
