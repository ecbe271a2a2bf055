#pragma once
// Causal grouped-query attention within one sequence, forward and backward. For .cpp files only (see pack.hpp).

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "align/model/gemm.hpp"
#include "align/model/layers.hpp"

namespace align {

/// How the rows of queries, keys and values lie: the heads' queries, then the keys, then the values, `pitch` apart.
struct attention_shape {
  std::ptrdiff_t heads = 0;
  std::ptrdiff_t kv_heads = 0;
  std::ptrdiff_t head_width = 0;
  std::ptrdiff_t pitch = 0;      ///< from a row of queries, keys and values to the next
  std::ptrdiff_t out_pitch = 0;  ///< from a row of the output to the next

  [[nodiscard]] std::ptrdiff_t keys() const { return heads * head_width; }
  [[nodiscard]] std::ptrdiff_t values() const { return (heads + kv_heads) * head_width; }
};

/// Queries handled together; later keys than the last of them are not looked at.
inline constexpr std::ptrdiff_t attention_tile = 48;

/// Elements of scratch memory that attention over `length` tokens needs, forward or backward.
template <class Scalar>
std::ptrdiff_t attention_scratch(const attention_shape& shape, std::ptrdiff_t length) {
  return (2 * shape.head_width + 2 * attention_tile) * padded<Scalar>(length);
}

/// to [width, pitch] = transpose of from [rows, width], its padding zero.
template <class Scalar>
void transpose(std::ptrdiff_t rows, std::ptrdiff_t width, const Scalar* from, std::ptrdiff_t from_pitch, Scalar* to,
               std::ptrdiff_t pitch) {
  for (std::ptrdiff_t j = 0; j < width; ++j, to += pitch) {
    for (std::ptrdiff_t i = 0; i < rows; ++i) to[i] = from[i * from_pitch + j];
    std::fill(to + rows, to + pitch, Scalar{0});
  }
}

/// out [length, heads * head_width] from qkv [length, ...]; keeps a softmax_state per token and head in `state`.
///
/// Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1; heads share keys and values as in Ainslie et al. 2023,
/// arXiv 2305.13245.
template <class Scalar>
void attention(const attention_shape& shape, std::ptrdiff_t length, const Scalar* qkv, Scalar* out,
               softmax_state<Scalar>* state, Scalar* scratch) {
  const std::ptrdiff_t width = shape.head_width, pitch = padded<Scalar>(length), group = shape.heads / shape.kv_heads;
  const Scalar factor = 1 / std::sqrt(static_cast<Scalar>(width));
  Scalar* const keys = scratch;
  Scalar* const p = keys + width * pitch;
  for (std::ptrdiff_t head = 0; head < shape.heads; ++head) {
    const std::ptrdiff_t shared = head / group;
    if (head % group == 0) transpose(length, width, qkv + shape.keys() + shared * width, shape.pitch, keys, pitch);
    const Scalar* const value = qkv + shape.values() + shared * width;
    for (std::ptrdiff_t first = 0; first < length; first += attention_tile) {
      const std::ptrdiff_t end = std::min(first + attention_tile, length), rows = end - first;
      multiply(rows, width, padded<Scalar>(end), qkv + first * shape.pitch + head * width, shape.pitch, keys, pitch, p,
               pitch);
      for (std::ptrdiff_t i = 0; i < rows; ++i)
        state[(first + i) * shape.heads + head] = softmax(first + i + 1, padded<Scalar>(end), factor, p + i * pitch);
      multiply(rows, end, width, p, pitch, value, shape.pitch, out + first * shape.out_pitch + head * width,
               shape.out_pitch);
    }
  }
}

/// d_qkv [length, ...] from d_out, with what the forward pass read and left. Padding of d_qkv's rows becomes zero.
template <class Scalar>
void attention_backward(const attention_shape& shape, std::ptrdiff_t length, const Scalar* qkv, const Scalar* out,
                        const softmax_state<Scalar>* state, const Scalar* d_out, Scalar* d_qkv, Scalar* scratch) {
  const std::ptrdiff_t width = shape.head_width, pitch = padded<Scalar>(length), group = shape.heads / shape.kv_heads;
  const Scalar factor = 1 / std::sqrt(static_cast<Scalar>(width));
  Scalar* const keys = scratch;
  Scalar* const values = keys + width * pitch;
  Scalar* const p = values + width * pitch;
  Scalar* const d_score = p + attention_tile * pitch;
  std::fill(d_qkv, d_qkv + length * shape.pitch, Scalar{0});
  for (std::ptrdiff_t head = 0; head < shape.heads; ++head) {
    const std::ptrdiff_t key = shape.keys() + head / group * width, value = shape.values() + head / group * width;
    if (head % group == 0) {
      transpose(length, width, qkv + key, shape.pitch, keys, pitch);
      transpose(length, width, qkv + value, shape.pitch, values, pitch);
    }
    for (std::ptrdiff_t first = 0; first < length; first += attention_tile) {
      const std::ptrdiff_t end = std::min(first + attention_tile, length), rows = end - first;
      const std::ptrdiff_t columns = padded<Scalar>(end);
      const Scalar* const query = qkv + first * shape.pitch + head * width;
      const Scalar* const y = out + first * shape.out_pitch + head * width;
      const Scalar* const dy = d_out + first * shape.out_pitch + head * width;
      multiply(rows, width, columns, query, shape.pitch, keys, pitch, p, pitch);
      multiply(rows, width, columns, dy, shape.out_pitch, values, pitch, d_score, pitch);
      for (std::ptrdiff_t i = 0; i < rows; ++i) {
        softmax_again(first + i + 1, columns, factor, state[(first + i) * shape.heads + head], p + i * pitch);
        Scalar sum = 0;  // sum of p * dp over the keys = the product of the output and its gradient
        for (std::ptrdiff_t j = 0; j < width; ++j) sum += y[i * shape.out_pitch + j] * dy[i * shape.out_pitch + j];
        softmax_backward(columns, factor, p + i * pitch, sum, d_score + i * pitch);
      }
      multiply_transposed(rows, end, width, p, pitch, dy, shape.out_pitch, d_qkv + value, shape.pitch);
      multiply_transposed(rows, end, width, d_score, pitch, query, shape.pitch, d_qkv + key, shape.pitch);
      multiply(rows, end, width, d_score, pitch, qkv + key, shape.pitch, d_qkv + first * shape.pitch + head * width,
               shape.pitch);
    }
  }
}

}  // namespace align
