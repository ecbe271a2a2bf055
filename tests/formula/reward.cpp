// Reward-model objectives: closed forms, central differences, ties, tails, lists, ensembles, two heads.

#include <algorithm>
#include <cmath>
#include <vector>

#include "formula/support.hpp"
#include "rlhf/driver/ensemble_reward.hpp"
#include "rlhf/driver/odin_loss.hpp"
#include "rlhf/driver/ranking_loss.hpp"
#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/math/normal.hpp"
#include "rlhf/objective/value.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/ensemble.hpp"
#include "rlhf/reward/outcome.hpp"
#include "rlhf/reward/prior_constrained.hpp"
#include "rlhf/reward/ranking.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"

namespace {

using test::infinity;
using test::not_a_number;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

struct scores {
  std::vector<double> chosen, rejected, margin, probability, tie;
  std::vector<std::uint8_t> mask;
  explicit scores(unsigned seed, std::size_t n = 23) : mask(n) {
    std::mt19937 random(seed);
    chosen = test::uniform(random, n, -3, 3);
    rejected = test::uniform(random, n, -3, 3);
    margin = test::uniform(random, n, 0.5, 3);
    probability.resize(n);
    tie = {0.4};
    const double garbage[] = {not_a_number, infinity, -infinity}, points[] = {1, 0, 0.5};
    for (std::size_t i = 0; i < n; ++i) {
      probability[i] = points[random() % 3];
      mask[i] = i % 4 != 2;
      if (mask[i] == 0)
        for (auto* v : {&chosen, &rejected, &margin, &probability}) (*v)[i] = garbage[i % 3];
    }
  }
  [[nodiscard]] rlhf::score_inputs<double> inputs() const {
    return {chosen, rejected, margin, probability, {}, mask, tie};
  }
};

struct result {
  rlhf::status status;
  double loss = not_a_number, grad_tie = not_a_number;
  std::vector<double> chosen, rejected, per_pair;
  rlhf::statistics stats;
};
template <class Objective>
result run(const Objective& objective, const rlhf::score_inputs<double>& in) {
  rlhf::reference_backend backend;
  result r;
  const auto n = static_cast<std::size_t>(in.chosen.extent);
  for (auto* v : {&r.chosen, &r.rejected, &r.per_pair}) v->assign(n, not_a_number);
  r.status = rlhf::reward_loss<Objective>{objective}(
      backend, in, {{&r.loss, 1}, r.chosen, r.rejected, r.per_pair, &r.stats, {&r.grad_tie, 1}});
  return r;
}

/// `value(D, margin, points, tie)`.
template <class Objective, class Value>
void check(const char* name, const Objective& objective, Value value) {
  for (const unsigned seed : {1u, 2u}) {
    CAPTURE(name, seed);
    const scores b(seed);
    const auto r = run(objective, b.inputs());
    REQUIRE(r.status);
    double count = 0, sum = 0, tie = 0;
    for (const auto m : b.mask) count += m;
    const double h = 1e-5;
    for (std::size_t i = 0; i < b.mask.size(); ++i) {
      CAPTURE(i);
      if (b.mask[i] == 0) {
        CHECK((test::is_plain_zero(r.chosen[i]) && test::is_plain_zero(r.rejected[i]) &&
               test::is_plain_zero(r.per_pair[i])));
        continue;
      }
      const auto at = [&](double shift, double more = 0) {
        return value(b.chosen[i] - b.rejected[i] + shift, b.margin[i], b.probability[i], b.tie[0] + more);
      };
      CHECK(r.per_pair[i] == Approx(at(0)).epsilon(1e-11));
      const double slope = (at(h) - at(-h)) / (2 * h);
      CHECK(r.chosen[i] * count == Approx(slope).epsilon(1e-6).margin(1e-9));
      CHECK(r.rejected[i] == -r.chosen[i]);
      sum += at(0);
      tie += (at(0, h) - at(0, -h)) / (2 * h);
    }
    CHECK(r.loss == Approx(sum / count).epsilon(1e-11));
    if constexpr (rlhf::partials_of<rlhf::score_pair, Objective>() > 2)
      CHECK(r.grad_tie == Approx(tie / count).epsilon(1e-6));
    else
      CHECK(r.grad_tie != r.grad_tie);  // nobody wrote it
  }
}

}  // namespace

