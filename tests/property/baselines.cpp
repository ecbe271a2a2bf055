// Advantages from several levels and several rewards of a group: a baseline for each token position, anchor states of agents,
// functions normalised on their own, rewards shaped by length, selections, and the baseline of a role.

#include <map>

#include "property/batches.hpp"
#include "rlhf/advantage/role_baseline.hpp"
#include "rlhf/backend/emulated.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/anchor_groups.hpp"
#include "rlhf/driver/combined_reward.hpp"
#include "rlhf/driver/grouped.hpp"
#include "rlhf/driver/token_baseline.hpp"

namespace {

using namespace property;

std::size_t to_size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Members that have the same number are a group; what is no number joins the first group.
struct groups {
  std::vector<std::int64_t> offsets{0}, order{};

  explicit groups(const std::vector<double>& number_of) {
    std::map<double, std::vector<std::int64_t>> members;
    members[0];
    for (std::size_t i = 0; i < number_of.size(); ++i)
      members[std::abs(number_of[i]) < 1e9 ? number_of[i] : 0].push_back(static_cast<std::int64_t>(i));
    for (const auto& [number, of] : members) {
      order.insert(order.end(), of.begin(), of.end());
      offsets.push_back(static_cast<std::int64_t>(order.size()));
    }
  }
  [[nodiscard]] rlhf::grouping<> view() const { return {rlhf::packed(offsets), order.data()}; }
};

/// What is left of numbers that an estimator of a group makes of rewards.
template <class B = rlhf::reference_backend, class Estimator>
std::vector<double> relative(const Estimator& estimator, const groups& g, const std::vector<double>& reward,
                             const std::vector<double>& weight = {}) {
  std::vector<double> out(reward.size(), not_a_number);
  rlhf::group_inputs<double> in;
  in.groups = g.view();
  in.reward = reward;
  if (!weight.empty()) in.weight = weight;
  B be;
  expect_done(rlhf::grouped{estimator}(be, in, out), "grouped");
  return out;
}
std::vector<double> numbers_of_groups(numbers& random, std::int64_t n, std::int64_t count) {
  std::vector<double> number(to_size(n));
  for (double& x : number) x = static_cast<double>(random.integer(0, count));
  return number;
}

// ---- A baseline for each position: responses are rows, `prompt` says which belong together.

namespace of_token {

enum : std::size_t { reward, old_logp, square_sum, importance, all_columns };
enum : std::size_t { prompt };
enum : std::size_t { advantage, returns };

template <class T = double, class B = rlhf::reference_backend>
outcome call(const rlhf::optimal_token_baseline& how, const batch& b, bool weighed = true) {
  std::vector<std::vector<T>> in, out(2, std::vector<T>(b.slots(), static_cast<T>(not_a_number)));
  for (const auto& x : b.columns) in.emplace_back(x.begin(), x.end());
  const groups prompts(b.per_row[prompt]);
  rlhf::token_baseline_inputs<T> x;
  x.groups = prompts.view();
  x.reward = in[reward];
  x.old_logp = in[old_logp];
  x.square_sum = in[square_sum];
  if (weighed) x.importance = in[importance];
  x.mask = b.mask_or_none();
  B be;
  expect_done(rlhf::token_baseline{how}(be, b.layout(), x, rlhf::token_baseline_outputs<T>{out[0], out[1]}),
              "token baseline");
  outcome o;
  for (const auto& c : out) o.slots.emplace_back(c.begin(), c.end());
  return o;
}
batch draw(numbers& random, std::int64_t rows, std::int64_t width, double lowest = -3) {
  batch b = make_batch(random, rows, width, all_columns, [lowest](numbers& from, double* x) {
    x[reward] = from.chance(0.3) ? 0 : from.uniform(-1, 1);
    x[old_logp] = from.uniform(lowest, -0.05);
    const double p = std::exp(x[old_logp]);
    x[square_sum] = p * p + from.uniform(0.05, 1) * (1 - p) * (1 - p);
    x[importance] = from.uniform(0.5, 1.5);
  });
  b.per_row = {numbers_of_groups(random, rows, 2)};
  return b;
}

/// Where a token stands in its group, by the definition.
struct place {
  std::int64_t position = 0;
  double returns = 0, weight = 0;
  bool bare = false;  ///< nothing is subtracted from its returns
};
std::vector<place> places(const rlhf::optimal_token_baseline& how, const batch& b) {
  std::vector<place> all(b.slots());
  std::vector<std::int64_t> tokens(to_size(b.rows));
  for (std::int64_t r = 0; r < b.rows; ++r) {
    const rlhf::segment row = b.layout()[r];
    double sum = 0, weight = 0;
    for (std::int64_t at = row.end; at-- > row.begin;)
      if (b.valid(to_size(at))) all[to_size(at)].returns = sum += b.columns[reward][to_size(at)];
    for (std::int64_t at = row.begin; at < row.end; ++at) {
      const auto i = to_size(at);
      if (!b.valid(i)) continue;
      const double w = b.columns[importance][i];
      weight += (1 - 2 * std::exp(b.columns[old_logp][i]) + b.columns[square_sum][i]) * w * w;
      all[i].weight = weight;
      all[i].position = how.compact ? tokens[to_size(r)] : at - row.begin;
      ++tokens[to_size(r)];
    }
  }
  for (std::int64_t r = 0; r < b.rows; ++r) {
    std::int64_t others = 0, longest = 0;
    for (std::int64_t s = 0; s < b.rows; ++s)
      if (s != r && b.per_row[prompt][to_size(s)] == b.per_row[prompt][to_size(r)]) {
        ++others;
        longest = std::max(longest, tokens[to_size(s)]);
      }
    for (std::int64_t at = b.layout()[r].begin; at < b.layout()[r].end; ++at) {
      place& p = all[to_size(at)];
      p.bare = others == 0 || (how.zero_tail && tokens[to_size(r)] > longest && p.position >= longest);
    }
  }
  return all;
}

}  // namespace of_token

// ---- Episodes of an agent: steps are slots, `state` says which start from the same one, `task` which episodes belong together.

namespace of_step {

enum : std::size_t { reward, state, all_columns };
enum : std::size_t { task };

constexpr auto estimators = std::tuple{
    entry{"grpo", rlhf::group_advantage{}},
    entry{"grpo, batch deviation", rlhf::group_advantage{.scale = rlhf::group_scale::batch, .biased = true}},
    entry{"without a deviation", rlhf::group_advantage{.scale = rlhf::group_scale::none}},
    entry{"leave one out", rlhf::leave_one_out{}},
};

template <class T = double, class B = rlhf::reference_backend, class Estimator>
outcome call(const char* name, const rlhf::anchor_groups<Estimator>& how, const batch& b) {
  const std::vector<T> rewards(b.columns[reward].begin(), b.columns[reward].end());
  std::vector<T> out(b.slots(), static_cast<T>(not_a_number));
  const groups tasks(b.per_row[task]), states(b.columns[state]);
  rlhf::anchor_inputs<T> in;
  in.reward = rewards;
  in.tasks = tasks.view();
  in.anchors = states.view();
  in.mask = b.mask_or_none();
  B be;
  expect_done(how(be, b.layout(), in, out), name);
  outcome o;
  o.slots.emplace_back(out.begin(), out.end());
  return o;
}
batch draw(numbers& random, std::int64_t rows, std::int64_t width, double range) {
  batch b = make_batch(random, rows, width, all_columns, [range](numbers& from, double* x) {
    x[reward] = from.chance(0.4) ? 0 : from.uniform(-range, range);
    x[state] = static_cast<double>(from.integer(0, 4));
  });
  b.per_row = {numbers_of_groups(random, rows, 2)};
  return b;
}

}  // namespace of_step

}  // namespace

