// The score of a response: of several functions and of several models, with heads for quality and length, by its length, its
// ending and its repetitions, on the scale of the scores so far, and as a weight in drawing rows anew.

#include <functional>
#include <map>

#include "property/batches.hpp"
#include "rlhf/backend/emulated.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/combined_reward.hpp"
#include "rlhf/driver/ensemble_reward.hpp"
#include "rlhf/driver/odin_loss.hpp"
#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/ensemble.hpp"
#include "rlhf/reward/length_shaping.hpp"
#include "rlhf/reward/resampling.hpp"
#include "rlhf/reward/running_scale.hpp"
#include "rlhf/reward/shaping.hpp"

namespace {

using namespace property;

std::size_t to_size(std::int64_t n) { return static_cast<std::size_t>(n); }

// ---- Ensembles: scores [members][responses].

enum : unsigned {
  between = 8,      ///< never outside the members' scores
  homogeneous = 16  ///< scores c times as large have a reward c times as large
};
constexpr auto ensembles = std::tuple{
    entry{"mean", rlhf::ensemble_mean{}, between | homogeneous},
    entry{"worst case", rlhf::worst_case{}, between | homogeneous},
    entry{"uncertainty-weighted", rlhf::uncertainty_weighted{}},
    entry{"uncertainty-weighted, sample", rlhf::uncertainty_weighted{.lambda = 0.1, .sample = true}},
    entry{"confidence bound", rlhf::lower_confidence_bound{}, homogeneous},
    entry{"confidence bound, sample", rlhf::lower_confidence_bound{.deviations = 1.7, .sample = true}, homogeneous},
    entry{"median", rlhf::ensemble_median{}, between | homogeneous},
};

struct scores {
  std::int64_t members = 0, responses = 0;
  std::vector<double> of{};
  [[nodiscard]] std::size_t at(std::int64_t k, std::int64_t i) const { return to_size(k * responses + i); }
};
struct judged {
  std::vector<double> reward, slope;
};
template <class T = double, class B = rlhf::reference_backend, class Formula>
judged call(const Formula& formula, const scores& s, const std::vector<double>& upstream = {}) {
  const std::vector<T> in(s.of.begin(), s.of.end()), up(upstream.begin(), upstream.end());
  std::vector<T> reward(to_size(s.responses), static_cast<T>(not_a_number)), slope(s.of.size(), static_cast<T>(0));
  rlhf::ensemble_outputs<T> out;
  out.reward = reward;
  out.grad_score = {slope.data(), s.members, s.responses};
  if (!up.empty()) out.grad_reward = up;
  B be;
  expect_done(rlhf::ensemble_reward{formula}(be, rlhf::view<const T, 2>{in.data(), s.members, s.responses}, out),
              "ensemble");
  return {{reward.begin(), reward.end()}, {slope.begin(), slope.end()}};
}
scores draw(numbers& random, std::int64_t members, std::int64_t responses, double range) {
  scores s{members, responses, std::vector<double>(to_size(members * responses))};
  for (double& x : s.of) x = random.chance(0.15) ? 0.1 : random.uniform(-range, range);
  return s;
}
/// Are two members closer than `gap` about a response?
bool close(const scores& s, std::int64_t i, double gap) {
  for (std::int64_t k = 0; k < s.members; ++k)
    for (std::int64_t j = 0; j < k; ++j)
      if (std::abs(s.of[s.at(k, i)] - s.of[s.at(j, i)]) <= gap) return true;
  return false;
}

// ---- Several functions: rewards [responses][functions].

struct opinions {
  std::int64_t responses = 0, functions = 0;
  std::vector<double> of{}, weight{}, paid{};
};
/// Rows stand `spare` numbers apart, which are garbage.
template <class T = double, class B = rlhf::reference_backend>
std::vector<double> combined(const rlhf::combined_reward& how, const opinions& o, std::int64_t spare = 0) {
  const std::int64_t pitch = o.functions + spare;
  std::vector<T> in(to_size(o.responses * pitch), static_cast<T>(infinity));
  for (std::int64_t i = 0; i < o.responses; ++i)
    for (std::int64_t k = 0; k < o.functions; ++k)
      in[to_size(i * pitch + k)] = static_cast<T>(o.of[to_size(i * o.functions + k)]);
  const std::vector<T> weight(o.weight.begin(), o.weight.end()), paid(o.paid.begin(), o.paid.end());
  std::vector<T> out(to_size(o.responses));
  rlhf::rewards_inputs<T> x;
  x.rewards = {in.data(), o.responses, o.functions, pitch};
  if (!weight.empty()) x.weight = weight;
  if (!paid.empty()) x.penalty = paid;
  B be;
  expect_done(rlhf::reward_combination{how}(be, x, out), "combined reward");
  return {out.begin(), out.end()};
}
/// The functions in this order; fewer where the order is shorter.
opinions functions_of(const opinions& o, const std::vector<std::size_t>& order) {
  opinions p{o.responses, static_cast<std::int64_t>(order.size()), {}, {}, o.paid};
  for (std::int64_t i = 0; i < o.responses; ++i)
    for (const auto k : order) p.of.push_back(o.of[to_size(i * o.functions) + k]);
  for (const auto k : order)
    if (!o.weight.empty()) p.weight.push_back(o.weight[k]);
  return p;
}
void expect_near(const char* what, const std::vector<double>& a, const std::vector<double>& b, double error) {
  for (std::size_t i = 0; i < a.size(); ++i)
    expect(near(a[i], b[i], error, 10), what, ": ", a[i], ", ", b[i], " at ", i);
}

// ---- ODIN: pairs of responses with two scores and a length each.

enum : std::size_t { chosen, rejected };  // sides
enum : std::size_t { quality, length_score, length, side_columns };
constexpr std::size_t column(std::size_t side, std::size_t what) { return side * side_columns + what; }
struct heads {
  double product = 0;
  rlhf::statistics* stats = nullptr;
};
template <class T = double, class B = rlhf::reference_backend>
outcome call(const rlhf::odin& objective, const batch& b, const heads& h) {
  std::vector<std::vector<T>> in, out(5, std::vector<T>(b.slots(), static_cast<T>(not_a_number)));
  for (const auto& x : b.columns) in.emplace_back(x.begin(), x.end());
  const T product = static_cast<T>(h.product);
  T loss = 0, slope = 0;
  rlhf::odin_inputs<T> x{{in[0], in[1], in[2]}, {in[3], in[4], in[5]}, {&product, 1}, b.mask_or_none()};
  rlhf::odin_outputs<T> y{{&loss, 1}, {out[0], out[1]}, {out[2], out[3]}, {&slope, 1}, out[4], h.stats};
  B be;
  expect_done(rlhf::odin_loss{objective}(be, x, y), "odin");
  outcome o;
  o.loss = static_cast<double>(loss);
  for (const auto& c : out) o.slots.emplace_back(c.begin(), c.end());
  o.slots.emplace_back(b.slots(), 0.0);
  for (std::size_t i = 0; i < b.slots(); ++i)
    if (b.valid(i)) o.slots.back()[i] = static_cast<double>(slope);
  return o;
}
/// How much the rounding of scores grows in slopes of their correlations: the scores' square over the least of their variances.
double steepness(const batch& b) {
  double most = 1, count = 0, sum[3] = {}, squares[3] = {};
  const auto each = [&](auto&& f) {
    for (const auto side : {chosen, rejected})
      for (std::size_t i = 0; i < b.slots(); ++i)
        if (b.valid(i)) {
          const double q = b.columns[column(side, quality)][i], l = b.columns[column(side, length_score)][i];
          const double of[] = {q, l, q + l};
          for (std::size_t k = 0; k < 3; ++k) f(k, of[k]);
        }
  };
  each([&](std::size_t k, double x) {
    most = std::max(most, std::abs(x));
    count += k == 0;
    sum[k] += x;
  });
  each([&](std::size_t k, double x) { squares[k] += (x - sum[k] / count) * (x - sum[k] / count); });
  double steepest = 1;
  for (const double square : squares)
    if (square > 0) steepest = std::max(steepest, most * most * count / square);
  return steepest;
}
batch draw_pairs(numbers& random, std::int64_t pairs, double range) {
  const bool same_length = random.chance(0.1);
  return make_batch(random, pairs, 1, 2 * side_columns, [=](numbers& from, double* x) {
    for (const auto side : {chosen, rejected}) {
      x[column(side, quality)] = from.uniform(-range, range);
      x[column(side, length_score)] = from.uniform(-range, range);
      x[column(side, length)] = same_length ? 100 : static_cast<double>(from.integer(1, 4096));
    }
  });
}

}  // namespace

