// The golden numbers of the specifications: one small example for each formula, computed elsewhere.

#include <cmath>

#include "rlhf/advantage/estimated_value.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/ensemble_reward.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/ranking_loss.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/driver/robust_aggregate.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/exploration.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/self_play.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/ensemble.hpp"
#include "rlhf/reward/kl_controller.hpp"
#include "rlhf/reward/odin.hpp"
#include "rlhf/reward/prior_constrained.hpp"
#include "rlhf/reward/ranking.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"
#include "support/catch.hpp"

namespace {

using namespace rlhf;
using list = std::vector<double>;
using seeded = dual<double, 2>;

void check_close(const list& got, const list& want, double margin) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(got[i] == Approx(want[i]).margin(margin).epsilon(0));
  }
}

/// Two sequences, the second one with two slots of padding, in which anything may stand.
struct batch {
  static constexpr double pad = 1e30;
  std::vector<std::uint8_t> mask = {1, 1, 1, 1, 1, 1, 0, 0};
  list old = {-1.1, -.9, -1.5, -.1, -.7, -.8, pad, pad}, logp = {-1.0, -.5, -2.0, -.1, -.7, -1.2, pad, pad};
  list ref = {-1.3, -.4, -1.6, -.3, -.9, -.6, pad, pad}, dpo = {-.8, -1.9, -1.0, -.2, -.5, -.9, pad, pad};
  list old_value = {0, .5, .3, .1, .4, -.1, pad, pad}, value = {.1, .2, .3, .4, .5, -.2, pad, pad}, score = {1, -.5};
  list reward = list(8), advantage = list(8), returns = list(8), white = list(8);
  reference_backend be;

  batch() {
    const auto rows = padded(2, 4);
    shaping_inputs<double> in;
    in.old_logp = old, in.ref_logp = ref, in.dpo_logp = dpo, in.score = score, in.mask = mask;
    REQUIRE(
        reward_shaping{rto_reward{}}(be, rows, in, shaping_outputs<double>{.reward = reward, .kl = {}, .dpo_sum = {}}));
    advantage_inputs<double> steps;
    steps.reward = reward, steps.value = old_value, steps.mask = mask;
    REQUIRE(advantage_estimate{gae{}}(be, rows, steps,
                                      advantage_outputs<double>{.advantage = advantage, .returns = returns}));
    whiten_inputs<double> x;
    x.x = advantage, x.mask = mask;
    REQUIRE(whitening{{.biased = true, .divisor = spread::clamped}}(be, x, view<double, 1>(white)));
  }
};

template <class Formula>
seeded score_loss(const Formula& f, double chosen, double rejected, double margin = 0) {
  score_pair<seeded> p;
  p.chosen = seeded::variable(chosen, 0), p.rejected = seeded::variable(rejected, 1);
  p.margin = margin;
  return f(p);
}

}  // namespace

TEST_CASE("golden: RTO's reward, GAE, whitening") {
  const batch b;
  check_close(b.reward, {.023, -.045, .029, 1.003, .018, -.513, 0, 0}, 1e-12);
  check_close(b.advantage, {.910132125, .4075075, .68685, .903, -.87435, -.413, 0, 0}, 1e-9);
  check_close(b.returns, {.910132125, .9075075, .98685, 1.003, -.47435, -.513, 0, 0}, 1e-9);
  check_close(b.white, {.9405306962, .2020096065, .6124557272, .930051256, -1.6814611798, -1.0035861061, 0, 0}, 1e-9);
}

