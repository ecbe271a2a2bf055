// What stands between the trainer and its sampler: the mass that truncation leaves, and divergences to it.

#include <algorithm>
#include <numeric>

#include "formula/support.hpp"
#include "rlhf/driver/importance.hpp"
#include "rlhf/driver/surviving_mass.hpp"
#include "rlhf/math/sortable.hpp"
#include "rlhf/objective/kl.hpp"

using test::infinity;
using test::not_a_number;

TEST_CASE("numbers as integers that sort like them") {
  const std::vector<double> ordered{-infinity, -1e300, -1.5, -1, -5e-324, 0, 5e-324, 1, 1.5, 1e300, infinity};
  for (std::size_t i = 0; i < ordered.size(); ++i) {
    CHECK(rlhf::from_sortable<double>(rlhf::sortable(ordered[i])) == ordered[i]);
    CHECK(rlhf::from_sortable<float>(rlhf::sortable(static_cast<float>(ordered[i]))) == static_cast<float>(ordered[i]));
    if (i > 0) CHECK(rlhf::sortable(ordered[i - 1]) < rlhf::sortable(ordered[i]));
  }
  CHECK(rlhf::sortable(-0.0) == rlhf::sortable(0.0));
}

namespace {

/// By sorting: which columns stay, in the order in which the engines truncate.
double kept_mass(const std::vector<double>& z, const rlhf::truncation& how, double temperature) {
  std::vector<double> p(z.size());
  for (std::size_t j = 0; j < z.size(); ++j) p[j] = std::exp(z[j] / temperature);
  const double all = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= all;
  std::sort(p.rbegin(), p.rend());
  std::vector<double> left;
  for (const double x : p)
    if (x >= how.min_p * p[0]) left.push_back(x);
  if (how.top_k > 0 && static_cast<std::size_t>(how.top_k) < left.size())
    left.resize(static_cast<std::size_t>(how.top_k));
  const double mass = std::accumulate(left.begin(), left.end(), 0.0);
  double sum = 0;
  for (const double x : left) {
    sum += x;
    if (sum >= how.top_p * mass) break;
  }
  return sum;
}

template <class T>
std::vector<T> masses(const std::vector<T>& z, std::int64_t rows, const rlhf::truncation& how, double temperature = 1,
                      std::int64_t vocabulary = 0, const std::vector<std::uint8_t>& mask = {}) {
  rlhf::reference_backend backend;
  std::vector<T> out(static_cast<std::size_t>(rows), T(99));
  const auto columns = static_cast<std::int64_t>(z.size()) / rows;
  rlhf::mask_view<> in;
  if (!mask.empty()) in = mask;
  REQUIRE(rlhf::surviving_mass(backend, rlhf::view<const T, 2>(z.data(), rows, columns), how, rlhf::view<T>(out),
                               temperature, vocabulary, in));
  return out;
}

}  // namespace

TEST_CASE("the mass that a truncated sampler keeps") {
  std::mt19937 random(41);
  const std::int64_t rows = 6, columns = 40, vocabulary = 37;
  auto z = test::uniform(random, static_cast<std::size_t>(rows * columns), -6, 6);
  for (std::size_t r = 0; r < 6; ++r)
    for (std::size_t j = 37; j < 40; ++j) z[r * 40 + j] = not_a_number;  // padding
  for (const double temperature : {1.0, 0.6})
    for (const rlhf::truncation how :
         {rlhf::truncation{}, rlhf::truncation{.top_k = 1}, rlhf::truncation{.top_k = 7},
          rlhf::truncation{.top_k = 500}, rlhf::truncation{.top_p = 0.9}, rlhf::truncation{.top_p = 1e-9},
          rlhf::truncation{.min_p = 0.05}, rlhf::truncation{.min_p = 1}, rlhf::truncation{.top_k = 12, .top_p = 0.8},
          rlhf::truncation{.min_p = 0.02, .top_k = 9, .top_p = 0.95}}) {
      CAPTURE(temperature, how.min_p, how.top_k, how.top_p);
      const auto found = masses(z, rows, how, temperature, vocabulary);
      const auto single = masses(std::vector<float>(z.begin(), z.end()), rows, how, temperature, vocabulary);
      for (std::size_t r = 0; r < 6; ++r) {
        const std::vector<double> row(z.begin() + static_cast<std::ptrdiff_t>(r * 40),
                                      z.begin() + static_cast<std::ptrdiff_t>(r * 40 + 37));
        const double want = kept_mass(row, how, temperature);
        CHECK(std::exp(found[r]) == Approx(want).epsilon(1e-12));
        CHECK(static_cast<double>(single[r]) == Approx(std::log(want)).epsilon(1e-4).margin(2e-6));
        CHECK(found[r] <= 0);
      }
    }
  CHECK(masses(z, rows, {}, 1, vocabulary) == std::vector<double>(6, 0.0));  // nothing is truncated: exactly 0
  CHECK(masses(z, rows, {.top_k = 2}, 1, vocabulary, {0, 1, 1, 1, 1, 1})[0] == 0);
  // Ties with the last one are kept; columns that cannot happen do no harm.
  CHECK(std::exp(masses<double>({1, 1, 1, 0, -infinity}, 1, {.top_k = 2})[0]) ==
        Approx(3 * std::exp(1.0) / (3 * std::exp(1.0) + 1)));
  CHECK(std::exp(masses<double>({0, -infinity, -infinity}, 1, {.top_k = 2, .top_p = 0.5})[0]) == Approx(1));
  rlhf::reference_backend backend;
  std::vector<double> out(2);
  const rlhf::view<const double, 2> two(z.data(), 2, 3);
  CHECK(test::text(rlhf::surviving_mass(backend, two, {.top_p = 0}, rlhf::view<double>(out))) ==
        "truncation: top_p is 0, wants 0 < top_p <= 1");
  CHECK(test::text(rlhf::surviving_mass(backend, two, {.top_k = -1}, rlhf::view<double>(out))) ==
        "truncation: top_k is -1, wants 0 (off) or more");
  CHECK(test::text(rlhf::surviving_mass(backend, two, {}, rlhf::view<double>(out), 0)) ==
        "surviving_mass: temperature is 0, wants more than 0");
  CHECK(test::text(rlhf::surviving_mass(backend, two, {}, rlhf::view<double>(out.data(), 1))) ==
        "surviving_mass: log_mass has 1 elements, wants 2");
}

