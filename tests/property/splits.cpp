// A batch in pieces is the batch: any split into micro-batches, any padding and any packing give the same loss, gradients and
// statistics to rounding, where the counts of the whole batch are handed over (and only there).

#include <numeric>

#include "property/batches.hpp"
#include "rlhf/advantage/group.hpp"
#include "rlhf/advantage/leave_one_out.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/driver/ranking_loss.hpp"
#include "rlhf/driver/reference_point.hpp"
#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/driver/sequence_loss.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/objective/value.hpp"
#include "rlhf/objective/weighted.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "rlhf/reward/ranking.hpp"
#include "rlhf/reward/ties.hpp"

namespace {

using namespace property;
using sizes = std::vector<std::int64_t>;

/// What the denominators of a whole batch are.
struct counts {
  double tokens = 0, rows = 0, nonempty = 0, prompts = 0;
};

/// Rows of a batch that start prompts: 0 = p_0 < ... ; prompts may be empty.
sizes draw_prompts(numbers& random, std::int64_t rows) {
  sizes offsets{0};
  while (offsets.back() < rows) offsets.push_back(std::min(rows, offsets.back() + random.integer(0, 3)));
  return offsets;
}
/// Where the pieces begin and end: any of `at`, some pieces empty.
sizes cut(numbers& random, const sizes& at) {
  sizes cuts{at.front()};
  for (const auto x : at)
    for (int again = 0; again < 2; ++again)
      if (random.chance(0.35)) cuts.push_back(x);
  cuts.push_back(at.back());
  return cuts;
}
sizes every(std::int64_t n) {
  sizes at(static_cast<std::size_t>(n) + 1);
  std::iota(at.begin(), at.end(), std::int64_t{0});
  return at;
}

counts count(const batch& b, const sizes& prompts) {
  counts c;
  const auto sequences = b.layout();
  for (std::int64_t r = 0; r < b.rows; ++r) {
    double n = 0;
    for (std::int64_t i = sequences[r].begin; i < sequences[r].end; ++i) n += b.valid(static_cast<std::size_t>(i));
    c.tokens += n;
    c.nonempty += n > 0;
  }
  c.rows = static_cast<double>(b.rows);
  c.prompts = static_cast<double>(prompts.size() - 1);
  return c;
}

/// Rows [first, last) in a layout of their own, packed or padded to some other width with gaps and garbage; `from[i]`: where
/// slot i stood, or -1.
batch piece(const batch& b, std::int64_t first, std::int64_t last, numbers& random, sizes& from) {
  std::vector<std::size_t> kept;
  batch p = packed_of(b, kept, first, last);
  from.assign(kept.begin(), kept.end());
  if (random.chance(0.5)) return p;
  std::int64_t longest = 0;
  for (std::int64_t r = 0; r < p.rows; ++r) longest = std::max(longest, p.layout()[r].end - p.layout()[r].begin);
  batch w;
  w.rows = p.rows;
  w.width = longest + random.integer(0, 4);
  const auto n = static_cast<std::size_t>(w.rows * w.width);
  w.columns.assign(p.columns.size(), std::vector<double>(n));
  for (auto& c : w.columns)
    for (auto& x : c) x = random.garbage();
  w.mask.assign(n, 0);
  w.per_row = p.per_row;
  from.assign(n, -1);
  for (std::int64_t r = 0; r < p.rows; ++r) {
    const auto range = p.layout()[r];
    std::int64_t at = r * w.width, spare = w.width - (range.end - range.begin);
    for (std::int64_t i = range.begin; i < range.end; ++i, ++at) {
      while (spare > 0 && random.chance(0.3)) ++at, --spare;
      const auto to = static_cast<std::size_t>(at), source = static_cast<std::size_t>(i);
      w.put(to, p.get(source));
      w.mask[to] = 1;
      from[to] = static_cast<std::int64_t>(kept[source]);
    }
  }
  return w;
}

/// What a call gives, with what it reports.
struct report {
  outcome found{};
  rlhf::statistics stats{};
};

void expect_same_statistics(const char* name, const rlhf::statistics& whole, const rlhf::statistics& merged) {
  for (int k = 0; k < whole.size; ++k) {
    const auto& e = whole.entries[k];
    const double x = whole[e.name], y = merged[e.name];
    expect(near(x, y, 1e-11, 1), name, ": ", e.name, " is ", x, " of the whole, ", y, " of the pieces");
  }
}

/// `whole(batch, prompts)` counts for itself; `part(batch, prompts)` has the counts of the whole. Prompts are offsets of rows.
template <class Whole, class Part>
void expect_adds_up(const char* name, const batch& b, const sizes& prompts, const sizes& cuts, numbers& random,
                    Whole whole, Part part) {
  const report all = whole(b, prompts);
  report sum;
  sum.found.slots.assign(all.found.slots.size(), std::vector<double>(b.slots()));
  sum.found.rows.assign(all.found.rows.size(), {});
  for (std::size_t c = 0; c + 1 < cuts.size(); ++c) {
    sizes from, inner;
    for (const auto p : prompts)
      if (p >= cuts[c] && p <= cuts[c + 1]) inner.push_back(p - cuts[c]);
    const batch mine = piece(b, cuts[c], cuts[c + 1], random, from);
    const report r = part(mine, inner);
    sum.found.loss += r.found.loss;
    sum.stats.merge(r.stats);
    for (std::size_t k = 0; k < r.found.slots.size(); ++k)
      for (std::size_t i = 0; i < from.size(); ++i) {
        expect(from[i] >= 0 || plain_zero(r.found.slots[k][i]), name, " writes ", r.found.slots[k][i],
               " under the mask");
        if (from[i] >= 0) sum.found.slots[k][static_cast<std::size_t>(from[i])] += r.found.slots[k][i];
      }
    for (std::size_t k = 0; k < r.found.rows.size(); ++k)
      sum.found.rows[k].insert(sum.found.rows[k].end(), r.found.rows[k].begin(), r.found.rows[k].end());
  }
  const double scale = largest(all.found);
  expect(near(all.found.loss, sum.found.loss, 1e-12, scale), name, ": ", all.found.loss, " of the whole, ",
         sum.found.loss, " of the pieces");
  for (std::size_t k = 0; k < all.found.slots.size(); ++k)
    for (std::size_t i = 0; i < b.slots(); ++i)
      expect(near(all.found.slots[k][i], sum.found.slots[k][i], 1e-12, scale), name, ": output ", k, " of slot ", i,
             " is ", all.found.slots[k][i], " of the whole, ", sum.found.slots[k][i], " of the pieces");
  for (std::size_t k = 0; k < all.found.rows.size(); ++k)
    for (std::size_t i = 0; i < all.found.rows[k].size(); ++i)
      expect(near(all.found.rows[k][i], sum.found.rows[k][i], 1e-12, scale), name, ": of row ", i, " ",
             all.found.rows[k][i], " of the whole, ", sum.found.rows[k][i], " of the pieces");
  expect_same_statistics(name, all.stats, sum.stats);
}

// ---- token objectives: logp, entropy, old, ref, rollout, advantage

void fill_token(numbers& random, double* x) {
  x[2] = random.uniform(-3, -0.5);
  x[0] = x[2] + random.uniform(-0.4, 0.4);
  x[1] = random.uniform(0, 2);
  x[3] = random.uniform(-3, -0.05);
  x[4] = x[2] + random.uniform(-0.1, 0.1);
  x[5] = random.uniform(-2, 2);
}
rlhf::grouping<> grouped_by(const sizes& prompts) { return {rlhf::packed(prompts), nullptr}; }

template <class Loss>
report call_tokens(const char* name, const Loss& loss, const batch& b, const sizes& prompts) {
  report r;
  r.found.slots.assign(2, std::vector<double>(b.slots()));
  rlhf::token_inputs<double> in;
  const auto& c = b.columns;
  in.logp = c[0];
  in.entropy = c[1];
  in.old_logp = c[2];
  in.ref_logp = c[3];
  in.rollout_logp = c[4];
  in.advantage = c[5];
  in.mask = b.mask_or_none();
  in.groups = grouped_by(prompts);
  rlhf::token_outputs<double> out;
  out.loss = {&r.found.loss, 1};
  out.grad_logp = r.found.slots[0];
  out.grad_entropy = r.found.slots[1];
  out.stats = &r.stats;
  rlhf::reference_backend be;
  expect_done(loss(be, b.layout(), in, out), name);
  return r;
}

/// Each mode of aggregation: on its own counts, and on those of the whole batch. `by_prompt`: prompts stay whole.
template <class Make>
struct mode {
  const char* name;
  Make make;
  bool by_prompt = false;
};
template <class Make>
mode(const char*, Make) -> mode<Make>;
template <class Make>
mode(const char*, Make, bool) -> mode<Make>;

constexpr auto modes = std::tuple{
    mode{"token_mean", [](const counts& c) { return rlhf::token_mean{.tokens = c.tokens}; }},
    mode{"token_sum", [](const counts&) { return rlhf::token_sum{.scale = 0.25}; }},
    mode{"fixed_length", [](const counts& c) { return rlhf::fixed_length{.length = 16, .sequences = c.rows}; }},
    mode{"row_mean", [](const counts& c) { return rlhf::row_mean{.sequences = c.rows}; }},
    mode{"sequence_mean_token_mean",
         [](const counts& c) { return rlhf::sequence_mean_token_mean{.sequences = c.nonempty, .scale = 2}; }},
    mode{"sequence_mean_token_sum",
         [](const counts& c) { return rlhf::sequence_mean_token_sum{.sequences = c.nonempty, .divisor = 16}; }},
    mode{"length_weighted_mean", [](const counts& c) { return rlhf::length_weighted_mean{.sequences = c.rows}; }},
    mode{"prompt_mean", [](const counts& c) { return rlhf::prompt_mean{.groups = c.prompts}; }, true},
};

template <class Holds>
void for_modes(Holds holds) {
  std::apply([&](const auto&... m) { (holds(m), ...); }, modes);
}

}  // namespace

