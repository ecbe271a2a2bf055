// Pair objectives: closed forms, central differences through the driver, identities at pi = reference, limits.

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "formula/support.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/mixture.hpp"
#include "rlhf/objective/one_of.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/objective/self_play.hpp"
#include "rlhf/reward/bradley_terry.hpp"

namespace {

using test::infinity;
using test::not_a_number;

struct plain {
  double chosen, rejected, ref_chosen, ref_rejected, chosen_length, rejected_length, chosen_reward, rejected_reward,
      margin, previous_chosen, previous_rejected;
  double a() const { return chosen - ref_chosen; }
  double b() const { return rejected - ref_rejected; }
  double d() const { return a() - b(); }
  double per_token() const { return a() / chosen_length - b() / rejected_length; }
  double average_chosen() const { return chosen / chosen_length; }
  double average_rejected() const { return rejected / rejected_length; }
};
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }
double smoothed(double u, double e) { return -(1 - e) * log_sigmoid(u) - e * log_sigmoid(-u); }
double sq(double x) { return x * x; }

struct pair_batch {
  std::vector<double> column[11];
  std::vector<std::uint8_t> mask;

  explicit pair_batch(unsigned seed, std::size_t n = 23) : mask(n) {
    std::mt19937 random(seed);
    column[0] = test::uniform(random, n, -12, -3);
    column[1] = test::uniform(random, n, -12, -3);
    column[2] = test::uniform(random, n, -12, -3);
    column[3] = test::uniform(random, n, -12, -3);
    column[4] = test::uniform(random, n, 3, 9);
    column[5] = test::uniform(random, n, 3, 9);
    for (int k : {4, 5})
      for (auto& x : column[k]) x = std::floor(x);
    column[6] = test::uniform(random, n, 0, 1);
    column[7] = test::uniform(random, n, 0, 1);
    column[8] = test::uniform(random, n, 0, 2);
    column[9] = test::uniform(random, n, -12, -3);
    column[10] = test::uniform(random, n, -12, -3);
    for (std::size_t i = 0; i < n; ++i) mask[i] = i % 4 != 2;
    for (auto& c : column)
      for (std::size_t i = 0; i < n; ++i)
        if (mask[i] == 0) c[i] = i % 3 == 0 ? not_a_number : i % 3 == 1 ? infinity : -infinity;
  }
  [[nodiscard]] rlhf::pair_inputs<double> inputs() const {
    rlhf::pair_inputs<double> in{column[0], column[1], column[2], column[3], column[4], column[5],
                                 column[6], column[7], column[8], column[9], column[10]};
    in.mask = mask;
    return in;
  }
  [[nodiscard]] plain at(std::size_t i) const {
    return {column[0][i], column[1][i], column[2][i], column[3][i], column[4][i], column[5][i],
            column[6][i], column[7][i], column[8][i], column[9][i], column[10][i]};
  }
};

struct pair_result {
  rlhf::status status;
  double loss = not_a_number;
  std::vector<double> gradient[2], per_pair;
  rlhf::statistics stats;
};
template <class Loss>
pair_result run(const Loss& loss, const rlhf::pair_inputs<double>& in) {
  rlhf::reference_backend backend;
  pair_result r;
  const auto n = static_cast<std::size_t>(in.chosen.extent);
  for (auto* v : {&r.gradient[0], &r.gradient[1], &r.per_pair}) v->assign(n, not_a_number);
  rlhf::pair_outputs<double> out;
  out.loss = {&r.loss, 1};
  out.grad_chosen = r.gradient[0];
  out.grad_rejected = r.gradient[1];
  out.per_pair = r.per_pair;
  out.stats = &r.stats;
  r.status = loss(backend, in, out);
  return r;
}

