#pragma once
// The forward and backward pass over chunks of a batch, behind transformer and workspace. For .cpp files only.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "align/model/buffer.hpp"
#include "align/model/transformer.hpp"
#include "align/model/weights.hpp"
#include "rlhf/core/numeric.hpp"

namespace align {

/// Sequences that are computed together, and where their activations are kept.
struct chunk {
  std::ptrdiff_t first_sequence, last_sequence, first_token, tokens;
  std::ptrdiff_t memory, exact;  ///< elements before it in what is kept
};

/// A chunk takes sequences until it has so many tokens: its activations then stay in the second cache.
inline constexpr std::ptrdiff_t chunk_tokens = 128;

/// The activations of a chunk: one layer after the other, then the input of the final norm. What may be kept in fewer bits lies in
/// `memory`; the scales of norms and softmaxes, few and delicate, in `exact`. Where nothing is kept all layers share one place.
template <class Scalar>
struct frame {
  using pieces = arena<Scalar>;
  const sizes<Scalar>& n;
  std::ptrdiff_t rows;
  bool kept;
  Scalar *memory, *exact;

  /// Right-hand sides of in-place products are read up to a panel past their end (see gemm.hpp).
  [[nodiscard]] static std::ptrdiff_t of_layer(const sizes<Scalar>& n, std::ptrdiff_t rows) {
    return 2 * pieces::rounded(rows * n.wide) + pieces::rounded(rows * n.wide_qkv + panel_columns<Scalar>) +
           pieces::rounded(rows * n.wide + panel_columns<Scalar>) + pieces::rounded(rows * 2 * n.wide_hidden);
  }
  [[nodiscard]] static std::ptrdiff_t exact_of_layer(const sizes<Scalar>& n, std::ptrdiff_t rows) {
    return 2 * pieces::rounded(rows) + pieces::rounded(2 * rows * n.heads);
  }
  [[nodiscard]] static std::ptrdiff_t elements(const sizes<Scalar>& n, std::ptrdiff_t rows, bool kept) {
    return (kept ? n.layers : 1) * of_layer(n, rows) + pieces::rounded(rows * n.wide);
  }
  [[nodiscard]] static std::ptrdiff_t exact_elements(const sizes<Scalar>& n, std::ptrdiff_t rows, bool kept) {
    return (kept ? n.layers : 1) * exact_of_layer(n, rows) + pieces::rounded(rows);
  }

  [[nodiscard]] Scalar* input(std::ptrdiff_t l) const { return memory + (kept ? l * of_layer(n, rows) : 0); }
  [[nodiscard]] Scalar* final_scale() const { return exact + (kept ? n.layers : 1) * exact_of_layer(n, rows); }
  [[nodiscard]] layer_memory<Scalar> layer(std::ptrdiff_t l) const {
    pieces from(input(l)), exactly(exact + (kept ? l * exact_of_layer(n, rows) : 0));
    layer_memory<Scalar> m{};
    m.input = from.take(rows * n.wide);
    m.qkv = from.take(rows * n.wide_qkv + panel_columns<Scalar>);
    m.attended = from.take(rows * n.wide + panel_columns<Scalar>);
    m.middle = from.take(rows * n.wide);
    m.gate_up = from.take(rows * 2 * n.wide_hidden);
    m.attention_scale = exactly.take(rows);
    m.ffn_scale = exactly.take(rows);
    static_assert(sizeof(softmax_state<Scalar>) == 2 * sizeof(Scalar));
    m.softmax = reinterpret_cast<softmax_state<Scalar>*>(exactly.take(2 * rows * n.heads));
    m.output = input(l + 1);
    return m;
  }
};

template <class Scalar>
struct workspace<Scalar>::state {
  sizes<Scalar> n{transformer_options{}};
  std::vector<std::int32_t> tokens, positions;
  std::vector<std::int64_t> offsets;
  std::vector<chunk> chunks;
  std::ptrdiff_t largest_chunk = 0, longest_sequence = 0;
  forward_weights<Scalar> weights;
  backward_weights<Scalar> transposed;
  activation_storage storage = activation_storage::full;
  buffer<Scalar> memory, exact, hidden_states, gradients;
  buffer<rlhf::bfloat16> rounded;
  Scalar* hidden = nullptr;

  scratch_memory<Scalar> scratch;

