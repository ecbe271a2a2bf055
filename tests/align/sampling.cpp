// Sampling against the full forward pass, its law, and its independence of batches and threads.

#include "align/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "rlhf/core/numeric.hpp"
#include "support/catch.hpp"

using align::language_model;
using align::rollout;
using align::sample;
using align::sampling_options;
using align::token_sequences;

namespace {

const align::transformer_options sizes{
    .vocabulary = 13, .dimension = 24, .hidden = 20, .layers = 2, .heads = 4, .kv_heads = 2, .context = 40};

/// A model whose predictions are far from uniform.
template <class Scalar>
language_model<Scalar> model() {
  language_model<Scalar> out(sizes, rlhf::random_key{.seed = 5});
  for (Scalar& p : out.parameters) p *= Scalar(1.5);
  return out;
}

token_sequences prompts() {
  token_sequences out;
  for (int p = 0; p < 9; ++p) {
    std::vector<std::int32_t> tokens{0};
    for (int i = 0; i < p; ++i) tokens.push_back(2 + (3 * p + i) % 11);
    out.append(tokens);
  }
  return out;
}

/// The log-softmax of every prediction of a rollout by the full forward pass, [predictions, vocabulary].
template <class Scalar>
std::vector<double> log_probabilities(const language_model<Scalar>& model, const rollout<Scalar>& drawn,
                                      double temperature) {
  rlhf::thread_pool pool(1);
  align::workspace<Scalar> work;
  model.forward(pool, drawn.sequences, work);
  std::vector<Scalar> logits(drawn.completion.rows.size() * 13);
  model.logits(pool, work, drawn.completion.rows, logits);
  std::vector<double> out(logits.begin(), logits.end());
  for (std::size_t i = 0; i < out.size(); i += 13) {
    double sum = 0;
    for (std::size_t v = 0; v < 13; ++v) sum += std::exp(out[i + v] / temperature);
    for (std::size_t v = 0; v < 13; ++v) out[i + v] = out[i + v] / temperature - std::log(sum);
  }
  return out;
}

template <class Scalar>
bool same(const rollout<Scalar>& a, const rollout<Scalar>& b) {
  return a.sequences.tokens == b.sequences.tokens && a.sequences.offsets == b.sequences.offsets && a.logp == b.logp &&
         a.finished == b.finished && a.prompt_lengths == b.prompt_lengths && a.completion.rows == b.completion.rows;
}

}  // namespace

TEMPLATE_TEST_CASE("the recorded log-probabilities are those of the full forward pass", "", float, double) {
  const auto m = model<TestType>();
  rlhf::thread_pool pool(2);
  for (const double temperature : {1.0, 0.6}) {
    const auto drawn = sample(pool, m, prompts(), {.samples = 5, .temperature = temperature, .key = {.seed = 1}});
    const auto expected = log_probabilities(m, drawn, temperature);
    REQUIRE(drawn.logp.size() == drawn.completion.rows.size());
    REQUIRE(drawn.logp.size() > 300);
    double worst = 0;
    for (std::size_t i = 0; i < drawn.logp.size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(drawn.logp[i]) -
                                       expected[i * 13 + static_cast<std::size_t>(drawn.completion.targets[i])]));
    CHECK(worst < (sizeof(TestType) == 4 ? 1e-5 : 1e-13));
  }
}

TEMPLATE_TEST_CASE("a model in bfloat16 draws what the model of its rounded weights draws, to the bit", "", float,
                   double) {
  const auto exact = model<TestType>();
  language_model<TestType> stored(sizes, exact.parameters, align::parameter_storage::bfloat16), before = exact;
  for (TestType& p : before.parameters)
    p = static_cast<TestType>(static_cast<float>(rlhf::bfloat16(static_cast<float>(p))));
  rlhf::thread_pool pool(2);
  for (const double temperature : {1.0, 0.0}) {
    const sampling_options options{.samples = 5, .temperature = temperature, .key = {.seed = 1}};
    const auto drawn = sample(pool, stored, prompts(), options);
    CHECK(same(drawn, sample(pool, before, prompts(), options)));
    if (temperature == 0) continue;
    CHECK_FALSE(same(drawn, sample(pool, exact, prompts(), options)));
    // And a pass reads the same weights as the sampler.
    const auto expected = log_probabilities(stored, drawn, temperature);
    double worst = 0;
    for (std::size_t i = 0; i < drawn.logp.size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(drawn.logp[i]) -
                                       expected[i * 13 + static_cast<std::size_t>(drawn.completion.targets[i])]));
    CHECK(worst < (sizeof(TestType) == 4 ? 1e-5 : 1e-13));
  }
  // The second of two mixed models as well.
  const sampling_options options{.samples = 2, .key = {.seed = 2}};
  CHECK(same(sample<TestType>(pool, exact, prompts(), options, {}, {&stored, 0.5, 0.5}),
             sample<TestType>(pool, exact, prompts(), options, {}, {&before, 0.5, 0.5})));
}

