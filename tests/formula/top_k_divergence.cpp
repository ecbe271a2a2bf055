// Distillation from k tokens and a bucket, against the definition in plain sums.

#include "rlhf/driver/top_k_divergence.hpp"

#include <algorithm>
#include <numeric>

#include "formula/support.hpp"

using test::infinity;
using test::not_a_number;

namespace {

struct problem {
  std::int64_t rows, columns, vocabulary, k;
  double temperature = 1;
  std::vector<std::int32_t> token;
  std::vector<double> teacher_logp, teacher_tail;
  std::vector<std::uint8_t> mask;
};
struct answer {
  rlhf::status status;
  std::vector<double> value, gradient;
};
answer run(const rlhf::top_k_divergence& how, const problem& p, std::vector<double> student, bool in_place = false,
           const std::vector<double>& share = {}) {
  rlhf::reference_backend backend;
  answer a{{}, std::vector<double>(static_cast<std::size_t>(p.rows), 99), std::vector<double>(student.size(), 99)};
  rlhf::top_k_divergence_inputs<double> in;
  in.logits = {student.data(), p.rows, p.columns};
  in.token = {p.token.data(), p.rows, p.k};
  in.teacher_logp = {p.teacher_logp.data(), p.rows, p.k};
  if (!p.teacher_tail.empty()) in.teacher_tail = p.teacher_tail;
  if (!p.mask.empty()) in.mask = p.mask;
  in.vocabulary = p.vocabulary;
  in.temperature = p.temperature;
  rlhf::full_kl_outputs<double> out;
  out.kl = a.value;
  if (!share.empty()) out.grad_kl = share;
  out.grad_logits = {in_place ? student.data() : a.gradient.data(), p.rows, p.columns};
  a.status = how(backend, in, out);
  if (in_place) a.gradient = student;
  return a;
}

/// The k of a teacher's logits, shuffled: the order of the tokens must not matter.
problem of_teacher(const std::vector<double>& teacher, std::int64_t rows, std::int64_t vocabulary, std::int64_t k,
                   double temperature, bool with_tail) {
  rlhf::reference_backend backend;
  problem p{rows, static_cast<std::int64_t>(teacher.size()) / rows, vocabulary, k, temperature, {}, {}, {}, {}};
  p.token.resize(static_cast<std::size_t>(rows * k));
  p.teacher_logp.resize(p.token.size());
  std::vector<double> tail(static_cast<std::size_t>(rows));
  rlhf::top_k_inputs<double> in;
  in.logits = {teacher.data(), rows, p.columns};
  in.vocabulary = vocabulary;
  in.temperature = temperature;
  rlhf::top_k_outputs<double> out;
  out.logp = {p.teacher_logp.data(), rows, k};
  out.token = {p.token.data(), rows, k};
  out.tail = tail;
  REQUIRE(rlhf::top_k(backend, in, out));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i + 3 < k; i += 2) {
      std::swap(p.token[static_cast<std::size_t>(r * k + i)], p.token[static_cast<std::size_t>(r * k + i + 3)]);
      std::swap(p.teacher_logp[static_cast<std::size_t>(r * k + i)],
                p.teacher_logp[static_cast<std::size_t>(r * k + i + 3)]);
    }
  if (with_tail) p.teacher_tail = tail;
  return p;
}

double definition(const rlhf::top_k_divergence& how, const problem& p, const std::vector<double>& student,
                  std::size_t r) {
  const auto columns = static_cast<std::size_t>(p.columns), n = static_cast<std::size_t>(p.vocabulary),
             k = static_cast<std::size_t>(p.k);
  double all = 0, p_rest = 1, q_rest = 1, f = 0, b = 0;
  for (std::size_t j = 0; j < n; ++j) all += std::exp(student[r * columns + j] / p.temperature);
  const auto term = [&](double x, double y) {
    f += y * std::log(y / x);
    b += x * std::log(x / y);
  };
  for (std::size_t i = 0; i < k; ++i) {
    const double x =
        std::exp(student[r * columns + static_cast<std::size_t>(p.token[r * k + i])] / p.temperature) / all;
    const double y = std::exp(p.teacher_logp[r * k + i]);
    p_rest -= x;
    q_rest -= y;
    term(x, y);
  }
  if (how.tail && k < n) term(p_rest, q_rest);
  const double value = how.forward * f + (1 - how.forward) * b;
  return how.at_least_zero ? std::max(value, 0.0) : value;
}

}  // namespace