TEST_CASE("golden: PPO-clip in two aggregations, clipped values") {
  batch b;
  token_inputs<double> in;
  in.logp = b.logp, in.old_logp = b.old, in.advantage = b.white, in.mask = b.mask;
  double loss = 0;
  list slope(8);
  token_outputs<double> out;
  out.loss = view<double, 1>(&loss, 1), out.grad_logp = slope;
  REQUIRE(policy_loss{ppo_clip{}, none{}, token_mean{}}(b.be, padded(2, 4), in, out));
  CHECK(loss == Approx(-0.01650884473).margin(1e-10));
  check_close(slope, {-.1732411955, 0, -.061912196, -.1550085427, .28024353, 0, 0, 0}, 1e-9);
  REQUIRE(policy_loss{ppo_clip{}, none{}, sequence_mean_token_mean{}}(b.be, padded(2, 4), in, out));
  CHECK(loss == Approx(0.2981596245).margin(1e-9));
  check_close(slope, {-.1299308966, 0, -.046434147, -.116256407, .420365295, 0, 0, 0}, 1e-9);

  value_inputs<double> v;
  v.value = b.value, v.old_value = b.old_value, v.returns = b.returns, v.mask = b.mask;
  value_outputs<double> w;
  w.loss = view<double, 1>(&loss, 1), w.grad_value = slope;
  REQUIRE(value_loss{clipped_value{}, sequence_mean_token_mean{}}(b.be, padded(2, 4), v, w));
  CHECK(loss == Approx(0.2635941681).margin(1e-9));
  check_close(slope, {-.1012665156, -.0884384375, -.08585625, 0, .2435875, .07825, 0, 0}, 1e-9);
}

TEST_CASE("golden: REBEL and DPO of the two rows as a pair") {
  pair<seeded> p;  // h = (0, -0.4) against the old policy
  p.chosen.logp = seeded::variable(-3.6, 0), p.chosen.ref_logp = -3.6, p.chosen.reward = 1;
  p.rejected.logp = seeded::variable(-1.9, 1), p.rejected.ref_logp = -1.5, p.rejected.reward = -.5;
  const seeded code = rebel{.eta = 0.5}(p), paper = rebel{.eta = 0.5, .paper_scaling = true}(p);
  CHECK(code.value == Approx(.1225).margin(1e-12));
  CHECK(paper.value == Approx(.49).margin(1e-12));
  CHECK(code.partial[0] == Approx(-.7).margin(1e-12));
  CHECK(code.partial[1] == Approx(.7).margin(1e-12));
  p.chosen.ref_logp = -3.6, p.rejected.ref_logp = -1.5;  // u = 0.4
  const seeded dpo = dpo_sigmoid{.beta = 0.1}(p);
  CHECK(dpo.value == Approx(.6733471672).margin(1e-10));
  CHECK(dpo.partial[0] == Approx(-.0490001331).margin(1e-10));
}

TEST_CASE("golden: DVPO's and VinePPO's advantages, the KL controller") {
  reference_backend be;
  list value = {0, .5, .3, .1}, zero(4, 0.0), end = {.6}, out(4);
  advantage_inputs<double> in;
  in.reward = zero, in.value = value;
  const advantage_outputs<double> to{.advantage = out, .returns = {}};
  REQUIRE(advantage_estimate{gae{}}(be, padded(1, 4), in, to));
  check_close(out, {.0437625, -.48025, -.295, -.1}, 1e-12);
  in.bootstrap = end;
  REQUIRE(advantage_estimate{gae{}}(be, padded(1, 4), in, to));
  check_close(out, {.5581875, .06125, .275, .5}, 1e-12);
  list steps = {4.0 / 9, 6.0 / 9, 3.0 / 9}, one = {1}, vine(3);
  advantage_inputs<double> v;
  v.value = steps, v.bootstrap = one;
  REQUIRE(advantage_estimate{step_advantage{}}(be, padded(1, 3), v,
                                               advantage_outputs<double>{.advantage = vine, .returns = {}}));
  check_close(vine, {2.0 / 9, -3.0 / 9, 6.0 / 9}, 1e-14);
  const auto after = [](double observed) {
    adaptive_kl_controller c{.coefficient = .15};
    c.update(observed, 512);
    return c.coefficient;
  };
  check_close({after(6), after(12), after(3), after(6.6)}, {.15, .151536, .148464, .150768}, 1e-12);
}

TEST_CASE("golden: VPO's two directions") {
  pair<seeded> p;
  p.chosen.logp = seeded::variable(-12, 0), p.chosen.ref_logp = -13;
  p.rejected.logp = seeded::variable(-15, 1), p.rejected.ref_logp = -14.5;
  const seeded dpo = dpo_sigmoid{.beta = 0.1}(p);
  CHECK(dpo.value == Approx(.62095705).margin(1e-8));
  CHECK(dpo.partial[0] == Approx(-.04625702).margin(1e-8));
  labelled_response<dual<double>> r;  // two calibration samples of mean log-ratio -0.5
  r.logp = dual<double>::variable(-10.5, 0), r.ref_logp = -10;
  const auto online = optimism{.coefficient = 0.5 * 0.1}(r), offline = optimism{.coefficient = -0.5 * 0.1}(r);
  CHECK(dpo.value + online.value == Approx(.59595705).margin(1e-8));
  CHECK(dpo.value + offline.value == Approx(.64595705).margin(1e-8));
  CHECK(online.partial[0] / 2 == Approx(.025).margin(1e-12));
}

