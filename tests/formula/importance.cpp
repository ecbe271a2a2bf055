// Importance weights and rejections against closed forms, at their bounds, with garbage under the mask, and in chains.

#include "rlhf/objective/importance.hpp"

#include <algorithm>
#include <functional>

#include "formula/support.hpp"
#include "rlhf/driver/importance.hpp"
#include "rlhf/objective/token.hpp"

namespace {

using rlhf::importance_correction;
using test::infinity;
using test::not_a_number;
using test::token_batch;

struct result {
  rlhf::status status;
  std::vector<double> weight, sequence_weight, measure;
  std::vector<std::uint8_t> keep;
};

/// Advantages per sequence unless `token_advantages`.
template <class Correction>
result run(const rlhf::importance_weights<Correction>& how, const token_batch& b,
           const std::vector<double>& advantage = {}, bool by_sequence = false,
           const std::function<void(rlhf::importance_inputs<double>&)>& more = {}, rlhf::totals<2>* total = nullptr) {
  rlhf::reference_backend backend;
  const auto rows = static_cast<std::size_t>(b.layout().sequences);
  result r{{},
           std::vector<double>(b.size(), 99),
           std::vector<double>(rows, 99),
           std::vector<double>(rows, 99),
           std::vector<std::uint8_t>(b.size(), 99)};
  rlhf::importance_inputs<double> in;
  in.logp = b.old_logp;
  in.rollout_logp = b.rollout_logp;
  if (!advantage.empty()) in.advantage = advantage;
  if (!b.mask.empty()) in.mask = b.mask;
  if (more) more(in);
  rlhf::importance_outputs<double> out{r.weight, r.keep, {}, r.measure};
  if (by_sequence) out.sequence_weight = r.sequence_weight;
  out.total = total;
  r.status = how(backend, b.layout(), in, out);
  return r;
}
result run(const importance_correction& c, const token_batch& b, const std::vector<double>& advantage = {},
           bool by_sequence = false) {
  return run(rlhf::importance_weights{c}, b, advantage, by_sequence);
}

/// Log-ratios of the valid tokens of a sequence.
std::vector<double> log_ratios(const token_batch& b, std::int64_t s) {
  std::vector<double> d;
  for (std::int64_t i = b.layout()[s].begin; i < b.layout()[s].end; ++i)
    if (const auto at = static_cast<std::size_t>(i); b.valid(at)) d.push_back(b.old_logp[at] - b.rollout_logp[at]);
  return d;
}
double sum(const std::vector<double>& x) {
  double total = 0;
  for (const double v : x) total += v;
  return total;
}

/// `want(s, d)`: the weight of a token of sequence s with log-ratio d; 0 where it is rejected.
template <class Want>
void check(const token_batch& b, const result& r, Want want) {
  REQUIRE(r.status);
  int kept = 0;
  for (std::int64_t s = 0; s < b.layout().sequences; ++s)
    for (std::int64_t i = b.layout()[s].begin; i < b.layout()[s].end; ++i) {
      const auto at = static_cast<std::size_t>(i);
      CAPTURE(s, i);
      if (!b.valid(at)) {
        CHECK(test::is_plain_zero(r.weight[at]));
        CHECK(r.keep[at] == 0);
        continue;
      }
      const double w = want(s, b.old_logp[at] - b.rollout_logp[at]);
      CHECK(r.weight[at] == Approx(w).epsilon(1e-13).margin(1e-300));
      CHECK(r.keep[at] == (w != 0 ? 1 : 0));
      kept += w != 0 ? 1 : 0;
    }
  CHECK(kept > 0);
}

double clip(double x, double low, double high) { return std::min(std::max(x, low), high); }

/// One token a sequence, with the given log-ratio.
token_batch single(const std::vector<double>& d) {
  token_batch b;
  b.rows = static_cast<std::int64_t>(d.size());
  b.width = 1;
  b.logp = b.old_logp = d;
  b.rollout_logp.assign(d.size(), 0.0);
  return b;
}

}  // namespace

