// Stations 1 and 3: log-probabilities from logits and back, and the full KL between two rows.

#include <algorithm>
#include <limits>

#include "formula/support.hpp"
#include "rlhf/driver/full_kl.hpp"
#include "rlhf/driver/token_logp.hpp"

namespace {

using test::infinity;
using test::not_a_number;

/// Rows of logits with room after the vocabulary, and what was asked of them.
template <class L>
struct logits {
  std::int64_t rows, vocabulary, pitch;
  std::vector<L> z;
  std::vector<std::int32_t> target;

  logits(std::int64_t r, std::int64_t v, std::int64_t p, double reach, unsigned seed)
      : rows(r), vocabulary(v), pitch(p), z(static_cast<std::size_t>(r * p)), target(static_cast<std::size_t>(r)) {
    std::mt19937 random(seed);
    const auto values = test::uniform(random, z.size(), -reach, reach);
    for (std::size_t i = 0; i < z.size(); ++i) z[i] = L(static_cast<rlhf::compute_t<L>>(values[i]));
    for (auto& t : target) t = static_cast<std::int32_t>(random() % static_cast<unsigned>(v));
    for (std::int64_t i = 0; i < rows; ++i)  // padding that must not be read
      for (std::int64_t j = v; j < p; ++j)
        z[static_cast<std::size_t>(i * p + j)] = L(static_cast<rlhf::compute_t<L>>(not_a_number));
  }
  [[nodiscard]] double at(std::int64_t i, std::int64_t j) const {
    return static_cast<double>(static_cast<rlhf::compute_t<L>>(z[static_cast<std::size_t>(i * pitch + j)]));
  }
  [[nodiscard]] rlhf::logits_inputs<L> inputs(double temperature = 1) const {
    return {{z.data(), rows, pitch}, target, vocabulary, temperature};
  }
};

struct distribution {
  std::vector<long double> logp;
  long double lse = 0, entropy = 0, squares = 0;
};
template <class L>
distribution softmax(const logits<L>& x, std::int64_t row, double temperature = 1) {
  distribution d;
  long double top = -infinity, sum = 0;
  for (std::int64_t j = 0; j < x.vocabulary; ++j)
    top = std::max(top, static_cast<long double>(x.at(row, j)) / temperature);
  for (std::int64_t j = 0; j < x.vocabulary; ++j)
    sum += std::exp(static_cast<long double>(x.at(row, j)) / temperature - top);
  d.lse = top + std::log(sum);
  for (std::int64_t j = 0; j < x.vocabulary; ++j) {
    const long double l = static_cast<long double>(x.at(row, j)) / temperature - d.lse, p = std::exp(l);
    d.logp.push_back(l);
    d.squares += p * p;
    if (p > 0) d.entropy -= p * l;
  }
  return d;
}

template <class T>
struct forward {
  std::vector<T> logp, entropy, lse, squares;
  std::vector<std::int64_t> argmax;
  rlhf::statistics stats;
  rlhf::status status;
};
template <class L, class T = rlhf::compute_t<L>>
forward<T> run(const logits<L>& x, double temperature = 1) {
  forward<T> f;
  const auto n = static_cast<std::size_t>(x.rows);
  for (auto* v : {&f.logp, &f.entropy, &f.lse, &f.squares}) v->assign(n, T(99));
  f.argmax.assign(n, -7);
  rlhf::reference_backend backend;
  rlhf::logp_outputs<T> out{f.logp, f.entropy, f.lse, f.squares, f.argmax, &f.stats};
  f.status = rlhf::token_logp(backend, x.inputs(temperature), out);
  return f;
}

template <class L>
void check_forward(double reach, double temperature, double tolerance) {
  using T = rlhf::compute_t<L>;
  const logits<L> x(17, 101, 104, reach, 3);
  const auto f = run(x, temperature);
  REQUIRE(f.status);
  for (std::int64_t i = 0; i < x.rows; ++i) {
    CAPTURE(i, reach, temperature);
    const auto r = static_cast<std::size_t>(i);
    const distribution d = softmax(x, i, temperature);
    const double scale = 1 + reach / temperature;
    CHECK(static_cast<double>(f.logp[r]) ==
          Approx(static_cast<double>(d.logp[static_cast<std::size_t>(x.target[r])])).margin(tolerance * scale));
    CHECK(static_cast<double>(f.lse[r]) == Approx(static_cast<double>(d.lse)).margin(tolerance * scale));
    CHECK(static_cast<double>(f.entropy[r]) == Approx(static_cast<double>(d.entropy)).margin(10 * tolerance));
    CHECK(static_cast<double>(f.squares[r]) == Approx(static_cast<double>(d.squares)).margin(10 * tolerance));
    CHECK(f.argmax[r] == std::max_element(d.logp.begin(), d.logp.end()) - d.logp.begin());
    CHECK(f.logp[r] <= T(0));
  }
  CHECK(f.stats["rows"] == 17);
  CHECK(f.stats["nonfinite"] == 0);
}

struct backward_result {
  rlhf::status status;
  std::vector<double> grad;
};
/// Gradient of sum g logp + h entropy.
backward_result backward(const logits<double>& x, const std::vector<double>& g, const std::vector<double>& h,
                         double temperature) {
  const auto f = run(x, temperature);
  backward_result r;
  r.grad.assign(x.z.size(), 99);
  rlhf::reference_backend backend;
  rlhf::logp_gradients<double> gradients;
  gradients.lse = f.lse;
  gradients.grad_logp = g;
  if (!h.empty()) {
    gradients.entropy = f.entropy;
    gradients.grad_entropy = h;
  }
  r.status = rlhf::token_logp_backward(backend, x.inputs(temperature), gradients,
                                       rlhf::view<double, 2>(r.grad.data(), x.rows, x.pitch));
  return r;
}

}  // namespace