TEST_CASE("splits: token objectives with every aggregate") {
  for_all("policy_loss", 2 * std::tuple_size_v<decltype(modes)>, [] {
    const std::int64_t rows = integer(0, 9), width = integer(1, 9);
    numbers random(seed());
    const batch b = make_batch(random, rows, width, 6, fill_token);
    const sizes prompts = draw_prompts(random, rows);
    const counts all = count(b, prompts);
    for_modes([&](const auto& m) {
      const sizes cuts = cut(random, m.by_prompt ? prompts : every(rows));
      const auto with = [&](const auto& objective, const auto& term) {
        expect_adds_up(
            m.name, b, prompts, cuts, random,
            [&](const batch& x, const sizes& p) {
              return call_tokens(m.name, rlhf::policy_loss{objective, term, m.make({})}, x, p);
            },
            [&](const batch& x, const sizes& p) {
              return call_tokens(m.name, rlhf::policy_loss{objective, term, m.make(all)}, x, p);
            });
      };
      with(rlhf::ppo_clip{.dual_clip = 3}, rlhf::both{rlhf::kl_penalty{rlhf::k3{}, 0.1}, rlhf::entropy_bonus{0.02}});
      with(rlhf::sequence_ratio{rlhf::ppo_clip{.low = 0.1, .high = 0.1}}, rlhf::kl_penalty{rlhf::k2{}, 0.1});
    });
  });
}