TEST_CASE("token baselines: the mask, the order, the packing, float, and another backend") {
  for_all("token baselines", 1, [] {
    const std::int64_t rows = integer(0, 7), width = integer(0, 20) == 0 ? 512 : integer(1, 9);
    numbers random(seed());
    const batch b = of_token::draw(random, rows, width);
    rlhf::optimal_token_baseline how{.epsilon = random.chance(0.5) ? 1e-8 : 0.01, .zero_tail = random.chance(0.5)};
    const auto run = [&](const batch& x) { return of_token::call(how, x); };
    for (const bool compact : {false, true}) {
      how.compact = compact;
      expect_mask_holds("token baseline", b, random, run);
      expect_permutes("token baseline", b, random, run, 1e-11);
    }
    expect_packs("token baseline", b, run, 1e-12);
    const outcome o = run(b), narrow = of_token::call<float>(how, b),
                  emulated = of_token::call<double, rlhf::emulated_backend>(how, b);
    const double scale = largest(o);
    for (std::size_t k = 0; k < o.slots.size(); ++k)
      for (std::size_t i = 0; i < b.slots(); ++i) {
        expect(near(o.slots[k][i], narrow.slots[k][i], 1e-5, 1 + scale), "a token has ", o.slots[k][i], ", in float ",
               narrow.slots[k][i]);
        expect(near(o.slots[k][i], emulated.slots[k][i], 1e-12, scale), "a token has ", o.slots[k][i],
               ", on another backend ", emulated.slots[k][i]);
      }
    batch whole = b;
    whole.mask.clear();
    how.compact = false;
    const outcome slots = run(whole);
    how.compact = true;
    expect(same_columns(slots.slots, run(whole).slots), "without gaps a position is not a slot");
    whole.columns[of_token::importance].assign(b.slots(), 1);
    expect(same_columns(run(whole).slots, of_token::call(how, whole, false).slots), "weights of 1 are not none");
  });
}

