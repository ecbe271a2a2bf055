#include "align/transformer.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "align/buffer.hpp"
#include "align/subnormals.hpp"
#include "align/weights.hpp"

namespace align {

namespace {

constexpr std::ptrdiff_t chunk_tokens = 128;  // a chunk's activations stay in the second cache
constexpr std::ptrdiff_t gradient_lanes = 16;  // partial gradients, and so the threads that a backward pass can use

[[noreturn]] void refuse(const char* what) { throw std::invalid_argument(std::string("transformer: ") + what); }

/// Sequences that are computed together.
struct chunk {
  std::ptrdiff_t first_sequence, last_sequence, first_token, tokens;
};

}  // namespace

template <class Scalar>
struct workspace<Scalar>::state {
  sizes<Scalar> n{transformer_options{}};
  std::vector<std::int32_t> tokens, positions;
  std::vector<std::int64_t> offsets;
  std::vector<chunk> chunks;
  std::ptrdiff_t largest_chunk = 0, longest_sequence = 0;
  forward_weights<Scalar> weights;
  backward_weights<Scalar> transposed;
  buffer<Scalar> activations, gradients;
  std::vector<softmax_state<Scalar>> softmax;
  Scalar* input = nullptr;  // of the final norm
  Scalar* final_scale = nullptr;
  Scalar* hidden = nullptr;
  std::vector<layer_memory<Scalar>> layer;

  scratch_memory<Scalar> scratch;

  void reserve_scratch(int threads) {
    const std::ptrdiff_t rows = largest_chunk, pieces = 10;
    const std::ptrdiff_t elements = rows * (5 * n.wide + 4 * n.wide_hidden + n.wide_qkv) + n.wide +
                                    attention_scratch<Scalar>(n.attention(), longest_sequence);
    scratch.reserve(threads, elements + pieces * arena<Scalar>::rounded(1));
  }

  void plan(const token_batch& batch);
  [[nodiscard]] layer_memory<Scalar> at(std::ptrdiff_t index, std::ptrdiff_t token) const;
  void forward_chunk(const chunk& c, const Scalar* parameters, const Scalar* rotations);
  std::ptrdiff_t gather(const chunk& c, std::span<const std::int64_t> rows, Scalar* to, std::ptrdiff_t& first) const;
  void logits_chunk(const chunk& c, std::span<const std::int64_t> rows, Scalar* logits);
  void backward_chunk(const chunk& c, const Scalar* rotations, const output_gradient<Scalar>& output, Scalar* gradient);
};

template <class Scalar>
workspace<Scalar>::workspace() : state_(std::make_unique<state>()) {}
template <class Scalar>
workspace<Scalar>::~workspace() = default;
template <class Scalar>
workspace<Scalar>::workspace(workspace&&) noexcept = default;
template <class Scalar>
workspace<Scalar>& workspace<Scalar>::operator=(workspace&&) noexcept = default;

template <class Scalar>
std::int64_t workspace<Scalar>::tokens() const {
  return static_cast<std::int64_t>(state_->tokens.size());
}

template <class Scalar>
std::span<const Scalar> workspace<Scalar>::hidden(std::int64_t token) const {
  return {state_->hidden + token * state_->n.wide, static_cast<std::size_t>(state_->n.dimension)};
}

/// Copies the batch, cuts it into chunks and lays out the activations.
template <class Scalar>
void workspace<Scalar>::state::plan(const token_batch& batch) {
  tokens.assign(batch.tokens.begin(), batch.tokens.end());
  offsets.assign(batch.offsets.begin(), batch.offsets.end());
  positions.resize(tokens.size());
  chunks.clear();
  largest_chunk = longest_sequence = 0;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    const std::ptrdiff_t begin = offsets[s], length = offsets[s + 1] - begin, index = static_cast<std::ptrdiff_t>(s);
    for (std::ptrdiff_t i = 0; i < length; ++i) positions[static_cast<std::size_t>(begin + i)] = static_cast<std::int32_t>(i);
    if (chunks.empty() || chunks.back().tokens + length > chunk_tokens) chunks.push_back({index, index, begin, 0});
    chunks.back().last_sequence = index + 1;
    chunks.back().tokens += length;
    largest_chunk = std::max(largest_chunk, chunks.back().tokens);
    longest_sequence = std::max(longest_sequence, length);
  }
  const auto rows = static_cast<std::ptrdiff_t>(tokens.size());
  using pieces = arena<Scalar>;
  const std::ptrdiff_t wide = pieces::rounded(rows * n.wide), single = pieces::rounded(rows);
  const std::ptrdiff_t qkv = pieces::rounded(rows * n.wide_qkv), gate_up = pieces::rounded(rows * 2 * n.wide_hidden);
  activations.reserve(2 * wide + single + n.layers * (3 * wide + 2 * single + qkv + gate_up));
  softmax.resize(static_cast<std::size_t>(n.layers * rows * n.heads));
  pieces memory(activations.data());
  layer.clear();
  for (std::ptrdiff_t l = 0; l < n.layers; ++l)
    layer.push_back({memory.take(wide), memory.take(single), memory.take(qkv), softmax.data() + l * rows * n.heads,
                     memory.take(wide), memory.take(wide), memory.take(single), memory.take(gate_up), nullptr});
  input = memory.take(wide);
  final_scale = memory.take(single);
  hidden = memory.take(wide);
  for (std::size_t l = 0; l < layer.size(); ++l) layer[l].output = l + 1 < layer.size() ? layer[l + 1].input : input;
}

