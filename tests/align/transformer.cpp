// The transformer against a plain implementation, its gradient against finite differences, and its promises about bits.

#include "align/model/transformer.hpp"

#include <cmath>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "rlhf/core/numeric.hpp"
#include "support/catch.hpp"

using align::activation_storage;
using align::parameter_storage;
using align::token_sequences;
using align::transformer;
using align::transformer_options;
using align::workspace;

namespace {

const rlhf::random_numbers numbers{{.seed = 7}};

/// Odd sizes, shared keys, and one sequence longer than a tile of attention and than a chunk of tokens.
const transformer_options odd{
    .vocabulary = 11, .dimension = 12, .hidden = 10, .layers = 2, .heads = 6, .kv_heads = 2, .context = 140};

token_sequences random_sequences(std::span<const int> lengths, int vocabulary, std::uint32_t which = 0) {
  token_sequences out;
  for (std::uint32_t s = 0; s < lengths.size(); ++s) {
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < lengths[s]; ++i)
      tokens.push_back(static_cast<std::int32_t>(
          numbers.integer(static_cast<std::uint32_t>(vocabulary),
                          {.prompt = which, .sample = s, .position = static_cast<std::uint32_t>(i)})));
    out.append(tokens);
  }
  return out;
}

template <class Scalar>
std::vector<Scalar> normals(std::size_t n, std::uint32_t which) {
  std::vector<Scalar> out(n);
  for (std::size_t i = 0; i < n; ++i)
    out[i] =
        static_cast<Scalar>(numbers.normal({.prompt = which, .position = static_cast<std::uint32_t>(i), .draw = 1}));
  return out;
}

template <class Scalar>
std::vector<Scalar> initial(const transformer<Scalar>& net) {
  std::vector<Scalar> parameters(static_cast<std::size_t>(net.size()));
  net.initialize(parameters, {.seed = 3});
  // Norm weights of exactly 1 would hide a missing factor.
  for (const auto& slice : net.slices())
    if (slice.shape.size() == 1)
      for (std::int64_t i = 0; i < slice.size; ++i)
        parameters[static_cast<std::size_t>(slice.offset + i)] += Scalar(0.1) * static_cast<Scalar>(i % 5);
  return parameters;
}

template <class Scalar>
std::vector<Scalar> rounded(std::vector<Scalar> parameters) {
  for (Scalar& p : parameters) p = static_cast<Scalar>(static_cast<float>(rlhf::bfloat16(static_cast<float>(p))));
  return parameters;
}

template <class Scalar>
std::vector<std::int64_t> all_rows(const workspace<Scalar>& work) {
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < work.tokens(); ++i) rows.push_back(i);
  return rows;
}

