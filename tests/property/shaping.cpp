// Rewards of tokens: KL in the reward, RTO in all its modes, where the score is paid, and controllers of the coefficient.

#include "property/batches.hpp"
#include "rlhf/backend/emulated.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/reward/kl_controller.hpp"

namespace {

using namespace property;

// Columns of a slot, of a row, and what comes out for a slot and a row.
enum : std::size_t { old_logp, ref_logp, dpo_logp, part, all_columns };
enum : std::size_t { score, row_columns };
enum : std::size_t { reward, kl };
enum : std::size_t { dpo_sum };

constexpr unsigned non_negative = 8;  ///< an estimate of the divergence that is never below 0
constexpr auto estimators = std::tuple{
    entry{"k1", rlhf::k1{}},
    entry{"k1, bounded", rlhf::k1{.bound = 1}},
    entry{"absolute", rlhf::absolute{}, non_negative},
    entry{"k2", rlhf::k2{}, non_negative},
    entry{"k3", rlhf::k3{}, exponential | non_negative},
    entry{"k3, bounded", rlhf::k3{.log_ratio_bound = 20, .bound = 10}, non_negative},
    entry{"k3 with k2's gradient", rlhf::value_and_gradient{rlhf::k3{}}, exponential},
    entry{"k3, importance weighted", rlhf::importance_weighted{rlhf::k3{}}, exponential | non_negative},
};
using any = any_of<estimators>;

constexpr rlhf::score_placement placements[] = {rlhf::score_placement::last, rlhf::score_placement::after_eos,
                                                rlhf::score_placement::last_column};
constexpr rlhf::rto_mode modes[] = {rlhf::rto_mode::dense, rlhf::rto_mode::semi, rlhf::rto_mode::eos,
                                    rlhf::rto_mode::shaping_only};
constexpr const char* mode_names[] = {"rto, dense", "rto, semi", "rto, eos", "rto, shaping only"};

template <class T = double, class B = rlhf::reference_backend, class Rule>
outcome call(const char* name, const Rule& rule, const batch& b) {
  std::vector<std::vector<T>> columns;
  for (const auto& x : b.columns) columns.emplace_back(x.begin(), x.end());
  const std::vector<T> scores(b.per_row[score].begin(), b.per_row[score].end());
  std::vector<std::int32_t> segment;
  for (const double x : b.columns[part])
    segment.push_back(x > -1e9 && x < 1e9 ? static_cast<std::int32_t>(x) : std::numeric_limits<std::int32_t>::min());
  std::vector<std::vector<T>> slots(2, std::vector<T>(b.slots(), static_cast<T>(not_a_number)));
  std::vector<T> sums(static_cast<std::size_t>(b.rows), static_cast<T>(not_a_number));
  rlhf::shaping_inputs<T> in;
  in.old_logp = columns[old_logp];
  in.ref_logp = columns[ref_logp];
  in.dpo_logp = columns[dpo_logp];
  in.score = scores;
  in.mask = b.mask_or_none();
  in.segment = segment;
  B be;
  expect_done(rlhf::reward_shaping{rule}(be, b.layout(), in, rlhf::shaping_outputs<T>{slots[0], slots[1], sums}), name);
  outcome o;
  for (const auto& x : slots) o.slots.emplace_back(x.begin(), x.end());
  o.rows.emplace_back(sums.begin(), sums.end());
  return o;
}

void fill(numbers& random, double* x, double range) {
  for (const auto k : {old_logp, ref_logp, dpo_logp}) x[k] = random.uniform(-range, 0);
  if (random.chance(0.15)) x[old_logp] = x[ref_logp];
  if (random.chance(0.15)) x[dpo_logp] = x[ref_logp];
  x[part] = static_cast<double>(random.integer(0, 2));
}
batch draw(numbers& random, std::int64_t rows, std::int64_t width, double range = 3) {
  batch b = make_batch(random, rows, width, all_columns, [range](numbers& from, double* x) { fill(from, x, range); });
  b.per_row.assign(row_columns, {});
  for (std::int64_t r = 0; r < rows; ++r) b.per_row[score].push_back(random.uniform(-range, range));
  return b;
}
/// `holds(random, batch)` for batches of any shape.
template <class Holds>
void for_batches(const char* what, std::size_t rules, double range, Holds holds) {
  for_all(what, rules, [&] {
    const std::int64_t rows = integer(0, 6), width = integer(0, 20) == 0 ? 4096 : integer(1, 9);
    numbers random(seed());
    const batch b = draw(random, rows, width, range);
    holds(random, b);
  });
}
constexpr std::size_t rules = any::count + std::size(modes);
/// `f(name, rule, traits)` of every rule, with the score at the last token.
template <class F>
void each_rule(numbers& random, F&& f) {
  for (std::size_t i = 0; i < any::count; ++i)
    f(any{i}.name(), rlhf::kl_in_reward{any{i}, random.uniform(0, 1), placements[0], rlhf::score_clip{-1.5, 2}},
      any{i}.has(exponential));
  for (std::size_t i = 0; i < std::size(modes); ++i)
    f(mode_names[i],
      rlhf::rto_reward{.beta1 = random.uniform(0, 1),
                       .beta2 = random.uniform(0, 1),
                       .beta3 = random.uniform(-1, 2),
                       .clip = random.chance(0.3) ? infinity : random.uniform(0.01, 1),
                       .mode = modes[i]},
      false);
}

/// What a row of a batch adds up to.
struct row_sums {
  double reward = 0, kl = 0, dpo = 0, ref = 0, valid = 0;
  std::int64_t last = -1;  ///< the last valid slot
};
row_sums add_up(const batch& b, const outcome& o, std::int64_t r) {
  row_sums s;
  for (std::int64_t at = b.layout()[r].begin; at < b.layout()[r].end; ++at) {
    const auto i = static_cast<std::size_t>(at);
    s.reward += o.slots[reward][i];
    s.kl += o.slots[kl][i];
    if (!b.valid(i)) continue;
    s.dpo += b.columns[dpo_logp][i];
    s.ref += b.columns[ref_logp][i];
    s.valid += 1;
    s.last = at;
  }
  return s;
}
void expect_same_bits(const char* what, const outcome& a, const outcome& b) {
  expect(same_columns(a.slots, b.slots) && same_columns(a.rows, b.rows), what);
}

}  // namespace