TEST_CASE("token baselines: weighted means of the returns that are left") {
  for_all("weighted means", 1, [] {
    const std::int64_t rows = integer(0, 7), width = integer(1, 9);
    numbers random(seed());
    const batch b = of_token::draw(random, rows, width, random.chance(0.2) ? -700 : -3);
    const rlhf::optimal_token_baseline how{
        .epsilon = random.uniform(0, 0.1), .compact = random.chance(0.5), .zero_tail = random.chance(0.5)};
    const outcome o = of_token::call(how, b);
    const auto places = of_token::places(how, b);
    std::map<std::pair<double, std::int64_t>, std::vector<std::size_t>> at;  // prompt and position
    for (std::size_t i = 0; i < b.slots(); ++i) {
      if (!b.valid(i)) continue;
      expect(near(o.slots[of_token::returns][i], places[i].returns, 1e-13, 9), "a token returns ",
             o.slots[of_token::returns][i], ", what is left is ", places[i].returns);
      const double prompt = b.per_row[of_token::prompt][i / to_size(width)];
      at[{prompt, places[i].position}].push_back(i);
      expect(!places[i].bare || same_bits(o.slots[of_token::advantage][i], o.slots[of_token::returns][i]),
             "a token that stands alone has the advantage ", o.slots[of_token::advantage][i]);
    }
    for (const auto& [where, members] : at) {
      double weight = 0, left = 0, low = 0, high = 0;
      for (const auto i : members) {
        weight += places[i].weight;
        left += places[i].weight * places[i].returns;
        low = std::min(low, places[i].returns);
        high = std::max(high, places[i].returns);
      }
      const double want = left / (weight + how.epsilon);
      for (const auto i : members) {
        if (places[i].bare) continue;
        const double baseline = o.slots[of_token::returns][i] - o.slots[of_token::advantage][i];
        expect(near(baseline, want, 1e-11, 9), "the baseline is ", baseline, ", the weighted mean ", want);
        expect(baseline >= low - 1e-12 && baseline <= high + 1e-12, "the baseline ", baseline, " of returns from ", low,
               " to ", high);
      }
    }
  });
}

TEST_CASE("token baselines: units, shifts, and one token a response") {
  for_all("units", 1, [] {
    const std::int64_t rows = integer(0, 7), width = integer(1, 9);
    numbers random(seed());
    const batch b = of_token::draw(random, rows, width);
    rlhf::optimal_token_baseline how{.epsilon = 1e-4, .compact = random.chance(0.5), .zero_tail = random.chance(0.5)};
    const outcome o = of_token::call(how, b);
    batch twice = b, heavy = b, further = b;
    for (double& x : twice.columns[of_token::reward]) x *= 2;
    for (double& x : heavy.columns[of_token::importance]) x *= 2;
    const outcome doubled = of_token::call(how, twice);
    for (std::size_t i = 0; i < b.slots(); ++i)
      expect(same_bits(doubled.slots[of_token::advantage][i], 2 * o.slots[of_token::advantage][i]),
             "rewards twice as large make ", o.slots[of_token::advantage][i], " to ",
             doubled.slots[of_token::advantage][i]);
    auto in_unit = how;
    in_unit.epsilon *= 4;
    expect(same_columns(of_token::call(in_unit, heavy).slots, o.slots), "the unit of the importance counts");
    // What every response gets on top at its end is in every baseline.
    how.epsilon = 0;
    const double c = random.uniform(-3, 3);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t t = width; t-- > 0;)
        if (b.valid(to_size(r * width + t))) {
          further.columns[of_token::reward][to_size(r * width + t)] += c;
          break;
        }
    const outcome plain = of_token::call(how, b), moved = of_token::call(how, further);
    const auto places = of_token::places(how, b);
    for (std::size_t i = 0; i < b.slots(); ++i)
      if (b.valid(i))
        expect(near(moved.slots[of_token::advantage][i], plain.slots[of_token::advantage][i] + (places[i].bare ? c : 0),
                    1e-11, 10),
               "a score ", c, " higher makes ", plain.slots[of_token::advantage][i], " to ",
               moved.slots[of_token::advantage][i]);
    // One token a response: OPO, with the squared gradients for lengths.
    if (width > 1) return;
    std::vector<double> reward(to_size(rows)), weight(to_size(rows));
    for (std::size_t i = 0; i < reward.size(); ++i) {
      reward[i] = b.valid(i) ? b.columns[of_token::reward][i] : not_a_number;
      weight[i] = places[i].weight;
    }
    how.zero_tail = false;
    const auto single = of_token::call(how, b).slots[of_token::advantage];
    const auto opo = relative(rlhf::optimal_baseline{}, groups(b.per_row[of_token::prompt]), reward, weight);
    for (std::size_t i = 0; i < reward.size(); ++i) {
      // Beside an empty response the only token is compared with itself; OPO leaves it alone.
      if (places[i].bare || !b.valid(i)) continue;
      std::size_t others = 0;
      for (std::size_t j = 0; j < reward.size(); ++j)
        others += j != i && b.valid(j) && b.per_row[of_token::prompt][j] == b.per_row[of_token::prompt][i];
      expect(others == 0 ? std::abs(single[i]) < 1e-12 : near(single[i], opo[i], 1e-12, 1), "a single token has ",
             single[i], ", opo gives ", opo[i]);
    }
  });
}

