// Objectives of single labelled responses: closed forms, central differences, limits, reference points, statistics.

#include <algorithm>
#include <cmath>
#include <vector>

#include "formula/support.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/driver/reference_point.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/token.hpp"
#include "rlhf/objective/unpaired.hpp"

namespace {

using test::infinity;
using test::not_a_number;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

struct batch {
  std::vector<double> logp, ref_logp, label, reference_point, weight;
  std::vector<std::uint8_t> mask;

  explicit batch(unsigned seed, bool ratings = false, std::size_t n = 23) : mask(n) {
    std::mt19937 random(seed);
    logp = test::uniform(random, n, -12, -3);
    ref_logp = test::uniform(random, n, -12, -3);
    label = test::uniform(random, n, 0, 1);
    reference_point = test::uniform(random, n, 0, 2);
    weight = test::uniform(random, n, 0.2, 2);
    if (!ratings)
      for (auto& x : label) x = std::floor(x + 0.5);
    const double garbage[] = {not_a_number, infinity, -infinity};
    for (std::size_t i = 0; i < n; ++i) {
      mask[i] = i % 4 != 2;
      if (mask[i] == 0)
        for (auto* v : {&logp, &ref_logp, &label, &reference_point, &weight}) (*v)[i] = garbage[i % 3];
    }
  }
  [[nodiscard]] rlhf::unpaired_inputs<double> inputs() const {
    return {logp, ref_logp, label, reference_point, {}, weight, mask};
  }
};

struct result {
  rlhf::status status;
  double loss = not_a_number;
  std::vector<double> gradient, per_response;
  rlhf::statistics stats;
};
template <class Objective>
result run(const Objective& objective, const rlhf::unpaired_inputs<double>& in) {
  rlhf::reference_backend backend;
  result r;
  const auto n = static_cast<std::size_t>(in.logp.extent);
  r.gradient.assign(n, not_a_number);
  r.per_response.assign(n, not_a_number);
  r.status =
      rlhf::unpaired_loss<Objective>{objective}(backend, in, {{&r.loss, 1}, r.gradient, r.per_response, &r.stats});
  return r;
}

/// Values, slopes, exact zeros under the mask. `value(h, label, reference point)`.
template <class Objective, class Value>
void check(const char* name, const Objective& objective, bool ratings, Value value) {
  for (const unsigned seed : {1u, 2u}) {
    CAPTURE(name, seed);
    const batch b(seed, ratings);
    const auto r = run(objective, b.inputs());
    REQUIRE(r.status);
    double sum = 0, count = 0;
    for (const auto m : b.mask) count += m;
    for (std::size_t i = 0; i < b.mask.size(); ++i) {
      CAPTURE(i);
      if (b.mask[i] == 0) {
        CHECK((test::is_plain_zero(r.gradient[i]) && test::is_plain_zero(r.per_response[i])));
        continue;
      }
      const auto at = [&](double logp) {
        return b.weight[i] * value(logp - b.ref_logp[i], b.label[i], b.reference_point[i]);
      };
      CHECK(r.per_response[i] == Approx(at(b.logp[i])).epsilon(1e-12));
      const double h = 1e-5, slope = (at(b.logp[i] + h) - at(b.logp[i] - h)) / (2 * h);
      CHECK(r.gradient[i] * count == Approx(slope).epsilon(1e-6).margin(1e-10));
      sum += at(b.logp[i]);
    }
    CHECK(r.loss == Approx(sum / count).epsilon(1e-12));
  }
}

}  // namespace

TEST_CASE("unpaired objectives: values and slopes") {
  for (const double beta : {0.1, 0.7}) {
    const double wd = 1.2, wu = 0.8;
    check("kto", rlhf::kto{beta, wd, wu}, false, [&](double h, double label, double kl) {
      return label == 1 ? wd * (1 - sigmoid(beta * (h - kl))) : wu * (1 - sigmoid(beta * (kl - h)));
    });
    check("apo_zero_unpaired", rlhf::apo_zero_unpaired{beta, wd, wu}, false, [&](double h, double label, double) {
      return label == 1 ? wd * (1 - sigmoid(beta * h)) : wu * sigmoid(beta * h);
    });
    check("bco", rlhf::bco{beta}, false, [&](double h, double label, double delta) {
      return -log_sigmoid(label == 1 ? beta * h - delta : delta - beta * h);
    });
    check("una_rating", rlhf::una_rating{beta}, true,
          [&](double h, double y, double) { return std::pow(sigmoid(beta * h) - y, 2); });
    check("una_binary", rlhf::una_binary{beta}, true,
          [&](double h, double y, double) { return -y * log_sigmoid(beta * h) - (1 - y) * log_sigmoid(-beta * h); });
    check("una_reward", rlhf::una_reward{beta}, true,
          [&](double h, double y, double) { return std::pow(beta * h - y, 2); });
    check("negative_preference", rlhf::negative_preference{beta}, false,
          [&](double h, double, double) { return -2 / beta * log_sigmoid(-beta * h); });
  }
}

