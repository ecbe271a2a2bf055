// Draws the library's formulas: losses and slopes, computed by the structs themselves. Writes a gnuplot script with its data:
//
//   rlhf-plots > docs/formulas/plots/figures.gp && cd docs/formulas/plots && gnuplot figures.gp
//
// docs/plots.sh does both. A figure is named as the page that shows it.

#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/objective/self_play.hpp"
#include "rlhf/objective/token.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/objective/value.hpp"
#include "rlhf/objective/weighted.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/prior_constrained.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"

namespace {

struct point {
  double value, slope;
};
struct curve {
  std::string name;
  std::function<point(double)> at;
};
struct figure {
  std::string name, x, slope;  ///< labels of the axis and of the right panel
  double from, to;
  std::vector<curve> curves;
};

using dual = rlhf::dual<double, 2>;

/// Pairs with the margin D = a - b, half of it on either side; ten tokens each, the first the better one.
rlhf::pair<dual> pair_at(double margin) {
  rlhf::pair<dual> p;
  p.chosen.logp = dual::variable(-10 + margin / 2, 0);
  p.rejected.logp = dual::variable(-10 - margin / 2, 1);
  p.chosen.ref_logp = p.rejected.ref_logp = -10;
  p.chosen.previous_logp = p.rejected.previous_logp = -10;
  p.chosen.length = p.rejected.length = 10;
  p.chosen.reward = 0.9;
  p.rejected.reward = 0.1;
  p.margin = 2;
  return p;
}
template <class Objective>
curve pair(const char* name, const Objective& o) {
  return {name, [o](double x) {
            const dual y = o(pair_at(x));
            return point{y.value, y.partial[0]};
          }};
}

/// A token whose ratio to the old policy is x, with the slope in its log-probability.
template <class Objective>
curve token(const char* name, const Objective& o, double advantage) {
  return {name, [o, advantage](double x) {
            rlhf::token<dual> t;
            t.old_logp = t.ref_logp = t.rollout_logp = -1.5;
            t.logp = dual::variable(-1.5 + std::log(x), 0);
            t.advantage = advantage;
            t.sequence_log_ratio = std::log(x);
            const dual y = o(t);
            return point{y.value, y.partial[0]};
          }};
}

/// A token whose log-ratio to the reference is x.
template <class Estimator>
curve divergence(const char* name, const Estimator& o) {
  return {name, [o](double x) {
            rlhf::token<dual> t;
            t.old_logp = t.ref_logp = -4;
            t.logp = dual::variable(-4 + x, 0);
            const dual y = o(t);
            return point{y.value, y.partial[0]};
          }};
}

template <class Score>
curve score(const char* name, const Score& o) {
  return {name, [o](double x) {
            const auto y = o(rlhf::dual<double, 1>::variable(x, 0));
            return point{y.value, y.partial[0]};
          }};
}

template <class Objective>
curve response(const char* name, const Objective& o, double label) {
  return {name, [o, label](double x) {
            rlhf::labelled_response<dual> r;
            r.logp = dual::variable(-10 + x, 0);
            r.ref_logp = -10;
            r.label = label;
            r.reference_point = 0;
            r.length = 10;
            const dual y = o(r);
            return point{y.value, y.partial[0]};
          }};
}

template <class Objective>
curve scores(const char* name, const Objective& o, double tie = 0) {
  return {name, [o, tie](double x) {
            rlhf::score_pair<rlhf::dual<double, 3>> p;
            p.chosen = rlhf::dual<double, 3>::variable(x, 0);
            p.rejected = rlhf::dual<double, 3>::variable(0, 1);
            p.tie = rlhf::dual<double, 3>::variable(tie, 2);
            p.margin = 2;
            p.probability = 1;
            const auto y = o(p);
            return point{y.value, y.partial[0]};
          }};
}

template <class Objective>
curve value(const char* name, const Objective& o) {
  return {name, [o](double x) {
            rlhf::value_item<dual> v;
            v.value = dual::variable(x, 0);
            v.old_value = 0;
            v.returns = 1;
            const dual y = o(v);
            return point{y.value, y.partial[0]};
          }};
}

std::vector<figure> figures() {
  using distance = rlhf::reward_aware_dpo::distance;
  const std::string margin = "margin D, nats", in_chosen = "slope in log pi(chosen)";
  const std::string ratio = "ratio", in_logp = "slope in log pi";
  return {
      {"dpo",
       margin,
       in_chosen,
       -40,
       40,
       {pair("sigmoid", rlhf::dpo_sigmoid{}), pair("smoothed 0.2", rlhf::dpo_sigmoid{.label_smoothing = 0.2}),
        pair("robust 0.2", rlhf::dpo_robust{.label_smoothing = 0.2}), pair("hinge", rlhf::dpo_hinge{})}},
      {"anchored",
       margin,
       in_chosen,
       -40,
       40,
       {pair("NCA", rlhf::nca_pair{}), pair("BCO", rlhf::bco_pair{}), pair("APO-zero", rlhf::apo_zero{}),
        pair("APO-down", rlhf::apo_down{})}},
      {"margins",
       margin,
       in_chosen,
       -40,
       40,
       {pair("EXO, 0.1", rlhf::exo_pair{.label_smoothing = 0.1}),
        pair("DiscoPOP, tau 1/2", rlhf::discopop{.temperature = 0.5}),
        pair("DPO-positive, 1", rlhf::dpo_positive{.lambda = 1}), pair("capped at 2", rlhf::pcrm_dpo{}),
        pair("offset 2", rlhf::dpo_offset{}),
        pair("reward-aware", rlhf::reward_aware_dpo{.eta = 2, .measure = distance::backward_kl})}},
      {"reference-free",
       "L(chosen) - L(rejected), nats, 10 tokens each",
       in_chosen,
       -10,
       10,
       {pair("CPO", rlhf::cpo{}), pair("SimPO", rlhf::simpo{}), pair("AlphaPO", rlhf::alphapo{}),
        pair("SimPER", rlhf::simper{}), pair("ORPO, 1", rlhf::orpo{.beta = 1})}},
      {"divergences",
       "log-ratio a, nats",
       "slope of the score",
       -2,
       4,
       {score("forward KL", rlhf::forward_kl{}), score("Jensen-Shannon", rlhf::jensen_shannon{}),
        score("alpha 1/2", rlhf::alpha_divergence{}),
        score("alpha 1: reverse KL", rlhf::alpha_divergence{.alpha = 1})}},
      {"rebel",
       margin,
       in_chosen,
       -5,
       5,
       {pair("REBEL, rewards 0.9 and 0.1", rlhf::rebel{}),
        pair("INPO, 1/2", rlhf::inpo{.tau = 0.1, .inverse_step = 0.5})}},
      {"unpaired",
       "log-ratio h, nats",
       in_logp,
       -40,
       40,
       {response("KTO, desirable", rlhf::kto{}, 1), response("KTO, undesirable", rlhf::kto{}, 0),
        response("BCO, desirable", rlhf::bco{}, 1), response("BCO, undesirable", rlhf::bco{}, 0),
        response("NPO", rlhf::negative_preference{}, 0)}},
      {"ppo-clip",
       ratio,
       in_logp,
       0.05,
       3.5,
       {token("A = 1", rlhf::ppo_clip{}, 1), token("A = -1", rlhf::ppo_clip{}, -1),
        token("A = -1, dual clip at 2", rlhf::ppo_clip{.dual_clip = 2}, -1),
        token("A = 1, clip-higher 0.6", rlhf::ppo_clip{.high = 0.6}, 1)}},
      {"trust-regions",
       ratio,
       in_logp,
       0.05,
       3.5,
       {token("SAPO, A = 1", rlhf::sapo{}, 1), token("SAPO, A = -1", rlhf::sapo{}, -1),
        token("DPPO (TV), A = 1", rlhf::dppo_total_variation{}, 1),
        token("DPPO (KL), A = 1", rlhf::dppo_binary_kl{}, 1)}},
      {"reinforce",
       ratio,
       in_logp,
       0.05,
       3.5,
       {token("REINFORCE, A = 1", rlhf::reinforce{}, 1), token("CISPO, at most 2, A = 1", rlhf::cispo{.high = 2}, 1),
        token("importance sampling, A = 1", rlhf::importance_sampling{}, 1),
        token("DRO, A = 1", rlhf::direct_reward_optimisation{.beta = 1}, 1)}},
      {"kl",
       "log-ratio to the reference, nats",
       in_logp,
       -2.5,
       2.5,
       {divergence("k1", rlhf::k1{}), divergence("k2", rlhf::k2{}), divergence("k3", rlhf::k3{}),
        divergence("absolute", rlhf::absolute{})}},
      {"value-loss",
       "value, old 0, return 1",
       "slope in the value",
       -1.5,
       2.5,
       {value("squared", rlhf::squared_value{}), value("clipped at 0.2", rlhf::clipped_value{}),
        value("Huber", rlhf::huber_value{})}},
      {"bradley-terry",
       "score of chosen less rejected",
       "slope in the better score",
       -6,
       6,
       {scores("Bradley-Terry", rlhf::bradley_terry{}), scores("Thurstone", rlhf::thurstone{}),
        scores("capped margin (PCRM)", rlhf::prior_constrained{})}},
  };
}

constexpr int steps = 160;

void draw(const figure& f) {
  std::printf("# %s\n$%s << END\n", f.name.c_str(), "data");
  for (int i = 0; i <= steps; ++i) {
    const double x = f.from + (f.to - f.from) * i / steps;
    std::printf("%.5g", x);
    for (const curve& c : f.curves) {
      const point y = c.at(x);
      std::printf(" %.4g %.4g", y.value + 0.0, y.slope + 0.0);
    }
    std::printf("\n");
  }
  std::printf("END\nset output '%s.svg'\nset multiplot layout 1,2\n", f.name.c_str());
  for (const bool slope : {false, true}) {
    std::printf("set title '%s'\nset xlabel '%s'\nset key %s\nplot", slope ? f.slope.c_str() : "loss", f.x.c_str(),
                slope ? "off" : "below");
    for (std::size_t k = 0; k < f.curves.size(); ++k)
      std::printf("%s $data using 1:%zu with lines linewidth 2 title '%s'", k == 0 ? "" : ",",
                  2 + 2 * k + (slope ? 1 : 0), f.curves[k].name.c_str());
    std::printf("\n");
  }
  std::printf("unset multiplot\n");
}

}  // namespace

int main(int argc, char** argv) {
  const bool list = argc == 2 && std::string(argv[1]) == "--list";
  if (argc > 1 && !list) {
    std::fprintf(stderr, "usage: rlhf-plots [--list]\nWrites a gnuplot script of all figures.\n");
    return 2;
  }
  if (!list)
    std::printf(
        "# Made by rlhf-plots: the library's formulas, evaluated. docs/plots.sh makes it anew.\n"
        "set terminal svg size 860,380 dynamic background '#ffffff' font 'Helvetica,12'\n"
        "set grid linecolor '#dddddd'\nset border linecolor '#888888'\nset bmargin at screen 0.34\n"
        "set key samplen 2\n");
  for (const figure& f : figures())
    if (list)
      std::printf("%s\n", f.name.c_str());
    else
      draw(f);
}