TEST_CASE("weights of tokens and of sequences, truncated") {
  for (const token_batch& b : {test::padded_batch(5), test::packed_of(test::padded_batch(5))}) {
    check(b, run(rlhf::truncated_token_weights(1.05, 0.95), b),
          [](std::int64_t, double d) { return clip(std::exp(d), 0.95, 1.05); });
    check(b, run(rlhf::truncated_sequence_weights(1.1, 0.9), b),
          [&](std::int64_t s, double) { return clip(std::exp(sum(log_ratios(b, s))), 0.9, 1.1); });
    importance_correction geometric{{.level = rlhf::weight_of::geometric}, {}};
    check(b, run(geometric, b), [&](std::int64_t s, double) {
      const auto d = log_ratios(b, s);
      return std::exp(sum(d) / static_cast<double>(d.size()));
    });
    importance_correction bounded{{.level = rlhf::weight_of::token, .log_ratio_bound = 0.04}, {}};
    check(b, run(bounded, b), [](std::int64_t, double d) { return std::exp(clip(d, -0.04, 0.04)); });
    bounded.weight.level = rlhf::weight_of::sequence;  // of the sum, not of its terms
    check(b, run(bounded, b),
          [&](std::int64_t s, double) { return std::exp(clip(sum(log_ratios(b, s)), -0.04, 0.04)); });
  }
}

TEST_CASE("rejection by every measure at every level") {
  const token_batch b = test::padded_batch(6);
  using rlhf::mismatch_level;
  using rlhf::mismatch_measure;
  const auto measure_of = [](mismatch_measure m, double d) {
    return m == mismatch_measure::ratio ? std::exp(d)
           : m == mismatch_measure::k1  ? -d
           : m == mismatch_measure::k2  ? d * d / 2
           : m == mismatch_measure::k3  ? std::exp(d) - 1 - d
                                        : std::abs(std::exp(d) - 1);
  };
  for (const auto measure : {mismatch_measure::ratio, mismatch_measure::k1, mismatch_measure::k2, mismatch_measure::k3,
                             mismatch_measure::total_variation})
    for (const auto level : {mismatch_level::token, mismatch_level::sum, mismatch_level::mean, mismatch_level::every}) {
      const auto value = [&](std::int64_t s, double d) {
        const auto all = log_ratios(b, s);
        double total = 0;
        for (const double x : all) total += measure == mismatch_measure::ratio ? x : measure_of(measure, x);
        if (level == mismatch_level::mean) total /= static_cast<double>(all.size());
        return level == mismatch_level::token       ? measure_of(measure, d)
               : measure == mismatch_measure::ratio ? std::exp(total)
                                                    : total;
      };
      // A bound in the middle of what occurs, so that both fates do.
      std::vector<double> seen;
      for (std::int64_t s = 0; s < b.layout().sequences; ++s)
        for (const double d : log_ratios(b, s)) seen.push_back(value(s, d));
      std::sort(seen.begin(), seen.end());
      const double high = level == mismatch_level::every ? measure_of(measure, 0.07) : seen[seen.size() / 2] + 1e-9;
      const double low = level == mismatch_level::every ? -infinity : seen[seen.size() / 8] - 1e-9;
      CAPTURE(static_cast<int>(measure), static_cast<int>(level), low, high);
      const importance_correction c{{.level = rlhf::weight_of::none}, {level, measure, low, high}};
      const auto r = run(c, b);
      const auto inside = [&](std::int64_t s, double d) {
        if (level != mismatch_level::every) return value(s, d) >= low && value(s, d) <= high;
        bool all = true;
        for (const double x : log_ratios(b, s)) all = all && measure_of(measure, x) <= high;
        return all;
      };
      if (level != mismatch_level::every)
        check(b, r, [&](std::int64_t s, double d) { return inside(s, d) ? 1.0 : 0.0; });
      for (std::int64_t s = 0; s < b.layout().sequences; ++s)
        for (std::int64_t i = b.layout()[s].begin; i < b.layout()[s].end; ++i)
          if (const auto at = static_cast<std::size_t>(i); b.valid(at))
            CHECK(r.keep[at] == (inside(s, b.old_logp[at] - b.rollout_logp[at]) ? 1 : 0));
    }
}