TEST_CASE("rewards of tokens: the mask, the order, the packing, and another backend") {
  for_batches("batches", rules, 3, [](numbers& random, const batch& b) {
    each_rule(random, [&](const char* name, const auto& rule, bool) {
      const auto run = [&](const batch& x) { return call(name, rule, x); };
      expect_mask_holds(name, b, random, run);
      expect_permutes(name, b, random, run);
      expect_packs(name, b, run);
      const outcome here = run(b), there = call<double, rlhf::emulated_backend>(name, rule, b);
      for (std::size_t k = 0; k < here.slots.size(); ++k)
        for (std::size_t i = 0; i < b.slots(); ++i)
          expect(near(here.slots[k][i], there.slots[k][i], 1e-12, 1), name, ": ", here.slots[k][i],
                 ", on another backend ", there.slots[k][i]);
      for (std::size_t r = 0; r < here.rows[0].size(); ++r)
        expect(near(here.rows[0][r], there.rows[0][r], 1e-12, 1), name, ": another backend pays another sum");
    });
  });
}

TEST_CASE("rewards of tokens: finite where the definition is") {
  for_batches("finite", rules, 700, [](numbers& random, batch b) {
    // A DPO policy may rule a token out: the clip bounds what that costs.
    for (double& x : b.columns[dpo_logp]) x = random.chance(0.1) ? -infinity : x;
    batch less = b;
    for (const auto k : {old_logp, ref_logp, dpo_logp})
      for (double& x : less.columns[k]) x *= 0.1;
    const auto expect_finite = [&](const char* name, const outcome& o, const char* in) {
      for (const auto& column : o.slots)
        for (const double x : column) expect(std::isfinite(x), name, " gives ", x, in);
      for (const double x : o.rows[dpo_sum]) expect(std::isfinite(x), name, " pays ", x, in);
    };
    each_rule(random, [&](const char* name, auto rule, bool is_exponential) {
      if constexpr (std::is_same_v<decltype(rule), rlhf::rto_reward>) rule.clip = std::min(rule.clip, 3.0);
      expect_finite(name, call(name, rule, b), "");
      expect_finite(name, call<float>(name, rule, is_exponential ? less : b), " in float");
    });
  });
}

