// The gradients that docs/formulas prints, against what dual numbers give, at points on both sides of every branch.

#include <cmath>
#include <functional>
#include <vector>

#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/objective/token.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/objective/value.hpp"
#include "rlhf/objective/weighted.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/outcome.hpp"
#include "rlhf/reward/prior_constrained.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"
#include "support/catch.hpp"

namespace {

using namespace rlhf;

struct slopes {
  double chosen, rejected;
};

double s(double x) { return 1 / (1 + std::exp(-x)); }
double s1(double x) { return s(x) * s(-x); }
double softplus_of(double x) { return std::log1p(std::exp(x)); }
double step(bool yes) { return yes ? 1 : 0; }

/// A pair's numbers under the names of the pages.
struct point {
  double lc, lr, rc, rr, nc, nr, gc, gr;
  double a() const { return lc - rc; }
  double b() const { return lr - rr; }
  double d() const { return a() - b(); }
  double mean_c() const { return lc / nc; }
  double mean_r() const { return lr / nr; }
};

const std::vector<point> points{{-6.2, -9.1, -7.0, -8.0, 5, 3, 1.2, -0.4},
                                {-9.5, -4.0, -6.0, -5.5, 4, 6, 0.3, 0.9},
                                {-2.0, -30.0, -12.0, -8.0, 2, 9, 2.0, 0.1},
                                {-14.0, -3.0, -6.0, -7.0, 7, 2, -1.0, 1.5}};

template <class Objective>
void pair_gradient(const Objective& objective, const std::function<slopes(const point&)>& want) {
  for (const point& x : points) {
    using V = dual<double, 2>;
    pair<V> p;
    p.chosen.logp = V::variable(x.lc, 0);
    p.rejected.logp = V::variable(x.lr, 1);
    p.chosen.ref_logp = x.rc;
    p.rejected.ref_logp = x.rr;
    p.chosen.length = x.nc;
    p.rejected.length = x.nr;
    p.chosen.reward = x.gc;
    p.rejected.reward = x.gr;
    const V loss = objective(p);
    const slopes w = want(x);
    CAPTURE(x.lc, x.lr);
    CHECK(loss.partial[0] == Approx(w.chosen).epsilon(1e-11).margin(1e-14));
    CHECK(loss.partial[1] == Approx(w.rejected).epsilon(1e-11).margin(1e-14));
  }
}

/// Objectives of the margin alone: the rejected side has minus the chosen side's slope.
template <class Objective>
void margin_gradient(const Objective& objective, const std::function<double(const point&)>& want) {
  pair_gradient(objective, [&](const point& x) { return slopes{want(x), -want(x)}; });
}

struct token_point {
  double lp, old, ref, rollout, adv;
  double ratio() const { return std::exp(lp - old); }
  double d() const { return lp - ref; }
};

std::vector<token_point> token_points() {
  std::vector<token_point> all;
  for (const double shift : {-1.5, -0.3, -0.05, 0.0, 0.05, 0.3, 1.5})
    for (const double adv : {-1.3, 0.7}) all.push_back({-0.9 + shift, -0.9, -1.4, -0.95, adv});
  return all;
}

template <class Objective>
void token_gradient(const Objective& objective, const std::function<double(const token_point&)>& want,
                    double sequence_log_ratio = 0, double score = 0) {
  for (const token_point& x : token_points()) {
    using V = dual<double>;
    token<V> t;
    t.logp = V::variable(x.lp, 0);
    t.old_logp = x.old;
    t.ref_logp = x.ref;
    t.rollout_logp = x.rollout;
    t.advantage = x.adv;
    t.sequence_log_ratio = sequence_log_ratio;
    t.score = score;
    CAPTURE(x.lp, x.adv);
    CHECK(V(objective(t)).partial[0] == Approx(want(x)).epsilon(1e-11).margin(1e-14));
  }
}

}  // namespace