TEST_CASE("bounds are closed, NaN is rejected, infinite ratios are truncated or dropped") {
  const double up = std::log(2.0), down = std::log(0.5);
  auto r =
      run(rlhf::masked_token_weights(std::exp(down), std::exp(up)), single({up, down, up + 1e-12, down - 1e-12, 0}));
  CHECK(r.keep == std::vector<std::uint8_t>{1, 1, 0, 0, 1});
  r = run(rlhf::masked_sequence_weights(std::exp(up)), single({up, up + 1e-12}));
  CHECK(r.keep == std::vector<std::uint8_t>{1, 0});
  r = run(rlhf::masked_token_weights(), single({not_a_number}));
  CHECK(r.keep == std::vector<std::uint8_t>{0});
  CHECK(test::is_plain_zero(r.weight[0]));

  const std::vector<double> extreme{700, 800, -800, infinity, -infinity, not_a_number};
  r = run(rlhf::truncated_token_weights(3), single(extreme));
  CHECK(std::vector<double>(r.weight.begin(), r.weight.begin() + 5) == std::vector<double>{3, 3, 0, 3, 0});
  CHECK(std::isnan(r.weight[5]));  // to be seen
  importance_correction finite = rlhf::truncated_token_weights(3);
  finite.weight.finite_only = true;
  r = run(finite, single(extreme));
  CHECK(r.weight == std::vector<double>{3, 0, 0, 0, 0, 0});  // exp(800) is not finite
}

TEST_CASE("sequence masks and their outputs") {
  const token_batch b = test::padded_batch(8);
  const std::int64_t rows = b.layout().sequences;
  std::vector<double> advantage(static_cast<std::size_t>(rows));
  for (std::size_t s = 0; s < advantage.size(); ++s) advantage[s] = s % 2 == 0 ? -0.5 : s % 3 == 0 ? 0.0 : 0.5;
  const auto mean = [&](std::int64_t s) {
    const auto d = log_ratios(b, s);
    return d.empty() ? 0 : sum(d) / static_cast<double>(d.size());
  };
  const auto off = run(rlhf::off_policy_sequence_mask(0.005), b, advantage, true);
  const auto geometric = run(rlhf::geometric_sequence_mask(0.99, 1.01), b, {}, true);
  const auto masked = run(rlhf::sequence_masked_token_weights(0.99, 1.01), b);
  const auto product = run(rlhf::masked_sequence_weights(1.05, 0.9), b, {}, true);
  REQUIRE(off.status);
  REQUIRE(geometric.status);
  REQUIRE(product.status);
  for (std::int64_t s = 0; s < rows; ++s) {
    const auto at = static_cast<std::size_t>(s);
    CAPTURE(s);
    CHECK(off.measure[at] == Approx(-mean(s)).margin(1e-14));
    CHECK(off.sequence_weight[at] == (advantage[at] >= 0 || -mean(s) <= 0.005 ? 1 : 0));
    const double g = std::exp(mean(s));
    CHECK(geometric.measure[at] == Approx(g).epsilon(1e-13));
    CHECK(geometric.sequence_weight[at] == (g >= 0.99 && g <= 1.01 ? 1 : 0));
    const double w = std::exp(sum(log_ratios(b, s)));  // 1 of a sequence without tokens
    CHECK(product.sequence_weight[at] == Approx(w >= 0.9 && w <= 1.05 ? w : 0).epsilon(1e-13));
  }
  check(b, masked, [&](std::int64_t s, double d) {
    const double g = std::exp(mean(s));
    return g >= 0.99 && g <= 1.01 ? std::exp(d) : 0;
  });
  // An advantage of 0 is no reason to reject; a mean on the threshold neither.
  const auto tie =
      run(rlhf::off_policy_sequence_mask(0.25), single({-0.5, -0.5, -0.25, -0.5}), {0.0, -1e-9, -1.0, 1.0}, true);
  CHECK(tie.sequence_weight == std::vector<double>{1, 0, 1, 1});
  // VACO: outside its sequence's range, and led further away by its own advantage.
  const importance_correction vaco{{.level = rlhf::weight_of::none},
                                   {.level = rlhf::mismatch_level::mean,
                                    .measure = rlhf::mismatch_measure::total_variation,
                                    .high = 0.05,
                                    .exempt = rlhf::mismatch_exemption::returning}};
  check(b, run(vaco, b, advantage), [&](std::int64_t s, double d) {
    double total = 0;
    for (const double x : log_ratios(b, s)) total += std::abs(std::exp(x) - 1);
    const bool inside = total / static_cast<double>(log_ratios(b, s).size()) <= 0.05;
    return inside || d * advantage[static_cast<std::size_t>(s)] <= 0 ? 1.0 : 0.0;
  });
}

