// The k likeliest tokens of a row, and fine-tuning weighed by how sure the policy is.

#include "rlhf/driver/top_k.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "formula/support.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/objective/weighted.hpp"

using test::infinity;
using test::not_a_number;

namespace {

template <class T>
struct chosen {
  std::vector<T> logp, tail, entropy;
  std::vector<std::int32_t> token;
};
template <class T>
chosen<T> likeliest(const std::vector<T>& z, std::int64_t rows, std::int64_t k, double temperature = 1,
                    std::int64_t vocabulary = 0, const std::vector<std::uint8_t>& mask = {}) {
  rlhf::reference_backend backend;
  const auto n = static_cast<std::size_t>(rows * k), r = static_cast<std::size_t>(rows);
  chosen<T> c{std::vector<T>(n, T(99)), std::vector<T>(r, T(99)), std::vector<T>(r, T(99)),
              std::vector<std::int32_t>(n, 99)};
  rlhf::top_k_inputs<T> in;
  in.logits = {z.data(), rows, static_cast<std::int64_t>(z.size()) / rows};
  in.vocabulary = vocabulary;
  in.temperature = temperature;
  if (!mask.empty()) in.mask = mask;
  rlhf::top_k_outputs<T> out;
  out.logp = {c.logp.data(), rows, k};
  out.token = {c.token.data(), rows, k};
  out.tail = c.tail;
  out.entropy = c.entropy;
  REQUIRE(rlhf::top_k(backend, in, out));
  return c;
}

}  // namespace

TEST_CASE("the k likeliest tokens, against sorting") {
  std::mt19937 random(71);
  auto z = test::uniform(random, 5 * 44, -4, 4);
  for (double& x : z) x = std::round(x * 2) / 2;  // many ties
  for (std::size_t i = 0; i < z.size(); i += 9) z[i] = -infinity;
  for (std::size_t r = 0; r < 5; ++r)
    for (std::size_t j = 41; j < 44; ++j) z[r * 44 + j] = not_a_number;  // padding
  for (const double temperature : {1.0, 0.7})
    for (const std::size_t k : {1u, 2u, 7u, 20u, 40u, 41u}) {
      CAPTURE(temperature, k);
      const auto found = likeliest(z, 5, static_cast<std::int64_t>(k), temperature, 41, {1, 1, 0, 1, 1});
      for (std::size_t r = 0; r < 5; ++r) {
        if (r == 2) {
          for (std::size_t i = 0; i < k; ++i)
            CHECK((test::is_plain_zero(found.logp[r * k + i]) && found.token[r * k + i] == 0));
          CHECK((test::is_plain_zero(found.tail[r]) && test::is_plain_zero(found.entropy[r])));
          continue;
        }
        const double* const row = z.data() + r * 44;
        std::vector<std::int32_t> order(41);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return row[a] > row[b]; });
        double all = 0, rest = 0, kept = 0, entropy = 0;
        for (std::size_t j = 0; j < 41; ++j) {
          const double e = std::exp(row[order[j]] / temperature);
          all += e;
          (j < k ? kept : rest) += e;
        }
        for (std::size_t i = 0; i < k; ++i) {
          const double e = std::exp(row[order[i]] / temperature), q = e / kept;
          if (q > 0) entropy -= q * std::log(q);
          CHECK(found.token[r * k + i] == order[i]);
          if (e > 0)
            CHECK(found.logp[r * k + i] == Approx(std::log(e / all)).epsilon(1e-13).margin(1e-15));
          else
            CHECK(found.logp[r * k + i] == -infinity);
        }
        CHECK(found.entropy[r] == Approx(entropy).epsilon(1e-12).margin(1e-14));
        if (rest > 0)
          CHECK(found.tail[r] == Approx(std::log(rest / all)).epsilon(1e-12));
        else
          CHECK(found.tail[r] == -infinity);
      }
    }
}