TEST_CASE("ensembles: shifts, scales, bounds, slopes that add up to one") {
  for_all("ensembles", std::tuple_size_v<decltype(ensembles)>, [] {
    const std::int64_t members = integer(1, 6), responses = integer(0, 5);
    numbers random(seed());
    const double range = random.chance(0.2) ? 700 : 3, c = random.uniform(-40, 40);
    const scores s = draw(random, members, responses, range);
    scores further = s, twice = s;
    for (double& x : further.of) x += c;
    for (double& x : twice.of) x *= 2;
    std::vector<double> upstream(to_size(responses));
    for (double& g : upstream) g = random.uniform(-2, 2);
    const auto order = random.order(to_size(members)), places = random.order(to_size(responses));
    scores reordered = s, elsewhere = s;
    for (std::int64_t k = 0; k < members; ++k)
      for (std::int64_t i = 0; i < responses; ++i) {
        reordered.of[s.at(k, i)] = s.of[s.at(static_cast<std::int64_t>(order[to_size(k)]), i)];
        elsewhere.of[s.at(k, i)] = s.of[s.at(k, static_cast<std::int64_t>(places[to_size(i)]))];
      }
    const judged mean = call(rlhf::ensemble_mean{}, s);
    const auto check = [&](const auto& e) {
      expect(bool(rlhf::check_of(e.formula)), e.name, " refuses its parameters");
      const judged y = call(e.formula, s), z = call(e.formula, further), up = call(e.formula, s, upstream),
                   w = call(e.formula, reordered), v = call(e.formula, elsewhere), t = call(e.formula, twice);
      const judged emulated = call<double, rlhf::emulated_backend>(e.formula, s);
      for (std::int64_t i = 0; i < responses; ++i) {
        const auto at = to_size(i);
        double low = infinity, high = -infinity, sum = 0, size = 1;
        for (std::int64_t k = 0; k < members; ++k) {
          low = std::min(low, s.of[s.at(k, i)]);
          high = std::max(high, s.of[s.at(k, i)]);
          sum += y.slope[s.at(k, i)];
          size = std::max(size, std::abs(y.slope[s.at(k, i)]));
        }
        const double r = y.reward[at], width = 1 + high - low;
        expect(std::isfinite(r), e.name, " is ", r);
        expect(near(sum, 1, 1e-11, size), e.name, ": slopes add up to ", sum);
        expect((e.traits & between) == 0 || (r >= low - 1e-13 * range && r <= high + 1e-13 * range), e.name, " is ", r,
               " of scores from ", low, " to ", high);
        expect((e.traits & between) != 0 || r <= mean.reward[at] + 1e-12 * range, e.name, " is ", r,
               ", above the mean ", mean.reward[at]);
        expect(near(z.reward[at], r + c, 1e-12, 40 + width * width), e.name, ": scores ", c, " higher make ", r, " to ",
               z.reward[at]);
        expect((e.traits & homogeneous) == 0 || same_bits(t.reward[at], 2 * r), e.name, ": scores twice as large make ",
               r, " to ", t.reward[at]);
        expect(near(w.reward[at], r, 1e-12, width * width), e.name, ": another order of the members makes ", r, " to ",
               w.reward[at]);
        expect(same_bits(v.reward[at], y.reward[places[at]]), e.name, ": a response looks at its neighbours");
        expect(near(emulated.reward[at], r, 1e-12, width), e.name, ": another backend has another reward");
        for (std::int64_t k = 0; k < members; ++k) {
          const double g = y.slope[s.at(k, i)];
          expect(near(up.slope[s.at(k, i)], g * upstream[at], 1e-12), e.name, ": slope ", g, " times ", upstream[at],
                 " is ", up.slope[s.at(k, i)]);
          expect(near(emulated.slope[s.at(k, i)], g, 1e-10, size), e.name, ": another backend has another slope");
          // Which of two equal members has the slope goes by their order.
          if (close(s, i, 1e-3)) continue;
          expect(near(w.slope[s.at(k, i)], y.slope[s.at(static_cast<std::int64_t>(order[to_size(k)]), i)], 1e-9, size),
                 e.name, ": another order of the members makes other slopes");
          expect(near(z.slope[s.at(k, i)], g, 1e-8, size), e.name, ": a shift makes slope ", g, " to ",
                 z.slope[s.at(k, i)]);
        }
      }
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, ensembles);
  });
}

