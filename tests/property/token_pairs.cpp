// Pairs whose responses are tokens, or rows of logits: weighted preferences and token-level DPO.

#include "property/batches.hpp"
#include "rlhf/algorithm/tdpo.hpp"
#include "rlhf/algorithm/wpo.hpp"
#include "rlhf/backend/reference.hpp"

namespace {

using namespace property;

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double logistic(double x) { return 1 / (1 + std::exp(-x)); }
/// Central differences of fourth order.
template <class Value>
double slope_of(Value value) {
  const double h = 1e-3;
  return (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
}
/// Numbers that are floats too, so that both precisions see the same ones.
double drawn(numbers& random, double low, double high) { return static_cast<float>(random.uniform(low, high)); }

/// A row of such a batch is a pair: the first half of its width is the chosen response, the other half the rejected one. The
/// last column says so too, for what is packed. Columns of rows: does the pair count, its weight.
enum : std::size_t { counts, pair_weight, row_fields };

template <class Fill>
batch make_sides(numbers& random, std::size_t columns, Fill fill) {
  const std::int64_t pairs = integer(0, 5), width = integer(1, 5);
  batch b = make_batch(random, pairs, 2 * width, columns + 1, fill);
  for (std::size_t i = 0; i < b.slots(); ++i)
    b.columns[columns][i] = static_cast<std::int64_t>(i) % (2 * width) < width ? 0 : 1;
  b.per_row.resize(row_fields);
  for (std::int64_t r = 0; r < pairs; ++r) {
    b.per_row[counts].push_back(random.chance(0.8) ? 1 : 0);
    b.per_row[pair_weight].push_back(drawn(random, 0, 2));
  }
  return b;
}

/// One side of the pairs, and the slots that its tokens came from.
struct side_of {
  std::vector<std::size_t> from{};
  std::vector<std::int64_t> offsets{0};  // empty where padded
  std::vector<std::uint8_t> mask{};
  std::int64_t rows = 0, width = 0;

  side_of(const batch& b, int side) : rows(b.rows) {
    const auto sequences = b.layout();
    const bool padded = b.offsets.empty();
    width = b.width / 2;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = sequences[r].begin; i < sequences[r].end; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if ((padded ? (i - sequences[r].begin < width ? 0 : 1) : static_cast<int>(b.columns.back()[at])) != side)
          continue;
        from.push_back(at);
        if (!b.mask.empty()) mask.push_back(b.mask[at]);
      }
      offsets.push_back(static_cast<std::int64_t>(from.size()));
    }
    if (padded) offsets.clear();
  }
  [[nodiscard]] rlhf::layout<> layout() const {
    return offsets.empty() ? rlhf::padded(rows, width) : rlhf::packed(offsets);
  }
  [[nodiscard]] rlhf::mask_view<> mask_or_none() const {
    return mask.empty() ? rlhf::mask_view<>{} : rlhf::mask_view<>(mask);
  }
  template <class T>
  [[nodiscard]] std::vector<T> gather(const std::vector<double>& column) const {
    std::vector<T> x;
    for (const std::size_t i : from) x.push_back(static_cast<T>(column[i]));
    return x;
  }
  template <class T>
  void scatter(const std::vector<T>& x, std::vector<double>& column) const {
    for (std::size_t i = 0; i < from.size(); ++i) column[from[i]] = x[i];
  }
};
std::vector<std::uint8_t> pairs_that_count(const batch& b) {
  return {b.per_row[counts].begin(), b.per_row[counts].end()};
}
/// Garbage in the tokens of the pairs that do not count.
batch without_pairs(batch b, numbers& random) {
  const auto w = static_cast<std::size_t>(b.width);
  for (std::size_t i = 0; i < b.slots(); ++i)
    if (b.per_row[counts][i / w] == 0)
      for (std::size_t k = 0; k + 1 < b.columns.size(); ++k) b.columns[k][i] = random.garbage();
  return b;
}

enum : std::size_t { logp, ref_logp, square_sum, token_fields };

batch draw_responses(numbers& random, double range) {
  return make_sides(random, token_fields, [&](numbers& from, double* x) {
    x[logp] = drawn(from, -range, -0.05);
    x[ref_logp] = drawn(from, -range, -0.05);
    x[square_sum] = drawn(from, -range, -0.05);
  });
}