/// The logits of every position of one sequence, straight from the definitions.
std::vector<double> plain_logits(const transformer<double>& net, const std::vector<double>& parameters,
                                 std::span<const std::int32_t> tokens) {
  using vector = std::vector<double>;
  const auto& o = net.options();
  const int d = o.dimension, width = d / o.heads, length = static_cast<int>(tokens.size());
  const auto weight = [&](const std::string& name) { return parameters.data() + net.slice(name).offset; };
  const auto times = [](const double* w, int outputs, const vector& x) {
    vector y(static_cast<std::size_t>(outputs));
    for (std::size_t i = 0; i < y.size(); ++i)
      for (std::size_t j = 0; j < x.size(); ++j) y[i] += w[i * x.size() + j] * x[j];
    return y;
  };
  const auto norm = [&](const vector& x, const double* w) {
    double mean = 0;
    for (const double v : x) mean += v * v / d;
    vector y = x;
    for (std::size_t i = 0; i < y.size(); ++i) y[i] *= w[i] / std::sqrt(mean + o.norm_epsilon);
    return y;
  };
  const auto rotate = [&](vector& x, int position) {
    for (int i = 0; i < static_cast<int>(x.size()); i += 2) {
      const double angle = position * std::pow(o.rope_theta, -(i % width) / static_cast<double>(width));
      const auto at = static_cast<std::size_t>(i);
      const double a = x[at], b = x[at + 1];
      x[at] = a * std::cos(angle) - b * std::sin(angle);
      x[at + 1] = a * std::sin(angle) + b * std::cos(angle);
    }
  };
  std::vector<vector> x;
  for (const std::int32_t token : tokens) {
    const double* const row = weight("tok_embeddings.weight") + token * d;
    x.emplace_back(row, row + d);
  }
  for (int l = 0; l < o.layers; ++l) {
    const std::string layer = "layers." + std::to_string(l) + ".";
    std::vector<vector> q, k, v;
    for (int t = 0; t < length; ++t) {
      const vector h = norm(x[static_cast<std::size_t>(t)], weight(layer + "attention_norm.weight"));
      q.push_back(times(weight(layer + "attention.wq.weight"), d, h));
      k.push_back(times(weight(layer + "attention.wk.weight"), o.kv_heads * width, h));
      v.push_back(times(weight(layer + "attention.wv.weight"), o.kv_heads * width, h));
      rotate(q.back(), t);
      rotate(k.back(), t);
    }
    for (int t = 0; t < length; ++t) {
      vector attended(static_cast<std::size_t>(d));
      for (int head = 0; head < o.heads; ++head) {
        const int shared = head / (o.heads / o.kv_heads);
        vector p;
        double total = 0;
        for (int s = 0; s <= t; ++s) {
          double score = 0;
          for (int i = 0; i < width; ++i)
            score += q[static_cast<std::size_t>(t)][static_cast<std::size_t>(head * width + i)] *
                     k[static_cast<std::size_t>(s)][static_cast<std::size_t>(shared * width + i)];
          p.push_back(std::exp(score / std::sqrt(width)));
          total += p.back();
        }
        for (int s = 0; s <= t; ++s)
          for (int i = 0; i < width; ++i)
            attended[static_cast<std::size_t>(head * width + i)] +=
                p[static_cast<std::size_t>(s)] / total *
                v[static_cast<std::size_t>(s)][static_cast<std::size_t>(shared * width + i)];
      }
      const vector out = times(weight(layer + "attention.wo.weight"), d, attended);
      for (std::size_t i = 0; i < out.size(); ++i) x[static_cast<std::size_t>(t)][i] += out[i];
    }
    for (vector& row : x) {
      const vector h = norm(row, weight(layer + "ffn_norm.weight"));
      vector gate = times(weight(layer + "feed_forward.w1.weight"), o.hidden, h);
      const vector up = times(weight(layer + "feed_forward.w3.weight"), o.hidden, h);
      for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      const vector out = times(weight(layer + "feed_forward.w2.weight"), d, gate);
      for (std::size_t i = 0; i < out.size(); ++i) row[i] += out[i];
    }
  }
  vector logits;
  for (const vector& row : x) {
    const vector y = times(weight("tok_embeddings.weight"), o.vocabulary, norm(row, weight("norm.weight")));
    logits.insert(logits.end(), y.begin(), y.end());
  }
  return logits;
}

/// Forward, logits and backward of one batch with fixed random output gradients; returns (logits, gradient).
template <class Scalar>
std::pair<std::vector<Scalar>, std::vector<Scalar>> run(const transformer<Scalar>& net,
                                                        const std::vector<Scalar>& parameters,
                                                        const token_sequences& batch, int threads) {
  rlhf::thread_pool pool(threads);
  workspace<Scalar> work;
  net.forward(pool, parameters, batch, work);
  const auto rows = all_rows(work);
  std::vector<Scalar> logits(rows.size() * static_cast<std::size_t>(net.options().vocabulary));
  net.logits(pool, work, rows, logits);
  const auto d_logits = normals<Scalar>(logits.size(), 100);
  const auto d_hidden = normals<Scalar>(batch.tokens.size() * static_cast<std::size_t>(net.options().dimension), 101);
  std::vector<Scalar> gradient(parameters.size());
  net.backward(pool, parameters, work, {.rows = rows, .logits = d_logits, .hidden = d_hidden}, gradient);
  return {logits, gradient};
}

}  // namespace

