// From logits to log-probabilities and back, and divergences of whole distributions.

#include "property/support.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/full_jensen_shannon.hpp"
#include "rlhf/driver/full_kl.hpp"
#include "rlhf/driver/token_logp.hpp"

namespace {

using namespace property;

/// Rows of logits with columns beyond the vocabulary, and two streams of gradients.
struct rows_of_logits {
  std::int64_t rows = 0, columns = 0, vocabulary = 0;
  double temperature = 1;
  std::vector<double> logits, other, grad_logp, grad_entropy;
  std::vector<std::int32_t> target;

  [[nodiscard]] rlhf::view<const double, 2> matrix(const std::vector<double>& x) const {
    return {x.data(), rows, columns, columns};
  }
};
constexpr std::int32_t ignored = -100;

/// Up to `range` in size; some logits are minus infinity where `zeros` says so, never a target's.
rows_of_logits draw(double range, bool zeros) {
  rows_of_logits x;
  x.rows = integer(0, 4);
  x.vocabulary = integer(1, 9);
  x.columns = x.vocabulary + integer(0, 3);
  numbers random(seed());
  x.temperature = random.chance(0.5) ? 1 : random.uniform(0.5, 2);
  const auto n = static_cast<std::size_t>(x.rows * x.columns);
  x.logits.resize(n);
  x.other.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    x.logits[i] = zeros && random.chance(0.1) ? -infinity : random.uniform(-range, range);
    x.other[i] = random.uniform(-range, range);
  }
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const std::int64_t at = random.integer(0, x.vocabulary - 1);
    x.target.push_back(random.chance(0.2) ? ignored : static_cast<std::int32_t>(at));
    x.logits[static_cast<std::size_t>(r * x.columns + at)] = random.uniform(-range, range);
    x.grad_logp.push_back(random.uniform(-1, 1));
    x.grad_entropy.push_back(random.uniform(-1, 1));
  }
  return x;
}

struct found {
  std::vector<double> logp, entropy, lse, squares, gradient;
  std::vector<std::int64_t> argmax;
};
template <class T>
found call(const rows_of_logits& x) {
  const auto rows = static_cast<std::size_t>(x.rows);
  std::vector<T> logits(x.logits.begin(), x.logits.end()), gl(x.grad_logp.begin(), x.grad_logp.end()),
      ge(x.grad_entropy.begin(), x.grad_entropy.end());
  std::vector<T> logp(rows), entropy(rows), lse(rows), squares(rows), gradient(logits.size(), T(7));
  found f;
  f.argmax.resize(rows);
  rlhf::logits_inputs<T> in;
  in.logits = {logits.data(), x.rows, x.columns, x.columns};
  in.target = x.target;
  in.vocabulary = x.vocabulary;
  in.temperature = x.temperature;
  rlhf::logp_outputs<T> out;
  out.logp = logp;
  out.entropy = entropy;
  out.lse = lse;
  out.square_sum = squares;
  out.argmax = f.argmax;
  rlhf::reference_backend be;
  expect_done(rlhf::token_logp(be, in, out), "token_logp");
  rlhf::logp_gradients<T> from;
  from.lse = lse;
  from.grad_logp = gl;
  from.entropy = entropy;
  from.grad_entropy = ge;
  expect_done(rlhf::token_logp_backward(be, in, from, {gradient.data(), x.rows, x.columns, x.columns}),
              "token_logp_backward");
  f.logp.assign(logp.begin(), logp.end());
  f.entropy.assign(entropy.begin(), entropy.end());
  f.lse.assign(lse.begin(), lse.end());
  f.squares.assign(squares.begin(), squares.end());
  f.gradient.assign(gradient.begin(), gradient.end());
  return f;
}
bool same(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

/// Both directions of the KL, and mixtures between: by their beta.
constexpr double betas[] = {0, 0.3, 0.5, 1};
struct divergences {
  std::vector<double> value, gradient;
};
divergences diverge(const rows_of_logits& x, double beta, const std::vector<std::uint8_t>& mask) {
  divergences d;
  d.value.resize(static_cast<std::size_t>(x.rows));
  d.gradient.assign(x.logits.size(), 7);
  rlhf::full_kl_inputs<double> in;
  in.logits = x.matrix(x.logits);
  in.ref_logits = x.matrix(x.other);
  in.mask = mask;
  in.vocabulary = x.vocabulary;
  in.temperature = x.temperature;
  rlhf::full_kl_outputs<double, double> out;
  out.kl = d.value;
  out.grad_kl = x.grad_logp;
  out.grad_logits = {d.gradient.data(), x.rows, x.columns, x.columns};
  rlhf::reference_backend be;
  expect_done(rlhf::full_jensen_shannon(be, in, out, beta), "full_jensen_shannon");
  return d;
}
double difference(const rows_of_logits& x, std::size_t i, const auto& value) {
  const double h = 1e-3;
  const auto at = [&](double by) {
    rows_of_logits moved = x;
    moved.logits[i] += by;
    return value(moved);
  };
  return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
}

}  // namespace