TEST_CASE("the gradients on the page of DPO") {
  const double beta = 0.3, e = 0.1;
  margin_gradient(dpo_sigmoid{beta, e}, [&](const point& x) { return beta * (e - s(-beta * x.d())); });
  margin_gradient(dpo_hinge{beta}, [&](const point& x) { return -beta * step(beta * x.d() < 1); });
  margin_gradient(dpo_robust{beta, e}, [&](const point& x) {
    return -beta * ((1 - e) * s(-beta * x.d()) + e * s(beta * x.d())) / (1 - 2 * e);
  });
  pair_gradient(dpo_sigmoid_norm{beta, e}, [&](const point& x) {
    const double slope = beta * (e - s(-beta * (x.a() / x.nc - x.b() / x.nr)));
    return slopes{slope / x.nc, -slope / x.nr};
  });
  pair_gradient(ipo{beta}, [&](const point& x) {
    const double v = x.a() / x.nc - x.b() / x.nr - 1 / (2 * beta);
    return slopes{2 * v / x.nc, -2 * v / x.nr};
  });
  margin_gradient(ipo_sum{beta}, [&](const point& x) { return 2 * (x.d() - 1 / (2 * beta)); });
}

TEST_CASE("the gradients on the pages of divergences and of REBEL") {
  const double beta = 0.3;
  const auto scored = [&](auto divergence, auto score, auto slope) {
    pair_gradient(with_divergence{dpo_sigmoid{beta}, divergence}, [&](const point& x) {
      const double outer = -beta * s(-beta * (score(x.a()) - score(x.b())));
      return slopes{outer * slope(x.a()), -outer * slope(x.b())};
    });
  };
  scored(
      forward_kl{}, [](double x) { return -std::exp(-x); }, [](double x) { return std::exp(-x); });
  scored(
      jensen_shannon{}, [](double x) { return -softplus_of(-x); }, [](double x) { return s(-x); });
  scored(
      alpha_divergence{0.3}, [](double x) { return -std::exp(-0.7 * x) / 0.7; },
      [](double x) { return std::exp(-0.7 * x); });
  margin_gradient(reference_free{dpo_sigmoid{beta}}, [&](const point& x) { return -beta * s(-beta * (x.lc - x.lr)); });
  margin_gradient(rebel{0.5}, [](const point& x) { return 2 * (x.d() - 0.5 * (x.gc - x.gr)); });
  margin_gradient(rebel{0.5, true}, [](const point& x) { return 2 * (x.d() - 0.5 * (x.gc - x.gr)) / 0.25; });
}

TEST_CASE("the gradients on the page of anchored objectives") {
  const double beta = 0.3, delta = 0.2;
  pair_gradient(nca_pair{beta}, [&](const point& x) {
    return slopes{beta * (s(beta * x.a()) / 2 - s(-beta * x.a())), beta * s(beta * x.b()) / 2};
  });
  pair_gradient(bco_pair{beta, delta}, [&](const point& x) {
    return slopes{-beta * s(delta - beta * x.a()), beta * s(beta * x.b() - delta)};
  });
  pair_gradient(sppo_hard{beta}, [&](const point& x) {
    return slopes{2 * (x.a() - 1 / (2 * beta)), 2 * (x.b() + 1 / (2 * beta))};
  });
  pair_gradient(sppo{beta}, [&](const point& x) {
    return slopes{x.a() - (x.gc - 0.5) / beta, x.b() - (x.gr - 0.5) / beta};
  });
  pair_gradient(apo_zero{beta}, [&](const point& x) {
    return slopes{-beta * s1(beta * x.a()), beta * s1(beta * x.b())};
  });
  pair_gradient(apo_down{beta}, [&](const point& x) {
    return slopes{beta * (s1(beta * x.a()) - s1(beta * x.d())), beta * s1(beta * x.d())};
  });
}

TEST_CASE("the gradients on the page of margins") {
  const double beta = 0.3;
  margin_gradient(exo_pair{beta, 0.01},
                  [&](const point& x) { return beta * s1(beta * x.d()) * (beta * x.d() - std::log(0.99 / 0.01)); });
  margin_gradient(discopop{beta, 0.5}, [&](const point& x) {
    const double u = beta * x.d(), m = s(u / 0.5);
    return beta * (-(1 - m) * s(-u) - m * std::exp(-u) + m * (1 - m) / 0.5 * (std::exp(-u) - softplus_of(-u)));
  });
  pair_gradient(dpo_positive{beta, 5}, [&](const point& x) {
    const double slope = -beta * s(-beta * (x.d() - 5 * std::max(0.0, -x.a())));
    return slopes{slope * (1 + 5 * step(x.a() < 0)), -slope};
  });
  margin_gradient(length_regularised_dpo{beta, -0.05},
                  [&](const point& x) { return -beta * s(-(beta * x.d() - 0.05 * (x.nc - x.nr))); });
  const double eta = 0.8;
  using distance = reward_aware_dpo::distance;
  margin_gradient(reward_aware_dpo{beta, eta, distance::backward_kl},
                  [&](const point& x) { return beta * (s(beta * x.d()) - s(eta * (x.gc - x.gr))); });
  margin_gradient(reward_aware_dpo{beta, eta, distance::forward_kl},
                  [&](const point& x) { return beta * s1(beta * x.d()) * (beta * x.d() - eta * (x.gc - x.gr)); });
  margin_gradient(reward_aware_dpo{beta, eta, distance::square},
                  [&](const point& x) { return 2 * beta * (beta * x.d() - eta * (x.gc - x.gr)); });
}