/// Values, both slopes, exact zeros under the mask.
template <class Objective, class Value>
void check(const char* name, const Objective& objective, Value value) {
  const rlhf::preference_loss<Objective> loss{objective};
  for (const unsigned seed : {1u, 2u}) {
    CAPTURE(name, seed);
    pair_batch batch(seed);
    const auto r = run(loss, batch.inputs());
    REQUIRE(r.status);
    const std::size_t n = batch.mask.size();
    double count = 0, sum = 0;
    for (std::size_t i = 0; i < n; ++i) count += batch.mask[i];
    for (std::size_t i = 0; i < n; ++i) {
      CAPTURE(i);
      if (batch.mask[i] == 0) {
        CHECK((test::is_plain_zero(r.gradient[0][i]) && test::is_plain_zero(r.gradient[1][i]) &&
               test::is_plain_zero(r.per_pair[i])));
        continue;
      }
      sum += value(batch.at(i));
      CHECK(r.per_pair[i] == Approx(value(batch.at(i))).epsilon(1e-11).margin(1e-12));
      for (int side = 0; side < 2; ++side) {
        const double h = 1e-6;
        plain above = batch.at(i), below = batch.at(i);
        (side == 0 ? above.chosen : above.rejected) += h;
        (side == 0 ? below.chosen : below.rejected) -= h;
        CHECK(r.gradient[side][i] * count ==
              Approx((value(above) - value(below)) / (2 * h)).epsilon(1e-6).margin(1e-7));
        if (i == 3) {
          const auto f = [&](const std::vector<double>& x) {
            pair_batch moved = batch;
            moved.column[side] = x;
            return run(loss, moved.inputs()).loss;
          };
          CHECK(r.gradient[side][i] ==
                Approx(test::central_difference(f, batch.column[side], i)).epsilon(1e-5).margin(1e-8));
        }
      }
    }
    CHECK(r.loss == Approx(sum / count).epsilon(1e-12));
  }
}

struct own {
  template <rlhf::number V>
  V operator()(const rlhf::pair<V>& p) const {
    return rlhf::square(p.log_ratio_margin() - p.margin * p.chosen.length) * p.rejected.reward;
  }
};

/// One pair with log-ratios a and b.
template <class Objective>
rlhf::dual<double, 2> at(const Objective& o, double a, double b) {
  rlhf::pair<rlhf::dual<double, 2>> p;
  p.chosen.logp = rlhf::dual<double, 2>::variable(a, 0);
  p.rejected.logp = rlhf::dual<double, 2>::variable(b, 1);
  p.chosen.length = p.rejected.length = 1;
  p.chosen.ref_logp = p.rejected.ref_logp = p.margin = p.chosen.reward = p.rejected.reward = 0;
  return o(p);
}

template <class Objective>
void check_finite(const char* name, const Objective& o) {
  for (const double u : {-7000.0, -700.0, -88.0, 88.0, 700.0, 7000.0})
    for (const double other : {0.0, -5.0}) {
      CAPTURE(name, u, other);
      for (const auto& y : {at(o, u, other), at(o, other, u)})
        CHECK((std::isfinite(y.value) && std::isfinite(y.partial[0]) && std::isfinite(y.partial[1])));
      rlhf::pair<rlhf::dual<float, 2>> p;
      p.chosen.logp = rlhf::dual<float, 2>::variable(static_cast<float>(u), 0);
      p.rejected.logp = rlhf::dual<float, 2>::variable(static_cast<float>(other), 1);
      p.chosen.length = p.rejected.length = 1;
      p.chosen.ref_logp = p.rejected.ref_logp = p.margin = p.chosen.reward = p.rejected.reward = 0;
      const auto y = o(p);
      CHECK((std::isfinite(y.value) && std::isfinite(y.partial[0]) && std::isfinite(y.partial[1])));
    }
}

}  // namespace

TEST_CASE("DPO and its close relatives") {
  check("dpo", rlhf::dpo_sigmoid{.beta = 0.3}, [](const plain& p) { return smoothed(0.3 * p.d(), 0); });
  check("dpo smoothed", rlhf::dpo_sigmoid{.beta = 0.3, .label_smoothing = 0.1},
        [](const plain& p) { return smoothed(0.3 * p.d(), 0.1); });
  check("dpo norm", rlhf::dpo_sigmoid_norm{.beta = 2, .label_smoothing = 0.2},
        [](const plain& p) { return smoothed(2 * p.per_token(), 0.2); });
  check("hinge", rlhf::dpo_hinge{.beta = 0.3}, [](const plain& p) { return std::max(0.0, 1 - 0.3 * p.d()); });
  check("ipo", rlhf::ipo{.beta = 0.2}, [](const plain& p) { return sq(p.per_token() - 2.5); });
  check("ipo sum", rlhf::ipo_sum{.beta = 0.2}, [](const plain& p) { return sq(p.d() - 2.5); });
  check("robust", rlhf::dpo_robust{.beta = 0.3, .label_smoothing = 0.2},
        [](const plain& p) { return (-0.8 * log_sigmoid(0.3 * p.d()) + 0.2 * log_sigmoid(-0.3 * p.d())) / 0.6; });
  check("rebel", rlhf::rebel{.eta = 0.7},
        [](const plain& p) { return sq(p.d() - 0.7 * (p.chosen_reward - p.rejected_reward)); });
  check("rebel, paper", rlhf::rebel{.eta = 0.7, .paper_scaling = true},
        [](const plain& p) { return sq(p.d() / 0.7 - (p.chosen_reward - p.rejected_reward)); });
}

