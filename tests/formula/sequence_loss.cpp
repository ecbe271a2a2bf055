// Losses of whole sequences and of groups of them, TOPR, and tokens chosen by covariance.

#include "rlhf/driver/sequence_loss.hpp"

#include <algorithm>

#include "formula/support.hpp"
#include "rlhf/driver/token_selection.hpp"
#include "rlhf/objective/kl.hpp"
#include "rlhf/objective/weighted.hpp"

namespace {

using test::infinity;
using test::not_a_number;
using test::token_batch;

struct result {
  rlhf::status status;
  double loss = not_a_number;
  std::vector<double> gradient, per_sequence, log_ratio;
};

template <class Loss>
result run(const Loss& loss, const token_batch& b, rlhf::sequence_inputs<double> in, std::size_t items) {
  rlhf::reference_backend backend;
  result r;
  r.gradient.assign(b.size(), 99);
  r.per_sequence.assign(items, 99);
  r.log_ratio.assign(static_cast<std::size_t>(b.layout().sequences), 99);
  in.logp = b.logp;
  in.old_logp = b.old_logp;
  if (!b.mask.empty()) in.mask = b.mask;
  r.status = loss(backend, b.layout(), in, {{&r.loss, 1}, r.gradient, r.per_sequence, r.log_ratio});
  return r;
}

/// d loss / d logp of every valid token against central differences; exact zeros elsewhere.
template <class Loss>
void check_gradient(const Loss& loss, const token_batch& b, const rlhf::sequence_inputs<double>& in,
                    std::size_t items) {
  const auto r = run(loss, b, in, items);
  REQUIRE(r.status);
  const auto f = [&](const std::vector<double>& logp) {
    token_batch moved = b;
    moved.logp = logp;
    return run(loss, moved, in, items).loss;
  };
  double largest = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    CAPTURE(i);
    if (!b.valid(i)) {
      CHECK(test::is_plain_zero(r.gradient[i]));
      continue;
    }
    largest = std::max(largest, std::abs(r.gradient[i]));
    CHECK(r.gradient[i] == Approx(test::central_difference(f, b.logp, i)).epsilon(1e-6).margin(1e-8));
  }
  CHECK(largest > 1e-4);
}

std::vector<std::size_t> valid_slots(const token_batch& b, std::int64_t s) {
  std::vector<std::size_t> slots;
  for (std::int64_t i = b.layout()[s].begin; i < b.layout()[s].end; ++i)
    if (b.valid(static_cast<std::size_t>(i))) slots.push_back(static_cast<std::size_t>(i));
  return slots;
}

double clip(double x, double low, double high) { return std::min(std::max(x, low), high); }

}  // namespace

TEST_CASE("RLOO's objective: one ratio of the whole response") {
  for (const token_batch& b : {test::padded_batch(31), test::packed_of(test::padded_batch(31))}) {
    const auto rows = static_cast<std::size_t>(b.layout().sequences);
    std::mt19937 random(3);
    const auto advantage = test::uniform(random, rows, -2, 2);
    rlhf::sequence_inputs<double> in;
    in.advantage = advantage;
    for (const bool count_empty : {true, false}) {
      rlhf::sequence_policy_loss loss{rlhf::ppo_clip{.low = 0.3, .high = 0.5}, rlhf::summed_log_ratio{}};
      loss.count_empty = count_empty;
      const auto r = run(loss, b, in, rows);
      REQUIRE(r.status);
      double total = 0;
      for (std::size_t s = 0; s < rows; ++s) {
        double d = 0;
        const auto slots = valid_slots(b, static_cast<std::int64_t>(s));
        for (const std::size_t i : slots) d += b.logp[i] - b.old_logp[i];
        const double ratio = std::exp(d), a = advantage[s];
        const double want = slots.empty() && !count_empty ? 0 : -std::min(ratio * a, clip(ratio, 0.7, 1.5) * a);
        CHECK(r.log_ratio[s] == Approx(d).margin(1e-14));
        CHECK(r.per_sequence[s] == Approx(want).epsilon(1e-12).margin(1e-14));
        total += want;
      }
      CHECK(r.loss == Approx(total / static_cast<double>(rows)).epsilon(1e-12));
      check_gradient(loss, b, in, rows);
    }
  }
}

