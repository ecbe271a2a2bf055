// Worst cases over sets of weights: closed forms, duality, limits, order, ties; and that the weights are the gradient.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "formula/support.hpp"
#include "rlhf/driver/robust_aggregate.hpp"

namespace {

using test::infinity;
using test::not_a_number;
using list = std::vector<double>;

struct result {
  rlhf::status status;
  double loss = not_a_number, dual = not_a_number;
  list weight;
  rlhf::statistics stats;
};
template <class Set>
result worst(const Set& set, const list& loss, const list& weight = {}, double robustness = 1,
             const std::vector<std::uint8_t>& mask = {}) {
  result r;
  r.weight.assign(loss.size(), not_a_number);
  rlhf::robust_inputs<double> in;
  in.loss = loss;
  if (!weight.empty()) in.weight = weight;
  if (!mask.empty()) in.mask = mask;
  rlhf::reference_backend backend;
  r.status =
      rlhf::robust_aggregate<Set>{set, robustness}(backend, in, {{&r.loss, 1}, r.weight, {&r.dual, 1}, &r.stats});
  return r;
}

list normalised(list q) {
  const double sum = std::accumulate(q.begin(), q.end(), 0.0);
  for (double& x : q) x /= sum;
  return q;
}
double mean(const list& l, const list& q) { return std::inner_product(l.begin(), l.end(), q.begin(), 0.0); }
double kl(const list& w, const list& q) {
  double sum = 0;
  for (std::size_t i = 0; i < w.size(); ++i) sum += w[i] > 0 ? w[i] * std::log(w[i] / q[i]) : 0;
  return sum;
}
double chi_square(const list& w, const list& q) {
  double sum = 0;
  for (std::size_t i = 0; i < w.size(); ++i) sum += q[i] * std::pow(w[i] / q[i] - 1, 2) / 2;
  return sum;
}

/// What holds for every set: weights are a distribution, they attain the loss, they are its gradient, and no mean is worse.
template <class Set>
void check(const Set& set, const list& l, const list& given, double robustness, bool attained = true) {
  const list q = normalised(given);
  const auto r = worst(set, l, given, robustness);
  REQUIRE(r.status);
  CHECK(std::accumulate(r.weight.begin(), r.weight.end(), 0.0) == Approx(1).epsilon(1e-9));
  for (const double w : r.weight) CHECK(w >= 0);
  if (attained) CHECK(r.loss == Approx(mean(l, r.weight)).epsilon(1e-9).margin(1e-9));
  CHECK(r.loss >= mean(l, q) - 1e-12);
  CHECK(r.loss <= *std::max_element(l.begin(), l.end()) + 1e-12);
  const auto value = [&](const list& x) { return worst(set, x, given, robustness).loss; };
  for (std::size_t i = 0; i < l.size(); ++i)
    CHECK(r.weight[i] == Approx(test::central_difference(value, l, i, 1e-4)).epsilon(1e-4).margin(1e-5));
  // Moving all losses moves the worst case with them.
  list moved = l;
  for (double& x : moved) x += 3.25;
  const auto m = worst(set, moved, given, robustness);
  CHECK(m.loss == Approx(r.loss + 3.25).epsilon(1e-9));
  CHECK(r.stats["effective_size"] ==
        Approx(1 / std::inner_product(r.weight.begin(), r.weight.end(), r.weight.begin(), 0.0)));
  double ratio = 0;
  for (std::size_t i = 0; i < l.size(); ++i) ratio = std::max(ratio, r.weight[i] / q[i]);
  CHECK(r.stats["max_weight_ratio"] == Approx(ratio));
}

}  // namespace

TEST_CASE("worst cases: weights, gradients, bounds") {
  std::mt19937 random(1);
  for (const std::size_t n : {2u, 5u, 17u}) {
    const auto l = test::uniform(random, n, -4, 4), q = test::uniform(random, n, 0.1, 3);
    for (const double robustness : {1.0, 0.4, 0.0}) {
      CAPTURE(n, robustness);
      for (const double x : {0.3, 2.0, 50.0}) check(rlhf::tilted_mean{x}, l, q, robustness, false);
      for (const double x : {0.01, 0.2, 0.6}) check(rlhf::kl_ball{x}, l, q, robustness);
      for (const double x : {0.01, 0.2, 0.9}) check(rlhf::chi_square_ball{x}, l, q, robustness);
      for (const double x : {0.05, 0.33, 0.8}) check(rlhf::conditional_value_at_risk{x}, l, q, robustness);
    }
  }
}

