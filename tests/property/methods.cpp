// Losses of a whole batch of pairs at once: optimal transport, KTO's pairs, and two heads of a reward model.

#include <array>

#include "property/batches.hpp"
#include "rlhf/algorithm/aot.hpp"
#include "rlhf/algorithm/kto_pair.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/odin_loss.hpp"

namespace {

using namespace property;

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double logistic(double x) { return 1 / (1 + std::exp(-x)); }
/// Central differences of fourth order.
template <class Value>
double slope_of(Value value, double h = 1e-3) {
  return (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
}
template <class T>
std::vector<std::vector<T>> columns_of(const batch& b) {
  std::vector<std::vector<T>> c;
  for (const auto& column : b.columns) c.emplace_back(column.begin(), column.end());
  return c;
}
/// Numbers that are floats too, so that both precisions see the same ones.
double drawn(numbers& random, double low, double high) { return static_cast<float>(random.uniform(low, high)); }

// --- optimal transport, and KTO's pairs ----------------------------------------------------------------------------------

enum : std::size_t { chosen, rejected, ref_chosen, ref_rejected, pair_fields };

batch draw_pairs(numbers& random, double range) {
  return make_batch(random, integer(0, 9), 1, pair_fields, [&](numbers& from, double* x) {
    for (std::size_t k = 0; k < pair_fields; ++k) x[k] = drawn(from, -range, 0);
  });
}

/// Slots: slopes of both sides, implicit rewards of both. Rows: losses by rank.
template <class T, class Loss>
outcome call_pairs(const char* name, const Loss& loss, const batch& b, std::size_t losses) {
  const auto c = columns_of<T>(b);
  std::vector<std::vector<T>> to(4, std::vector<T>(b.slots(), T(7)));
  std::vector<T> per_pair(losses, T(7));
  T value = 7;
  rlhf::pair_inputs<T> in;
  in.chosen = c[chosen];
  in.rejected = c[rejected];
  in.ref_chosen = c[ref_chosen];
  in.ref_rejected = c[ref_rejected];
  in.mask = b.mask_or_none();
  rlhf::pair_outputs<T> out;
  out.loss = {&value, 1};
  out.grad_chosen = to[0];
  out.grad_rejected = to[1];
  out.reward_chosen = to[2];
  out.reward_rejected = to[3];
  out.per_pair = per_pair;
  rlhf::reference_backend be;
  expect_done(loss(be, in, out), name);
  outcome o;
  o.loss = value;
  for (const auto& x : to) o.slots.emplace_back(x.begin(), x.end());
  o.rows.emplace_back(per_pair.begin(), per_pair.end());
  return o;
}
template <class T = double, class Loss>
outcome call_pairs(const char* name, const Loss& loss, const batch& b) {
  return call_pairs<T>(name, loss, b, b.slots());
}

constexpr auto of_margins = std::tuple{
    // convex ones
    entry{"sigmoid", rlhf::dpo_sigmoid{.beta = 0.3}},
    entry{"sigmoid, smoothed", rlhf::dpo_sigmoid{.beta = 0.3, .label_smoothing = 0.1}},
    entry{"ipo", rlhf::ipo_sum{.beta = 0.2}},
    entry{"hinge", rlhf::dpo_hinge{.beta = 0.3}},
};

using any = any_of<of_margins>;

/// The keys of both sides in their order, of the pairs that count.
std::array<std::vector<double>, 2> sorted_keys(const batch& b, bool paired) {
  std::array<std::vector<double>, 2> keys;
  for (std::size_t i = 0; i < b.slots(); ++i) {
    if (!b.valid(i)) continue;
    const auto x = b.get(i);
    keys[0].push_back(paired ? x[chosen] - x[rejected] : x[chosen] - x[ref_chosen]);
    keys[1].push_back(paired ? x[ref_chosen] - x[ref_rejected] : x[rejected] - x[ref_rejected]);
  }
  for (auto& k : keys) std::sort(k.begin(), k.end());
  return keys;
}
double closest(const std::vector<double>& sorted) {
  double gap = infinity;
  for (std::size_t i = 1; i < sorted.size(); ++i) gap = std::min(gap, sorted[i] - sorted[i - 1]);
  return gap;
}

template <class Holds>
void for_transport(const char* what, bool wide, Holds holds) {
  for_all(what, 2 * any::count, [&] {
    numbers random(seed());
    const batch b = draw_pairs(random, wide ? 700 : 12);
    for (std::size_t i = 0; i < any::count; ++i)
      for (const bool paired : {true, false}) holds(rlhf::aot{any{i}, paired}, b, random);
  });
}

}  // namespace

TEST_CASE("aot: the mask, the order and the packing of a batch; finite") {
  for_transport("batches", false, [](const rlhf::aot<any>& aot, const batch& b, numbers& random) {
    const char* const name = aot.objective.name();
    const auto run = [&](const batch& x) {
      outcome o = call_pairs<double>(name, aot, x);
      o.rows.clear();  // by rank: not of a pair
      return o;
    };
    expect_mask_holds(name, b, random, run);
    expect_permutes(name, b, random, run);
    expect_packs(name, b, run);
  });
  for_transport("finite", true, [](const rlhf::aot<any>& aot, const batch& b, numbers&) {
    const char* const name = aot.objective.name();
    for (const outcome& o : {call_pairs<double>(name, aot, b), call_pairs<float>(name, aot, b)}) {
      expect(std::isfinite(o.loss), name, " is ", o.loss);
      for (const auto& c : o.slots)
        for (const double x : c) expect(std::isfinite(x), name, " has the slope ", x);
    }
  });
}

TEST_CASE("aot: sorted apart, never above the pairs as they came") {
  for_transport("transport", false, [](const rlhf::aot<any>& aot, const batch& b, numbers& random) {
    const char* const name = aot.objective.name();
    const outcome o = call_pairs<double>(name, aot, b),
                  as_given = call_pairs<double>(name, rlhf::preference_loss{aot.objective}, b);
    // The sorted order is the cheapest plan of a convex loss.
    expect(o.loss <= as_given.loss + 1e-12 * (1 + std::abs(as_given.loss)), name, " is ", o.loss, ", of the pairs ",
           as_given.loss);
    for (const std::size_t k : {2u, 3u})
      expect(same_columns({o.slots[k]}, {as_given.slots[k]}), name, ": another implicit reward");
    const auto keys = sorted_keys(b, aot.paired);
    const std::size_t n = keys[0].size();
    // A batch of the keys themselves, in their order, without references.
    batch plain = b;
    plain.mask.assign(b.slots(), 0);
    for (std::size_t i = 0; i < n; ++i) {
      plain.mask[i] = 1;
      plain.put(i, {keys[0][i], keys[1][i], 0, 0});
    }
    const outcome ranked = call_pairs<double>(name, rlhf::preference_loss{aot.objective}, plain);
    expect(near(o.loss, ranked.loss, 1e-12, 1), name, " is ", o.loss, ", by rank ", ranked.loss);
    for (std::size_t k = 0; k < b.slots(); ++k)
      expect(same_bits(o.rows[0][k], ranked.rows[0][k]), name, ": rank ", k, " has the loss ", o.rows[0][k], ", not ",
             ranked.rows[0][k]);
    if (n == 1) {
      expect(near(o.loss, as_given.loss, 1e-12, 1e-3), name, " of one pair is ", o.loss, ", not ", as_given.loss);
      for (std::size_t i = 0; i < b.slots(); ++i)
        for (const std::size_t k : {0u, 1u})
          expect(near(o.slots[k][i], as_given.slots[k][i], 1e-12, 1e-3), name, ": one pair has another slope");
    }
    // It compares two distributions: who is whose partner does not count.
    std::vector<std::size_t> valid;
    for (std::size_t i = 0; i < b.slots(); ++i)
      if (b.valid(i)) valid.push_back(i);
    const auto order = random.order(valid.size());
    batch parted = b, shifted = b;
    const std::size_t second = aot.paired ? ref_chosen : rejected;
    for (std::size_t i = 0; i < valid.size(); ++i)
      for (const std::size_t k : {second, std::size_t{ref_rejected}})
        parted.columns[k][valid[i]] = b.columns[k][valid[order[i]]];
    const outcome apart = call_pairs<double>(name, aot, parted);
    expect(same_bits(o.loss, apart.loss) && same_columns(o.rows, apart.rows) &&
               same_columns({o.slots[0]}, {apart.slots[0]}),
           name, ": other partners make ", o.loss, " to ", apart.loss);
    const double c = random.uniform(-3, 3);
    for (std::size_t i = 0; i < b.slots(); ++i)
      for (const std::size_t k : {chosen, rejected}) shifted.columns[k][i] += c;
    expect(near(call_pairs<double>(name, aot, shifted).loss, o.loss, 1e-11, 1), name, ": all ", c,
           " higher make another loss");
    // Slopes of a distribution's shift: both sides pull against each other.
    double sum = 0;
    for (std::size_t i = 0; i < b.slots(); ++i) sum += o.slots[0][i] + o.slots[1][i];
    expect(std::abs(sum) < 1e-12, name, ": slopes add up to ", sum);
  });
}

TEST_CASE("aot: slopes are derivatives, ties have the loss of their keys, and float is near double") {
  int compared = 0;
  for_transport("slopes", false, [&](const rlhf::aot<any>& aot, const batch& b, numbers& random) {
    const char* const name = aot.objective.name();
    const outcome o = call_pairs<double>(name, aot, b), single = call_pairs<float>(name, aot, b);
    expect(near(o.loss, single.loss, 1e-5, 1), name, " is ", single.loss, " in float, ", o.loss);
    batch tied = b;  // every value twice
    for (auto& column : tied.columns)
      for (std::size_t i = 1; i < column.size(); i += 2) column[i] = column[i - 1];
    const auto again = random.order(b.slots());
    expect(near(call_pairs<double>(name, aot, tied).loss, call_pairs<double>(name, aot, permuted(tied, again)).loss,
                1e-11, 1),
           name, ": the order of ties matters");
    if (b.slots() == 0) return;
    const auto keys = sorted_keys(b, aot.paired);
    const double h = 1e-3;
    if (std::min(closest(keys[0]), closest(keys[1])) < 5 * h) return;
    const auto i = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(b.slots()) - 1));
    for (const std::size_t k : {chosen, rejected}) {
      if (!b.valid(i)) continue;
      const auto value = [&](double by) {
        batch moved = b;
        moved.columns[k][i] += by;
        return call_pairs<double>(name, aot, moved).loss;
      };
      const double left = slope_of([&](double by) { return value(by - 2 * h); }, h / 4),
                   right = slope_of([&](double by) { return value(by + 2 * h); }, h / 4), slope = slope_of(value, h);
      if (!near(left, right, 1e-2, 1e-1)) continue;  // the hinge's kink
      ++compared;
      expect(near(o.slots[k][i], slope, 1e-6, 1e-3), name, ": slope ", o.slots[k][i], ", differences give ", slope);
    }
  });
  CHECK(compared > 100);
}