TEST_CASE("the layout has no gaps, names every tensor, and the default has the names model's size") {
  const transformer<float> net;
  std::int64_t next = 0;
  for (const auto& slice : net.slices()) {
    CHECK(slice.offset == next);
    std::int64_t elements = 1;
    for (const std::int64_t extent : slice.shape) elements *= extent;
    CHECK(slice.size == elements);
    next += slice.size;
  }
  CHECK(next == net.size());
  CHECK(net.size() == 29 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 88 + 2 * 32) + 32);
  CHECK(net.slices().size() == 1 + 2 * 9 + 1);
  CHECK((net.slice("layers.1.feed_forward.w2.weight").shape == std::vector<std::int64_t>{32, 88}));
  CHECK_THROWS_AS(net.slice("layers.2.attention.wq.weight"), std::invalid_argument);
}

TEST_CASE("the logits are those of a plain implementation") {
  const transformer<double> net(odd);
  const auto parameters = initial(net);
  const token_sequences batch = random_sequences(std::vector{3, 1, 0, 60, 8}, odd.vocabulary);
  const auto logits = run(net, parameters, batch, 1).first;
  std::vector<double> expected;
  for (std::size_t s = 0; s < batch.size(); ++s) {
    const auto part = plain_logits(net, parameters, batch[s]);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  REQUIRE(logits.size() == expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) worst = std::max(worst, std::abs(logits[i] - expected[i]));
  CHECK(worst < 1e-11);
}

TEST_CASE("the gradient of every parameter agrees with central differences") {
  const transformer<double> net(odd);
  auto parameters = initial(net);
  const token_sequences batch = random_sequences(std::vector{3, 1, 0, 55, 8}, odd.vocabulary);
  rlhf::thread_pool pool(1);
  workspace<double> work;
  std::vector<std::int64_t> rows;  // not all tokens' logits are used
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(batch.tokens.size()); ++i)
    if (i % 3 != 1) rows.push_back(i);
  const auto d_logits = normals<double>(rows.size() * 11, 1);
  const auto d_hidden = normals<double>(batch.tokens.size() * 12, 2);
  std::vector<double> logits(d_logits.size());
  const auto loss = [&] {
    net.forward(pool, parameters, batch, work);
    net.logits(pool, work, rows, logits);
    double sum = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) sum += d_logits[i] * logits[i];
    for (std::size_t t = 0; t < batch.tokens.size(); ++t)
      for (std::size_t j = 0; j < 12; ++j) sum += d_hidden[t * 12 + j] * work.hidden(static_cast<std::int64_t>(t))[j];
    return sum;
  };
  loss();
  std::vector<double> gradient(parameters.size(), 1.0);  // backward adds
  net.backward(pool, parameters, work, {.rows = rows, .logits = d_logits, .hidden = d_hidden}, gradient);
  constexpr double h = 1e-5;
  for (const auto& slice : net.slices()) {
    CAPTURE(slice.name);
    double worst = 0, largest = 0;
    for (auto i = static_cast<std::size_t>(slice.offset); i < static_cast<std::size_t>(slice.offset + slice.size);
         ++i) {
      const double kept = parameters[i];
      parameters[i] = kept + h;
      const double up = loss();
      parameters[i] = kept - h;
      const double down = loss();
      parameters[i] = kept;
      worst = std::max(worst, std::abs((up - down) / (2 * h) - (gradient[i] - 1)));
      largest = std::max(largest, std::abs(gradient[i] - 1));
    }
    CHECK(largest > 0.1);
    CHECK(worst < 1e-7 * largest + 1e-6);
  }
}

