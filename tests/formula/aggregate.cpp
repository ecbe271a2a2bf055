// How token losses add up: every mode by its definition, in one call or in many, padded or packed, masked or left out.

#include "rlhf/objective/aggregate.hpp"

#include <algorithm>
#include <numeric>
#include <type_traits>

#include "formula/support.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/kl.hpp"

namespace {

using test::run;
using test::token_batch;

/// Groups of sequences: 0-2, 3-3, 4-8.
const std::vector<std::int64_t> prompts = {0, 3, 4, 9};

struct counts {
  std::vector<double> tokens;  // of each sequence
  double all = 0, nonempty = 0;
};
counts count(const token_batch& b) {
  counts c;
  const auto sequences = b.layout();
  for (std::int64_t s = 0; s < sequences.sequences; ++s) {
    double n = 0;
    for (std::int64_t i = sequences[s].begin; i < sequences[s].end; ++i) n += b.valid(static_cast<std::size_t>(i));
    c.tokens.push_back(n);
    c.all += n;
    c.nonempty += n > 0;
  }
  return c;
}

/// Sequences [first, last) of a padded batch.
token_batch part(const token_batch& b, std::int64_t first, std::int64_t last) {
  token_batch p = b;
  p.rows = last - first;
  const auto begin = first * b.width, end = last * b.width;
  for (auto* stream : p.streams()) *stream = std::vector<double>(stream->begin() + begin, stream->begin() + end);
  p.mask = std::vector<std::uint8_t>(b.mask.begin() + begin, b.mask.begin() + end);
  return p;
}

template <class Aggregate>
auto loss_with(const Aggregate& aggregate) {
  return rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::kl_penalty{rlhf::k3{}, 0.1}, aggregate};
}

/// Runs with groups where the aggregate wants them: prompts [first, last) of the batch.
template <class Aggregate>
test::token_result run_with(const Aggregate& aggregate, const token_batch& b, std::size_t first = 0,
                            std::size_t last = 3) {
  rlhf::reference_backend backend;
  auto in = b.inputs();
  std::vector<std::int64_t> offsets(prompts.begin() + static_cast<std::ptrdiff_t>(first),
                                    prompts.begin() + static_cast<std::ptrdiff_t>(last) + 1);
  for (auto& o : offsets) o -= prompts[first];
  if constexpr (requires { Aggregate::grouped; }) in.groups = {rlhf::packed(offsets)};
  return run(loss_with(aggregate), backend, b, in);
}

/// The weight that the definition gives to each token, against loss and gradient of the driver.
template <class Aggregate, class Weight>
void check_definition(const char* name, const Aggregate& aggregate, Weight weight) {
  CAPTURE(name);
  const token_batch b = test::padded_batch(31);
  const counts c = count(b);
  const auto r = run_with(aggregate, b);
  const auto sum = run_with(rlhf::token_sum{}, b);
  REQUIRE(r.status);
  double loss = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (!b.valid(i)) {
      CHECK(test::is_plain_zero(r.grad_logp[i]));
      continue;
    }
    const double w = weight(c, i / static_cast<std::size_t>(b.width));
    loss += w * r.per_token[i];
    CHECK(r.grad_logp[i] == Approx(w * sum.grad_logp[i]).epsilon(1e-13));
  }
  CHECK(r.loss == Approx(loss).epsilon(1e-13));
}

double prompt_tokens(const counts& c, std::size_t s) {
  double n = 0;
  for (std::size_t g = 0; g + 1 < prompts.size(); ++g)
    if (s >= static_cast<std::size_t>(prompts[g]) && s < static_cast<std::size_t>(prompts[g + 1]))
      for (auto j = static_cast<std::size_t>(prompts[g]); j < static_cast<std::size_t>(prompts[g + 1]); ++j)
        n += c.tokens[j];
  return n;
}