TEST_CASE("splits: value losses with every aggregate") {
  for_all("value_loss", std::tuple_size_v<decltype(modes)>, [] {
    const std::int64_t rows = integer(0, 9), width = integer(1, 9);
    numbers random(seed());
    const batch b = make_batch(random, rows, width, 3, [](numbers& from, double* x) {
      x[1] = from.uniform(-2, 2);
      x[0] = x[1] + from.uniform(-0.5, 0.5);
      x[2] = from.uniform(-3, 3);
    });
    const sizes prompts = draw_prompts(random, rows);
    const counts all = count(b, prompts);
    const auto call = [](const char* name, const auto& loss, const batch& x, const sizes& p) {
      report r;
      r.found.slots.assign(1, std::vector<double>(x.slots()));
      rlhf::value_inputs<double> in;
      in.value = x.columns[0];
      in.old_value = x.columns[1];
      in.returns = x.columns[2];
      in.mask = x.mask_or_none();
      in.groups = grouped_by(p);
      rlhf::value_outputs<double> out;
      out.loss = {&r.found.loss, 1};
      out.grad_value = r.found.slots[0];
      out.stats = &r.stats;
      rlhf::reference_backend be;
      expect_done(loss(be, x.layout(), in, out), name);
      return r;
    };
    for_modes([&](const auto& m) {
      expect_adds_up(
          m.name, b, prompts, cut(random, m.by_prompt ? prompts : every(rows)), random,
          [&](const batch& x, const sizes& p) {
            return call(m.name, rlhf::value_loss{rlhf::clipped_value{}, m.make({})}, x, p);
          },
          [&](const batch& x, const sizes& p) {
            return call(m.name, rlhf::value_loss{rlhf::clipped_value{}, m.make(all)}, x, p);
          });
    });
  });
}