TEST_CASE("kto pairs: by the definition, whoever is whose partner") {
  for_all("kto pairs", 1, [] {
    numbers random(seed());
    batch b = draw_pairs(random, random.chance(0.2) ? 700 : 8);
    b.mask.clear();
    const std::size_t n = b.slots();
    const rlhf::kto_pair loss{.beta = random.uniform(0.05, 0.5)};
    const auto run = [&](const batch& x) { return call_pairs<double>("kto_pair", loss, x, 2 * x.slots()); };
    const auto ratio = [](const batch& x, std::size_t side, std::size_t i) {
      return x.columns[side][i] - x.columns[ref_chosen + side][i];
    };
    const auto points = [&](const batch& x) {
      std::array<double, 2> mean{};
      for (std::size_t i = 0; i < n; ++i)
        for (const std::size_t side : {chosen, rejected}) mean[side] += ratio(x, side, i) / static_cast<double>(n);
      return mean;
    };
    const auto mean = points(b);
    const outcome o = run(b), single = call_pairs<float>("kto_pair", loss, b, 2 * n);
    expect(near(single.loss, o.loss, 1e-4, 1), "loss ", single.loss, " in float, ", o.loss);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double up = loss.beta * (ratio(b, chosen, i) - std::max(0.0, mean[rejected])),
                   down = loss.beta * (std::max(0.0, mean[chosen]) - ratio(b, rejected, i));
      expect(near(o.rows[0][i], logistic(-up), 1e-10, 1e-3) && near(o.rows[0][n + i], logistic(-down), 1e-10, 1e-3),
             "pair ", i, " has the losses ", o.rows[0][i], " and ", o.rows[0][n + i]);
      sum += o.rows[0][i] + o.rows[0][n + i];
      expect(std::isfinite(o.slots[0][i]) && std::isfinite(o.slots[1][i]), "slope ", o.slots[0][i]);
    }
    expect(near(o.loss, n > 0 ? sum / static_cast<double>(2 * n) : 0, 1e-12), "loss ", o.loss, " of the sum ", sum);
    // The sides meet in their means alone.
    const auto order = random.order(n);
    batch parted = b;
    for (const std::size_t k : {rejected, ref_rejected})
      for (std::size_t i = 0; i < n; ++i) parted.columns[k][i] = b.columns[k][order[i]];
    const outcome apart = run(parted);
    expect(near(apart.loss, o.loss, 1e-11, 1), "other partners make ", o.loss, " to ", apart.loss);
    for (std::size_t i = 0; i < n; ++i)
      expect(near(apart.slots[0][i], o.slots[0][i], 1e-10, 1e-3) &&
                 near(apart.slots[1][i], o.slots[1][order[i]], 1e-10, 1e-3),
             "other partners make other slopes");
    if (n == 0 || std::min(std::abs(mean[chosen]), std::abs(mean[rejected])) < 0.01) return;
    const auto i = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(n) - 1));
    for (const std::size_t k : {chosen, rejected}) {
      const double slope = slope_of([&](double by) {
        batch moved = b;
        moved.columns[k][i] += by;
        return run(moved).loss;
      });
      expect(near(o.slots[k][i], slope, 1e-6, 1e-4), "slope ", o.slots[k][i], ", differences give ", slope);
    }
    // Where both means are below 0 nothing flows through them: kto against 0.
    if (mean[chosen] > 0 || mean[rejected] > 0) return;
    const double s = logistic(loss.beta * ratio(b, chosen, i));
    expect(near(o.slots[0][i], -loss.beta * s * (1 - s) / static_cast<double>(2 * n), 1e-10, 1e-6), "slope ",
           o.slots[0][i], " with reference points of 0");
  });
}