TEST_CASE("rewards of tokens: float is near double") {
  for_batches("float", rules, 3, [](numbers& random, batch b) {
    for (auto& column : b.columns)
      for (double& x : column) x = static_cast<float>(x);
    for (double& x : b.per_row[score]) x = static_cast<float>(x);
    each_rule(random, [&](const char* name, const auto& rule, bool) {
      const outcome wide = call(name, rule, b), narrow = call<float>(name, rule, b);
      const double scale = 1 + largest(wide);
      for (std::size_t k = 0; k < wide.slots.size(); ++k)
        for (std::size_t i = 0; i < b.slots(); ++i)
          expect(near(wide.slots[k][i], narrow.slots[k][i], 1e-5, scale), name, " is ", narrow.slots[k][i],
                 " in float, ", wide.slots[k][i]);
      for (std::size_t r = 0; r < wide.rows[0].size(); ++r)
        expect(near(wide.rows[0][r], narrow.rows[0][r], 1e-4, scale), name, " pays ", narrow.rows[0][r], " in float, ",
               wide.rows[0][r]);
    });
  });
}

TEST_CASE("KL in the reward: a response is paid its score less the price of its KL, at one slot") {
  for_batches("kl in the reward", any::count, 3, [](numbers& random, const batch& drawn) {
    batch b = drawn;
    if (random.chance(0.2)) b.mask.clear();
    const double beta = random.uniform(0, 1), low = random.uniform(-3, 0), high = random.uniform(0, 3);
    batch unscored = b;
    unscored.per_row[score].assign(static_cast<std::size_t>(b.rows), 0);
    batch further = b;
    const double c = random.uniform(-2, 2);
    for (const auto k : {old_logp, ref_logp})
      for (double& x : further.columns[k]) x += c;
    for (std::size_t e = 0; e < any::count; ++e) {
      const any estimator{e};
      const char* const name = estimator.name();
      const outcome plain = call(name, rlhf::kl_in_reward{estimator, beta}, unscored);
      for (std::size_t i = 0; i < b.slots(); ++i) {
        const double k = plain.slots[kl][i];
        expect(plain.slots[reward][i] == -beta * k, name, " of ", k, " costs ", plain.slots[reward][i]);
        expect(!estimator.has(non_negative) || k >= 0, name, " is ", k);
        expect(!b.valid(i) || b.columns[old_logp][i] != b.columns[ref_logp][i] || k == 0, name, " is ", k,
               " where the policies agree");
      }
      const outcome moved = call(name, rlhf::kl_in_reward{estimator, beta}, further);
      for (std::size_t i = 0; i < b.slots(); ++i)
        expect(near(plain.slots[kl][i], moved.slots[kl][i], 1e-12, 100), name, " is ", plain.slots[kl][i],
               ", both policies ", c, " further ", moved.slots[kl][i]);
      for (const auto placement : placements) {
        const rlhf::kl_in_reward rule{estimator, beta, placement, rlhf::score_clip{low, high}};
        const outcome paid = call(name, rule, b), spoilt = call(name, rule, spoiled(b, random));
        expect_same_bits("garbage under the mask moves a score", paid, spoilt);
        for (std::int64_t r = 0; r < b.rows; ++r) {
          const double given = b.per_row[score][static_cast<std::size_t>(r)], bounded = rule.clip(given);
          expect(bounded >= low && bounded <= high && (bounded == given || given < low || given > high), "a score of ",
                 given, " is clipped to ", bounded);
          const row_sums sums = add_up(b, paid, r);
          expect(near(sums.reward, (sums.last < 0 ? 0 : bounded) - beta * sums.kl, 1e-12, 10 + std::abs(sums.kl)), name,
                 ": a response is paid ", sums.reward, ", its score ", bounded, ", its KL ", sums.kl, " at ", beta);
          expect(plain_zero(paid.rows[dpo_sum][static_cast<std::size_t>(r)]), name, " pays for a DPO policy");
          const std::int64_t end = b.layout()[r].end;
          const std::int64_t slot = sums.last < 0                                     ? -1
                                    : placement == rlhf::score_placement::last        ? sums.last
                                    : placement == rlhf::score_placement::last_column ? end - 1
                                    : sums.last + 1 < end                             ? sums.last + 1
                                                                                      : sums.last;
          for (std::int64_t at = b.layout()[r].begin; at < end; ++at) {
            const auto i = static_cast<std::size_t>(at);
            const double own = plain.slots[reward][i];
            expect(same_bits(paid.slots[reward][i], at == slot ? own + bounded : own), name, ": slot ", at, " has ",
                   paid.slots[reward][i], ", without a score ", own, "; the score ", bounded, " goes to ", slot);
          }
        }
      }
      // Without gaps or padding there is one place only.
      std::vector<std::size_t> from;
      const batch tight = packed_of(b, from);
      const outcome last = call(name, rlhf::kl_in_reward{estimator, beta}, tight);
      for (const auto placement : placements)
        expect_same_bits("a packed response has two last slots", last,
                         call(name, rlhf::kl_in_reward{estimator, beta, placement}, tight));
    }
  });
}