TEST_CASE("token baselines: tokens that are certain but for rounding, and ones that cannot be") {
  for_all("certain", 1, [] {
    const std::int64_t rows = integer(2, 7), width = integer(1, 5);
    numbers random(seed());
    batch b = of_token::draw(random, rows, width);
    b.mask.clear();
    b.per_row[of_token::prompt].assign(to_size(rows), 0);
    for (std::size_t i = 0; i < b.slots(); ++i) {
      // Both come from logits in float: what they leave of 1 - 2 p + sum p^2 may be a rounding below 0.
      const double p = static_cast<float>(1 - random.uniform(0, 3e-7));
      const bool never = random.chance(0.1);
      b.columns[of_token::old_logp][i] = never ? -infinity : static_cast<float>(std::log(p));
      b.columns[of_token::square_sum][i] = never ? 1 : static_cast<float>(p * p + random.uniform(-1e-7, 1e-7));
    }
    const rlhf::optimal_token_baseline how{.zero_tail = false};
    const outcome o = of_token::call(how, b);
    for (std::int64_t t = 0; t < width; ++t) {
      double low = 0, high = 0;
      for (std::int64_t r = 0; r < rows; ++r) {
        low = std::min(low, o.slots[of_token::returns][to_size(r * width + t)]);
        high = std::max(high, o.slots[of_token::returns][to_size(r * width + t)]);
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto i = to_size(r * width + t);
        const double baseline = o.slots[of_token::returns][i] - o.slots[of_token::advantage][i];
        expect(baseline >= low - 1e-9 && baseline <= high + 1e-9, "the baseline ", baseline, " of returns from ", low,
               " to ", high);
      }
    }
  });
}

TEST_CASE("anchor groups: the mask, the order, the packing, float, and another backend") {
  for_all("anchors", std::tuple_size_v<decltype(of_step::estimators)>, [] {
    const std::int64_t rows = integer(0, 7), width = integer(0, 20) == 0 ? 512 : integer(1, 9);
    numbers random(seed());
    const batch b = of_step::draw(random, rows, width, 2);
    const double gamma = random.uniform(0.5, 1), weight = random.uniform(-1, 2);
    const auto check = [&](const auto& e) {
      const rlhf::anchor_groups how{e.formula, gamma, weight};
      const auto run = [&](const batch& x) { return of_step::call(e.name, how, x); };
      expect_mask_holds(e.name, b, random, run);
      expect_permutes(e.name, b, random, run, 1e-9);
      expect_packs(e.name, b, run, 1e-9);
      const outcome o = run(b), emulated = of_step::call<double, rlhf::emulated_backend>(e.name, how, b);
      for (std::size_t i = 0; i < b.slots(); ++i)
        expect(near(o.slots[0][i], emulated.slots[0][i], 1e-9, largest(o)), e.name, " gives ", o.slots[0][i],
               ", on another backend ", emulated.slots[0][i]);
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, of_step::estimators);
    const rlhf::anchor_groups plain{rlhf::group_advantage{.scale = rlhf::group_scale::none}, gamma, weight};
    const outcome wide = of_step::call("anchors", plain, b), narrow = of_step::call<float>("anchors", plain, b);
    for (std::size_t i = 0; i < b.slots(); ++i)
      expect(near(wide.slots[0][i], narrow.slots[0][i], 1e-5, 1 + 2 * largest(wide)), "a step has ", wide.slots[0][i],
             ", in float ", narrow.slots[0][i]);
  });
}