/// The memory of a layer from one token on.
template <class Scalar>
layer_memory<Scalar> workspace<Scalar>::state::at(std::ptrdiff_t index, std::ptrdiff_t token) const {
  layer_memory<Scalar> m = layer[static_cast<std::size_t>(index)];
  m.input += token * n.wide;
  m.attention_scale += token;
  m.qkv += token * n.wide_qkv;
  m.softmax += token * n.heads;
  m.attended += token * n.wide;
  m.middle += token * n.wide;
  m.ffn_scale += token;
  m.gate_up += token * 2 * n.wide_hidden;
  m.output += token * n.wide;
  return m;
}

template <class Scalar>
void workspace<Scalar>::state::forward_chunk(const chunk& c, const Scalar* parameters, const Scalar* rotations) {
  const typename scratch_memory<Scalar>::lease leased(scratch);
  arena<Scalar> pieces = leased.pieces();
  Scalar* const normalized = pieces.take(c.tokens * n.wide);
  Scalar* const activation = pieces.take(c.tokens * n.wide_hidden);
  Scalar* const attention_memory = pieces.take(attention_scratch<Scalar>(n.attention(), longest_sequence));
  Scalar* x = at(0, c.first_token).input;
  for (std::ptrdiff_t i = 0; i < c.tokens; ++i, x += n.wide) {
    const Scalar* const from = parameters + tokens[static_cast<std::size_t>(c.first_token + i)] * n.dimension;
    std::copy(from, from + n.dimension, x);
    std::fill(x + n.dimension, x + n.wide, Scalar{0});
  }
  for (std::ptrdiff_t l = 0; l < n.layers; ++l) {
    const layer_memory<Scalar> m = at(l, c.first_token);
    const auto attend = [&] {
      for (std::ptrdiff_t s = c.first_sequence; s < c.last_sequence; ++s) {
        const std::ptrdiff_t first = offsets[static_cast<std::size_t>(s)];
        const std::ptrdiff_t length = offsets[static_cast<std::size_t>(s) + 1] - first, row = first - c.first_token;
        attention(n.attention(), length, m.qkv + row * n.wide_qkv, m.attended + row * n.wide,
                  m.softmax + row * n.heads, attention_memory);
      }
    };
    layer_forward(n, weights.layer[static_cast<std::size_t>(l)], c.tokens, positions.data() + c.first_token, rotations, m,
                  normalized, activation, attend);
  }
  rms_norm(c.tokens, n.dimension, input + c.first_token * n.wide, weights.final_norm.data(), n.epsilon,
           hidden + c.first_token * n.wide, final_scale + c.first_token);
}