TEST_CASE("GMPO: a geometric mean of ratios, held back on one side") {
  const token_batch b = test::padded_batch(32);
  const auto rows = static_cast<std::size_t>(b.layout().sequences);
  const rlhf::sequence_policy_loss loss{rlhf::importance_sampling{}, rlhf::one_sided_log_ratio{0.1, 0.15}};
  std::mt19937 random(4);
  const auto per_sequence = test::uniform(random, rows, -2, 2);
  for (const bool by_token : {false, true}) {
    rlhf::sequence_inputs<double> in;
    in.advantage = by_token ? b.advantage : per_sequence;
    const auto r = run(loss, b, in, rows);
    REQUIRE(r.status);
    for (std::size_t s = 0; s < rows; ++s) {
      const auto slots = valid_slots(b, static_cast<std::int64_t>(s));
      double c = 0, a = 0;
      for (const std::size_t i : slots) {
        const double d = b.logp[i] - b.old_logp[i], mine = by_token ? b.advantage[i] : per_sequence[s];
        c += mine > 0 ? std::min(d, 0.15) : std::max(d, -0.1);
        a += mine;
      }
      const double n = static_cast<double>(slots.size());
      const double want = slots.empty() ? 0 : -a / n * std::exp(c / n);
      CHECK(r.per_sequence[s] == Approx(want).epsilon(1e-12).margin(1e-14));
      if (slots.empty()) CHECK(r.log_ratio[s] == 0);
    }
    check_gradient(loss, b, in, rows);
  }
  // One token on its closed bound keeps its slope, beyond it has none; without an advantage a token does not count.
  const auto slope = [](double d, double a) {
    token_batch one;
    one.rows = one.width = 1;
    one.logp = {d};
    one.old_logp = {0};
    const std::vector<double> advantage{a};
    rlhf::sequence_inputs<double> in;
    in.advantage = advantage;
    return run(rlhf::sequence_policy_loss{rlhf::importance_sampling{}, rlhf::one_sided_log_ratio{0.25, 0.5}}, one, in,
               1)
        .gradient[0];
  };
  CHECK(slope(0.5, 1) == Approx(-std::exp(0.5)));
  CHECK(slope(0.5 + 1e-9, 1) == 0);
  CHECK(slope(-5, 1) == Approx(-std::exp(-5)));
  CHECK(slope(-0.25, -1) == Approx(std::exp(-0.25)));
  CHECK(slope(-0.25 - 1e-9, -1) == 0);
  CHECK(slope(0.1, 0) == 0);
}

TEST_CASE("REAL: responses as two classes") {
  const token_batch b = test::padded_batch(33);  // 9 sequences
  const std::vector<double> score{1, -1, 2, 1, 3, 1, 0, -2, -1};
  const std::vector<std::int64_t> offsets{0, 4, 6, 9}, order{2, 0, 8, 6, 3, 4, 1, 5, 7};  // the second has one class
  rlhf::sequence_inputs<double> in;
  in.score = score;
  in.groups = {rlhf::packed(offsets), order.data()};
  const rlhf::group_sequence_loss<rlhf::real_classification> loss{{.temperature = 0.05}};
  const auto r = run(loss, b, in, 3);
  REQUIRE(r.status);
  double total = 0;
  for (std::size_t g = 0; g < 3; ++g) {
    double negative = 1, positive = 1;
    int positives = 0, negatives = 0;
    for (auto j = static_cast<std::size_t>(offsets[g]); j < static_cast<std::size_t>(offsets[g + 1]); ++j) {
      const auto s = static_cast<std::size_t>(order[j]);
      const auto slots = valid_slots(b, order[j]);
      double mean = 0;
      for (const std::size_t i : slots) mean += (b.logp[i] - b.old_logp[i]) / static_cast<double>(slots.size());
      CHECK(r.log_ratio[s] == Approx(mean).margin(1e-14));
      (score[s] > 0 ? positive : negative) += std::exp((score[s] > 0 ? -mean : mean) / 0.05);
      (score[s] > 0 ? positives : negatives) += 1;
    }
    const double want = positives > 0 && negatives > 0 ? std::log(negative) + std::log(positive) : 0;
    CHECK(r.per_sequence[g] == Approx(want).epsilon(1e-12).margin(1e-15));
    total += want / 3;
  }
  CHECK(r.per_sequence[1] == 0);
  CHECK(r.loss == Approx(total).epsilon(1e-12));
  check_gradient(loss, b, in, 3);

  // Scores of +-14000: no overflow, and slopes of 1 / (tau n G).
  token_batch far;
  far.rows = 2;
  far.width = 1;
  far.logp = {-700, 700};
  far.old_logp = {0, 0};
  const std::vector<double> two{1, -1};
  const std::vector<std::int64_t> one_group{0, 2};
  in.score = two;
  in.groups = {rlhf::packed(one_group), nullptr};
  const auto e = run(loss, far, in, 1);
  CHECK(e.loss == Approx(2 * 14000.0));
  CHECK(e.gradient[0] == Approx(-20));
  CHECK(e.gradient[1] == Approx(20));

  // A score of 0 is of the negative class.
  const std::vector<double> with_zero{1, 0}, zeros{0, -1};
  in.score = with_zero;
  CHECK(run(loss, far, in, 1).loss == Approx(2 * 14000.0));
  in.score = zeros;
  CHECK(run(loss, far, in, 1).loss == 0);
  in.score = two;

  CHECK(test::text(run(rlhf::group_sequence_loss<rlhf::real_classification>{{.temperature = 0}}, far, in, 1).status) ==
        "real_classification: temperature is 0, wants more than 0");
  in.score = {};
  CHECK(test::text(run(loss, far, in, 1).status) ==
        "group_sequence_loss: score is null, wants a pointer to its elements");
}

