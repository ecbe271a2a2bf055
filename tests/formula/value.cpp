// Value losses: closed forms, both clip forms on and off the bound, masks, explained variance.

#include "rlhf/objective/value.hpp"

#include <algorithm>

#include "formula/support.hpp"
#include "rlhf/driver/value_loss.hpp"

namespace {

using test::not_a_number;

struct value_result {
  rlhf::status status;
  double loss = not_a_number;
  std::vector<double> gradient, per_token;
  rlhf::statistics stats;
};
template <class Loss>
value_result run(const Loss& loss, const rlhf::layout<>& sequences, const std::vector<double>& value,
                 const std::vector<double>& old, const std::vector<double>& returns,
                 const std::vector<std::uint8_t>& mask) {
  rlhf::reference_backend backend;
  value_result r;
  r.gradient.assign(value.size(), not_a_number);
  r.per_token.assign(value.size(), not_a_number);
  rlhf::value_inputs<double> in;
  in.value = value;
  in.old_value = old;
  in.returns = returns;
  if (!mask.empty()) in.mask = mask;
  r.status = loss(backend, sequences, in, rlhf::value_outputs<double>{{&r.loss, 1}, r.gradient, r.per_token, &r.stats});
  return r;
}

double sq(double x) { return x * x; }

}  // namespace

TEST_CASE("value losses against closed forms and central differences") {
  const test::token_batch b = test::padded_batch(21);  // its streams as values
  const auto& value = b.logp;
  const auto& old = b.old_logp;
  const auto& returns = b.ref_logp;
  const auto check = [&](const char* name, const auto& objective, auto closed) {
    CAPTURE(name);
    const rlhf::value_loss loss{objective};
    const auto r = run(loss, b.layout(), value, old, returns, b.mask);
    REQUIRE(r.status);
    double sum = 0, n = 0;
    for (std::size_t i = 0; i < b.size(); ++i) n += b.valid(i);
    for (std::size_t i = 0; i < b.size(); ++i) {
      if (!b.valid(i)) {
        CHECK(test::is_plain_zero(r.gradient[i]));
        CHECK(test::is_plain_zero(r.per_token[i]));
        continue;
      }
      sum += closed(value[i], old[i], returns[i]);
      CHECK(r.per_token[i] == Approx(closed(value[i], old[i], returns[i])).epsilon(1e-12));
      const auto f = [&](const std::vector<double>& x) { return run(loss, b.layout(), x, old, returns, b.mask).loss; };
      CHECK(r.gradient[i] == Approx(test::central_difference(f, value, i)).epsilon(1e-6).margin(1e-9));
    }
    CHECK(r.loss == Approx(sum / n).epsilon(1e-12));
  };
  const auto clipped = [](double v, double o, double g, double c) {
    return std::max(sq(v - g), sq(o + std::clamp(v - o, -c, c) - g));
  };
  check("squared", rlhf::squared_value{}, [](double v, double, double g) { return sq(v - g) / 2; });
  check("clipped", rlhf::clipped_value{.clip = 0.1},
        [&](double v, double o, double g) { return clipped(v, o, g, 0.1) / 2; });
  check("clipped by bounds", rlhf::clipped_value{.clip = 0.1, .scale = 1, .form = rlhf::value_clip::bounds},
        [&](double v, double o, double g) { return clipped(v, o, g, 0.1); });
  check("not clipped", rlhf::clipped_value{.clip = test::infinity},
        [&](double v, double, double g) { return sq(v - g) / 2; });
}

TEST_CASE("exactly on the bound the two clip forms differ in slope") {
  // V = old + clip exactly, G below both: the clipped and the plain loss tie.
  const std::vector<double> value = {1.25}, old = {1}, returns = {0};
  const auto slope = [&](rlhf::value_clip form) {
    return run(rlhf::value_loss{rlhf::clipped_value{.clip = 0.25, .form = form}}, rlhf::padded(1, 1), value, old,
               returns, {})
        .gradient[0];
  };
  CHECK(slope(rlhf::value_clip::difference) == Approx(1.25));
  CHECK(slope(rlhf::value_clip::bounds) == Approx(0.75 * 1.25));
}

TEST_CASE("the clip fraction counts strictly larger clipped terms only") {
  // Not clipped; clipped and larger; clipped and smaller; exactly on the bound.
  const std::vector<double> value = {0.1, 0.5, 0.5, 0.2}, old = {0, 0, 0, 0}, returns = {1, 1, -1, 1};
  const auto r = run(rlhf::value_loss{rlhf::clipped_value{.clip = 0.2}}, rlhf::padded(1, 4), value, old, returns, {});
  CHECK(r.stats["clip_fraction"] == 0.25);
}

TEST_CASE("explained variance is 1 - Var(G - V) / Var(G)") {
  const test::token_batch b = test::padded_batch(22);
  const auto r = run(rlhf::value_loss{rlhf::squared_value{}}, b.layout(), b.logp, b.old_logp, b.ref_logp, b.mask);
  double n = 0, mean = 0, mean_d = 0, var = 0, var_d = 0;
  for (std::size_t i = 0; i < b.size(); ++i)
    if (b.valid(i)) n += 1, mean += b.ref_logp[i], mean_d += b.ref_logp[i] - b.logp[i];
  mean /= n, mean_d /= n;
  for (std::size_t i = 0; i < b.size(); ++i)
    if (b.valid(i)) var += sq(b.ref_logp[i] - mean), var_d += sq(b.ref_logp[i] - b.logp[i] - mean_d);
  CHECK(r.stats["explained_variance"] == Approx(1 - var_d / var).epsilon(1e-10));
  // A perfect critic, and returns without variance.
  const std::vector<double> constant = {2, 2, 2}, any = {1, 2, 3};
  CHECK(
      run(rlhf::value_loss{rlhf::squared_value{}}, rlhf::padded(1, 3), any, any, any, {}).stats["explained_variance"] ==
      1);
  CHECK(run(rlhf::value_loss{rlhf::squared_value{}}, rlhf::padded(1, 3), any, any, constant, {})
            .stats["explained_variance"] == 0);
}