TEST_CASE("anchor groups: both levels by their definition, finite, and sums of nothing") {
  for_all("levels", std::tuple_size_v<decltype(of_step::estimators)>, [] {
    const std::int64_t rows = integer(0, 7), width = integer(1, 9);
    numbers random(seed());
    const double range = random.chance(0.2) ? 700 : 2, gamma = random.uniform(0.5, 1), weight = random.uniform(-1, 2),
                 c = random.uniform(-2, 2);
    const batch b = of_step::draw(random, rows, width, range);
    std::vector<double> sum(to_size(rows)), left(b.slots(), not_a_number);
    std::vector<std::int64_t> last(to_size(rows), -1);
    bool empty = false;
    for (std::int64_t r = 0; r < rows; ++r) {
      double later = 0;
      for (std::int64_t t = width; t-- > 0;) {
        const auto i = to_size(r * width + t);
        if (!b.valid(i)) continue;
        if (last[to_size(r)] < 0) last[to_size(r)] = r * width + t;
        sum[to_size(r)] += b.columns[of_step::reward][i];
        left[i] = later = b.columns[of_step::reward][i] + gamma * later;
      }
      empty = empty || last[to_size(r)] < 0;
    }
    const groups tasks(b.per_row[of_step::task]), states(b.columns[of_step::state]);
    const auto check = [&](const auto& e) {
      const auto with = [&](double discount, double omega, const batch& x) {
        return of_step::call(e.name, rlhf::anchor_groups{e.formula, discount, omega}, x).slots[0];
      };
      const auto both = with(gamma, weight, b), upper = with(gamma, 0, b), one = with(gamma, 1, b);
      const auto episode = relative(e.formula, tasks, sum), step = relative(e.formula, states, left);
      double scale = 1 + range;
      for (const auto* list : {&episode, &step})
        for (const double x : *list) scale = std::max(scale, std::abs(x));
      for (std::size_t i = 0; i < b.slots(); ++i) {
        expect(std::isfinite(both[i]), e.name, " gives ", both[i]);
        if (!b.valid(i)) continue;
        expect(near(both[i], episode[i / to_size(width)] + weight * step[i], 1e-8, scale), e.name, " gives ", both[i],
               ", of the episode ", episode[i / to_size(width)], ", of the step ", step[i]);
        expect(near(both[i], upper[i] + weight * (one[i] - upper[i]), 1e-10, scale), e.name, " is not linear in omega");
      }
      // A step of its own state, visited by nobody else, and tasks for states in episodes of one step.
      batch lone = b, single = b;
      for (std::size_t i = 0; i < b.slots(); ++i) {
        lone.columns[of_step::state][i] = static_cast<double>(i);
        single.columns[of_step::state][i] = b.per_row[of_step::task][i / to_size(width)];
      }
      const auto alone = with(gamma, weight, lone);
      for (std::size_t i = 0; i < b.slots(); ++i)
        expect(same_bits(alone[i], upper[i]), e.name, ": a state that nobody else visits gives ", alone[i], ", not ",
               upper[i]);
      if (width == 1 && !empty) {
        const auto same = with(gamma, weight, single);
        for (std::size_t i = 0; i < b.slots(); ++i)
          expect(near(same[i], (1 + weight) * upper[i], 1e-12, scale), e.name, ": levels that are the same give ",
                 same[i], " and ", upper[i]);
      }
      // Undiscounted, what all episodes get on top at their ends is in every mean.
      if (empty) return;
      batch further = b;
      for (const auto at : last) further.columns[of_step::reward][to_size(at)] += c;
      const auto here = with(1, weight, b), there = with(1, weight, further);
      // Groups whose rewards differ by a rounding are normalised by epsilon, which is 1e-4.
      for (std::size_t i = 0; i < b.slots(); ++i)
        expect(near(here[i], there[i], 1e-8, scale), e.name, ": episodes paid ", c, " more make ", here[i], " to ",
               there[i]);
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, of_step::estimators);
    // Without a deviation both levels add up to nothing in their groups.
    const rlhf::group_advantage plain{.scale = rlhf::group_scale::none};
    const auto lower = of_step::call("", rlhf::anchor_groups{plain, gamma, 1}, b).slots[0],
               upper = of_step::call("", rlhf::anchor_groups{plain, gamma, 0}, b).slots[0];
    std::map<double, double> of_state, of_task;
    for (std::size_t i = 0; i < b.slots(); ++i)
      if (b.valid(i)) of_state[b.columns[of_step::state][i]] += lower[i] - upper[i];
    for (std::size_t r = 0; r < to_size(rows); ++r)
      if (last[r] >= 0) of_task[b.per_row[of_step::task][r]] += upper[to_size(last[r])];
    for (const auto& [state, total] : of_state)
      expect(std::abs(total) <= 1e-11 * range * 64, "the steps of a state add up to ", total);
    for (const auto& [task, total] : of_task)
      expect(empty || std::abs(total) <= 1e-11 * range * 64, "the episodes of a task add up to ", total);
  });
}