// --- two heads ------------------------------------------------------------------------------------------------------------

namespace {

enum : std::size_t { quality, length_score, length, of_rejected, head_fields = 6 };

/// Slots: slopes of quality and length score, chosen and rejected; losses. The correlations go to `correlations`.
template <class T = double>
outcome call_odin(const rlhf::odin& formula, double product, const batch& b,
                  std::array<double, 3>* correlations = nullptr, double* in_product = nullptr) {
  const auto c = columns_of<T>(b);
  std::vector<std::vector<T>> to(5, std::vector<T>(b.slots(), T(7)));
  T value = 7, slope = 7;
  const T given = static_cast<T>(product);
  rlhf::odin_inputs<T> in;
  in.chosen = {c[quality], c[length_score], c[length]};
  in.rejected = {c[of_rejected + quality], c[of_rejected + length_score], c[of_rejected + length]};
  in.head_product = {&given, 1};
  in.mask = b.mask_or_none();
  rlhf::statistics stats;
  rlhf::odin_outputs<T> out;
  out.loss = {&value, 1};
  out.grad_chosen = {to[0], to[1]};
  out.grad_rejected = {to[2], to[3]};
  out.grad_head_product = {&slope, 1};
  out.per_pair = to[4];
  out.stats = &stats;
  rlhf::reference_backend be;
  expect_done(rlhf::odin_loss{formula}(be, in, out), "odin_loss");
  if (correlations != nullptr) *correlations = {stats["corr_quality"], stats["corr_length"], stats["corr_total"]};
  if (in_product != nullptr) *in_product = slope;
  outcome o;
  o.loss = value;
  for (const auto& x : to) o.slots.emplace_back(x.begin(), x.end());
  return o;
}
/// A pair's scores and lengths; some batches have one length, or one score.
batch draw_heads(numbers& random, double range) {
  const bool one_length = random.chance(0.1), one_score = random.chance(0.1);
  const double score = drawn(random, -range, range);
  return make_batch(random, integer(0, 9), 1, head_fields, [&](numbers& from, double* x) {
    for (const std::size_t side : {std::size_t{0}, std::size_t{of_rejected}}) {
      x[side + quality] = one_score ? score : drawn(from, -range, range);
      x[side + length_score] = drawn(from, -range, range);
      x[side + length] = one_length ? 17 : static_cast<double>(from.integer(0, 4096));
    }
  });
}

}  // namespace

