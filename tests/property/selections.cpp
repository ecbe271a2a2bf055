// Which tokens of a batch are taken, and what tokens weigh by what lies before and after them.

#include "property/batches.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/driver/future_weights.hpp"
#include "rlhf/driver/prefix_weights.hpp"
#include "rlhf/driver/token_selection.hpp"
#include "rlhf/objective/selection.hpp"

namespace {

using namespace property;

enum : std::size_t { logp, old_logp, advantage, entropy, all_fields };

/// As many as it is told, by the entropy as it stands; tokens with a positive advantage are no candidates.
template <bool Ties>
struct by_entropy {
  double wanted = 0;
  static constexpr unsigned reads = rlhf::selection_reads::entropy | rlhf::selection_reads::advantage;
  static constexpr bool ties = Ties;
  [[nodiscard]] constexpr rlhf::status check() const { return {}; }
  [[nodiscard]] double count(double) const { return wanted; }
  [[nodiscard]] bool candidate(const rlhf::selection_token& t) const { return !(t.item.advantage > 0); }
  [[nodiscard]] double key(const rlhf::selection_token& t) const { return t.item.entropy; }
};

/// `spread`: the first advantage of a row stands for all of it, and is given once.
template <class T, class Choice>
outcome select(const char* name, const Choice& choice, const batch& b, const std::vector<double>* spread = nullptr) {
  std::vector<std::vector<T>> c;
  for (const auto& column : b.columns) c.emplace_back(column.begin(), column.end());
  std::vector<T> per_row;
  if (spread != nullptr) per_row.assign(spread->begin(), spread->end());
  std::vector<std::uint8_t> taken(b.slots(), 7);
  rlhf::selection_inputs<T> in{c[logp], c[old_logp], spread != nullptr ? per_row : c[advantage], b.mask_or_none(),
                               c[entropy]};
  rlhf::reference_backend be;
  expect_done(rlhf::select_tokens(be, b.layout(), choice, in, rlhf::view<std::uint8_t>(taken)), name);
  outcome o;
  o.slots.emplace_back(taken.begin(), taken.end());
  return o;
}
std::size_t taken_of(const outcome& o) {
  return static_cast<std::size_t>(std::count(o.slots[0].begin(), o.slots[0].end(), 1.0));
}

/// Entropies are multiples of 1/8 with both zeros among them; some are infinite or no number where `odd` says so.
batch drawn(numbers& random, bool odd = false) {
  const std::int64_t rows = integer(0, 6), width = integer(1, 9);
  return make_batch(random, rows, width, all_fields, [&](numbers& from, double* x) {
    x[old_logp] = from.uniform(-3, -0.5);
    x[logp] = x[old_logp] + from.uniform(-0.4, 0.4);
    x[advantage] = from.uniform(-2, 2);
    x[entropy] = static_cast<double>(from.integer(-2, 16)) / 8;
    if (x[entropy] < 0) x[entropy] = -0.0;
    if (odd && from.chance(0.2)) x[entropy] = from.garbage();
  });
}

/// The first `wanted` of the candidates, from the largest key down; of equal ones the first, or all where one is taken.
template <class Key>
std::vector<double> by_sorting(const batch& b, std::vector<std::size_t> candidates, double wanted, bool ties, Key key) {
  std::vector<double> taken(b.slots(), 0);
  std::stable_sort(candidates.begin(), candidates.end(), [&](std::size_t i, std::size_t j) { return key(i) > key(j); });
  std::size_t n = std::min(candidates.size(), static_cast<std::size_t>(wanted));
  while (ties && n > 0 && n < candidates.size() && key(candidates[n]) == key(candidates[n - 1])) ++n;
  for (std::size_t i = 0; i < n; ++i) taken[candidates[i]] = 1;
  return taken;
}
void expect_taken(const char* name, const batch& b, const outcome& o, const std::vector<double>& want) {
  for (std::size_t i = 0; i < b.slots(); ++i)
    expect(o.slots[0][i] == want[i], name, ": slot ", i, " of ", b.slots(), " is ", o.slots[0][i], ", sorting says ",
           want[i]);
}

}  // namespace

