// Pair objectives.

#include <tuple>

#include "property/batches.hpp"
#include "property/items.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/mixture.hpp"
#include "rlhf/objective/one_of.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/objective/self_play.hpp"

namespace {

using namespace property;
using rlhf::reward_aware_dpo;

// The fields of a pair, in its order: chosen, rejected, their references, lengths and rewards, the margin, the previous
// log-probabilities.
enum : std::size_t {
  chosen,
  rejected,
  ref_chosen,
  ref_rejected,
  chosen_length,
  rejected_length,
  chosen_reward,
  rejected_reward,
  margin,
  previous_chosen,
  previous_rejected,
  all_fields
};

/// ORPO's odds are infinite at probability 1.
void less_than_certain(double* x) {
  for (const auto side : {chosen, rejected})
    x[side] = std::min(x[side], -1e-3 * std::max(x[chosen_length + side], 1.0));
}
void positive_cap(double* x) { x[margin] = std::abs(x[margin]) + 0.1; }

constexpr auto formulas = std::tuple{
    entry{"dpo", rlhf::dpo_sigmoid{.beta = 0.3}, margin_only},
    entry{"dpo, smoothed", rlhf::dpo_sigmoid{.beta = 0.3, .label_smoothing = 0.1}, margin_only},
    entry{"dpo, per token", rlhf::dpo_sigmoid_norm{.beta = 2, .label_smoothing = 0.2}},
    entry{"hinge", rlhf::dpo_hinge{.beta = 0.3}, margin_only},
    entry{"ipo", rlhf::ipo{.beta = 0.2}},
    entry{"ipo, sums", rlhf::ipo_sum{.beta = 0.2}, margin_only},
    entry{"robust dpo", rlhf::dpo_robust{.beta = 0.3, .label_smoothing = 0.2}, margin_only},
    entry{"rebel", rlhf::rebel{.eta = 0.7}, margin_only},
    entry{"rebel, paper", rlhf::rebel{.eta = 0.7, .paper_scaling = true}, margin_only},
    entry{"nca", rlhf::nca_pair{.beta = 0.3}},
    entry{"bco", rlhf::bco_pair{.beta = 0.3, .delta = 0.4}},
    entry{"sppo, hard", rlhf::sppo_hard{.beta = 0.4}},
    entry{"sppo", rlhf::sppo{.beta = 0.4}},
    entry{"apo zero", rlhf::apo_zero{.beta = 0.3}},
    entry{"apo down", rlhf::apo_down{.beta = 0.3}},
    entry{"exo", rlhf::exo_pair{.beta = 0.3, .label_smoothing = 0.01}, margin_only},
    entry{"discopop", rlhf::discopop{.beta = 0.2, .temperature = 0.5}, margin_only},
    entry{"dpo positive", rlhf::dpo_positive{.beta = 0.3, .lambda = 2}},
    entry{"dpo, length", rlhf::length_regularised_dpo{.beta = 0.3, .alpha = 0.02}, margin_only},
    entry{"dpo, length, per token", rlhf::length_regularised_dpo{.beta = 2, .alpha = 0.02, .per_token = true}},
    entry{"reward aware", reward_aware_dpo{.beta = 0.3, .eta = 2}, margin_only},
    entry{"reward aware, forward", reward_aware_dpo{.beta = 0.3, .measure = reward_aware_dpo::distance::forward_kl},
          margin_only},
    entry{"reward aware, square", reward_aware_dpo{.beta = 0.3, .measure = reward_aware_dpo::distance::square},
          margin_only},
    entry{"dpo, offset", rlhf::dpo_offset{.beta = 0.3}, margin_only},
    entry{"pcrm", rlhf::pcrm_dpo{.beta = 0.3}, margin_only, positive_cap},
    entry{"pcrm, smoothed", rlhf::pcrm_dpo{.beta = 0.3, .label_smoothing = 0.1}, margin_only, positive_cap},
    entry{"dpo, forward kl", rlhf::with_divergence{rlhf::dpo_sigmoid{}, rlhf::forward_kl{}}, exponential},
    entry{"dpo, jensen-shannon", rlhf::with_divergence{rlhf::dpo_sigmoid{}, rlhf::jensen_shannon{}}},
    entry{"dpo, alpha", rlhf::with_divergence{rlhf::dpo_sigmoid{}, rlhf::alpha_divergence{.alpha = 0.6}}, exponential},
    entry{"dpo, free", rlhf::reference_free{rlhf::dpo_sigmoid{}}, margin_only},
    entry{"cpo", rlhf::cpo{.beta = 0.3, .label_smoothing = 0.1}, margin_only},
    entry{"cpo, hinge", rlhf::cpo_hinge{.beta = 0.3}, margin_only},
    entry{"cpo, ipo", rlhf::cpo_ipo{.beta = 0.3}},
    entry{"simpo", rlhf::simpo{.beta = 2, .gamma = 0.5, .label_smoothing = 0.1}},
    entry{"simpo, hinge", rlhf::simpo_hinge{.beta = 2, .gamma = 0.5}},
    entry{"alphapo", rlhf::alphapo{.beta = 2, .gamma = 0.5, .alpha = 0.25}, exponential},
    entry{"simper", rlhf::simper{}},
    entry{"orpo", rlhf::orpo{.beta = 0.5}, 0, less_than_certain},
    entry{"slic", rlhf::slic_reference_free{.beta = 1, .nll_weight = 0.1}},
    entry{"ranked dpo", rlhf::ranked{rlhf::dpo_sigmoid{.beta = 0.3}}, margin_only},
    entry{"xpo", rlhf::xpo{rlhf::dpo_sigmoid{.beta = 0.3}, 0.01}},
    entry{"inpo", rlhf::inpo{.tau = 0.1, .inverse_step = 0.3}, margin_only},
    entry{"mixture", rlhf::mixture{rlhf::weighted{rlhf::dpo_sigmoid{}, 0.8}, rlhf::weighted{rlhf::bco_pair{}, 0.2}}},
};
using family = item_family<rlhf::pair, formulas, 2>;
using any = family::any;

std::vector<double> extreme() {
  std::vector<double> x(all_fields);
  for (const auto k : {chosen, rejected, ref_chosen, ref_rejected, previous_chosen, previous_rejected})
    x[k] = real(-700, 0);
  for (const auto k : {chosen_length, rejected_length})
    x[k] = static_cast<double>(integer(0, 3) == 0 ? integer(0, 1) : integer(1, 4096));
  for (const auto k : {chosen_reward, rejected_reward}) x[k] = real(-50, 50);
  x[margin] = real(-50, 50);
  return x;
}
void shrink(std::vector<double>& x, double factor) {
  for (const auto k : {chosen, rejected, ref_chosen, ref_rejected, previous_chosen, previous_rejected}) x[k] *= factor;
}
void fill(numbers& random, double* x) {
  for (const auto k : {chosen, rejected, ref_chosen, ref_rejected, previous_chosen, previous_rejected})
    x[k] = random.uniform(-12, -3);
  for (const auto k : {chosen_length, rejected_length}) x[k] = static_cast<double>(random.integer(1, 9));
  for (const auto k : {chosen_reward, rejected_reward}) x[k] = random.uniform(0, 1);
  x[margin] = random.uniform(0.1, 2);
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
  rlhf::pair_inputs<double> in;
  const auto& c = b.columns;
  in.chosen = c[chosen];
  in.rejected = c[rejected];
  in.ref_chosen = c[ref_chosen];
  in.ref_rejected = c[ref_rejected];
  in.chosen_length = c[chosen_length];
  in.rejected_length = c[rejected_length];
  in.chosen_reward = c[chosen_reward];
  in.rejected_reward = c[rejected_reward];
  in.margin = c[margin];
  in.previous_chosen = c[previous_chosen];
  in.previous_rejected = c[previous_rejected];
  in.mask = b.mask_or_none();
  rlhf::pair_outputs<double> out;
  out.loss = {&o.loss, 1};
  out.grad_chosen = o.slots[0];
  out.grad_rejected = o.slots[1];
  out.per_pair = o.slots[2];
  rlhf::reference_backend be;
  expect_done(rlhf::preference_loss{formula, rlhf::batch_mean{}, rlhf::chosen_nll{.weight = 0.1}}(be, in, out),
              formula.name());
  return o;
}
template <class Holds>
void for_batches(const char* what, Holds holds) {
  for_all(what, any::count, [&] {
    const std::int64_t pairs = integer(0, 12);
    numbers random(seed());
    const batch b = make_batch(random, pairs, 1, all_fields, fill);
    family::each([&](const any& formula) { holds(formula, b, random); });
  });
}

}  // namespace