TEST_CASE("objectives with anchors, and of other margins") {
  check("nca", rlhf::nca_pair{.beta = 0.3}, [](const plain& p) {
    return -log_sigmoid(0.3 * p.a()) - 0.5 * log_sigmoid(-0.3 * p.a()) - 0.5 * log_sigmoid(-0.3 * p.b());
  });
  check("bco", rlhf::bco_pair{.beta = 0.3, .delta = 0.4},
        [](const plain& p) { return -log_sigmoid(0.3 * p.a() - 0.4) - log_sigmoid(-(0.3 * p.b() - 0.4)); });
  check("sppo hard", rlhf::sppo_hard{.beta = 0.4}, [](const plain& p) { return sq(p.a() - 1.25) + sq(p.b() + 1.25); });
  check("sppo", rlhf::sppo{.beta = 0.4}, [](const plain& p) {
    return 0.5 * (sq(p.a() - (p.chosen_reward - 0.5) / 0.4) + sq(p.b() - (p.rejected_reward - 0.5) / 0.4));
  });
  check("apo zero", rlhf::apo_zero{.beta = 0.3},
        [](const plain& p) { return 1 - sigmoid(0.3 * p.a()) + sigmoid(0.3 * p.b()); });
  check("apo down", rlhf::apo_down{.beta = 0.3},
        [](const plain& p) { return sigmoid(0.3 * p.a()) + 1 - sigmoid(0.3 * p.d()); });
  check("exo", rlhf::exo_pair{.beta = 0.3, .label_smoothing = 0.01}, [](const plain& p) {
    const double q = sigmoid(0.3 * p.d());
    return q * std::log(q / 0.99) + (1 - q) * std::log((1 - q) / 0.01);
  });
  check("discopop", rlhf::discopop{.beta = 0.2, .temperature = 0.5}, [](const plain& p) {
    const double u = 0.2 * p.d(), m = sigmoid(u / 0.5);
    return -(1 - m) * log_sigmoid(u) + m * std::exp(-u);
  });
  check("dpo positive", rlhf::dpo_positive{.beta = 0.1, .lambda = 3},
        [](const plain& p) { return -log_sigmoid(0.1 * (p.d() - 3 * std::max(0.0, -p.a()))); });
  check("length", rlhf::length_regularised_dpo{.beta = 0.3, .alpha = -0.1},
        [](const plain& p) { return -log_sigmoid(0.3 * p.d() - 0.1 * (p.chosen_length - p.rejected_length)); });
  check("length per token", rlhf::length_regularised_dpo{.beta = 0.3, .alpha = -0.1, .per_token = true},
        [](const plain& p) { return -log_sigmoid(0.3 * p.per_token() - 0.1 * (p.chosen_length - p.rejected_length)); });
  check("dpo positive, smoothed", rlhf::dpo_positive{.beta = 0.1, .lambda = 3, .label_smoothing = 0.2},
        [](const plain& p) { return smoothed(0.1 * (p.d() - 3 * std::max(0.0, -p.a())), 0.2); });
  check("offset", rlhf::dpo_offset{.beta = 0.3}, [](const plain& p) { return -log_sigmoid(0.3 * p.d() - p.margin); });
  check("capped", rlhf::pcrm_dpo{.beta = 0.3, .label_smoothing = 0.1},
        [](const plain& p) { return smoothed(0.3 * p.d(), 0.1) + smoothed(p.margin - 0.3 * p.d(), 0.1); });
  using measure = rlhf::reward_aware_dpo::distance;
  const auto truth = [](const plain& p) { return sigmoid(2 * (p.chosen_reward - p.rejected_reward)); };
  check("rpo square", rlhf::reward_aware_dpo{.beta = 0.3, .eta = 2, .measure = measure::square},
        [](const plain& p) { return sq(0.3 * p.d() - 2 * (p.chosen_reward - p.rejected_reward)); });
  check("rpo forward", rlhf::reward_aware_dpo{.beta = 0.3, .eta = 2, .measure = measure::forward_kl},
        [&](const plain& p) {
          const double q = sigmoid(0.3 * p.d()), t = truth(p);
          return q * std::log(q / t) + (1 - q) * std::log((1 - q) / (1 - t));
        });
  check("rpo backward", rlhf::reward_aware_dpo{.beta = 0.3, .eta = 2, .measure = measure::backward_kl},
        [&](const plain& p) {
          const double q = sigmoid(0.3 * p.d()), t = truth(p);
          return t * std::log(t / q) + (1 - t) * std::log((1 - t) / (1 - q));
        });
}

