// Token objectives, penalties and value losses, alone and through their drivers.

#include "property/batches.hpp"
#include "property/items.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/expectile.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/negative_feedback.hpp"
#include "rlhf/objective/token.hpp"
#include "rlhf/objective/value.hpp"
#include "rlhf/objective/weighted.hpp"
#include "rlhf/reward/outcome.hpp"

namespace {

using namespace property;

namespace of_token {

// The fields of a token, in its order.
enum : std::size_t {
  logp,
  entropy,
  old_logp,
  ref_logp,
  rollout_logp,
  advantage,
  sequence_log_ratio,
  score,
  all_fields
};

constexpr auto formulas = std::tuple{
    entry{"nll", rlhf::negative_log_likelihood{}},
    entry{"reinforce", rlhf::reinforce{}},
    entry{"ppo", rlhf::ppo_clip{}, exponential},
    entry{"ppo, dual clip", rlhf::ppo_clip{.low = 0.2, .high = 0.28, .dual_clip = 3}, exponential},
    entry{"ppo, bounded", rlhf::ppo_clip{.ratio_bound = 4, .log_ratio_bound = 20}},
    entry{"entropy bonus", rlhf::entropy_bonus{}},
    entry{"k1", rlhf::k1{}},
    entry{"absolute", rlhf::absolute{}},
    entry{"k2", rlhf::k2{}},
    entry{"k3", rlhf::k3{}, exponential},
    entry{"k3, bounded", rlhf::k3{.log_ratio_bound = 20, .bound = 10}},
    entry{"k3 with k2's gradient", rlhf::value_and_gradient{rlhf::k3{}, rlhf::k2{}}, exponential | stops_gradient},
    entry{"k3, importance weighted", rlhf::importance_weighted{rlhf::k3{}}, exponential},
    entry{"kl penalty", rlhf::kl_penalty{rlhf::k2{}, 0.1}},
    entry{"both", rlhf::both{rlhf::kl_penalty{rlhf::k2{}, 0.1}, rlhf::entropy_bonus{0.02}}},
    entry{"sampler jensen-shannon", rlhf::sampler_jensen_shannon{}, exponential},
    entry{"cispo", rlhf::cispo{.high = 5}, stops_gradient | exponential},
    entry{"cispo, through", rlhf::cispo{.low = 0.5, .high = 2, .through = true}, exponential},
    entry{"masked importance", rlhf::masked_importance{}, stops_gradient},
    entry{"importance sampling", rlhf::importance_sampling{}, exponential},
    entry{"sapo", rlhf::sapo{}, exponential},
    entry{"dro", rlhf::direct_reward_optimisation{}},
    entry{"dppo, tv", rlhf::dppo_total_variation{}, stops_gradient},
    entry{"dppo, tv, through", rlhf::dppo_total_variation{.low = 0.4, .high = 0.4, .through_ratio = true},
          stops_gradient | exponential},
    entry{"dppo, kl", rlhf::dppo_binary_kl{}, stops_gradient},
    entry{"importance with pull", rlhf::importance_with_pull{.bound = 0.5}, exponential},
    entry{"gspo, token", rlhf::gspo_token{}, stops_gradient | exponential},
    entry{"decoupled ppo", rlhf::decoupled_ppo{}, exponential},
    entry{"topr", rlhf::topr{}, stops_gradient},
    entry{"dynamic fine-tuning", rlhf::dynamic_fine_tuning{}, stops_gradient},
    entry{"bnf", rlhf::bidirectional_negative_feedback{}, stops_gradient},
    entry{"nash-md", rlhf::nash_md_token{}, stops_gradient},
};
using family = item_family<rlhf::token, formulas, 2>;
using any = family::any;

std::vector<double> extreme() {
  std::vector<double> x(all_fields);
  for (const auto k : {logp, old_logp, ref_logp, rollout_logp}) x[k] = real(-700, 0);
  x[entropy] = real(0, 12);
  x[advantage] = real(-5, 5);
  x[sequence_log_ratio] = real(-10, 10);
  x[score] = real(-1, 1);
  return x;
}
void shrink(std::vector<double>& x, double factor) {
  for (const auto k : {logp, old_logp, ref_logp, rollout_logp}) x[k] *= factor;
}
void fill(numbers& random, double* x) {
  x[old_logp] = random.uniform(-3, -0.5);
  x[logp] = x[old_logp] + random.uniform(-0.4, 0.4);
  x[ref_logp] = random.uniform(-3, -0.05);
  x[rollout_logp] = x[old_logp] + random.uniform(-0.1, 0.1);
  x[entropy] = random.uniform(0, 2);
  x[advantage] = random.uniform(-2, 2);
  x[sequence_log_ratio] = random.uniform(-0.1, 0.1);
  x[score] = random.uniform(-1, 1);
}
std::vector<double> ordinary() {
  numbers random(seed());
  std::vector<double> x(all_fields);
  fill(random, x.data());
  return x;
}

template <class Loss>
outcome call(const char* name, const Loss& loss, const batch& b) {
  outcome o;
  o.slots.assign(3, std::vector<double>(b.slots(), not_a_number));
  rlhf::token_inputs<double> in;
  in.logp = b.columns[logp];
  in.entropy = b.columns[entropy];
  in.old_logp = b.columns[old_logp];
  in.ref_logp = b.columns[ref_logp];
  in.rollout_logp = b.columns[rollout_logp];
  in.advantage = b.columns[advantage];
  in.score = b.columns[score];
  in.mask = b.mask_or_none();
  rlhf::token_outputs<double> out;
  out.loss = {&o.loss, 1};
  out.grad_logp = o.slots[0];
  out.grad_entropy = o.slots[1];
  out.per_token = o.slots[2];
  rlhf::reference_backend be;
  expect_done(loss(be, b.layout(), in, out), name);
  return o;
}

}  // namespace of_token

namespace of_value {

enum : std::size_t { value, old_value, returns, all_fields };

constexpr auto formulas = std::tuple{
    entry{"clipped", rlhf::clipped_value{}},
    entry{"clipped, bounds", rlhf::clipped_value{.form = rlhf::value_clip::bounds}},
    entry{"huber", rlhf::huber_value{.delta = 0.7}},
    entry{"squared", rlhf::squared_value{}},
    entry{"expectile", rlhf::expectile_value{}},
    entry{"binary outcome", rlhf::binary_outcome{}, 0,
          [](double* x) { x[returns] = 0.5 + 0.5 * std::tanh(x[returns]); }},
};
using family = item_family<rlhf::value_item, formulas, 1>;
using any = family::any;

std::vector<double> extreme() { return {real(-700, 700), real(-700, 700), real(-700, 700)}; }
void fill(numbers& random, double* x) {
  x[old_value] = random.uniform(-2, 2);
  x[value] = x[old_value] + random.uniform(-0.5, 0.5);
  x[returns] = random.uniform(-3, 3);
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
  rlhf::value_inputs<double> in;
  in.value = b.columns[value];
  in.old_value = b.columns[old_value];
  in.returns = b.columns[returns];
  in.mask = b.mask_or_none();
  rlhf::value_outputs<double> out;
  out.loss = {&o.loss, 1};
  out.grad_value = o.slots[0];
  out.per_token = o.slots[1];
  rlhf::reference_backend be;
  expect_done(rlhf::value_loss{formula}(be, b.layout(), in, out), formula.name());
  return o;
}

}  // namespace of_value

/// A batch of the family's numbers: 0 to 6 rows of 1 to 9 slots.
template <class Fill>
batch drawn(numbers& random, std::size_t fields, Fill fill) {
  const std::int64_t rows = integer(0, 6), width = integer(1, 9);
  return make_batch(random, rows, width, fields, fill);
}
template <class Run>
void expect_batches_hold(const char* name, const batch& b, numbers& random, Run run, double error = 0) {
  expect_mask_holds(name, b, random, run);
  expect_permutes(name, b, random, run, error);
  expect_packs(name, b, run, error);
}

}  // namespace

