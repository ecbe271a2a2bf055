#pragma once
// Where the parameters lie, and their copies in the layout that the matrix products read. For .cpp files only.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "align/model/attention.hpp"
#include "align/model/gemm.hpp"
#include "align/model/transformer.hpp"
#include "rlhf/core/numeric.hpp"

namespace align {

/// Offsets of one layer's tensors in the flat array. wq, wk, wv follow each other, so they are one matrix [d + 2 kv,
/// d].
struct layer_offsets {
  std::ptrdiff_t attention_norm, wq, wk, wv, wo, ffn_norm, w1, w3, w2;
};

/// The sizes of a model with everything that follows from them.
template <class Scalar>
struct sizes {
  std::ptrdiff_t vocabulary, dimension, hidden, layers, heads, kv_heads, context, head_width, kv, qkv;
  std::ptrdiff_t wide, wide_hidden, wide_qkv;  ///< rows padded to whole packs
  std::ptrdiff_t final_norm, parameters;       ///< offset of the final norm; number of parameters
  Scalar epsilon;

  explicit sizes(const transformer_options& o)
      : vocabulary(o.vocabulary),
        dimension(o.dimension),
        hidden(o.hidden),
        layers(o.layers),
        heads(o.heads),
        kv_heads(o.kv_heads),
        context(o.context),
        head_width(dimension / heads),
        kv(kv_heads * head_width),
        qkv(dimension + 2 * kv),
        wide(padded<Scalar>(dimension)),
        wide_hidden(padded<Scalar>(hidden)),
        wide_qkv(padded<Scalar>(qkv)),
        final_norm(layer(static_cast<std::ptrdiff_t>(o.layers)).attention_norm),
        parameters(final_norm + dimension),
        epsilon(static_cast<Scalar>(o.norm_epsilon)) {}

  [[nodiscard]] layer_offsets layer(std::ptrdiff_t index) const {
    const std::ptrdiff_t square = dimension * dimension, shared = kv * dimension, wider = hidden * dimension;
    layer_offsets at{};
    at.attention_norm = vocabulary * dimension + index * (2 * dimension + 2 * square + 2 * shared + 3 * wider);
    at.wq = at.attention_norm + dimension;
    at.wk = at.wq + square;
    at.wv = at.wk + shared;
    at.wo = at.wv + shared;
    at.ffn_norm = at.wo + square;
    at.w1 = at.ffn_norm + dimension;
    at.w3 = at.w1 + wider;
    at.w2 = at.w3 + wider;
    return at;
  }

  [[nodiscard]] attention_shape attention() const { return {heads, kv_heads, head_width, wide_qkv, wide}; }
};

/// `width` parameters as passes read them.
template <class Scalar>
void read_parameters(const Scalar* from, std::ptrdiff_t width, parameter_storage storage, Scalar* to) {
  if (storage == parameter_storage::full)
    std::copy(from, from + width, to);
  else
    std::transform(from, from + width, to, [](Scalar x) {
      return static_cast<Scalar>(static_cast<float>(rlhf::bfloat16(static_cast<float>(x))));
    });
}

/// Pads a vector of parameters with zeros to whole packs. It stays wide: there are few of these.
template <class Scalar>
void pad(const Scalar* from, std::ptrdiff_t width, parameter_storage storage, std::vector<Scalar>& to) {
  to.assign(static_cast<std::size_t>(padded<Scalar>(width)), Scalar{0});
  read_parameters(from, width, storage, to.data());
}

/// Memory of so many elements of matrices.
template <class Scalar>
std::ptrdiff_t matrix_bytes(std::ptrdiff_t elements, parameter_storage storage) {
  return elements *
         static_cast<std::ptrdiff_t>(storage == parameter_storage::full ? sizeof(Scalar) : sizeof(rlhf::bfloat16));
}
template <class Scalar>
std::ptrdiff_t bytes_of(const packed_matrix<Scalar>& matrix) {
  return static_cast<std::ptrdiff_t>(matrix.panels.size() * sizeof(Scalar) +
                                     matrix.rounded.size() * sizeof(rlhf::bfloat16));
}

/// The weights as the forward pass reads them: activations [tokens, inputs] times [inputs, outputs].
template <class Scalar>
struct forward_weights {
  struct layer_weights {
    std::vector<Scalar> attention_norm, ffn_norm;
    packed_matrix<Scalar> qkv, wo, gate_up, down;
  };
  std::vector<layer_weights> layer;
  std::vector<Scalar> final_norm;
  packed_matrix<Scalar> head;
  parameter_storage storage = parameter_storage::full;

