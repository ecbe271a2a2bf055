// The optimal token baseline: its definition, tails, lone responses, gaps, tool output between turns.

#include "rlhf/driver/token_baseline.hpp"
#include <utility>

#include "formula/support.hpp"

namespace {

using test::not_a_number;
using numbers = std::vector<double>;

struct batch {
  std::int64_t rows, width;
  numbers reward, logp, square_sum, importance;
  std::vector<std::uint8_t> mask;

  batch(unsigned seed, std::int64_t rows_, std::int64_t width_) : rows(rows_), width(width_) {
    std::mt19937 random(seed);
    const auto n = static_cast<std::size_t>(rows * width);
    reward = test::uniform(random, n, -1, 1);
    logp = test::uniform(random, n, -3, -0.01);
    importance = test::uniform(random, n, 0.5, 1.5);
    for (const double l : logp) square_sum.push_back(std::exp(2 * l) + 0.3 * (1 - std::exp(l)));
    for (std::size_t i = 0; i < n; ++i) mask.push_back(random() % 4 != 0 ? 1 : 0);
    for (std::size_t i = 0; i < n; ++i)
      if (mask[i] == 0) reward[i] = logp[i] = square_sum[i] = importance[i] = i % 2 == 0 ? not_a_number : 1e300;
  }
  [[nodiscard]] rlhf::token_baseline_inputs<double> inputs(const rlhf::grouping<>& groups) const {
    rlhf::token_baseline_inputs<double> in;
    in.groups = groups;
    in.reward = reward;
    in.old_logp = logp;
    in.square_sum = square_sum;
    in.importance = importance;
    in.mask = mask;
    return in;
  }
};
struct result {
  numbers advantage, returns;
};
result run(const rlhf::optimal_token_baseline& how, const rlhf::layout<>& sequences,
           const rlhf::token_baseline_inputs<double>& in) {
  rlhf::reference_backend backend;
  const auto n = static_cast<std::size_t>(sequences.tokens);
  result r{numbers(n, 99), numbers(n, 99)};
  REQUIRE(
      rlhf::token_baseline{how}(backend, sequences, in, rlhf::token_baseline_outputs<double>{r.advantage, r.returns}));
  return r;
}

}  // namespace

TEST_CASE("the optimal token baseline by its definition, in slots and in tokens") {
  const batch b(101, 7, 11);
  const std::vector<std::int64_t> offsets = {0, 3, 4, 7}, order = {0, 2, 5, 1, 3, 4, 6};
  for (const auto& [compact, zero_tail] : {std::pair{false, true}, std::pair{true, true}, std::pair{true, false}}) {
    const rlhf::optimal_token_baseline how{.epsilon = 0.01, .compact = compact, .zero_tail = zero_tail};
    const auto r = run(how, rlhf::padded(7, 11), b.inputs({rlhf::packed(offsets), order.data()}));
    // Position, summed squared gradient and reward to go of each valid slot.
    std::vector<std::int64_t> position(77, -1), length(7);
    numbers weight(77), to_go(77);
    for (std::int64_t row = 0; row < 7; ++row) {
      std::int64_t tokens = 0;
      double w = 0;
      for (std::int64_t t = 0; t < 11; ++t) {
        const auto i = static_cast<std::size_t>(row * 11 + t);
        if (b.mask[i] == 0) continue;
        position[i] = compact ? tokens : t;
        ++tokens;
        w += (1 - 2 * std::exp(b.logp[i]) + b.square_sum[i]) * b.importance[i] * b.importance[i];
        weight[i] = w;
        for (std::int64_t later = t; later < 11; ++later)
          if (b.mask[static_cast<std::size_t>(row * 11 + later)] != 0)
            to_go[i] += b.reward[static_cast<std::size_t>(row * 11 + later)];
      }
      length[static_cast<std::size_t>(row)] = tokens;
    }
    int tails = 0;
    for (std::size_t g = 0; g < 3; ++g)
      for (std::int64_t k = offsets[g]; k < offsets[g + 1]; ++k)
        for (std::int64_t t = 0; t < 11; ++t) {
          const auto i = static_cast<std::size_t>(order[static_cast<std::size_t>(k)] * 11 + t);
          if (b.mask[i] == 0) {
            CHECK((test::is_plain_zero(r.advantage[i]) && test::is_plain_zero(r.returns[i])));
            continue;
          }
          double above = 0, below = 0;
          bool tail = offsets[g + 1] - offsets[g] == 1;
          if (zero_tail && !tail) {
            tail = true;
            for (std::int64_t other = offsets[g]; other < offsets[g + 1]; ++other)
              if (other != k && position[i] < length[static_cast<std::size_t>(order[static_cast<std::size_t>(other)])])
                tail = false;
            const auto own = length[static_cast<std::size_t>(order[static_cast<std::size_t>(k)])];
            for (std::int64_t other = offsets[g]; other < offsets[g + 1]; ++other)
              if (other != k && own <= length[static_cast<std::size_t>(order[static_cast<std::size_t>(other)])])
                tail = false;  // not the longest, or not alone
            tails += tail ? 1 : 0;
          }
          for (std::int64_t other = offsets[g]; other < offsets[g + 1]; ++other)
            for (std::int64_t u = 0; u < 11; ++u) {
              const auto j = static_cast<std::size_t>(order[static_cast<std::size_t>(other)] * 11 + u);
              if (position[j] != position[i]) continue;
              above += weight[j] * to_go[j];
              below += weight[j];
            }
          CHECK(r.returns[i] == Approx(to_go[i]).epsilon(1e-12).margin(1e-14));
          CHECK(r.advantage[i] == Approx(to_go[i] - (tail ? 0 : above / (below + 0.01))).epsilon(1e-12).margin(1e-14));
        }
    CHECK((tails > 0) == zero_tail);  // the batch has some
  }
}

