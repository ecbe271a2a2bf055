// Sampling against the full forward pass, its law, and its independence of batches and threads.

#include "align/model/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "align/model/policy.hpp"
#include "rlhf/backend/reference.hpp"
#include "rlhf/core/numeric.hpp"
#include "rlhf/train/rollout.hpp"
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

/// What top-k and top-p leave of log-probabilities, by the definition: 0 where they leave nothing.
std::vector<double> truncated(std::vector<double> logp, std::size_t k, double p) {
  std::vector<double> sorted = logp;
  std::sort(sorted.rbegin(), sorted.rend());
  double lowest = k > 0 && k < sorted.size() ? sorted[k - 1] : sorted.back();
  double left = 0, sum = 0;
  for (const double x : logp) left += x >= lowest ? std::exp(x) : 0;
  for (std::size_t i = 0; i < sorted.size() && sum < p * left && sorted[i] >= lowest; ++i) {
    sum += std::exp(sorted[i]);
    if (sum >= p * left) lowest = sorted[i];
  }
  for (double& x : logp) x = x >= lowest ? std::exp(x) : 0;
  return logp;
}

/// Pearson's statistic of the first tokens of a rollout, and the tokens that no probability allows.
struct agreement {
  double chi_square = 0;
  int kinds = 0, forbidden = 0;
};
agreement with_law(const rollout<float>& drawn, const std::vector<double>& p) {
  std::vector<double> count(p.size());
  for (const std::int32_t token : drawn.completion.targets) ++count[static_cast<std::size_t>(token)];
  double mass = 0;
  for (const double x : p) mass += x;
  agreement out;
  const auto n = static_cast<double>(drawn.completion.targets.size());
  for (std::size_t v = 0; v < p.size(); ++v) {
    if (p[v] == 0) {
      out.forbidden += count[v] > 0 ? 1 : 0;
      continue;
    }
    ++out.kinds;
    out.chi_square += std::pow(count[v] - n * p[v] / mass, 2) / (n * p[v] / mass);
  }
  return out;
}

/// All logits by which a rollout was drawn [predictions, vocabulary].
std::vector<float> logits_of(const language_model<float>& model, const rollout<float>& drawn) {
  rlhf::thread_pool pool(1);
  align::workspace<float> work;
  model.forward(pool, drawn.sequences, work);
  std::vector<float> logits(drawn.completion.rows.size() * 13);
  model.logits(pool, work, drawn.completion.rows, logits);
  return logits;
}

