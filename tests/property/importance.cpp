// Corrections for samples of another policy: weights and rejections.

#include "rlhf/driver/importance.hpp"
#include "property/batches.hpp"
#include "rlhf/backend/reference.hpp"

namespace {

using namespace property;
using rlhf::importance_correction;
using rlhf::mismatch_exemption;
using rlhf::mismatch_level;
using rlhf::mismatch_measure;
using rlhf::weight_of;

enum : std::size_t { logp, rollout_logp, log_mass, advantage, weight, all_columns };

enum : unsigned { unbounded = 1 /* a weight may be any number: exp of a log-ratio of a sequence */ };

constexpr auto corrections = std::tuple{
    entry{"token", importance_correction{{.level = weight_of::token}, {}}},
    entry{"token, truncated", importance_correction{{.level = weight_of::token, .low = 0.5, .high = 2}, {}}},
    entry{"sequence", importance_correction{{.level = weight_of::sequence}, {}}, unbounded},
    entry{"sequence, bounded",
          importance_correction{{.level = weight_of::sequence, .high = 10, .log_ratio_bound = 20}, {}}},
    entry{"sequence, finite", importance_correction{{.level = weight_of::sequence, .finite_only = true}, {}}},
    entry{"geometric", importance_correction{{.level = weight_of::geometric}, {}}},
    entry{"gate on tokens", importance_correction{{}, {.level = mismatch_level::token, .low = 0.8, .high = 1.2}}},
    entry{"gate on sums",
          importance_correction{{.level = weight_of::none},
                                {.level = mismatch_level::sum, .measure = mismatch_measure::k2, .high = 0.3}}},
    entry{"gate on means",
          importance_correction{{.level = weight_of::none},
                                {.level = mismatch_level::mean, .measure = mismatch_measure::k3, .high = 0.01}}},
    entry{"gate on every token",
          importance_correction{
              {}, {.level = mismatch_level::every, .measure = mismatch_measure::total_variation, .high = 0.3}}},
    entry{"gate, gaining", importance_correction{{},
                                                 {.level = mismatch_level::mean,
                                                  .measure = mismatch_measure::k1,
                                                  .high = 0,
                                                  .exempt = mismatch_exemption::gaining}}},
    entry{"gate, returning",
          importance_correction{
              {}, {.level = mismatch_level::token, .low = 0.8, .high = 1.2, .exempt = mismatch_exemption::returning}}},
    entry{"vespo", rlhf::vespo_weight{}},
};

template <class T = double, class Correction>
outcome call(const char* name, const Correction& correction, const batch& b, bool normalise = false) {
  std::vector<std::vector<T>> c;
  for (const auto& x : b.columns) c.emplace_back(x.begin(), x.end());
  std::vector<T> found(b.slots(), T(-1));
  std::vector<std::uint8_t> keep(b.slots(), 7);
  rlhf::importance_inputs<T> in;
  in.logp = c[logp];
  in.rollout_logp = c[rollout_logp];
  in.log_mass = c[log_mass];
  in.advantage = c[advantage];
  in.weight = c[weight];
  in.mask = b.mask_or_none();
  rlhf::importance_outputs<T> out;
  out.weight = found;
  out.keep = keep;
  rlhf::reference_backend be;
  expect_done(rlhf::importance_weights{correction, normalise}(be, b.layout(), in, out), name);
  outcome o;
  o.slots.emplace_back(found.begin(), found.end());
  o.slots.emplace_back(keep.begin(), keep.end());
  return o;
}
batch draw(numbers& random, std::int64_t rows, std::int64_t width, double range) {
  return make_batch(random, rows, width, all_columns, [&](numbers& from, double* x) {
    x[rollout_logp] = from.uniform(-3, -0.05) * range;
    x[logp] = x[rollout_logp] + from.uniform(-0.4, 0.4) * range;
    x[log_mass] = from.uniform(-0.1, 0);
    x[advantage] = from.uniform(-2, 2);
    x[weight] = from.uniform(0.5, 2);
  });
}

}  // namespace

TEST_CASE("corrections: the mask, the order and the packing of a batch") {
  for_all("batches", std::tuple_size_v<decltype(corrections)>, [] {
    const std::int64_t rows = integer(0, 6), width = integer(0, 20) == 0 ? 500 : integer(1, 9);
    numbers random(seed());
    const batch b = draw(random, rows, width, 1);
    const auto check = [&](const auto& e) {
      const auto run = [&](const batch& x) { return call(e.name, e.formula, x); };
      expect_mask_holds(e.name, b, random, run);
      expect_permutes(e.name, b, random, run);
      expect_packs(e.name, b, run);
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, corrections);
  });
}

TEST_CASE("corrections: finite, not negative, 0 where rejected") {
  for_all("finite", std::tuple_size_v<decltype(corrections)>, [] {
    const std::int64_t rows = integer(0, 6), width = integer(1, 9);
    numbers random(seed());
    const batch far = draw(random, rows, width, 200), close = draw(random, rows, width, 1);
    const auto check = [&](const auto& e) {
      const outcome o = call(e.name, e.formula, (e.traits & unbounded) != 0 ? close : far);
      for (std::size_t i = 0; i < o.slots[0].size(); ++i) {
        expect(std::isfinite(o.slots[0][i]) && o.slots[0][i] >= 0, e.name, " has the weight ", o.slots[0][i]);
        expect(o.slots[1][i] == 0 || o.slots[1][i] == 1, e.name, " keeps ", o.slots[1][i]);
        expect(o.slots[1][i] != 0 || plain_zero(o.slots[0][i]), e.name, " rejects with the weight ", o.slots[0][i]);
      }
      // float decides as double does but for what lies on a bound: compare what both keep.
      const outcome y = call(e.name, e.formula, close), z = call<float>(e.name, e.formula, close);
      for (std::size_t i = 0; i < y.slots[0].size(); ++i)
        if (y.slots[1][i] == z.slots[1][i])
          expect(near(y.slots[0][i], z.slots[0][i], 1e-4, 1e-3), e.name, " has the weight ", z.slots[0][i],
                 " in float, ", y.slots[0][i]);
    };
    std::apply([&](const auto&... e) { (check(e), ...); }, corrections);
  });
}

TEST_CASE("corrections: the sampler's own samples, and normalisation") {
  for_all("reductions", 4, [] {
    const std::int64_t rows = integer(0, 6), width = integer(1, 9);
    numbers random(seed());
    batch b = draw(random, rows, width, 1);
    const auto normal = call("token, normalised", importance_correction{{.level = weight_of::token}, {}}, b, true);
    double sum = 0, valid = 0;
    for (std::size_t i = 0; i < b.slots(); ++i) {
      sum += normal.slots[0][i];
      valid += b.valid(i);
    }
    expect(near(sum, valid, 1e-12), "normalised weights of ", valid, " tokens add up to ", sum);
    for (std::size_t i = 0; i < b.slots(); ++i)
      b.columns[logp][i] = b.columns[rollout_logp][i] + b.columns[log_mass][i];
    b.columns[weight].assign(b.slots(), 1);
    for (const auto level : {weight_of::none, weight_of::token, weight_of::sequence, weight_of::geometric}) {
      const auto o =
          call("own samples",
               importance_correction{{.level = level}, {.level = mismatch_level::token, .low = 0.9, .high = 1.1}}, b);
      for (std::size_t i = 0; i < b.slots(); ++i)
        expect(near(o.slots[0][i], b.valid(i) ? 1 : 0, 1e-12), "a sample of the policy itself weighs ", o.slots[0][i]);
    }
  });
}