TEST_CASE("the optimal token baseline: equal proxies give the mean; tails and lone responses keep their returns") {
  rlhf::token_baseline_inputs<double> in;
  const std::vector<std::int64_t> offsets = {0, 1, 3, 6, 8}, groups = {0, 3, 4};
  const numbers reward = {6, 0, 3, 0, 0, 9, 1, 1}, logp(8, std::log(0.5)), square_sum(8, 0.5);
  in.groups = {rlhf::packed(groups)};
  in.reward = reward;
  in.old_logp = logp;
  in.square_sum = square_sum;
  const auto r = run({.epsilon = 0}, rlhf::packed(offsets), in);
  CHECK(r.advantage == numbers{0, 3 - 6.0, 3 - 6.0, 9 - 6.0, 9 - 6.0, 9, 2, 1});
  // A single token at position 2 is the tail of the longest; the last group has one response.
}

TEST_CASE("two longest responses have no tail, even where gaps leave one of them alone") {
  rlhf::token_baseline_inputs<double> in;
  const numbers reward = {1, 0, 4, 2, 2, 0}, logp(6, std::log(0.5)), square_sum(6, 0.5);
  const std::vector<std::uint8_t> mask = {1, 0, 1, 1, 1, 0};
  in.groups = {rlhf::padded(1, 2)};
  in.reward = reward;
  in.old_logp = logp;
  in.square_sum = square_sum;
  in.mask = mask;
  // Slots 1 and 2 have one token each: compared with itself, it has advantage 0. In tokens they line up.
  CHECK(run({.epsilon = 0}, rlhf::padded(2, 3), in).advantage == numbers{0.5, 0, 0, -0.5, 0, 0});
  CHECK(run({.epsilon = 0, .compact = true}, rlhf::padded(2, 3), in).advantage == numbers{0.5, 0, 1, -0.5, -1, 0});
}

TEST_CASE("tool output between turns: compact positions line up with a batch without it") {
  const batch b(102, 4, 9);
  const std::vector<std::int64_t> groups = {0, 4};
  const auto spread = run({.compact = true}, rlhf::padded(4, 9), b.inputs({rlhf::packed(groups)}));
  numbers reward, logp, square_sum, importance, want;
  std::vector<std::int64_t> offsets = {0};
  for (std::size_t i = 0; i < 36; ++i) {
    if (b.mask[i] != 0) {
      reward.push_back(b.reward[i]);
      logp.push_back(b.logp[i]);
      square_sum.push_back(b.square_sum[i]);
      importance.push_back(b.importance[i]);
      want.push_back(spread.advantage[i]);
    }
    if (i % 9 == 8) offsets.push_back(static_cast<std::int64_t>(reward.size()));
  }
  rlhf::token_baseline_inputs<double> in;
  in.groups = {rlhf::packed(groups)};
  in.reward = reward;
  in.old_logp = logp;
  in.square_sum = square_sum;
  in.importance = importance;
  CHECK(run({}, rlhf::packed(offsets), in).advantage == want);
}

TEST_CASE("the optimal token baseline: a policy that is certain, nothing, errors") {
  // A token of probability 1 has no gradient: weight 0, and 0/0 is no baseline.
  rlhf::token_baseline_inputs<double> in;
  const numbers reward = {1, 2}, certain = {0, 0}, one = {1, 1};
  const std::vector<std::int64_t> group = {0, 2};
  in.groups = {rlhf::packed(group)};
  in.reward = reward;
  in.old_logp = certain;
  in.square_sum = one;
  CHECK(run({.epsilon = 0}, rlhf::padded(2, 1), in).advantage == reward);
  CHECK(run({}, rlhf::padded(2, 1), in).advantage == reward);

  rlhf::reference_backend backend;
  numbers out(2);
  const auto call = [&](auto spoil) {
    auto i = in;
    spoil(i);
    return test::text(
        rlhf::token_baseline{}(backend, rlhf::padded(2, 1), i, rlhf::token_baseline_outputs<double>{out, {}}));
  };
  CHECK(call([](auto& i) { i.square_sum = {}; }) ==
        "token_baseline: square_sum is null, wants a pointer to its elements");
  const numbers three(3);
  CHECK(call([&](auto& i) { i.importance = three; }) == "token_baseline: importance has 3 elements, wants 2");
  const std::vector<std::int64_t> late = {0, 3};
  CHECK(call([&](auto& i) { i.groups = {rlhf::packed(late)}; }) == "token_baseline: groups has 3 elements, wants 2");
  CHECK(test::text(rlhf::optimal_token_baseline{.epsilon = -1}.check()) ==
        "optimal_token_baseline: epsilon is -1, wants 0 or more");
}