TEST_CASE("objectives without a reference, and wrappers") {
  const auto sums = [](const plain& p) { return p.chosen - p.rejected; };
  const auto averages = [](const plain& p) { return p.average_chosen() - p.average_rejected(); };
  check("cpo", rlhf::cpo{.beta = 0.2, .label_smoothing = 0.1},
        [&](const plain& p) { return smoothed(0.2 * sums(p), 0.1); });
  check("cpo hinge", rlhf::cpo_hinge{.beta = 0.2}, [&](const plain& p) { return std::max(0.0, 1 - 0.2 * sums(p)); });
  check("cpo ipo", rlhf::cpo_ipo{.beta = 0.2}, [&](const plain& p) { return sq(averages(p) - 2.5); });
  check("simpo", rlhf::simpo{.beta = 2, .gamma = 0.5, .label_smoothing = 0.1},
        [&](const plain& p) { return smoothed(2 * averages(p) - 0.5, 0.1); });
  check("simpo hinge", rlhf::simpo_hinge{.beta = 2, .gamma = 0.5},
        [&](const plain& p) { return std::max(0.0, 1 - (2 * averages(p) - 0.5)); });
  check("alphapo", rlhf::alphapo{.beta = 2, .gamma = 0.5, .alpha = 0.25}, [&](const plain& p) {
    const auto score = [](double l) { return (1 - std::exp(-0.25 * l)) / 0.25; };
    return -log_sigmoid(2 * (score(p.average_chosen()) - score(p.average_rejected())) - 0.5);
  });
  check("alphapo at 0", rlhf::alphapo{.beta = 2, .gamma = 0.5, .alpha = 0},
        [&](const plain& p) { return -log_sigmoid(2 * averages(p) - 0.5); });
  check("simper", rlhf::simper{},
        [](const plain& p) { return -std::exp(p.average_chosen()) + std::exp(p.average_rejected()); });
  check("orpo", rlhf::orpo{.beta = 0.2}, [](const plain& p) {
    const auto odds = [](double l) { return l - std::log(-std::expm1(l)); };
    return -0.2 * log_sigmoid(odds(p.average_chosen()) - odds(p.average_rejected()));
  });
  check("slic", rlhf::slic_reference_free{.beta = 1, .nll_weight = 0.1},
        [&](const plain& p) { return std::max(0.0, 1 - sums(p)) - 0.1 * p.chosen; });
  check("reference free", rlhf::reference_free{rlhf::dpo_sigmoid{.beta = 0.2}},
        [&](const plain& p) { return -log_sigmoid(0.2 * sums(p)); });
  check("forward kl", rlhf::with_divergence{rlhf::dpo_sigmoid{.beta = 0.01}, rlhf::forward_kl{}},
        [](const plain& p) { return -log_sigmoid(0.01 * (-std::exp(-p.a()) + std::exp(-p.b()))); });
  check("jensen shannon", rlhf::with_divergence{rlhf::dpo_sigmoid{.beta = 0.5}, rlhf::jensen_shannon{}},
        [](const plain& p) { return -log_sigmoid(0.5 * (log_sigmoid(p.a()) - log_sigmoid(p.b()))); });
  check("alpha", rlhf::with_divergence{rlhf::dpo_hinge{.beta = 0.5}, rlhf::alpha_divergence{.alpha = 0.5}},
        [](const plain& p) {
          return std::max(0.0, 1 - 0.5 * (-2 * std::exp(-0.5 * p.a()) + 2 * std::exp(-0.5 * p.b())));
        });
  check("alpha 1", rlhf::with_divergence{rlhf::dpo_sigmoid{.beta = 0.5}, rlhf::alpha_divergence{.alpha = 1}},
        [](const plain& p) { return -log_sigmoid(0.5 * p.d()); });
}