/// `of(backend, inputs, outputs, pairs' weights)`. Slots: slopes. Rows: losses of the pairs and their weights.
template <class T, class Of>
outcome call_tokens(const batch& b, Of of) {
  const side_of sides[] = {side_of(b, 0), side_of(b, 1)};
  std::vector<T> cells[2][4];
  rlhf::token_pair_inputs<T> in;
  rlhf::pair_outputs<T> out;
  T value = 7;
  std::vector<T> per_pair(static_cast<std::size_t>(b.rows), T(7)), weight(per_pair.size(), T(7));
  const std::vector<T> given(b.per_row[pair_weight].begin(), b.per_row[pair_weight].end());
  const auto mask = pairs_that_count(b);
  rlhf::response_tokens<T>* const to[] = {&in.chosen, &in.rejected};
  for (std::size_t k = 0; k < 2; ++k) {
    for (std::size_t f = 0; f < token_fields; ++f) cells[k][f] = sides[k].gather<T>(b.columns[f]);
    cells[k][3].assign(cells[k][0].size(), T(7));
    *to[k] = {sides[k].layout(), cells[k][logp], cells[k][ref_logp], sides[k].mask_or_none(), cells[k][square_sum]};
  }
  in.weight = given;
  in.mask = mask;
  out.loss = {&value, 1};
  out.grad_chosen = cells[0][3];
  out.grad_rejected = cells[1][3];
  out.per_pair = per_pair;
  rlhf::reference_backend be;
  expect_done(
      rlhf::wpo_weights(be, in.chosen, in.chosen.log_square_sum, in.rejected, in.rejected.log_square_sum, weight),
      "wpo_weights");
  expect_done(of(be, in, out, weight), "wpo");
  outcome o;
  o.loss = value;
  o.slots.assign(1, std::vector<double>(b.slots(), 0));
  for (std::size_t k = 0; k < 2; ++k) sides[k].scatter(cells[k][3], o.slots[0]);
  o.rows.emplace_back(per_pair.begin(), per_pair.end());
  o.rows.emplace_back(weight.begin(), weight.end());
  return o;
}
template <class T = double, class Loss>
outcome call_loss(const Loss& loss, const batch& b) {
  return call_tokens<T>(b, [&](auto& be, const auto& in, const auto& out, const auto&) { return loss(be, in, out); });
}

}  // namespace

TEST_CASE("wpo: the mask, the order and the packing of a batch; finite") {
  for_all("batches", 1, [] {
    numbers random(seed());
    const batch b = draw_responses(random, random.chance(0.2) ? 700 : 3);
    const rlhf::wpo loss{rlhf::preference_loss{rlhf::dpo_sigmoid{.beta = 0.3}}};
    const auto run = [&](const batch& x) { return call_loss(loss, x); };
    expect_mask_holds("wpo", b, random, run);
    expect_permutes("wpo", b, random, run);
    expect_packs("wpo", b, run);
    outcome o = run(b), spoilt = run(without_pairs(b, random));
    o.rows.pop_back();  // weights of pairs that do not count are what they are
    spoilt.rows.pop_back();
    expect(same_bits(o.loss, spoilt.loss) && same_columns(o.slots, spoilt.slots) && same_columns(o.rows, spoilt.rows),
           "a pair that does not count changes ", o.loss, " to ", spoilt.loss);
  });
  for_all("finite", 1, [] {
    numbers random(seed());
    batch b = draw_responses(random, 700);
    // What a distribution gives: sum of squares between the largest probability's square and that probability.
    for (std::size_t i = 0; i < b.slots(); ++i) b.columns[square_sum][i] = random.uniform(-12, 0);
    for (const outcome& o : {call_loss(rlhf::wpo{}, b), call_loss<float>(rlhf::wpo{}, b)}) {
      expect(std::isfinite(o.loss), "loss ", o.loss);
      for (const double x : o.slots[0]) expect(std::isfinite(x), "slope ", x);
      for (const double x : o.rows[1]) expect(std::isfinite(x) && x >= 0, "weight ", x);
    }
  });
}

