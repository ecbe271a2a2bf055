#pragma once
// sampler: exact distributions of samplers.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "registry.hpp"
#include "rlhf/driver/sampling_distribution.hpp"
#include "workspace.hpp"

namespace eval {

/// What a mixture of two rows gives.
struct drawn {
  std::vector<double> log_probability, lse, log_normaliser;
};

template <class B, class T>
[[nodiscard]] drawn distribution(const problem& p, const char* policy, const char* reference,
                                 const rlhf::logit_mixture& mixture) {
  workspace<B, T> work;
  const std::int64_t rows = p.extent("N"), columns = p.extent("V");
  rlhf::sampling_inputs<T, typename B::space> in;
  in.policy = work.matrix(p[policy]);
  in.reference = work.matrix(p[reference]);
  rlhf::sampling_outputs<T, typename B::space> to;
  to.log_probability = work.out(rows, columns);
  to.lse = work.out(rows);
  to.log_normaliser = work.out(rows);
  require(rlhf::sampling_distribution(work.backend(), mixture, in, to));
  return {work.read(to.log_probability), work.read(to.lse), work.read(to.log_normaliser)};
}

[[nodiscard]] inline std::vector<double> exponentials(std::vector<double> x) {
  std::transform(x.begin(), x.end(), x.begin(), [](double v) { return std::exp(v); });
  return x;
}

template <class B>
void add_sampler(registry& table) {
  const inputs arrays{required("policy_logits", "N,V"), required("ref_logits", "N,V")};
  const parameter beta = number("beta", 0.1, "the divergence's coefficient");
  const auto pilaf = [](const arguments& a, bool plus) {
    if (!(a.number("beta") >= 0)) throw failure{"argument", "params.beta wants 0 or more"};
    return rlhf::pilaf(a.number("beta"), plus);
  };
  table.add("sampler", "pilaf_logits", {beta, number("sign", 1, "1: away from the reference; -1: towards it")}, arrays,
            [pilaf]<class T>(const problem& p, results& out) {
              const drawn d = distribution<B, T>(p, "policy_logits", "ref_logits",
                                                 pilaf(p.settings, p.settings.number("sign") > 0));
              out.put("log_prob", {p.extent("N"), p.extent("V")}, d.log_probability);
            });
  table.add("sampler", "pilaf_exact", {beta}, arrays, [pilaf]<class T>(const problem& p, results& out) {
    const drawn plus = distribution<B, T>(p, "policy_logits", "ref_logits", pilaf(p.settings, true));
    const drawn minus = distribution<B, T>(p, "policy_logits", "ref_logits", pilaf(p.settings, false));
    const results::shape rows{p.extent("N")}, all{p.extent("N"), p.extent("V")};
    std::vector<double> vanilla, weight;
    for (std::size_t i = 0; i < plus.log_normaliser.size(); ++i) {
      const rlhf::pilaf_pairs pairs = rlhf::pilaf_pairs_of(plus.log_normaliser[i], minus.log_normaliser[i]);
      vanilla.push_back(pairs.from_policy);
      weight.push_back(pairs.weight);
    }
    out.put("z_plus", rows, exponentials(plus.log_normaliser));
    out.put("z_minus", rows, exponentials(minus.log_normaliser));
    out.put("plus", all, exponentials(plus.log_probability));
    out.put("minus", all, exponentials(minus.log_probability));
    out.put("prob_vanilla", rows, vanilla);
    out.put("weight", rows, weight);
  });
  table.add("sampler", "geometric_mixture", {number("coef", 0.5, "the reference's share")}, arrays,
            []<class T>(const problem& p, results& out) {
              const drawn d = distribution<B, T>(p, "policy_logits", "ref_logits",
                                                 rlhf::geometric_mixture(p.settings.number("coef")));
              out.put("log_prob", {p.extent("N"), p.extent("V")}, d.log_probability);
            });
  table.add("sampler", "gibbs", {beta}, {required("ref_logp", "N,V"), required("reward", "N,V")},
            []<class T>(const problem& p, results& out) {
              const double temperature = p.settings.number("beta");
              if (!(temperature > 0)) throw failure{"argument", "params.beta wants more than 0"};
              const drawn d = distribution<B, T>(p, "ref_logp", "reward", rlhf::gibbs(temperature));
              std::vector<double> value = d.lse;
              for (double& x : value) x *= temperature;
              out.put("log_prob", {p.extent("N"), p.extent("V")}, d.log_probability);
              out.put("value", {p.extent("N")}, value);
            });
}

}  // namespace eval