/// Copies the hidden states of those of `rows` that lie in the chunk; returns their number and the index of the first.
template <class Scalar>
std::ptrdiff_t workspace<Scalar>::state::gather(const chunk& c, std::span<const std::int64_t> rows, Scalar* to,
                                                std::ptrdiff_t& first) const {
  const auto begin = std::lower_bound(rows.begin(), rows.end(), c.first_token);
  const auto end = std::lower_bound(begin, rows.end(), c.first_token + c.tokens);
  first = begin - rows.begin();
  for (auto row = begin; row != end; ++row, to += n.wide) std::copy(hidden + *row * n.wide, hidden + (*row + 1) * n.wide, to);
  return end - begin;
}

template <class Scalar>
void workspace<Scalar>::state::logits_chunk(const chunk& c, std::span<const std::int64_t> rows, Scalar* logits) {
  const typename scratch_memory<Scalar>::lease leased(scratch);
  Scalar* const gathered = leased.pieces().take(c.tokens * n.wide);
  std::ptrdiff_t first = 0;
  const std::ptrdiff_t count = gather(c, rows, gathered, first);
  multiply(count, gathered, n.wide, weights.head, logits + first * n.vocabulary, n.vocabulary);
}

template <class Scalar>
void workspace<Scalar>::state::backward_chunk(const chunk& c, const Scalar* rotations,
                                              const output_gradient<Scalar>& output, Scalar* gradient) {
  const typename scratch_memory<Scalar>::lease leased(scratch);
  arena<Scalar> pieces = leased.pieces();
  const std::ptrdiff_t rows = c.tokens, wide = n.wide, wide_hidden = n.wide_hidden;
  Scalar* const normalized = pieces.take(rows * wide);
  Scalar* const activation = pieces.take(rows * wide_hidden);
  Scalar* const dx = pieces.take(rows * wide);
  Scalar* const d_normalized = pieces.take(rows * wide);
  Scalar* const d_attended = pieces.take(rows * wide);
  Scalar* const d_qkv = pieces.take(rows * n.wide_qkv);
  Scalar* const d_activation = pieces.take(rows * wide_hidden);
  Scalar* const d_gate_up = pieces.take(rows * 2 * wide_hidden);
  Scalar* const d_norm = pieces.take(wide);
  Scalar* const attention_memory = pieces.take(attention_scratch<Scalar>(n.attention(), longest_sequence));

  const auto norm_backward = [&](const Scalar* x, const Scalar* weight, const Scalar* scale, Scalar* d_weight) {
    std::fill(d_norm, d_norm + wide, Scalar{0});
    rms_norm_backward(rows, n.dimension, x, weight, scale, d_normalized, dx, d_norm);
    for (std::ptrdiff_t j = 0; j < n.dimension; ++j) d_weight[j] += d_norm[j];
  };

  // The outputs: d_normalized is the gradient of the final hidden states.
  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    Scalar* const to = d_normalized + i * wide;
    std::fill(to, to + wide, Scalar{0});
    if (output.hidden.empty()) continue;
    const Scalar* const from = output.hidden.data() + (c.first_token + i) * n.dimension;
    std::copy(from, from + n.dimension, to);
  }
  std::ptrdiff_t first_row = 0;
  if (const std::ptrdiff_t count = gather(c, output.rows, normalized, first_row); count > 0) {
    const Scalar* const d_logits = output.logits.data() + first_row * n.vocabulary;
    multiply(count, d_logits, n.vocabulary, transposed.head, d_attended, wide);
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      const std::ptrdiff_t row = output.rows[static_cast<std::size_t>(first_row + i)] - c.first_token;
      for (std::ptrdiff_t j = 0; j < n.dimension; ++j) d_normalized[row * wide + j] += d_attended[i * wide + j];
    }
    multiply_transposed(count, n.vocabulary, n.dimension, d_logits, n.vocabulary, normalized, wide, gradient,
                        n.dimension);
  }
  std::fill(dx, dx + rows * wide, Scalar{0});
  norm_backward(input + c.first_token * wide, weights.final_norm.data(), final_scale + c.first_token,
                gradient + n.final_norm);

  for (std::ptrdiff_t l = n.layers; l-- > 0;) {
    const layer_memory<Scalar> m = at(l, c.first_token);
    const layer_offsets offset = n.layer(l);
    const auto& w = weights.layer[static_cast<std::size_t>(l)];
    const auto& t = transposed.layer[static_cast<std::size_t>(l)];

    multiply(rows, dx, wide, t.down, d_activation, wide_hidden);
    swiglu_backward(rows, wide_hidden, m.gate_up, d_activation, d_gate_up, activation);
    multiply_transposed(rows, n.dimension, n.hidden, dx, wide, activation, wide_hidden, gradient + offset.w2, n.hidden);
    rms_norm_again(rows, n.dimension, m.middle, w.ffn_norm.data(), m.ffn_scale, normalized);
    multiply_transposed(rows, n.hidden, n.dimension, d_gate_up, 2 * wide_hidden, normalized, wide, gradient + offset.w1,
                        n.dimension);
    multiply_transposed(rows, n.hidden, n.dimension, d_gate_up + wide_hidden, 2 * wide_hidden, normalized, wide,
                        gradient + offset.w3, n.dimension);
    multiply(rows, d_gate_up, 2 * wide_hidden, t.gate_up, d_normalized, wide);
    norm_backward(m.middle, w.ffn_norm.data(), m.ffn_scale, gradient + offset.ffn_norm);

    multiply(rows, dx, wide, t.wo, d_attended, wide);
    multiply_transposed(rows, n.dimension, n.dimension, dx, wide, m.attended, wide, gradient + offset.wo, n.dimension);
    for (std::ptrdiff_t s = c.first_sequence; s < c.last_sequence; ++s) {
      const std::ptrdiff_t first = offsets[static_cast<std::size_t>(s)];
      const std::ptrdiff_t length = offsets[static_cast<std::size_t>(s) + 1] - first, row = first - c.first_token;
      attention_backward(n.attention(), length, m.qkv + row * n.wide_qkv, m.attended + row * wide,
                         m.softmax + row * n.heads, d_attended + row * wide, d_qkv + row * n.wide_qkv, attention_memory);
    }
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      const Scalar* const angle = rotations + positions[static_cast<std::size_t>(c.first_token + i)] * n.head_width;
      rotate<true>(n.heads + n.kv_heads, n.head_width, angle, angle + n.head_width / 2, d_qkv + i * n.wide_qkv);
    }
    rms_norm_again(rows, n.dimension, m.input, w.attention_norm.data(), m.attention_scale, normalized);
    multiply_transposed(rows, n.qkv, n.dimension, d_qkv, n.wide_qkv, normalized, wide, gradient + offset.wq, n.dimension);
    multiply(rows, d_qkv, n.wide_qkv, t.qkv, d_normalized, wide);
    norm_backward(m.input, w.attention_norm.data(), m.attention_scale, gradient + offset.attention_norm);
  }

  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    Scalar* const to = gradient + tokens[static_cast<std::size_t>(c.first_token + i)] * n.dimension;
    for (std::ptrdiff_t j = 0; j < n.dimension; ++j) to[j] += dx[i * wide + j];
  }
}