TEST_CASE("score objectives: values and slopes") {
  for (const double s : {0.5, 1.0, 2.0})
    check("thurstone", rlhf::thurstone{s}, [&](double d, double, double, double) {
      return d < 0 ? -std::log(std::erfc(-d / (2 * s)) / 2) : -std::log1p(-std::erfc(d / (2 * s)) / 2);
    });
  check("prior_constrained", rlhf::prior_constrained{},
        [](double d, double cap, double, double) { return -log_sigmoid(d) - log_sigmoid(cap - d); });
  check("prior_constrained, from a similarity", rlhf::prior_constrained{true, {2, 0.1, -0.5}},
        [](double d, double similarity, double, double) {
          return -log_sigmoid(d) - log_sigmoid(2 / (similarity + 0.1) - 0.5 - d);
        });
  check("davidson", rlhf::davidson{}, [](double d, double, double points, double tie) {
    const double won = std::exp(d / 2), lost = std::exp(-d / 2), tied = std::exp(tie);
    return -std::log((points == 1 ? won : points == 0 ? lost : tied) / (won + lost + tied));
  });
  check("rao_kupper", rlhf::rao_kupper{}, [](double d, double, double points, double tie) {
    const double won = sigmoid(d - tie), lost = sigmoid(-d - tie);
    return -std::log(points == 1 ? won : points == 0 ? lost : 1 - won - lost);
  });
}

TEST_CASE("the normal distribution function in its tails") {
  using rlhf::log_normal_cdf;
  for (double x = -37; x < 8; x += 0.173) {
    CAPTURE(x);
    const double tail = std::erfc(std::abs(x) / std::sqrt(2.0)) / 2;
    CHECK(log_normal_cdf(x) == Approx(x < 0 ? std::log(tail) : std::log1p(-tail)).epsilon(1e-12));
  }
  // Beyond where erfc underflows: the asymptotic series.
  for (const double x : {-50.0, -300.0, -1e5}) {
    const double y = 1 / (x * x), series = 1 - y * (1 - 3 * y * (1 - 5 * y * (1 - 7 * y)));
    const double want = -x * x / 2 - 0.5 * std::log(2 * std::acos(-1.0)) - std::log(-x) + std::log(series);
    CHECK(log_normal_cdf(x) == Approx(want).epsilon(1e-13));
  }
  CHECK(log_normal_cdf(20.0) == Approx(-std::erfc(20 / std::sqrt(2.0)) / 2).epsilon(1e-12));  // not 0
  CHECK(log_normal_cdf(infinity) == 0);
  CHECK(log_normal_cdf(-infinity) == -infinity);
  CHECK(log_normal_cdf(not_a_number) != log_normal_cdf(not_a_number));
  CHECK(log_normal_cdf(0.0) == Approx(-std::log(2.0)).epsilon(1e-15));
  const auto slope = [](double x) { return rlhf::derivative(log_normal_cdf(rlhf::dual<double>::variable(x, 0))); };
  for (const double x : {-40.0, -3.0, -0.1, 0.0, 0.1, 2.5}) {
    CAPTURE(x);
    const double h = 1e-5;
    CHECK(slope(x) == Approx((log_normal_cdf(x + h) - log_normal_cdf(x - h)) / (2 * h)).epsilon(1e-7));
  }
  CHECK(slope(-1e6) == Approx(1e6).epsilon(1e-9));
  CHECK(slope(40) == Approx(std::exp(-800) / std::sqrt(2 * std::acos(-1.0))).epsilon(1e-12));
  CHECK(log_normal_cdf(-5.0f) == Approx(log_normal_cdf(-5.0)).epsilon(1e-6));
}

