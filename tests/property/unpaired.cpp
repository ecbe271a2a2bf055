// Objectives of single responses.

#include "rlhf/objective/unpaired.hpp"
#include "property/batches.hpp"
#include "property/items.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/objective/exploration.hpp"
#include "rlhf/objective/mixture.hpp"

namespace {

using namespace property;

// The fields of a labelled response, in its order.
enum : std::size_t { logp, label, ref_logp, reference_point, length, all_fields };

constexpr auto formulas = std::tuple{
    entry{"kto", rlhf::kto{.beta = 0.3, .desirable_weight = 1.5, .undesirable_weight = 0.5}, margin_only},
    entry{"apo zero", rlhf::apo_zero_unpaired{.beta = 0.3}},
    entry{"bco", rlhf::bco{.beta = 0.3}},
    entry{"una, rating", rlhf::una_rating{.beta = 0.3}},
    entry{"una, binary", rlhf::una_binary{.beta = 0.3}},
    entry{"una, reward", rlhf::una_reward{.beta = 0.3}},
    entry{"negative preference", rlhf::negative_preference{.beta = 0.3}},
    entry{"optimism", rlhf::optimism{.coefficient = 0.01}},
    entry{"nash-md", rlhf::nash_md{.beta = 0.1}, stops_gradient},
    entry{"a*-po", rlhf::optimal_advantage_regression{.beta = 0.1}},
    entry{"mixture", rlhf::mixture{rlhf::weighted{rlhf::kto{}, 0.8}, rlhf::weighted{rlhf::una_binary{}, 0.2}}},
};
using family = item_family<rlhf::labelled_response, formulas, 1>;
using any = family::any;

void fill(numbers& random, double* x) {
  x[logp] = random.uniform(-12, -3);
  x[label] = random.chance(0.5) ? 1 : 0;
  x[ref_logp] = random.uniform(-12, -3);
  x[reference_point] = random.uniform(0, 2);
  x[length] = static_cast<double>(random.integer(1, 9));
}
std::vector<double> extreme() {
  return {real(-700, 0), real(0, 1), real(-700, 0), real(0, 50), static_cast<double>(integer(0, 4096))};
}
std::vector<double> ordinary() {
  numbers random(seed());
  std::vector<double> x(all_fields);
  fill(random, x.data());
  return x;
}

outcome call(const any& formula, const batch& b) {
  outcome o;
  o.slots.assign(2, std::vector<double>(b.slots(), not_a_number));
  rlhf::unpaired_inputs<double> in;
  in.logp = b.columns[logp];
  in.label = b.columns[label];
  in.ref_logp = b.columns[ref_logp];
  in.reference_point = b.columns[reference_point];
  in.length = b.columns[length];
  in.mask = b.mask_or_none();
  rlhf::unpaired_outputs<double> out;
  out.loss = {&o.loss, 1};
  out.grad_logp = o.slots[0];
  out.per_response = o.slots[1];
  rlhf::reference_backend be;
  expect_done(rlhf::unpaired_loss{formula}(be, in, out), formula.name());
  return o;
}

}  // namespace

TEST_CASE("unpaired: finite where the definition is") {
  family::finite("finite", extreme, [](std::vector<double>&, double) {});
}
TEST_CASE("unpaired: float is near double") { family::single_precision("float", ordinary); }
TEST_CASE("unpaired: slopes are derivatives") { family::slopes("slopes", ordinary); }

TEST_CASE("unpaired: only the log-ratio counts") {
  for_all("shift", any::count, [] {
    const auto x = ordinary();
    const double c = real(-40, 40);
    family::each([&](const any& formula) {
      if (formula.has(stops_gradient)) return;
      auto there = x;
      there[logp] += c;
      there[ref_logp] += c;
      expect(near(family::at<double>(formula, x).value, family::at<double>(formula, there).value, 1e-11, 1),
             family::text(formula, x), " is another ", c, " further");
      if (!formula.has(margin_only)) return;  // of the log-ratio less the reference point
      there = x;
      there[logp] += c;
      there[reference_point] += c;
      expect(near(family::at<double>(formula, x).value, family::at<double>(formula, there).value, 1e-11, 1),
             family::text(formula, x), " is another with its reference point ", c, " further");
    });
  });
}

TEST_CASE("unpaired: reductions to simpler methods") {
  for_all("reductions", 4, [] {
    auto x = ordinary();
    const auto at = [&](const auto& f) {
      rlhf::labelled_response<rlhf::dual<double>> r;
      rlhf::labelled_response<rlhf::dual<double>>::visit(r, seeded<rlhf::labelled_response, double, 1>{x.data()});
      return f(r);
    };
    const auto expect_same = [&](const char* what, const auto& a, const auto& b) {
      expect(near(a.value, b.value, 1e-12, 1e-3) && near(a.partial[0], b.partial[0], 1e-12, 1e-3), what, ": ", a.value,
             ", ", b.value);
    };
    x[reference_point] = 0;
    expect_same("kto with K = 0 is apo zero", at(rlhf::kto{.beta = 0.3}), at(rlhf::apo_zero_unpaired{.beta = 0.3}));
    expect_same("bco with delta 0 is una on a label", at(rlhf::bco{.beta = 0.3}), at(rlhf::una_binary{.beta = 0.3}));
    expect_same("a*-po with V* = 0 is una on rewards", at(rlhf::optimal_advantage_regression{.beta = 0.3}),
                at(rlhf::una_reward{.beta = 0.3}));
    // una's cross entropy with a label of 1 or 0 is logistic regression on z
    const double z = 0.3 * (x[logp] - x[ref_logp]);
    expect(near(at(rlhf::una_binary{.beta = 0.3}).partial[0], 0.3 * (1 / (1 + std::exp(-z)) - x[label]), 1e-12, 1e-3),
           "una on a label is not logistic regression at z = ", z);
  });
}

TEST_CASE("unpaired: the mask, the order and the packing of a batch") {
  for_all("batches", any::count, [] {
    const std::int64_t responses = integer(0, 12);
    numbers random(seed());
    const batch b = make_batch(random, responses, 1, all_fields, fill);
    family::each([&](const any& formula) {
      const auto run = [&](const batch& x) { return call(formula, x); };
      expect_mask_holds(formula.name(), b, random, run);
      expect_permutes(formula.name(), b, random, run);
      expect_packs(formula.name(), b, run);
    });
  });
}