TEST_CASE("selections: the largest keys, the first of equals or all of them, and no others") {
  for_all("by entropy", 2, [] {
    numbers random(seed());
    const batch b = drawn(random, random.chance(0.5));
    const double wanted = static_cast<double>(random.integer(0, random.chance(0.3) ? 60 : 8));
    const auto check = [&](const char* name, const auto& choice) {
      const auto run = [&](const batch& x) { return select<double>(name, choice, x); };
      expect_mask_holds(name, b, random, run);
      expect_packs(name, b, run);
      std::vector<std::size_t> candidates;
      for (std::size_t i = 0; i < b.slots(); ++i)
        if (b.valid(i) && !(b.columns[advantage][i] > 0) && !std::isnan(b.columns[entropy][i])) candidates.push_back(i);
      const outcome o = run(b);
      expect_taken(name, b, o, by_sorting(b, candidates, wanted, choice.ties, [&](std::size_t i) {
                     return b.columns[entropy][i];
                   }));
      // In floats the keys are the same; only too large ones are infinite.
      const batch plain = drawn(random);
      expect(same_columns(select<float>(name, choice, plain).slots, run(plain).slots), name,
             ": another choice in float");
    };
    check("the first of equals", by_entropy<false>{wanted});
    check("all of equals", by_entropy<true>{wanted});
    // Which of equals are taken depends on their order; all of them do not.
    expect_permutes("all of equals", b, random,
                    [&](const batch& x) { return select<double>("all of equals", by_entropy<true>{wanted}, x); });
  });
}

TEST_CASE("selections: tokens of high entropy are those at or above the quantile") {
  for_all("high entropy", 1, [] {
    numbers random(seed());
    const batch b = drawn(random);
    // Fractions of powers of two: the quantile is exact.
    const double fraction = static_cast<double>(random.integer(1, 64)) / 64;
    const auto run_at = [&](double f, const batch& x) {
      return select<double>("high entropy", rlhf::high_entropy{.fraction = f}, x);
    };
    const auto run = [&](const batch& x) { return run_at(fraction, x); };
    expect_mask_holds("high entropy", b, random, run);
    expect_permutes("high entropy", b, random, run);
    expect_packs("high entropy", b, run);
    std::vector<double> sorted;
    for (std::size_t i = 0; i < b.slots(); ++i)
      if (b.valid(i)) sorted.push_back(b.columns[entropy][i]);
    std::sort(sorted.begin(), sorted.end());
    const outcome o = run(b), whole = run_at(1, b);
    if (sorted.empty()) return;
    const double rank = (1 - fraction) * static_cast<double>(sorted.size() - 1), low = std::floor(rank);
    const auto at = static_cast<std::size_t>(low);
    const double above = sorted[std::min(at + 1, sorted.size() - 1)];
    const double quantile = sorted[at] + (rank - low) * (above - sorted[at]);
    for (std::size_t i = 0; i < b.slots(); ++i) {
      expect((o.slots[0][i] == 1) == (b.valid(i) && b.columns[entropy][i] >= quantile), "entropy ",
             b.columns[entropy][i], " of the quantile ", quantile, " is taken ", o.slots[0][i], " times");
      expect((whole.slots[0][i] == 1) == b.valid(i), "all of them are not all");
    }
    // A larger share takes those of a smaller one.
    const double more = random.uniform(fraction, 1), any = random.uniform(1e-6, 1);
    const outcome larger = run_at(more, b);
    for (std::size_t i = 0; i < b.slots(); ++i)
      expect(larger.slots[0][i] >= o.slots[0][i], "a share of ", more, " leaves out what ", fraction, " takes");
    expect(static_cast<double>(taken_of(run_at(any, b))) >= any * static_cast<double>(sorted.size() - 1),
           "fewer than a share of ", any);
    // Entropies count by their order alone.
    batch stretched = b;
    for (double& h : stretched.columns[entropy]) h = std::exp(3 * h) - 7;
    expect(same_columns(run(stretched).slots, o.slots), "another scale of entropies makes another choice");
  });
}