TEST_CASE("KL on the teacher's k tokens, its value and its gradient") {
  std::mt19937 random(81);
  auto s = test::uniform(random, 3 * 14, -2, 2), t = test::uniform(random, 3 * 14, -2, 2);
  for (auto* x : {&s, &t})
    for (std::size_t r = 0; r < 3; ++r)
      for (std::size_t j = 12; j < 14; ++j) (*x)[r * 14 + j] = not_a_number;  // padding
  for (const double forward : {1.0, 0.0, 0.5, 0.2})
    for (const bool tail : {true, false})
      for (const bool known : {true, false})
        for (const double temperature : {1.0, 0.6})
          for (const std::int64_t k : {1, 5, 11, 12}) {
            CAPTURE(forward, tail, known, temperature, k);
            const rlhf::top_k_divergence how{.forward = forward, .tail = tail};
            const problem p = of_teacher(t, 3, 12, k, temperature, known);
            const answer a = run(how, p, s);
            REQUIRE(a.status);
            for (std::size_t r = 0; r < 3; ++r) {
              CHECK(a.value[r] == Approx(definition(how, p, s, r)).epsilon(1e-11).margin(1e-14));
              if (tail) CHECK(a.value[r] > 0);
              double sum = 0;
              for (std::size_t j = 0; j < 12; ++j) {
                const auto f = [&](const std::vector<double>& z) { return definition(how, p, z, r); };
                CHECK(a.gradient[r * 14 + j] ==
                      Approx(test::central_difference(f, s, r * 14 + j)).epsilon(1e-6).margin(2e-9));
                sum += a.gradient[r * 14 + j];
              }
              CHECK(sum == Approx(0).margin(1e-14));  // a softmax does not see a constant
              CHECK(test::is_plain_zero(a.gradient[r * 14 + 12]));
              CHECK(test::is_plain_zero(a.gradient[r * 14 + 13]));
            }
          }
}

TEST_CASE("with all tokens it is the KL over the vocabulary, with fewer it is less") {
  std::mt19937 random(82);
  const auto s = test::uniform(random, 4 * 9, -3, 3), t = test::uniform(random, 4 * 9, -3, 3);
  rlhf::reference_backend backend;
  for (const auto direction : {rlhf::kl_direction::forward, rlhf::kl_direction::reverse}) {
    std::vector<double> kl(4), gradient(36);
    rlhf::full_kl_inputs<double> in;
    in.logits = {s.data(), 4, 9};
    in.ref_logits = {t.data(), 4, 9};
    in.direction = direction;
    rlhf::full_kl_outputs<double> out;
    out.kl = kl;
    out.grad_logits = {gradient.data(), 4, 9};
    REQUIRE(rlhf::full_kl(backend, in, out));
    const rlhf::top_k_divergence how{.forward = direction == rlhf::kl_direction::forward ? 1.0 : 0.0};
    const answer whole = run(how, of_teacher(t, 4, 9, 9, 1, false), s);
    for (std::size_t i = 0; i < 36; ++i) CHECK(whole.gradient[i] == Approx(gradient[i]).epsilon(1e-12).margin(1e-15));
    std::vector<double> last(4, 0.0);
    for (const std::int64_t k : {1, 3, 8}) {
      const answer part = run(how, of_teacher(t, 4, 9, k, 1, true), s);
      for (std::size_t r = 0; r < 4; ++r) {
        CHECK(part.value[r] >= last[r]);  // a finer partition tells them apart at least as well
        CHECK(part.value[r] <= kl[r] * (1 + 1e-12));
        last[r] = part.value[r];
      }
    }
    for (std::size_t r = 0; r < 4; ++r) CHECK(whole.value[r] == Approx(kl[r]).epsilon(1e-12));
  }
}

TEST_CASE("masks, weights and gradients written over the logits") {
  std::mt19937 random(83);
  const auto s = test::uniform(random, 3 * 8, -2, 2), t = test::uniform(random, 3 * 8, -2, 2);
  problem p = of_teacher(t, 3, 8, 3, 1, true);
  const rlhf::top_k_divergence how{.forward = 0.4};
  const answer plain = run(how, p, s);
  p.mask = {1, 0, 1};
  p.token[4] = -7;  // nobody reads it
  p.teacher_logp[4] = not_a_number;
  const answer weighed = run(how, p, s, true, {2, not_a_number, -0.5});
  REQUIRE(weighed.status);
  CHECK(test::is_plain_zero(weighed.value[1]));
  for (std::size_t j = 0; j < 8; ++j) {
    CHECK(weighed.gradient[j] == Approx(2 * plain.gradient[j]).epsilon(1e-13));
    CHECK(test::is_plain_zero(weighed.gradient[8 + j]));
    CHECK(weighed.gradient[16 + j] == Approx(-0.5 * plain.gradient[16 + j]).epsilon(1e-13));
  }
}