TEST_CASE("the gradients on the page of objectives without a reference") {
  const double beta = 0.3, gamma = 0.2, e = 0.1;
  margin_gradient(cpo{beta, e}, [&](const point& x) { return beta * (e - s(-beta * (x.lc - x.lr))); });
  margin_gradient(cpo_hinge{beta}, [&](const point& x) { return -beta * step(beta * (x.lc - x.lr) < 1); });
  const auto averaged = [](double slope, const point& x) { return slopes{slope / x.nc, -slope / x.nr}; };
  pair_gradient(cpo_ipo{beta},
                [&](const point& x) { return averaged(2 * (x.mean_c() - x.mean_r() - 1 / (2 * beta)), x); });
  pair_gradient(simpo{beta, gamma, e},
                [&](const point& x) { return averaged(beta * (e - s(gamma - beta * (x.mean_c() - x.mean_r()))), x); });
  pair_gradient(simpo_hinge{beta, gamma}, [&](const point& x) {
    return averaged(-beta * step(beta * (x.mean_c() - x.mean_r()) - gamma < 1), x);
  });
  const double alpha = 0.25;
  const auto score = [&](double l) { return (1 - std::exp(-alpha * l)) / alpha; };
  pair_gradient(alphapo{beta, gamma, alpha}, [&](const point& x) {
    const double slope = -beta * s(gamma - beta * (score(x.mean_c()) - score(x.mean_r())));
    return slopes{slope * std::exp(-alpha * x.mean_c()) / x.nc, -slope * std::exp(-alpha * x.mean_r()) / x.nr};
  });
  pair_gradient(simper{}, [](const point& x) {
    return slopes{-std::exp(x.mean_c()) / x.nc, std::exp(x.mean_r()) / x.nr};
  });
  pair_gradient(orpo{beta}, [&](const point& x) {
    const auto odds = [](double l) { return l - std::log(-std::expm1(l)); };
    const double slope = -beta * s(odds(x.mean_r()) - odds(x.mean_c()));
    return slopes{slope / (1 - std::exp(x.mean_c())) / x.nc, -slope / (1 - std::exp(x.mean_r())) / x.nr};
  });
  pair_gradient(slic_reference_free{2, 0.1}, [](const point& x) {
    const double inside = step(x.lc - x.lr < 2);
    return slopes{-inside - 0.1, inside};
  });
}