TEST_CASE("ties: shares add up, limits are Bradley-Terry") {
  const auto loss = [](const auto& model, double d, double points, double tie) {
    return model(rlhf::score_pair<double>{d, 0, {}, points, tie});
  };
  for (const double d : {-700.0, -3.0, 0.0, 0.7, 700.0})
    for (const double tie : {1e-3, 0.4, 3.0}) {
      CAPTURE(d, tie);
      double davidson = 0, rao_kupper = 0;
      for (const double points : {1.0, 0.0, 0.5}) {
        davidson += std::exp(-loss(rlhf::davidson{}, d, points, tie));
        rao_kupper += std::exp(-loss(rlhf::rao_kupper{}, d, points, tie));
        CHECK(std::isfinite(loss(rlhf::davidson{}, d, points, tie)));
        CHECK(std::isfinite(loss(rlhf::rao_kupper{}, d, points, tie)));
      }
      CHECK(davidson == Approx(1).epsilon(1e-12));
      CHECK(rao_kupper == Approx(1).epsilon(1e-12));
    }
  const double bt = -log_sigmoid(0.7);
  CHECK(loss(rlhf::davidson{}, 0.7, 1, -700) == Approx(bt).epsilon(1e-14));
  CHECK(loss(rlhf::rao_kupper{}, 0.7, 1, 0) == Approx(bt).epsilon(1e-14));
  CHECK(loss(rlhf::rao_kupper{}, 0.7, 0.5, 0) == infinity);  // a tie that cannot be
  // Swapping the two responses swaps the outcomes.
  CHECK(loss(rlhf::davidson{}, 0.7, 1, 0.3) == Approx(loss(rlhf::davidson{}, -0.7, 0, 0.3)).epsilon(1e-15));
  CHECK(loss(rlhf::rao_kupper{}, 0.7, 0.5, 0.3) == Approx(loss(rlhf::rao_kupper{}, -0.7, 0.5, 0.3)).epsilon(1e-15));

  // The tie's slope of a batch is that of its parts, weighed.
  scores b(3);
  auto in = b.inputs();
  std::vector<double> twice(b.mask.size(), 2.0);
  in.weight = twice;
  const auto x = run(rlhf::davidson{}, b.inputs()), y = run(rlhf::davidson{}, in);
  CHECK(y.grad_tie == Approx(2 * x.grad_tie).epsilon(1e-14));
  in.tie = {};
  CHECK(test::text(run(rlhf::davidson{}, in).status).find("tie") != std::string::npos);
  in.tie = twice;
  CHECK(test::text(run(rlhf::rao_kupper{}, in).status).find("tie") != std::string::npos);
  in.tie = b.tie;
  in.probability = {};
  CHECK(test::text(run(rlhf::rao_kupper{}, in).status).find("probability") != std::string::npos);
}

TEST_CASE("a capped margin") {
  const rlhf::prior_constrained f;
  const auto at = [&](double gap, double cap) { return f(rlhf::score_pair<double>{gap, 0, cap, {}, {}}); };
  for (const double gap : {-2.0, 0.3, 5.0}) {
    CHECK(at(gap, 4) == Approx(at(4 - gap, 4)).epsilon(1e-14));
    CHECK(at(gap, 700) == Approx(-log_sigmoid(gap)).epsilon(1e-14));  // a far cap is none
  }
  using D = rlhf::dual<double>;
  CHECK(std::abs(rlhf::derivative(f(rlhf::score_pair<D>{D::variable(2, 0), 0.0, 4, {}, {}}))) < 1e-16);
  const rlhf::similarity_cap cap{20, 0.001, -15};
  CHECK(cap(0.5) == Approx(24.92015968).epsilon(1e-9));
  CHECK(cap(1.0) < cap(0.2));

  scores b(4);
  const auto r = run(f, b.inputs());
  double over = 0, mean = 0, count = 0;
  for (std::size_t i = 0; i < b.mask.size(); ++i) {
    if (b.mask[i] == 0) continue;
    ++count;
    mean += b.margin[i];
    over += b.chosen[i] - b.rejected[i] > b.margin[i] ? 1 : 0;
  }
  CHECK(over > 0);
  CHECK(r.stats["over_cap"] == Approx(over / count));
  CHECK(r.stats["cap"] == Approx(mean / count));
  CHECK_FALSE(rlhf::prior_constrained{true, {-1}}.check());
  CHECK_FALSE(rlhf::prior_constrained{true, {1, -1}}.check());
  CHECK_FALSE(rlhf::prior_constrained{true, {1, 0, infinity}}.check());
  CHECK_FALSE(rlhf::thurstone{0}.check());
  CHECK_FALSE(rlhf::thurstone{infinity}.check());
}