TEST_CASE("a rollout has the shape it promises") {
  const auto m = model<float>();
  const token_sequences given = prompts();
  rlhf::thread_pool pool(1);
  const auto drawn = sample(pool, m, given, {.samples = 3, .max_new_tokens = 12, .key = {.seed = 2}});
  REQUIRE(drawn.sequences.size() == 27);
  int finished = 0, cut = 0;
  for (std::size_t s = 0; s < 27; ++s) {
    const auto sequence = drawn.sequences[s], prompt = given[s / 3];
    CHECK(drawn.prompt_lengths[s] == static_cast<std::int64_t>(prompt.size()));
    CHECK(std::equal(prompt.begin(), prompt.end(), sequence.begin()));
    const std::size_t fresh = sequence.size() - prompt.size();
    CHECK(drawn.completion.offsets[s + 1] - drawn.completion.offsets[s] == static_cast<std::int64_t>(fresh));
    const auto completion = sequence.subspan(prompt.size());
    const auto end = std::find(completion.begin(), completion.end(), 1);
    if (drawn.finished[s] != 0) {
      ++finished;
      CHECK(end == completion.end() - 1);
    } else {
      ++cut;
      CHECK(end == completion.end());
      CHECK(fresh == 12);
    }
  }
  CHECK(finished > 0);
  CHECK(cut > 0);
  CHECK(drawn.completion.rows.front() == 0);
  CHECK(drawn.completion.targets.front() == drawn.sequences.tokens[1]);
}

TEST_CASE("rollouts have the same bits for any number of threads and any batch") {
  const auto m = model<float>();
  const token_sequences given = prompts();
  rlhf::thread_pool one(1), two(2), three(3);
  sampling_options options{.samples = 7, .key = {.seed = 3, .stream = 4}};
  const auto expected = sample(one, m, given, options);
  for (const int batch : {1, 2, 5, 63, 1000}) {
    options.batch = batch;
    CHECK(same(sample(one, m, given, options), expected));
    CHECK(same(sample(two, m, given, options), expected));
    CHECK(same(sample(three, m, given, options), expected));
  }
}

TEST_CASE("a sample is known by its prompt's id and its number, whoever else is in the call") {
  const auto m = model<float>();
  const token_sequences given = prompts();
  rlhf::thread_pool pool(1);
  const auto all = sample(pool, m, given, {.samples = 4, .key = {.seed = 6}});

  const std::vector<std::int64_t> some{7, 2};
  const std::vector<std::uint32_t> ids{7, 2};
  const auto later = sample(pool, m, select(given, some), {.samples = 2, .key = {.seed = 6}, .first_sample = 2}, ids);
  for (std::size_t p = 0; p < 2; ++p)
    for (std::size_t k = 0; k < 2; ++k) {
      const auto a = later.sequences[p * 2 + k], b = all.sequences[ids[p] * 4 + 2 + k];
      CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
    }
  CHECK_FALSE(same(sample(pool, m, given, {.samples = 4, .key = {.seed = 7}}), all));
  CHECK_FALSE(same(sample(pool, m, given, {.samples = 4, .key = {.seed = 6, .stream = 1}}), all));
}