TEST_CASE("unpaired objectives at the ends of their range") {
  // Log-ratios of +700, -700 and 0, desirable and not.
  const std::vector<double> logp{-1, -701, -1, -701, -5, -5}, ref_logp{-701, -1, -701, -1, -5, -5},
      label{1, 1, 0, 0, 1, 0}, zero{0.0};
  rlhf::unpaired_inputs<double> in;
  in.logp = logp;
  in.ref_logp = ref_logp;
  in.label = label;
  in.reference_point = zero;
  const auto kto = run(rlhf::kto{1}, in);
  REQUIRE(kto.status);
  CHECK(kto.per_response[0] == Approx(std::exp(-700)).epsilon(1e-9));
  CHECK(kto.per_response[1] == 1);
  CHECK(kto.per_response[2] == 1);
  CHECK(kto.per_response[3] == Approx(std::exp(-700)).epsilon(1e-9));
  CHECK(kto.per_response[4] == 0.5);
  CHECK(kto.gradient[4] == Approx(-0.25 / 6));
  CHECK(kto.gradient[5] == Approx(0.25 / 6));
  const auto bco = run(rlhf::bco{1}, in);
  CHECK(bco.per_response[0] == Approx(std::exp(-700)).epsilon(1e-9));
  CHECK(bco.per_response[1] == 700);
  CHECK(bco.gradient[1] * 6 == -1);
  CHECK(bco.gradient[2] * 6 == 1);
  const auto una = run(rlhf::una_binary{1}, in);
  CHECK(una.per_response[0] == Approx(std::exp(-700)).epsilon(1e-9));
  CHECK(una.gradient[3] * 6 == Approx(std::exp(-700)).epsilon(1e-9));
  CHECK(una.per_response[2] == 700);

  // A response that the policy excludes: the loss is at its bound, without a slope.
  const std::vector<double> never{-infinity}, reference{-3.0}, desirable{1.0};
  rlhf::unpaired_inputs<double> one;
  one.logp = never;
  one.ref_logp = reference;
  one.label = desirable;
  one.reference_point = zero;
  const auto bound = run(rlhf::kto{}, one);
  CHECK(bound.loss == 1);
  CHECK(bound.gradient[0] == 0);
}

TEST_CASE("unpaired objectives and their relatives") {
  batch b(5);
  std::fill(b.reference_point.begin(), b.reference_point.end(), 0.0);
  const auto same = [&](const result& x, const result& y) {
    CHECK(x.loss == y.loss);
    CHECK(x.gradient == y.gradient);
  };
  same(run(rlhf::kto{0.3, 1.5, 0.5}, b.inputs()), run(rlhf::apo_zero_unpaired{0.3, 1.5, 0.5}, b.inputs()));
  const auto bco = run(rlhf::bco{0.3}, b.inputs()), una = run(rlhf::una_binary{0.3}, b.inputs());
  CHECK(bco.loss == Approx(una.loss).epsilon(1e-14));  // delta 0, labels 0 and 1

  // A chosen and a rejected response, one by one, are the pair objective of that name.
  const std::vector<double> logp{-4, -7}, ref_logp{-5, -6}, label{1, 0};
  rlhf::unpaired_inputs<double> in;
  in.logp = logp;
  in.ref_logp = ref_logp;
  in.label = label;
  const rlhf::pair<double> pair{{-4, -5, {}, {}}, {-7, -6, {}, {}}, {}};
  CHECK(2 * run(rlhf::apo_zero_unpaired{0.3}, in).loss == Approx(rlhf::apo_zero{0.3}(pair)).epsilon(1e-14));
  const std::vector<double> delta{0.2};
  in.reference_point = delta;
  CHECK(2 * run(rlhf::bco{0.3}, in).loss == Approx(rlhf::bco_pair{0.3, 0.2}(pair)).epsilon(1e-14));

  // Forgetting: NPO's slope is gradient ascent's at z -> infinity twice, once at z = 0, and fades.
  const auto slope = [](double h) {
    return rlhf::derivative(rlhf::negative_preference{0.5}(
        rlhf::labelled_response<rlhf::dual<double>>{.logp = rlhf::dual<double>::variable(h, 0), .ref_logp = 0}));
  };
  CHECK(slope(0) == 1);
  CHECK(slope(700) == 2);
  CHECK(slope(-200) < 1e-40);
}

