// Which pairs to label: with PILAF's the gradient of DPO's loss points where the value rises.

#include "calls/check.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/theory/pair_laws.hpp"
#include "rlhf/theory/population.hpp"

using namespace rlhf::theory;

int main() {
  const double beta = 1;
  vector logits(5), ref_logits(5), noise(5);
  logits << 0.4, -0.8, 0.1, 1.0, -0.3;
  ref_logits << -0.5, 0.6, 0.9, 0.0, 0.2;
  noise << 1.0, -0.6, 0.3, -0.9, 0.7;
  const log_linear policy = log_linear::tabular(logits);
  const vector logp = policy.logp(), ref_logp = log_softmax(ref_logits);

  //! [errors]
  // Relative distance of -grad L to beta grad J where the true reward is the implicit one plus epsilon times the noise.
  const pilaf_sampler pilaf(logp, ref_logp, beta);  // pi_+- ~ pi e^(+- beta log(pi / pi_ref))
  const auto error = [&](const pair_law& law, double weight, double epsilon) {
    const vector reward = beta * (logp - ref_logp) + epsilon * noise;
    matrix preference(5, 5);
    for (Eigen::Index a = 0; a < 5; ++a)
      for (Eigen::Index b = 0; b < 5; ++b) preference(a, b) = rlhf::sigmoid(reward[a] - reward[b]);
    const pair_population pairs{.weight = weight * pair_population::labelled(law, preference), .ref_logp = ref_logp};
    const vector down = -expected_loss(rlhf::dpo_sigmoid{.beta = beta}, pairs, policy).gradient;
    const vector value = beta * policy.gradient(reward, ref_logp, beta);
    return (down - value).norm() / value.norm();
  };
  //! [errors]
  std::printf("%8s %12s %12s\n", "epsilon", "PILAF", "two of pi");
  for (const double e : {0.3, 0.1, 0.03, 0.01})
    std::printf("%8g %12.5f %12.5f\n", e, error(pilaf.exact(), pilaf.pairs.weight, e),
                error(vanilla_pairs(logp), 4, e));

  //! [slopes]
  const auto slope = [&](const pair_law& law, double weight) {
    return std::log10(error(law, weight, 0.1) / error(law, weight, 0.01));
  };
  calls::expect("PILAF: slope in epsilon", slope(pilaf.exact(), pilaf.pairs.weight), 1, 0.05);
  calls::expect("two responses of the policy: slope", slope(vanilla_pairs(logp), 4), 0, 0.05);
  //! [slopes]
  calls::expect("weight: 1 + Z+ Z-", pilaf.pairs.weight, 1 + std::exp(pilaf.log_z_plus + pilaf.log_z_minus), 1e-12);
  calls::expect("the law is one", pilaf.exact().sum(), 1, 1e-12);
  return calls::failures();
}