TEST_CASE("what a pass keeps changes no output; rounded activations give the gradient to bfloat16's digits") {
  const transformer<float> net(odd);
  const auto parameters = initial(net);
  const token_sequences batch = random_sequences(std::vector{3, 1, 0, 60, 8, 55, 70}, odd.vocabulary);
  for (const int threads : {1, 3}) {
    rlhf::thread_pool pool(threads);
    const auto pass = [&](activation_storage keep) {
      workspace<float> work;
      net.forward(pool, parameters, batch, work, keep);
      std::vector<float> logits(batch.tokens.size() * static_cast<std::size_t>(odd.vocabulary));
      net.logits(pool, work, all_rows(work), logits);
      std::vector<float> gradient(parameters.size());
      const auto d_logits = normals<float>(logits.size(), 100);
      const auto back = [&] {
        net.backward(pool, parameters, work, {.rows = all_rows(work), .logits = d_logits}, gradient);
      };
      if (keep == activation_storage::none)
        CHECK_THROWS_AS(back(), std::invalid_argument);
      else
        back();
      return std::pair{logits, gradient};
    };
    const auto full = pass(activation_storage::full), rounded = pass(activation_storage::bfloat16);
    CHECK(pass(activation_storage::none).first == full.first);
    CHECK(rounded.first == full.first);
    CHECK(rounded.second != full.second);
    double difference = 0, all = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      difference += std::pow(static_cast<double>(rounded.second[i]) - static_cast<double>(full.second[i]), 2);
      all += std::pow(static_cast<double>(full.second[i]), 2);
    }
    CHECK(std::sqrt(difference / all) < 0x1p-7);
  }
}

TEMPLATE_TEST_CASE("weights in bfloat16 give the bits of weights that were rounded before, gradients too", "", float,
                   double) {
  const transformer<TestType> exact(odd), stored(odd, parameter_storage::bfloat16);
  const auto parameters = initial(exact), before = rounded(parameters);
  const token_sequences batch = random_sequences(std::vector{3, 1, 0, 60, 8, 55, 70, 131}, odd.vocabulary);
  const auto expected = run(exact, before, batch, 1);
  for (const int threads : {1, 3}) {
    const auto [logits, gradient] = run(stored, parameters, batch, threads);
    CHECK(logits == expected.first);
    CHECK(gradient == expected.second);
  }
  CHECK(run(exact, parameters, batch, 1).first != expected.first);
  // Every tensor is rounded: the smallest change of one is not seen, and one that crosses to the next number is.
  for (const auto& slice : exact.slices()) {
    CAPTURE(slice.name);
    auto close = before, far = before;
    for (std::int64_t i = slice.offset; i < slice.offset + slice.size; ++i) {
      close[static_cast<std::size_t>(i)] *= TestType(1 + 0x1p-10);
      far[static_cast<std::size_t>(i)] *= TestType(1 + 0x1p-6);
    }
    CHECK(run(stored, close, batch, 1).first == expected.first);
    CHECK(run(stored, far, batch, 1).first != expected.first);
  }
}

TEST_CASE("the gradient through weights in bfloat16 is the slope at the rounded weights") {
  // Of a model whose weights are rounded and then moved: by differences of the model that does not round.
  const transformer<double> exact(odd), stored(odd, parameter_storage::bfloat16);
  const auto parameters = initial(exact);
  const auto at = rounded(parameters), direction = normals<double>(parameters.size(), 5);
  const token_sequences batch = random_sequences(std::vector{3, 1, 55, 8}, odd.vocabulary);
  const auto gradient = run(stored, parameters, batch, 1).second;
  const auto loss = [&](double step) {
    auto moved = at;
    for (std::size_t i = 0; i < moved.size(); ++i) moved[i] += step * direction[i];
    rlhf::thread_pool pool(1);
    workspace<double> work;
    exact.forward(pool, moved, batch, work);
    const auto rows = all_rows(work);
    std::vector<double> logits(rows.size() * static_cast<std::size_t>(odd.vocabulary));
    exact.logits(pool, work, rows, logits);
    const auto d_logits = normals<double>(logits.size(), 100);
    const auto d_hidden = normals<double>(batch.tokens.size() * static_cast<std::size_t>(odd.dimension), 101);
    double sum = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) sum += d_logits[i] * logits[i];
    for (const std::int64_t t : rows)
      for (std::size_t j = 0; j < 12; ++j) sum += d_hidden[static_cast<std::size_t>(t) * 12 + j] * work.hidden(t)[j];
    return sum;
  };
  double slope = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i) slope += gradient[i] * direction[i];
  CHECK(std::abs(slope) > 1);
  CHECK((loss(1e-6) - loss(-1e-6)) / 2e-6 == Approx(slope).epsilon(1e-6));
}

