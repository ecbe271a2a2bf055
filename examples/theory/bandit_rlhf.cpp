// RLHF on a bandit, whole: people compare responses, a reward is learned from them, the best policy for it is held
// against the best one for the true reward.

#include "calls/check.hpp"
#include "rlhf/formulation/preferences.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/theory/reward_learning.hpp"

using namespace rlhf::theory;

//! [labels]
// How often each response was preferred to each other one, in `labels` comparisons of random pairs.
matrix ask(const vector& reward, int labels, const rlhf::random_numbers& numbers) {
  const auto n = reward.size();
  const rlhf::scored_preferences<rlhf::bradley_terry> people(1, n, {reward.begin(), reward.end()});
  matrix wins = matrix::Zero(n, n);
  for (int i = 0; i < labels; ++i) {
    const auto at = [&](std::uint32_t draw) {
      return rlhf::random_index{.sample = static_cast<std::uint32_t>(i), .draw = draw};
    };
    const auto a = numbers.integer(static_cast<std::uint32_t>(n), at(0));
    const auto b = (a + 1 + numbers.integer(static_cast<std::uint32_t>(n - 1), at(1))) % static_cast<std::uint32_t>(n);
    const bool won = people.compare(0, a, b, numbers, at(2)) == rlhf::verdict::won;
    wins(won ? a : b, won ? b : a) += 1;
  }
  return wins;
}
//! [labels]

//! [learn]
// What the policy that is best for the learned reward lacks under the true one.
double gap_after(const vector& reward, const vector& ref_logp, double beta, int labels, std::uint64_t seed) {
  const matrix wins = ask(reward, labels, rlhf::random_numbers({seed, 0}));
  const fitted_reward learned = fit_scores(rlhf::bradley_terry{}, wins);
  const vector policy = regularised_bandit{learned.theta, ref_logp, beta}.best();  // pi_ref e^(r/beta) / Z
  const regularised_bandit truth{reward, ref_logp, beta};
  const double gap = truth.best_value() - truth.value(policy);
  calls::expect("J(pi*) - J(pi) = beta KL(pi || pi*)", gap, truth.gap(policy), 1e-12);
  return gap;
}
//! [learn]

int main() {
  vector reward(6), ref_logits(6);
  reward << 1.0, 0.5, 0.0, -0.3, 0.8, -1.0;
  ref_logits << 0.0, 0.4, 1.0, 0.6, -0.5, 0.2;
  const vector ref_logp = log_softmax(ref_logits);
  const double beta = 0.5;

  double few = 0, many = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    few += gap_after(reward, ref_logp, beta, 500, seed) / 20;
    many += gap_after(reward, ref_logp, beta, 8000, seed) / 20;
  }
  std::printf("mean gap with 500 labels: %.5f, with 8000: %.5f, ratio %.1f\n", few, many, few / many);
  calls::expect("16 times the labels: a gap of about 1/16", few / many > 8 && few / many < 32);
  const regularised_bandit truth{reward, ref_logp, beta};
  calls::expect("8000 labels: below 1 % of what the reference lacks", many < 0.01 * truth.gap(ref_logp));
  return calls::failures();
}