template <class Scalar>
bool same(const rollout<Scalar>& a, const rollout<Scalar>& b) {
  return a.sequences.tokens == b.sequences.tokens && a.sequences.offsets == b.sequences.offsets && a.logp == b.logp &&
         a.support == b.support && a.finished == b.finished && a.prompt_lengths == b.prompt_lengths &&
         a.completion.rows == b.completion.rows;
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

TEST_CASE("top-k and top-p leave the most probable tokens, which are drawn in proportion") {
  const auto m = model<float>();
  token_sequences prompt;
  prompt.append(std::vector{0});
  rlhf::thread_pool pool(2);
  const align::sampling_law laws[] = {{.top_k = 3},
                                      {.top_p = 0.8},
                                      {.temperature = 1.5, .top_k = 6, .top_p = 0.7},
                                      {.temperature = 0.7, .top_p = 0.01},
                                      {.top_k = 13},
                                      {.top_k = 100, .top_p = 1}};
  for (const align::sampling_law& law : laws) {
    const auto drawn = sample(pool, m, prompt,
                              {.samples = 10000,
                               .temperature = law.temperature,
                               .top_k = law.top_k,
                               .top_p = law.top_p,
                               .max_new_tokens = 1,
                               .key = {.seed = 8}});
    const auto all = log_probabilities(m, drawn, law.temperature);
    const std::vector<double> left =
        truncated({all.begin(), all.begin() + 13}, static_cast<std::size_t>(law.top_k), law.top_p);
    double mass = 0;
    for (const double p : left) mass += p;
    const agreement found = with_law(drawn, left);
    CAPTURE(law.temperature, law.top_k, law.top_p, found.kinds);
    CHECK(found.forbidden == 0);
    CHECK(found.chi_square < found.kinds - 1 + 4 * std::sqrt(2.0 * found.kinds));
    double worst = 0;
    for (std::size_t i = 0; i < drawn.logp.size(); ++i) {
      const double p = left[static_cast<std::size_t>(drawn.completion.targets[i])] / mass;
      worst = std::max({worst, std::abs(static_cast<double>(drawn.logp[i]) - std::log(p)),
                        std::abs(static_cast<double>(drawn.support[i]) - mass)});
    }
    CHECK(worst < 1e-5);
    if (law.top_k >= 13 && law.top_p == 1) CHECK(drawn.support == std::vector<float>(10000, 1.0f));
  }
}

TEST_CASE("tokens as probable as the last one kept are kept too") {
  auto m = model<float>();
  token_sequences prompt;
  prompt.append(std::vector{0});
  rlhf::thread_pool pool(1);
  const auto best = sample(pool, m, prompt, {.temperature = 0, .max_new_tokens = 1}).completion.targets.front();
  REQUIRE(best != 0);
  // The head is the embedding: two tokens with the same row have the same logit.
  const std::int32_t twin = best == 5 ? 6 : 5;
  std::copy_n(m.parameters.begin() + best * 24, 24, m.parameters.begin() + twin * 24);
  for (const auto& [k, p] : {std::pair<std::int64_t, double>{1, 1.0}, {0, 0.01}}) {
    const auto drawn =
        sample(pool, m, prompt,
               {.samples = 200, .top_k = k, .top_p = p, .max_new_tokens = 1, .end_token = -1, .key = {.seed = 3}});
    const auto bests = std::count(drawn.completion.targets.begin(), drawn.completion.targets.end(), best);
    CHECK(bests + std::count(drawn.completion.targets.begin(), drawn.completion.targets.end(), twin) == 200);
    CHECK(bests > 60);
    CHECK(bests < 140);
    CHECK(drawn.logp.front() == Approx(-std::log(2.0)));
  }
}

TEST_CASE("what a policy records of its sampling is what the sampler drew from, and what the library's drivers say") {
  rlhf::reference_backend cpu;
  rlhf::thread_pool pool(2);
  using policy = align::language_policy<rlhf::reference_backend>;
  policy model_policy(cpu, pool, model<float>(), {.new_tokens = 12}), reference(cpu, pool, model<float>());
  struct {
    void rewards(const rlhf::responses&, std::span<float> out) const { std::fill(out.begin(), out.end(), 1.0f); }
  } reward;
  rlhf::prompt_list asked;
  const token_sequences given = prompts();
  for (std::size_t i = 0; i < given.size(); ++i) asked.emplace_back(given[i].begin(), given[i].end());

  // Left as it is, it draws from itself.
  const rlhf::rollout own = rlhf::collect(model_policy, reference, reward, asked, 3, {.seed = 4}, 0);
  CHECK(own.sampled_logp == own.old_logp);
  CHECK(own.support == std::vector<float>(own.old_logp.size(), 1.0f));

  for (const align::sampling_law& law :
       {align::sampling_law{.temperature = 0.7}, {.top_k = 4}, {.temperature = 1.3, .top_k = 7, .top_p = 0.8}}) {
    CHECK(model_policy.draw_by(law).plain());
    const rlhf::rollout r = rlhf::collect(model_policy, reference, reward, asked, 3, {.seed = 4}, 0);
    const auto drawn = sample(pool, model_policy.model(), given,
                              {.samples = 3,
                               .temperature = law.temperature,
                               .top_k = law.top_k,
                               .top_p = law.top_p,
                               .max_new_tokens = 12,
                               .key = {.seed = 4}});
    const std::vector<float> logits = logits_of(model_policy.model(), drawn);
    const auto rows = static_cast<std::int64_t>(drawn.logp.size());
    std::vector<float> logp(drawn.logp.size()), log_mass(logp.size());
    REQUIRE(rlhf::token_logp(cpu,
                             {.logits = rlhf::view<const float, 2>(logits.data(), rows, 13),
                              .target = drawn.completion.targets,
                              .temperature = law.temperature},
                             {.logp = logp}));
    REQUIRE(rlhf::surviving_mass(cpu, rlhf::view<const float, 2>(logits.data(), rows, 13),
                                 {.top_k = law.top_k, .top_p = law.top_p}, rlhf::view<float>(log_mass),
                                 law.temperature));
    REQUIRE(r.sampled_logp.size() == drawn.logp.size());
    double worst = 0, least = 1;
    for (std::size_t i = 0; i < logp.size(); ++i) {
      const auto gap = [&](float a, double b) { worst = std::max(worst, std::abs(static_cast<double>(a) - b)); };
      const double want = static_cast<double>(logp[i]) - static_cast<double>(log_mass[i]);
      gap(drawn.logp[i], want);
      gap(r.sampled_logp[i], want);
      gap(drawn.support[i], std::exp(static_cast<double>(log_mass[i])));
      gap(r.support[i], static_cast<double>(drawn.support[i]));
      least = std::min(least, static_cast<double>(drawn.support[i]));
    }
    CAPTURE(law.temperature, law.top_k, law.top_p);
    CHECK(worst < 1e-5);
    CHECK(*std::max_element(drawn.support.begin(), drawn.support.end()) <= 1);
    CHECK((least == 1) == (law.top_k == 0 && law.top_p == 1));
    CHECK(r.sampled_logp != r.old_logp);
    // In passes of any size.
    policy in_parts(cpu, pool, model<float>(), {.new_tokens = 12},
                    std::make_shared<align::pass_memory>(align::pass_limits{.tokens = 50}));
    in_parts.draw_by(law);
    std::vector<float> part_logp(logp.size()), part_mass(logp.size());
    REQUIRE(in_parts.describe_sampling(r.batch, part_logp, part_mass));
    for (std::size_t i = 0; i < logp.size(); ++i) {
      worst = std::max(worst, static_cast<double>(std::abs(part_logp[i] - r.sampled_logp[i])));
      worst = std::max(worst, static_cast<double>(std::abs(part_mass[i] - r.support[i])));
    }
    CHECK(worst < 1e-5);
    model_policy.draw_by({});
  }
}

TEST_CASE("a policy says how concentrated it is at every token, in passes of any size") {
  rlhf::reference_backend cpu;
  rlhf::thread_pool pool(2);
  const auto drawn = sample(pool, model<float>(), prompts(), {.samples = 2, .max_new_tokens = 12, .key = {.seed = 4}});
  rlhf::responses batch;
  for (std::size_t i = 0; i < drawn.sequences.size(); ++i) {
    const auto prompt = static_cast<std::size_t>(drawn.prompt_lengths[i]);
    batch.add(drawn.sequences[i].first(prompt), drawn.sequences[i].subspan(prompt));
  }
  const std::vector<double> log_probability = log_probabilities(model<float>(), drawn, 1);
  for (const std::int64_t tokens : {std::int64_t{1} << 40, std::int64_t{50}}) {
    align::language_policy<rlhf::reference_backend> policy(
        cpu, pool, model<float>(), {}, std::make_shared<align::pass_memory>(align::pass_limits{.tokens = tokens}));
    std::vector<float> found(static_cast<std::size_t>(batch.response_tokens()));
    policy.log_square_sums(batch, found);
    REQUIRE(found.size() * 13 == log_probability.size());
    double worst = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      double sum = 0;
      for (std::size_t v = 0; v < 13; ++v) sum += std::exp(2 * log_probability[i * 13 + v]);
      worst = std::max(worst, std::abs(static_cast<double>(found[i]) - std::log(sum)));
    }
    CAPTURE(tokens);
    CHECK(worst < 1e-5);
  }
}

