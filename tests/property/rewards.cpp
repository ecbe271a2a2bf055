// Reward-model objectives: scores of pairs, and ranked lists.

#include "property/batches.hpp"
#include "property/items.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/ranking_loss.hpp"
#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/prior_constrained.hpp"
#include "rlhf/reward/ranking.hpp"
#include "rlhf/reward/thurstone.hpp"
#include "rlhf/reward/ties.hpp"

namespace {

using namespace property;

// The fields of a pair of scores, in its order.
enum : std::size_t { chosen, rejected, tie, margin, probability, all_fields };

/// Won, lost or tied.
void outcome_of_three(double* x) { x[probability] = x[probability] > 0.66 ? 1 : x[probability] < 0.33 ? 0 : 0.5; }
void strong_tie(double* x) {
  outcome_of_three(x);
  x[tie] = std::abs(x[tie]) + 0.05;
}
void positive_cap(double* x) { x[margin] = std::abs(x[margin]) + 0.1; }

constexpr auto formulas = std::tuple{
    entry{"bradley-terry", rlhf::bradley_terry{}, margin_only},
    entry{"bradley-terry, smoothed", rlhf::bradley_terry{.label_smoothing = 0.1}, margin_only},
    entry{"bradley-terry, centered", rlhf::bradley_terry{.center = 0.01}},
    entry{"bradley-terry, margin", rlhf::bradley_terry{.use_margin = true}, margin_only},
    entry{"bradley-terry, soft labels", rlhf::bradley_terry{.soft_labels = true}, margin_only},
    entry{"pcrm", rlhf::prior_constrained{}, margin_only, positive_cap},
    entry{"thurstone", rlhf::thurstone{.standard_deviation = 1.3}, margin_only},
    entry{"davidson", rlhf::davidson{}, margin_only, outcome_of_three},
    entry{"rao-kupper", rlhf::rao_kupper{}, margin_only, strong_tie},
};
using family = item_family<rlhf::score_pair, formulas, 3>;
using any = family::any;

std::vector<double> extreme() { return {real(-700, 700), real(-700, 700), real(-50, 50), real(0, 50), real(0, 1)}; }
void fill(numbers& random, double* x) {
  x[chosen] = random.uniform(-3, 3);
  x[rejected] = random.uniform(-3, 3);
  x[tie] = random.uniform(-2, 2);
  x[margin] = random.uniform(0.1, 2);
  x[probability] = random.uniform(0, 1);
}
std::vector<double> ordinary() {
  numbers random(seed());
  std::vector<double> x(all_fields);
  fill(random, x.data());
  return x;
}

outcome call(const any& formula, batch b) {
  std::vector<double> x;
  for (std::size_t i = 0; i < b.slots(); ++i)
    if (b.valid(i)) {
      x = b.get(i);
      formula.place(x.data());
      b.put(i, x);
    }
  outcome o;
  o.slots.assign(3, std::vector<double>(b.slots(), not_a_number));
  const double strength = 0.7;
  rlhf::score_inputs<double> in;
  in.chosen = b.columns[chosen];
  in.rejected = b.columns[rejected];
  in.margin = b.columns[margin];
  in.probability = b.columns[probability];
  in.mask = b.mask_or_none();
  in.tie = {&strength, 1};
  rlhf::score_outputs<double> out;
  out.loss = {&o.loss, 1};
  out.grad_chosen = o.slots[0];
  out.grad_rejected = o.slots[1];
  out.per_pair = o.slots[2];
  rlhf::reference_backend be;
  expect_done(rlhf::reward_loss{formula}(be, in, out), formula.name());
  return o;
}

outcome call_lists(const char* name, const auto& formula, const batch& b) {
  outcome o;
  o.slots.assign(1, std::vector<double>(b.slots(), not_a_number));
  o.rows.assign(1, std::vector<double>(static_cast<std::size_t>(b.rows), not_a_number));
  rlhf::ranking_inputs<double> in;
  in.score = b.columns[0];
  in.mask = b.mask_or_none();
  rlhf::ranking_outputs<double> out;
  out.loss = {&o.loss, 1};
  out.grad_score = o.slots[0];
  out.per_list = o.rows[0];
  rlhf::reference_backend be;
  expect_done(rlhf::ranking_loss{formula}(be, b.layout(), in, out), name);
  return o;
}

constexpr auto lists = std::tuple{
    entry{"plackett-luce", rlhf::plackett_luce{}},
    entry{"plackett-luce, top 2", rlhf::plackett_luce{.top = 2}},
    entry{"ranked pairs", rlhf::ranked_pairs{}},
};
/// `holds(entry, random, batch)` for lists of scores in [-range, range].
template <class Holds>
void for_lists(const char* what, double range, Holds holds) {
  for_all(what, std::tuple_size_v<decltype(lists)>, [&] {
    const std::int64_t rows = integer(0, 6), width = integer(1, 7);
    numbers random(seed());
    const batch b =
        make_batch(random, rows, width, 1, [&](numbers& from, double* x) { x[0] = from.uniform(-range, range); });
    std::apply([&](const auto&... e) { (holds(e, random, b), ...); }, lists);
  });
}

}  // namespace

TEST_CASE("scores: finite where the definition is") {
  family::finite("finite", extreme, [](std::vector<double>&, double) {});
}
TEST_CASE("scores: float is near double") { family::single_precision("float", ordinary); }
TEST_CASE("scores: slopes are derivatives") { family::slopes("slopes", ordinary); }