TEST_CASE("ensembles: slopes are derivatives, float is near double") {
  for_all("slopes", std::tuple_size_v<decltype(ensembles)>, [] {
    const std::int64_t members = integer(1, 6);
    numbers random(seed());
    scores s = draw(random, members, 1, 3);
    for (double& x : s.of) x = static_cast<float>(x);
    const auto check = [&](const auto& e) {
      const judged y = call(e.formula, s), narrow = call<float>(e.formula, s);
      expect(near(narrow.reward[0], y.reward[0], 1e-6, 1), e.name, " is ", narrow.reward[0], " in float, ",
             y.reward[0]);
      if (close(s, 0, 0.02)) return;
      const double h = 2e-4;
      for (std::size_t k = 0; k < to_size(members); ++k) {
        const auto value = [&](double by) {
          scores moved = s;
          moved.of[k] += by;
          return call(e.formula, moved).reward[0];
        };
        const double slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
        expect(near(slope, y.slope[k], 1e-7, 1), e.name, ": slope ", y.slope[k], ", differences give ", slope);
        expect(near(narrow.slope[k], y.slope[k], 1e-6, 1), e.name, ": slope ", narrow.slope[k], " in float, ",
               y.slope[k]);
      }
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, ensembles);
  });
}

TEST_CASE("ensembles: members that agree, a single one, two, and prices of nothing") {
  for_all("reductions", std::tuple_size_v<decltype(ensembles)>, [] {
    const std::int64_t members = integer(1, 9);
    numbers random(seed());
    const double x = random.uniform(-700, 700);
    const scores agreed{members, 1, std::vector<double>(to_size(members), x)};
    const auto check = [&](const auto& e) {
      const judged y = call(e.formula, agreed), alone = call(e.formula, scores{1, 1, {x}});
      expect(near(y.reward[0], x, 1e-14), e.name, " of members that say ", x, " is ", y.reward[0]);
      expect(alone.reward[0] == x && alone.slope[0] == 1, e.name, " of one member that says ", x, " is ",
             alone.reward[0], " with slope ", alone.slope[0]);
      if ((e.traits & between) == 0)
        for (const double g : y.slope)
          expect(near(g, 1 / static_cast<double>(members), 1e-9), e.name, " of ", members, " members that say ", x,
                 " has the slope ", g);
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, ensembles);
    const scores s = draw(random, members, 1, 3), two = draw(random, 2, 1, 3);
    const judged mean = call(rlhf::ensemble_mean{}, s);
    const auto expect_mean = [&](const char* what, const judged& y, const judged& want) {
      expect(near(y.reward[0], want.reward[0], 1e-12, 1), what, " is ", y.reward[0], ", the mean ", want.reward[0]);
      for (std::size_t k = 0; k < y.slope.size(); ++k)
        expect(near(y.slope[k], want.slope[k], 1e-12), what, " has the slope ", y.slope[k]);
    };
    expect_mean("a variance of no price", call(rlhf::uncertainty_weighted{.lambda = 0}, s), mean);
    expect_mean("a bound of no deviation", call(rlhf::lower_confidence_bound{.deviations = 0}, s), mean);
    expect_mean("the median of two", call(rlhf::ensemble_median{}, two), call(rlhf::ensemble_mean{}, two));
    // Of two members the standard deviation is half their distance, that of a sample by the root of 2 more.
    const double gap = std::abs(two.of[0] - two.of[1]), middle = (two.of[0] + two.of[1]) / 2;
    const auto expect_two = [&](const char* what, const judged& y, double want) {
      expect(near(y.reward[0], want, 1e-12, 3), what, " of ", two.of[0], " and ", two.of[1], " is ", y.reward[0],
             ", not ", want);
    };
    expect_two("the worst case", call(rlhf::worst_case{}, two), middle - gap / 2);
    for (const bool sample : {false, true}) {
      const double deviation = sample ? gap / std::sqrt(2.0) : gap / 2;
      expect_two("the confidence bound", call(rlhf::lower_confidence_bound{.sample = sample}, two), middle - deviation);
      expect_two("the weighted uncertainty", call(rlhf::uncertainty_weighted{.lambda = 0.5, .sample = sample}, two),
                 middle - 0.5 * deviation * deviation);
    }
  });
}