  [[nodiscard]] static std::ptrdiff_t bytes(const sizes<Scalar>& n, parameter_storage how) {
    constexpr auto of = &packed_matrix<Scalar>::elements;
    const std::ptrdiff_t one = of(n.dimension, n.wide_qkv) + of(n.dimension, n.wide) +
                               of(n.dimension, 2 * n.wide_hidden) + of(n.hidden, n.wide);
    return matrix_bytes<Scalar>(n.layers * one + of(n.dimension, n.vocabulary), how) +
           (2 * n.layers + 1) * n.wide * static_cast<std::ptrdiff_t>(sizeof(Scalar));
  }
  [[nodiscard]] std::ptrdiff_t bytes() const {
    std::ptrdiff_t sum = bytes_of(head);
    std::size_t norms = final_norm.size();
    for (const layer_weights& w : layer) {
      sum += bytes_of(w.qkv) + bytes_of(w.wo) + bytes_of(w.gate_up) + bytes_of(w.down);
      norms += w.attention_norm.size() + w.ffn_norm.size();
    }
    return sum + static_cast<std::ptrdiff_t>(norms * sizeof(Scalar));
  }

  void take(const sizes<Scalar>& n, const Scalar* parameters, parameter_storage how) {
    storage = how;
    const bool rounded = how == parameter_storage::bfloat16;
    layer.resize(static_cast<std::size_t>(n.layers));
    for (std::ptrdiff_t l = 0; l < n.layers; ++l) {
      const layer_offsets at = n.layer(l);
      layer_weights& w = layer[static_cast<std::size_t>(l)];
      pad(parameters + at.attention_norm, n.dimension, how, w.attention_norm);
      pad(parameters + at.ffn_norm, n.dimension, how, w.ffn_norm);
      w.qkv.resize(n.dimension, n.wide_qkv, rounded);
      w.qkv.set_transposed(parameters + at.wq, n.qkv, n.dimension);
      w.wo.resize(n.dimension, n.wide, rounded);
      w.wo.set_transposed(parameters + at.wo, n.dimension, n.dimension);
      w.gate_up.resize(n.dimension, 2 * n.wide_hidden, rounded);
      w.gate_up.set_transposed(parameters + at.w1, n.hidden, n.dimension);
      w.gate_up.set_transposed(parameters + at.w3, n.hidden, n.dimension, 0, n.wide_hidden);
      w.down.resize(n.hidden, n.wide, rounded);
      w.down.set_transposed(parameters + at.w2, n.dimension, n.hidden);
    }
    pad(parameters + n.final_norm, n.dimension, how, final_norm);
    head.resize(n.dimension, n.vocabulary, rounded);
    head.set_transposed(parameters, n.vocabulary, n.dimension);
  }
};

/// The weights as the backward pass reads them: gradients [tokens, outputs] times [outputs, inputs].
template <class Scalar>
struct backward_weights {
  struct layer_weights {
    packed_matrix<Scalar> qkv, wo, gate_up, down;
  };
  std::vector<layer_weights> layer;
  packed_matrix<Scalar> head;

  [[nodiscard]] static std::ptrdiff_t bytes(const sizes<Scalar>& n, parameter_storage how) {
    constexpr auto of = &packed_matrix<Scalar>::elements;
    const std::ptrdiff_t one =
        of(n.qkv, n.wide) + of(n.dimension, n.wide) + of(2 * n.wide_hidden, n.wide) + of(n.dimension, n.wide_hidden);
    return matrix_bytes<Scalar>(n.layers * one + of(n.vocabulary, n.wide), how);
  }
  [[nodiscard]] std::ptrdiff_t bytes() const {
    std::ptrdiff_t sum = bytes_of(head);
    for (const layer_weights& w : layer)
      sum += bytes_of(w.qkv) + bytes_of(w.wo) + bytes_of(w.gate_up) + bytes_of(w.down);
    return sum;
  }