TEST_CASE("scores of tokens: the mean over a span is the mean of pairs") {
  const std::int64_t rows = 3, width = 4;
  std::mt19937 random(5);
  auto chosen = test::uniform(random, 12, -2, 2), rejected = test::uniform(random, 12, -2, 2);
  const std::vector<std::uint8_t> mask{0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0};  // the last row has no position
  for (std::size_t i = 0; i < 12; ++i)
    if (mask[i] == 0) chosen[i] = not_a_number;
  rlhf::score_inputs<double> in;
  in.chosen = chosen;
  in.rejected = rejected;
  in.mask = mask;
  double loss = not_a_number;
  std::vector<double> grad(12, not_a_number);
  rlhf::score_outputs<double> out;
  out.loss = {&loss, 1};
  out.grad_chosen = grad;
  rlhf::reference_backend backend;
  const rlhf::reward_loss spans{rlhf::bradley_terry{}, rlhf::row_mean{}};
  REQUIRE(spans(backend, rlhf::padded(rows, width), in, out));
  double want = 0;
  for (std::size_t i = 0; i < 12; ++i) {
    const double n = i < 4 ? 2 : 4;
    if (mask[i] == 0) {
      CHECK(test::is_plain_zero(grad[i]));
      continue;
    }
    want -= log_sigmoid(chosen[i] - rejected[i]) / n / 3;
    CHECK(grad[i] == Approx(-sigmoid(rejected[i] - chosen[i]) / n / 3).epsilon(1e-13));
  }
  CHECK(loss == Approx(want).epsilon(1e-13));
  CHECK_FALSE(spans(backend, rlhf::padded(rows, width + 1), in, out));
}

namespace {

struct list_result {
  rlhf::status status;
  double loss = not_a_number;
  std::vector<double> grad, per_list;
};
template <class Objective>
list_result rank(const Objective& objective, const rlhf::layout<>& lists, const std::vector<double>& score,
                 const std::vector<std::uint8_t>& mask = {}, const std::vector<double>& weight = {}) {
  list_result r;
  r.grad.assign(score.size(), not_a_number);
  r.per_list.assign(static_cast<std::size_t>(lists.sequences), not_a_number);
  rlhf::ranking_inputs<double> in;
  in.score = score;
  if (!mask.empty()) in.mask = mask;
  if (!weight.empty()) in.weight = weight;
  rlhf::reference_backend backend;
  r.status = rlhf::ranking_loss<Objective>{objective}(backend, lists, in, {{&r.loss, 1}, r.grad, r.per_list});
  return r;
}

}  // namespace