TEST_CASE("unpaired statistics are means over the responses of a kind") {
  const std::vector<double> logp{-4, -7, -6, 123}, ref_logp{-5, -6, -8, 5}, label{1, 0, 1, 0}, kl{0.25};
  const std::vector<std::uint8_t> mask{1, 1, 1, 0};
  rlhf::unpaired_inputs<double> in;
  in.logp = logp;
  in.ref_logp = ref_logp;
  in.label = label;
  in.reference_point = kl;
  in.mask = mask;
  const auto r = run(rlhf::kto{0.5}, in);
  REQUIRE(r.status);
  CHECK(r.stats["desirable"] == Approx(2.0 / 3));
  CHECK(r.stats["undesirable"] == Approx(1.0 / 3));
  CHECK(r.stats["rewards/chosen"] == Approx(0.75));
  CHECK(r.stats["rewards/rejected"] == Approx(-0.5));
  CHECK(r.stats["logps/chosen"] == Approx(-5));
  CHECK(r.stats["logps/rejected"] == Approx(-7));
  CHECK(r.stats["kl"] == Approx(0.25));
  const auto bco = run(rlhf::bco{0.5}, in);
  CHECK(bco.stats["delta"] == Approx(0.25));

  // All of one kind: the other's mean is 0 of 0.
  const std::vector<double> all(4, 1.0);
  in.label = all;
  const auto one = run(rlhf::kto{0.5}, in);
  CHECK(one.stats["rewards/rejected"] == 0);
  CHECK(one.stats["rewards/chosen"] == Approx((0.5 - 0.5 + 1) / 3));
}

TEST_CASE("one reference point for all is the same as one for each") {
  batch b(9);
  const std::vector<double> once{0.4}, each(b.logp.size(), 0.4);
  auto in = b.inputs();
  in.reference_point = once;
  const auto x = run(rlhf::kto{}, in);
  in.reference_point = each;
  const auto y = run(rlhf::kto{}, in);
  CHECK(x.loss == y.loss);
  CHECK(x.gradient == y.gradient);
  CHECK(x.stats["kl"] == Approx(0.4));
}

TEST_CASE("KTO's reference point") {
  rlhf::reference_backend backend;
  const std::vector<double> logp{-1, -2, -5, not_a_number}, ref_logp{-2, -5, -5, 1};
  const std::vector<std::uint8_t> mask{1, 1, 1, 0}, none(4, 0);
  rlhf::log_ratio_inputs<double> in{logp, ref_logp, mask};
  double kl = not_a_number;
  REQUIRE(rlhf::kto_reference_point{}(backend, in, {&kl, 1}));
  CHECK(kl == Approx(4.0 / 3));
  REQUIRE(rlhf::kto_reference_point{true}(backend, in, {&kl, 1}));
  CHECK(kl == 2);
  in = {ref_logp, logp, mask};  // negative: clamped
  REQUIRE(rlhf::kto_reference_point{}(backend, in, {&kl, 1}));
  CHECK(test::is_plain_zero(kl));
  in = {logp, ref_logp, none};
  CHECK(rlhf::kto_reference_point{}(backend, in, {&kl, 1}).code == rlhf::errc::empty_mask);
  CHECK(kl == 0);
  in = {ref_logp, ref_logp, mask};  // all equal: nothing is not 0
  REQUIRE(rlhf::kto_reference_point{true}(backend, in, {&kl, 1}));
  CHECK(kl == 0);
  const std::vector<double> broken{not_a_number, 0, 0, 0};
  in = {broken, ref_logp, mask};
  REQUIRE(rlhf::kto_reference_point{}(backend, in, {&kl, 1}));
  CHECK(kl != kl);  // not hidden by the clamp
  CHECK(test::text(rlhf::kto_reference_point{}(backend, in, {&kl, 0})).find("kl") != std::string::npos);
}

TEST_CASE("BCO's running mean: batches one after the other are one batch") {
  rlhf::reference_backend backend;
  std::mt19937 random(3);
  const auto logp = test::uniform(random, 20, -9, -3), ref_logp = test::uniform(random, 20, -9, -3);
  rlhf::running_reference parts{.beta = 0.3}, whole{.beta = 0.3};
  const std::vector<double> a(logp.begin(), logp.begin() + 7), ra(ref_logp.begin(), ref_logp.begin() + 7);
  const std::vector<double> c(logp.begin() + 7, logp.end()), rc(ref_logp.begin() + 7, ref_logp.end());
  REQUIRE(parts.update(backend, rlhf::log_ratio_inputs<double>{a, ra, {}}));
  REQUIRE(parts.update(backend, rlhf::log_ratio_inputs<double>{c, rc, {}}));
  REQUIRE(whole.update(backend, rlhf::log_ratio_inputs<double>{logp, ref_logp, {}}));
  double mean = 0, square = 0;
  for (std::size_t i = 0; i < 20; ++i) mean += 0.3 * (logp[i] - ref_logp[i]) / 20;
  for (std::size_t i = 0; i < 20; ++i) square += std::pow(0.3 * (logp[i] - ref_logp[i]) - mean, 2) / 20;
  for (const auto& r : {parts, whole}) {
    CHECK(r.mean() == Approx(mean).epsilon(1e-12));
    CHECK(r.variance() == Approx(square).epsilon(1e-12));
    CHECK(r.rewards.count == 20);
  }
  CHECK(rlhf::running_reference{}.variance() == 1);
  const std::vector<double> short_one(3, 0.0);
  CHECK(test::text(whole.update(backend, rlhf::log_ratio_inputs<double>{logp, short_one, {}})).find("ref_logp") !=
        std::string::npos);
  CHECK(whole.rewards.count == 20);
}