TEST_CASE("selections: covariances") {
  for_all("covariances", 2, [] {
    numbers random(seed());
    const batch b = drawn(random);
    double n = 0, mean_logp = 0, mean_advantage = 0;
    std::vector<std::size_t> valid;
    for (std::size_t i = 0; i < b.slots(); ++i)
      if (b.valid(i)) {
        valid.push_back(i);
        n += 1;
        mean_logp += b.columns[logp][i];
        mean_advantage += b.columns[advantage][i];
      }
    mean_logp /= std::max(n, 1.0);
    mean_advantage /= std::max(n, 1.0);
    const auto covariance = [&](std::size_t i) {
      return (b.columns[advantage][i] - mean_advantage) * (b.columns[logp][i] - mean_logp);
    };
    const double fraction = random.chance(0.2) ? 2e-4 : random.uniform(0, 1);
    const double share = std::max(1.0, std::floor(fraction * n));
    const auto kl = [&](const batch& x) {
      return select<double>("kl covariance", rlhf::kl_covariance{.fraction = fraction}, x);
    };
    expect_mask_holds("kl covariance", b, random, kl);
    const outcome o = kl(b);
    expect(static_cast<double>(taken_of(o)) == std::min(share, n), "kl covariance takes ", taken_of(o), " of ", n,
           " at ", fraction);
    if (n > 2) {  // two tokens vary together equally: rounding decides
      expect_permutes("kl covariance", b, random, kl);
      expect_packs("kl covariance", b, kl);
      double least = infinity, most = -infinity;
      for (const std::size_t i : valid)
        (o.slots[0][i] == 1 ? least : most) =
            o.slots[0][i] == 1 ? std::min(least, covariance(i)) : std::max(most, covariance(i));
      expect(least >= most - 1e-12, "kl covariance takes ", least, " and leaves ", most);
      // Shifts and positive factors of both are seen by no covariance's rank.
      batch moved = b;
      for (double& a : moved.columns[advantage]) a = 3 * a + 5;
      for (double& l : moved.columns[logp]) l = 0.5 * l - 2;
      expect(same_columns(kl(moved).slots, o.slots), "another scale makes another choice");
    }

    const double low = random.uniform(-1, 0.3), high = low + random.uniform(0, 1);
    rlhf::clip_covariance choice{.fraction = fraction, .low = low, .high = high};
    choice.clip = {.low = 0.2, .high = 0.2};
    choice.random.seed = random.next();
    const auto clip = [&](const batch& x) { return select<double>("clip covariance", choice, x); };
    expect_mask_holds("clip covariance", b, random, clip);
    const outcome c = clip(b);
    double candidates = 0;
    bool close = false;
    for (const std::size_t i : valid) {
      const double a = b.columns[advantage][i], ratio = std::exp(b.columns[logp][i] - b.columns[old_logp][i]);
      const double v = covariance(i);
      const bool clipped = (a > 0 && ratio > 1.2) || (a < 0 && ratio < 0.8);
      const bool candidate = !clipped && v > low && v < high;
      close = close || std::min(std::abs(v - low), std::abs(v - high)) < 1e-12;
      candidates += candidate ? 1 : 0;
      expect(candidate || close || c.slots[0][i] == 0, "clip covariance takes the covariance ", v, " of (", low, ", ",
             high, ")", clipped ? ", clipped" : "");
    }
    expect(close || static_cast<double>(taken_of(c)) == std::min(share, candidates), "clip covariance takes ",
           taken_of(c), " of ", candidates, " candidates, a share is ", share);
    // All candidates are all, whatever the key; a part of them is part of a larger part.
    auto all = choice, more = choice;
    all.fraction = 1;
    more.fraction = random.uniform(fraction, 1);
    const outcome every = select<double>("clip covariance", all, b),
                  larger = select<double>("clip covariance", more, b);
    all.random.seed += 1;
    expect(same_columns(every.slots, select<double>("clip covariance", all, b).slots),
           "the key changes all candidates");
    for (std::size_t i = 0; i < b.slots(); ++i)
      expect(c.slots[0][i] <= larger.slots[0][i] && larger.slots[0][i] <= every.slots[0][i],
             "a smaller share is no part of a larger one");
    // Sequences' advantages stand for those of their tokens.
    batch spread = b;
    std::vector<double> per_row;
    for (std::int64_t r = 0; r < b.rows; ++r) {
      per_row.push_back(random.uniform(-2, 2));
      for (std::int64_t t = 0; t < b.width; ++t)
        spread.columns[advantage][static_cast<std::size_t>(r * b.width + t)] = per_row.back();
    }
    expect(same_columns(clip(spread).slots, select<double>("clip covariance", choice, spread, &per_row).slots) &&
               same_columns(
                   kl(spread).slots,
                   select<double>("kl covariance", rlhf::kl_covariance{.fraction = fraction}, spread, &per_row).slots),
           "advantages of sequences make another choice than those of their tokens");
  });
}