TEST_CASE("objectives of self-play") {
  const auto ranked = [](const plain& p, double sign) { return p.chosen_reward >= p.rejected_reward ? sign : -sign; };
  check("ranked", rlhf::ranked{rlhf::dpo_sigmoid{.beta = 0.3}},
        [&](const plain& p) { return -log_sigmoid(0.3 * p.d() * ranked(p, 1)); });
  check("ranked, per token", rlhf::ranked{rlhf::dpo_sigmoid_norm{.beta = 2}},
        [&](const plain& p) { return -log_sigmoid(2 * p.per_token() * ranked(p, 1)); });
  check("xpo", rlhf::xpo{rlhf::ipo_sum{.beta = 0.3}, 0.2},
        [&](const plain& p) { return sq(p.d() * ranked(p, 1) - 1 / 0.6) + 0.2 * p.rejected; });
  check("inpo", rlhf::inpo{.tau = 0.1, .inverse_step = 0.4}, [](const plain& p) {
    const double g = (p.chosen - p.rejected) - 0.25 * (p.ref_chosen - p.ref_rejected) -
                     0.75 * (p.previous_chosen - p.previous_rejected);
    return sq(g - 1.25);
  });
  // A step that forgets the last iterate is IPO on sums; its published numbers.
  check("inpo without memory", rlhf::inpo{.tau = 0.4, .inverse_step = 0.4},
        [](const plain& p) { return sq(p.d() - 1.25); });
  rlhf::pair<double> p;
  p.chosen.logp = 0.4, p.chosen.ref_logp = 0.1, p.chosen.previous_logp = 0.2;
  p.rejected.logp = p.rejected.ref_logp = p.rejected.previous_logp = 0;
  CHECK(rlhf::inpo{.tau = 0.005 / 3, .inverse_step = 0.005}(p) == Approx(9953.38777778).epsilon(1e-10));
  // At a tie the first sample is the chosen one.
  p.chosen.reward = p.rejected.reward = 0.5;
  CHECK(rlhf::ranked{rlhf::dpo_sigmoid{.beta = 1}}(p) == Approx(-log_sigmoid(0.3)));
}

TEST_CASE("a choice made at run time is the chosen objective, and wants its inputs only") {
  using choice = rlhf::one_of<rlhf::dpo_sigmoid, rlhf::ipo, rlhf::rebel>;
  check("first", choice{rlhf::dpo_sigmoid{.beta = 0.3}}, [](const plain& p) { return smoothed(0.3 * p.d(), 0); });
  check("second", choice{rlhf::ipo{.beta = 0.2}}, [](const plain& p) { return sq(p.per_token() - 2.5); });
  check("last", choice{rlhf::rebel{.eta = 0.7}},
        [](const plain& p) { return sq(p.d() - 0.7 * (p.chosen_reward - p.rejected_reward)); });
  pair_batch batch(3);
  auto in = batch.inputs();
  in.chosen_reward = in.rejected_reward = in.chosen_length = in.rejected_length = {};
  CHECK(run(rlhf::preference_loss{choice{rlhf::dpo_sigmoid{}}}, in).status);
  const auto without = run(rlhf::preference_loss{choice{rlhf::rebel{}}}, in);
  CHECK(test::text(without.status).find("chosen_reward") != std::string::npos);
  CHECK(run(rlhf::preference_loss{choice{rlhf::ipo{}}}, in).status.code == rlhf::errc::null);
  CHECK(run(rlhf::preference_loss{choice{rlhf::ipo{.beta = -1}}}, batch.inputs()).status.code == rlhf::errc::argument);
  CHECK(run(rlhf::preference_loss{choice{rlhf::dpo_sigmoid{.beta = 0.3}}}, batch.inputs()).stats["rewards/margins"] ==
        Approx(run(rlhf::preference_loss{rlhf::dpo_sigmoid{.beta = 0.3}}, batch.inputs()).stats["rewards/margins"]));
}