TEST_CASE("ranked lists") {
  // A list of five, an empty one, one of one, one with gaps; garbage under the mask.
  std::mt19937 random(6);
  const std::int64_t rows = 4, width = 5;
  auto score = test::uniform(random, 20, -3, 3);
  std::vector<std::uint8_t> mask{1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1};
  const std::vector<double> weight{1, 5, 2, 0.5};
  for (std::size_t i = 0; i < 20; ++i)
    if (mask[i] == 0) score[i] = i % 2 == 0 ? not_a_number : infinity;
  const auto lists = rlhf::padded(rows, width);
  const auto check = [&](const auto& objective, auto value) {
    const auto r = rank(objective, lists, score, mask, weight);
    REQUIRE(r.status);
    double sum = 0;
    for (std::size_t s = 0; s < 4; ++s) {
      std::vector<double> list;
      std::vector<std::size_t> at;
      for (std::size_t i = 5 * s; i < 5 * s + 5; ++i)
        if (mask[i] != 0) {
          list.push_back(score[i]);
          at.push_back(i);
        } else {
          CHECK(test::is_plain_zero(r.grad[i]));
        }
      CHECK(r.per_list[s] == Approx(weight[s] * value(list)).epsilon(1e-12).margin(1e-15));
      sum += weight[s] * value(list) / 4;
      for (std::size_t k = 0; k < list.size(); ++k)
        CHECK(r.grad[at[k]] ==
              Approx(weight[s] / 4 * test::central_difference(value, list, k)).epsilon(1e-6).margin(1e-9));
    }
    CHECK(r.loss == Approx(sum).epsilon(1e-12));
  };
  for (const std::int64_t top : {0, 1, 2, 3, 4, 9}) {
    CAPTURE(top);
    check(rlhf::plackett_luce{top}, [&](const std::vector<double>& s) {
      const auto n = static_cast<std::int64_t>(s.size());
      double loss = 0;
      for (std::int64_t k = 0; k < std::min(n - 1, top > 0 ? top : n); ++k) {
        double rest = 0;
        for (std::int64_t j = k; j < n; ++j) rest += std::exp(s[static_cast<std::size_t>(j)]);
        loss += std::log(rest) - s[static_cast<std::size_t>(k)];
      }
      return loss;
    });
  }
  check(rlhf::ranked_pairs{}, [](const std::vector<double>& s) {
    double loss = 0, pairs = 0;
    for (std::size_t i = 0; i < s.size(); ++i)
      for (std::size_t j = i + 1; j < s.size(); ++j, ++pairs) loss -= log_sigmoid(s[i] - s[j]);
    return pairs > 0 ? loss / pairs : 0;
  });

  // Packed lists are the same lists.
  std::vector<double> valid;
  std::vector<std::int64_t> offsets{0};
  for (std::size_t i = 0; i < 20; ++i) {
    if (mask[i] != 0) valid.push_back(score[i]);
    if (i % 5 == 4) offsets.push_back(static_cast<std::int64_t>(valid.size()));
  }
  const auto padded = rank(rlhf::plackett_luce{}, lists, score, mask);
  const auto packed = rank(rlhf::plackett_luce{}, rlhf::packed(offsets), valid);
  CHECK(padded.loss == packed.loss);
  CHECK(padded.per_list == packed.per_list);

  // Two responses: Bradley-Terry. Shifted scores: the same. Far scores: finite.
  const auto two = rank(rlhf::plackett_luce{}, rlhf::padded(1, 2), {0.3, 1.1});
  CHECK(two.loss == Approx(-log_sigmoid(-0.8)).epsilon(1e-14));
  CHECK(rank(rlhf::ranked_pairs{}, rlhf::padded(1, 2), {0.3, 1.1}).loss == Approx(two.loss).epsilon(1e-14));
  const auto far = rank(rlhf::plackett_luce{}, rlhf::padded(1, 3), {-700, 0, 700});
  CHECK(far.loss == Approx(2100).epsilon(1e-12));
  CHECK(far.grad[2] == Approx(2).epsilon(1e-12));
  const auto near = rank(rlhf::plackett_luce{}, rlhf::padded(1, 3), {1000, 1000.5, 999});
  CHECK(near.loss == Approx(rank(rlhf::plackett_luce{}, rlhf::padded(1, 3), {0, 0.5, -1}).loss).epsilon(1e-12));

  CHECK(rank(rlhf::plackett_luce{}, rlhf::padded(0, 3), {}).status.code == rlhf::errc::empty_mask);
  CHECK(test::text(rank(rlhf::plackett_luce{-1}, lists, score, mask).status).find("top") != std::string::npos);
  CHECK(test::text(rank(rlhf::plackett_luce{}, rlhf::padded(1, 3), {1, 2}).status).find("score") != std::string::npos);
}