template <class Scalar>
transformer<Scalar>::transformer(const transformer_options& options) : options_(options) {
  const transformer_options& o = options_;
  if (o.vocabulary < 1 || o.dimension < 1 || o.hidden < 1 || o.layers < 1 || o.heads < 1 || o.kv_heads < 1 || o.context < 1)
    refuse("every size must be at least 1");
  if (o.dimension % o.heads != 0 || o.dimension / o.heads % 2 != 0) refuse("heads must divide dimension into an even width");
  if (o.heads % o.kv_heads != 0) refuse("kv_heads must divide heads");

  const sizes<Scalar> n(o);
  const auto add = [&](std::string name, std::vector<std::int64_t> shape) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : shape) elements *= extent;
    slices_.push_back({std::move(name), std::move(shape), size_, elements});
    size_ += elements;
  };
  add("tok_embeddings.weight", {n.vocabulary, n.dimension});
  for (std::ptrdiff_t l = 0; l < n.layers; ++l) {
    const std::string layer = "layers." + std::to_string(l) + ".";
    add(layer + "attention_norm.weight", {n.dimension});
    add(layer + "attention.wq.weight", {n.dimension, n.dimension});
    add(layer + "attention.wk.weight", {n.kv, n.dimension});
    add(layer + "attention.wv.weight", {n.kv, n.dimension});
    add(layer + "attention.wo.weight", {n.dimension, n.dimension});
    add(layer + "ffn_norm.weight", {n.dimension});
    add(layer + "feed_forward.w1.weight", {n.hidden, n.dimension});
    add(layer + "feed_forward.w3.weight", {n.hidden, n.dimension});
    add(layer + "feed_forward.w2.weight", {n.dimension, n.hidden});
  }
  add("norm.weight", {n.dimension});

  const std::ptrdiff_t half = n.head_width / 2;
  for (std::ptrdiff_t position = 0; position < n.context; ++position) {
    std::vector<Scalar> sines;
    for (std::ptrdiff_t i = 0; i < half; ++i) {
      const double frequency = std::pow(o.rope_theta, -static_cast<double>(i) / static_cast<double>(half));
      rotations_.push_back(static_cast<Scalar>(std::cos(static_cast<double>(position) * frequency)));
      sines.push_back(static_cast<Scalar>(std::sin(static_cast<double>(position) * frequency)));
    }
    rotations_.insert(rotations_.end(), sines.begin(), sines.end());
  }
}