TEST_CASE("pairs: finite where the definition is") { family::finite("finite", extreme, shrink); }
TEST_CASE("pairs: float is near double") { family::single_precision("float", ordinary); }
TEST_CASE("pairs: slopes are derivatives") { family::slopes("slopes", ordinary); }

TEST_CASE("pairs: losses of the margin do not see a shift of both sides") {
  for_all("shift", any::count, [] {
    const auto x = ordinary();
    const double c = real(-40, 40);
    family::each([&](const any& formula) {
      if (!formula.has(margin_only)) return;
      const auto here = family::placed(formula, x);
      auto there = here;
      for (const auto k : {chosen, rejected}) there[k] += c;
      const auto y = family::at<double>(formula, here), z = family::at<double>(formula, there);
      expect(near(y.value, z.value, 1e-11, 1) && near(y.partial[0], z.partial[0], 1e-11, 1),
             family::text(formula, here), " is ", y.value, ", both sides ", c, " further ", z.value);
      // and the slopes of the two sides cancel
      expect(near(y.partial[0], -y.partial[1], 1e-12, 1e-12), family::text(formula, here), " has the slopes ",
             y.partial[0], " and ", y.partial[1]);
      auto rewards = here;
      for (const auto k : {chosen_reward, rejected_reward}) rewards[k] += c;
      expect(near(family::at<double>(formula, rewards).value, y.value, 1e-11, 1), family::text(formula, here),
             " sees a shift of both rewards");
    });
  });
}