  void reserve_scratch(int threads) {
    const std::ptrdiff_t rows = largest_chunk, pieces = 10;
    const bool kept = storage != activation_storage::none;
    const std::ptrdiff_t elements = rows * (5 * n.wide + 4 * n.wide_hidden + n.wide_qkv) + n.wide +
                                    attention_scratch<Scalar>(n.attention(), longest_sequence);
    const std::ptrdiff_t passing =
        storage == activation_storage::full
            ? 0
            : frame<Scalar>::elements(n, rows, kept) + frame<Scalar>::exact_elements(n, rows, kept);
    scratch.reserve(threads, elements + passing + pieces * arena<Scalar>::rounded(1));
  }

  void plan(const token_batch& batch, activation_storage keep);
  [[nodiscard]] frame<Scalar> frame_of(const chunk& c, arena<Scalar>& pieces) const;
  void forward_chunk(const chunk& c, const Scalar* parameters, const Scalar* rotations);
  std::ptrdiff_t gather(const chunk& c, std::span<const std::int64_t> rows, Scalar* to, std::ptrdiff_t& first) const;
  void logits_chunk(const chunk& c, std::span<const std::int64_t> rows, Scalar* logits);
  void backward_chunk(const chunk& c, const Scalar* rotations, const output_gradient<Scalar>& output, Scalar* gradient);
};

/// Copies the batch, cuts it into chunks and lays out what is kept.
template <class Scalar>
void workspace<Scalar>::state::plan(const token_batch& batch, activation_storage keep) {
  storage = keep;
  tokens.assign(batch.tokens.begin(), batch.tokens.end());
  offsets.assign(batch.offsets.begin(), batch.offsets.end());
  positions.resize(tokens.size());
  chunks.clear();
  largest_chunk = longest_sequence = 0;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    const std::ptrdiff_t begin = offsets[s], length = offsets[s + 1] - begin, index = static_cast<std::ptrdiff_t>(s);
    for (std::ptrdiff_t i = 0; i < length; ++i)
      positions[static_cast<std::size_t>(begin + i)] = static_cast<std::int32_t>(i);
    if (chunks.empty() || chunks.back().tokens + length > chunk_tokens)
      chunks.push_back({.first_sequence = index,
                        .last_sequence = index,
                        .first_token = begin,
                        .tokens = 0,
                        .memory = 0,
                        .exact = 0});
    chunks.back().last_sequence = index + 1;
    chunks.back().tokens += length;
    largest_chunk = std::max(largest_chunk, chunks.back().tokens);
    longest_sequence = std::max(longest_sequence, length);
  }
  hidden_states.reserve(static_cast<std::ptrdiff_t>(tokens.size()) * n.wide);
  hidden = hidden_states.data();
  if (storage == activation_storage::none) return;
  std::ptrdiff_t elements = 0, exact_elements = 0;
  for (chunk& c : chunks) {
    c.memory = elements;
    c.exact = exact_elements;
    elements += frame<Scalar>::elements(n, c.tokens, true);
    exact_elements += frame<Scalar>::exact_elements(n, c.tokens, true);
  }
  exact.reserve(exact_elements);
  if (storage == activation_storage::full)
    memory.reserve(elements);
  else
    rounded.reserve(elements);
}

/// Where a chunk is worked on: where it is kept, or in scratch memory.
template <class Scalar>
frame<Scalar> workspace<Scalar>::state::frame_of(const chunk& c, arena<Scalar>& pieces) const {
  const bool kept = storage != activation_storage::none;
  Scalar* const at = storage == activation_storage::full ? memory.data() + c.memory
                                                         : pieces.take(frame<Scalar>::elements(n, c.tokens, kept));
  return {n, c.tokens, kept, at,
          kept ? exact.data() + c.exact : pieces.take(frame<Scalar>::exact_elements(n, c.tokens, kept))};
}