template <class Scalar>
const parameter_slice& transformer<Scalar>::slice(const std::string& name) const {
  for (const parameter_slice& s : slices_)
    if (s.name == name) return s;
  throw std::invalid_argument("transformer: no parameters are named " + name);
}

template <class Scalar>
void transformer<Scalar>::initialize(std::span<Scalar> parameters, rlhf::random_key key) const {
  if (static_cast<std::int64_t>(parameters.size()) != size_) refuse("parameters have the wrong size");
  const rlhf::random_numbers numbers(key);
  const auto ends_with = [](const std::string& name, const char* end) { return name.find(end) != std::string::npos; };
  for (std::uint32_t s = 0; s < slices_.size(); ++s) {
    const parameter_slice& slice = slices_[s];
    const bool joins = ends_with(slice.name, ".wo.") || ends_with(slice.name, ".w2.");
    const double deviation = 1 / std::sqrt(static_cast<double>(slice.shape.back()) * (joins ? 2 * options_.layers : 1));
    Scalar* const to = parameters.data() + slice.offset;
    for (std::int64_t i = 0; i < slice.size; ++i)
      to[i] = slice.shape.size() == 1
                  ? Scalar{1}
                  : static_cast<Scalar>(deviation * numbers.normal({.prompt = s, .position = static_cast<std::uint32_t>(i)}));
  }
}

template <class Scalar>
void transformer<Scalar>::forward(rlhf::thread_pool& pool, std::span<const Scalar> parameters, const token_batch& batch,
                                  workspace<Scalar>& work) const {
  if (static_cast<std::int64_t>(parameters.size()) != size_) refuse("parameters have the wrong size");
  if (batch.offsets.empty() || batch.offsets.front() != 0 ||
      batch.offsets.back() != static_cast<std::int64_t>(batch.tokens.size()))
    refuse("offsets must go from 0 to the number of tokens");
  for (std::size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    const std::int64_t length = batch.offsets[i + 1] - batch.offsets[i];
    if (length < 0) refuse("offsets must not decrease");
    if (length > options_.context) refuse("a sequence is longer than the context");
  }
  for (const std::int32_t token : batch.tokens)
    if (token < 0 || token >= options_.vocabulary) refuse("a token is outside the vocabulary");

  auto& state = *work.state_;
  state.n = sizes<Scalar>(options_);
  state.plan(batch);
  state.reserve_scratch(pool.size());
  state.weights.take(state.n, parameters.data());
  pool.run(static_cast<std::int64_t>(state.chunks.size()), [&](std::int64_t i) {
    const flushed_subnormals flushed;
    state.forward_chunk(state.chunks[static_cast<std::size_t>(i)], parameters.data(), rotations_.data());
  });
}