TEST_CASE("RTO: what each mode pays adds up, and where it pays it") {
  for_batches("rto", std::size(modes), 3, [](numbers& random, const batch& b) {
    rlhf::rto_reward rule{.beta1 = random.uniform(0, 1),
                          .beta2 = random.uniform(0, 1),
                          .beta3 = random.uniform(-1, 2),
                          .clip = random.chance(0.4) ? infinity : random.uniform(0.01, 1)};
    std::vector<outcome> of;
    for (const auto mode : modes) {
      rule.mode = mode;
      of.push_back(call("rto", rule, b));
    }
    for (std::int64_t r = 0; r < b.rows; ++r) {
      const auto row = static_cast<std::size_t>(r);
      const double value = rule.beta3 * b.per_row[score][row];
      const row_sums dense = add_up(b, of[0], r);
      const double paid = of[0].rows[dpo_sum][row], scale = 10 + dense.valid;
      for (std::size_t m = 0; m < std::size(modes); ++m) {
        const row_sums sums = add_up(b, of[m], r);
        const double extra = modes[m] == rlhf::rto_mode::shaping_only ? 0 : paid;
        expect(near(sums.reward, (sums.last < 0 ? 0 : value) + extra - rule.beta2 * sums.kl, 1e-12, scale),
               mode_names[m], ": a response is paid ", sums.reward, ", its score ", value, ", its DPO sum ", extra,
               ", its KL ", sums.kl);
        expect(same_bits(of[m].rows[dpo_sum][row], paid), mode_names[m], " has another DPO sum");
      }
      const double telescoped = rule.beta1 * (dense.dpo - dense.ref);
      expect(dense.valid == 0 || std::abs(paid) <= dense.valid * rule.clip * (1 + 1e-12), "the clip ", rule.clip,
             " lets ", paid, " through");
      expect(rule.clip < infinity || near(paid, telescoped, 1e-12, scale), "the DPO rewards add up to ", paid, ", not ",
             telescoped);
      // Slot by slot: what a mode pays beside the KL and, at the last token, the score.
      double run = 0, all = 0;
      for (std::int64_t at = b.layout()[r].begin; at < b.layout()[r].end; ++at) {
        const auto i = static_cast<std::size_t>(at);
        if (!b.valid(i)) continue;
        const auto beside = [&](std::size_t m) {
          return of[m].slots[reward][i] + rule.beta2 * of[m].slots[kl][i] - (at == dense.last ? value : 0);
        };
        const double share = rule.beta1 * (b.columns[dpo_logp][i] - b.columns[ref_logp][i]);
        const double want = std::clamp(share, -rule.clip, rule.clip);
        run += want;
        all += want;
        std::int64_t next = at + 1;
        while (next < b.layout()[r].end && !b.valid(static_cast<std::size_t>(next))) ++next;
        const bool ends = at == dense.last || b.columns[part][static_cast<std::size_t>(next)] != b.columns[part][i];
        expect(near(beside(0), want, 1e-12, scale), "a token is paid ", beside(0), ", its share is ", want);
        expect(near(beside(1), ends ? run : 0, 1e-12, scale), "a segment is paid ", beside(1), ", its sum is ", run);
        expect(near(beside(2), at == dense.last ? all : 0, 1e-12, scale), "eos pays ", beside(2), " at slot ", at);
        expect(near(beside(3), want - (at == dense.last ? all : 0), 1e-12, scale), "potential shaping pays ", beside(3),
               " at slot ", at);
        if (ends) run = 0;
      }
    }
  });
}