TEST_CASE("losses of sequences say what is wrong, and of nothing are 0") {
  const token_batch b = test::padded_batch(34);
  const rlhf::sequence_policy_loss loss{rlhf::ppo_clip{}, rlhf::summed_log_ratio{}};
  CHECK(test::text(run(loss, b, {}, 9).status) ==
        "sequence_policy_loss: advantage is null, wants a pointer to its elements");
  const std::vector<double> five(5);
  rlhf::sequence_inputs<double> in;
  in.advantage = five;
  CHECK(test::text(run(loss, b, in, 9).status) == "sequence_policy_loss: advantage has 5 elements, wants 117");
  in.advantage = b.advantage;
  CHECK(test::text(
            run(rlhf::sequence_policy_loss{rlhf::importance_sampling{}, rlhf::one_sided_log_ratio{-1, 0}}, b, in, 9)
                .status) == "one_sided_log_ratio: low is -1, wants 0 or more");
  token_batch none = b;
  none.mask.assign(none.mask.size(), 0);
  const auto r = run(loss, none, in, 9);
  CHECK(r.status);
  CHECK(r.loss == 0);
  for (const double g : r.gradient) CHECK(test::is_plain_zero(g));
}

TEST_CASE("TOPR: by the score of the response") {
  const token_batch b = test::padded_batch(35);
  const std::vector<double> score{1, 0, -1, 2, -0.5, 1, 0, 3, -2};
  auto in = b.inputs();
  in.score = score;
  rlhf::reference_backend backend;
  const auto r = test::run(rlhf::policy_loss{rlhf::topr{.positive = 0.7, .negative = 1.3}}, backend, b, in);
  REQUIRE(r.status);
  double count = 0;
  for (std::size_t i = 0; i < b.size(); ++i) count += b.valid(i);
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (!b.valid(i)) {
      CHECK(test::is_plain_zero(r.grad_logp[i]));
      continue;
    }
    const double w = score[i / 13] > 0 ? 0.7 : 1.3 * std::min(std::exp(b.logp[i] - b.old_logp[i]), 1.0);
    CHECK(r.grad_logp[i] * count == Approx(-w * b.advantage[i]).epsilon(1e-12));
    CHECK(r.per_token[i] == Approx(-w * b.advantage[i] * b.logp[i]).epsilon(1e-12));
  }
  // The same from one score for each token.
  std::vector<double> spread(b.size());
  for (std::size_t i = 0; i < b.size(); ++i) spread[i] = score[i / 13];
  in.score = spread;
  CHECK(test::run(rlhf::policy_loss{rlhf::topr{.positive = 0.7, .negative = 1.3}}, backend, b, in).loss == r.loss);
  in.score = {};
  CHECK(test::text(test::run(rlhf::policy_loss{rlhf::topr{}}, backend, b, in).status) ==
        "policy_loss: score is null, wants a pointer to its elements");
  CHECK(test::text(rlhf::topr{.positive = -1}.check()) == "topr: positive is -1, wants 0 or more");
}