TEST_CASE("temperature 0 takes the most probable token every time") {
  const auto m = model<double>();
  rlhf::thread_pool pool(1);
  const auto drawn = sample(pool, m, prompts(), {.samples = 2, .temperature = 0});
  const auto logp = log_probabilities(m, drawn, 1);
  for (std::size_t i = 0; i < drawn.logp.size(); ++i) {
    const auto row = logp.begin() + static_cast<std::ptrdiff_t>(i * 13);
    CHECK(std::max_element(row, row + 13) - row == drawn.completion.targets[i]);
    CHECK(drawn.logp[i] == 0);
  }
  for (std::size_t s = 0; s < drawn.sequences.size(); s += 2) {
    const auto a = drawn.sequences[s], b = drawn.sequences[s + 1];
    CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
}

TEST_CASE("tokens are drawn with their probabilities") {
  const auto m = model<float>();
  token_sequences prompt;
  prompt.append(std::vector{0});
  rlhf::thread_pool pool(2);
  constexpr int n = 20000;
  const auto drawn = sample(pool, m, prompt, {.samples = n, .max_new_tokens = 1, .key = {.seed = 8}});
  const auto logp = log_probabilities(m, drawn, 1);
  std::vector<double> count(13);
  for (const std::int32_t token : drawn.completion.targets) ++count[static_cast<std::size_t>(token)];
  double chi_square = 0;
  for (std::size_t v = 0; v < 13; ++v)
    chi_square += std::pow(count[v] - n * std::exp(logp[v]), 2) / (n * std::exp(logp[v]));
  CHECK(chi_square < 12 + 4 * std::sqrt(2 * 12.0));
}

TEST_CASE("two models are mixed by the powers of their probabilities") {
  const auto m = model<float>();
  language_model<float> other(sizes, rlhf::random_key{.seed = 6});
  rlhf::thread_pool pool(2);
  const sampling_options options{.samples = 3, .key = {.seed = 8}};
  const auto alone = sample(pool, m, prompts(), options);
  CHECK(same(alone, sample(pool, m, prompts(), options, {}, {.other = &other, .power = 1, .other_power = 0})));
  CHECK(same(alone, sample(pool, other, prompts(), options, {}, {.other = &m, .power = 0, .other_power = 1})));

  token_sequences prompt;
  prompt.append(std::vector{0});
  constexpr int n = 20000;
  const auto drawn = sample(pool, m, prompt, {.samples = n, .max_new_tokens = 1, .key = {.seed = 9}}, {},
                            {.other = &other, .power = 1.5, .other_power = -0.5});
  const auto own = log_probabilities(m, drawn, 1), its = log_probabilities(other, drawn, 1);
  std::vector<double> count(13), p(13);
  for (const std::int32_t token : drawn.completion.targets) ++count[static_cast<std::size_t>(token)];
  double sum = 0, chi_square = 0;
  for (std::size_t v = 0; v < 13; ++v) sum += p[v] = std::exp(1.5 * own[v] - 0.5 * its[v]);
  for (std::size_t v = 0; v < 13; ++v) chi_square += std::pow(count[v] - n * p[v] / sum, 2) / (n * p[v] / sum);
  CHECK(chi_square < 12 + 4 * std::sqrt(2 * 12.0));
}

TEST_CASE("each prompt may have a longest sequence of its own") {
  const auto m = model<float>();
  rlhf::thread_pool pool(2);
  const std::vector<std::int64_t> longest{12, 11, 10, 9, 10, 11, 12, 13, 60};
  const auto drawn = sample(pool, m, prompts(), {.end_token = -1, .key = {.seed = 9}, .longest = longest});
  for (std::size_t s = 0; s < drawn.sequences.size(); ++s)
    CHECK(static_cast<std::int64_t>(drawn.sequences[s].size()) == std::min<std::int64_t>(40, longest[s]));
}

TEST_CASE("without an end token every completion fills its room; nothing to do is fine") {
  const auto m = model<float>();
  rlhf::thread_pool pool(2);
  const auto drawn = sample(pool, m, prompts(), {.end_token = -1, .key = {.seed = 9}});
  for (std::size_t s = 0; s < drawn.sequences.size(); ++s) CHECK(drawn.sequences[s].size() == 40);
  CHECK(sample(pool, m, token_sequences{}, {}).sequences.size() == 0);
}

TEST_CASE("misuse of the sampler is refused") {
  const auto m = model<float>();
  rlhf::thread_pool pool(1);
  const auto with = [&](std::vector<std::int32_t> tokens, sampling_options options) {
    token_sequences given;
    given.append(tokens);
    return sample(pool, m, given, options);
  };
  CHECK_NOTHROW(with({0}, {}));
  CHECK_THROWS_AS(with({}, {}), std::invalid_argument);
  CHECK_THROWS_AS(with({13}, {}), std::invalid_argument);
  CHECK_THROWS_AS(with(std::vector<std::int32_t>(40), {}), std::invalid_argument);
  CHECK_THROWS_AS(with({0}, {.samples = 0}), std::invalid_argument);
  CHECK_THROWS_AS(with({0}, {.temperature = -1}), std::invalid_argument);
  CHECK_THROWS_AS(with({0}, {.temperature = std::nan("")}), std::invalid_argument);
  CHECK_THROWS_AS(with({0}, {.batch = 0}), std::invalid_argument);
  const std::vector<std::uint32_t> ids{1, 2};
  CHECK_THROWS_AS(sample(pool, m, prompts(), {}, ids), std::invalid_argument);
  const std::vector<std::int64_t> lengths{9}, short_lengths{9, 9, 9, 9, 9, 9, 9, 9, 9};
  CHECK_THROWS_AS(sample(pool, m, prompts(), {.longest = lengths}), std::invalid_argument);
  CHECK_THROWS_AS(sample(pool, m, prompts(), {.longest = short_lengths}), std::invalid_argument);
  const language_model<float> wider(align::transformer_options{.vocabulary = 14});
  CHECK_THROWS_AS(sample(pool, m, prompts(), {}, {}, {.other = &wider}), std::invalid_argument);
  language_model<float> other = m;
  CHECK_THROWS_AS(sample(pool, m, prompts(), {}, {}, {.other = &other, .power = std::nan("")}), std::invalid_argument);
}
