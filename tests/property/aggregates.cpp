// From losses per token to one number: what the weights of each aggregate add up to, and robust aggregates.

#include "property/batches.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/robust_aggregate.hpp"
#include "rlhf/objective/robust.hpp"

namespace {

using namespace property;

/// A token's loss is its logp's negative, so that gradients are minus the weights. Prompts are given for all.
template <class Aggregate>
outcome call(const char* name, const Aggregate& aggregate, const batch& b, const std::vector<std::int64_t>& prompts) {
  outcome o;
  o.slots.assign(1, std::vector<double>(b.slots(), not_a_number));
  rlhf::token_inputs<double> in;
  in.logp = b.columns[0];
  in.mask = b.mask_or_none();
  in.groups = {rlhf::packed(prompts), nullptr};
  rlhf::token_outputs<double> out;
  out.loss = {&o.loss, 1};
  out.grad_logp = o.slots[0];
  rlhf::reference_backend be;
  const rlhf::policy_loss loss{rlhf::negative_log_likelihood{}, rlhf::none{}, aggregate};
  expect_done(loss(be, b.layout(), in, out), name);
  return o;
}

constexpr auto modes = std::tuple{
    entry{"token_mean", rlhf::token_mean{}},
    entry{"token_mean, of more", rlhf::token_mean{.tokens = 1000, .scale = 4}},
    entry{"token_sum", rlhf::token_sum{}},
    entry{"fixed_length", rlhf::fixed_length{.length = 16}},
    entry{"row_mean", rlhf::row_mean{}},
    entry{"sequence_mean_token_mean", rlhf::sequence_mean_token_mean{}},
    entry{"sequence_mean_token_sum", rlhf::sequence_mean_token_sum{.divisor = 16}},
    entry{"length_weighted_mean", rlhf::length_weighted_mean{}},
    entry{"prompt_mean", rlhf::prompt_mean{}},
};

constexpr auto sets = std::tuple{
    entry{"tilted mean", rlhf::tilted_mean{.temperature = 0.7}},
    entry{"kl ball", rlhf::kl_ball{.radius = 0.2}},
    entry{"chi-square ball", rlhf::chi_square_ball{.radius = 0.3}},
    entry{"value at risk", rlhf::conditional_value_at_risk{.alpha = 0.3}},
};

template <class Set>
outcome robust(const char* name, const Set& set, const batch& b, double robustness = 1) {
  outcome o;
  o.slots.assign(1, std::vector<double>(b.slots(), not_a_number));
  rlhf::robust_inputs<double> in;
  in.loss = b.columns[0];
  in.weight = b.columns[1];
  in.mask = b.mask_or_none();
  rlhf::robust_outputs<double> out;
  out.loss = {&o.loss, 1};
  out.weight = o.slots[0];
  rlhf::reference_backend be;
  const rlhf::robust_aggregate<Set> aggregate{set, robustness};
  expect_done(aggregate(be, in, out), name);
  return o;
}

}  // namespace

TEST_CASE("aggregates: the mask, the order and the packing of a batch") {
  for_all("aggregates", std::tuple_size_v<decltype(modes)>, [] {
    const std::int64_t rows = integer(0, 8), width = integer(0, 20) == 0 ? 4096 : integer(1, 9);
    numbers random(seed());
    const batch b = make_batch(random, rows, width, 1, [](numbers& from, double* x) { x[0] = from.uniform(-700, 0); });
    std::vector<std::int64_t> alone{0};  // a prompt for each row, so that rows may change places
    for (std::int64_t r = 1; r <= rows; ++r) alone.push_back(r);
    const auto check = [&](const auto& e) {
      const auto run = [&](const batch& x) { return call(e.name, e.formula, x, alone); };
      expect_mask_holds(e.name, b, random, run);
      expect_permutes(e.name, b, random, run, 1e-14);
      expect_packs(e.name, b, run);
      // Linear in the losses: the loss is the weights times them.
      const outcome o = run(b);
      double sum = 0;
      for (std::size_t i = 0; i < b.slots(); ++i)
        if (b.valid(i)) sum += o.slots[0][i] * b.columns[0][i];
      expect(near(o.loss, sum, 1e-11, 1), e.name, " is ", o.loss, ", weights times losses ", sum);
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, modes);
  });
}