namespace {

template <class T>
outcome prefix(const rlhf::prefix_weight& how, const batch& b) {
  const std::vector<T> a(b.columns[advantage].begin(), b.columns[advantage].end());
  std::vector<T> weight(b.slots(), T(7));
  rlhf::reference_backend be;
  expect_done(
      rlhf::prefix_weights(be, b.layout(), how, rlhf::view<const T>(a), b.mask_or_none(), rlhf::view<T>(weight)),
      "prefix_weights");
  outcome o;
  o.slots.emplace_back(weight.begin(), weight.end());
  return o;
}
template <class T>
outcome future(const rlhf::future_weight& how, const batch& b, const std::vector<double>* spread = nullptr) {
  const std::vector<T> l(b.columns[logp].begin(), b.columns[logp].end()),
      old(b.columns[old_logp].begin(), b.columns[old_logp].end());
  const auto& given = spread != nullptr ? *spread : b.columns[advantage];
  const std::vector<T> a(given.begin(), given.end());
  std::vector<T> weight(b.slots(), T(7));
  rlhf::reference_backend be;
  expect_done(rlhf::future_weights(be, b.layout(), how, rlhf::view<const T>(l), rlhf::view<const T>(old),
                                   rlhf::view<const T>(a), b.mask_or_none(), rlhf::view<T>(weight)),
              "future_weights");
  outcome o;
  o.slots.emplace_back(weight.begin(), weight.end());
  return o;
}
/// Numbers that are floats too.
batch sequences(numbers& random, double range) {
  const std::int64_t rows = integer(0, 6), width = integer(1, 9);
  return make_batch(random, rows, width, all_fields, [&](numbers& from, double* x) {
    x[old_logp] = static_cast<float>(from.uniform(-range, 0));
    x[logp] = static_cast<float>(from.uniform(-range, 0));
    x[advantage] = from.chance(0.1) ? 0 : static_cast<float>(from.uniform(-range, range));
    x[entropy] = 0;
  });
}
/// The valid slots of each row, in order.
template <class Row>
void for_rows(const batch& b, Row row) {
  for (std::int64_t r = 0; r < b.rows; ++r) {
    std::vector<std::size_t> at;
    for (std::int64_t t = 0; t < b.width; ++t)
      if (b.valid(static_cast<std::size_t>(r * b.width + t))) at.push_back(static_cast<std::size_t>(r * b.width + t));
    row(at);
  }
}

}  // namespace

TEST_CASE("prefix weights: by the definition, falling from 1 + gamma to 1") {
  for_all("prefix weights", 2, [] {
    numbers random(seed());
    const double range = random.chance(0.2) ? 700 : 2;
    const batch b = sequences(random, range);
    for (const bool inclusive : {true, false}) {
      const rlhf::prefix_weight how{
          .gamma = random.uniform(0, 2), .epsilon = random.chance(0.5) ? 1e-8 : 0.5, .inclusive = inclusive};
      const auto run = [&](const batch& x) { return prefix<double>(how, x); };
      expect_mask_holds("prefix weights", b, random, run);
      expect_permutes("prefix weights", b, random, run);
      expect_packs("prefix weights", b, run);
      const outcome o = run(b), single = prefix<float>(how, b);
      batch agreed = b, mirrored = b;
      for (double& a : agreed.columns[advantage]) a = 0;
      for (double& a : mirrored.columns[advantage]) a = random.chance(0.5) ? -a : a;
      const outcome same = run(agreed), turned = run(mirrored), flat = prefix<double>({.gamma = 0}, b);
      expect(same_columns(o.slots, turned.slots), "the sign of an advantage changes its weight");
      for_rows(b, [&](const std::vector<std::size_t>& row) {
        double total = 0, seen = 0, before = 1 + how.gamma;
        for (const std::size_t i : row) total += std::abs(b.columns[advantage][i]);
        for (const std::size_t i : row) {
          const double size = std::abs(b.columns[advantage][i]), w = o.slots[0][i];
          const double prefix = inclusive ? seen + size : seen;
          seen += size;
          const double want = 1 + how.gamma * (1 - prefix / (how.epsilon + total));
          expect(near(w, want, 1e-11, how.gamma), "weight ", w, ", not ", want);
          expect(near(single.slots[0][i], w, 1e-5, how.gamma), "weight ", single.slots[0][i], " in float, ", w);
          expect(w >= 1 && w <= before, "weight ", w, " after ", before);
          before = w;
          expect(near(same.slots[0][i], 1 + how.gamma, 1e-14), "where both agree a token weighs ", same.slots[0][i]);
          expect(flat.slots[0][i] == 1, "at gamma 0 a token weighs ", flat.slots[0][i]);
        }
        if (!row.empty() && !inclusive)
          expect(near(o.slots[0][row.front()], 1 + how.gamma, 1e-14), "the first token weighs ",
                 o.slots[0][row.front()]);
      });
    }
  });
}