TEST_CASE("tokens: finite where the definition is") {
  of_token::family::finite("finite", of_token::extreme, of_token::shrink);
}
TEST_CASE("tokens: float is near double") { of_token::family::single_precision("float", of_token::ordinary); }
TEST_CASE("tokens: slopes are derivatives") { of_token::family::slopes("slopes", of_token::ordinary); }
TEST_CASE("values: finite where the definition is") {
  of_value::family::finite("finite", of_value::extreme, [](std::vector<double>&, double) {});
}
TEST_CASE("values: float is near double") { of_value::family::single_precision("float", of_value::ordinary); }
TEST_CASE("values: slopes are derivatives") { of_value::family::slopes("slopes", of_value::ordinary); }

TEST_CASE("tokens: the mask, the order and the packing of a batch") {
  using namespace of_token;
  for_all("objectives", any::count, [] {
    numbers random(seed());
    const batch b = drawn(random, all_fields, fill);
    family::each([&](const any& formula) {
      const rlhf::policy_loss loss{rlhf::none{}, formula};
      expect_batches_hold(formula.name(), b, random, [&](const batch& x) { return call(formula.name(), loss, x); });
    });
  });
  for_all("sequence ratios", 2, [] {  // whose gradients are sums over the sequence
    numbers random(seed());
    const batch b = drawn(random, all_fields, fill);
    const rlhf::policy_loss gspo{rlhf::sequence_ratio{rlhf::ppo_clip{}}, rlhf::kl_penalty{rlhf::k3{}, 0.1}};
    expect_batches_hold(
        "gspo", b, random, [&](const batch& x) { return call("gspo", gspo, x); }, 1e-12);
    const rlhf::policy_loss token{rlhf::gspo_token{}};
    expect_batches_hold(
        "gspo, token", b, random, [&](const batch& x) { return call("gspo, token", token, x); }, 1e-12);
  });
}
TEST_CASE("values: the mask, the order and the packing of a batch") {
  using namespace of_value;
  for_all("objectives", any::count, [] {
    numbers random(seed());
    const batch b = drawn(random, all_fields, fill);
    family::each([&](const any& formula) {
      expect_batches_hold(formula.name(), b, random, [&](const batch& x) { return call(formula, x); });
    });
  });
}

