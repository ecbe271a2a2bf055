// Arrays that somebody else's library owns go into a call where they lie: Eigen's matrices here, with logits by columns.

#include "rlhf/interop/eigen.hpp"

#include <Eigen/Core>

#include "check.hpp"
#include "rlhf/backend/eigen.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/objective/aggregate.hpp"
#include "rlhf/objective/token.hpp"

int main() {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  constexpr int sequences = 2, tokens = 3, vocabulary = 5;
  Eigen::MatrixXf logits = Eigen::MatrixXf::Random(vocabulary, sequences * tokens);  // a column for each token
  Eigen::MatrixXf slope(vocabulary, sequences * tokens);
  const Eigen::VectorXi target = Eigen::VectorXi::LinSpaced(sequences * tokens, 0, vocabulary - 1);
  matrix logp(sequences, tokens), grad_logp(sequences, tokens), lse(sequences, tokens);
  const matrix advantage = matrix::Constant(sequences, tokens, 1);
  float loss = 0;
  rlhf::eigen_backend cpu;

  //! [eigen]
  using rlhf::as_view;
  const rlhf::logits_inputs<float> z{.logits = as_view<const float, 2>(logits.transpose(), "logits"),
                                     .target = as_view<const std::int32_t>(target, "target")};
  rlhf::or_throw(
      rlhf::token_logp(cpu, z, rlhf::logp_outputs<float>{.logp = as_view<float>(logp), .lse = as_view<float>(lse)}));

  const rlhf::policy_loss objective{rlhf::reinforce{}, rlhf::none{}, rlhf::token_mean{}};
  rlhf::or_throw(objective(
      cpu, rlhf::padded(sequences, tokens),
      rlhf::token_inputs<float>{.logp = as_view<const float>(logp), .advantage = as_view<const float>(advantage)},
      rlhf::token_outputs<float>{.loss = {&loss, 1}, .grad_logp = as_view<float>(grad_logp)}));

  rlhf::or_throw(rlhf::token_logp_backward(
      cpu, z,
      rlhf::logp_gradients<float>{.lse = as_view<const float>(lse), .grad_logp = as_view<const float>(grad_logp)},
      as_view<float, 2>(slope.transpose(), "slope")));
  //! [eigen]

  // -mean log softmax(logits)[target]: its gradient is (p - onehot) / n.
  double want_loss = 0, worst = 0;
  for (int i = 0; i < sequences * tokens; ++i) {
    const Eigen::ArrayXd p =
        logits.col(i).cast<double>().array().exp() / logits.col(i).cast<double>().array().exp().sum();
    want_loss -= std::log(p[target[i]]) / (sequences * tokens);
    for (int v = 0; v < vocabulary; ++v)
      worst = std::max(
          worst, std::abs(static_cast<double>(slope(v, i)) - (p[v] - (v == target[i] ? 1 : 0)) / (sequences * tokens)));
  }
  calls::expect("loss", static_cast<double>(loss), want_loss);
  calls::expect("largest difference of slopes", worst, 0);
  return calls::failures();
}