TEST_CASE("functions normalised on their own: sums of groups, units, and order") {
  constexpr unsigned any_unit =
      8;  // rewards that are c times as large have the same advantages, in groups of every size
  static constexpr auto estimators = std::tuple{
      entry{"grpo", rlhf::group_advantage{.epsilon = 0}, any_unit},
      entry{"grpo, batch deviation", rlhf::group_advantage{.scale = rlhf::group_scale::batch, .epsilon = 0}, any_unit},
      entry{"leave one out, normalised", rlhf::leave_one_out{.normalize = true, .epsilon = 0}},
  };
  for_all("decoupled", std::tuple_size_v<decltype(estimators)>, [] {
    const std::int64_t n = integer(0, 12), functions = integer(1, 4);
    numbers random(seed());
    const groups g(numbers_of_groups(random, n, 2));
    std::vector<double> rewards(to_size(n * functions)), weight(to_size(functions));
    for (double& x : rewards) x = random.chance(0.15) ? not_a_number : random.uniform(-2, 2);
    for (double& x : weight) x = random.uniform(-1, 2);
    const auto check = [&](const auto& e) {
      const auto call = [&]<class B>(B be, const std::vector<double>& x, const std::vector<double>& w) {
        std::vector<double> out(to_size(n), not_a_number);
        rlhf::rewards_inputs<double> in;
        in.rewards = {x.data(), n, functions};
        if (!w.empty()) in.weight = w;
        expect_done(rlhf::decoupled_groups{e.formula}(be, g.view(), in, out), e.name);
        return out;
      };
      const rlhf::reference_backend plain;
      const auto column = [&](std::int64_t k) {
        std::vector<double> x;
        for (std::int64_t i = 0; i < n; ++i) x.push_back(rewards[to_size(i * functions + k)]);
        return x;
      };
      const auto y = call(plain, rewards, weight), emulated = call(rlhf::emulated_backend{}, rewards, weight);
      std::vector<double> sum(to_size(n)), last;
      for (std::int64_t k = 0; k < functions; ++k) {
        last = relative(e.formula, g, column(k));
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += weight[to_size(k)] * last[i];
      }
      for (std::size_t i = 0; i < sum.size(); ++i) {
        expect(near(y[i], sum[i], 1e-12, 10), e.name, " gives ", y[i], ", the functions on their own ", sum[i]);
        expect(near(y[i], emulated[i], 1e-10, 10), e.name, " gives ", y[i], ", on another backend ", emulated[i]);
      }
      // Functions that are louder, or higher, are not heard better.
      auto louder = rewards, higher = rewards;
      for (std::int64_t i = 0; i < n; ++i) louder[to_size(i * functions)] *= 1024;
      for (std::int64_t i = 0; i < n; ++i) higher[to_size(i * functions)] += 0.5;
      const auto loud = call(plain, louder, weight), high = call(plain, higher, weight);
      for (std::size_t i = 0; i < sum.size(); ++i) {
        expect((e.traits & any_unit) == 0 || near(loud[i], y[i], 1e-12, 10), e.name, ": a louder function makes ", y[i],
               " to ", loud[i]);
        expect(near(high[i], y[i], 1e-8, 10), e.name, ": a higher function makes ", y[i], " to ", high[i]);
      }
      // Weight 0, and a function that applies nowhere.
      auto deaf = weight;
      deaf[0] = 0;
      auto silent = rewards;
      for (std::int64_t i = 0; i < n; ++i) silent[to_size(i * functions)] = not_a_number;
      const auto without = call(plain, rewards, deaf), nowhere = call(plain, silent, weight);
      for (std::size_t i = 0; i < sum.size(); ++i)
        expect(without[i] == nowhere[i], e.name, ": a function of weight 0 gives ", without[i], ", none ", nowhere[i]);
      const std::vector<double> ones(to_size(functions), 1);
      expect(same_columns({call(plain, rewards, ones)}, {call(plain, rewards, {})}), e.name,
             ": weights of 1 are not none");
      if (functions == 1)
        expect(same_columns({call(plain, rewards, {})}, {last}), e.name, ": one function is not its group's");
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, estimators);
  });
}