TEST_CASE("splits: losses of sequences and of prompts") {
  for_all("sequence losses", 2, [] {
    const std::int64_t rows = integer(0, 9), width = integer(1, 9);
    numbers random(seed());
    batch b = make_batch(random, rows, width, 6, fill_token);
    b.per_row.emplace_back();
    for (std::int64_t r = 0; r < rows; ++r) b.per_row[0].push_back(random.chance(0.5) ? 1 : 0);
    const sizes prompts = draw_prompts(random, rows);
    const counts all = count(b, prompts);
    const auto call = [](const char* name, const auto& loss, const batch& x, const sizes& p) {
      report r;
      r.found.slots.assign(1, std::vector<double>(x.slots()));
      rlhf::sequence_inputs<double> in;
      in.logp = x.columns[0];
      in.old_logp = x.columns[2];
      in.advantage = x.columns[5];
      in.mask = x.mask_or_none();
      in.score = x.per_row[0];
      in.groups = grouped_by(p);
      rlhf::sequence_outputs<double> out;
      out.loss = {&r.found.loss, 1};
      out.grad_logp = r.found.slots[0];
      out.stats = &r.stats;
      rlhf::reference_backend be;
      expect_done(loss(be, x.layout(), in, out), name);
      return r;
    };
    using rloo = rlhf::sequence_policy_loss<rlhf::ppo_clip, rlhf::summed_log_ratio>;
    using real = rlhf::group_sequence_loss<rlhf::real_classification>;
    expect_adds_up(
        "rloo", b, prompts, cut(random, every(rows)), random,
        [&](const batch& x, const sizes& p) { return call("rloo", rloo{}, x, p); },
        [&](const batch& x, const sizes& p) {
          return call("rloo", rloo{.objective = {}, .aggregate = {.items = all.rows}}, x, p);
        });
    expect_adds_up(
        "real", b, prompts, cut(random, prompts), random,
        [&](const batch& x, const sizes& p) { return call("real", real{}, x, p); },
        [&](const batch& x, const sizes& p) { return call("real", real{.prompts = all.prompts}, x, p); });
  });
}