TEST_CASE("aggregates: weights add up, and modes become one another") {
  for_all("weights", std::tuple_size_v<decltype(modes)>, [] {
    const std::int64_t rows = integer(0, 8), width = integer(1, 9);
    numbers random(seed());
    batch b = make_batch(random, rows, width, 1, [](numbers& from, double* x) { x[0] = from.uniform(-3, 0); });
    std::vector<std::int64_t> alone{0}, together{0, rows};
    for (std::int64_t r = 1; r <= rows; ++r) alone.push_back(r);
    double tokens = 0, nonempty = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      double n = 0;
      for (std::int64_t t = 0; t < width; ++t) n += b.mask[static_cast<std::size_t>(r * width + t)];
      tokens += n;
      nonempty += n > 0;
    }
    const auto weight = [&](const char* name, const auto& aggregate, const std::vector<std::int64_t>& prompts) {
      double sum = 0;
      const outcome o = call(name, aggregate, b, prompts);
      for (const double g : o.slots[0]) sum -= g;
      return sum;
    };
    const auto expect_weight = [&](const char* name, double got, double want) {
      expect(near(got, want, 1e-12), name, ": weights add up to ", got, ", not ", want);
    };
    const double any = tokens > 0 ? 1 : 0, all = rows > 0 ? static_cast<double>(rows) : 1;
    expect_weight("token_mean", weight("token_mean", rlhf::token_mean{}, alone), any);
    expect_weight("row_mean", weight("row_mean", rlhf::row_mean{}, alone), nonempty / all);
    expect_weight("sequence_mean_token_mean",
                  weight("sequence_mean_token_mean", rlhf::sequence_mean_token_mean{}, alone), any);
    expect_weight("fixed_length", weight("fixed_length", rlhf::fixed_length{.length = 16}, alone), tokens / (16 * all));
    expect_weight("prompt_mean", weight("prompt_mean", rlhf::prompt_mean{}, alone), nonempty / all);
    const auto expect_same = [&](const char* what, const outcome& x, const outcome& y) {
      expect(near(x.loss, y.loss, 1e-12, 1), what, ": ", x.loss, ", ", y.loss);
      for (std::size_t i = 0; i < b.slots(); ++i)
        expect(near(x.slots[0][i], y.slots[0][i], 1e-12), what, " at slot ", i);
    };
    expect_same("prompts of one row, and row_mean", call("", rlhf::prompt_mean{}, b, alone),
                call("", rlhf::row_mean{}, b, alone));
    expect_same("one prompt, and token_mean", call("", rlhf::prompt_mean{}, b, together),
                call("", rlhf::token_mean{}, b, together));
    expect_same("length_weighted_mean, and fixed_length 1", call("", rlhf::length_weighted_mean{}, b, alone),
                call("", rlhf::fixed_length{.length = 1}, b, alone));
    if (nonempty == static_cast<double>(rows))
      expect_same("no empty row", call("", rlhf::sequence_mean_token_mean{}, b, alone),
                  call("", rlhf::row_mean{}, b, alone));
  });
}

TEST_CASE("robust aggregates: the mask, the order, finite, and between the mean and the largest") {
  for_all("robust", std::tuple_size_v<decltype(sets)>, [] {
    const std::int64_t units = integer(0, 20);
    numbers random(seed());
    const double range = random.chance(0.2) ? 700 : 2, c = random.uniform(-3, 3);
    const batch b = make_batch(random, units, 1, 2, [&](numbers& from, double* x) {
      x[0] = from.chance(0.2) ? 1 : from.uniform(-range, range);
      x[1] = from.chance(0.1) ? 0 : from.uniform(0.1, 2);
    });
    double mean = 0, mass = 0, top = -infinity;
    for (std::size_t i = 0; i < b.slots(); ++i)
      if (b.valid(i) && b.columns[1][i] > 0) {
        mean += b.columns[0][i] * b.columns[1][i];
        mass += b.columns[1][i];
        top = std::max(top, b.columns[0][i]);
      }
    mean = mass > 0 ? mean / mass : 0;
    const auto check = [&](const auto& e) {
      const auto run = [&](const batch& x) { return robust(e.name, e.formula, x); };
      expect_mask_holds(e.name, b, random, run);
      const outcome o = run(b);
      double sum = 0;
      for (std::size_t i = 0; i < b.slots(); ++i) {
        expect(std::isfinite(o.slots[0][i]) && o.slots[0][i] >= 0, e.name, " has the weight ", o.slots[0][i]);
        sum += o.slots[0][i];
      }
      expect(std::isfinite(o.loss), e.name, " is ", o.loss);
      if (mass == 0) return;
      expect(near(sum, 1, 1e-9), e.name, ": weights add up to ", sum);
      expect(o.loss >= mean - 1e-9 * range && o.loss <= top + 1e-9 * range, e.name, " is ", o.loss, ", the mean ", mean,
             ", the largest ", top);
      // The order of units whose losses are equal may decide which of them is weighed: the loss does not depend on it.
      const auto order = random.order(b.slots());
      expect(near(o.loss, run(permuted(b, order)).loss, 1e-9, range), e.name, ": another order makes another loss");
      batch shifted = b;
      for (double& x : shifted.columns[0]) x += c;
      expect(near(run(shifted).loss, o.loss + c, 1e-8, range), e.name, ": all losses ", c, " higher make ", o.loss,
             " to ", run(shifted).loss);
      expect(near(robust(e.name, e.formula, b, 0).loss, mean, 1e-11, range), e.name,
             " without robustness is not the mean");
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, sets);
  });
}