namespace {

template <class Formula>
std::pair<std::vector<double>, std::vector<double>> combine(const Formula& formula, const std::vector<double>& score,
                                                            std::int64_t members,
                                                            const std::vector<double>& upstream = {}) {
  const auto n = static_cast<std::int64_t>(score.size()) / members;
  std::vector<double> reward(static_cast<std::size_t>(n), not_a_number), grad(score.size(), not_a_number);
  rlhf::ensemble_outputs<double> out;
  out.reward = reward;
  out.grad_score = {grad.data(), members, n};
  if (!upstream.empty()) out.grad_reward = upstream;
  rlhf::reference_backend backend;
  REQUIRE(rlhf::ensemble_reward<Formula>{formula}(backend, rlhf::view<const double, 2>{score.data(), members, n}, out));
  return {reward, grad};
}

}  // namespace

TEST_CASE("ensembles") {
  std::mt19937 random(7);
  const auto check = [&](const auto& formula, auto value) {
    for (const std::int64_t members : {2, 3, 4, 5}) {
      CAPTURE(members);
      const auto m = static_cast<std::size_t>(members), n = std::size_t{6};
      const auto score = test::uniform(random, m * n, -2, 2), upstream = test::uniform(random, n, 0.5, 2);
      const auto [reward, grad] = combine(formula, score, members, upstream);
      for (std::size_t i = 0; i < n; ++i) {
        std::vector<double> one(m);
        for (std::size_t k = 0; k < m; ++k) one[k] = score[k * n + i];
        CHECK(reward[i] == Approx(value(one)).epsilon(1e-12));
        for (std::size_t k = 0; k < m; ++k)
          CHECK(grad[k * n + i] ==
                Approx(upstream[i] * test::central_difference(value, one, k)).epsilon(1e-6).margin(1e-9));
      }
    }
  };
  const auto mean = [](const std::vector<double>& x) {
    double sum = 0;
    for (const double v : x) sum += v;
    return sum / static_cast<double>(x.size());
  };
  const auto variance = [&](const std::vector<double>& x, double less) {
    double sum = 0;
    for (const double v : x) sum += (v - mean(x)) * (v - mean(x));
    return sum / (static_cast<double>(x.size()) - less);
  };
  using list = std::vector<double>;
  check(rlhf::ensemble_mean{}, mean);
  check(rlhf::worst_case{}, [](const list& x) { return *std::min_element(x.begin(), x.end()); });
  for (const bool sample : {false, true}) {
    const double less = sample ? 1 : 0;
    check(rlhf::uncertainty_weighted{0.3, sample}, [&](const list& x) { return mean(x) - 0.3 * variance(x, less); });
    check(rlhf::lower_confidence_bound{1.5, sample},
          [&](const list& x) { return mean(x) - 1.5 * std::sqrt(variance(x, less)); });
  }
  check(rlhf::ensemble_median{}, [](list x) {
    std::sort(x.begin(), x.end());
    return (x[(x.size() - 1) / 2] + x[x.size() / 2]) / 2;
  });

  // Ties: the first member. Members that agree: no spread, and no slope of it. One member: itself.
  CHECK(combine(rlhf::worst_case{}, {1, 1, 3}, 3).second == list{1, 0, 0});
  CHECK(combine(rlhf::ensemble_median{}, {2, 2, 2, 5}, 4).second == list{0, 0.5, 0.5, 0});
  CHECK(combine(rlhf::lower_confidence_bound{2}, {4, 4}, 2).second == list{0.5, 0.5});
  CHECK(combine(rlhf::lower_confidence_bound{2}, {4, 4}, 2).first == list{4});
  CHECK(combine(rlhf::uncertainty_weighted{0.5, true}, {4}, 1).first == list{4});
  CHECK(combine(rlhf::uncertainty_weighted{0.5, true}, {4}, 1).second == list{1});
  CHECK(combine(rlhf::uncertainty_weighted{0.5}, {1, 2, 4}, 3).first[0] == Approx(1.55555556).epsilon(1e-8));
  CHECK_FALSE(rlhf::uncertainty_weighted{-1}.check());
  CHECK_FALSE(rlhf::lower_confidence_bound{-1}.check());
  rlhf::reference_backend backend;
  list reward(2);
  rlhf::ensemble_outputs<double> wrong;
  wrong.reward = reward;
  const list three(3, 0.0);
  CHECK_FALSE(
      rlhf::ensemble_reward{rlhf::ensemble_mean{}}(backend, rlhf::view<const double, 2>{three.data(), 1, 3}, wrong));
}