TEST_CASE("splits: pairs of responses with the NLL term") {
  // Columns of a slot: logp, ref_logp. Of a row: is the pair valid, its weight, its rewards and margin.
  const auto fill = [](numbers& from, double* x) {
    x[0] = from.uniform(-3, -0.1);
    x[1] = from.uniform(-3, -0.1);
  };
  for_all("preference_loss", 4, [&] {
    const std::int64_t pairs = integer(0, 9), chosen_width = integer(1, 7), rejected_width = integer(1, 7);
    numbers random(seed());
    batch chosen = make_batch(random, pairs, chosen_width, 2, fill);
    const batch rejected = make_batch(random, pairs, rejected_width, 2, fill);
    chosen.per_row.resize(5);
    for (std::int64_t p = 0; p < pairs; ++p) {
      chosen.per_row[0].push_back(random.chance(0.8) ? 1 : 0);
      for (int k = 1; k < 5; ++k) chosen.per_row[static_cast<std::size_t>(k)].push_back(random.uniform(0.1, 2));
    }
    double valid = 0, tokens = 0;  // of the whole batch
    for (std::int64_t p = 0; p < pairs; ++p) {
      const auto at = static_cast<std::size_t>(p);
      valid += chosen.per_row[0][at];
      for (std::int64_t i = p * chosen_width; i < (p + 1) * chosen_width; ++i)
        tokens += chosen.per_row[0][at] * chosen.mask[static_cast<std::size_t>(i)];
    }
    const auto call = [](const char* name, const auto& loss, const batch& x, const batch& y) {
      report r;
      std::vector<std::uint8_t> mask;
      for (const double v : x.per_row[0]) mask.push_back(v != 0);
      r.found.slots.assign(1, std::vector<double>(x.slots()));
      r.found.rows.assign(1, std::vector<double>(mask.size()));
      std::vector<double> other(y.slots());
      rlhf::token_pair_inputs<double> in;
      in.chosen = {x.layout(), x.columns[0], x.columns[1], x.mask_or_none()};
      in.rejected = {y.layout(), y.columns[0], y.columns[1], y.mask_or_none()};
      in.weight = x.per_row[1];
      in.chosen_reward = x.per_row[2];
      in.rejected_reward = x.per_row[3];
      in.margin = x.per_row[4];
      in.mask = mask;
      double nll = 0;
      rlhf::pair_outputs<double> out;
      out.loss = {&r.found.loss, 1};
      out.grad_chosen = r.found.slots[0];
      out.grad_rejected = other;
      out.per_pair = r.found.rows[0];
      out.nll = {&nll, 1};
      out.stats = &r.stats;
      rlhf::reference_backend be;
      expect_done(loss(be, in, out), name);
      // The other side's gradients, as one number a pair that depends on each of them.
      r.found.rows.emplace_back();
      for (std::int64_t p = 0; p < y.rows; ++p) {
        double sum = 0, place = 1;
        for (std::int64_t i = y.layout()[p].begin; i < y.layout()[p].end; ++i)
          if (y.valid(static_cast<std::size_t>(i))) sum += place++ * other[static_cast<std::size_t>(i)];
        r.found.rows[1].push_back(sum);
      }
      return r;
    };
    const auto adds_up = [&](const char* name, const auto& objective, const auto& reduction, rlhf::nll_reduction how) {
      const rlhf::chosen_nll own{.weight = 0.3, .reduction = how},
          given{.weight = 0.3, .reduction = how, .count = how == rlhf::nll_reduction::token_mean ? tokens : valid};
      // The rows of the other side follow those of the first.
      std::int64_t first = 0;
      expect_adds_up(
          name, chosen, every(pairs), cut(random, every(pairs)), random,
          [&](const batch& x, const sizes&) {
            return call(name, rlhf::preference_loss{objective, rlhf::batch_mean{}, own, reduction}, x, rejected);
          },
          [&](const batch& x, const sizes&) {
            sizes ignored;
            const batch y = piece(rejected, first, first + x.rows, random, ignored);
            first += x.rows;
            return call(name, rlhf::preference_loss{objective, rlhf::batch_mean{.items = valid}, given, reduction}, x,
                        y);
          });
    };
    adds_up("dpo", rlhf::dpo_sigmoid{.beta = 0.3}, rlhf::sum_of_tokens{}, rlhf::nll_reduction::token_mean);
    adds_up("ipo", rlhf::ipo{}, rlhf::sum_of_tokens{}, rlhf::nll_reduction::sequence_mean);
    adds_up("dpo, desensitised", rlhf::dpo_sigmoid{}, rlhf::length_desensitised{}, rlhf::nll_reduction::token_mean);
    adds_up("rebel, clamped", rlhf::rebel{}, rlhf::clamped_log_ratio{}, rlhf::nll_reduction::sequence_mean);
  });
}