/// Any cut of the batch into calls, with the whole batch's denominators, gives the whole's loss, gradient and statistics.
template <class Aggregate>
void check_splits(const char* name, const Aggregate& aggregate, bool at_prompts = false) {
  CAPTURE(name);
  const token_batch b = test::padded_batch(32);
  const auto whole = run_with(aggregate, b);
  REQUIRE(whole.status);
  std::mt19937 random(7);
  for (int trial = 0; trial < 12; ++trial) {
    double loss = 0;
    std::vector<double> gradient;
    rlhf::statistics stats;
    std::int64_t first = 0;
    std::size_t prompt = 0;
    while (first < b.rows) {
      std::int64_t last = std::min<std::int64_t>(b.rows, first + 1 + static_cast<std::int64_t>(random() % 4));
      std::size_t next_prompt = prompt;
      if (at_prompts) {
        next_prompt = std::min<std::size_t>(3, prompt + 1 + random() % 2);
        last = prompts[next_prompt];
      }
      const token_batch micro = part(b, first, last);
      const auto r = run_with(aggregate, micro, at_prompts ? prompt : 0, at_prompts ? next_prompt : 3);
      REQUIRE(test::worked(r.status));
      loss += r.loss;
      gradient.insert(gradient.end(), r.grad_logp.begin(), r.grad_logp.end());
      stats.merge(r.stats);
      first = last;
      prompt = next_prompt;
    }
    CHECK(loss == Approx(whole.loss).epsilon(1e-12));
    for (std::size_t i = 0; i < b.size(); ++i)
      CHECK(gradient[i] == Approx(whole.grad_logp[i]).epsilon(1e-12).margin(1e-18));
    for (int k = 0; k < whole.stats.size; ++k) {
      const char* const statistic = whole.stats.entries[k].name;
      CAPTURE(statistic);
      CHECK(stats[statistic] == Approx(whole.stats[statistic]).epsilon(1e-12));
    }
  }
}

/// The same tokens without the padding between them.
template <class Aggregate>
void check_packed(const char* name, const Aggregate& aggregate) {
  CAPTURE(name);
  const token_batch padded = test::padded_batch(33), packed = test::packed_of(padded);
  const auto a = run_with(aggregate, padded), b = run_with(aggregate, packed);
  REQUIRE(a.status);
  REQUIRE(b.status);
  CHECK(a.loss == b.loss);  // the same sums in the same order
  std::vector<double> dense;
  for (std::size_t i = 0; i < padded.size(); ++i)
    if (padded.valid(i)) dense.push_back(a.grad_logp[i]);
  CHECK(dense == b.grad_logp);
  for (int k = 0; k < a.stats.size; ++k) {
    const char* const statistic = a.stats.entries[k].name;
    CAPTURE(statistic);
    CHECK(a.stats[statistic] == b.stats[statistic]);
  }
}

}  // namespace

TEST_CASE("every mode weighs tokens as it is defined") {
  check_definition("token mean", rlhf::token_mean{}, [](const counts& c, std::size_t) { return 1 / c.all; });
  check_definition("token mean, global", rlhf::token_mean{.tokens = 500, .scale = 4},
                   [](const counts&, std::size_t) { return 4.0 / 500; });
  check_definition("token sum", rlhf::token_sum{.scale = 0.5}, [](const counts&, std::size_t) { return 0.5; });
  check_definition("fixed length", rlhf::fixed_length{.length = 20},
                   [](const counts& c, std::size_t) { return 1 / (20.0 * static_cast<double>(c.tokens.size())); });
  check_definition("row mean", rlhf::row_mean{}, [](const counts& c, std::size_t s) {
    return 1 / (c.tokens[s] * static_cast<double>(c.tokens.size()));
  });
  check_definition("sequence mean", rlhf::sequence_mean_token_mean{},
                   [](const counts& c, std::size_t s) { return 1 / (c.tokens[s] * c.nonempty); });
  check_definition("sequence mean of sums", rlhf::sequence_mean_token_sum{.divisor = 8},
                   [](const counts& c, std::size_t) { return 1 / (8 * c.nonempty); });
  check_definition("prompt mean", rlhf::prompt_mean{},
                   [](const counts& c, std::size_t s) { return 1 / (3 * prompt_tokens(c, s)); });
  check_definition("length weighted", rlhf::length_weighted_mean{},
                   [](const counts& c, std::size_t) { return 1 / static_cast<double>(c.tokens.size()); });
}

TEST_CASE("a batch cut into calls adds up to itself, with denominators of the whole") {
  const token_batch b = test::padded_batch(32);
  const counts c = count(b);
  check_splits("token mean", rlhf::token_mean{.tokens = c.all});
  check_splits("token sum", rlhf::token_sum{});
  check_splits("fixed length", rlhf::fixed_length{.length = 20, .sequences = 9});
  check_splits("row mean", rlhf::row_mean{.sequences = 9});
  check_splits("sequence mean", rlhf::sequence_mean_token_mean{.sequences = c.nonempty});
  check_splits("sequence mean of sums", rlhf::sequence_mean_token_sum{.sequences = c.nonempty});
  check_splits("prompt mean", rlhf::prompt_mean{.groups = 3}, true);
  check_splits("length weighted", rlhf::length_weighted_mean{.sequences = 9});
}