TEST_CASE("rewards shaped by length: units of the length, order, and what they become") {
  static constexpr rlhf::group_advantage centred{.scale = rlhf::group_scale::none}, scaled{.epsilon = 0};
  static constexpr auto shapes = std::tuple{
      entry{"relative length", rlhf::length_shaped{rlhf::relative_length{}}},
      entry{"relative length, steep", rlhf::length_shaped{rlhf::relative_length{.alpha = 3}, rlhf::leave_one_out{}}},
      entry{"relative length, grpo", rlhf::length_shaped{rlhf::relative_length{.alpha = 1}, rlhf::group_advantage{}}},
      entry{"brevity", rlhf::length_shaped{rlhf::brevity_bonus{}}},
      entry{"brevity, grpo", rlhf::length_shaped{rlhf::brevity_bonus{.correct = 0.5}, rlhf::group_advantage{}}},
  };
  for_all("length", std::tuple_size_v<decltype(shapes)>, [] {
    const std::int64_t n = integer(0, 14);
    numbers random(seed());
    const double range = random.chance(0.2) ? 700 : 2;
    const auto number = numbers_of_groups(random, n, 2);
    std::vector<double> reward(to_size(n)), length(to_size(n));
    for (double& x : reward)
      x = random.chance(0.1)   ? not_a_number
          : random.chance(0.4) ? 1
          : random.chance(0.3) ? 0
                               : random.uniform(0, range);
    for (double& x : length) x = static_cast<double>(random.integer(1, 4096));
    const groups g(number);
    const auto order = random.order(to_size(n));
    std::vector<double> number_moved, reward_moved, length_moved, twice = length, spoilt = length, equal = length;
    for (const auto i : order) {
      number_moved.push_back(number[i]);
      reward_moved.push_back(reward[i]);
      length_moved.push_back(length[i]);
    }
    for (double& x : twice) x *= 2;
    for (std::size_t i = 0; i < spoilt.size(); ++i)
      if (std::isnan(reward[i])) spoilt[i] = random.garbage();
    for (double& x : equal) x = 17;
    const auto check = [&](const auto& e) {
      expect(bool(e.formula.check()), e.name, " refuses its parameters");
      const auto y = relative(e.formula, g, reward, length),
                 z = relative(e.formula, groups(number_moved), reward_moved, length_moved),
                 emulated = relative<rlhf::emulated_backend>(e.formula, g, reward, length);
      double scale = 1;
      for (const double x : y) scale = std::max(scale, std::abs(x));
      for (std::size_t i = 0; i < y.size(); ++i) {
        expect(std::isfinite(y[i]), e.name, " gives ", y[i]);
        expect(!std::isnan(reward[i]) || plain_zero(y[i]), e.name, " gives ", y[i], " without a reward");
        expect(near(z[i], y[order[i]], 1e-9, scale), e.name, ": another order makes ", y[order[i]], " to ", z[i]);
        expect(near(emulated[i], y[i], 1e-9, scale), e.name, ": another backend makes ", y[i], " to ", emulated[i]);
      }
      expect(same_columns({relative(e.formula, g, reward, twice)}, {y}), e.name, ": the unit of the length counts");
      expect(same_columns({relative(e.formula, g, reward, spoilt)}, {y}), e.name,
             ": the length of a response without a reward counts");
      // Of two that are paid the same, the longer one has no more.
      for (std::size_t i = 0; i < y.size(); ++i)
        for (std::size_t j = 0; j < y.size(); ++j)
          if (number[i] == number[j] && reward[i] == reward[j] && length[i] < length[j])
            expect(y[i] >= y[j] - 1e-12 * scale, e.name, ": ", length[i], " tokens have ", y[i], ", ", length[j],
                   " tokens ", y[j]);
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, shapes);

    const auto expect_same = [&](const char* what, const std::vector<double>& a, const std::vector<double>& b,
                                 double error, double times = 1) {
      for (std::size_t i = 0; i < a.size(); ++i)
        expect(near(a[i], times * b[i], error, range), what, ": ", a[i], ", ", times * b[i]);
    };
    const auto plain = relative(centred, g, reward), grpo = relative(scaled, g, reward);
    const double alpha = random.uniform(0, 3);
    const rlhf::relative_length relative_to{.alpha = alpha};
    expect_same("a length of no weight",
                relative(rlhf::length_shaped{rlhf::relative_length{.alpha = 0}}, g, reward, length), plain, 0);
    expect_same("responses of one length", relative(rlhf::length_shaped{relative_to}, g, reward, equal), plain, 1e-12,
                1 / (1 + alpha));
    expect_same("their deviation", relative(rlhf::length_shaped{relative_to, scaled}, g, reward, equal), grpo, 1e-9);
    expect_same("right answers of one length", relative(rlhf::length_shaped{rlhf::brevity_bonus{}}, g, reward, equal),
                plain, 0);
    expect_same("no right answers",
                relative(rlhf::length_shaped{rlhf::brevity_bonus{.correct = infinity}}, g, reward, length), plain, 0);
    // What the shapes make of the rewards, group by group: the mean length and the shortest right answer.
    std::vector<double> longer = reward, bonus = reward;
    for (std::size_t i = 0; i < reward.size(); ++i) {
      double sum = 0, count = 0, shortest = infinity;
      for (std::size_t j = 0; j < reward.size(); ++j) {
        if (number[j] != number[i] || std::isnan(reward[j])) continue;
        sum += length[j];
        count += 1;
        if (reward[j] >= 1) shortest = std::min(shortest, length[j]);
      }
      if (std::isnan(reward[i])) continue;
      longer[i] = reward[i] / (1 + alpha * length[i] * count / sum);
      if (reward[i] >= 1) bonus[i] = reward[i] * shortest / length[i];
    }
    expect_same("relative length", relative(rlhf::length_shaped{relative_to}, g, reward, length),
                relative(centred, g, longer), 1e-12);
    expect_same("brevity", relative(rlhf::length_shaped{rlhf::brevity_bonus{}}, g, reward, length),
                relative(centred, g, bonus), 1e-12);
  });
}

