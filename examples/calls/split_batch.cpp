// A batch in pieces: micro-batches of any size add up to the batch, because every denominator is a number that the caller
// may give, and everything else is a sum.

#include <numeric>
#include <span>
#include <vector>

#include "check.hpp"
#include "rlhf/algorithm/ppo.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/math/random.hpp"

namespace {

using calls::expect;

struct batch {
  std::vector<std::int64_t> offsets{0};
  std::vector<double> logp, old_logp, advantage;

  [[nodiscard]] std::int64_t sequences() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

/// Sequences of 0 to 11 tokens.
batch make(std::uint32_t sequences) {
  const rlhf::random_numbers numbers({.seed = 1, .stream = 1});
  batch b;
  for (std::uint32_t i = 0; i < sequences; ++i) {
    const std::uint32_t length = numbers.integer(12, {i});
    for (std::uint32_t t = 0; t < length; ++t) {
      b.old_logp.push_back(-2 * numbers.uniform({i, 1, t}));
      b.logp.push_back(b.old_logp.back() + 0.3 * numbers.normal({i, 2, t}));
      b.advantage.push_back(numbers.normal({i, 3, t}));
    }
    b.offsets.push_back(b.offsets.back() + length);
  }
  return b;
}

//! [micro-batch]
// Sequences [begin, end) of the batch. `tokens` is the count of the whole batch, whatever the micro-batch.
double micro_batch(rlhf::reference_backend& be, const batch& b, std::int64_t begin, std::int64_t end, double tokens,
                   std::span<double> gradient, rlhf::statistics& metrics) {
  std::vector<std::int64_t> offsets;
  for (std::int64_t i = begin; i <= end; ++i)
    offsets.push_back(b.offsets[static_cast<std::size_t>(i)] - b.offsets[static_cast<std::size_t>(begin)]);
  const std::int64_t first = b.offsets[static_cast<std::size_t>(begin)], n = offsets.back();
  const rlhf::policy_loss loss{rlhf::ppo_clip{}, rlhf::none{}, rlhf::token_mean{.tokens = tokens}};
  double value = 0;
  expect(loss(
      be, rlhf::packed(offsets),
      rlhf::token_inputs<double>{.logp = {b.logp.data() + first, n},
                                 .old_logp = {b.old_logp.data() + first, n},
                                 .advantage = {b.advantage.data() + first, n}},
      rlhf::token_outputs<double>{.loss = {&value, 1}, .grad_logp = {gradient.data() + first, n}, .stats = &metrics}));
  return value;
}
//! [micro-batch]

//! [shards]
// Whitening over shards: each makes its moments, the moments merge, every shard uses the merged ones.
rlhf::status whiten_shards(rlhf::reference_backend& be, std::span<const std::span<double>> shards) {
  rlhf::moments all;
  for (const auto shard : shards) {
    rlhf::moments part;
    if (auto s = rlhf::masked_moments(be, "whiten_shards", rlhf::view<const double>(shard), {}, &part); !s) return s;
    all.merge(part);
  }
  for (const auto shard : shards)
    if (auto s = rlhf::whitening{}(be, rlhf::whiten_inputs<double>{.x = shard, .found = &all}, shard); !s) return s;
  return {};
}
//! [shards]

}  // namespace

int main() {
  rlhf::reference_backend be;
  const batch b = make(40);
  const double tokens = static_cast<double>(b.offsets.back());
  std::vector<double> gradient(b.logp.size()), parts(b.logp.size());
  rlhf::statistics metrics;
  const double whole = micro_batch(be, b, 0, b.sequences(), tokens, gradient, metrics);

  for (const std::int64_t size : {1, 3, 7, 16}) {
    rlhf::statistics merged;
    double sum = 0;
    for (std::int64_t begin = 0; begin < b.sequences(); begin += size)
      sum += micro_batch(be, b, begin, std::min(b.sequences(), begin + size), tokens, parts, merged);
    std::printf("micro-batches of %d sequences\n", static_cast<int>(size));
    expect("  loss", sum, whole, 1e-14);
    expect("  gradient: the same bits", parts == gradient);
    expect("  clip_fraction", merged["clip_fraction"], metrics["clip_fraction"], 1e-14);
    expect("  approx_kl_k3", merged["approx_kl_k3"], metrics["approx_kl_k3"], 1e-14);
    expect("  ratio_max", merged["ratio_max"], metrics["ratio_max"], 1e-14);
  }

  // Left to count for itself, each micro-batch divides by its own tokens: another number, and the usual bug.
  rlhf::statistics ignored;
  const double left = micro_batch(be, b, 0, 20, 0, parts, ignored),
               right = micro_batch(be, b, 20, 40, 0, parts, ignored);
  std::printf("mean of two micro-batch means: %.9f, mean of the batch: %.9f\n", (left + right) / 2, whole);

  std::vector<double> x = b.advantage, y = b.advantage;
  const std::span<double> cut(y);
  const std::vector<std::span<double>> shards{cut.subspan(0, 10), cut.subspan(10, 1), cut.subspan(11)};
  expect(whiten_shards(be, shards));
  expect(rlhf::whitening{}(be, rlhf::whiten_inputs<double>{.x = x}, x));
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(x[i] - y[i]));
  expect("whitening in three shards, largest difference", worst, 0, 1e-14);
  return calls::failures();
}