TEST_CASE("future weights: by the definition, between their bounds") {
  for_all("future weights", 1, [] {
    numbers random(seed());
    const double range = random.chance(0.2) ? 700 : 1;
    const batch b = sequences(random, range);
    rlhf::future_weight how{.decay = random.chance(0.1) ? infinity : random.uniform(0.3, 40),
                            .low = random.uniform(0, 1),
                            .high = random.chance(0.2) ? 1e30 : random.uniform(1, 3)};
    if (random.chance(0.5)) how.ratio_bound = random.uniform(0.5, 2);
    if (random.chance(0.5)) how.safety = random.uniform(0.3, 2);
    const auto run = [&](const batch& x) { return future<double>(how, x); };
    expect_mask_holds("future weights", b, random, run);
    expect_permutes("future weights", b, random, run);
    expect_packs("future weights", b, run);
    const outcome o = run(b), single = future<float>(how, b);
    batch own = b, lower = b;
    own.columns[logp] = own.columns[old_logp];
    for (std::size_t i = 0; i < b.slots(); ++i)
      if (b.columns[logp][i] - b.columns[old_logp][i] > std::log(how.ratio_bound) + 1e-9) lower.columns[logp][i] += 1;
    const outcome on_policy = run(own), outliers = run(lower);
    const double gamma = std::isinf(how.decay) ? 1 : std::pow(2, -1 / how.decay);
    const auto risky_weight = [](double w) { return std::min(std::max(w, 0.8), 1.0); };
    for_rows(b, [&](const std::vector<std::size_t>& row) {
      for (std::size_t t = 0; t < row.size(); ++t) {
        double sum = 0, size = 0;
        bool close = false;
        for (std::size_t u = t; u < row.size(); ++u) {
          const double d = b.columns[logp][row[u]] - b.columns[old_logp][row[u]];
          close = close || std::abs(d - std::log(how.ratio_bound)) < 1e-4;
          const double term = std::pow(gamma, static_cast<double>(u - t)) * d;
          if (std::exp(d) <= how.ratio_bound) sum += term, size += std::abs(term);
        }
        const double a = b.columns[advantage][row[t]], d = b.columns[logp][row[t]] - b.columns[old_logp][row[t]];
        const bool risky = a < 0 && std::exp(d) > how.safety;
        close = close || std::abs(d - std::log(how.safety)) < 1e-4;
        double want = std::min(std::max(std::exp(sum), how.low), how.high);
        if (risky) want = risky_weight(want);
        const double w = o.slots[0][row[t]];
        expect(close || near(w, want, 1e-11 * (1 + size), 0), "weight ", w, ", not ", want);
        expect(w >= std::min(how.low, 0.8) && w <= how.high, "weight ", w, " outside of its bounds");
        expect(close || near(single.slots[0][row[t]], w, 2e-6 * (1 + size), 0), "weight ", single.slots[0][row[t]],
               " in float, ", w);
        expect(on_policy.slots[0][row[t]] == (a < 0 && 1 > how.safety ? risky_weight(1) : 1.0),
               "on policy a token weighs ", on_policy.slots[0][row[t]]);
        if (!(a < 0))
          expect(outliers.slots[0][row[t]] == w, "an outlier is in the sum: ", w, " becomes ",
                 outliers.slots[0][row[t]]);
      }
    });
    // A sequence's advantage stands for those of its tokens.
    batch spread = b;
    std::vector<double> per_row;
    for (std::int64_t r = 0; r < b.rows; ++r) {
      per_row.push_back(static_cast<double>(random.integer(-1, 1)));
      for (std::int64_t t = 0; t < b.width; ++t)
        spread.columns[advantage][static_cast<std::size_t>(r * b.width + t)] = per_row.back();
    }
    expect(same_columns(run(spread).slots, future<double>(how, spread, &per_row).slots),
           "advantages of sequences make other weights than those of their tokens");
  });
}