TEST_CASE("selections: rewards as they are or none, and how many") {
  for_all("selections", 2, [] {
    const std::int64_t n = integer(0, 14), keep = integer(1, 5);
    numbers random(seed());
    const auto number = numbers_of_groups(random, n, 2);
    const groups g(number);
    std::vector<double> reward(to_size(n)), length(to_size(n));
    for (double& x : reward) x = random.chance(0.1) ? not_a_number : static_cast<double>(random.integer(0, 2));
    for (double& x : length) x = static_cast<double>(random.integer(1, 9));
    const bool largest = random.chance(0.5);
    const double low = random.uniform(0, 1), high = low + random.uniform(0, 2), least = random.uniform(0, 1);
    const auto same_or_none = [&](const std::vector<double>& y) {
      for (std::size_t i = 0; i < y.size(); ++i)
        expect(std::isnan(y[i]) || same_bits(y[i], reward[i]), "a selection makes ", reward[i], " to ", y[i]);
    };
    const auto best = relative(rlhf::best_of_group{.keep = keep, .largest = largest}, g, reward, length);
    const auto fit = relative(rlhf::group_filter{.minimum_deviation = least, .low = low, .high = high}, g, reward);
    const auto taught = relative(rlhf::group_filter{}, g, reward);
    same_or_none(best);
    same_or_none(fit);
    same_or_none(taught);
    for (double of = 0; of <= 2; ++of) {
      double scored = 0, kept = 0, sum = 0, squares = 0, bar = infinity;
      std::vector<std::size_t> members;
      for (std::size_t i = 0; i < reward.size(); ++i)
        if (number[i] == of && !std::isnan(reward[i])) {
          members.push_back(i);
          scored += 1;
          sum += reward[i];
          kept += !std::isnan(best[i]);
        }
      expect(kept == std::min(scored, static_cast<double>(keep)), kept, " of ", scored, " responses are kept, not ",
             keep);
      const double sign = largest ? -1 : 1;
      for (const auto i : members)
        if (std::isnan(best[i])) bar = std::min(bar, sign * length[i]);
      for (const auto i : members) {
        expect(std::isnan(best[i]) || sign * length[i] <= bar, "a response of weight ", length[i],
               " is kept before one of ", sign * bar);
        squares += (reward[i] - sum / scored) * (reward[i] - sum / scored);
      }
      const double mean = sum / scored, deviation = scored > 1 ? std::sqrt(squares / (scored - 1)) : 0;
      const bool unclear =
          std::abs(deviation - least) < 1e-9 || std::abs(mean - low) < 1e-9 || std::abs(mean - high) < 1e-9;
      for (const auto i : members) {
        expect(unclear || std::isnan(fit[i]) != (deviation > least && mean >= low && mean <= high), "a group of mean ",
               mean, " and deviation ", deviation, " is ", std::isnan(fit[i]) ? "dropped" : "kept");
        expect(std::isnan(taught[i]) != (deviation > 0), "a group of deviation ", deviation, " is ",
               std::isnan(taught[i]) ? "dropped" : "kept");
      }
    }
    // A group that teaches nothing has advantage 0 with or without the filter.
    expect(same_columns({relative(rlhf::group_advantage{}, g, taught)}, {relative(rlhf::group_advantage{}, g, reward)}),
           "dropping what teaches nothing changes what is taught");
  });
}

TEST_CASE("the baseline of a role: a share of the surprise, within the rewards so far") {
  for_all("roles", 1, [] {
    const double decay = real(0, 1), start = real(-700, 700), c = real(-100, 100);
    const std::int64_t calls = integer(0, 20);
    numbers random(seed());
    rlhf::role_baseline role{decay, start}, shifted{decay, start + c}, twice{decay, 2 * start}, still{1, start},
        quick{0, start};
    expect(bool(role.check()), "a decay of ", decay, " is refused");
    double low = start, high = start;
    for (std::int64_t k = 0; k < calls; ++k) {
      const double r = random.uniform(-700, 700), before = role.value;
      low = std::min(low, r);
      high = std::max(high, r);
      const double a = role.advantage(r);
      expect(near(a, decay * (r - before), 1e-12, 1000), "a reward of ", r, " over ", before, " has ", a, " at ",
             decay);
      expect(role.value >= low - 1e-9 && role.value <= high + 1e-9, "the baseline is ", role.value, " of rewards from ",
             low, " to ", high);
      expect(near(shifted.advantage(r + c), a, 1e-11, 1000), "a shift moves the advantage");
      expect(same_bits(twice.advantage(2 * r), 2 * a), "another unit is not the advantage's");
      expect(still.advantage(r) == r - start, "a baseline that stands still moves");
      expect(quick.advantage(r) == 0, "a baseline that is the reward leaves ", r);
      const double value = role.value;
      expect(plain_zero(role.advantage(not_a_number)) && same_bits(role.value, value), "no reward moves the baseline");
    }
  });
}