TEST_CASE("the weight of mismatched prompts") {
  const rlhf::prompt_match_weight w;
  CHECK(w(0.5) == Approx(1).epsilon(1e-7));
  CHECK(w(0.8) == Approx(4).epsilon(1e-6));
  CHECK(w(0.0) == 0.5);
  CHECK(w(1.0) == 10);
}

TEST_CASE("a weighted negative log-likelihood (SteerLM, RAFT)") {
  // Each response's tokens count by its weight; those of rejected samples count 0.
  auto b = test::padded_batch(4);
  std::vector<double> weight(b.size());
  std::mt19937 random(8);
  const auto per_row = test::uniform(random, static_cast<std::size_t>(b.rows), 0, 2);
  for (std::size_t i = 0; i < weight.size(); ++i)
    weight[i] = i / static_cast<std::size_t>(b.width) == 3 ? 0 : per_row[i / static_cast<std::size_t>(b.width)];
  auto in = b.inputs();
  in.weight = weight;
  rlhf::reference_backend backend;
  const auto r = test::run(rlhf::policy_loss{rlhf::negative_log_likelihood{}}, backend, b, in);
  REQUIRE(r.status);
  double sum = 0, count = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (!b.valid(i)) continue;
    sum -= weight[i] * b.logp[i];
    ++count;
  }
  CHECK(r.loss == Approx(sum / count).epsilon(1e-12));
  for (std::size_t i = 0; i < b.size(); ++i)
    CHECK(r.grad_logp[i] == Approx(b.valid(i) ? -weight[i] / count : 0).epsilon(1e-12));
}

TEST_CASE("unpaired losses refuse what they cannot use") {
  const batch b(1);
  const auto message = [&](const auto& objective, const rlhf::unpaired_inputs<double>& in) {
    return test::text(run(objective, in).status);
  };
  auto in = b.inputs();
  in.reference_point = {};
  CHECK(message(rlhf::kto{}, in).find("reference_point") != std::string::npos);
  CHECK(run(rlhf::apo_zero_unpaired{}, in).status);
  in = b.inputs();
  in.label = {};
  CHECK(message(rlhf::bco{}, in).find("label") != std::string::npos);
  CHECK(run(rlhf::negative_preference{}, in).status);
  in = b.inputs();
  const std::vector<double> two(2, 0.0);
  in.reference_point = two;
  CHECK(message(rlhf::kto{}, in).find("reference_point") != std::string::npos);
  CHECK(message(rlhf::kto{0}, b.inputs()).find("beta") != std::string::npos);
  CHECK(message(rlhf::kto{0.1, -1}, b.inputs()).find("desirable_weight") != std::string::npos);
  CHECK(message(rlhf::kto{0.1, 1, not_a_number}, b.inputs()).find("undesirable_weight") != std::string::npos);
  CHECK_FALSE(rlhf::apo_zero_unpaired{-1}.check());
  CHECK_FALSE(rlhf::bco{0}.check());
  CHECK_FALSE(rlhf::una_rating{0}.check());
  CHECK_FALSE(rlhf::una_binary{not_a_number}.check());
  CHECK_FALSE(rlhf::una_reward{-0.1}.check());
  CHECK_FALSE(rlhf::negative_preference{0}.check());
  CHECK_FALSE(rlhf::prompt_match_weight{2, 1}.check());

  // Nothing and one.
  const std::vector<std::uint8_t> none(b.mask.size(), 0);
  in = b.inputs();
  in.mask = none;
  const auto empty = run(rlhf::kto{}, in);
  CHECK(empty.status.code == rlhf::errc::empty_mask);
  CHECK(empty.loss == 0);
  CHECK(run(rlhf::kto{}, rlhf::unpaired_inputs<double>{}).status.code == rlhf::errc::empty_mask);
}