TEST_CASE("a mixture is the weighted sum of its losses") {
  check("one", rlhf::mixture{rlhf::weighted{rlhf::dpo_sigmoid{.beta = 0.3}, 0.25}},
        [](const plain& p) { return 0.25 * smoothed(0.3 * p.d(), 0); });
  check("mpo",
        rlhf::mixture{rlhf::weighted{rlhf::dpo_sigmoid{.beta = 0.3}, 0.8},
                      rlhf::weighted{rlhf::bco_pair{.beta = 0.3, .delta = 0.4}, 0.2},
                      rlhf::weighted{rlhf::rebel{.eta = 0.7}, -0.1}},
        [](const plain& p) {
          return 0.8 * smoothed(0.3 * p.d(), 0) +
                 0.2 * (-log_sigmoid(0.3 * p.a() - 0.4) - log_sigmoid(-(0.3 * p.b() - 0.4))) -
                 0.1 * sq(p.d() - 0.7 * (p.chosen_reward - p.rejected_reward));
        });
  pair_batch batch(3);
  auto in = batch.inputs();
  in.chosen_reward = {};
  CHECK(run(rlhf::preference_loss{rlhf::mixture{rlhf::weighted{rlhf::dpo_sigmoid{}, 1},
                                                rlhf::weighted{rlhf::rebel{}, 1}}},
            in)
            .status.code == rlhf::errc::null);
  CHECK(run(rlhf::preference_loss{rlhf::mixture{rlhf::weighted{rlhf::dpo_sigmoid{}, infinity}}}, batch.inputs())
            .status.code == rlhf::errc::argument);
}

TEST_CASE("an objective of ones own sees margin, rewards and lengths") {
  check("own", own{}, [](const plain& p) { return sq(p.d() - p.margin * p.chosen_length) * p.rejected_reward; });
}

TEST_CASE("at the reference every loss has its known value") {
  const double log2 = std::log(2.0);
  CHECK(at(rlhf::dpo_sigmoid{}, 0, 0).value == Approx(log2).epsilon(1e-15));
  CHECK(at(rlhf::dpo_sigmoid{}, 0, 0).partial[0] == Approx(-0.05).epsilon(1e-15));
  CHECK(at(rlhf::dpo_sigmoid{}, 0, 0).partial[1] == Approx(0.05).epsilon(1e-15));
  CHECK(at(rlhf::dpo_sigmoid{.label_smoothing = 0.3}, 0, 0).value == Approx(log2));
  CHECK(at(rlhf::dpo_robust{.label_smoothing = 0.3}, 0, 0).value == Approx(log2));
  CHECK(at(rlhf::dpo_hinge{}, 0, 0).value == 1);
  CHECK(at(rlhf::ipo{.beta = 0.1}, 0, 0).value == Approx(25));
  CHECK(at(rlhf::rebel{}, 0, 0).value == 0);
  CHECK(at(rlhf::nca_pair{}, 0, 0).value == Approx(2 * log2));
  CHECK(at(rlhf::bco_pair{}, 0, 0).value == Approx(2 * log2));
  CHECK(at(rlhf::apo_zero{}, 0, 0).value == 1);
  CHECK(at(rlhf::apo_down{}, 0, 0).value == 1);
  CHECK(at(rlhf::discopop{}, 0, 0).value == Approx((log2 + 1) / 2));
  // Through the driver, whatever the references are.
  pair_batch batch(5);
  batch.column[0] = batch.column[2];
  batch.column[1] = batch.column[3];
  const auto r = run(rlhf::preference_loss{rlhf::dpo_sigmoid{}}, batch.inputs());
  CHECK(r.loss == Approx(log2).epsilon(1e-15));
  CHECK(r.stats["rewards/margins"] == 0);
  CHECK(r.stats["rewards/accuracies"] == 0);  // strict: a tie is no win
}