TEST_CASE("corrections chain, and weights are normalised") {
  const token_batch b = test::padded_batch(9);
  const auto first = run(rlhf::masked_token_weights(0.95, 1.2), b);
  const auto second =
      run(rlhf::importance_weights{rlhf::geometric_sequence_mask(0.99, 1.02)}, b, {}, false, [&](auto& in) {
        in.weight = first.weight;
        in.keep = first.keep;
      });
  const auto alone = run(rlhf::geometric_sequence_mask(0.99, 1.02), b);
  REQUIRE(second.status);
  for (std::size_t i = 0; i < b.size(); ++i) {
    CHECK(second.keep[i] == (first.keep[i] & alone.keep[i]));
    CHECK(second.weight[i] == Approx(first.weight[i] * alone.weight[i]).margin(1e-300));
  }

  double total = 0, count = 0;
  for (std::size_t i = 0; i < b.size(); ++i) total += first.weight[i], count += b.valid(i);
  const auto normal = run(rlhf::importance_weights{rlhf::masked_token_weights(0.95, 1.2), true}, b);
  for (std::size_t i = 0; i < b.size(); ++i)
    CHECK(normal.weight[i] == Approx(first.weight[i] * count / total).epsilon(1e-13).margin(1e-300));
  // A part of a batch is normalised by the whole's sum and number.
  rlhf::totals<2> mine, all;
  const auto counted = run(rlhf::importance_weights{rlhf::masked_token_weights(0.95, 1.2)}, b, {}, false, {}, &mine);
  CHECK(mine.sum[0] == Approx(total).epsilon(1e-13));
  CHECK(mine.sum[1] == count);
  CHECK(counted.weight == first.weight);
  all.sum[0] = 3 * mine.sum[0];
  all.sum[1] = 6 * mine.sum[1];
  const auto part = run(rlhf::importance_weights{rlhf::masked_token_weights(0.95, 1.2), true}, b, {}, false,
                        [&](auto& in) { in.found = &all; });
  for (std::size_t i = 0; i < b.size(); ++i)
    CHECK(part.weight[i] == Approx(2 * normal.weight[i]).epsilon(1e-13).margin(1e-300));
  // Of sequences: each counts once, those without tokens not at all.
  const auto raw = run(rlhf::truncated_sequence_weights(1.1), b, {}, true);
  const auto scaled = run(rlhf::importance_weights{rlhf::truncated_sequence_weights(1.1), true}, b, {}, true);
  const auto tokens_only = run(rlhf::importance_weights{rlhf::truncated_sequence_weights(1.1), true}, b);
  total = count = 0;
  for (std::int64_t s = 0; s < b.layout().sequences; ++s)
    if (!log_ratios(b, s).empty()) total += raw.sequence_weight[static_cast<std::size_t>(s)], count += 1;
  for (std::size_t s = 0; s < raw.sequence_weight.size(); ++s)
    CHECK(scaled.sequence_weight[s] == Approx(raw.sequence_weight[s] * count / total).epsilon(1e-13));
  for (std::size_t i = 0; i < b.size(); ++i) {
    CHECK(scaled.weight[i] == Approx(raw.weight[i] * count / total).epsilon(1e-13).margin(1e-300));
    CHECK(tokens_only.weight[i] == Approx(scaled.weight[i]).epsilon(1e-15).margin(1e-300));
  }
}

TEST_CASE("the mass that a truncated sampler keeps is taken out of the ratio") {
  // A sampler that keeps the two likeliest of three tokens and renormalises: without the mass the ratio is the mass itself.
  const std::vector<double> p{0.5, 0.3, 0.2};
  const double mass = p[0] + p[1];
  token_batch b = single({std::log(p[0]), std::log(p[1])});
  b.rollout_logp = {std::log(p[0] / mass), std::log(p[1] / mass)};
  const std::vector<double> log_mass(2, std::log(mass));
  const auto biased = run(rlhf::truncated_token_weights(5), b);
  const auto corrected = run(rlhf::importance_weights{rlhf::truncated_token_weights(5)}, b, {}, false,
                             [&](auto& in) { in.log_mass = log_mass; });
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(biased.weight[i] == Approx(mass));
    CHECK(corrected.weight[i] == Approx(1));
  }
}