TEST_CASE("combined rewards: functions that do not apply, order, weights, bounds and penalties") {
  for_all("combined", 1, [] {
    const std::int64_t responses = integer(0, 6), functions = integer(1, 5), spare = integer(0, 2);
    numbers random(seed());
    const double range = random.chance(0.2) ? 700 : 3, low = random.uniform(-range, 0), high = random.uniform(0, range);
    opinions o{responses, functions, {}, {}, {}};
    for (std::int64_t i = 0; i < responses * functions; ++i)
      o.of.push_back(random.chance(0.3) ? not_a_number : random.uniform(-range, range));
    for (std::int64_t k = 0; k < functions; ++k) o.weight.push_back(random.uniform(-1, 2));
    for (std::int64_t i = 0; i < responses; ++i) o.paid.push_back(random.uniform(-range, range));
    const rlhf::combined_reward free{}, bounded{.low = low, .high = high},
        priced{.penalty = random.uniform(-1, 1), .low = low, .high = high};
    const auto plain = combined(free, o), within = combined(bounded, o), net = combined(priced, o);
    const auto same = [](const std::vector<double>& a, const std::vector<double>& b) {
      for (std::size_t i = 0; i < a.size(); ++i)
        if (!same_bits(a[i], b[i]) && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
      return a.size() == b.size();
    };
    for (std::size_t i = 0; i < to_size(responses); ++i) {
      double sum = 0, size = 0;
      for (std::size_t k = 0; k < to_size(functions); ++k) {
        const double r = o.of[i * to_size(functions) + k];
        if (std::isnan(r)) continue;
        sum += o.weight[k] * r;
        size += 1;
      }
      expect(std::isnan(plain[i]) == (size == 0), "a response that ", size, " functions scored has the reward ",
             plain[i]);
      if (size == 0) continue;
      expect(near(plain[i], sum, 1e-12, range), "the weighted sum ", sum, " becomes ", plain[i]);
      expect(same_bits(within[i], std::min(std::max(plain[i], low), high)), "a sum of ", plain[i], " becomes ",
             within[i], " within ", low, " and ", high);
      expect(near(net[i], within[i] - priced.penalty * o.paid[i], 1e-15), "what is paid comes off as ",
             within[i] - net[i]);
    }
    expect(same(combined(priced, o, spare), net), "rows further apart have other rewards");
    // What is paid at no price, and by nobody.
    opinions nobody = o, garbage = o, dropped = o, unit = o, scaled = o;
    nobody.paid.clear();
    for (double& x : garbage.paid) x = random.garbage();
    expect(same(combined(priced, nobody), within), "without a penalty to pay there is one");
    expect(same(combined(bounded, garbage), within), "a penalty at no price counts");
    // A function that applies nowhere is as good as none.
    const std::size_t gone = to_size(random.integer(0, functions - 1));
    std::vector<std::size_t> others;
    for (std::size_t k = 0; k < to_size(functions); ++k)
      if (k != gone) others.push_back(k);
    for (std::size_t i = 0; i < to_size(responses); ++i) dropped.of[i * to_size(functions) + gone] = not_a_number;
    if (functions > 1)
      expect(same(combined(priced, dropped), combined(priced, functions_of(o, others))),
             "a function that applies nowhere has a say");
    expect_near("another order of the functions", plain,
                combined(free, functions_of(o, random.order(to_size(functions)))), 1e-12 * range);
    unit.weight.assign(to_size(functions), 1);
    opinions unweighted = o;
    unweighted.weight.clear();
    expect(same(combined(priced, unit), combined(priced, unweighted)), "weights of 1 are not none");
    for (double& w : scaled.weight) w *= 4;
    const auto times = combined(free, scaled);
    for (std::size_t i = 0; i < plain.size(); ++i)
      expect(std::isnan(plain[i]) || times[i] == 4 * plain[i], "four times the weights make ", plain[i], " to ",
             times[i]);
    opinions one = functions_of(unweighted, {0});
    expect(same(combined(free, one), one.of), "one function is not its own sum");
    for (auto* column : {&o.of, &o.weight, &o.paid})
      for (double& x : *column) x = static_cast<float>(x);
    const rlhf::combined_reward exact{.penalty = 0.5, .low = -1.5, .high = 2};
    expect_near("in float", combined(exact, o), combined<float>(exact, o), 1e-6 * range);
    expect_near("on another backend", combined(exact, o), combined<double, rlhf::emulated_backend>(exact, o),
                1e-13 * range);
  });
}

TEST_CASE("odin: the mask, the order, the packing, and what does not count") {
  for_all("odin", 1, [] {
    const std::int64_t pairs = integer(0, 10);
    numbers random(seed());
    batch b = draw_pairs(random, pairs, 3);
    const double product = random.uniform(-1, 1);
    const rlhf::odin objective{.orthogonality = random.uniform(0, 2),
                               .correlation = random.uniform(0, 2),
                               .total_correlation = random.chance(0.7)};
    const auto run = [&](const batch& x) { return call(objective, x, {product}); };
    expect_mask_holds("odin", b, random, run);
    const double steep = steepness(b);
    expect_permutes("odin", b, random, run, 1e-9 + 1e-13 * steep);
    expect_packs("odin", b, run, 1e-9 + 1e-13 * steep);
    const auto moved_by = [&](double scale, double by, std::size_t what) {
      batch moved = b;
      for (const auto side : {chosen, rejected})
        for (double& x : moved.columns[column(side, what)]) x = scale * x + by;
      return run(moved);
    };
    const outcome o = run(b);
    const double c = random.uniform(-5, 5);
    const auto expect_same = [&](const char* what, const outcome& y) {
      expect(near(o.loss, y.loss, 1e-9, 1), what, " makes ", o.loss, " to ", y.loss);
      for (std::size_t k = 0; k < o.slots.size(); ++k)
        for (std::size_t i = 0; i < b.slots(); ++i)
          expect(near(o.slots[k][i], y.slots[k][i], 1e-8 + 1e-13 * steep, 1), what, " makes ", o.slots[k][i], " to ",
                 y.slots[k][i]);
    };
    // With two responses a correlation is 1 or -1 whatever their distance, and its slope the rounding of 0 over it.
    expect_same("more quality everywhere", moved_by(1, c, quality));
    expect_same("a higher length score everywhere", moved_by(1, c, length_score));
    expect_same("another unit of the length", moved_by(random.uniform(0.1, 3), random.uniform(0, 50), length));
    expect_same("another backend", call<double, rlhf::emulated_backend>(objective, b, {product}));
    expect(near(o.loss, call<float>(objective, b, {product}).loss, 1e-4, 1), "odin is ", o.loss, ", in float ",
           call<float>(objective, b, {product}).loss);
  });
}

TEST_CASE("odin: Bradley-Terry and bounded terms, whose slopes cancel") {
  for_all("odin's parts", 1, [] {
    const std::int64_t pairs = integer(1, 10);
    numbers random(seed());
    const double range = random.chance(0.2) ? 700 : 3;
    batch b = draw_pairs(random, pairs, range);
    b.mask[0] = 1;
    const rlhf::odin all{.orthogonality = 0.5, .correlation = random.uniform(0, 2)};
    rlhf::odin only = all;
    only.correlation = 0;
    const double product = random.uniform(-1, 1);
    rlhf::statistics stats;
    const outcome o = call(all, b, {product, &stats}), ranking = call(only, b, {product});
    expect(std::isfinite(o.loss), "odin is ", o.loss);
    for (const auto& c : o.slots)
      for (const double x : c) expect(std::isfinite(x), "odin has the slope ", x);
    // Without the correlations: Bradley-Terry on the sums of the heads.
    std::vector<double> sums[2], grad[2] = {std::vector<double>(b.slots()), std::vector<double>(b.slots())};
    for (const auto side : {chosen, rejected})
      for (std::size_t i = 0; i < b.slots(); ++i)
        sums[side].push_back(b.columns[column(side, quality)][i] + b.columns[column(side, length_score)][i]);
    double loss = 0;
    rlhf::score_inputs<double> in;
    in.chosen = sums[chosen];
    in.rejected = sums[rejected];
    in.mask = b.mask_or_none();
    rlhf::score_outputs<double> out;
    out.loss = {&loss, 1};
    out.grad_chosen = grad[chosen];
    out.grad_rejected = grad[rejected];
    rlhf::reference_backend be;
    expect_done(rlhf::reward_loss{rlhf::bradley_terry{}}(be, in, out), "bradley-terry");
    expect(near(ranking.loss, loss + 0.5 * std::abs(product), 1e-12, 1), "odin without correlations is ", ranking.loss,
           ", bradley-terry ", loss);
    for (const auto side : {chosen, rejected})
      for (const std::size_t head : {quality, length_score})
        for (std::size_t i = 0; i < b.slots(); ++i)
          expect(near(ranking.slots[2 * side + head][i], grad[side][i], 1e-12, 1e-3), "odin's slope is ",
                 ranking.slots[2 * side + head][i], ", bradley-terry's ", grad[side][i]);
    // 1 - rho, |rho| and |rho|.
    const double penalty = o.loss - ranking.loss;
    expect(penalty >= -1e-9 * range && penalty <= 4 * all.correlation + 1e-9 * range, "the correlations cost ", penalty,
           " at ", all.correlation);
    const double want =
        all.correlation * (1 - stats["corr_length"] + std::abs(stats["corr_quality"]) + std::abs(stats["corr_total"]));
    expect(near(penalty, want, 1e-9, range), "the correlations cost ", penalty, ", not ", want);
    // A correlation does not see a shift of all scores, nor their scale: slopes add up to 0, alone and times the scores.
    double shift[2] = {}, scale = 0, size = 0;
    for (const auto side : {chosen, rejected})
      for (const std::size_t head : {quality, length_score})
        for (std::size_t i = 0; i < b.slots(); ++i) {
          if (!b.valid(i)) continue;
          const double g = o.slots[2 * side + head][i] - ranking.slots[2 * side + head][i];
          shift[head] += g;
          scale += g * b.columns[column(side, head)][i];
          size += std::abs(g) * range + 1;
        }
    const double room = size * (1e-11 + 1e-13 * steepness(b));
    expect(std::abs(shift[0]) <= room && std::abs(shift[1]) <= room, "slopes add up to ", shift[0], " and ", shift[1]);
    expect(std::abs(scale) <= room * range, "slopes times scores add up to ", scale);
    // Differences, away from correlations of 0 and from batches in which the rounding of a correlation is all there is.
    if (range > 3 || pairs < 3 || std::abs(stats["corr_quality"]) < 0.01 || std::abs(stats["corr_total"]) < 0.01)
      return;
    const auto i = to_size(random.integer(0, pairs - 1));
    for (const auto side : {chosen, rejected})
      for (const std::size_t head : {quality, length_score}) {
        const auto value = [&](double by) {
          batch moved = b;
          moved.columns[column(side, head)][i] += by;
          return call(all, moved, {product}).loss;
        };
        const double h = 2e-4, slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
        if (std::abs(value(2 * h) - value(-2 * h)) > 2e-3)
          continue;  // a steep place: few responses, near to each other
        expect(near(slope, o.slots[2 * side + head][i], 1e-6, 1), "slope ", o.slots[2 * side + head][i],
               ", differences give ", slope);
      }
  });
}

TEST_CASE("penalties of the length: where they begin and end, and that they fall") {
  for_all("lengths", 1, [] {
    const double max_length = real(1, 4096), buffer = max_length * real(0.01, 1), factor = real(0, 3),
                 n = real(0, 10000), more = n + real(0, 100), room = 1e-9 * (1 + factor) * (1 + max_length / buffer);
    using rlhf::soft_overlong;
    const auto with = [&](soft_overlong::beyond ending) { return soft_overlong{max_length, buffer, factor, ending}; };
    const auto floor = with(soft_overlong::beyond::floor), capped = with(soft_overlong::beyond::capped),
               open = with(soft_overlong::beyond::unbounded);
    expect(same_bits(floor(n), capped(n)), "floor is ", floor(n), ", capped ", capped(n));
    expect(open(n) <= floor(n) + room && (n > max_length || near(open(n), floor(n), 1e-12, factor)),
           "without a floor the penalty is ", open(n), ", with one ", floor(n));
    expect(floor(n) <= 0 && floor(n) >= -factor * (1 + 1e-12), "a penalty of ", floor(n), " of at most ", factor);
    expect(floor(max_length - buffer - n) == 0, "a penalty before the buffer");
    expect(near(open(max_length), -factor, 1e-9, max_length / buffer), "at the end it is ", open(max_length));
    for (const auto& p : {floor, open}) {
      expect(p(more) <= p(n), n, " tokens cost ", p(n), ", ", more, " ", p(more));
      expect(p(n) - p(more) <= factor / buffer * (more - n) + room, "the penalty falls from ", p(n), " to ", p(more));
    }

    const rlhf::cosine_length wave{max_length};
    for (const bool correct : {false, true}) {
      const double start = correct ? 1 : -1, end = correct ? 0.5 : -0.5, y = wave(n, correct);
      expect(y >= std::min(start, end) && y <= std::max(start, end), "the cosine is ", y);
      expect(correct ? wave(more, correct) <= y : wave(more, correct) >= y, "the cosine turns between ", n, " and ",
             more);
      expect(n < max_length || near(y, end, 1e-15), "beyond the end the cosine is ", y);
      expect(wave(0, correct) == start, "without length the cosine is ", wave(0, correct));
      if (n <= max_length)
        expect(near(y + wave(max_length - n, correct), start + end, 1e-10), "the cosine is not odd about its middle");
    }
  });
}

TEST_CASE("endings: what they leave as it is") {
  for_all("endings", 1, [] {
    const double r = real(-700, 700), p = real(0, 5), c = real(-2, 1), low = real(-700, 0), high = real(0, 700);
    expect(same_bits(rlhf::missing_eos{p}(r, true), r) && same_bits(rlhf::missing_eos{p, true}(r, true), r),
           "a response that ended loses ", r);
    expect(rlhf::missing_eos{p}(r, false) == r - p, "a penalty of ", p, " leaves ", rlhf::missing_eos{p}(r, false),
           " of ", r);
    expect(same_bits(rlhf::missing_eos{-p, true}(r, false), -p), "a reward that is replaced by ", -p, " is ",
           rlhf::missing_eos{-p, true}(r, false));
    const rlhf::stop_properly cut{c};
    expect(bool(cut.check()) && same_bits(cut(r, false), r), "a response that ended loses ", r);
    expect(cut(r, true) == (c < 0 ? c : c * r) && (c < 0 || std::abs(cut(r, true)) <= std::abs(r)),
           "one that did not, ", r, ", has ", cut(r, true), " at ", c);
    expect(same_bits(rlhf::stop_properly{1}(r, true), r), "a factor of 1 changes ", r);
    const rlhf::score_clip clip{low, high};
    const double y = clip(r);
    expect(y == std::min(std::max(r, low), high) && same_bits(clip(y), y), r, " is clipped to ", y);
    expect(same_bits(rlhf::score_clip{}(r), r), "without bounds ", r, " is clipped");
  });
}

TEST_CASE("repetition: by which tokens are the same, from either end") {
  for_all("repetition", 1, [] {
    const std::int64_t length = integer(0, 24), n = integer(1, 4), vocabulary = integer(1, 5);
    const double p = -real(0, 2);
    numbers random(seed());
    std::vector<std::int64_t> tokens;
    for (std::int64_t i = 0; i < length; ++i) tokens.push_back(random.integer(0, vocabulary - 1));
    const rlhf::repetition_penalty penalty{n, p};
    const auto of = [&](std::int64_t size, auto token) { return penalty(size, token); };
    const double y = of(length, [&](std::int64_t i) { return tokens[to_size(i)]; });
    const std::int64_t all = length - n + 1;
    expect(y <= 0 && y >= p && (all > 0 || y == 0), length, " tokens cost ", y, " of at most ", p);
    const auto names = random.order(to_size(vocabulary));
    expect(y == of(length, [&](std::int64_t i) { return names[to_size(tokens[to_size(i)])]; }),
           "other names of the tokens cost something else");
    expect(y == of(length, [&](std::int64_t i) { return tokens[to_size(length - 1 - i)]; }), "read backwards ", y,
           " becomes something else");
    expect(of(length, [](std::int64_t i) { return i; }) == 0, "tokens that are all different cost something");
    const double worst = of(length, [](std::int64_t) { return 3; });
    expect(worst <= y && (all <= 0 || near(worst, p * (1 - 1 / static_cast<double>(all)), 1e-12, 1)),
           "one token over and over costs ", worst);
    if (all <= 0) return;
    // The number of different n-grams, counted by their names.
    std::map<std::vector<std::int64_t>, int> seen;
    for (std::int64_t i = 0; i < all; ++i) ++seen[{tokens.begin() + i, tokens.begin() + i + n}];
    expect(near(y, p * (1 - static_cast<double>(seen.size()) / static_cast<double>(all)), 1e-12, 1), seen.size(),
           " of ", all, " different cost ", y);
  });
}

TEST_CASE("the running scale: any order, any split, any unit") {
  for_all("running scale", 1, [] {
    const std::int64_t n = integer(0, 30);
    numbers random(seed());
    const double range = random.chance(0.2) ? 700 : 2, offset = random.uniform(-5, 5), clip = random.uniform(0.1, 3);
    std::vector<double> x(to_size(n));
    for (double& v : x) v = random.chance(0.2) ? 1 : random.uniform(-range, range);
    const auto order = random.order(x.size());
    rlhf::running_scale all, shuffled, first, second, moved, doubled, raw{.center = false};
    for (std::size_t i = 0; i < x.size(); ++i) {
      all.add(x[i]);
      shuffled.add(x[order[i]]);
      (i % 3 == 0 ? first : second).add(x[i]);
      moved.add(x[i] + offset);
      doubled.add(2 * x[i]);
      raw.add(x[i]);
    }
    first.seen.merge(second.seen);
    const double s = random.uniform(-range, range), y = all(s);
    double low = infinity, high = -infinity;
    for (const double v : x) low = std::min(low, v), high = std::max(high, v);
    if (!(high > low)) {
      // One score, or the same over and over: nothing to divide by.
      expect(all.deviation() == 0 && std::isfinite(y) && near(y, s - (n > 0 ? low : 0), 1e-12, 1),
             "scores that are all ", low, " make ", s, " to ", y);
      return;
    }
    const double scale = (1 + range + std::abs(offset)) / all.deviation();
    expect(near(shuffled(s), y, 1e-11, scale), "another order makes ", y, " to ", shuffled(s));
    expect(near(first(s), y, 1e-11, scale), "two machines make ", y, " to ", first(s));
    expect(near(moved(s + offset), y, 1e-11, scale), "a shift makes ", y, " to ", moved(s + offset));
    expect(same_bits(doubled(2 * s), y), "another unit makes ", y, " to ", doubled(2 * s));
    expect(same_bits(raw(s), s / raw.deviation()), "without a centre ", s, " becomes ", raw(s));
    all.clip = clip;
    expect(all(s) == std::min(std::max(y, -clip), clip), y, " is clipped to ", all(s));
    all.clip = infinity;
    double sum = 0, squares = 0;
    for (const double v : x) sum += all(v), squares += all(v) * all(v);
    expect(std::abs(sum) <= 1e-10 * static_cast<double>(n) * scale && near(squares, static_cast<double>(n - 1), 1e-9),
           "scaled scores add up to ", sum, ", their squares to ", squares);
  });
}

TEST_CASE("rows drawn anew: which may be drawn, in any unit, from any end") {
  using rule = rlhf::filtered_resampling::rule;
  for_all("resampling", 3, [] {
    const std::int64_t n = integer(0, 12), count = integer(0, 20);
    const std::int64_t seed_of = seed();
    numbers random(seed());
    std::vector<double> reward(to_size(n));
    for (double& r : reward) r = random.chance(0.3) ? 0 : random.uniform(-3, 3);
    const rlhf::random_numbers source{{.seed = static_cast<std::uint64_t>(seed_of)}};
    for (const rule how : {rule::power, rule::extremes, rule::best}) {
      const rlhf::filtered_resampling resample{.how = how, .power = random.uniform(0.5, 3)};
      const auto rows = [&](std::int64_t draws, const std::function<double(double)>& f) {
        std::vector<std::int64_t> taken;
        resample(
            n, draws, [&](std::int64_t i) { return f(reward[to_size(i)]); }, source,
            [&](std::int64_t k, std::int64_t i) {
              expect(k == static_cast<std::int64_t>(taken.size()), "draw ", k, " comes out of turn");
              taken.push_back(i);
            });
        return taken;
      };
      const auto taken = rows(count, [](double r) { return r; });
      expect(taken.size() == (n > 0 ? to_size(count) : 0), taken.size(), " rows are drawn, not ", count);
      double low = infinity, high = -infinity;
      bool any = false;
      for (const double r : reward) low = std::min(low, r), high = std::max(high, r), any = any || r != 0;
      for (const auto i : taken) {
        expect(i >= 0 && i < n, "row ", i, " of ", n, " is drawn");
        const double r = reward[to_size(i)];
        expect(how != rule::power || r != 0 || !any, "a row without a reward is drawn");
        expect(how != rule::extremes || r == low || r == high, "a row in the middle is drawn");
      }
      expect(taken == rows(count, [](double r) { return 4 * r; }), "another unit of the reward draws other rows");
      if (how == rule::power)
        expect(taken == rows(count, [](double r) { return -r; }), "the sign of the reward counts");
      else
        expect(taken == rows(count, [](double r) { return 1 + r * r * r; }),
               "more than the order of the rewards counts");
      const auto longer = rows(count + 5, [](double r) { return r; });
      expect(std::equal(taken.begin(), taken.end(), longer.begin()), "more draws change the first ones");
    }
  });
}