TEST_CASE("wpo: weights by the definition, constants of any pair loss") {
  for_all("weights", 1, [] {
    numbers random(seed());
    const batch b = draw_responses(random, 3);
    const auto w = static_cast<std::size_t>(b.width);
    const rlhf::preference_loss base{rlhf::dpo_sigmoid{.beta = 0.3, .label_smoothing = 0.1}};
    const rlhf::wpo loss{base};
    const outcome o = call_loss(loss, b), single = call_loss<float>(loss, b);
    batch weighed = b, unit = b;
    for (std::size_t r = 0; r < static_cast<std::size_t>(b.rows); ++r) {
      double weight = 1;
      for (const std::size_t side : {0u, 1u}) {
        double sum = 0, n = 0;
        for (std::size_t t = 0; t < w / 2; ++t) {
          const std::size_t i = r * w + side * (w / 2) + t;
          if (!b.valid(i)) continue;
          sum += b.columns[logp][i] - b.columns[square_sum][i];
          n += 1;
        }
        if (n > 0) weight *= std::exp(sum / n);
      }
      expect(near(o.rows[1][r], weight, 1e-12), "weight ", o.rows[1][r], ", not ", weight);
      expect(near(single.rows[1][r], weight, 1e-5), "weight ", single.rows[1][r], " in float, not ", weight);
      weighed.per_row[pair_weight][r] *= weight;
    }
    unit.columns[square_sum] = unit.columns[logp];
    const outcome plain = call_loss(base, weighed), at_one = call_loss(loss, unit), without = call_loss(base, b);
    expect(near(o.loss, plain.loss, 1e-11), "wpo is ", o.loss, ", the weighted loss ", plain.loss);
    expect(near(single.loss, o.loss, 1e-4, 0.1), "wpo is ", single.loss, " in float, ", o.loss);
    expect(same_bits(at_one.loss, without.loss) && same_columns(at_one.slots, without.slots) &&
               same_columns({at_one.rows[0]}, {without.rows[0]}),
           "at weights of 1 wpo is ", at_one.loss, ", not ", without.loss);
    for (std::size_t i = 0; i < b.slots(); ++i) {
      expect(near(o.slots[0][i], plain.slots[0][i], 1e-11), "slope ", o.slots[0][i], ", of the weighted loss ",
             plain.slots[0][i]);
      expect(near(single.slots[0][i], o.slots[0][i], 1e-4, 0.1), "slope ", single.slots[0][i], " in float, ",
             o.slots[0][i]);
    }
    // The same number on both logarithms of a token changes no weight.
    batch shifted = b;
    for (std::size_t i = 0; i < b.slots(); ++i) {
      const double c = random.uniform(-5, 5);
      for (const std::size_t k : {logp, square_sum}) shifted.columns[k][i] += c;
    }
    const outcome there = call_loss(loss, shifted);
    for (std::size_t r = 0; r < o.rows[1].size(); ++r)
      expect(near(o.rows[1][r], there.rows[1][r], 1e-12), "shifts make the weight ", o.rows[1][r], " to ",
             there.rows[1][r]);
    // Slopes are of the loss at the weights as they stand.
    if (b.slots() == 0) return;
    const auto i = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(b.slots()) - 1));
    const double slope = slope_of([&](double by) {
      batch moved = weighed;
      if (b.valid(i)) moved.columns[logp][i] += by;
      return call_loss(base, moved).loss;
    });
    expect(near(o.slots[0][i], slope, 1e-6, 1e-4), "slope ", o.slots[0][i], ", differences give ", slope);
  });
}

// --- responses as rows of logits ------------------------------------------------------------------------------------------

namespace {

/// Columns of a token: the policy's logits, the reference's, the target, the side.
struct logit_batch {
  batch b{};
  std::size_t vocabulary = 1, spare = 0;  ///< columns, and columns beyond the vocabulary