TEST_CASE("padded and packed batches of the same tokens are the same to the last bit") {
  check_packed("token mean", rlhf::token_mean{});
  check_packed("fixed length", rlhf::fixed_length{.length = 20});
  check_packed("row mean", rlhf::row_mean{});
  check_packed("sequence mean", rlhf::sequence_mean_token_mean{});
  check_packed("sequence mean of sums", rlhf::sequence_mean_token_sum{});
  check_packed("prompt mean", rlhf::prompt_mean{});
}

TEST_CASE("groups may list their sequences in any order") {
  const token_batch b = test::padded_batch(34);
  rlhf::reference_backend backend;
  const std::vector<std::int64_t> offsets = {0, 4, 9}, order = {8, 0, 3, 5, 1, 2, 4, 6, 7};
  auto in = b.inputs();
  in.groups = {rlhf::packed(offsets), order.data()};
  const auto r = run(loss_with(rlhf::prompt_mean{}), backend, b, in);
  const auto sum = run_with(rlhf::token_sum{}, b);
  REQUIRE(r.status);
  const counts c = count(b);
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (!b.valid(i)) continue;
    const auto s = static_cast<std::int64_t>(i / static_cast<std::size_t>(b.width));
    const bool first = std::find(order.begin(), order.begin() + 4, s) != order.begin() + 4;
    double n = 0;
    for (auto j = first ? order.begin() : order.begin() + 4; j != (first ? order.begin() + 4 : order.end()); ++j)
      n += c.tokens[static_cast<std::size_t>(*j)];
    CHECK(r.grad_logp[i] == Approx(sum.grad_logp[i] / (2 * n)).epsilon(1e-13));
  }
}

TEST_CASE("dropped tokens keep their place in the denominator and their penalty") {
  const token_batch b = test::padded_batch(35);
  rlhf::reference_backend backend;
  auto in = b.inputs();
  std::vector<std::uint8_t> keep(b.size());
  for (std::size_t i = 0; i < b.size(); ++i) keep[i] = i % 3 != 0;
  in.keep = keep;
  const auto r = run(loss_with(rlhf::token_mean{}), backend, b, in);
  const auto objective = run(rlhf::policy_loss{rlhf::ppo_clip{}}, b);
  const auto penalty = run(rlhf::policy_loss{rlhf::none{}, rlhf::kl_penalty{rlhf::k3{}, 0.1}}, b);
  for (std::size_t i = 0; i < b.size(); ++i)
    CHECK(r.grad_logp[i] ==
          Approx((keep[i] ? objective.grad_logp[i] : 0) + penalty.grad_logp[i]).epsilon(1e-12).margin(1e-18));
}

TEST_CASE("importance weights multiply the objective, not the penalty; per token or per sequence") {
  const token_batch b = test::padded_batch(36);
  rlhf::reference_backend backend;
  std::vector<double> each(b.size()), per_sequence(static_cast<std::size_t>(b.rows));
  for (std::size_t s = 0; s < per_sequence.size(); ++s) per_sequence[s] = 0.5 + 0.1 * static_cast<double>(s);
  for (std::size_t i = 0; i < b.size(); ++i) each[i] = per_sequence[i / static_cast<std::size_t>(b.width)];
  auto by_token = b.inputs(), by_sequence = b.inputs();
  by_token.weight = each;
  by_sequence.weight = per_sequence;
  const auto r = run(loss_with(rlhf::row_mean{}), backend, b, by_token),
             s = run(loss_with(rlhf::row_mean{}), backend, b, by_sequence);
  const auto objective = run(rlhf::policy_loss{rlhf::ppo_clip{}, rlhf::none{}, rlhf::row_mean{}}, b);
  const auto penalty = run(rlhf::policy_loss{rlhf::none{}, rlhf::kl_penalty{rlhf::k3{}, 0.1}, rlhf::row_mean{}}, b);
  CHECK(r.grad_logp == s.grad_logp);
  CHECK(r.loss == s.loss);
  for (std::size_t i = 0; i < b.size(); ++i)
    CHECK(r.grad_logp[i] ==
          Approx(each[i] * objective.grad_logp[i] + penalty.grad_logp[i]).epsilon(1e-12).margin(1e-18));
}