namespace {

struct odin_batch {
  std::vector<double> x[6];  // chosen quality, length score, length; rejected the same
  std::vector<double> product{-0.3};
  std::vector<std::uint8_t> mask;
  explicit odin_batch(unsigned seed, std::size_t n = 9) : mask(n, 1) {
    std::mt19937 random(seed);
    for (int k = 0; k < 6; ++k) x[k] = test::uniform(random, n, k % 3 == 2 ? 5 : -2, k % 3 == 2 ? 80 : 2);
    mask[4] = 0;
    for (auto& v : x) v[4] = not_a_number;
  }
  [[nodiscard]] rlhf::odin_inputs<double> inputs() const {
    return {{x[0], x[1], x[2]}, {x[3], x[4], x[5]}, product, mask};
  }
};

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  double ma = 0, mb = 0, aa = 0, bb = 0, ab = 0;
  const double n = static_cast<double>(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ma += a[i] / n;
    mb += b[i] / n;
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    aa += (a[i] - ma) * (a[i] - ma);
    bb += (b[i] - mb) * (b[i] - mb);
    ab += (a[i] - ma) * (b[i] - mb);
  }
  return ab / std::sqrt(aa * bb);
}

double odin_value(const rlhf::odin& f, const odin_batch& b) {
  std::vector<double> q, l, t, length;
  double loss = 0, pairs = 0;
  for (std::size_t i = 0; i < b.mask.size(); ++i) {
    if (b.mask[i] == 0) continue;
    ++pairs;
    loss -= log_sigmoid(b.x[0][i] + b.x[1][i] - b.x[3][i] - b.x[4][i]);
    for (const int side : {0, 3}) {
      q.push_back(b.x[side][i]);
      l.push_back(b.x[side + 1][i]);
      t.push_back(q.back() + l.back());
      length.push_back(b.x[side + 2][i]);
    }
  }
  return loss / pairs + f.orthogonality * std::abs(b.product[0]) +
         f.correlation * (1 - correlation(length, l) + std::abs(correlation(length, q)) +
                          (f.total_correlation ? std::abs(correlation(length, t)) : 0));
}

struct odin_result {
  rlhf::status status;
  double loss = not_a_number, grad_product = not_a_number;
  std::vector<double> grad[4], per_pair;
  rlhf::statistics stats;
};
odin_result run_odin(const rlhf::odin& f, const rlhf::odin_inputs<double>& in) {
  odin_result r;
  const auto n = static_cast<std::size_t>(in.chosen.quality.extent);
  for (auto& g : r.grad) g.assign(n, not_a_number);
  r.per_pair.assign(n, not_a_number);
  rlhf::reference_backend backend;
  r.status = rlhf::odin_loss{f}(
      backend, in,
      {{&r.loss, 1}, {r.grad[0], r.grad[1]}, {r.grad[2], r.grad[3]}, {&r.grad_product, 1}, r.per_pair, &r.stats});
  return r;
}

}  // namespace