template <class Scalar>
void workspace<Scalar>::state::forward_chunk(const chunk& c, const Scalar* parameters, const Scalar* rotations) {
  const typename scratch_memory<Scalar>::lease leased(scratch);
  arena<Scalar> pieces = leased.pieces();
  Scalar* const normalized = pieces.take(c.tokens * n.wide);
  Scalar* const activation = pieces.take(c.tokens * n.wide_hidden);
  Scalar* const attention_memory = pieces.take(attention_scratch<Scalar>(n.attention(), longest_sequence));
  const frame<Scalar> f = frame_of(c, pieces);
  Scalar* x = f.input(0);
  for (std::ptrdiff_t i = 0; i < c.tokens; ++i, x += n.wide) {
    const Scalar* const from = parameters + tokens[static_cast<std::size_t>(c.first_token + i)] * n.dimension;
    read_parameters(from, n.dimension, weights.storage, x);
    std::fill(x + n.dimension, x + n.wide, Scalar{0});
  }
  for (std::ptrdiff_t l = 0; l < n.layers; ++l) {
    const layer_memory<Scalar> m = f.layer(l);
    const auto attend = [&] {
      for (std::ptrdiff_t s = c.first_sequence; s < c.last_sequence; ++s) {
        const std::ptrdiff_t first = offsets[static_cast<std::size_t>(s)];
        const std::ptrdiff_t length = offsets[static_cast<std::size_t>(s) + 1] - first, row = first - c.first_token;
        attention(n.attention(), length, m.qkv + row * n.wide_qkv, m.attended + row * n.wide, m.softmax + row * n.heads,
                  attention_memory);
      }
    };
    layer_forward(n, weights.layer[static_cast<std::size_t>(l)], c.tokens, positions.data() + c.first_token, rotations,
                  m, normalized, activation, attend);
  }
  rms_norm(c.tokens, n.dimension, f.input(n.layers), weights.final_norm.data(), n.epsilon,
           hidden + c.first_token * n.wide, f.final_scale());
  if (storage != activation_storage::bfloat16) return;
  rlhf::bfloat16* const to = rounded.data() + c.memory;
  const std::ptrdiff_t elements = frame<Scalar>::elements(n, c.tokens, true);
  for (std::ptrdiff_t i = 0; i < elements; ++i) to[i] = rlhf::bfloat16(static_cast<float>(f.memory[i]));
}

/// Copies the hidden states of those of `rows` that lie in the chunk; returns their number and the index of the first.
template <class Scalar>
std::ptrdiff_t workspace<Scalar>::state::gather(const chunk& c, std::span<const std::int64_t> rows, Scalar* to,
                                                std::ptrdiff_t& first) const {
  const auto begin = std::lower_bound(rows.begin(), rows.end(), c.first_token);
  const auto end = std::lower_bound(begin, rows.end(), c.first_token + c.tokens);
  first = begin - rows.begin();
  for (auto row = begin; row != end; ++row, to += n.wide)
    std::copy(hidden + *row * n.wide, hidden + (*row + 1) * n.wide, to);
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
  const frame<Scalar> f = frame_of(c, pieces);
  if (storage == activation_storage::bfloat16) {
    const rlhf::bfloat16* const from = rounded.data() + c.memory;
    const std::ptrdiff_t elements = frame<Scalar>::elements(n, c.tokens, true);
    for (std::ptrdiff_t i = 0; i < elements; ++i) f.memory[i] = static_cast<Scalar>(static_cast<float>(from[i]));
  }
  std::fill(dx, dx + rows * wide, Scalar{0});
  norm_backward(f.input(n.layers), weights.final_norm.data(), f.final_scale(), gradient + n.final_norm);

  for (std::ptrdiff_t l = n.layers; l-- > 0;) {
    const layer_memory<Scalar> m = f.layer(l);
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
                         m.softmax + row * n.heads, d_attended + row * wide, d_qkv + row * n.wide_qkv,
                         attention_memory);
    }
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      const Scalar* const angle = rotations + positions[static_cast<std::size_t>(c.first_token + i)] * n.head_width;
      rotate<true>(n.heads + n.kv_heads, n.head_width, angle, angle + n.head_width / 2, d_qkv + i * n.wide_qkv);
    }
    rms_norm_again(rows, n.dimension, m.input, w.attention_norm.data(), m.attention_scale, normalized);
    multiply_transposed(rows, n.qkv, n.dimension, d_qkv, n.wide_qkv, normalized, wide, gradient + offset.wq,
                        n.dimension);
    multiply(rows, d_qkv, n.wide_qkv, t.qkv, d_normalized, wide);
    norm_backward(m.input, w.attention_norm.data(), m.attention_scale, gradient + offset.attention_norm);
  }

  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    Scalar* const to = gradient + tokens[static_cast<std::size_t>(c.first_token + i)] * n.dimension;
    for (std::ptrdiff_t j = 0; j < n.dimension; ++j) to[j] += dx[i * wide + j];
  }
}

}  // namespace align
