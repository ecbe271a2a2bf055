// Rewards of endings, lengths and repetitions, the running scale, and the divergence of distillation.

#include "rlhf/reward/length_shaping.hpp"

#include <algorithm>

#include "formula/support.hpp"
#include "rlhf/driver/full_jensen_shannon.hpp"
#include "rlhf/reward/resampling.hpp"
#include "rlhf/reward/running_scale.hpp"

using test::infinity;

TEST_CASE("endings") {
  CHECK(rlhf::missing_eos{}(0.25, true) == 0.25);
  CHECK(rlhf::missing_eos{}(0.25, false) == -0.75);
  CHECK(rlhf::missing_eos{-1, true}(0.25, false) == -1);
  CHECK(rlhf::missing_eos{-1, true}(0.25, true) == 0.25);
  CHECK(rlhf::stop_properly{0.5}(-3, false) == -3);
  CHECK(rlhf::stop_properly{0.5}(-3, true) == -1.5);
  CHECK(rlhf::stop_properly{0}(-3, true) == 0);
  CHECK(rlhf::stop_properly{-0.7}(5, true) == -0.7);
  CHECK(rlhf::stop_properly{1}.check());
  CHECK(test::text(rlhf::stop_properly{1.5}.check()) ==
        "stop_properly: coefficient is 1.5, wants 1 or less (below 0: replaces)");
}

TEST_CASE("cosine of the length") {
  const rlhf::cosine_length r{100};
  CHECK(r(0, true) == 1);
  CHECK(r(50, true) == Approx(0.75));
  CHECK(r(100, true) == Approx(0.5));
  CHECK(r(1e9, true) == Approx(0.5));
  CHECK(r(0, false) == -1);
  CHECK(r(50, false) == Approx(-0.75));
  CHECK(r(100, false) == Approx(-0.5));
  CHECK(r(infinity, false) == Approx(-0.5));
  for (double n = 0; n < 99; n += 1) {
    CHECK(r(n + 1, true) < r(n, true));
    CHECK(r(n + 1, false) > r(n, false));
  }
  CHECK(test::text(rlhf::cosine_length{0}.check()) == "cosine_length: max_length is 0, wants more than 0");
}

TEST_CASE("repetition") {
  const auto of = [](const std::vector<int>& tokens, std::int64_t n) {
    const rlhf::repetition_penalty r{n, -1};
    return r(static_cast<std::int64_t>(tokens.size()),
             [&](std::int64_t i) { return tokens[static_cast<std::size_t>(i)]; });
  };
  CHECK(of({1, 2, 3, 4, 5}, 3) == 0);
  CHECK(of({1, 1, 1, 1, 1}, 3) == Approx(-2.0 / 3));
  CHECK(of({1, 2, 1, 2, 1}, 2) == Approx(-0.5));
  CHECK(of({1, 2, 3}, 3) == 0);  // one n-gram
  CHECK(of({1, 1}, 3) == 0);
  CHECK(of({}, 1) == 0);
  CHECK(of({7, 7}, 1) == Approx(-0.5));
  CHECK(test::text(rlhf::repetition_penalty{0, -1}.check()) == "repetition_penalty: n is 0, wants 1 or more");
  CHECK(test::text(rlhf::repetition_penalty{3, 1}.check()) == "repetition_penalty: max_penalty is 1, wants 0 or less");
}

TEST_CASE("running scale") {
  rlhf::running_scale r{.center = true, .clip = 1.5};
  CHECK(r(3) == 1.5);  // nothing seen: not divided, clipped
  CHECK(r.deviation() == 0);
  std::mt19937 random(5);
  const auto x = test::uniform(random, 400, 1e6, 1e6 + 2);  // a variance that a difference of squares would lose
  double mean = 0, squares = 0;
  for (const double v : x) r.add(v), mean += v / 400;
  for (const double v : x) squares += (v - mean) * (v - mean);
  const double std = std::sqrt(squares / 399);
  CHECK(r.deviation() == Approx(std).epsilon(1e-9));
  CHECK(r(mean + 0.1) == Approx(0.1 / std).epsilon(1e-6));
  CHECK(r(mean + 100) == 1.5);
  CHECK(r(mean - 100) == -1.5);
  r.center = false;
  r.clip = infinity;
  CHECK(r(0.2) == Approx(0.2 / std).epsilon(1e-9));
  // Split across machines and merged.
  rlhf::running_scale a, b;
  for (std::size_t i = 0; i < x.size(); ++i) (i % 3 == 0 ? a : b).add(x[i]);
  a.seen.merge(b.seen);
  CHECK(a.deviation() == Approx(std).epsilon(1e-9));
}

namespace {

struct divergence {
  std::vector<double> value, gradient;
};
divergence distil(const std::vector<double>& student, const std::vector<double>& teacher, std::int64_t rows,
                  double beta, double temperature = 1, std::int64_t vocabulary = 0,
                  const std::vector<std::uint8_t>& mask = {}) {
  rlhf::reference_backend backend;
  const auto columns = static_cast<std::int64_t>(student.size()) / rows;
  divergence d{std::vector<double>(static_cast<std::size_t>(rows), 99), std::vector<double>(student.size(), 99)};
  rlhf::full_kl_inputs<double> in;
  in.logits = {student.data(), rows, columns};
  in.ref_logits = {teacher.data(), rows, columns};
  if (!mask.empty()) in.mask = mask;
  in.vocabulary = vocabulary;
  in.temperature = temperature;
  rlhf::full_kl_outputs<double> out;
  out.kl = d.value;
  out.grad_logits = {d.gradient.data(), rows, columns};
  REQUIRE(rlhf::full_jensen_shannon(backend, in, out, beta));
  return d;
}

}  // namespace

