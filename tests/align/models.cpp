// Models with their heads, and training: gradients of the head, learning, and the same bits for any number of threads.

#include "align/model/models.hpp"

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "align/data/names.hpp"
#include "align/model/sampling.hpp"
#include "rlhf/core/numeric.hpp"
#include "rlhf/train/optimizer.hpp"
#include "support/catch.hpp"

using align::language_model;
using align::scalar_model;
using align::token_sequences;
using align::workspace;

namespace {

/// Mean negative log-likelihood of the predictions, nats a token; its gradient into `d_logits`.
double likelihood(std::span<const float> logits, std::span<const std::int32_t> targets, std::vector<float>& d_logits) {
  const std::size_t n = targets.size(), vocabulary = logits.size() / n;
  d_logits.resize(logits.size());
  double loss = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float* const row = logits.data() + i * vocabulary;
    double sum = 0;
    for (std::size_t v = 0; v < vocabulary; ++v) sum += std::exp(static_cast<double>(row[v]));
    const auto target = static_cast<std::size_t>(targets[i]);
    loss += (std::log(sum) - static_cast<double>(row[target])) / static_cast<double>(n);
    for (std::size_t v = 0; v < vocabulary; ++v)
      d_logits[i * vocabulary + v] = static_cast<float>(
          (std::exp(static_cast<double>(row[v])) / sum - (v == target ? 1 : 0)) / static_cast<double>(n));
  }
  return loss;
}

struct trained {
  language_model<float> model;
  double first_loss = 0, last_loss = 0;
};

/// A few steps of maximum likelihood on names.
trained train(int threads, int steps) {
  rlhf::thread_pool pool(threads);
  const token_sequences names = encode(align::read_names().train);
  trained out{language_model<float>({}, rlhf::random_key{.seed = 1})};
  rlhf::adamw optimizer;
  workspace<float> work;
  std::vector<float> logits, d_logits, gradient(out.model.parameters.size());
  for (int step = 0; step < steps; ++step) {
    std::vector<std::int64_t> indices;
    for (int i = 0; i < 64; ++i) indices.push_back((64 * step + i) % static_cast<std::int64_t>(names.size()));
    const token_sequences batch = select(names, indices);
    const align::predictions wanted = predict(batch);
    out.model.forward(pool, batch, work);
    logits.resize(wanted.rows.size() * 29);
    out.model.logits(pool, work, wanted.rows, logits);
    const double loss = likelihood(logits, wanted.targets, d_logits);
    (step == 0 ? out.first_loss : out.last_loss) = loss;
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    out.model.backward(pool, work, {.rows = wanted.rows, .logits = d_logits}, gradient);
    rlhf::clip_gradient_norm(gradient, 1);
    optimizer.step(out.model.parameters, gradient, 3e-3);
  }
  return out;
}

}  // namespace

TEST_CASE("predictions are the tokens after the prompt, in the frame of the tokens before them") {
  token_sequences batch;
  batch.append(std::vector{5, 6, 7});
  batch.append(std::vector{8});
  batch.append(std::vector<std::int32_t>{});
  batch.append(std::vector{9, 10});
  const auto all = align::predict(batch);
  CHECK(all.rows == std::vector<std::int64_t>{0, 1, 4});
  CHECK(all.targets == std::vector<std::int32_t>{6, 7, 10});
  CHECK(all.offsets == std::vector<std::int64_t>{0, 2, 2, 2, 3});
  const std::vector<std::int64_t> prompts{2, 1, 0, 2};
  const auto some = align::predict(batch, prompts);
  CHECK(some.rows == std::vector<std::int64_t>{1});
  CHECK(some.offsets == std::vector<std::int64_t>{0, 1, 1, 1, 1});
  CHECK_THROWS_AS(align::predict(batch, std::vector<std::int64_t>{1}), std::invalid_argument);
  CHECK_THROWS_AS(align::last_tokens(batch.offsets), std::invalid_argument);
  CHECK(align::last_tokens(std::vector<std::int64_t>{0, 3, 4}) == std::vector<std::int64_t>{2, 3});
}