TEST_CASE("the memory that weights take is known before, and half of it in bfloat16 but for the norms") {
  const transformer_options large{
      .vocabulary = 64, .dimension = 64, .hidden = 128, .layers = 2, .heads = 4, .kv_heads = 4, .context = 16};
  for (const transformer_options& options : {odd, large}) {
    std::int64_t taken[2][2];
    for (const auto storage : {parameter_storage::full, parameter_storage::bfloat16}) {
      const transformer<float> net(options, storage);
      const auto parameters = initial(net);
      const token_sequences batch = random_sequences(std::vector{3, 5}, options.vocabulary);
      rlhf::thread_pool pool(1);
      workspace<float> work;
      net.forward(pool, parameters, batch, work);
      std::int64_t* const of = taken[storage == parameter_storage::full ? 0 : 1];
      of[0] = work.parameter_bytes();
      CHECK(of[0] == align::parameter_bytes<float>(options, storage, false));
      std::vector<float> gradient(parameters.size());
      net.backward(pool, parameters, work, {}, gradient);
      of[1] = work.parameter_bytes();
      CHECK(of[1] == align::parameter_bytes<float>(options, storage));
    }
    const std::int64_t pad = 64 / sizeof(float), norms = (2 * options.layers + 1) *
                                                         ((options.dimension + pad - 1) / pad * pad) *
                                                         static_cast<std::int64_t>(sizeof(float));
    for (const int way : {0, 1}) {
      CHECK(2 * taken[1][way] >= taken[0][way]);
      CHECK(2 * taken[1][way] <= taken[0][way] + norms);
    }
  }
  // Where nothing is padded there is an element for each parameter, the norms once.
  const std::int64_t norms = 5 * 64, matrices = align::parameter_count(large) - norms;
  CHECK(align::parameter_bytes<float>(large, parameter_storage::full) == 4 * (2 * matrices + norms));
  CHECK(align::parameter_bytes<float>(large, parameter_storage::bfloat16) == 2 * 2 * matrices + 4 * norms);
}

TEST_CASE("the memory that a pass takes is known before") {
  const transformer<float> net(odd);
  const auto parameters = initial(net);
  for (const int sequences : {1, 5, 40}) {
    const token_sequences batch =
        random_sequences(std::vector<int>(static_cast<std::size_t>(sequences), 30), odd.vocabulary);
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
    for (const auto keep : {activation_storage::none, activation_storage::full, activation_storage::bfloat16}) {
      rlhf::thread_pool pool(2);
      workspace<float> work;
      net.forward(pool, parameters, batch, work, keep);
      const std::int64_t said = align::activation_bytes<float>(odd, tokens, keep);
      CHECK(work.activation_bytes() <= said);
      CHECK(said - work.activation_bytes() <= said / 4);
      // All of it is more, and counts this pass alone whatever was there before.
      CHECK(work.bytes() > work.activation_bytes());
      const std::int64_t whole = work.bytes();
      net.forward(pool, parameters, random_sequences(std::vector<int>(80, 30), odd.vocabulary), work, keep);
      CHECK(work.bytes() > whole);
      net.forward(pool, parameters, batch, work, keep);
      CHECK(work.bytes() == whole);
    }
  }
}