TEST_CASE("odin: the mask, the order and the packing of a batch; finite") {
  for_all("batches", 1, [] {
    numbers random(seed());
    const double range = random.chance(0.3) ? 700 : 3, product = drawn(random, -1, 1);
    const batch b = draw_heads(random, range);
    const rlhf::odin formula{.total_correlation = random.chance(0.5)};
    const auto run = [&](const batch& x) { return call_odin(formula, product, x); };
    expect_mask_holds("odin", b, random, run);
    expect_permutes("odin", b, random, run, 1e-9);
    expect_packs("odin", b, run);
    for (const outcome& o : {run(b), call_odin<float>(formula, product, b)}) {
      expect(std::isfinite(o.loss), "loss ", o.loss);
      for (const auto& c : o.slots)
        for (const double x : c) expect(std::isfinite(x), "slope ", x);
    }
  });
}

TEST_CASE("odin: correlations see no shift and no scale, and slopes are derivatives") {
  int compared = 0;
  for_all("odin", 1, [&] {
    numbers random(seed());
    const double product = drawn(random, -1, 1);
    const batch b = draw_heads(random, 3);
    const rlhf::odin formula{.orthogonality = random.uniform(0, 2),
                             .correlation = random.uniform(0, 2),
                             .total_correlation = random.chance(0.5)};
    std::array<double, 3> correlations{}, others{};
    double in_product = 0;
    const outcome o = call_odin(formula, product, b, &correlations, &in_product),
                  single = call_odin<float>(formula, product, b);
    expect(near(o.loss, single.loss, 1e-4, 1), "loss ", single.loss, " in float, ", o.loss);
    double pairs = 0, plain = 0, of_quality = 0, of_length = 0;
    for (std::size_t i = 0; i < b.slots(); ++i) {
      if (!b.valid(i)) continue;
      const auto x = b.get(i);
      const double loss =
          softplus(x[of_rejected + quality] + x[of_rejected + length_score] - x[quality] - x[length_score]);
      expect(near(o.slots[4][i], loss, 1e-12), "Bradley-Terry's part is ", o.slots[4][i], ", not ", loss);
      plain += loss;
      pairs += 1;
      of_quality += o.slots[0][i] + o.slots[2][i];
      of_length += o.slots[1][i] + o.slots[3][i];
    }
    for (const double r : correlations) expect(std::abs(r) <= 1 + 1e-12, "a correlation of ", r);
    expect(in_product == formula.orthogonality * (product > 0   ? 1
                                                  : product < 0 ? -1
                                                                : 0),
           "slope ", in_product, " in the product of the heads");
    const double apart = formula.orthogonality * std::abs(product);
    if (pairs == 0) {
      expect(near(o.loss, apart, 1e-12), "an empty batch has the loss ", o.loss);
      return;
    }
    const double total = formula.total_correlation ? std::abs(correlations[2]) : 0;
    const double want =
        plain / pairs + apart + formula.correlation * (1 - correlations[1] + std::abs(correlations[0]) + total);
    expect(near(o.loss, want, 1e-11, 1), "loss ", o.loss, ", of its parts ", want);
    expect(std::abs(of_quality) < 1e-9 && std::abs(of_length) < 1e-9, "slopes add up to ", of_quality, " and ",
           of_length);
    // Without its own terms it is Bradley-Terry on the sum of the heads.
    const outcome bare = call_odin({.orthogonality = 0, .correlation = 0}, product, b);
    expect(near(bare.loss, plain / pairs, 1e-12), "without its terms it is ", bare.loss, ", not ", plain / pairs);
    for (std::size_t i = 0; i < b.slots(); ++i)
      expect(near(bare.slots[0][i], -bare.slots[2][i], 1e-12) && near(bare.slots[0][i], bare.slots[1][i], 1e-12) &&
                 (!b.valid(i) || near(bare.slots[0][i], std::expm1(-o.slots[4][i]) / pairs, 1e-9, 1e-3)),
             "without its terms the slope is ", bare.slots[0][i]);
    batch moved = b, longer = b;
    const double a = random.uniform(-3, 3), u = random.uniform(0.1, 10);
    for (std::size_t i = 0; i < b.slots(); ++i)
      for (const std::size_t side : {std::size_t{0}, std::size_t{of_rejected}}) {
        moved.columns[side + quality][i] += a;
        longer.columns[side + length][i] = u * b.columns[side + length][i] + 100;
      }
    expect(near(call_odin(formula, product, moved).loss, o.loss, 1e-9, 1), "all qualities ", a,
           " higher make another loss");
    const outcome scaled = call_odin(formula, product, longer, &others);
    for (std::size_t k = 0; k < 3; ++k)
      expect(near(correlations[k], others[k], 1e-9, 1), "lengths in another unit make ", correlations[k], " to ",
             others[k]);
    expect(near(scaled.loss, o.loss, 1e-8, 1), "lengths in another unit make ", o.loss, " to ", scaled.loss);
    // Away from the kinks of the absolute values, and from batches that hardly vary.
    if (pairs < 3 || std::min(std::abs(correlations[0]), std::abs(correlations[2])) < 0.05) return;
    const auto i = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(b.slots()) - 1));
    if (!b.valid(i)) return;
    ++compared;
    const std::size_t fields[] = {quality, length_score, of_rejected + quality, of_rejected + length_score};
    for (std::size_t k = 0; k < 4; ++k) {
      const double slope = slope_of([&](double by) {
        batch there = b;
        there.columns[fields[k]][i] += by;
        return call_odin(formula, product, there).loss;
      });
      expect(near(o.slots[k][i], slope, 1e-6, 1e-2), "slope ", k, " is ", o.slots[k][i], ", differences give ", slope);
    }
  });
  CHECK(compared > 20);
}