TEST_CASE("RTO becomes PPO, and its modes become one another") {
  for_batches("reductions", std::size(modes), 3, [](numbers& random, const batch& b) {
    rlhf::rto_reward rule{.beta1 = random.uniform(0, 1), .beta2 = random.uniform(0, 1)};
    const auto with = [&](rlhf::rto_mode mode, const batch& x) {
      rule.mode = mode;
      return call("rto", rule, x);
    };
    // Segments of one token each, and of a whole response.
    batch tokens = b, whole = b;
    for (std::size_t i = 0; i < b.slots(); ++i) {
      tokens.columns[part][i] = static_cast<double>(i);
      whole.columns[part][i] = 7;
    }
    expect_same_bits("segments of one token are not dense", with(rlhf::rto_mode::semi, tokens),
                     with(rlhf::rto_mode::dense, b));
    expect_same_bits("a segment of all tokens is not eos", with(rlhf::rto_mode::semi, whole),
                     with(rlhf::rto_mode::eos, b));
    // A DPO policy that is the reference has nothing to say.
    batch same = b;
    same.columns[dpo_logp] = same.columns[ref_logp];
    const outcome ppo = call("k1", rlhf::kl_in_reward{rlhf::k1{}, rule.beta2}, b);
    for (const auto mode : modes) {
      const outcome silent = with(mode, same);
      for (std::size_t i = 0; i < b.slots(); ++i)
        expect(silent.slots[reward][i] == ppo.slots[reward][i], "a DPO policy that is the reference pays ",
               silent.slots[reward][i] - ppo.slots[reward][i]);
    }
    rule.beta1 = 0;
    for (const auto mode : modes) expect_same_bits("beta1 = 0 is not PPO to the last bit", with(mode, b), ppo);
    rule.beta2 = rule.beta3 = 0;
    for (const auto mode : modes) {
      const outcome nothing = with(mode, b);
      for (const double x : nothing.slots[reward]) expect(plain_zero(x), "all weights 0 pay ", x);
    }
  });
}

TEST_CASE("controllers of the KL: bounded, monotone, positive, in any unit") {
  for_all("controllers", 1, [] {
    const double c = real(1e-4, 1), target = real(1e-3, 10), horizon = real(1, 10000), steps = real(0, 20000),
                 seen = real(0, 40), more = seen + real(0, 5);
    rlhf::adaptive_kl_controller start{.coefficient = c, .target = target, .horizon = horizon};
    expect(bool(start.check()), "the controller refuses its parameters");
    const auto after = [&](rlhf::adaptive_kl_controller k, double observed) {
      k.update(observed, steps);
      return k.coefficient;
    };
    const double next = after(start, seen), step = 0.2 * steps / horizon;
    expect(next > 0, "the coefficient becomes ", next);
    expect(next <= c * (1 + step) * (1 + 1e-12) && (next >= c * (1 - step) * (1 - 1e-12)), "the coefficient goes from ",
           c, " to ", next, " in one step of at most ", step);
    expect(same_bits(after(start, target), c), "at the target it moves to ", after(start, target));
    expect(same_bits(after(start, not_a_number), c), "an observation without a number moves it");
    expect(near(after(start, infinity), c * (1 + step), 1e-12), "an infinite KL is not bounded");
    // Past five horizons a step down would end below 0: it is not taken, so that only shorter steps are in order.
    if (step < 1)
      expect(next <= after(start, more), "a KL of ", seen, " makes ", next, ", one of ", more, " ", after(start, more));
    rlhf::adaptive_kl_controller other = start;
    other.target *= 8;
    expect(same_bits(after(other, 8 * seen), next), "another unit of the KL makes another coefficient");
    rlhf::fixed_kl_controller fixed{c};
    fixed.update(seen, steps);
    expect(same_bits(fixed.coefficient, c), "a fixed coefficient moves");
  });
}
