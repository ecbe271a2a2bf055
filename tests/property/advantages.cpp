// Estimates of advantages along sequences and within groups.

#include "property/batches.hpp"
#include "rlhf/advantage/group.hpp"
#include "rlhf/advantage/group_baseline.hpp"
#include "rlhf/advantage/leave_one_out.hpp"
#include "rlhf/advantage/optimal_value.hpp"
#include "rlhf/advantage/pass_at_k.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/grouped.hpp"

namespace {

using namespace property;

// Columns of a slot, and of a row.
enum : std::size_t { reward, value, logp, old_logp, gamma_of, lambda_of, all_columns };
enum : std::size_t { bootstrap, baseline, row_columns };

enum : unsigned {
  of_group = 8,    ///< a number of the group: responses without a reward have it as well
  reads_gaps = 1,  ///< walks through masked slots as they are: they must be numbers
  walks_gaps = 2   ///< masked slots count as steps, so that packing makes another sequence
};
constexpr auto scans = std::tuple{
    entry{"gae", rlhf::gae{.gamma = 0.95, .lambda = 0.9}},
    entry{"gae, plain sums", rlhf::gae{.gamma = 1, .lambda = 1}},
    entry{"gae, zero", rlhf::gae{.gamma = 0.95, .lambda = 0.9, .gaps = rlhf::gap::zero}, walks_gaps},
    entry{"gae, plain", rlhf::gae{.gamma = 0.95, .lambda = 0.9, .gaps = rlhf::gap::plain}, reads_gaps | walks_gaps},
    entry{"gae, raw next", rlhf::gae{.gamma = 0.95, .lambda = 0.9, .gaps = rlhf::gap::raw_next},
          reads_gaps | walks_gaps},
    entry{"varying gae", rlhf::varying_gae{}},
    entry{"returns", rlhf::discounted_return{.gamma = 0.9}},
    entry{"td(lambda)", rlhf::td_lambda{.gamma = 0.95, .lambda = 0.9}},
    entry{"v-trace", rlhf::vtrace{.gamma = 0.95, .rho_bar = 1.2, .c_bar = 0.9}},
    entry{"step advantage", rlhf::step_advantage{}},
    entry{"action value", rlhf::action_value{}},
};

template <class T, class Estimator>
outcome call(const entry<Estimator>& e, const batch& b) {
  std::vector<std::vector<T>> c, rows, out(2, std::vector<T>(b.slots()));
  for (const auto& x : b.columns) c.emplace_back(x.begin(), x.end());
  for (const auto& x : b.per_row) rows.emplace_back(x.begin(), x.end());
  rlhf::advantage_inputs<T> in;
  in.reward = c[reward];
  in.value = c[value];
  in.mask = b.mask_or_none();
  in.bootstrap = rows[bootstrap];
  in.baseline = rows[baseline];
  in.logp = c[logp];
  in.old_logp = c[old_logp];
  in.gamma = c[gamma_of];
  in.lambda = c[lambda_of];
  rlhf::reference_backend be;
  expect_done(rlhf::advantage_estimate{e.formula}(be, b.layout(), in, rlhf::advantage_outputs<T>{out[0], out[1]}),
              e.name);
  outcome o;
  for (const auto& x : out) o.slots.emplace_back(x.begin(), x.end());
  return o;
}
batch draw(numbers& random, std::int64_t rows, std::int64_t width, double scale) {
  batch b = make_batch(random, rows, width, all_columns, [&](numbers& from, double* x) {
    x[reward] = scale * from.uniform(-1, 1);
    x[value] = scale * from.uniform(-1, 1);
    x[old_logp] = from.uniform(-3, -0.05);
    x[logp] = x[old_logp] + from.uniform(-0.5, 0.5);
    x[gamma_of] = from.uniform(0.8, 1);
    x[lambda_of] = from.uniform(0, 1);
  });
  b.per_row.assign(row_columns, {});
  for (std::int64_t r = 0; r < rows; ++r) {
    b.per_row[bootstrap].push_back(random.uniform(-1, 1));
    b.per_row[baseline].push_back(random.uniform(-1, 1));
  }
  return b;
}
template <class Holds>
void for_scans(const char* what, Holds holds, double scale = 1) {
  for_all(what, std::tuple_size_v<decltype(scans)>, [&] {
    const std::int64_t rows = integer(0, 6), width = integer(0, 20) == 0 ? 4096 : integer(1, 9);
    numbers random(seed());
    const batch b = draw(random, rows, width, scale);
    std::apply([&](const auto&... e) { (holds(e, random, b), ...); }, scans);
  });
}

constexpr auto groups = std::tuple{
    entry{"grpo", rlhf::group_advantage{}, margin_only},
    entry{"grpo, batch deviation", rlhf::group_advantage{.scale = rlhf::group_scale::batch}, margin_only},
    entry{"dr. grpo", rlhf::group_advantage{.scale = rlhf::group_scale::none}, margin_only},
    entry{"leave one out", rlhf::leave_one_out{}, margin_only},
    entry{"leave one out, normalised", rlhf::leave_one_out{.normalize = true}, margin_only},
    entry{"optimal baseline", rlhf::optimal_baseline{}, margin_only},
    entry{"group policy gradient", rlhf::group_policy_gradient{}},
    entry{"mean normalised", rlhf::mean_normalized{}},
    entry{"optimal value", rlhf::optimal_value{}, of_group},
    entry{"pass at k", rlhf::pass_at_k{}},
};
template <class E>
std::vector<double> advantages(const entry<E>& e, const std::vector<std::int64_t>& offsets,
                               const std::vector<double>& x, const std::vector<double>& weight) {
  std::vector<double> out(x.size());
  rlhf::reference_backend be;
  expect_done(
      rlhf::grouped{e.formula}(
          be, rlhf::group_inputs<double>{.groups = {rlhf::packed(offsets), nullptr}, .reward = x, .weight = weight},
          out),
      e.name);
  return out;
}

}  // namespace