TEST_CASE("token_logp gives the same k likeliest tokens beside its own figures") {
  std::mt19937 random(72);
  auto z = test::uniform(random, 4 * 33, -3, 3);
  for (double& x : z) x = std::round(x * 2) / 2;
  for (std::size_t r = 0; r < 4; ++r) z[r * 33 + 32] = not_a_number;  // padding
  rlhf::reference_backend backend;
  const std::vector<std::int32_t> target = {3, -100, 31, 0};
  for (const std::int64_t k : {1, 5, 32}) {
    const auto expected = likeliest(z, 4, k, 0.8, 32, {1, 0, 1, 1});
    const auto n = static_cast<std::size_t>(4 * k);
    std::vector<double> logp(4), alone(4), entropy(4), top(n, 99);
    std::vector<std::int64_t> token(n, 99), argmax(4);
    rlhf::logits_inputs<double> in{.logits = {z.data(), 4, 33}, .target = target, .vocabulary = 32, .temperature = 0.8};
    rlhf::logp_outputs<double> out{.logp = logp, .entropy = entropy, .argmax = argmax};
    REQUIRE(rlhf::token_logp(backend, in, rlhf::logp_outputs<double>{.logp = alone}));
    out.top_logp = {top.data(), 4, k};
    out.top_token = {token.data(), 4, k};
    REQUIRE(rlhf::token_logp(backend, in, out));
    CHECK(logp == alone);
    for (std::size_t i = 0; i < n; ++i) {
      CHECK(top[i] == Approx(expected.logp[i]).margin(1e-15));
      CHECK(token[i] == expected.token[i]);
    }
    for (const std::size_t r : {0u, 2u, 3u}) CHECK(argmax[r] == token[r * static_cast<std::size_t>(k)]);
    out.top_token = {};
    CHECK(test::text(rlhf::token_logp(backend, in, out)) ==
          "token_logp: top_token is null, wants a pointer to its elements");
    out.top_token = {token.data(), 3, k};
    CHECK(test::text(rlhf::token_logp(backend, in, out)) == "token_logp: top_token has 3 rows, wants 4");
    out.top_token = {token.data(), 4, k, k - 1};
    CHECK(test::text(rlhf::token_logp(backend, in, out)) ==
          "token_logp: top_token has a pitch of " + std::to_string(k - 1) + ", wants rows that do not overlap");
    out.top_logp = {top.data(), 4, 33};
    out.top_token = {token.data(), 4, 33};
    CHECK(test::text(rlhf::token_logp(backend, in, out)).find("token_logp: top_logp") == 0);
  }
}

TEST_CASE("ties, certainty and tails that a difference would lose") {
  const auto even = likeliest<double>(std::vector<double>(6, 2.5), 1, 3);
  CHECK(even.token == std::vector<std::int32_t>{0, 1, 2});
  CHECK(even.tail[0] == Approx(std::log(0.5)));
  CHECK(even.entropy[0] == Approx(std::log(3.0)));
  const auto sure = likeliest<double>({-infinity, 3, -infinity}, 1, 2);
  CHECK(sure.token == std::vector<std::int32_t>{1, 0});
  CHECK(test::is_plain_zero(sure.logp[0]));
  CHECK(sure.logp[1] == -infinity);
  CHECK(sure.tail[0] == -infinity);
  CHECK(test::is_plain_zero(sure.entropy[0]));
  CHECK(likeliest<double>({1e4, 1e4 - 700, 1e4 - 800}, 1, 1).tail[0] == Approx(-700));
  CHECK(likeliest<float>({0, -90, -91}, 1, 1).tail[0] == Approx(-90 + std::log1p(std::exp(-1.0))));
  CHECK(test::is_plain_zero(likeliest<double>({-4}, 1, 1).logp[0]));  // a vocabulary of one

  rlhf::reference_backend backend;
  std::vector<double> logp(4);
  std::vector<std::int32_t> token(4);
  const std::vector<double> z(6);
  const auto call = [&](std::int64_t k, std::int64_t columns_of_token, double temperature = 1) {
    rlhf::top_k_inputs<double> in;
    in.logits = {z.data(), 1, 3};
    in.temperature = temperature;
    rlhf::top_k_outputs<double> out;
    out.logp = {logp.data(), 1, k};
    out.token = {token.data(), 1, columns_of_token};
    return test::text(rlhf::top_k(backend, in, out));
  };
  CHECK(call(4, 4) == "top_k: logp has columns: 4, wants 1 to the vocabulary");
  CHECK(call(0, 0) == "top_k: logp has columns: 0, wants 1 to the vocabulary");
  CHECK(call(2, 1).find("top_k: token has columns: 1") == 0);
  CHECK(call(2, 2, 0) == "top_k: temperature is 0, wants more than 0");
}