TEST_CASE("with its mass a truncated sampler of the same logits has weight 1") {
  std::mt19937 random(42);
  const auto z = test::uniform(random, 4 * 9, -3, 3);
  const rlhf::truncation how{.top_k = 6, .top_p = 0.9};
  const auto log_mass = masses(z, 4, how);
  test::token_batch b;
  b.rows = 2;
  b.width = 2;
  for (std::size_t r = 0; r < 4; ++r) {
    const auto* const row = z.data() + r * 9;
    double all = 0;
    for (std::size_t j = 0; j < 9; ++j) all += std::exp(row[j]);
    const double logp = *std::max_element(row, row + 9) - std::log(all);  // the likeliest is always kept
    b.logp.push_back(logp);
    b.rollout_logp.push_back(logp - log_mass[r]);
  }
  rlhf::reference_backend backend;
  std::vector<double> weight(4);
  rlhf::importance_inputs<double> in;
  in.logp = b.logp;
  in.rollout_logp = b.rollout_logp;
  in.log_mass = log_mass;
  REQUIRE(rlhf::importance_weights{rlhf::truncated_token_weights()}(
      backend, b.layout(), in, rlhf::importance_outputs<double>{weight, {}, {}, {}}));
  for (const double w : weight) CHECK(w == Approx(1).epsilon(1e-14));
}

TEST_CASE("Jensen-Shannon divergence to the sampler from one sample") {
  const auto at = [](double logp, double rollout) {
    rlhf::token<double> t;
    t.logp = logp;
    t.rollout_logp = rollout;
    return rlhf::sampler_jensen_shannon{}(t);
  };
  for (const double p : {0.9, 0.3, 1e-6})
    for (const double q : {0.8, 0.2, 1e-5}) {
      const double m = (p + q) / 2;
      const double want = (m / p - 1 - std::log(m / p) + m / q - 1 - std::log(m / q)) / 2;
      CHECK(at(std::log(p), std::log(q)) == Approx(want).epsilon(1e-9));
      CHECK(at(std::log(p), std::log(q)) == Approx(at(std::log(q), std::log(p))).epsilon(1e-12));
    }
  CHECK(at(-1, -1) == Approx(0).margin(1e-15));
  CHECK(at(-700, 0) > 1e290);  // large, not NaN
}

TEST_CASE("a KL to the sampler, and a value whose gradient is weighed off policy") {
  const test::token_batch b = test::padded_batch(43);
  auto in = b.inputs();
  in.ref_logp = b.rollout_logp;  // the sampler is the reference
  rlhf::reference_backend backend;
  const auto r = test::run(rlhf::policy_loss{rlhf::none{}, rlhf::kl_penalty{rlhf::k3{}, 1}}, backend, b, in);
  const auto u = test::run(
      rlhf::policy_loss{
          rlhf::none{},
          rlhf::kl_penalty{rlhf::value_and_gradient{rlhf::k3{}, rlhf::importance_weighted{rlhf::k3{}}}, 1}},
      b);
  double n = 0;
  for (std::size_t i = 0; i < b.size(); ++i) n += b.valid(i);
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (!b.valid(i)) continue;
    const double d = b.rollout_logp[i] - b.logp[i];
    CHECK(r.per_token[i] == Approx(std::exp(d) - 1 - d).margin(1e-13));
    const double e = b.ref_logp[i] - b.logp[i];
    CHECK(u.per_token[i] == Approx(std::exp(e) - 1 - e).epsilon(1e-11).margin(1e-13));
    CHECK(u.grad_logp[i] * n == Approx(std::exp(b.logp[i] - b.old_logp[i]) * -e).epsilon(1e-11).margin(1e-13));
  }
}