  [[nodiscard]] std::size_t reference(std::size_t j = 0) const { return vocabulary + j; }
  [[nodiscard]] std::size_t target() const { return 2 * vocabulary; }
};
logit_batch draw_logits(numbers& random, double range, bool excluded) {
  logit_batch l;
  l.vocabulary = static_cast<std::size_t>(random.integer(1, 5));
  l.spare = static_cast<std::size_t>(random.integer(0, 2));
  const std::size_t v = l.vocabulary;
  l.b = make_sides(random, 2 * v + 1, [&](numbers& from, double* x) {
    x[2 * v] = static_cast<double>(from.integer(0, static_cast<std::int64_t>(v) - 1));
    for (std::size_t j = 0; j < v; ++j) {
      x[j] = drawn(from, -range, range);
      x[v + j] = drawn(from, -range, range);
      // The reference gives a token no probability; nor does the policy, now and then.
      if (!excluded || static_cast<double>(j) == x[2 * v] || !from.chance(0.3)) continue;
      x[v + j] = -infinity;
      if (from.chance(0.5)) x[j] = -infinity;
    }
  });
  std::fill(l.b.per_row[counts].begin(), l.b.per_row[counts].end(), 1.0);  // tdpo takes all pairs
  return l;
}

/// Slots: slopes of the logits, then KL(ref || pi). Rows: losses and implicit rewards of both sides.
template <class T = double>
outcome call_tdpo(const rlhf::tdpo& loss, const batch& b, std::size_t vocabulary, std::size_t spare,
                  bool in_place = false) {
  const std::size_t v = vocabulary, c = v + spare;
  outcome o;
  o.slots.assign(v + 1, std::vector<double>(b.slots(), 0));
  const side_of sides[] = {side_of(b, 0), side_of(b, 1)};
  struct cells {
    std::vector<T> logits, reference, gradient, kl;
    std::vector<std::int32_t> target;
  } of[2];
  rlhf::tdpo_side<T> in[2];
  for (std::size_t k = 0; k < 2; ++k) {
    const auto& from = sides[k].from;
    const auto n = static_cast<std::int64_t>(from.size()), width = static_cast<std::int64_t>(c);
    cells& x = of[k];
    x.logits.assign(from.size() * c, static_cast<T>(not_a_number));
    x.reference = x.logits;
    x.kl.assign(from.size(), T(7));
    for (std::size_t t = 0; t < from.size(); ++t) {
      for (std::size_t j = 0; j < v; ++j) {
        x.logits[t * c + j] = static_cast<T>(b.columns[j][from[t]]);
        x.reference[t * c + j] = static_cast<T>(b.columns[v + j][from[t]]);
      }
      // Under the mask anything within the vocabulary.
      const double y = b.columns[2 * v][from[t]];
      x.target.push_back(y >= 0 && y < static_cast<double>(v) ? static_cast<std::int32_t>(y)
                                                              : static_cast<std::int32_t>(v) - 1);
    }
    x.gradient = in_place ? x.logits : std::vector<T>(from.size() * c, T(7));
    in[k] = {sides[k].layout(),
             {in_place ? x.gradient.data() : x.logits.data(), n, width},
             {x.reference.data(), n, width},
             x.target,
             sides[k].mask_or_none(),
             {x.gradient.data(), n, width},
             x.kl};
  }
  T value = 7;
  std::vector<std::vector<T>> rows(3, std::vector<T>(static_cast<std::size_t>(b.rows), T(7)));
  rlhf::pair_outputs<T> out;
  out.loss = {&value, 1};
  out.per_pair = rows[0];
  out.reward_chosen = rows[1];
  out.reward_rejected = rows[2];
  rlhf::reference_backend be;
  rlhf::tdpo known = loss;
  known.vocabulary = static_cast<std::int64_t>(v);
  expect_done(known(be, in[0], in[1], out), "tdpo");
  o.loss = value;
  for (const auto& x : rows) o.rows.emplace_back(x.begin(), x.end());
  for (std::size_t k = 0; k < 2; ++k)
    for (std::size_t t = 0; t < sides[k].from.size(); ++t) {
      const std::size_t to = sides[k].from[t];
      for (std::size_t j = 0; j < c; ++j) {
        const T slope = of[k].gradient[t * c + j];
        if (j < v)
          o.slots[j][to] = slope;
        else
          expect(plain_zero(slope), "tdpo writes the slope ", slope, " beyond the vocabulary");
      }
      o.slots[v][to] = of[k].kl[t];
    }
  return o;
}
template <class T = double>
outcome call_tdpo(const rlhf::tdpo& loss, const logit_batch& l, bool in_place = false) {
  return call_tdpo<T>(loss, l.b, l.vocabulary, l.spare, in_place);
}

/// M and K of both sides of each pair, by the definition.
struct sums_of_pair {
  double log_ratio[2]{}, kl[2]{};
};
std::vector<sums_of_pair> by_definition(const logit_batch& l, double temperature) {
  const std::size_t v = l.vocabulary, w = static_cast<std::size_t>(l.b.width);
  std::vector<sums_of_pair> sums(static_cast<std::size_t>(l.b.rows));
  const auto log_softmax = [&](const std::vector<double>& x, std::size_t from) {
    std::vector<double> p;
    for (std::size_t j = 0; j < v; ++j) p.push_back(x[from + j] / temperature);
    const double top = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (const double z : p) sum += std::exp(z - top);
    for (double& z : p) z -= top + std::log(sum);
    return p;
  };
  for (std::size_t i = 0; i < l.b.slots(); ++i) {
    if (!l.b.valid(i)) continue;
    const auto x = l.b.get(i);
    const auto p = log_softmax(x, 0), q = log_softmax(x, v);
    const auto y = static_cast<std::size_t>(x[l.target()]);
    sums_of_pair& s = sums[i / w];
    const std::size_t side = i % w < w / 2 ? 0 : 1;
    s.log_ratio[side] += p[y] - q[y];
    for (std::size_t j = 0; j < v; ++j)
      if (std::exp(q[j]) > 0) s.kl[side] += std::exp(q[j]) * (q[j] - p[j]);
  }
  return sums;
}
double tdpo_margin(const rlhf::tdpo& loss, const sums_of_pair& s) {
  const double alpha = loss.version == rlhf::tdpo_version::tdpo1 ? 1 : loss.alpha;
  return s.log_ratio[0] - s.log_ratio[1] + alpha * (s.kl[0] - s.kl[1]);
}
rlhf::tdpo draw_settings(numbers& random) {
  rlhf::tdpo loss{.beta = random.uniform(0.1, 1), .alpha = random.uniform(0, 1.5)};
  if (random.chance(0.5)) loss.version = rlhf::tdpo_version::tdpo1;
  if (random.chance(0.5)) loss.temperature = random.uniform(0.5, 2);
  return loss;
}

}  // namespace