TEST_CASE("golden: PCRM and UNA") {
  const prior_constrained f{.from_similarity = true, .cap = {20, .001, -15}};
  CHECK(f.cap(0.5) == Approx(24.92015968).margin(1e-8));
  const seeded a = score_loss(f, 1.2, 0, 0.5), b = score_loss(f, 3, 0, 1);
  CHECK(a.value == Approx(.26328247).margin(1e-8));
  CHECK(a.partial[0] == Approx(-.23147522).margin(1e-8));
  CHECK(b.value == Approx(.17791810).margin(1e-8));
  CHECK(b.partial[0] == Approx(.07389083).margin(1e-8));
  labelled_response<dual<double>> r;
  r.logp = dual<double>::variable(-2, 0), r.ref_logp = 0, r.label = .7;
  const auto rating = una_rating{.beta = .03}(r);
  CHECK(rating.value == Approx(.04622307).margin(1e-8));
  CHECK(rating.partial[0] == Approx(-.00322203).margin(1e-8));
  r.label = 1;
  const auto binary = una_binary{.beta = .03}(r);
  CHECK(binary.value == Approx(.72359711).margin(1e-8));
  CHECK(binary.partial[0] == Approx(-.01544987).margin(1e-8));
}

TEST_CASE("golden: robust aggregation of (1, 2, 4)") {
  reference_backend be;
  const list l = {1, 2, 4};
  list weight(3);
  double value = 0;
  const auto of = [&](const auto& set) {
    robust_inputs<double> in;
    in.loss = l;
    robust_outputs<double> out;
    out.loss = view<double, 1>(&value, 1), out.weight = weight;
    REQUIRE(robust_aggregate{set}(be, in, out));
    return value;
  };
  CHECK(of(tilted_mean{.temperature = 1}) == Approx(3.07123373).margin(1e-8));
  check_close(weight, {.04201007, .11419520, .84379473}, 1e-8);
  CHECK(of(chi_square_ball{.radius = .1}) == Approx(2.89110668).margin(1e-8));
  check_close(weight, {.17396952, .29349238, .53253810}, 1e-8);
  CHECK(of(conditional_value_at_risk{.alpha = .5}) == Approx(10.0 / 3).margin(1e-8));
}

TEST_CASE("golden: ties, Thurstone, Plackett-Luce, label smoothing") {
  const auto outcome = [](const auto& f, double points, double tie) {
    score_pair<dual<double, 3>> p;
    p.chosen = dual<double, 3>::variable(.7, 0), p.rejected = dual<double, 3>::variable(0, 1);
    p.tie = dual<double, 3>::variable(tie, 2);
    p.probability = points;
    return std::exp(-f(p).value);
  };
  check_close({outcome(davidson{}, 1, std::log(1.2)), outcome(davidson{}, 0, std::log(1.2)),
               outcome(davidson{}, .5, std::log(1.2))},
              {.42694702, .21201561, .36103737}, 1e-8);
  check_close({outcome(rao_kupper{}, 1, std::log(1.5)), outcome(rao_kupper{}, 0, std::log(1.5)),
               outcome(rao_kupper{}, .5, std::log(1.5))},
              {.57310599, .24871730, .17817672}, 1e-8);
  const seeded t = score_loss(thurstone{}, .7, 0);
  CHECK(std::exp(-t.value) == Approx(.68969103).margin(1e-8));
  CHECK(-t.partial[0] == Approx(.36185903).margin(1e-8));

  reference_backend be;
  const list scores = {1, .5, -.2};
  list slope(3);
  double loss = 0;
  ranking_inputs<double> in;
  in.score = scores;
  ranking_outputs<double> out;
  out.loss = view<double, 1>(&loss, 1), out.grad_score = slope;
  REQUIRE(ranking_loss{plackett_luce{}, batch_mean{}}(be, padded(1, 3), in, out));
  CHECK(loss == Approx(1.04909741).margin(1e-8));
  check_close(slope, {-.47581540, -.01387820, .48969360}, 1e-8);

  for (const auto& [e, best] : {std::pair{.1, 2.19722458}, std::pair{.2, 1.38629436}})
    CHECK(score_loss(bradley_terry{.label_smoothing = e}, best, 0).partial[0] == Approx(0).margin(1e-8));
}

