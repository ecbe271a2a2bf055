// Samplers' distributions: closed forms on small rows, identities, excluded tokens.

#include <cmath>
#include <vector>

#include "formula/support.hpp"
#include "rlhf/driver/sampling_distribution.hpp"

namespace {

using test::infinity;
using test::not_a_number;
using list = std::vector<double>;

struct drawn {
  rlhf::status status;
  list log_probability;
  double lse = not_a_number, log_normaliser = not_a_number;
};
drawn draw(const rlhf::logit_mixture& mixture, const list& policy, const list& reference) {
  const auto n = static_cast<std::int64_t>(policy.size());
  drawn d;
  d.log_probability.assign(policy.size(), not_a_number);
  rlhf::sampling_inputs<double> in;
  in.policy = {policy.data(), 1, n};
  in.reference = {reference.data(), 1, n};
  rlhf::reference_backend backend;
  d.status = rlhf::sampling_distribution(
      backend, mixture, in,
      rlhf::sampling_outputs<double>{{d.log_probability.data(), 1, n}, {&d.lse, 1}, {&d.log_normaliser, 1}});
  return d;
}
list log_of(list p) {
  for (double& x : p) x = std::log(x);
  return p;
}

}  // namespace

TEST_CASE("PILAF's two policies") {
  std::mt19937 random(1);
  for (const double beta : {0.1, 0.5}) {
    CAPTURE(beta);
    const auto z = test::uniform(random, 6, -3, 3), r = test::uniform(random, 6, -3, 3);
    const auto plus = draw(rlhf::pilaf(beta), z, r), minus = draw(rlhf::pilaf(beta, false), z, r);
    REQUIRE(plus.status);
    double sum_z = 0, sum_r = 0;
    for (std::size_t i = 0; i < 6; ++i) {
      sum_z += std::exp(z[i]);
      sum_r += std::exp(r[i]);
    }
    double z_plus = 0, z_minus = 0;  // E_pi e^{+-beta log(pi / ref)}
    list p(6), ratio(6);
    for (std::size_t i = 0; i < 6; ++i) {
      p[i] = std::exp(z[i]) / sum_z;
      ratio[i] = p[i] / (std::exp(r[i]) / sum_r);
      z_plus += p[i] * std::pow(ratio[i], beta);
      z_minus += p[i] * std::pow(ratio[i], -beta);
    }
    CHECK(plus.log_normaliser == Approx(std::log(z_plus)).epsilon(1e-12));
    CHECK(minus.log_normaliser == Approx(std::log(z_minus)).epsilon(1e-12));
    for (std::size_t i = 0; i < 6; ++i) {
      CHECK(std::exp(plus.log_probability[i]) == Approx(p[i] * std::pow(ratio[i], beta) / z_plus).epsilon(1e-12));
      CHECK(std::exp(minus.log_probability[i]) == Approx(p[i] * std::pow(ratio[i], -beta) / z_minus).epsilon(1e-12));
    }
    const auto pairs = rlhf::pilaf_pairs_of(plus.log_normaliser, minus.log_normaliser);
    CHECK(pairs.weight == Approx(1 + z_plus * z_minus).epsilon(1e-12));
    CHECK(pairs.from_policy == Approx(1 / pairs.weight).epsilon(1e-12));
    CHECK(pairs.from_policy < 0.5);  // the two policies are shown more often than not
    // A constant added to either row changes nothing but the log-sum-exp.
    list shifted = z;
    for (double& x : shifted) x += 500;
    const auto same = draw(rlhf::pilaf(beta), shifted, r);
    CHECK(same.log_normaliser == Approx(plus.log_normaliser).epsilon(1e-9));
    CHECK(same.lse != Approx(plus.lse));
    for (std::size_t i = 0; i < 6; ++i)
      CHECK(same.log_probability[i] == Approx(plus.log_probability[i]).epsilon(1e-9).margin(1e-9));
  }
  // The policy is the reference: nothing to explore.
  const list z{0.3, -1, 2};
  const auto still = draw(rlhf::pilaf(0.7), z, z);
  CHECK(std::abs(still.log_normaliser) < 1e-14);
  CHECK(rlhf::pilaf_pairs_of(0, 0).from_policy == 0.5);
  CHECK(rlhf::pilaf_pairs_of(740, 0).from_policy > 0);  // the weight overflows, the probability does not
  const auto pairs = rlhf::pilaf_pairs_of(std::log(1.21706052), std::log(0.93245553));
  CHECK(pairs.from_policy == Approx(0.46841593).epsilon(1e-8));
}