TEST_CASE("tokens chosen by covariance") {
  const token_batch b = test::padded_batch(36);
  rlhf::reference_backend backend;
  const auto select = [&](const auto& choice, const token_batch& from) {
    std::vector<std::uint8_t> out(from.size(), 99);
    rlhf::selection_inputs<double> in{from.logp, from.old_logp, from.advantage, {}, {}};
    if (!from.mask.empty()) in.mask = from.mask;
    REQUIRE(rlhf::select_tokens(backend, from.layout(), choice, in, rlhf::view<std::uint8_t>(out)));
    return out;
  };
  double n = 0, mean_logp = 0, mean_advantage = 0;
  for (std::size_t i = 0; i < b.size(); ++i)
    if (b.valid(i)) n += 1, mean_logp += b.logp[i], mean_advantage += b.advantage[i];
  mean_logp /= n;
  mean_advantage /= n;
  const auto covariance = [&](std::size_t i) { return (b.advantage[i] - mean_advantage) * (b.logp[i] - mean_logp); };
  for (const double fraction : {0.0, 0.2, 0.5, 1.0}) {
    const auto chosen = select(rlhf::kl_covariance{fraction}, b);
    std::vector<double> sorted;
    for (std::size_t i = 0; i < b.size(); ++i)
      if (b.valid(i)) sorted.push_back(covariance(i));
    std::sort(sorted.rbegin(), sorted.rend());
    const auto k = std::max<std::size_t>(1, static_cast<std::size_t>(fraction * n));
    std::size_t found = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
      CHECK(chosen[i] == (b.valid(i) && covariance(i) >= sorted[k - 1] ? 1 : 0));
      found += chosen[i];
    }
    CHECK(found == k);
  }
  // Among equals the first; of nothing, nothing; NaN never.
  token_batch equal;
  equal.rows = 1;
  equal.width = 5;
  equal.logp = {1, 1, not_a_number, 1, 1};
  equal.old_logp = equal.advantage = {0, 0, 0, 0, 0};
  equal.mask = {0, 1, 1, 1, 1};
  CHECK(select(rlhf::kl_covariance{0.5}, equal) ==
        std::vector<std::uint8_t>(5, 0));  // the mean is NaN: so is every key
  equal.logp[2] = 1;
  CHECK(select(rlhf::kl_covariance{0.5}, equal) == std::vector<std::uint8_t>{0, 1, 1, 0, 0});
  equal.mask.assign(5, 0);
  CHECK(select(rlhf::kl_covariance{0.5}, equal) == std::vector<std::uint8_t>(5, 0));

  // Clip-Cov: within the bounds, not clipped, as many as asked for, and another key takes others.
  const rlhf::ppo_clip clip{};
  const auto clipped = [&](std::size_t i) {
    const double ratio = std::exp(b.logp[i] - b.old_logp[i]), a = b.advantage[i];
    return -std::min(std::max(ratio, 0.8), 1.2) * a > -ratio * a;
  };
  std::size_t candidates = 0, taken = 0, elsewhere = 0;
  const auto one = select(rlhf::clip_covariance{0.1, 0.02, 1, clip, {.seed = 1}}, b);
  CHECK(one == select(rlhf::clip_covariance{0.1, 0.02, 1, clip, {.seed = 1}}, b));
  const auto other = select(rlhf::clip_covariance{0.1, 0.02, 1, clip, {.seed = 2}}, b);
  for (std::size_t i = 0; i < b.size(); ++i) {
    const bool candidate = b.valid(i) && !clipped(i) && covariance(i) > 0.02 && covariance(i) < 1;
    candidates += candidate;
    taken += one[i];
    elsewhere += one[i] != other[i];
    if (one[i] != 0) CHECK(candidate);
  }
  CHECK(candidates > taken);
  CHECK(taken == static_cast<std::size_t>(0.1 * n));
  CHECK(elsewhere > 0);
  const auto all = select(rlhf::clip_covariance{1, 0.02, 1, clip, {}}, b);  // more than there are
  CHECK(static_cast<std::size_t>(std::count(all.begin(), all.end(), 1)) == candidates);
  CHECK(test::text(rlhf::kl_covariance{2}.check()) == "kl_covariance: fraction is 2, wants 0 <= fraction <= 1");
  CHECK(test::text(rlhf::clip_covariance{.low = 3, .high = 2}.check()) ==
        "clip_covariance: low is 3, wants at most high");
}