TEST_CASE("scores: only the difference counts, and the sides may change places") {
  for_all("shift", any::count, [] {
    const auto drawn = ordinary();
    const double c = real(-40, 40);
    family::each([&](const any& formula) {
      if (!formula.has(margin_only)) return;
      const auto x = family::placed(formula, drawn);
      auto there = x;
      there[chosen] += c;
      there[rejected] += c;
      const auto y = family::at<double>(formula, x), z = family::at<double>(formula, there);
      expect(near(y.value, z.value, 1e-11, 1), family::text(formula, x), " is ", y.value, ", both sides ", c,
             " further ", z.value);
      expect(near(y.partial[0], -y.partial[1], 1e-12, 1e-12), family::text(formula, x),
             " has slopes that do not cancel");
    });
    // Models of three outcomes: the loser's points are what the winner's are not.
    for (const std::size_t which : {any::count - 2, any::count - 1}) {
      const any formula{which};
      auto x = family::placed(formula, drawn), swapped = x;
      std::swap(swapped[chosen], swapped[rejected]);
      swapped[probability] = 1 - x[probability];
      const auto y = family::at<double>(formula, x), z = family::at<double>(formula, swapped);
      expect(near(y.value, z.value, 1e-12) && near(y.partial[0], z.partial[1], 1e-12, 1e-3), family::text(formula, x),
             " is another from the other side");
    }
  });
}

TEST_CASE("scores: reductions to Bradley-Terry") {
  static constexpr auto same = std::tuple{
      entry{"bradley-terry", rlhf::bradley_terry{}},
      entry{"margin 0", rlhf::bradley_terry{.use_margin = true}, 0, [](double* x) { x[margin] = 0; }},
      entry{"certain labels", rlhf::bradley_terry{.soft_labels = true}, 0, [](double* x) { x[probability] = 1; }},
      entry{"pcrm without a cap", rlhf::prior_constrained{}, 0, [](double* x) { x[margin] = infinity; }},
      entry{"davidson, nu 0", rlhf::davidson{}, 0, [](double* x) { x[tie] = -infinity, x[probability] = 1; }},
      entry{"rao-kupper, theta 1", rlhf::rao_kupper{}, 0, [](double* x) { x[tie] = 0, x[probability] = 1; }},
  };
  using group = item_family<rlhf::score_pair, same, 2>;
  for_all("reductions", group::any::count, [] {
    const auto x = ordinary();
    const auto plain = group::at<double>({0}, x);
    group::each([&](const group::any& formula) {
      const auto y = group::at<double>(formula, group::placed(formula, x));
      expect(near(y.value, plain.value, 1e-12) && near(y.partial[0], plain.partial[0], 1e-12) &&
                 near(y.partial[1], plain.partial[1], 1e-12),
             group::text(formula, x), " is ", y.value, ", bradley-terry ", plain.value);
    });
    // A list of two.
    batch b;
    b.rows = 1;
    b.width = 2;
    b.columns = {{x[chosen], x[rejected]}};
    for (const auto& two :
         {call_lists("plackett-luce", rlhf::plackett_luce{}, b), call_lists("ranked pairs", rlhf::ranked_pairs{}, b)})
      expect(near(two.loss, plain.value, 1e-12) && near(two.slots[0][0], plain.partial[0], 1e-12), "a list of two is ",
             two.loss, ", bradley-terry ", plain.value);
  });
}

TEST_CASE("scores: the mask, the order and the packing of a batch") {
  for_all("batches", any::count, [] {
    const std::int64_t pairs = integer(0, 12);
    numbers random(seed());
    const batch b = make_batch(random, pairs, 1, all_fields, fill);
    family::each([&](const any& formula) {
      const auto run = [&](const batch& x) { return call(formula, x); };
      expect_mask_holds(formula.name(), b, random, run);
      expect_permutes(formula.name(), b, random, run);
      expect_packs(formula.name(), b, run);
    });
  });
}

TEST_CASE("lists: the mask, the order and the packing of a batch") {
  for_lists("batches", 3, [](const auto& e, numbers& random, const batch& b) {
    const auto run = [&](const batch& x) { return call_lists(e.name, e.formula, x); };
    expect_mask_holds(e.name, b, random, run);
    expect_permutes(e.name, b, random, run);
    expect_packs(e.name, b, run);
  });
}
TEST_CASE("lists: finite, and only differences count") {
  for_lists("finite", 700, [](const auto& e, numbers& random, batch b) {
    const auto far = call_lists(e.name, e.formula, b);
    expect(std::isfinite(far.loss), e.name, " is ", far.loss);
    for (const double g : far.slots[0]) expect(std::isfinite(g), e.name, " has the slope ", g);
    const double c = random.uniform(-40, 40);
    for (double& x : b.columns[0]) x += c;
    const auto moved = call_lists(e.name, e.formula, b);
    expect(near(far.loss, moved.loss, 1e-11, 1), e.name, " is ", far.loss, ", further on ", moved.loss);
  });
}
TEST_CASE("lists: slopes are derivatives") {
  for_lists("slopes", 3, [](const auto& e, numbers& random, const batch& b) {
    if (b.slots() == 0) return;
    const auto i = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(b.slots()) - 1));
    const auto loss = [&](double by) {
      batch moved = b;
      moved.columns[0][i] += by;
      return call_lists(e.name, e.formula, moved).loss;
    };
    const double h = 1e-3, slope = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h);
    const double got = call_lists(e.name, e.formula, b).slots[0][i];
    expect(near(slope, got, 1e-6, 1e-4), e.name, ": slope ", got, ", differences give ", slope);
  });
}