TEST_CASE("advantages: the mask, the order and the packing of a batch") {
  for_scans("batches", [](const auto& e, numbers& random, const batch& b) {
    const auto run = [&](const batch& x) { return call<double>(e, x); };
    if ((e.traits & reads_gaps) == 0) expect_mask_holds(e.name, b, random, run);
    expect_permutes(e.name, b, random, run);
    if ((e.traits & walks_gaps) == 0) expect_packs(e.name, b, run, 1e-12);
  });
}
TEST_CASE("advantages: finite, and float is near double") {
  for_scans(
      "finite",
      [](const auto& e, numbers&, const batch& b) {
        const outcome y = call<double>(e, b), z = call<float>(e, b);
        const double most = largest(y) + 1;
        for (std::size_t k = 0; k < y.slots.size(); ++k)
          for (std::size_t i = 0; i < b.slots(); ++i) {
            expect(std::isfinite(y.slots[k][i]), e.name, " gives ", y.slots[k][i]);
            expect(near(y.slots[k][i], z.slots[k][i], 1e-4, most), e.name, " gives ", z.slots[k][i], " in float, ",
                   y.slots[k][i]);
          }
      },
      700);
}
TEST_CASE("advantages: reductions to simpler methods") {
  for_all("reductions", 5, [] {
    const std::int64_t rows = integer(0, 6), width = integer(1, 9);
    numbers random(seed());
    batch b = draw(random, rows, width, 1);
    const double g = random.uniform(0.8, 1), l = random.uniform(0, 1);
    b.per_row[baseline].assign(static_cast<std::size_t>(rows), 0);
    const auto gae = call<double>(entry{"gae", rlhf::gae{.gamma = g, .lambda = l}}, b);
    batch same = b;
    same.columns[gamma_of].assign(b.slots(), g);
    same.columns[lambda_of].assign(b.slots(), l);
    same.columns[logp] = same.columns[old_logp];
    const auto expect_same = [&](const char* what, const outcome& x, std::size_t of, const std::vector<double>& y) {
      for (std::size_t i = 0; i < y.size(); ++i)
        expect(near(x.slots[of][i], y[i], 1e-12, 1), what, ": ", x.slots[of][i], ", ", y[i]);
    };
    const auto varying = call<double>(entry{"varying gae", rlhf::varying_gae{}}, same);
    expect_same("varying gae that does not vary", varying, 0, gae.slots[0]);
    expect_same("td(lambda) targets are gae's",
                call<double>(entry{"td(lambda)", rlhf::td_lambda{.gamma = g, .lambda = l}}, b), 1, gae.slots[1]);
    expect_same("v-trace of the policy's own steps", call<double>(entry{"v-trace", rlhf::vtrace{.gamma = g}}, same), 1,
                call<double>(entry{"gae", rlhf::gae{.gamma = g, .lambda = 1}}, b).slots[1]);
    expect_same("lambda 1: returns are those of the rewards",
                call<double>(entry{"gae", rlhf::gae{.gamma = g, .lambda = 1}}, b), 1,
                call<double>(entry{"returns", rlhf::discounted_return{.gamma = g}}, b).slots[1]);
    // In closed form, row by row.
    const auto sums = call<double>(entry{"gae", rlhf::gae{.gamma = 1, .lambda = 1}}, b);
    for (std::int64_t r = 0; r < rows; ++r) {
      double rest = b.per_row[bootstrap][static_cast<std::size_t>(r)];
      for (std::int64_t t = width; t-- > 0;) {
        const auto i = static_cast<std::size_t>(r * width + t);
        if (!b.valid(i)) continue;
        rest += b.columns[reward][i];
        expect(near(sums.slots[0][i], rest - b.columns[value][i], 1e-12, 10), "gae without discounts is ",
               sums.slots[0][i]);
      }
    }
  });
}