TEST_CASE("rows drawn anew by their scores") {
  const auto shares = [](const rlhf::filtered_resampling& how, const std::vector<double>& reward, std::uint64_t seed) {
    const std::int64_t draws = 40000;
    std::vector<double> share(reward.size());
    std::int64_t seen = 0;
    bool in_order = true;
    how(
        static_cast<std::int64_t>(reward.size()), draws,
        [&](std::int64_t i) { return reward[static_cast<std::size_t>(i)]; }, rlhf::random_numbers{{.seed = seed}},
        [&](std::int64_t k, std::int64_t i) {
          in_order = in_order && k == seen++;
          share.at(static_cast<std::size_t>(i)) += 1.0 / static_cast<double>(draws);
        });
    CHECK(in_order);
    CHECK(seen == draws);
    return share;
  };
  const auto close = [](const std::vector<double>& got, const std::vector<double>& want) {
    for (std::size_t i = 0; i < want.size(); ++i) {
      CAPTURE(i);
      CHECK(got[i] == Approx(want[i]).margin(want[i] > 0 ? 0.012 : 0));  // five standard deviations
    }
  };
  using rule = rlhf::filtered_resampling::rule;
  close(shares({}, {-1, 2, 0, 1}, 1), {1.0 / 6, 4.0 / 6, 0, 1.0 / 6});
  close(shares({.power = 1}, {-1, 2, 0, 1}, 2), {0.25, 0.5, 0, 0.25});
  close(shares({rule::extremes}, {-1, 2, 0, 2}, 3), {1.0 / 3, 1.0 / 3, 0, 1.0 / 3});
  close(shares({rule::best}, {-1, 2, 0, 1}, 4), {1.0 / 7, 4.0 / 7, 1.0 / 7, 1.0 / 7});
  close(shares({}, {0, 0}, 5), {0.5, 0.5});
  CHECK(shares({}, {1, 2, 3}, 6) == shares({}, {1, 2, 3}, 6));
  CHECK(shares({}, {1, 2, 3}, 6) != shares({}, {1, 2, 3}, 7));
  CHECK(test::text(rlhf::filtered_resampling{.power = -1}.check()) ==
        "filtered_resampling: power is -1, wants 0 or more");
}

TEST_CASE("generalised Jensen-Shannon divergence") {
  std::mt19937 random(6);
  const auto s = test::uniform(random, 18, -3, 3), t = test::uniform(random, 18, -3, 3);
  const auto softmax = [](const std::vector<double>& z, std::size_t row, double temperature) {
    std::vector<double> p(5);
    double total = 0;
    for (std::size_t j = 0; j < 5; ++j) total += p[j] = std::exp(z[row * 6 + j] / temperature);
    for (double& x : p) x /= total;
    return p;
  };
  for (const double beta : {0.0, 0.1, 0.5, 0.9, 1.0})
    for (const double temperature : {1.0, 0.7}) {
      CAPTURE(beta, temperature);
      const auto d = distil(s, t, 3, beta, temperature, 5, {1, 0, 1});
      for (const std::size_t row : {0u, 2u}) {
        const auto p = softmax(s, row, temperature), q = softmax(t, row, temperature);
        double want = 0;
        for (std::size_t j = 0; j < 5; ++j) {
          const double m = (1 - beta) * p[j] + beta * q[j];
          want += beta <= 0   ? q[j] * std::log(q[j] / p[j])
                  : beta >= 1 ? p[j] * std::log(p[j] / q[j])
                              : beta * q[j] * std::log(q[j] / m) + (1 - beta) * p[j] * std::log(p[j] / m);
        }
        CHECK(d.value[row] == Approx(want).epsilon(1e-12));
        for (std::size_t j = 0; j < 5; ++j) {
          const auto f = [&](const std::vector<double>& z) { return distil(z, t, 3, beta, temperature, 5).value[row]; };
          CHECK(d.gradient[row * 6 + j] ==
                Approx(test::central_difference(f, s, row * 6 + j)).epsilon(1e-6).margin(1e-9));
        }
        CHECK(test::is_plain_zero(d.gradient[row * 6 + 5]));  // beyond the vocabulary
      }
      CHECK(test::is_plain_zero(d.value[1]));
      for (std::size_t j = 6; j < 12; ++j) CHECK(test::is_plain_zero(d.gradient[j]));
    }
  for (const double x : distil(s, s, 3, 0.5).gradient) CHECK(x == Approx(0).margin(1e-15));
}

TEST_CASE("Jensen-Shannon of what cannot happen") {
  // Disjoint supports: the entropy of the mixture's coin, and slopes that are numbers.
  const std::vector<double> s{0, -infinity, -infinity}, t{-infinity, 0, -infinity};
  const auto d = distil(s, t, 1, 0.25);
  CHECK(d.value[0] == Approx(-0.25 * std::log(0.25) - 0.75 * std::log(0.75)));
  for (const double g : d.gradient) CHECK(g == Approx(0).margin(1e-15));
  CHECK(distil({800, 0}, {-800, 0}, 1, 0.5).value[0] == Approx(std::log(2.0)));
  rlhf::reference_backend backend;
  CHECK(test::text(rlhf::full_jensen_shannon(backend, rlhf::full_kl_inputs<double>{}, rlhf::full_kl_outputs<double>{},
                                             1.5)) == "full_jensen_shannon: beta is 1.5, wants 0 <= beta <= 1");
  const std::vector<double> six(6);
  rlhf::full_kl_inputs<double> in;
  in.logits = {six.data(), 2, 3};
  CHECK(test::text(rlhf::full_jensen_shannon(backend, in, rlhf::full_kl_outputs<double>{}, 0.5)) ==
        "full_jensen_shannon: ref_logits is null, wants a pointer to its elements");
}