TEST_CASE(
    "sequences longer than the context are refused by name, or their prompts read from further on where that is asked "
    "for") {
  rlhf::reference_backend cpu;
  rlhf::thread_pool pool(1);
  align::language_policy<rlhf::reference_backend> policy(cpu, pool, model<float>());
  rlhf::responses batch, shorter;
  batch.add(std::vector<std::int32_t>{0, 3}, std::vector<std::int32_t>{4, 5});
  const std::vector<std::int32_t> prompt(39, 2), response{4, 5, 6};
  batch.add(prompt, response);
  std::vector<float> logp(5), cut(5), want(5);
  CHECK_THROWS_WITH(policy.log_probs(batch, logp),
                    "language_policy: prompt and response 1 have 42 tokens, the context is 40");
  CHECK_THROWS_WITH(policy.log_square_sums(batch, logp),
                    "language_policy: prompt and response 1 have 42 tokens, the context is 40");
  CHECK_FALSE(policy.cut_prompts(true));
  policy.log_probs(batch, cut);
  CHECK(policy.cut_prompts(false));
  shorter.add(batch.prompt(0), batch.response(0));
  shorter.add(batch.prompt(1).subspan(2), response);
  policy.log_probs(shorter, want);
  CHECK(cut == want);
}

TEST_CASE("prompts that begin alike are read once, with the bits of one at a time") {
  const auto m = model<float>();
  const language_model<float> second(sizes, rlhf::random_key{.seed = 6});
  // States inside responses, as VinePPO has them: prefixes of each other, of different ones, the same again, nothing alike.
  const std::vector<std::vector<std::int32_t>> given{
      {0, 3, 4}, {0, 3, 4, 5, 6}, {0, 3, 4, 5, 6, 7, 8}, {0, 3, 4, 5, 9, 2}, {0, 3, 4}, {7, 3, 4, 5, 6},
      {0},       {0, 3, 4, 5, 9}, {0, 3, 4, 5, 6, 7, 8}};
  token_sequences together;
  for (const auto& one : given) together.append(one);
  rlhf::thread_pool one_thread(1), two(2);
  for (const align::sampling_mixture<float>& mixed :
       {align::sampling_mixture<float>{}, {.other = &second, .power = 1.5, .other_power = -0.5}}) {
    sampling_options options{.samples = 4, .top_p = 0.95, .key = {.seed = 11}};
    const auto expected = sample(two, m, together, options, {}, mixed);
    for (const int batch : {3, 7, 64}) {
      options.batch = batch;
      CHECK(same(sample(two, m, together, options, {}, mixed), expected));
    }
    int equal = 0;
    std::size_t at = 0;
    for (std::uint32_t p = 0; p < given.size(); ++p)
      for (std::uint32_t k = 0; k < 4; ++k) {
        token_sequences alone;
        alone.append(given[p]);
        const std::vector<std::uint32_t> id{p};
        const auto drawn =
            sample(one_thread, m, alone, {.top_p = 0.95, .key = {.seed = 11}, .first_sample = k}, id, mixed);
        const auto whole = expected.sequences[p * 4 + k];
        const auto from = expected.logp.begin() + static_cast<std::ptrdiff_t>(at);
        equal += std::equal(whole.begin(), whole.end(), drawn.sequences.tokens.begin(), drawn.sequences.tokens.end()) &&
                         std::equal(drawn.logp.begin(), drawn.logp.end(), from)
                     ? 1
                     : 0;
        at += drawn.logp.size();
      }
    CHECK(equal == 36);
    CHECK(at == expected.logp.size());
  }
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

TEST_CASE("a policy may be asked for no more than some tokens of each response") {
  rlhf::reference_backend cpu;
  rlhf::thread_pool pool(2);
  align::language_policy<rlhf::reference_backend> policy(cpu, pool, model<float>(), {.new_tokens = 5, .end_token = -1});
  const rlhf::prompt_list asked{{0}, {0, 3, 4}, {0, 3}};
  const std::vector<std::int64_t> most{7, 2, 1};
  const rlhf::responses drawn = policy.sample_at_most(asked, 2, {.seed = 9}, most),
                        whole = policy.sample(asked, 2, {.seed = 9});
  REQUIRE(drawn.size() == 6);
  for (std::int64_t i = 0; i < drawn.size(); ++i) {
    const auto some = drawn.response(i), all = whole.response(i);
    CHECK(some.size() == static_cast<std::size_t>(most[static_cast<std::size_t>(i / 2)]));
    CHECK(all.size() == 5);
    CHECK(std::equal(some.begin(), some.begin() + static_cast<std::ptrdiff_t>(std::min(some.size(), all.size())),
                     all.begin()));
  }
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
  CHECK_THROWS_WITH(with(std::vector<std::int32_t>(40), {}),
                    "sample: prompt 0 has 40 tokens and leaves no room in the context of 40");
  CHECK_THROWS_AS(with({0}, {.samples = 0}), std::invalid_argument);
  CHECK_THROWS_AS(with({0}, {.temperature = -1}), std::invalid_argument);
  CHECK_THROWS_AS(with({0}, {.temperature = std::nan("")}), std::invalid_argument);
  CHECK_THROWS_AS(with({0}, {.top_k = -1}), std::invalid_argument);
  for (const double p : {0.0, -0.1, 1.01, std::nan("")})
    CHECK_THROWS_AS(with({0}, {.top_p = p}), std::invalid_argument);
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