TEST_CASE("tdpo: the mask, the order and the packing of a batch; finite") {
  for_all("batches", 1, [] {
    numbers random(seed());
    const rlhf::tdpo loss = draw_settings(random);
    const logit_batch l = draw_logits(random, random.chance(0.3) ? 700 : 3, random.chance(0.5));
    const auto run = [&](const batch& x) { return call_tdpo(loss, x, l.vocabulary, l.spare); };
    expect_mask_holds("tdpo", l.b, random, run);
    expect_permutes("tdpo", l.b, random, run);
    expect_packs("tdpo", l.b, run);
    const outcome o = run(l.b), on_logits = call_tdpo(loss, l, true);
    expect(same_bits(o.loss, on_logits.loss) && same_columns(o.slots, on_logits.slots),
           "another gradient on the logits");
    for (const outcome& x : {o, call_tdpo<float>(loss, l)}) {
      expect(std::isfinite(x.loss), "loss ", x.loss);
      for (const auto& c : x.slots)
        for (const double s : c) expect(std::isfinite(s), "slope ", s);
    }
  });
}

TEST_CASE("tdpo: by the definition, and slopes are derivatives") {
  for_all("tdpo", 2, [] {
    numbers random(seed());
    const rlhf::tdpo loss = draw_settings(random);
    const logit_batch l = draw_logits(random, 2, random.chance(0.3));
    const std::size_t v = l.vocabulary, w = static_cast<std::size_t>(l.b.width);
    const outcome o = call_tdpo(loss, l), single = call_tdpo<float>(loss, l);
    const auto sums = by_definition(l, loss.temperature);
    const auto pairs = static_cast<double>(sums.size());
    double total = 0;
    for (std::size_t r = 0; r < sums.size(); ++r) {
      const double want = softplus(-loss.beta * tdpo_margin(loss, sums[r]));
      total += want / pairs;
      expect(near(o.rows[0][r], want, 1e-11, 1e-3), "pair ", r, " has the loss ", o.rows[0][r], ", not ", want);
      for (const std::size_t side : {0u, 1u})
        expect(near(o.rows[1 + side][r], loss.beta * sums[r].log_ratio[side], 1e-11, 1), "implicit reward ",
               o.rows[1 + side][r], ", not ", loss.beta * sums[r].log_ratio[side]);
    }
    expect(near(o.loss, total, 1e-11), "loss ", o.loss, ", not ", total);
    expect(near(single.loss, o.loss, 1e-4, 1), "loss ", single.loss, " in float, ", o.loss);
    for (std::size_t i = 0; i < l.b.slots(); ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < v; ++j) {
        sum += o.slots[j][i];
        expect(near(single.slots[j][i], o.slots[j][i], 1e-4, 0.1), "slope ", single.slots[j][i], " in float, ",
               o.slots[j][i]);
      }
      expect(std::abs(sum) < 1e-12, "slopes of a row add up to ", sum);
      expect(o.slots[v][i] >= -1e-12, "a divergence of ", o.slots[v][i]);
    }
    if (l.b.slots() == 0) return;
    const auto i = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(l.b.slots()) - 1));
    const auto j = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(v) - 1));
    if (!l.b.valid(i) || std::isinf(l.b.columns[j][i])) return;
    // The chosen side's divergence is a constant of TDPO2.
    const double slope = slope_of([&](double by) {
      logit_batch moved = l;
      moved.b.columns[j][i] += by;
      auto there = by_definition(moved, loss.temperature);
      if (loss.version == rlhf::tdpo_version::tdpo2) there[i / w].kl[0] = sums[i / w].kl[0];
      return softplus(-loss.beta * tdpo_margin(loss, there[i / w])) / pairs;
    });
    expect(near(o.slots[j][i], slope, 1e-6, 1e-3), "slope ", o.slots[j][i], ", differences give ", slope);
  });
}