namespace {

void check_rows(std::span<const std::int64_t> rows, std::int64_t tokens) {
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i] < 0 || rows[i] >= tokens || (i > 0 && rows[i] <= rows[i - 1]))
      refuse("rows must be tokens of the last forward pass, ascending");
}

}  // namespace

template <class Scalar>
void transformer<Scalar>::logits(rlhf::thread_pool& pool, const workspace<Scalar>& work, std::span<const std::int64_t> rows,
                                 std::span<Scalar> logits) const {
  auto& state = *work.state_;
  check_rows(rows, work.tokens());
  if (logits.size() != rows.size() * static_cast<std::size_t>(options_.vocabulary)) refuse("logits have the wrong size");
  state.reserve_scratch(pool.size());
  pool.run(static_cast<std::int64_t>(state.chunks.size()), [&](std::int64_t i) {
    const flushed_subnormals flushed;
    state.logits_chunk(state.chunks[static_cast<std::size_t>(i)], rows, logits.data());
  });
}

template <class Scalar>
void transformer<Scalar>::backward(rlhf::thread_pool& pool, std::span<const Scalar> parameters, workspace<Scalar>& work,
                                   const output_gradient<Scalar>& output, std::span<Scalar> gradient) const {
  auto& state = *work.state_;
  const auto parameter_count = static_cast<std::size_t>(size_);
  if (parameters.size() != parameter_count) refuse("parameters have the wrong size");
  if (gradient.size() != parameter_count) refuse("gradient has the wrong size");
  if (state.n.parameters != size_) refuse("the last forward pass was that of another model");
  check_rows(output.rows, work.tokens());
  if (output.logits.size() != output.rows.size() * static_cast<std::size_t>(options_.vocabulary))
    refuse("logit gradients have the wrong size");
  if (!output.hidden.empty() && output.hidden.size() != state.tokens.size() * static_cast<std::size_t>(options_.dimension))
    refuse("hidden gradients have the wrong size");

  const auto chunks = static_cast<std::ptrdiff_t>(state.chunks.size());
  const std::ptrdiff_t parts = std::min(chunks, gradient_lanes), stride = arena<Scalar>::rounded(size_);
  state.reserve_scratch(pool.size());
  state.gradients.reserve(parts * stride);
  state.transposed.take(state.n, parameters.data());
  pool.run(parts, [&](std::int64_t part) {
    const flushed_subnormals flushed;
    Scalar* const sum = state.gradients.data() + part * stride;
    std::fill(sum, sum + size_, Scalar{0});
    for (std::ptrdiff_t c = part * chunks / parts; c < (part + 1) * chunks / parts; ++c)
      state.backward_chunk(state.chunks[static_cast<std::size_t>(c)], rotations_.data(), output, sum);
  });
  constexpr std::ptrdiff_t step = 8192;
  pool.run((size_ + step - 1) / step, [&](std::int64_t i) {
    const flushed_subnormals flushed;
    for (std::ptrdiff_t part = 0; part < parts; ++part) {
      const Scalar* const from = state.gradients.data() + part * stride;
      for (std::ptrdiff_t j = i * step; j < std::min<std::ptrdiff_t>((i + 1) * step, size_); ++j)
        gradient[static_cast<std::size_t>(j)] += from[j];
    }
  });
}

template class transformer<float>;
template class transformer<double>;
template class workspace<float>;
template class workspace<double>;

}  // namespace align