TEST_CASE("logit gradients alone and hidden gradients alone add up to both") {
  const transformer<double> net(odd);
  const auto parameters = initial(net);
  const token_sequences batch = random_sequences(std::vector{9, 4}, odd.vocabulary);
  rlhf::thread_pool pool(1);
  workspace<double> work;
  net.forward(pool, parameters, batch, work);
  const auto rows = all_rows(work);
  const auto d_logits = normals<double>(rows.size() * 11, 1);
  const auto d_hidden = normals<double>(rows.size() * 12, 2);
  std::vector<double> both(parameters.size()), sum(parameters.size());
  net.backward(pool, parameters, work, {.rows = rows, .logits = d_logits, .hidden = d_hidden}, both);
  net.backward(pool, parameters, work, {.rows = rows, .logits = d_logits}, sum);
  net.backward(pool, parameters, work, {.hidden = d_hidden}, sum);
  double worst = 0;
  for (std::size_t i = 0; i < sum.size(); ++i) worst = std::max(worst, std::abs(both[i] - sum[i]));
  CHECK(worst < 1e-11);
}

TEST_CASE("float agrees with double in the names model") {
  const transformer<float> net;
  const transformer<double> exact;
  const auto parameters = initial(net);
  const token_sequences batch = random_sequences(std::vector<int>(40, 11), 29);
  const auto [logits, gradient] = run(net, parameters, batch, 2);
  const auto [logits64, gradient64] = run(exact, std::vector<double>(parameters.begin(), parameters.end()), batch, 1);
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (std::abs(static_cast<double>(logits[i]) - logits64[i]) > 2e-5) FAIL("logit " << i);
  for (const auto& slice : net.slices()) {
    double error = 0, size = 0;
    for (auto i = static_cast<std::size_t>(slice.offset); i < static_cast<std::size_t>(slice.offset + slice.size);
         ++i) {
      error += std::pow(static_cast<double>(gradient[i]) - gradient64[i], 2);
      size += std::pow(gradient64[i], 2);
    }
    CAPTURE(slice.name);
    CHECK(std::sqrt(error / size) < 1e-5);
  }
}

TEST_CASE("logits and gradients have the same bits for 1, 2 and 3 threads") {
  const transformer<float> net(odd);
  const auto parameters = initial(net);
  std::vector<int> lengths;
  for (int i = 0; i < 150; ++i) lengths.push_back(1 + 7 * i % 40);
  lengths[20] = 140;  // longer than a chunk
  const token_sequences batch = random_sequences(lengths, odd.vocabulary);
  const auto one = run(net, parameters, batch, 1);
  CHECK(run(net, parameters, batch, 2) == one);
  CHECK(run(net, parameters, batch, 3) == one);
}

TEST_CASE("a token's output depends on what comes before it in its sequence and on nothing else") {
  const transformer<float> net(odd);
  const auto parameters = initial(net);
  const token_sequences batch = random_sequences(std::vector{5, 61, 30, 12}, odd.vocabulary);
  rlhf::thread_pool pool(1);
  workspace<float> work, alone;
  net.forward(pool, parameters, batch, work);
  for (std::size_t s = 0; s < batch.size(); ++s)
    for (const std::size_t length : {batch[s].size(), batch[s].size() / 2}) {
      token_sequences prefix;
      prefix.append(batch[s].first(length));
      net.forward(pool, parameters, prefix, alone);
      for (std::size_t i = 0; i < length; ++i) {
        const auto a = work.hidden(batch.offsets[s] + static_cast<std::int64_t>(i));
        const auto b = alone.hidden(static_cast<std::int64_t>(i));
        REQUIRE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
      }
    }
}