TEST_CASE("groups: rewards without a number, order, shifts, and sums") {
  for_all("groups", std::tuple_size_v<decltype(groups)>, [] {
    const std::int64_t count = integer(0, 5), most = integer(0, 8);
    numbers random(seed());
    std::vector<std::int64_t> offsets{0};
    for (std::int64_t g = 0; g < count; ++g) offsets.push_back(offsets.back() + random.integer(0, most));
    const auto n = static_cast<std::size_t>(offsets.back());
    const double range = random.chance(0.2) ? 700 : 1, c = random.uniform(-3, 3);
    std::vector<double> x(n), weight(n);
    for (auto& v : x) v = random.chance(0.1) ? not_a_number : random.chance(0.2) ? 0 : random.uniform(-range, range);
    for (auto& v : weight) v = static_cast<double>(random.integer(1, 4096));
    // Another order within each group.
    std::vector<std::size_t> moved(n);
    for (std::int64_t g = 0; g < count; ++g) {
      const auto begin = static_cast<std::size_t>(offsets[static_cast<std::size_t>(g)]);
      const auto order = random.order(static_cast<std::size_t>(offsets[static_cast<std::size_t>(g) + 1]) - begin);
      for (std::size_t j = 0; j < order.size(); ++j) moved[begin + j] = begin + order[j];
    }
    std::vector<double> others(n);  // of the group, with a reward
    for (std::int64_t g = 0; g < count; ++g)
      for (auto i = offsets[static_cast<std::size_t>(g)]; i < offsets[static_cast<std::size_t>(g) + 1]; ++i)
        for (auto j = offsets[static_cast<std::size_t>(g)]; j < offsets[static_cast<std::size_t>(g) + 1]; ++j)
          others[static_cast<std::size_t>(i)] += i != j && !std::isnan(x[static_cast<std::size_t>(j)]);
    std::vector<double> x_moved(n), weight_moved(n), shifted = x;
    for (std::size_t i = 0; i < n; ++i) {
      x_moved[i] = x[moved[i]];
      weight_moved[i] = weight[moved[i]];
    }
    for (auto& v : shifted) v += c;
    const auto check = [&](const auto& e) {
      const auto y = advantages(e, offsets, x, weight), z = advantages(e, offsets, x_moved, weight_moved);
      double scale = 1;
      for (const double v : y) scale = std::max(scale, std::abs(v));
      for (std::size_t i = 0; i < n; ++i) {
        expect(std::isfinite(y[i]), e.name, " gives ", y[i]);
        expect(!std::isnan(x[i]) || (e.traits & of_group) != 0 || plain_zero(y[i]), e.name, " gives ", y[i],
               " without a reward");
        expect(near(z[i], y[moved[i]], 1e-9, scale), e.name, ": another order makes ", y[moved[i]], " to ", z[i]);
      }
      if ((e.traits & margin_only) == 0) return;
      // A group of one may keep its reward as it is.
      const auto s = advantages(e, offsets, shifted, weight);
      for (std::size_t i = 0; i < n; ++i)
        expect(others[i] == 0 || near(s[i], y[i], 1e-9, scale), e.name, ": all rewards ", c, " higher make ", y[i],
               " to ", s[i]);
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, groups);
    // Dr. GRPO's advantages add up to nothing, and leave-one-out is n / (n - 1) of them.
    const auto centred = advantages(std::get<2>(groups), offsets, x, weight),
               loo = advantages(std::get<3>(groups), offsets, x, weight);
    for (std::int64_t g = 0; g < count; ++g) {
      double sum = 0, k = 0;
      for (auto i = static_cast<std::size_t>(offsets[static_cast<std::size_t>(g)]);
           i < static_cast<std::size_t>(offsets[static_cast<std::size_t>(g) + 1]); ++i) {
        sum += centred[i];
        k += !std::isnan(x[i]);
      }
      expect(std::abs(sum) <= 1e-12 * range * (k + 1), "advantages of a group add up to ", sum);
      for (auto i = static_cast<std::size_t>(offsets[static_cast<std::size_t>(g)]);
           i < static_cast<std::size_t>(offsets[static_cast<std::size_t>(g) + 1]); ++i)
        if (k > 1)
          expect(near(loo[i], centred[i] * k / (k - 1), 1e-11, range), "leave one out gives ", loo[i], ", of the mean ",
                 centred[i]);
    }
  });
}