TEST_CASE("two heads: ODIN") {
  for (const bool third : {true, false})
    for (const unsigned seed : {1u, 2u, 3u}) {
      CAPTURE(third, seed);
      const rlhf::odin f{0.7, 1.3, third};
      const odin_batch b(seed);
      const auto r = run_odin(f, b.inputs());
      REQUIRE(r.status);
      CHECK(r.loss == Approx(odin_value(f, b)).epsilon(1e-12));
      CHECK(r.grad_product == -0.7);
      const int streams[] = {0, 1, 3, 4};
      for (int g = 0; g < 4; ++g)
        for (std::size_t i = 0; i < b.mask.size(); ++i) {
          if (b.mask[i] == 0) {
            CHECK(test::is_plain_zero(r.grad[g][i]));
            continue;
          }
          odin_batch above = b, below = b;
          const double h = 1e-5;
          above.x[streams[g]][i] += h;
          below.x[streams[g]][i] -= h;
          CHECK(r.grad[g][i] ==
                Approx((odin_value(f, above) - odin_value(f, below)) / (2 * h)).epsilon(1e-6).margin(1e-9));
        }
      CHECK(std::abs(r.stats["corr_quality"]) <= 1);
      CHECK(r.stats["corr_length"] != r.stats["corr_quality"]);
    }
}

TEST_CASE("two heads: lengths or scores that do not vary, nothing at all") {
  odin_batch b(4);
  for (const int k : {2, 5})
    for (std::size_t i = 0; i < b.mask.size(); ++i) b.x[k][i] = 0.1;  // its sums do not come out even
  const auto equal = run_odin({}, b.inputs());
  REQUIRE(equal.status);
  CHECK(equal.stats["corr_length"] == 0);
  for (std::size_t i = 0; i < b.mask.size(); ++i)
    if (b.mask[i] != 0) CHECK(equal.grad[0][i] == equal.grad[1][i]);  // Bradley-Terry alone
  odin_batch flat(5);
  for (const int k : {0, 3})
    for (std::size_t i = 0; i < flat.mask.size(); ++i) flat.x[k][i] = 1.7;
  const auto same = run_odin({}, flat.inputs());
  CHECK(same.stats["corr_quality"] == 0);
  CHECK(std::isfinite(same.loss));
  flat.product[0] = 0;
  CHECK(run_odin({}, flat.inputs()).grad_product == 0);
  const std::vector<std::uint8_t> none(flat.mask.size(), 0);
  auto in = flat.inputs();
  in.mask = none;
  const auto empty = run_odin({}, in);
  CHECK(empty.status.code == rlhf::errc::empty_mask);
  CHECK(empty.loss == 0);
  in.head_product = {};
  CHECK(test::text(run_odin({}, in).status).find("head_product") != std::string::npos);
  CHECK_FALSE(rlhf::odin{-1}.check());
  CHECK_FALSE(rlhf::odin{1, -1}.check());
}

TEST_CASE("scores trained on outcomes and ratings") {
  const std::vector<double> score{0.4, -2, 700, -700, 3}, outcome{1, 0.25, 1, 1, not_a_number};
  const std::vector<std::uint8_t> mask{1, 1, 1, 1, 0};
  rlhf::value_inputs<double> in;
  in.value = score;
  in.returns = outcome;
  in.mask = mask;
  double loss = not_a_number;
  std::vector<double> grad(5, not_a_number), each(5, not_a_number);
  rlhf::reference_backend backend;
  const rlhf::value_loss outcomes{rlhf::binary_outcome{}, rlhf::token_mean{}};
  REQUIRE(outcomes(backend, rlhf::padded(1, 5), in, {{&loss, 1}, grad, each, nullptr}));
  CHECK(each[0] == Approx(-log_sigmoid(0.4)));
  CHECK(each[1] == Approx(-0.25 * log_sigmoid(-2) - 0.75 * log_sigmoid(2)));
  CHECK(each[2] == Approx(std::exp(-700)).epsilon(1e-9));
  CHECK(each[3] == 700);
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(grad[i] == Approx((sigmoid(score[i]) - outcome[i]) / 4).epsilon(1e-12).margin(1e-300));
  CHECK(test::is_plain_zero(grad[4]));
  in.returns = {};
  CHECK(test::text(outcomes(backend, rlhf::padded(1, 5), in, {{&loss, 1}, grad, each, nullptr})).find("returns") !=
        std::string::npos);
}