TEST_CASE("tdpo: reductions and invariances") {
  for_all("tdpo", 2, [] {
    numbers random(seed());
    rlhf::tdpo loss = draw_settings(random);
    const logit_batch l = draw_logits(random, 2, random.chance(0.3));
    const std::size_t v = l.vocabulary, w = static_cast<std::size_t>(l.b.width);
    // A number on all logits of a row, of either model, is nothing; a temperature is a unit.
    logit_batch shifted = l, warm = l, equal = l;
    for (std::size_t i = 0; i < l.b.slots(); ++i) {
      const double a = random.uniform(-50, 50), b = random.uniform(-50, 50);
      for (std::size_t j = 0; j < v; ++j) {
        shifted.b.columns[j][i] += a;
        shifted.b.columns[v + j][i] += b;
        warm.b.columns[j][i] *= 2;
        warm.b.columns[v + j][i] *= 2;
        equal.b.columns[v + j][i] = equal.b.columns[j][i];
      }
    }
    rlhf::tdpo warmer = loss;
    warmer.temperature = 2 * loss.temperature;
    const outcome o = call_tdpo(loss, l), s = call_tdpo(loss, shifted), t = call_tdpo(warmer, warm),
                  e = call_tdpo(loss, equal);
    expect(near(o.loss, s.loss, 1e-10, 1), "shifts make ", o.loss, " to ", s.loss);
    expect(near(o.loss, t.loss, 1e-12, 1), "twice the logits at twice the temperature make ", o.loss, " to ", t.loss);
    for (std::size_t i = 0; i < l.b.slots(); ++i)
      for (std::size_t j = 0; j < v; ++j)
        expect(near(o.slots[j][i], s.slots[j][i], 1e-10, 1) && near(o.slots[j][i], 2 * t.slots[j][i], 1e-12, 1e-3),
               "slope ", o.slots[j][i], ", shifted ", s.slots[j][i], ", warmer ", t.slots[j][i]);
    // A policy that is its reference: every pair is undecided.
    for (const double x : e.rows[0]) expect(near(x, std::log(2.0), 1e-12), "the reference itself has the loss ", x);
    // TDPO1 and TDPO2 at alpha 1 are one loss with two gradients; the rejected side's is the same.
    rlhf::tdpo first = loss, second = loss, plain = loss;
    first.version = rlhf::tdpo_version::tdpo1;
    second.version = plain.version = rlhf::tdpo_version::tdpo2;
    second.alpha = 1;
    plain.alpha = 0;
    const outcome one = call_tdpo(first, l), two = call_tdpo(second, l), none = call_tdpo(plain, l);
    expect(same_bits(one.loss, two.loss), "tdpo1 is ", one.loss, ", tdpo2 at alpha 1 ", two.loss);
    const auto sums = by_definition(l, loss.temperature);
    for (std::size_t i = 0; i < l.b.slots(); ++i) {
      double whole = 0;
      for (std::size_t j = 0; j < v; ++j) whole += std::exp(l.b.columns[l.reference(j)][i] / loss.temperature);
      for (std::size_t j = 0; j < v; ++j) {
        if (i % w >= w / 2) {
          expect(same_bits(one.slots[j][i], two.slots[j][i]), "tdpo1 has the slope ", one.slots[j][i], ", tdpo2 ",
                 two.slots[j][i]);
          continue;
        }
        if (!l.b.valid(i)) continue;
        // Of TDPO1's chosen side the policy has dropped out, but for the margin.
        const double q = std::exp(l.b.columns[l.reference(j)][i] / loss.temperature) / whole;
        const double target = l.b.columns[l.target()][i] == static_cast<double>(j) ? 1 : 0;
        const double margin = tdpo_margin(first, sums[i / w]);
        const double slope = -loss.beta * logistic(-loss.beta * margin) * (target - q) /
                             (loss.temperature * static_cast<double>(sums.size()));
        expect(near(one.slots[j][i], slope, 1e-11, 1e-3), "tdpo1 has the slope ", one.slots[j][i], ", not ", slope);
      }
    }
    // TDPO2 at alpha 0 is DPO of the tokens' log-probabilities.
    batch tokens = l.b;
    tokens.columns.assign(token_fields, std::vector<double>(l.b.slots(), 0));
    tokens.columns.push_back(l.b.columns.back());
    std::vector<std::vector<double>> p(v, std::vector<double>(l.b.slots(), 0));
    for (std::size_t i = 0; i < l.b.slots(); ++i) {
      const auto x = l.b.get(i);
      const auto y = static_cast<std::size_t>(x[l.target()]);
      double sum = 0, ref_sum = 0;
      for (std::size_t j = 0; j < v; ++j) {
        p[j][i] = std::exp(x[j] / loss.temperature);
        sum += p[j][i];
        ref_sum += std::exp(x[v + j] / loss.temperature);
      }
      for (std::size_t j = 0; j < v; ++j) p[j][i] /= sum;
      tokens.columns[logp][i] = x[y] / loss.temperature - std::log(sum);
      tokens.columns[ref_logp][i] = x[v + y] / loss.temperature - std::log(ref_sum);
    }
    std::fill(tokens.per_row[pair_weight].begin(), tokens.per_row[pair_weight].end(), 1.0);
    const outcome dpo = call_loss(rlhf::preference_loss{rlhf::dpo_sigmoid{.beta = loss.beta}}, tokens);
    expect(near(none.loss, dpo.loss, 1e-12, 1e-3), "at alpha 0 it is ", none.loss, ", dpo ", dpo.loss);
    for (std::size_t i = 0; i < l.b.slots(); ++i)
      for (std::size_t j = 0; j < v; ++j) {
        const double target = l.b.columns[l.target()][i] == static_cast<double>(j) ? 1 : 0;
        const double slope = dpo.slots[0][i] * (target - p[j][i]) / loss.temperature;
        expect(near(none.slots[j][i], slope, 1e-11, 1e-3), "at alpha 0 the slope is ", none.slots[j][i], ", dpo's ",
               slope);
      }
  });
}