TEST_CASE("an advantage of each sequence is that of all its tokens") {
  token_batch b = test::padded_batch(37);
  rlhf::reference_backend backend;
  std::vector<double> per_sequence(static_cast<std::size_t>(b.rows));
  for (std::size_t s = 0; s < per_sequence.size(); ++s) per_sequence[s] = static_cast<double>(s) - 4;
  for (std::size_t i = 0; i < b.size(); ++i) b.advantage[i] = per_sequence[i / static_cast<std::size_t>(b.width)];
  auto in = b.inputs();
  const auto each = run(loss_with(rlhf::row_mean{}), backend, b, in);
  in.advantage = per_sequence;
  const auto spread = run(loss_with(rlhf::row_mean{}), backend, b, in);
  REQUIRE(spread.status);
  CHECK(each.loss == spread.loss);
  CHECK(each.grad_logp == spread.grad_logp);
}

TEST_CASE("one sequence's gradient does not see how long its neighbours are") {
  // Padding of any width, denominators by count: nothing changes.
  const token_batch narrow = test::padded_batch(38, 4, 6);
  token_batch wide = narrow;
  wide.width = 15;
  for (auto* stream : wide.streams()) stream->assign(60, test::not_a_number);
  wide.mask.assign(60, 0);
  token_batch source = narrow;
  const auto from = source.streams(), to = wide.streams();
  for (std::size_t i = 0; i < narrow.size(); ++i) {
    const std::size_t j = i / 6 * 15 + i % 6 + 4;
    for (std::size_t k = 0; k < from.size(); ++k) (*to[k])[j] = (*from[k])[i];
    wide.mask[j] = narrow.mask[i];
  }
  const auto a = run(loss_with(rlhf::fixed_length{.length = 6}), narrow),
             b = run(loss_with(rlhf::fixed_length{.length = 6}), wide);
  CHECK(a.loss == b.loss);
  for (std::size_t i = 0; i < narrow.size(); ++i) CHECK(a.grad_logp[i] == b.grad_logp[i / 6 * 15 + i % 6 + 4]);
}

TEST_CASE("nothing to learn from: zeros, a remark, and the denominators of others stand") {
  token_batch b = test::padded_batch(39, 3, 5);
  for (std::size_t i = 0; i < b.size(); ++i) {
    b.mask[i] = 0;
    for (auto* stream : b.streams()) (*stream)[i] = test::not_a_number;
  }
  const auto check_empty = [&](const auto& loss, const token_batch& batch) {
    const auto r = run(loss, batch);
    CHECK(r.status.code == rlhf::errc::empty_mask);
    CHECK(test::text(r.status) == "policy_loss: mask selects no element; all outputs are 0");
    CHECK(test::is_plain_zero(r.loss));
    for (const auto& v : {r.grad_logp, r.per_token})
      for (const double x : v) CHECK(test::is_plain_zero(x));
  };
  check_empty(loss_with(rlhf::token_mean{}), b);
  check_empty(loss_with(rlhf::row_mean{}), b);
  check_empty(loss_with(rlhf::sequence_mean_token_mean{}), b);
  check_empty(loss_with(rlhf::fixed_length{.length = 5}), b);
  check_empty(rlhf::policy_loss{rlhf::sequence_ratio{rlhf::ppo_clip{}}, rlhf::none{}, rlhf::row_mean{}}, b);
  check_empty(loss_with(rlhf::token_mean{.tokens = 100}), b);
  token_batch none;
  none.offsets = {0, 0, 0};
  check_empty(loss_with(rlhf::token_mean{}), none);
  check_empty(loss_with(rlhf::row_mean{}), none);
}

TEST_CASE("value losses use the same weights") {
  const token_batch b = test::padded_batch(40);
  const counts c = count(b);
  rlhf::reference_backend backend;
  double loss = 0;
  std::vector<double> gradient(b.size());
  rlhf::value_inputs<double> in;
  in.value = b.logp;
  in.returns = b.ref_logp;
  in.mask = b.mask;
  rlhf::value_outputs<double> out;
  out.loss = {&loss, 1};
  out.grad_value = gradient;
  REQUIRE(rlhf::value_loss{rlhf::squared_value{}, rlhf::row_mean{}}(backend, b.layout(), in, out));
  double want = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (!b.valid(i)) continue;
    const double w = 1 / (c.tokens[i / static_cast<std::size_t>(b.width)] * static_cast<double>(c.tokens.size()));
    const double d = b.logp[i] - b.ref_logp[i];
    want += w * d * d / 2;
    CHECK(gradient[i] == Approx(w * d).epsilon(1e-13));
  }
  CHECK(loss == Approx(want).epsilon(1e-13));
}
