// One problem in two views: responses as paths of tokens, and responses as the arms of a bandit.

#include <algorithm>

#include "calls/check.hpp"
#include "rlhf/theory/soft_value.hpp"
#include "rlhf/theory/token_tree.hpp"

using namespace rlhf::theory;

int main() {
  using calls::expect;
  const double beta = 0.5;
  //! [tree]
  // Responses of at most 4 tokens over {0, 1, 2}; token 0 ends one. The score counts twos and dislikes length.
  rlhf::token_mdp mdp(1, 3, 4, 0);
  mdp.set_scores([](std::int64_t, std::span<const std::int32_t> y) {
    return static_cast<double>(std::count(y.begin(), y.end(), 2)) - 0.4 * static_cast<double>(y.size());
  });
  const table ref = uniform_tokens(mdp);
  const soft_solution tokens = soft_optimal(mdp, ref, beta);  // V(s) = beta log sum pi_ref e^((r + V(s')) / beta)
  //! [tree]

  //! [bandit]
  const rlhf::tabular_bandit responses = rlhf::as_bandit(mdp);  // each response an arm, its reward the return
  const vector ref_logp = vector_of(rlhf::over_responses(mdp, ref));
  const regularised_bandit bandit{vector_of(responses.rewards(0)), ref_logp, beta};
  const vector of_tokens = vector_of(rlhf::over_responses(mdp, tokens.policy));
  //! [bandit]
  std::printf("%ld responses, %ld prefixes\n", static_cast<long>(responses.actions()),
              static_cast<long>(mdp.prefixes()));
  expect("the best policy is the same: largest difference", (bandit.best() - of_tokens).cwiseAbs().maxCoeff(), 0,
         1e-12);
  expect("V(prompt) and beta log Z", tokens.value[0], bandit.best_value(), 1e-12);

  //! [value_iteration]
  // The same tree as any other MDP, by recursion over the steps instead of over the tree.
  const rlhf::token_states states(mdp);
  vector pair_ref = vector::Zero(states.pairs());  // one state more than the tree: where nothing happens any more
  pair_ref.head(static_cast<Eigen::Index>(ref.size())) = vector_of(ref);
  const soft_criterion soft{.discount = 1, .temperature = beta, .ref_logp = pair_ref};
  const vector value = finite_horizon(states, soft, mdp.horizon()).back();
  //! [value_iteration]
  expect("V(prompt) by soft value iteration", value[0], tokens.value[0], 1e-12);

  // Back again: the best arm probabilities as conditional probabilities of tokens.
  const vector best = bandit.best();
  const table again = rlhf::as_token_policy(mdp, span_of(best));
  expect("KL between both, over whole responses", response_kl(mdp, tokens.policy, again)[0], 0, 1e-12);
  expect("J of the best policy is its value", regularised_value(mdp, tokens.policy, ref, beta)[0], tokens.value[0],
         1e-12);
  expect("and the uniform one lacks beta KL", tokens.value[0] - regularised_value(mdp, ref, ref, beta)[0],
         beta * response_kl(mdp, ref, tokens.policy)[0], 1e-12);
  return calls::failures();
}