TEST_CASE("tokens: reductions to simpler methods") {
  using namespace of_token;
  for_all("reductions", 10, [] {
    auto x = ordinary();
    const auto at = [&](const auto& f) {
      rlhf::token<rlhf::dual<double, 2>> t;
      rlhf::token<rlhf::dual<double, 2>>::visit(t, seeded<rlhf::token, double, 2>{x.data()});
      return f(t);
    };
    const auto expect_same = [&](const char* what, const auto& a, const auto& b, bool values = true) {
      expect((!values || near(a.value, b.value, 1e-12, 1e-3)) && near(a.partial[0], b.partial[0], 1e-12, 1e-3), what,
             ": ", a.value, " slope ", a.partial[0], ", ", b.value, " slope ", b.partial[0]);
    };
    const rlhf::importance_sampling plain{};
    expect_same("ppo without bounds", at(rlhf::ppo_clip{.low = 1, .high = infinity}), at(plain));
    expect_same("cispo without bounds", at(rlhf::cispo{.high = infinity}), at(plain), false);
    expect_same("cispo, through, without bounds", at(rlhf::cispo{.high = infinity, .through = true}), at(plain));
    expect_same("masked importance, wide", at(rlhf::masked_importance{.low = 1, .high = 100}), at(plain), false);
    expect_same("dppo, wide, through", at(rlhf::dppo_total_variation{.low = 1, .high = 1, .through_ratio = true}),
                at(plain));
    expect_same("importance with pull 0", at(rlhf::importance_with_pull{.bound = 1, .pull = 0}), at(plain));
    expect_same("k3 with k3's gradient", at(rlhf::value_and_gradient{rlhf::k3{}, rlhf::k3{}}), at(rlhf::k3{}));
    expect_same("k3, wide bounds", at(rlhf::k3{.log_ratio_bound = 100, .bound = 1e9}), at(rlhf::k3{}));
    x[rollout_logp] = x[old_logp];
    expect_same("decoupled ppo on its own samples", at(rlhf::decoupled_ppo{}), at(rlhf::ppo_clip{}));
    x[logp] = x[old_logp] = x[rollout_logp] = x[ref_logp];
    for (const auto& y : {at(rlhf::ppo_clip{}), at(rlhf::sapo{}), at(rlhf::direct_reward_optimisation{}),
                          at(rlhf::cispo{}), at(rlhf::decoupled_ppo{}), at(rlhf::importance_with_pull{})})
      expect(near(y.partial[0], -x[advantage], 1e-12), "on policy the slope is ", y.partial[0], ", not ",
             -x[advantage]);
  });
}

TEST_CASE("values: reductions to simpler methods") {
  using namespace of_value;
  for_all("reductions", 4, [] {
    const auto x = ordinary();
    const auto at = [&](const auto& f) {
      rlhf::value_item<rlhf::dual<double>> v;
      rlhf::value_item<rlhf::dual<double>>::visit(v, seeded<rlhf::value_item, double, 1>{x.data()});
      return f(v);
    };
    const auto squared = at(rlhf::squared_value{});
    for (const auto& y : {at(rlhf::clipped_value{.clip = infinity}),
                          at(rlhf::huber_value{.delta = 1e6, .clip = infinity}), at(rlhf::expectile_value{.tau = 0.5})})
      expect(near(y.value, squared.value, 1e-12) && near(y.partial[0], squared.partial[0], 1e-12), y.value, " is not ",
             squared.value);
    expect(near(at(rlhf::clipped_value{}).value, at(rlhf::clipped_value{.form = rlhf::value_clip::bounds}).value, 1e-12,
                1e-3),
           "the forms of the clip differ");
  });
}