TEST_CASE("margins of any size give finite losses and slopes") {
  check_finite("dpo", rlhf::dpo_sigmoid{.beta = 1});
  check_finite("dpo smoothed", rlhf::dpo_sigmoid{.beta = 1, .label_smoothing = 0.1});
  check_finite("robust", rlhf::dpo_robust{.beta = 1});
  check_finite("hinge", rlhf::dpo_hinge{.beta = 1});
  check_finite("nca", rlhf::nca_pair{.beta = 1});
  check_finite("bco", rlhf::bco_pair{.beta = 1});
  check_finite("apo zero", rlhf::apo_zero{.beta = 1});
  check_finite("apo down", rlhf::apo_down{.beta = 1});
  check_finite("exo", rlhf::exo_pair{.beta = 1});
  check_finite("dpo positive", rlhf::dpo_positive{.beta = 1});
  check_finite("reward aware", rlhf::reward_aware_dpo{.beta = 1});
  check_finite("cpo", rlhf::cpo{.beta = 1});
  check_finite("offset", rlhf::dpo_offset{.beta = 1});
  check_finite("capped", rlhf::pcrm_dpo{.beta = 1});
  check_finite("ranked", rlhf::ranked{rlhf::dpo_sigmoid{.beta = 1}});
  check_finite("simpo", rlhf::simpo{});
  check_finite("jensen shannon", rlhf::with_divergence{rlhf::dpo_sigmoid{.beta = 1}, rlhf::jensen_shannon{}});
  // DiscoPOP: exact where the peers' product of infinity and zero is NaN.
  CHECK(at(rlhf::discopop{.beta = 1}, -7000, 0).value == Approx(7000));
  CHECK(at(rlhf::discopop{.beta = 1}, -7000, 0).partial[0] == Approx(-1));
  CHECK(at(rlhf::discopop{.beta = 1}, 7000, 0).value == 0);
  CHECK(std::isfinite(at(rlhf::discopop{.beta = 1}, 7000, 0).partial[0]));
  // Exact in the tails.
  CHECK(at(rlhf::dpo_sigmoid{.beta = 1}, -700, 0).value == 700);
  CHECK(at(rlhf::dpo_sigmoid{.beta = 1}, -700, 0).partial[0] == -1);
  CHECK(at(rlhf::dpo_sigmoid{.beta = 1}, 700, 0).value == Approx(std::exp(-700.0)).epsilon(1e-14));
  CHECK(at(rlhf::dpo_sigmoid{.beta = 1}, 50, 0).partial[0] == Approx(-std::exp(-50.0)).epsilon(1e-14));
}

TEST_CASE("hinges and clips have their slopes at the kink") {
  CHECK(at(rlhf::dpo_hinge{.beta = 1}, 1, 0).value == 0);
  CHECK(at(rlhf::dpo_hinge{.beta = 1}, 1, 0).partial[0] == 0);
  CHECK(at(rlhf::dpo_positive{.beta = 0.1, .lambda = 5}, 0, 0).partial[0] == Approx(-0.05));
}

TEST_CASE("ORPO near certainty keeps value and slope") {
  const double averages[] = {-1e-3, -1e-8, -1e-12};
  for (const double l : averages) {
    CAPTURE(l);
    const auto y = at(rlhf::orpo{.beta = 1}, l, -1);
    const double odds = l - std::log(-std::expm1(l)), other = -1 - std::log(-std::expm1(-1.0));
    CHECK(y.value == Approx(-log_sigmoid(odds - other)).epsilon(1e-12));
    CHECK(y.partial[0] == Approx(-sigmoid(other - odds) / -std::expm1(l)).epsilon(1e-9));
    CHECK(std::isfinite(y.partial[1]));
    const auto losing = at(rlhf::orpo{.beta = 1}, -1, l);
    CHECK(std::isfinite(losing.value));
    CHECK(losing.partial[1] == Approx(sigmoid(odds - other) / -std::expm1(l)).epsilon(1e-9));
  }
  // Certainty itself: infinite odds, and the limits of the slopes.
  const auto certain = at(rlhf::orpo{.beta = 1}, 0, -1);
  CHECK(certain.value == 0);
  CHECK(certain.partial[0] == Approx(-1 / std::expm1(1.0)));
  CHECK(certain.partial[1] == 0);
  const auto lost = at(rlhf::orpo{.beta = 1}, -1, 0);
  CHECK(lost.value == infinity);
  CHECK(lost.partial[1] == infinity);
  for (const double l : {-50.0, -700.0}) {
    const auto far = at(rlhf::orpo{.beta = 1}, l, -1), near = at(rlhf::orpo{.beta = 1}, -1, l);
    CHECK(far.partial[0] == Approx(-1));
    CHECK(far.partial[1] == Approx(1 / -std::expm1(-1.0)));
    CHECK((std::isfinite(near.partial[0]) && std::isfinite(near.partial[1])));
  }
}