TEST_CASE("a scalar model's gradient agrees with central differences, head and trunk") {
  scalar_model<double> model({.vocabulary = 7, .dimension = 8, .hidden = 6, .layers = 1, .heads = 2, .kv_heads = 1});
  for (std::size_t i = 0; i < 9; ++i)
    model.parameters[model.parameters.size() - 9 + i] = 0.3 * static_cast<double>(i) - 1;
  token_sequences batch;
  batch.append(std::vector{1, 2, 3, 4});
  batch.append(std::vector{6, 5});
  rlhf::thread_pool pool(1);
  workspace<double> work;
  const std::vector<std::int64_t> rows{5, 1, 3};
  const std::vector<double> d_values{1, -0.5, 2};
  std::vector<double> values(3);
  const auto loss = [&] {
    model.forward(pool, batch, work);
    model.values(work, rows, values);
    return values[0] - 0.5 * values[1] + 2 * values[2];
  };
  loss();
  std::vector<double> gradient(model.parameters.size()), scratch;
  model.backward(pool, work, rows, d_values, gradient, scratch);
  for (const auto& slice : model.slices()) {
    CAPTURE(slice.name);
    double worst = 0;
    for (auto i = static_cast<std::size_t>(slice.offset); i < static_cast<std::size_t>(slice.offset + slice.size);
         ++i) {
      const double kept = model.parameters[i];
      model.parameters[i] = kept + 1e-5;
      const double up = loss();
      model.parameters[i] = kept - 1e-5;
      const double down = loss();
      model.parameters[i] = kept;
      worst = std::max(worst, std::abs((up - down) / 2e-5 - gradient[i]));
    }
    CHECK(worst < 1e-7);
  }
  CHECK(gradient.back() == Approx(2.5));
}

TEST_CASE("a scalar model starts from a language model's trunk, with values of 0") {
  const language_model<float> policy({}, rlhf::random_key{.seed = 4});
  scalar_model<float> reward(policy);
  CHECK(reward.parameters.size() == policy.parameters.size() + 33);
  CHECK(reward.slices().back().offset + 1 == static_cast<std::int64_t>(reward.parameters.size()));
  rlhf::thread_pool pool(1);
  workspace<float> a, b;
  const token_sequences batch = align::name_tokens::prompts(2);
  policy.forward(pool, batch, a);
  reward.forward(pool, batch, b);
  CHECK(std::equal(a.hidden(1).begin(), a.hidden(1).end(), b.hidden(1).begin()));
  std::vector<float> values(1, 5.0f);
  reward.values(b, std::vector<std::int64_t>{1}, values);
  CHECK(values[0] == 0);
}

TEST_CASE("updates too small for bfloat16 are kept, and add up until passes see them") {
  language_model<float> model({}, rlhf::random_key{.seed = 4}, align::parameter_storage::bfloat16);
  // A scalar model of it stores its trunk so too, and reads its head as it is.
  scalar_model<float> reward(model);
  CHECK(reward.net.storage() == align::parameter_storage::bfloat16);
  rlhf::thread_pool pool(1);
  workspace<float> work;
  const token_sequences batch = align::name_tokens::prompts(2);
  reward.forward(pool, batch, work);
  std::vector<float> value(1);
  reward.parameters.back() = 1 + 0x1p-20f;
  reward.values(work, std::vector<std::int64_t>{0}, value);
  CHECK(value[0] == 1 + 0x1p-20f);

  for (float& p : model.parameters) p = static_cast<float>(rlhf::bfloat16(p));
  const auto logits = [&] {
    std::vector<float> out(29);
    model.forward(pool, batch, work);
    model.logits(pool, work, std::vector<std::int64_t>{0}, out);
    return out;
  };
  const std::vector<float> first = logits();
  // Half a unit of the last digit is 2^-9 to 2^-8 of a parameter.
  for (int step = 1; step <= 12; ++step) {
    for (float& p : model.parameters) p *= 1 + 0x1p-11f;
    if (step <= 4)
      CHECK(logits() == first);
    else if (step == 12)
      CHECK(logits() != first);
  }
}

TEST_CASE("training on names learns, with the same bits for 1, 2 and 3 threads") {
  const trained one = train(1, 120);
  CHECK(one.first_loss > 3.0);
  CHECK(one.last_loss < 2.5);
  CHECK(train(2, 120).model.parameters == one.model.parameters);
  CHECK(train(3, 120).model.parameters == one.model.parameters);

  rlhf::thread_pool pool(2);
  const auto drawn = sample(pool, one.model, align::name_tokens::prompts(64), {.key = {.seed = 1}});
  int finished = 0;
  for (const auto f : drawn.finished) finished += f;
  CHECK(finished > 60);
}