TEST_CASE("golden: length correlation, ensembles") {
  const list length = {10, 20, 30, 60}, r = {.1, .4, .2, .9};
  length_covariances c;
  c.count = 4, c.length_mean = 30, c.quality_mean = .4;
  for (std::size_t i = 0; i < 4; ++i) {
    c.length_square += square(length[i] - 30), c.quality_square += square(r[i] - .4);
    c.quality_length += (length[i] - 30) * (r[i] - .4);
  }
  const length_correlation found(c.quality_length, c.quality_square, c.quality_mean, c);
  CHECK(found.value == Approx(.91046547).margin(1e-8));
  list slope;
  double along = 0, sum = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    slope.push_back((length[i] - 30) * found.by_length + (r[i] - .4) * found.by_score);
    sum += slope.back(), along += slope.back() * (r[i] - .4);
  }
  check_close(slope, {-.14832144, -.43355498, .47919235, .10268408}, 1e-8);
  CHECK(sum == Approx(0).margin(1e-14));
  CHECK(along == Approx(0).margin(1e-14));

  reference_backend be;
  const list scores = {1, 2, 4};
  double reward = 0;
  ensemble_outputs<double> out;
  out.reward = view<double, 1>(&reward, 1);
  REQUIRE(ensemble_reward{uncertainty_weighted{.lambda = .5}}(be, view<const double, 2>(scores.data(), 3, 1), out));
  CHECK(reward == Approx(1.55555556).margin(1e-8));
}

TEST_CASE("golden: IPO and INPO") {
  pair<seeded> p;
  p.chosen.logp = seeded::variable(1.5, 0), p.rejected.logp = seeded::variable(0, 1);
  p.chosen.ref_logp = p.rejected.ref_logp = 0;
  const seeded i = ipo_sum{.beta = .1}(p);
  CHECK(i.value == Approx(12.25).margin(1e-12));
  CHECK(i.partial[0] == Approx(-7).margin(1e-12));
  p.chosen.logp = seeded::variable(.4, 0), p.chosen.ref_logp = .1, p.chosen.previous_logp = .2,
  p.rejected.previous_logp = 0;
  const inpo f{.tau = .005 / 3, .inverse_step = .005};  // tau / eta' = 1/3, 1/(2 eta') = 100
  CHECK(f(p).value == Approx(9953.38777778).margin(1e-7));
}

TEST_CASE("duals of duals have the right second derivatives at 0") {
  using second = dual<dual<double>>;
  const auto bend = [](auto&& f, double at) {
    return f(second::variable(dual<double>::variable(at, 0), 0)).partial[0].partial[0];
  };
  CHECK(bend([](const second& x) { return log_sigmoid(x); }, 0) == Approx(-.25).margin(1e-15));
  CHECK(bend([](const second& x) { return softplus(x); }, 0) == Approx(.25).margin(1e-15));
  CHECK(bend([](const second& x) { return sigmoid(x); }, 0) == Approx(0).margin(1e-15));
  const double s = sigmoid(.8);
  CHECK(bend([](const second& x) { return sigmoid(x); }, .8) == Approx(s * (1 - s) * (1 - 2 * s)).margin(1e-15));
  CHECK(bend([](const second& x) { return log_normal_cdf(x); }, 0) ==
        Approx(-2 / 3.14159265358979323846).margin(1e-14));
  const auto log_phi = [](const auto& x) { return log_normal_cdf(x); };
  for (const double x : {-5.0, -.3, .4, 3.0}) {
    const double h = 1e-4;
    const auto slope = [&](double at) { return log_phi(dual<double>::variable(at, 0)).partial[0]; };
    CHECK(bend(log_phi, x) == Approx((slope(x + h) - slope(x - h)) / (2 * h)).epsilon(1e-6));
  }
}