TEST_CASE("weights multiply pairs, masks take them out, statistics are TRL's") {
  pair_batch batch(6);
  auto in = batch.inputs();
  std::vector<double> weight(batch.mask.size());
  for (std::size_t i = 0; i < weight.size(); ++i)
    weight[i] = batch.mask[i] ? 0.25 * static_cast<double>(i) : not_a_number;
  in.weight = weight;
  const rlhf::preference_loss loss{rlhf::dpo_sigmoid{.beta = 0.3}};
  const auto plain_loss = run(loss, batch.inputs()), weighed = run(loss, in);
  double sum = 0, n = 0, chosen = 0, rejected = 0, won = 0, logp = 0;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    if (batch.mask[i] == 0) continue;
    n += 1;
    sum += weight[i] * plain_loss.per_pair[i];
    const plain p = batch.at(i);
    chosen += 0.3 * p.a();
    rejected += 0.3 * p.b();
    won += p.a() > p.b();
    logp += p.chosen;
    CHECK(weighed.gradient[0][i] == Approx(weight[i] * plain_loss.gradient[0][i]).epsilon(1e-13));
  }
  CHECK(weighed.loss == Approx(sum / n).epsilon(1e-13));
  CHECK(plain_loss.stats["rewards/chosen"] == Approx(chosen / n));
  CHECK(plain_loss.stats["rewards/rejected"] == Approx(rejected / n));
  CHECK(plain_loss.stats["rewards/margins"] == Approx((chosen - rejected) / n));
  CHECK(plain_loss.stats["rewards/accuracies"] == Approx(won / n));
  CHECK(plain_loss.stats["logps/chosen"] == Approx(logp / n));

  std::vector<double> reward(weight.size(), not_a_number);
  rlhf::reference_backend backend;
  rlhf::pair_outputs<double> out;
  out.reward_chosen = reward;
  REQUIRE(loss(backend, batch.inputs(), out));
  for (std::size_t i = 0; i < weight.size(); ++i)
    if (batch.mask[i])
      CHECK(reward[i] == Approx(0.3 * batch.at(i).a()).epsilon(1e-13));
    else
      CHECK(test::is_plain_zero(reward[i]));
}

TEST_CASE("Bradley-Terry with its options") {
  std::mt19937 random(3);
  const std::size_t n = 12;
  const auto chosen = test::uniform(random, n, -3, 3), rejected = test::uniform(random, n, -3, 3),
             margin = test::uniform(random, n, 0, 1), probability = test::uniform(random, n, 0, 1);
  const auto check_reward = [&](const char* name, const rlhf::bradley_terry& objective, auto value) {
    const rlhf::reward_loss loss{objective};
    CAPTURE(name);
    const auto evaluate = [&](const std::vector<double>& c, const std::vector<double>& r, std::vector<double>* gc,
                              std::vector<double>* gr, rlhf::statistics* stats) {
      rlhf::reference_backend backend;
      double l = not_a_number;
      rlhf::score_inputs<double> in{c, r, margin, probability, {}, {}};
      rlhf::score_outputs<double> out;
      out.loss = {&l, 1};
      if (gc != nullptr) out.grad_chosen = *gc;
      if (gr != nullptr) out.grad_rejected = *gr;
      out.stats = stats;
      REQUIRE(loss(backend, in, out));
      return l;
    };
    std::vector<double> gc(n), gr(n);
    rlhf::statistics stats;
    double sum = 0, won = 0;
    for (std::size_t i = 0; i < n; ++i)
      sum += value(chosen[i], rejected[i], margin[i], probability[i]), won += chosen[i] > rejected[i];
    CHECK(evaluate(chosen, rejected, &gc, &gr, &stats) == Approx(sum / static_cast<double>(n)).epsilon(1e-12));
    CHECK(stats["accuracy"] == Approx(won / static_cast<double>(n)));
    for (std::size_t i = 0; i < n; ++i) {
      const auto by_chosen = [&](const std::vector<double>& x) {
        return evaluate(x, rejected, nullptr, nullptr, nullptr);
      };
      const auto by_rejected = [&](const std::vector<double>& x) {
        return evaluate(chosen, x, nullptr, nullptr, nullptr);
      };
      CHECK(gc[i] == Approx(test::central_difference(by_chosen, chosen, i)).epsilon(1e-6).margin(1e-9));
      CHECK(gr[i] == Approx(test::central_difference(by_rejected, rejected, i)).epsilon(1e-6).margin(1e-9));
    }
  };
  check_reward("plain", {}, [](double c, double r, double, double) { return -log_sigmoid(c - r); });
  check_reward("margin", {.use_margin = true},
               [](double c, double r, double m, double) { return -log_sigmoid(c - r - m); });
  check_reward("smoothed", {.label_smoothing = 0.1},
               [](double c, double r, double, double) { return smoothed(c - r, 0.1); });
  check_reward("centred", {.center = 0.01},
               [](double c, double r, double, double) { return -log_sigmoid(c - r) + 0.01 * sq(c + r); });
  check_reward("soft labels", {.soft_labels = true},
               [](double c, double r, double, double q) { return smoothed(c - r, 1 - q); });
}