TEST_CASE("log-probability, entropy, log-sum-exp, squares and argmax of a row") {
  for (const double temperature : {1.0, 0.7, 3.0}) {
    check_forward<double>(4, temperature, 1e-14);
    check_forward<float>(4, temperature, 2e-6);
    check_forward<rlhf::bfloat16>(4, temperature, 2e-6);
    check_forward<rlhf::float16>(4, temperature, 2e-6);
  }
  check_forward<double>(1e4, 1, 1e-14);
  check_forward<float>(1e4, 1, 2e-6);
}

TEST_CASE("impossible tokens, certain ones, and rows of nothing else") {
  logits<double> x(4, 5, 5, 2, 1);
  const auto row = [&](std::int64_t i) { return x.z.data() + i * 5; };
  row(0)[1] = row(0)[3] = -infinity;
  x.target[0] = 1;  // an impossible token
  std::fill(row(1), row(1) + 5, -infinity);
  row(1)[2] = 7;
  x.target[1] = 2;  // a certain one
  std::fill(row(2), row(2) + 5, -infinity);
  x.target[2] = 0;
  row(3)[4] = 1e4;
  x.target[3] = 4;
  const auto f = run(x);
  CHECK(f.status);
  CHECK(f.logp[0] == -infinity);
  CHECK(f.entropy[0] == Approx(static_cast<double>(softmax(x, 0).entropy)));
  CHECK(f.logp[1] == 0);
  CHECK(f.entropy[1] == 0);
  CHECK(f.lse[1] == 7);
  CHECK(f.squares[1] == 1);
  CHECK(f.lse[2] == -infinity);
  CHECK(std::isnan(f.logp[2]));
  CHECK(f.logp[3] == 0);
  CHECK(f.stats["nonfinite"] == 2);
  CHECK(f.argmax[1] == 2);
}

TEST_CASE("the first of equals is the argmax") {
  logits<double> x(1, 6, 6, 0, 1);
  x.z = {1, 3, 2, 3, 3, 0};
  CHECK(run(x).argmax[0] == 1);
}

TEST_CASE("ignored rows give zeros and are not counted; targets outside the vocabulary are zeros and an error") {
  logits<double> x(5, 7, 9, 3, 2);
  x.target = {-100, 2, 7, -1, 3};  // 7 lies in the padding
  const auto f = run(x);
  CHECK(test::text(f.status) == "token_logp: target outside the vocabulary in rows: 2, wants 0 <= target < vocabulary");
  for (const std::size_t i : {0u, 2u, 3u}) {
    CHECK(f.logp[i] == 0);
    CHECK(f.entropy[i] == 0);
    CHECK(f.lse[i] == 0);
  }
  CHECK(f.logp[1] == Approx(static_cast<double>(softmax(x, 1).logp[2])));
  CHECK(f.stats["rows"] == 2);
  const auto r = backward(x, {1, 1, 1, 1, 1}, {}, 1);
  CHECK(test::text(r.status) ==
        "token_logp_backward: target outside the vocabulary in rows: 2, wants 0 <= target < vocabulary");
  for (const std::int64_t i : {0, 2, 3})
    for (std::int64_t j = 0; j < x.pitch; ++j)
      CHECK(test::is_plain_zero(r.grad[static_cast<std::size_t>(i * x.pitch + j)]));
}