TEST_CASE("the gradients on the pages of token objectives") {
  token_gradient(negative_log_likelihood{}, [](const token_point&) { return -1.0; });
  token_gradient(dynamic_fine_tuning{}, [](const token_point& x) { return -std::exp(x.lp); });
  token_gradient(reinforce{}, [](const token_point& x) { return -x.adv; });
  token_gradient(importance_sampling{}, [](const token_point& x) { return -x.adv * x.ratio(); });
  token_gradient(masked_importance{0.2, 0.28},
                 [](const token_point& x) { return -x.adv * x.ratio() * step(x.ratio() > 0.8 && x.ratio() < 1.28); });
  token_gradient(cispo{0.8, 1.28},
                 [](const token_point& x) { return -x.adv * std::min(std::max(x.ratio(), 0.8), 1.28); });
  token_gradient(cispo{.low = 0.8, .high = 1.28, .through = true},
                 [](const token_point& x) { return -x.adv * x.ratio() * step(x.ratio() >= 0.8 && x.ratio() <= 1.28); });
  token_gradient(sapo{}, [](const token_point& x) {
    return -4 * x.adv * x.ratio() * s1((x.adv > 0 ? 1 : 1.05) * (x.ratio() - 1));
  });
  for (const double score : {-1.0, 0.0, 1.0})
    token_gradient(
        topr{0.7, 1.3},
        [&](const token_point& x) { return -x.adv * (score > 0 ? 0.7 : 1.3 * std::min(x.ratio(), 1.0)); }, 0, score);
  token_gradient(direct_reward_optimisation{0.4}, [](const token_point& x) { return -x.adv + 0.4 * (x.lp - x.old); });
  const auto active = [](const token_point& x) { return step(x.adv >= 0 ? x.ratio() <= 1.28 : x.ratio() >= 0.8); };
  token_gradient(ppo_clip{0.2, 0.28}, [&](const token_point& x) { return -x.adv * x.ratio() * active(x); });
  token_gradient(ppo_clip{.low = 0.2, .high = 0.28, .dual_clip = 2}, [&](const token_point& x) {
    return -x.adv * x.ratio() * active(x) * step(x.adv >= 0 || x.ratio() <= 2);
  });
  token_gradient(ppo_clip{.low = 0.2, .high = 0.28, .ratio_bound = 2},
                 [&](const token_point& x) { return -x.adv * x.ratio() * active(x) * step(x.ratio() <= 2); });
  token_gradient(decoupled_ppo{0.2, 0.28},
                 [&](const token_point& x) { return -x.adv * x.ratio() * active(x) * std::exp(x.old - x.rollout); });
  token_gradient(dppo_total_variation{0.1, 0.1}, [](const token_point& x) {
    const double moved = std::exp(x.lp) - std::exp(x.old);
    return -x.adv * x.ratio() * step(x.adv > 0 ? moved <= 0.1 : moved >= -0.1);
  });
  token_gradient(dppo_binary_kl{0.05, 0.05}, [](const token_point& x) {
    const double p = std::exp(x.lp), o = std::exp(x.old);
    const double kl = o * (x.old - x.lp) + (1 - o) * std::log((1 - o + 1e-8) / (1 - p + 1e-8));
    const bool dropped = kl > 0.05 && (x.adv > 0 ? p > o : p < o);
    return -x.adv * x.ratio() * step(!dropped);
  });
  token_gradient(importance_with_pull{0.1, 1e-3}, [](const token_point& x) {
    const bool far = std::abs(std::exp(x.lp) - std::exp(x.old)) > 0.1;
    return -x.adv * x.ratio() * step(!far) + 2e-3 * (x.lp - x.old);
  });
  for (const double mean : {-0.1, 0.0001, 0.2})
    token_gradient(
        gspo_token{},
        [&](const token_point& x) {
          const double ratio = std::exp(mean);
          return -x.adv * ratio * step(x.adv >= 0 ? ratio <= 1 + 4e-4 : ratio >= 1 - 3e-4);
        },
        mean);
}

TEST_CASE("the gradients on the page of KL") {
  token_gradient(k1{}, [](const token_point&) { return 1.0; });
  token_gradient(absolute{}, [](const token_point& x) { return x.d() > 0 ? 1.0 : x.d() < 0 ? -1.0 : 0.0; });
  token_gradient(k2{}, [](const token_point& x) { return x.d(); });
  token_gradient(k3{}, [](const token_point& x) { return 1 - std::exp(-x.d()); });
  token_gradient(value_and_gradient{k3{}, k2{}}, [](const token_point& x) { return x.d(); });
  token_gradient(importance_weighted{k3{}}, [](const token_point& x) { return x.ratio() * x.d(); });
  token_gradient(importance_weighted{k1{}}, [](const token_point& x) { return x.ratio() * (x.d() + 1); });
}

TEST_CASE("the gradients on the pages of value losses and reward models") {
  for (const double value : {-0.5, 0.05, 0.9}) {
    using V = dual<double>;
    const double old = 0.1, target = 0.3, clip = 0.2;
    const value_item<V> v{V::variable(value, 0), old, target};
    const double bounded = old + std::min(std::max(value - old, -clip), clip);
    const bool inside = std::abs(value - old) <= clip, plain = std::abs(value - target) >= std::abs(bounded - target);
    CHECK(clipped_value{}(v).partial[0] == Approx(inside || plain ? value - target : 0));
    CHECK(squared_value{}(v).partial[0] == Approx(value - target));
    const double delta = 0.3, error = std::min(std::max(value - target, -delta), delta);
    CHECK(huber_value{.delta = delta}(v).partial[0] == Approx(inside || plain ? error : 0));
  }
  using V = dual<double, 2>;
  const score_pair<V> p{V::variable(1.2, 0), V::variable(0.4, 1), 0.5, 0.8};
  const double kappa = 0.01, e = 0.1, u = 0.3;
  const V loss = bradley_terry{.label_smoothing = e, .center = kappa, .use_margin = true, .soft_labels = true}(p);
  CHECK(loss.partial[0] == Approx(-s(-u) + (1 - 0.8) + e + 2 * kappa * 1.6));
  CHECK(loss.partial[1] == Approx(s(-u) - (1 - 0.8) - e + 2 * kappa * 1.6));
}