  void take(const sizes<Scalar>& n, const Scalar* parameters, parameter_storage how) {
    const bool rounded = how == parameter_storage::bfloat16;
    layer.resize(static_cast<std::size_t>(n.layers));
    for (std::ptrdiff_t l = 0; l < n.layers; ++l) {
      const layer_offsets at = n.layer(l);
      layer_weights& w = layer[static_cast<std::size_t>(l)];
      w.qkv.resize(n.qkv, n.wide, rounded);
      w.qkv.set(parameters + at.wq, n.qkv, n.dimension);
      w.wo.resize(n.dimension, n.wide, rounded);
      w.wo.set(parameters + at.wo, n.dimension, n.dimension);
      w.gate_up.resize(2 * n.wide_hidden, n.wide, rounded);
      w.gate_up.set(parameters + at.w1, n.hidden, n.dimension);
      w.gate_up.set(parameters + at.w3, n.hidden, n.dimension, n.wide_hidden);
      w.down.resize(n.dimension, n.wide_hidden, rounded);
      w.down.set(parameters + at.w2, n.dimension, n.hidden);
    }
    head.resize(n.vocabulary, n.wide, rounded);
    head.set(parameters, n.vocabulary, n.dimension);
  }
};

/// The activations of one layer for some rows; what the backward pass needs, and no more.
template <class Scalar>
struct layer_memory {
  Scalar* input;                   ///< [rows, wide]
  Scalar* attention_scale;         ///< [rows] of the norm before attention
  Scalar* qkv;                     ///< [rows, wide_qkv], queries and keys rotated
  softmax_state<Scalar>* softmax;  ///< [rows, heads]
  Scalar* attended;                ///< [rows, wide]
  Scalar* middle;                  ///< [rows, wide], input + attention
  Scalar* ffn_scale;               ///< [rows] of the norm before the SwiGLU layer
  Scalar* gate_up;                 ///< [rows, 2 wide_hidden]
  Scalar* output;                  ///< [rows, wide]; may be `input` where nothing is kept
};

/// One layer over `rows` tokens at `positions`; `attend` fills `memory.attended`. `rotations` is transformer's table;
/// `normalized` [rows, wide] and `activation` [rows, wide_hidden] are scratch.
template <class Scalar, class Attend>
void layer_forward(const sizes<Scalar>& n, const typename forward_weights<Scalar>::layer_weights& w,
                   std::ptrdiff_t rows, const std::int32_t* positions, const Scalar* rotations,
                   const layer_memory<Scalar>& memory, Scalar* normalized, Scalar* activation, Attend&& attend) {
  rms_norm(rows, n.dimension, memory.input, w.attention_norm.data(), n.epsilon, normalized, memory.attention_scale);
  multiply(rows, normalized, n.wide, w.qkv, memory.qkv, n.wide_qkv);
  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    const Scalar* const angle = rotations + positions[i] * n.head_width;
    rotate<false>(n.heads + n.kv_heads, n.head_width, angle, angle + n.head_width / 2, memory.qkv + i * n.wide_qkv);
  }
  attend();
  std::copy(memory.input, memory.input + rows * n.wide, memory.middle);
  multiply<true>(rows, memory.attended, n.wide, w.wo, memory.middle, n.wide);
  rms_norm(rows, n.dimension, memory.middle, w.ffn_norm.data(), n.epsilon, normalized, memory.ffn_scale);
  multiply(rows, normalized, n.wide, w.gate_up, memory.gate_up, 2 * n.wide_hidden);
  swiglu(rows, n.wide_hidden, memory.gate_up, activation);
  std::copy(memory.middle, memory.middle + rows * n.wide, memory.output);
  multiply<true>(rows, activation, n.wide_hidden, w.down, memory.output, n.wide);
}

}  // namespace align