TEST_CASE("the gradient of logits is that of central differences, with entropy, temperature and padding") {
  const logits<double> x(6, 9, 12, 3, 5);
  const std::vector<double> g = {1, -0.5, 0, 2, 0, 0.3}, h = {0, 0.4, -1, 0, 0, 0.2};
  for (const double temperature : {1.0, 0.6})
    for (const bool with_entropy : {false, true}) {
      CAPTURE(temperature, with_entropy);
      const auto r = backward(x, g, with_entropy ? h : std::vector<double>{}, temperature);
      REQUIRE(r.status);
      const auto loss = [&](const std::vector<double>& z) {
        logits<double> moved = x;
        moved.z = z;
        const auto f = run(moved, temperature);
        double sum = 0;
        for (std::size_t i = 0; i < g.size(); ++i) sum += g[i] * f.logp[i] + (with_entropy ? h[i] * f.entropy[i] : 0);
        return sum;
      };
      for (std::int64_t i = 0; i < x.rows; ++i)
        for (std::int64_t j = 0; j < x.pitch; ++j) {
          const auto at = static_cast<std::size_t>(i * x.pitch + j);
          CAPTURE(i, j);
          if (j >= x.vocabulary)
            CHECK(test::is_plain_zero(r.grad[at]));
          else
            CHECK(r.grad[at] == Approx(test::central_difference(loss, x.z, at)).epsilon(1e-7).margin(1e-8));
        }
    }
}

TEST_CASE("the gradient may overwrite the logits") {
  const logits<double> x(6, 9, 12, 3, 6);
  const std::vector<double> g = {1, -0.5, 0, 2, 0.1, 0.3}, h = {0, 0.4, -1, 0, 0, 0.2};
  const auto apart = backward(x, g, h, 0.8);
  logits<double> over = x;
  const auto f = run(x, 0.8);
  rlhf::reference_backend backend;
  rlhf::logp_gradients<double> gradients{f.lse, g, f.entropy, h};
  REQUIRE(rlhf::token_logp_backward(backend, over.inputs(0.8), gradients, rlhf::view<double, 2>(over.z.data(), 6, 12)));
  CHECK(over.z == apart.grad);
}

TEST_CASE("gradients of extreme rows stay numbers, and keep p - 1 where p is almost 1") {
  logits<double> x(3, 4, 4, 1, 7);
  x.z = {1e4, -1e4, 0, -infinity, 30, 0, 0, 0, -infinity, 5, -infinity, -infinity};
  x.target = {0, 0, 1};
  const auto r = backward(x, {1, 1, 1}, {1, 1, 1}, 1);
  REQUIRE(r.status);
  for (const double v : r.grad) CHECK(std::isfinite(v));
  const auto only = backward(x, {1, 1, 1}, {}, 1);
  const double rest = 3 * std::exp(-30.0) / (1 + 3 * std::exp(-30.0));
  CHECK(only.grad[4] == Approx(rest).epsilon(0.02));  // 1 - p = 2.8e-13, as exact as the stored log-sum-exp near 30
  CHECK(only.grad[5] == Approx(-rest / 3).epsilon(1e-12));
}

TEST_CASE("rows that nothing flows into are cleared without being read") {
  logits<double> x(2, 4, 4, 1, 8);
  for (int j = 0; j < 4; ++j) x.z[static_cast<std::size_t>(j)] = not_a_number;
  rlhf::reference_backend backend;
  const std::vector<double> g = {0, 1}, lse = {not_a_number, static_cast<double>(softmax(x, 1).lse)};
  std::vector<double> grad(8, 99);
  REQUIRE(rlhf::token_logp_backward(backend, x.inputs(), rlhf::logp_gradients<double>{lse, g, {}, {}},
                                    rlhf::view<double, 2>(grad.data(), 2, 4)));
  for (std::size_t j = 0; j < 4; ++j) CHECK(test::is_plain_zero(grad[j]));
  CHECK(grad[4] != 0);
}