TEST_CASE("entropy-adaptive fine-tuning") {
  using V = rlhf::dual<double, 2>;
  const auto at = [](const rlhf::entropy_adaptive_fine_tuning& f, double logp, double h) {
    rlhf::token<V> t;
    t.logp = V::variable(logp, 0);
    t.entropy = V::variable(h, 1);
    return f(t);
  };
  for (const double alpha : {0.5, 1.0, 2.0})
    for (const double h : {1e-3, 0.7, 3.0})
      for (const double logp : {-0.01, -2.0, -700.0}) {
        const V loss = at({.alpha = alpha}, logp, h);
        const double w = std::pow(h / 3, alpha);
        CHECK(loss.value == Approx(-w * logp).epsilon(1e-13));
        CHECK(loss.partial[0] == Approx(-w).epsilon(1e-13));
        CHECK(test::is_plain_zero(std::abs(loss.partial[1])));  // the weight is a constant
      }
  CHECK(std::abs(at({}, -2, 0).value) <= 0);  // sure: no pull
  CHECK(std::abs(at({}, -2, -1e-17).value) <= 0);
  CHECK(at({.alpha = 0}, -2, 0).value == 2);  // negative log-likelihood
  CHECK(test::text(rlhf::entropy_adaptive_fine_tuning{.alpha = -1}.check()) ==
        "entropy_adaptive_fine_tuning: alpha is -1, wants 0 or more");
  CHECK(test::text(rlhf::entropy_adaptive_fine_tuning{.scale = 0}.check()) ==
        "entropy_adaptive_fine_tuning: scale is 0, wants more than 0");
}

TEST_CASE("EAFT from the logits: the gradient at a weight held fixed") {
  std::mt19937 random(72);
  const std::int64_t rows = 4, columns = 30;
  const auto z = test::uniform(random, 120, -2, 2);
  const std::vector<std::int32_t> target{3, 0, 29, 11};
  rlhf::reference_backend backend;
  const auto entropy = likeliest(z, rows, 20).entropy;
  const rlhf::policy_loss eaft{rlhf::entropy_adaptive_fine_tuning{.alpha = 1.5}};
  const auto loss_of = [&](const std::vector<double>& x, std::vector<double>* gradient) {
    std::vector<double> logp(4), lse(4), grad_logp(4), grad_entropy(4);
    double loss = 0;
    const rlhf::logits_inputs<double> in{.logits = {x.data(), rows, columns}, .target = target};
    REQUIRE(rlhf::token_logp(backend, in, rlhf::logp_outputs<double>{.logp = logp, .lse = lse}));
    rlhf::token_inputs<double> tokens;
    tokens.logp = logp;
    tokens.entropy = entropy;
    rlhf::token_outputs<double> out;
    out.loss = {&loss, 1};
    out.grad_logp = grad_logp;
    out.grad_entropy = grad_entropy;
    REQUIRE(eaft(backend, rlhf::padded(1, 4), tokens, out));
    for (const double g : grad_entropy) CHECK(std::abs(g) <= 0);
    if (gradient != nullptr)
      REQUIRE(rlhf::token_logp_backward(backend, in, rlhf::logp_gradients<double>{.lse = lse, .grad_logp = grad_logp},
                                        rlhf::view<double, 2>(gradient->data(), rows, columns)));
    return loss;
  };
  std::vector<double> gradient(120);
  double want = 0;
  for (std::size_t r = 0; r < 4; ++r) {
    double all = 0;
    for (std::size_t j = 0; j < 30; ++j) all += std::exp(z[r * 30 + j]);
    want += std::pow(entropy[r] / 3, 1.5) * (std::log(all) - z[r * 30 + static_cast<std::size_t>(target[r])]) / 4;
  }
  CHECK(loss_of(z, &gradient) == Approx(want).epsilon(1e-12));
  for (std::size_t i = 0; i < 120; ++i)
    CHECK(gradient[i] == Approx(test::central_difference([&](const auto& x) { return loss_of(x, nullptr); }, z, i))
                             .epsilon(1e-6)
                             .margin(1e-9));
}