TEST_CASE("the clamp at 0 of terms without a bucket") {
  // The student has all of its probability on the two tokens, the teacher a third: the forward sum is below 0.
  const problem p{1, 3, 3, 2, 1, {0, 1}, {std::log(1.0 / 6), std::log(1.0 / 6)}, {}, {}};
  const std::vector<double> s{0, 0.1, -9};
  const rlhf::top_k_divergence how{.tail = false};
  CHECK(run(how, p, s).value[0] < 0);
  const answer a = run({.tail = false, .at_least_zero = true}, p, s);
  CHECK(test::is_plain_zero(a.value[0]));
  for (const double g : a.gradient) CHECK(std::abs(g) <= 0);
  const std::vector<double> other{-9, -9, 0};  // above 0 nothing is changed
  CHECK(run({.tail = false, .at_least_zero = true}, p, other).gradient == run(how, p, other).gradient);
}

TEST_CASE("certainty and impossible tokens") {
  const double tiny = -700;
  // Both sure of token 0, the teacher with a tail of e^-700 or none: finite and small, and slopes that are numbers.
  for (const double forward : {1.0, 0.0, 0.5})
    for (const double other : {-700.0, -30.0, -infinity}) {
      CAPTURE(forward, other);
      problem p{1, 3, 3, 1, 1, {0}, {0.0}, {tiny}, {}};
      const answer a = run({.forward = forward}, p, {0, other, -infinity});
      if (forward >= 1 && other > -infinity) CHECK(a.value[0] == Approx(0).margin(1e-12));
      if (other > -infinity) {
        CHECK(std::isfinite(a.value[0]));
        for (const double g : a.gradient) CHECK(std::isfinite(g));
      }
      p.teacher_tail.clear();  // 1 - 1: nothing is left, which counts as 1e-7 under the student's tail
      const answer b = run({.forward = forward}, p, {0, other, -infinity});
      CHECK(std::isfinite(b.value[0]));
      for (const double g : b.gradient) CHECK(std::isfinite(g));
      if (other < -600) CHECK(b.value[0] == Approx(0).margin(1e-12));
    }
  // A tail of the student that 1 - p would have lost: F = q log(q / p) + ...
  const problem p{1, 3, 3, 1, 1, {0}, {std::log(0.75)}, {std::log(0.25)}, {}};
  const answer far = run({}, p, {0, -80, -infinity});
  CHECK(far.value[0] == Approx(0.75 * std::log(0.75) + 0.25 * (std::log(0.25) + 80)));
  CHECK(far.gradient[0] == Approx(0.25));
  CHECK(far.gradient[1] == Approx(-0.25));
  CHECK(test::is_plain_zero(far.gradient[2]));
  const answer further = run({}, p, {0, -800, -infinity});
  CHECK(further.value[0] == Approx(0.75 * std::log(0.75) + 0.25 * (std::log(0.25) + 800)));
  CHECK(further.gradient[1] == Approx(-0.25));
  // A known tail of the teacher is taken as it is, however small; only one by difference has a floor.
  problem small{1, 3, 3, 1, 1, {0}, {0.0}, {-30.0}, {}};
  CHECK(run({.forward = 0}, small, {0, 0, -infinity}).value[0] == Approx(std::log(0.5) + 0.5 * 30));
  small.teacher_tail.clear();
  CHECK(run({.forward = 0}, small, {0, 0, -infinity}).value[0] == Approx(std::log(0.5) - 0.5 * std::log(1e-7)));
  // The teacher's token of probability 0: free forward, infinite in reverse.
  const problem zero{1, 3, 3, 2, 1, {2, 0}, {-infinity, std::log(0.5)}, {std::log(0.5)}, {}};
  CHECK(std::isfinite(run({}, zero, {0, 0, 0}).value[0]));
  CHECK(run({.forward = 0}, zero, {0, 0, 0}).value[0] == infinity);
  CHECK(std::isfinite(run({.forward = 0}, zero, {0, 0, -infinity}).value[0]));
}

TEST_CASE("what top_k_divergence refuses") {
  const std::vector<double> s(6);
  problem p{2, 3, 3, 2, 1, {0, 1, 2, 2}, std::vector<double>(4, -1.0), {}, {}};
  const answer twice = run({}, p, s);
  CHECK(test::text(twice.status).find("top_k_divergence: token wrong in rows: 1") == 0);
  CHECK(twice.value[0] > 0);
  CHECK(test::is_plain_zero(twice.value[1]));
  CHECK(test::is_plain_zero(twice.gradient[5]));
  p.token[3] = 3;
  CHECK(run({}, p, s).status.code == rlhf::errc::index);
  p.token[3] = 0;
  CHECK(run({}, p, s).status);
  CHECK(test::text(run({.forward = 2}, p, s).status) == "top_k_divergence: forward is 2, wants 0 <= forward <= 1");
  CHECK(test::text(run({.least_tail = 0}, p, s).status) ==
        "top_k_divergence: least_tail is 0, wants 0 < least_tail < 1");
  p.temperature = -1;
  CHECK(test::text(run({}, p, s).status) == "top_k_divergence: temperature is -1, wants more than 0");
}