TEST_CASE("worst cases: the balls are spent, and nothing in them is worse") {
  std::mt19937 random(2);
  for (int trial = 0; trial < 20; ++trial) {
    const auto l = test::uniform(random, 7, -2, 5), q = normalised(test::uniform(random, 7, 0.2, 2));
    const double rho = 0.02 + 0.02 * trial;
    CAPTURE(rho);
    const auto a = worst(rlhf::kl_ball{rho}, l, q);
    CHECK(kl(a.weight, q) == Approx(rho).epsilon(1e-8));
    // Strong duality: the dual's value at its own temperature, and at no other is it lower.
    const auto dual = [&](double tau) {
      double sum = 0;
      for (std::size_t i = 0; i < 7; ++i) sum += q[i] * std::exp(l[i] / tau);
      return tau * rho + tau * std::log(sum);
    };
    CHECK(a.loss == Approx(dual(a.dual)).epsilon(1e-10));
    CHECK(dual(a.dual * 1.01) > a.loss);
    CHECK(dual(a.dual * 0.99) > a.loss);
    const auto b = worst(rlhf::chi_square_ball{rho}, l, q);
    CHECK(chi_square(b.weight, q) == Approx(rho).epsilon(1e-9));
    const auto other = [&](double eta) {
      double sum = 0;
      for (std::size_t i = 0; i < 7; ++i) sum += q[i] * std::pow(std::max(l[i] - eta, 0.0), 2);
      return eta + std::sqrt((1 + 2 * rho) * sum);
    };
    CHECK(b.loss == Approx(other(b.dual)).epsilon(1e-10));
    CHECK(other(b.dual + 0.01) >= b.loss);
    CHECK(other(b.dual - 0.01) >= b.loss);
    for (int draw = 0; draw < 200; ++draw) {
      const auto w = normalised(test::uniform(random, 7, 0, 1));
      if (kl(w, q) <= rho) CHECK(mean(l, w) <= a.loss + 1e-12);
      if (chi_square(w, q) <= rho) CHECK(mean(l, w) <= b.loss + 1e-12);
    }
  }
}

TEST_CASE("worst cases in closed form") {
  const list l{1, 2, 4};
  CHECK(worst(rlhf::tilted_mean{1}, l).loss == Approx(3.07123373).epsilon(1e-8));
  CHECK(worst(rlhf::chi_square_ball{0.1}, l).loss == Approx(7.0 / 3 + std::sqrt(0.2 * 14 / 9)).epsilon(1e-12));
  // From rho = 0.4375 on a weight is 0.
  CHECK(worst(rlhf::chi_square_ball{0.43}, l).weight[0] > 0);
  CHECK(worst(rlhf::chi_square_ball{0.4376}, l).weight[0] == 0);
  CHECK(worst(rlhf::conditional_value_at_risk{0.5}, l).loss == Approx(10.0 / 3).epsilon(1e-12));
  CHECK(worst(rlhf::conditional_value_at_risk{0.5}, l).dual == 2);
}

TEST_CASE("worst cases at the ends") {
  std::mt19937 random(3);
  const auto l = test::uniform(random, 9, -1, 1), q = test::uniform(random, 9, 0.5, 1);
  const auto base = normalised(q);
  const auto top = static_cast<std::size_t>(std::max_element(l.begin(), l.end()) - l.begin());
  // No room: the weights themselves, to the last bit.
  for (const auto& r : {worst(rlhf::tilted_mean{infinity}, l, q), worst(rlhf::kl_ball{0}, l, q),
                        worst(rlhf::chi_square_ball{0}, l, q), worst(rlhf::conditional_value_at_risk{1}, l, q)}) {
    REQUIRE(r.status);
    CHECK(r.weight == base);
    CHECK(r.loss == Approx(mean(l, base)).epsilon(1e-14));
    CHECK(r.stats["max_weight_ratio"] == 1);
  }
  // All the room there is: the largest loss.
  for (const auto& r :
       {worst(rlhf::tilted_mean{1e-9}, l, q), worst(rlhf::kl_ball{20}, l, q), worst(rlhf::kl_ball{infinity}, l, q),
        worst(rlhf::chi_square_ball{1e6}, l, q), worst(rlhf::conditional_value_at_risk{1e-6}, l, q)}) {
    REQUIRE(r.status);
    CHECK(r.weight[top] == Approx(1).epsilon(1e-12));
    CHECK(r.loss == Approx(l[top]).epsilon(1e-7));
    CHECK(r.stats["effective_size"] == Approx(1));
  }
  CHECK(worst(rlhf::kl_ball{20}, l, q).dual == 0);
  CHECK(worst(rlhf::kl_ball{0}, l, q).dual == infinity);
  // Several largest ones share what they had.
  const auto shared = worst(rlhf::kl_ball{20}, {1, 3, 3, 0}, {1, 1, 3, 1});
  CHECK(shared.weight == list{0, 0.25, 0.75, 0});
  // Equal losses: nothing to tell apart. One loss.
  const list equal(4, 2.5);
  for (const auto& r : {worst(rlhf::tilted_mean{0.1}, equal), worst(rlhf::kl_ball{0.3}, equal),
                        worst(rlhf::chi_square_ball{0.3}, equal)}) {
    CHECK(r.loss == 2.5);
    CHECK(r.weight == list(4, 0.25));
  }
  CHECK(worst(rlhf::kl_ball{0.3}, {-7}).loss == -7);
  CHECK(worst(rlhf::conditional_value_at_risk{0.3}, {-7}).weight == list{1});
  // More room never makes it better.
  double before_kl = -infinity, before_chi = -infinity, before_cvar = infinity, before_tilt = infinity;
  for (int k = 1; k < 40; ++k) {
    const double x = 0.05 * k;
    const double a = worst(rlhf::kl_ball{x}, l, q).loss, b = worst(rlhf::chi_square_ball{x}, l, q).loss,
                 t = worst(rlhf::tilted_mean{x}, l, q).loss;
    CHECK(a >= before_kl - 1e-12);
    CHECK(b >= before_chi - 1e-12);
    CHECK(t <= before_tilt + 1e-12);
    before_kl = a, before_chi = b, before_tilt = t;
    if (x > 1) continue;
    const double c = worst(rlhf::conditional_value_at_risk{x}, l, q).loss;
    CHECK(c <= before_cvar + 1e-12);
    before_cvar = c;
  }
  // Homogeneous, where the set is.
  list scaled = l;
  for (double& x : scaled) x *= 1e6;
  CHECK(worst(rlhf::kl_ball{0.2}, scaled, q).loss == Approx(1e6 * worst(rlhf::kl_ball{0.2}, l, q).loss).epsilon(1e-9));
  CHECK(worst(rlhf::chi_square_ball{0.7}, scaled, q).loss ==
        Approx(1e6 * worst(rlhf::chi_square_ball{0.7}, l, q).loss).epsilon(1e-9));
}