TEST_CASE("the gradients on the page of single responses") {
  using V = dual<double>;
  const double beta = 0.4, point = 0.7, wd = 1.3, wu = 0.6;
  for (const double h : {-3.0, 0.7, 2.5})
    for (const double y : {0.0, 1.0}) {
      CAPTURE(h, y);
      const labelled_response<V> r{V::variable(h - 5, 0), y, -5, point, 4};
      const double sign = y == 1 ? -1 : 1, w = y == 1 ? wd : wu, z = beta * h, u = z - beta * point;
      CHECK(kto{beta, wd, wu}(r).partial[0] == Approx(sign * w * beta * s1(u)));
      CHECK(apo_zero_unpaired{beta, wd, wu}(r).partial[0] == Approx(sign * w * beta * s1(z)));
      CHECK(bco{beta}(r).partial[0] == Approx(y == 1 ? -beta * s(point - z) : beta * s(z - point)));
      CHECK(una_rating{beta}(r).partial[0] == Approx(2 * beta * (s(z) - y) * s1(z)));
      CHECK(una_binary{beta}(r).partial[0] == Approx(beta * (s(z) - y)));
      CHECK(una_reward{beta}(r).partial[0] == Approx(2 * beta * (z - y)));
      CHECK(negative_preference{beta}(r).partial[0] == Approx(2 * s(z)));
    }
}

TEST_CASE("the gradients on the page of other reward models") {
  using V = dual<double, 3>;
  for (const double d : {-1.6, 0.2, 3.0}) {
    CAPTURE(d);
    const auto at = [&](const auto& model, double margin, double points, double tie) {
      return model(score_pair<V>{V::variable(d, 0), V::variable(0, 1), margin, points, V::variable(tie, 2)});
    };
    const double z = d / (std::sqrt(2.0) * 0.8), density = std::exp(-z * z / 2) / std::sqrt(2 * std::acos(-1.0));
    CHECK(at(thurstone{0.8}, 0, 0, 0).partial[0] ==
          Approx(-density / (std::sqrt(2.0) * 0.8 * std::erfc(-z / std::sqrt(2.0)) / 2)));
    CHECK(at(prior_constrained{}, 1.5, 0, 0).partial[0] == Approx(-s(-d) + s(d - 1.5)));
    const double log_nu = 0.3, all = std::exp(d / 2) + std::exp(-d / 2) + std::exp(log_nu);
    const double won = std::exp(d / 2) / all, lost = std::exp(-d / 2) / all, m = (won - lost) / 2;
    const double tied = std::exp(log_nu) / all;
    CHECK(at(davidson{}, 0, 1, log_nu).partial[0] == Approx(-0.5 + m));
    CHECK(at(davidson{}, 0, 0, log_nu).partial[0] == Approx(0.5 + m));
    CHECK(at(davidson{}, 0, 0.5, log_nu).partial[0] == Approx(m));
    CHECK(at(davidson{}, 0, 0.5, log_nu).partial[2] == Approx(tied - 1));
    CHECK(at(davidson{}, 0, 1, log_nu).partial[2] == Approx(tied));
    const double l = 0.4, pw = s(d - l), pl = s(-d - l);
    CHECK(at(rao_kupper{}, 0, 1, l).partial[0] == Approx(-(1 - pw)));
    CHECK(at(rao_kupper{}, 0, 0, l).partial[0] == Approx(1 - pl));
    CHECK(at(rao_kupper{}, 0, 0.5, l).partial[0] == Approx(pw - pl));
    const value_item<dual<double>> outcome{dual<double>::variable(d, 0), 0, 0.3};
    CHECK(binary_outcome{}(outcome).partial[0] == Approx(s(d) - 0.3));
  }
}