TEST_CASE("splits: single responses, scores and rankings") {
  for_all("items", 4, [] {
    const std::int64_t rows = integer(0, 12);
    numbers random(seed());
    const batch b = make_batch(random, rows, 1, 5, [](numbers& from, double* x) {
      x[0] = from.uniform(-12, -3);
      x[1] = from.uniform(-12, -3);
      x[2] = from.chance(0.5) ? 1 : 0;
      x[3] = from.uniform(0.1, 2);
      x[4] = from.uniform(0, 1);
    });
    const double items = count(b, {0}).tokens;
    const auto responses = [](const auto& loss, const batch& x) {
      report r;
      r.found.slots.assign(2, std::vector<double>(x.slots()));
      const double point = 0.4;
      rlhf::unpaired_inputs<double> in;
      in.logp = x.columns[0];
      in.ref_logp = x.columns[1];
      in.label = x.columns[2];
      in.weight = x.columns[3];
      in.reference_point = {&point, 1};
      in.mask = x.mask_or_none();
      rlhf::unpaired_outputs<double> out;
      out.loss = {&r.found.loss, 1};
      out.grad_logp = r.found.slots[0];
      out.per_response = r.found.slots[1];
      out.stats = &r.stats;
      rlhf::reference_backend be;
      expect_done(loss(be, in, out), "unpaired_loss");
      return r;
    };
    const auto scores = [](const auto& loss, const batch& x) {
      report r;
      r.found.slots.assign(2, std::vector<double>(x.slots()));
      const double tie = 0.5;
      double grad_tie = 0;
      rlhf::score_inputs<double> in;
      in.chosen = x.columns[0];
      in.rejected = x.columns[1];
      in.margin = x.columns[3];
      in.probability = x.columns[4];
      in.weight = x.columns[3];
      in.mask = x.mask_or_none();
      in.tie = {&tie, 1};
      rlhf::score_outputs<double> out;
      out.loss = {&r.found.loss, 1};
      out.grad_chosen = r.found.slots[0];
      out.grad_rejected = r.found.slots[1];
      out.grad_tie = {&grad_tie, 1};
      out.stats = &r.stats;
      rlhf::reference_backend be;
      expect_done(loss(be, in, out), "reward_loss");
      r.stats.add_total("tie", grad_tie);
      return r;
    };
    const auto adds_up = [&](const char* name, const auto& objective, const auto& call, auto loss_of) {
      expect_adds_up(
          name, b, every(rows), cut(random, every(rows)), random,
          [&](const batch& x, const sizes&) { return call(loss_of(objective, rlhf::batch_mean{}), x); },
          [&](const batch& x, const sizes&) { return call(loss_of(objective, rlhf::batch_mean{.items = items}), x); });
    };
    const auto unpaired = [](const auto& o, const auto& a) { return rlhf::unpaired_loss{o, a}; };
    const auto reward = [](const auto& o, const auto& a) { return rlhf::reward_loss{o, a}; };
    adds_up("kto", rlhf::kto{}, responses, unpaired);
    adds_up("bco", rlhf::bco{}, responses, unpaired);
    adds_up("bradley-terry", rlhf::bradley_terry{.center = 0.01, .use_margin = true}, scores, reward);
    adds_up("davidson", rlhf::davidson{}, scores, reward);
  });
  for_all("ranking_loss", 1, [] {
    const std::int64_t lists = integer(0, 9), width = integer(1, 7);
    numbers random(seed());
    const batch b = make_batch(random, lists, width, 1, [](numbers& from, double* x) { x[0] = from.uniform(-3, 3); });
    const auto call = [](const auto& loss, const batch& x) {
      report r;
      r.found.slots.assign(1, std::vector<double>(x.slots()));
      rlhf::ranking_inputs<double> in;
      in.score = x.columns[0];
      in.mask = x.mask_or_none();
      rlhf::ranking_outputs<double> out;
      out.loss = {&r.found.loss, 1};
      out.grad_score = r.found.slots[0];
      rlhf::reference_backend be;
      expect_done(loss(be, x.layout(), in, out), "ranking_loss");
      return r;
    };
    expect_adds_up(
        "plackett-luce", b, every(lists), cut(random, every(lists)), random,
        [&](const batch& x, const sizes&) { return call(rlhf::ranking_loss{rlhf::plackett_luce{}}, x); },
        [&](const batch& x, const sizes&) {
          return call(rlhf::ranking_loss{rlhf::plackett_luce{}, rlhf::batch_mean{.items = static_cast<double>(lists)}},
                      x);
        });
  });
}