TEST_CASE("geometric mixtures run from the policy to the reference") {
  const list p{0.5, 0.3, 0.2}, q{0.2, 0.3, 0.5};
  const auto from = draw(rlhf::geometric_mixture(0), log_of(p), log_of(q));
  const auto to = draw(rlhf::geometric_mixture(1), log_of(p), log_of(q));
  const auto half = draw(rlhf::geometric_mixture(), log_of(p), log_of(q));
  double sum = 0;
  for (std::size_t i = 0; i < 3; ++i) sum += std::sqrt(p[i] * q[i]);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(std::exp(from.log_probability[i]) == Approx(p[i]).epsilon(1e-14));
    CHECK(std::exp(to.log_probability[i]) == Approx(q[i]).epsilon(1e-14));
    CHECK(std::exp(half.log_probability[i]) == Approx(std::sqrt(p[i] * q[i]) / sum).epsilon(1e-14));
  }
}

TEST_CASE("the best policy under a KL penalty") {
  const list reference = log_of({0.5, 0.3, 0.2}), reward{1, 0, 0.5};
  const auto d = draw(rlhf::gibbs(0.5), reference, reward);
  CHECK(std::exp(d.log_probability[0]) == Approx(0.81409826).epsilon(1e-8));
  CHECK(0.5 * d.lse == Approx(0.75626351).epsilon(1e-8));
  // J(pi*) = E r - beta KL(pi* || ref) is that value; cold it is greedy, hot the reference.
  double value = 0;
  for (std::size_t i = 0; i < 3; ++i)
    value += std::exp(d.log_probability[i]) * (reward[i] - 0.5 * (d.log_probability[i] - reference[i]));
  CHECK(value == Approx(0.5 * d.lse).epsilon(1e-13));
  CHECK(draw(rlhf::gibbs(1e-3), reference, reward).log_probability[0] == Approx(0).margin(1e-12));
  CHECK(draw(rlhf::gibbs(1e9), reference, reward).log_probability[1] == Approx(reference[1]).epsilon(1e-8));
  CHECK_FALSE(draw(rlhf::gibbs(0), reference, reward).status);
}

TEST_CASE("excluded tokens stay excluded") {
  const list policy{0.4, -infinity, 1}, reference{0.1, 0.2, 0.3}, neither{0.1, -infinity, 0.3};
  for (const auto& mixture : {rlhf::pilaf(0.5), rlhf::pilaf(0.5, false), rlhf::pilaf(1.5, false),
                              rlhf::geometric_mixture(0.5), rlhf::gibbs(0.3)})
    for (const auto& other : {reference, neither}) {
      const auto d = draw(mixture, policy, other);
      CHECK(d.log_probability[1] == -infinity);
      CHECK(std::exp(d.log_probability[0]) + std::exp(d.log_probability[2]) == Approx(1).epsilon(1e-14));
    }
  // A coefficient of 0 does not read that side.
  const auto d = draw(rlhf::geometric_mixture(0), policy, {not_a_number, infinity, -infinity});
  CHECK(std::exp(d.log_probability[0]) + std::exp(d.log_probability[2]) == Approx(1).epsilon(1e-14));
}

TEST_CASE("sampling distributions: vocabulary, place, errors") {
  rlhf::reference_backend backend;
  list policy{0.3, 1, not_a_number, -2, 0.5, not_a_number}, reference{1, 2, infinity, 0, 0.1, infinity};
  rlhf::sampling_inputs<double> in;
  in.policy = {policy.data(), 2, 3};
  in.reference = {reference.data(), 2, 3};
  in.vocabulary = 2;
  rlhf::sampling_outputs<double> out;
  out.log_probability = {policy.data(), 2, 3};  // in place
  REQUIRE(rlhf::sampling_distribution(backend, rlhf::geometric_mixture(0.5), in, out));
  CHECK(policy[0] - policy[1] == Approx(0.5 * (0.3 - 1) + 0.5 * (1 - 2)).epsilon(1e-14));
  CHECK(std::exp(policy[3]) + std::exp(policy[4]) == Approx(1).epsilon(1e-14));
  CHECK(policy[2] != policy[2]);  // left alone
  const auto message = [&] {
    return test::text(rlhf::sampling_distribution(backend, rlhf::geometric_mixture(0.5), in, out));
  };
  in.vocabulary = 4;
  CHECK(message().find("vocabulary") != std::string::npos);
  in.vocabulary = 0;
  in.reference = {reference.data(), 1, 3};
  CHECK(message() == "sampling_distribution: reference has 1 rows, wants 2");
  in.reference = {reference.data(), 2, 3};
  out.log_probability = {policy.data(), 3, 3};
  CHECK(message() == "sampling_distribution: log_probability has 3 rows, wants 2");
  out.log_probability = {policy.data(), 2, 3, 2};
  CHECK(message() == "sampling_distribution: log_probability has a pitch of 2, wants rows that do not overlap");
  in.reference = {};
  CHECK(message().find("reference") != std::string::npos);
}