TEST_CASE("a workspace serves models and batches of any size one after the other") {
  const transformer<float> large(odd),
      small({.vocabulary = 5, .dimension = 6, .hidden = 7, .layers = 1, .heads = 1, .kv_heads = 1});
  const auto large_parameters = initial(large), small_parameters = initial(small);
  const token_sequences many = random_sequences(std::vector{70, 70, 3}, 11),
                        few = random_sequences(std::vector{2, 3}, 5);
  rlhf::thread_pool pool(1);
  workspace<float> reused;
  const auto gradient = [&](const transformer<float>& net, const std::vector<float>& parameters,
                            const token_sequences& batch, workspace<float>& work) {
    net.forward(pool, parameters, batch, work);
    std::vector<float> g(parameters.size());
    const auto rows = all_rows(work);
    net.backward(
        pool, parameters, work,
        {.rows = rows, .logits = normals<float>(rows.size() * static_cast<std::size_t>(net.options().vocabulary), 3)},
        g);
    return g;
  };
  workspace<float> first, second;
  const auto a = gradient(large, large_parameters, many, first), b = gradient(small, small_parameters, few, second);
  CHECK(gradient(large, large_parameters, many, reused) == a);
  CHECK(gradient(small, small_parameters, few, reused) == b);
  CHECK(gradient(large, large_parameters, many, reused) == a);
}

TEST_CASE("empty batches are fine") {
  const transformer<float> net;
  const auto parameters = initial(net);
  rlhf::thread_pool pool(2);
  workspace<float> work;
  const std::vector<std::int64_t> nothing{0}, hollow{0, 0, 0};
  std::vector<float> gradient(parameters.size());
  for (const auto& offsets : {nothing, hollow}) {
    net.forward(pool, parameters, {{}, offsets}, work);
    CHECK(work.tokens() == 0);
    net.logits(pool, work, {}, {});
    net.backward(pool, parameters, work, {}, gradient);
  }
  CHECK(gradient == std::vector<float>(parameters.size()));
}

TEST_CASE("misuse is refused") {
  CHECK_THROWS_AS(transformer<float>({.dimension = 30, .heads = 4}), std::invalid_argument);
  CHECK_THROWS_AS(transformer<float>({.dimension = 12, .heads = 4}), std::invalid_argument);
  CHECK_THROWS_AS(transformer<float>({.heads = 4, .kv_heads = 3}), std::invalid_argument);
  CHECK_THROWS_AS(transformer<float>({.layers = 0}), std::invalid_argument);

  const transformer<float> net;
  auto parameters = initial(net);
  rlhf::thread_pool pool(1);
  workspace<float> work;
  const auto forward = [&](std::vector<std::int32_t> tokens, std::vector<std::int64_t> offsets) {
    net.forward(pool, parameters, {tokens, offsets}, work);
  };
  CHECK_THROWS_AS(forward({1, 2}, {0, 1}), std::invalid_argument);
  CHECK_THROWS_AS(forward({1, 2}, {0, 3, 2}), std::invalid_argument);
  CHECK_THROWS_AS(forward({1, 29}, {0, 2}), std::invalid_argument);
  CHECK_THROWS_AS(forward({1, -1}, {0, 2}), std::invalid_argument);
  CHECK_THROWS_AS(forward(std::vector<std::int32_t>(17), {0, 17}), std::invalid_argument);
  CHECK_THROWS_AS(net.forward(pool, std::span(parameters).first(5), {{}, {}}, work), std::invalid_argument);

  forward({1, 2, 3}, {0, 3});
  std::vector<float> logits(58), gradient(parameters.size());
  const std::vector<std::int64_t> good{0, 2}, outside{0, 3}, unsorted{2, 0};
  net.logits(pool, work, good, logits);
  CHECK_THROWS_AS(net.logits(pool, work, outside, logits), std::invalid_argument);
  CHECK_THROWS_AS(net.logits(pool, work, unsorted, logits), std::invalid_argument);
  CHECK_THROWS_AS(net.logits(pool, work, good, std::span(logits).first(29)), std::invalid_argument);
  CHECK_THROWS_AS(net.backward(pool, parameters, work, {.rows = good}, gradient), std::invalid_argument);
  CHECK_THROWS_AS(net.backward(pool, parameters, work, {.hidden = logits}, gradient), std::invalid_argument);
  CHECK_THROWS_AS(net.backward(pool, parameters, work, {}, std::span(gradient).first(3)), std::invalid_argument);
}