TEST_CASE("pairs: reductions to simpler methods") {
  using rlhf::dpo_sigmoid;
  static constexpr auto same = std::tuple{
      entry{"dpo", dpo_sigmoid{.beta = 0.3}},
      entry{"dpo offset 0", rlhf::dpo_offset{.beta = 0.3}, 0, [](double* x) { x[margin] = 0; }},
      entry{"pcrm without a cap", rlhf::pcrm_dpo{.beta = 0.3}, 0, [](double* x) { x[margin] = infinity; }},
      entry{"robust, no smoothing", rlhf::dpo_robust{.beta = 0.3, .label_smoothing = 0}},
      entry{"dpo positive, lambda 0", rlhf::dpo_positive{.beta = 0.3, .lambda = 0}},
      entry{"length, alpha 0", rlhf::length_regularised_dpo{.beta = 0.3, .alpha = 0}},
      entry{"per token, length 1", rlhf::dpo_sigmoid_norm{.beta = 0.3}, 0, [](double* x) { x[chosen_length] = x[rejected_length] = 1; }},
      entry{"alpha divergence 1", rlhf::with_divergence{dpo_sigmoid{.beta = 0.3}, rlhf::alpha_divergence{.alpha = 1}}},
      entry{"xpo, alpha 0, rewards in order", rlhf::xpo{dpo_sigmoid{.beta = 0.3}, 0}, 0, [](double* x) { x[chosen_reward] = 2; }},
      entry{"mixture of one", rlhf::mixture{rlhf::weighted{dpo_sigmoid{.beta = 0.3}, 1}}},
      entry{"cpo, reference taken off", rlhf::cpo{.beta = 0.3}, 0, [](double* x) {
              for (const auto side : {chosen, rejected}) x[side] -= x[ref_chosen + side];
            }},
  };
  using group = item_family<rlhf::pair, same, 2>;
  for_all("reductions to dpo", group::any::count, [] {
    const auto x = ordinary();
    const auto dpo = group::at<double>({0}, x);
    group::each([&](const group::any& formula) {
      const auto y = group::at<double>(formula, group::placed(formula, x));
      expect(near(y.value, dpo.value, 1e-12, 1e-3) && near(y.partial[0], dpo.partial[0], 1e-12, 1e-3) &&
                 near(y.partial[1], dpo.partial[1], 1e-12, 1e-3),
             group::text(formula, x), " is ", y.value, ", dpo ", dpo.value);
    });
  });
  // The other pairs of a method and what it becomes.
  for_all("other reductions", 4, [] {
    auto x = ordinary();
    const auto at = [&](const auto& f) {
      rlhf::pair<rlhf::dual<double, 2>> p;
      rlhf::pair<rlhf::dual<double, 2>>::visit(p, seeded<rlhf::pair, double, 2>{x.data()});
      return f(p);
    };
    const auto expect_same = [&](const char* what, const auto& a, const auto& b) {
      expect(near(a.value, b.value, 1e-11, 1e-3) && near(a.partial[0], b.partial[0], 1e-11, 1e-3), what, ": ", a.value,
             ", ", b.value);
    };
    expect_same("alphapo, alpha 0, and simpo", at(rlhf::alphapo{.beta = 2, .gamma = 0.5, .alpha = 0}),
                at(rlhf::simpo{.beta = 2, .gamma = 0.5}));
    expect_same("reward aware, square, is rebel in units of the logit",
                at(reward_aware_dpo{.beta = 1, .eta = 0.7, .measure = reward_aware_dpo::distance::square}),
                at(rlhf::rebel{.eta = 0.7}));
    x[previous_chosen] = x[ref_chosen];
    x[previous_rejected] = x[ref_rejected];
    expect_same("inpo whose last iterate is the reference, and ipo", at(rlhf::inpo{.tau = 0.1, .inverse_step = 0.3}),
                at(rlhf::ipo_sum{.beta = 0.3}));
    x = ordinary();
    x[chosen_length] = x[rejected_length] = 1;
    expect_same("ipo at length 1", at(rlhf::ipo{.beta = 0.2}), at(rlhf::ipo_sum{.beta = 0.2}));
  });
}

TEST_CASE("pairs: the mask, the order and the packing of a batch") {
  for_batches("mask", [](const any& formula, const batch& b, numbers& random) {
    expect_mask_holds(formula.name(), b, random, [&](const batch& x) { return call(formula, x); });
  });
  for_batches("order", [](const any& formula, const batch& b, numbers& random) {
    expect_permutes(formula.name(), b, random, [&](const batch& x) { return call(formula, x); });
  });
  for_batches("masked pairs left out", [](const any& formula, const batch& b, numbers&) {
    expect_packs(formula.name(), b, [&](const batch& x) { return call(formula, x); });
  });
}