TEST_CASE("ASFT: dynamic fine-tuning held to the reference by a KL over the vocabulary") {
  std::mt19937 random(73);
  const std::int64_t rows = 3, columns = 7;
  const auto z = test::uniform(random, 21, -2, 2), ref = test::uniform(random, 21, -2, 2);
  const std::vector<std::int32_t> target{2, 6, 0};
  rlhf::reference_backend backend;
  std::vector<double> logp(3), lse(3), grad_logp(3), kl(3), gradient(21), grad_of_kl(21);
  const std::vector<double> share(3, 0.1 / 3);  // alpha over the tokens
  double loss = 0;
  const rlhf::logits_inputs<double> in{.logits = {z.data(), rows, columns}, .target = target};
  REQUIRE(rlhf::token_logp(backend, in, rlhf::logp_outputs<double>{.logp = logp, .lse = lse}));
  rlhf::token_inputs<double> tokens;
  tokens.logp = logp;
  rlhf::token_outputs<double> out;
  out.loss = {&loss, 1};
  out.grad_logp = grad_logp;
  REQUIRE(rlhf::policy_loss{rlhf::dynamic_fine_tuning{}}(backend, rlhf::padded(1, 3), tokens, out));
  REQUIRE(rlhf::token_logp_backward(backend, in, rlhf::logp_gradients<double>{.lse = lse, .grad_logp = grad_logp},
                                    rlhf::view<double, 2>(gradient.data(), rows, columns)));
  rlhf::full_kl_inputs<double> both;
  both.logits = {z.data(), rows, columns};
  both.ref_logits = {ref.data(), rows, columns};
  both.direction = rlhf::kl_direction::forward;  // KL(ref || pi)
  rlhf::full_kl_outputs<double> anchor;
  anchor.kl = kl;
  anchor.grad_kl = share;
  anchor.grad_logits = {grad_of_kl.data(), rows, columns};
  REQUIRE(rlhf::full_kl(backend, both, anchor));
  for (std::size_t i = 0; i < 21; ++i) gradient[i] += grad_of_kl[i];
  for (const double k : kl) loss += 0.1 / 3 * k;

  // The definition, the probability of the first term held at z.
  const auto definition = [&](const std::vector<double>& x) {
    double sum = 0;
    for (std::size_t r = 0; r < 3; ++r) {
      const auto y = static_cast<std::size_t>(target[r]);
      double all = 0, ref_all = 0;
      for (std::size_t j = 0; j < 7; ++j) all += std::exp(x[r * 7 + j]), ref_all += std::exp(ref[r * 7 + j]);
      sum -= std::exp(logp[r]) * (x[r * 7 + y] - std::log(all));
      for (std::size_t j = 0; j < 7; ++j) {
        const double q = std::exp(ref[r * 7 + j]) / ref_all;
        sum += 0.1 * q * (std::log(q) - x[r * 7 + j] + std::log(all));
      }
    }
    return sum / 3;
  };
  CHECK(loss == Approx(definition(z)).epsilon(1e-12));
  for (std::size_t i = 0; i < 21; ++i)
    CHECK(gradient[i] == Approx(test::central_difference(definition, z, i)).epsilon(1e-6).margin(1e-9));
}