TEST_CASE("logits: finite, and what a distribution must be") {
  for_all("finite", 1, [] {
    const auto x = draw(700, true);
    const found f = call<double>(x), g = call<float>(x);
    const double log_size = std::log(static_cast<double>(x.vocabulary));
    for (std::size_t r = 0; r < f.logp.size(); ++r) {
      for (const found* y : {&f, &g})
        expect(std::isfinite(y->logp[r]) && std::isfinite(y->entropy[r]) && y->logp[r] <= 1e-3, "log-probability ",
               y->logp[r], ", entropy ", y->entropy[r]);
      expect(f.entropy[r] >= -1e-12 && f.entropy[r] <= log_size + 1e-12, "entropy ", f.entropy[r]);
      if (x.target[r] == ignored)
        expect(plain_zero(f.logp[r]) && plain_zero(f.entropy[r]), "an ignored row has ", f.logp[r]);
      else
        expect(f.squares[r] > 0 && f.squares[r] <= 1 + 1e-12, "sum of squares ", f.squares[r]);
      double sum = 0;
      for (std::int64_t j = 0; j < x.columns; ++j) {
        const double slope = f.gradient[r * static_cast<std::size_t>(x.columns) + static_cast<std::size_t>(j)];
        expect(std::isfinite(slope) &&
                   std::isfinite(g.gradient[r * static_cast<std::size_t>(x.columns) + static_cast<std::size_t>(j)]),
               "slope ", slope);
        expect((j < x.vocabulary && x.target[r] != ignored) || plain_zero(slope), "a slope of ", slope,
               " beyond the vocabulary or ignored");
        sum += slope;
      }
      expect(std::abs(sum) <= 1e-9, "slopes of a row add up to ", sum);
    }
  });
}

TEST_CASE("logits: what is not read, shifts, and float") {
  for_all("garbage", 1, [] {
    const auto x = draw(6, true);
    numbers random(seed());
    auto spoilt = x;
    for (std::int64_t r = 0; r < x.rows; ++r)
      for (std::int64_t j = 0; j < x.columns; ++j)
        if (j >= x.vocabulary || x.target[static_cast<std::size_t>(r)] == ignored)
          spoilt.logits[static_cast<std::size_t>(r * x.columns + j)] = random.garbage();
    for (std::size_t r = 0; r < x.target.size(); ++r)
      if (x.target[r] == ignored) spoilt.grad_logp[r] = spoilt.grad_entropy[r] = random.garbage();
    const found a = call<double>(x), b = call<double>(spoilt);
    for (std::size_t r = 0; r < x.target.size(); ++r)
      expect(x.target[r] == ignored || (same_bits(a.lse[r], b.lse[r]) && same_bits(a.squares[r], b.squares[r])),
             "garbage changes row ", r);
    expect(same(a.logp, b.logp) && same(a.entropy, b.entropy) && same(a.gradient, b.gradient),
           "garbage changes the result");

    auto moved = x;
    const double c = random.uniform(-300, 300);
    for (double& z : moved.logits) z += c;
    const found m = call<double>(moved), f = call<float>(x);
    for (std::size_t r = 0; r < a.logp.size(); ++r) {
      expect(near(a.logp[r], m.logp[r], 1e-11, 1) && near(a.entropy[r], m.entropy[r], 1e-11, 1), "logits ", c,
             " higher make ", a.logp[r], " to ", m.logp[r]);
      expect(near(a.logp[r], f.logp[r], 1e-5, 1) && near(a.entropy[r], f.entropy[r], 1e-5, 1), f.logp[r], " in float, ",
             a.logp[r]);
    }
    for (std::size_t i = 0; i < a.gradient.size(); ++i)
      expect(near(a.gradient[i], f.gradient[i], 1e-4, 0.1), "slope ", f.gradient[i], " in float, ", a.gradient[i]);
  });
}