TEST_CASE("16-bit gradients are rounded once, from float") {
  const logits<rlhf::bfloat16> x(5, 33, 33, 4, 9);
  const auto f = run(x);
  const std::vector<float> g = {1, -0.5f, 0.25f, 2, 0.1f};
  std::vector<rlhf::bfloat16> grad(x.z.size());
  rlhf::reference_backend backend;
  REQUIRE(rlhf::token_logp_backward(backend, x.inputs(), rlhf::logp_gradients<float>{f.lse, g, {}, {}},
                                    rlhf::view<rlhf::bfloat16, 2>(grad.data(), 5, 33)));
  for (std::int64_t i = 0; i < 5; ++i) {
    const distribution d = softmax(x, i);
    for (std::int64_t j = 0; j < 33; ++j) {
      const auto k = static_cast<std::size_t>(j);
      const double want =
          static_cast<double>(g[static_cast<std::size_t>(i)]) *
          static_cast<double>((x.target[static_cast<std::size_t>(i)] == j ? 1 : 0) - std::exp(d.logp[k]));
      CHECK(static_cast<double>(static_cast<float>(grad[static_cast<std::size_t>(i * 33 + j)])) ==
            Approx(want).epsilon(0.0045).margin(1e-7));
    }
  }
}

TEST_CASE("the full KL between rows, both ways, and its gradient") {
  const logits<double> p(5, 8, 10, 2, 11), q(5, 8, 10, 2, 12);
  const std::vector<double> upstream = {1, -2, 0.5, 0, 3};
  const std::vector<std::uint8_t> mask = {1, 1, 0, 1, 1};
  rlhf::reference_backend backend;
  for (const auto direction : {rlhf::kl_direction::reverse, rlhf::kl_direction::forward}) {
    const bool reverse = direction == rlhf::kl_direction::reverse;
    CAPTURE(reverse);
    const auto evaluate = [&](const std::vector<double>& z, std::vector<double>* kl, std::vector<double>* grad) {
      rlhf::full_kl_inputs<double> in{{z.data(), 5, 10}, {q.z.data(), 5, 10}, {}, 8, 0.9, direction};
      in.mask = mask;
      std::vector<double> values(5, 99);
      rlhf::full_kl_outputs<double> out;
      out.kl = values;
      if (grad != nullptr) {
        out.grad_kl = upstream;
        out.grad_logits = {grad->data(), 5, 10};
      }
      REQUIRE(rlhf::full_kl(backend, in, out));
      if (kl != nullptr) *kl = values;
      double sum = 0;
      for (std::size_t i = 0; i < 5; ++i) sum += upstream[i] * values[i];
      return sum;
    };
    std::vector<double> kl, grad(50, 99);
    evaluate(p.z, &kl, &grad);
    for (std::int64_t i = 0; i < 5; ++i) {
      const distribution a = softmax(p, i, 0.9), b = softmax(q, i, 0.9);
      long double want = 0;
      for (std::size_t j = 0; j < 8; ++j)
        want += reverse ? std::exp(a.logp[j]) * (a.logp[j] - b.logp[j]) : std::exp(b.logp[j]) * (b.logp[j] - a.logp[j]);
      CHECK(kl[static_cast<std::size_t>(i)] == Approx(i == 2 ? 0.0 : static_cast<double>(want)).epsilon(1e-12));
      for (std::int64_t j = 0; j < 10; ++j) {
        const auto at = static_cast<std::size_t>(i * 10 + j);
        if (i == 2 || j >= 8) {
          CHECK(test::is_plain_zero(grad[at]));
          continue;
        }
        const auto f = [&](const std::vector<double>& z) { return evaluate(z, nullptr, nullptr); };
        CHECK(grad[at] == Approx(test::central_difference(f, p.z, at)).epsilon(1e-6).margin(1e-8));
      }
    }
  }
}

TEST_CASE("full KL: equal rows are 0; where the weighing side is impossible the term is 0") {
  rlhf::reference_backend backend;
  const std::vector<double> p = {1, 2, -infinity, 1, 2, 3}, q = {1, 2, 3, 1, 2, 3};
  std::vector<double> kl(2, 99), grad(6, 99);
  rlhf::full_kl_outputs<double> out;
  out.kl = kl;
  out.grad_logits = {grad.data(), 2, 3};
  REQUIRE(rlhf::full_kl(backend, rlhf::full_kl_inputs<double>{{p.data(), 2, 3}, {q.data(), 2, 3}}, out));
  CHECK(kl[0] == Approx(-std::log1p(-std::exp(3.0) / (std::exp(1.0) + std::exp(2.0) + std::exp(3.0)))));
  CHECK(kl[1] == Approx(0).margin(1e-15));
  for (const double g : grad) CHECK(std::isfinite(g));
  for (std::size_t j = 3; j < 6; ++j) CHECK(grad[j] == Approx(0).margin(1e-15));
}