TEST_CASE("VESPO") {
  const token_batch b = test::padded_batch(10);
  const rlhf::vespo_weight how;
  std::vector<double> advantage(static_cast<std::size_t>(b.layout().sequences)), earlier(b.size(), not_a_number);
  for (std::size_t s = 0; s < advantage.size(); ++s) advantage[s] = s % 3 == 0 ? -1.0 : s % 3 == 1 ? 0.0 : 1.0;
  for (std::size_t i = 0; i < b.size(); ++i)
    if (b.valid(i)) earlier[i] = 0.8 + 0.05 * static_cast<double>(i % 7);
  const auto r = run(rlhf::importance_weights{how}, b, advantage, true, [&](auto& in) { in.weight = earlier; });
  REQUIRE(r.status);
  for (std::int64_t s = 0; s < b.layout().sequences; ++s) {
    const auto at = static_cast<std::size_t>(s);
    double log_w = 0;
    for (std::int64_t i = b.layout()[s].begin; i < b.layout()[s].end; ++i)
      if (const auto t = static_cast<std::size_t>(i); b.valid(t))
        log_w += b.old_logp[t] - b.rollout_logp[t] + std::log(earlier[t]);
    const double k = advantage[at] >= 0 ? 2 : 3, lambda = advantage[at] >= 0 ? 3 : 2;
    const double phi = std::exp(lambda + k * log_w - lambda * std::exp(log_w));
    CHECK(r.sequence_weight[at] == Approx(phi).epsilon(1e-12));
    for (std::int64_t i = b.layout()[s].begin; i < b.layout()[s].end; ++i) {
      const auto t = static_cast<std::size_t>(i);
      CHECK(r.weight[t] == Approx(b.valid(t) ? phi : 0).epsilon(1e-12).margin(1e-300));
    }
  }
  // phi(1) = 1; the largest weight is at k / lambda; far away it vanishes and never overflows.
  const auto phi = [&](double d, double a) {
    return run(rlhf::importance_weights{how}, single({d, d}), {a, a}).weight[0];
  };
  CHECK(phi(0, 1) == 1);
  for (const double d : {-0.1, 0.1}) CHECK(phi(std::log(2.0 / 3) + d, 1) < phi(std::log(2.0 / 3), 1));
  CHECK(phi(700, 1) == 0);
  CHECK(phi(-700, 1) == Approx(std::exp(3 + 2 * std::log(1e-8) - 3e-8)));
  CHECK(phi(not_a_number, 1) == 0);
}

TEST_CASE("bypass: the ratio to the sampler itself") {
  // REINFORCE weighed by pi / pi_rollout has the gradient of the importance-sampled gain with old_logp = rollout_logp.
  const token_batch b = test::padded_batch(11);
  token_batch now = b;
  now.old_logp = b.logp;  // the correction's numerator
  const auto weights = run(rlhf::importance_weights{rlhf::truncated_token_weights(infinity)}, now);
  auto in = b.inputs();
  in.weight = weights.weight;
  rlhf::reference_backend backend;
  const auto weighed = test::run(rlhf::policy_loss{rlhf::reinforce{}}, backend, b, in);
  in = b.inputs();
  in.old_logp = b.rollout_logp;
  const auto bypassed = test::run(rlhf::policy_loss{rlhf::ppo_clip{.low = 1, .high = infinity}}, backend, b, in);
  for (std::size_t i = 0; i < b.size(); ++i)
    CHECK(weighed.grad_logp[i] == Approx(bypassed.grad_logp[i]).epsilon(1e-12).margin(1e-300));
}

TEST_CASE("corrections say what is wrong") {
  const token_batch b = test::padded_batch(12);
  const auto message = [&](const importance_correction& c, const std::vector<double>& advantage = {},
                           bool by_sequence = false) { return test::text(run(c, b, advantage, by_sequence).status); };
  CHECK(message(rlhf::truncated_token_weights(1, 2)) == "importance_weight: low is 2, wants 0 <= low <= high");
  CHECK(message({{.log_ratio_bound = 0}, {}}) ==
        "importance_weight: log_ratio_bound is 0, wants more than 0 (infinity: off)");
  CHECK(message(rlhf::masked_token_weights(3, 2)) == "mismatch_gate: low is 3, wants at most high");
  CHECK(message(rlhf::off_policy_sequence_mask(0.1)) ==
        "importance_weights: advantage is null, wants a pointer to its elements");
  CHECK(message(rlhf::off_policy_sequence_mask(0.1), std::vector<double>(5)) ==
        "importance_weights: advantage has 5 elements, wants 9");
  CHECK(message(rlhf::truncated_token_weights(), {}, true).starts_with("importance_weights: sequence_weight"));
  CHECK(message(rlhf::off_policy_sequence_mask(0.1), b.advantage, true)
            .starts_with("importance_weights: sequence_weight"));
  CHECK(test::text(run(rlhf::importance_weights{rlhf::truncated_token_weights()}, b, {}, false, [](auto& in) {
                     in.rollout_logp = {};
                   }).status) == "importance_weights: rollout_logp is null, wants a pointer to its elements");
}