TEST_CASE("logits: slopes are derivatives") {
  for_all("slopes", 1 + std::size(betas), [] {
    const auto x = draw(3, false);
    if (x.rows == 0) return;
    const std::int64_t r = integer(0, x.rows - 1);
    const auto row = static_cast<std::size_t>(r);
    const auto i = static_cast<std::size_t>(r * x.columns + integer(0, x.vocabulary - 1));
    const double got = call<double>(x).gradient[i],
                 slope = difference(x, i, [&](const rows_of_logits& y) {
                   const found f = call<double>(y);
                   return x.target[row] == ignored
                              ? 0.0
                              : x.grad_logp[row] * f.logp[row] + x.grad_entropy[row] * f.entropy[row];
                 });
    expect(near(got, slope, 1e-6, 1e-3), "token_logp: slope ", got, ", differences give ", slope);
    for (const double beta : betas) {
      const double g = diverge(x, beta, {}).gradient[i], d = difference(x, i, [&](const rows_of_logits& y) {
                                                           return x.grad_logp[row] * diverge(y, beta, {}).value[row];
                                                         });
      expect(near(g, d, 1e-6, 1e-3), "divergence ", beta, ": slope ", g, ", differences give ", d);
    }
  });
}

TEST_CASE("logits: divergences are not negative, 0 for equals, and do not see masked rows") {
  for_all("divergences", std::size(betas), [] {
    auto x = draw(real(1, 50), false);
    numbers random(seed());
    std::vector<std::uint8_t> mask;
    for (std::int64_t r = 0; r < x.rows; ++r) mask.push_back(random.chance(0.7));
    auto spoilt = x;
    for (std::int64_t r = 0; r < x.rows; ++r)
      for (std::int64_t j = 0; j < x.columns; ++j)
        if (mask[static_cast<std::size_t>(r)] == 0 || j >= x.vocabulary) {
          spoilt.logits[static_cast<std::size_t>(r * x.columns + j)] = random.garbage();
          spoilt.other[static_cast<std::size_t>(r * x.columns + j)] = random.garbage();
        }
    auto equal = x;
    equal.other = equal.logits;
    for (const double beta : betas) {
      const auto a = diverge(x, beta, mask), b = diverge(spoilt, beta, mask), e = diverge(equal, beta, {});
      expect(same(a.value, b.value) && same(a.gradient, b.gradient), "divergence ", beta,
             ": garbage changes the result");
      for (std::size_t r = 0; r < a.value.size(); ++r) {
        expect(std::isfinite(a.value[r]) && a.value[r] >= -1e-12, "divergence ", beta, " is ", a.value[r]);
        expect(mask[r] != 0 || plain_zero(a.value[r]), "divergence ", beta, " writes ", a.value[r], " under the mask");
        expect(std::abs(e.value[r]) < 1e-12, "divergence ", beta, " of equals is ", e.value[r]);
      }
      for (const double g : e.gradient)
        expect(std::abs(g) < 1e-12, "divergence ", beta, " of equals has the slope ", g);
    }
  });
}