TEST_CASE("splits: whitening with merged moments, and running references") {
  for_all("whitening", 1, [] {
    const std::int64_t rows = integer(0, 9), width = integer(1, 9);
    numbers random(seed());
    const double offset = random.chance(0.3) ? 1e6 : 0;  // far from 0: sums of squares would cancel
    const batch b = make_batch(random, rows, width, 3, [&](numbers& from, double* x) {
      x[0] = offset + from.uniform(-2, 2);
      x[2] = from.uniform(-2, 2);
      x[1] = from.uniform(-2, 2);
    });
    const rlhf::whitening whiten{{.biased = random.chance(0.5), .shift_mean = random.chance(0.8)}};
    rlhf::reference_backend be;
    std::vector<double> whole(b.slots());
    expect_done(whiten(be, rlhf::whiten_inputs<double>{.x = b.columns[0], .mask = b.mask}, whole), "whitening");
    rlhf::running_reference together{}, apart{};
    expect_done(together.update(be, rlhf::log_ratio_inputs<double>{b.columns[1], b.columns[2], b.mask}),
                "running_reference");

    const sizes cuts = cut(random, every(rows));
    std::vector<batch> pieces;
    std::vector<sizes> from(cuts.size());
    rlhf::moments merged;
    for (std::size_t c = 0; c + 1 < cuts.size(); ++c) {
      pieces.push_back(piece(b, cuts[c], cuts[c + 1], random, from[c]));
      rlhf::moments mine;
      expect_done(rlhf::masked_moments(be, "split", rlhf::view<const double>(pieces[c].columns[0]),
                                       pieces[c].mask_or_none(), &mine),
                  "masked_moments");
      merged.merge(mine);
      const auto& x = pieces[c].columns;
      expect_done(apart.update(be, rlhf::log_ratio_inputs<double>{x[1], x[2], pieces[c].mask_or_none()}),
                  "running_reference");
    }
    for (std::size_t c = 0; c < pieces.size(); ++c) {
      std::vector<double> out(pieces[c].slots());
      expect_done(whiten(be,
                         rlhf::whiten_inputs<double>{
                             .x = pieces[c].columns[0], .mask = pieces[c].mask_or_none(), .found = &merged},
                         out),
                  "whitening");
      for (std::size_t i = 0; i < out.size(); ++i)
        if (from[c][i] < 0)
          expect(plain_zero(out[i]), "whitening writes ", out[i], " under the mask");
        else
          expect(near(out[i], whole[static_cast<std::size_t>(from[c][i])], offset != 0 ? 1e-8 : 1e-11, 1),
                 "whitening: ", out[i], " of the piece, ", whole[static_cast<std::size_t>(from[c][i])],
                 " of the whole");
    }
    expect(near(together.mean(), apart.mean(), 1e-12, 1) && near(together.rewards.count, apart.rewards.count, 1e-12),
           "running_reference: ", together.mean(), " of the whole, ", apart.mean(), " of the pieces");
  });
}

TEST_CASE("splits: statistics of groups, wherever their members stand") {
  for_all("grouped", 2, [] {
    const std::int64_t members = integer(0, 12);
    numbers random(seed());
    const auto n = static_cast<std::size_t>(members);
    const sizes prompts = draw_prompts(random, members);
    std::vector<double> reward(n), whole(n);
    for (auto& x : reward) x = random.chance(0.1) ? not_a_number : random.uniform(-1, 1);
    const auto order = random.order(n);
    const auto check = [&](const char* name, const auto& estimator) {
      const rlhf::grouped grouped{estimator};
      rlhf::reference_backend be;
      expect_done(grouped(be, rlhf::group_inputs<double>{.groups = grouped_by(prompts), .reward = reward}, whole),
                  name);
      // The same members scattered over the batch.
      std::vector<double> scattered(n), out(n);
      sizes index(n);
      for (std::size_t i = 0; i < n; ++i) {
        index[i] = static_cast<std::int64_t>(order[i]);
        scattered[order[i]] = reward[i];
      }
      rlhf::grouping<> groups = grouped_by(prompts);
      groups.order = index.data();
      expect_done(grouped(be, rlhf::group_inputs<double>{.groups = groups, .reward = scattered}, out), name);
      for (std::size_t i = 0; i < n; ++i)
        expect(same_bits(out[order[i]], whole[i]), name, ": ", whole[i], " side by side, ", out[order[i]],
               " scattered");
      // Prompts in pieces.
      const sizes cuts = cut(random, prompts);
      for (std::size_t c = 0; c + 1 < cuts.size(); ++c) {
        sizes inner;
        for (const auto p : prompts)
          if (p >= cuts[c] && p <= cuts[c + 1]) inner.push_back(p - cuts[c]);
        const std::int64_t count = cuts[c + 1] - cuts[c];
        std::vector<double> part(static_cast<std::size_t>(count));
        expect_done(
            grouped(be,
                    rlhf::group_inputs<double>{.groups = grouped_by(inner), .reward = {reward.data() + cuts[c], count}},
                    part),
            name);
        for (std::int64_t i = 0; i < count; ++i)
          expect(same_bits(part[static_cast<std::size_t>(i)], whole[static_cast<std::size_t>(cuts[c] + i)]), name,
                 ": another in a piece");
      }
    };
    check("grpo", rlhf::group_advantage{});
    check("leave one out", rlhf::leave_one_out{});
  });
}