TEST_CASE("CVaR: a sorted list, ties in the order they stand in") {
  std::mt19937 random(4);
  for (int trial = 0; trial < 60; ++trial) {
    const std::size_t n = 1 + random() % 12;
    list l(n);
    for (double& x : l) x = static_cast<double>(random() % 5);  // many ties
    const auto q = normalised(test::uniform(random, n, 0.1, 1));
    const double alpha = 0.02 + 0.97 * static_cast<double>(random()) / 4294967296.0;
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return l[a] > l[b]; });
    list want(n);
    double left = alpha;
    for (const std::size_t i : order) {
      want[i] = std::min(left, q[i]) / alpha;
      left -= std::min(left, q[i]);
    }
    const auto r = worst(rlhf::conditional_value_at_risk{alpha}, l, q);
    CAPTURE(trial, alpha, n);
    for (std::size_t i = 0; i < n; ++i) CHECK(r.weight[i] == Approx(want[i]).epsilon(1e-9).margin(1e-12));
    CHECK(r.loss == Approx(mean(l, want)).epsilon(1e-9).margin(1e-12));
  }
  CHECK(worst(rlhf::conditional_value_at_risk{0.5}, list(4, 2.5)).weight == list{0.5, 0.5, 0, 0});
  // Losses next to one another, and of very different sizes.
  const double next = std::nextafter(1.0, 2.0);
  CHECK(worst(rlhf::conditional_value_at_risk{0.25}, {1, next, 1, -1e9}).weight == list{0, 1, 0, 0});
  CHECK(worst(rlhf::conditional_value_at_risk{0.5}, {1e300, 1, 2, -1e300}).weight[0] == 0.5);
}

TEST_CASE("worst cases: masks, weights of 0, nothing") {
  const list l{1, not_a_number, 2, infinity, 4}, q{1, 1, 1, 0, 1};
  const std::vector<std::uint8_t> mask{1, 0, 1, 1, 1};
  const auto check_masked = [&](const auto& set) {
    const auto r = worst(set, l, q, 1, mask), plain = worst(set, {1, 2, 4});
    REQUIRE(r.status);
    CHECK(r.loss == Approx(plain.loss).epsilon(1e-14));
    CHECK(r.weight[0] == Approx(plain.weight[0]).epsilon(1e-14));
    CHECK(r.weight[4] == Approx(plain.weight[2]).epsilon(1e-14));
    CHECK((test::is_plain_zero(r.weight[1]) && test::is_plain_zero(r.weight[3])));
    const auto none = worst(set, {3, 5}, {}, 1, {0, 0});
    CHECK(none.status.code == rlhf::errc::empty_mask);
    CHECK(none.loss == 0);
    CHECK(none.weight == list{0, 0});
    CHECK(worst(set, {}).status.code == rlhf::errc::empty_mask);
    const list one{1};
    rlhf::robust_inputs<double> wrong;
    wrong.loss = l;
    wrong.weight = one;
    rlhf::reference_backend backend;
    CHECK(test::text(rlhf::robust_aggregate{set}(backend, wrong, rlhf::robust_outputs<double>{})).find("weight") !=
          std::string::npos);
  };
  check_masked(rlhf::tilted_mean{0.7});
  check_masked(rlhf::kl_ball{0.1});
  check_masked(rlhf::chi_square_ball{0.1});
  check_masked(rlhf::conditional_value_at_risk{0.5});
  CHECK_FALSE(rlhf::tilted_mean{0}.check());
  CHECK_FALSE(rlhf::kl_ball{-1}.check());
  CHECK_FALSE(rlhf::chi_square_ball{not_a_number}.check());
  CHECK_FALSE(rlhf::conditional_value_at_risk{0}.check());
  CHECK_FALSE(rlhf::conditional_value_at_risk{1.1}.check());
  CHECK_FALSE(rlhf::robust_aggregate{rlhf::kl_ball{}, 1.5}.check());
}
