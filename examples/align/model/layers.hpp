#pragma once
// The parts of a transformer layer that are not matrix products, forward and backward. For .cpp files only (pack.hpp).
//
// Arrays are row-major with a row per token; rows are padded with zeros to whole packs, and all lanes are written.

#include <cmath>
#include <cstddef>

#include "align/model/pack.hpp"

namespace align {

/// y = x / rms(x) * weight, where rms(x)^2 = mean(x^2) + epsilon over `width` elements; keeps 1 / rms in `scale`
/// [rows].
///
/// x, y [rows, padded(width)], weight [padded(width)]. Source: Zhang and Sennrich 2019, arXiv 1910.07467, equation 4.
template <class Scalar>
void rms_norm(std::ptrdiff_t rows, std::ptrdiff_t width, const Scalar* x, const Scalar* weight, Scalar epsilon,
              Scalar* y, Scalar* scale) {
  const std::ptrdiff_t pitch = padded<Scalar>(width);
  for (std::ptrdiff_t i = 0; i < rows; ++i, x += pitch, y += pitch) {
    pack<Scalar> sum{};
    for (std::ptrdiff_t j = 0; j < pitch; j += lanes<Scalar>) sum += load(x + j) * load(x + j);
    const Scalar mean = sum_of_lanes<Scalar>(sum) / static_cast<Scalar>(width);
    scale[i] = 1 / std::sqrt(mean + epsilon);
    for (std::ptrdiff_t j = 0; j < pitch; j += lanes<Scalar>)
      store<Scalar>(y + j, load(x + j) * scale[i] * load(weight + j));
  }
}

/// y again from x and the kept scale, with the bits of the forward pass.
template <class Scalar>
void rms_norm_again(std::ptrdiff_t rows, std::ptrdiff_t width, const Scalar* x, const Scalar* weight,
                    const Scalar* scale, Scalar* y) {
  const std::ptrdiff_t pitch = padded<Scalar>(width);
  for (std::ptrdiff_t i = 0; i < rows; ++i, x += pitch, y += pitch)
    for (std::ptrdiff_t j = 0; j < pitch; j += lanes<Scalar>)
      store<Scalar>(y + j, load(x + j) * scale[i] * load(weight + j));
}

/// dx += the gradient through rms_norm, dweight [padded(width)] += that of its weight.
template <class Scalar>
void rms_norm_backward(std::ptrdiff_t rows, std::ptrdiff_t width, const Scalar* x, const Scalar* weight,
                       const Scalar* scale, const Scalar* dy, Scalar* dx, Scalar* dweight) {
  const std::ptrdiff_t pitch = padded<Scalar>(width);
  for (std::ptrdiff_t i = 0; i < rows; ++i, x += pitch, dy += pitch, dx += pitch) {
    pack<Scalar> product{};
    for (std::ptrdiff_t j = 0; j < pitch; j += lanes<Scalar>) {
      const pack<Scalar> along = load(dy + j) * load(x + j);
      product += along * load(weight + j);
      store<Scalar>(dweight + j, load(dweight + j) + along * scale[i]);
    }
    const Scalar pull = sum_of_lanes<Scalar>(product) * scale[i] * scale[i] / static_cast<Scalar>(width);
    for (std::ptrdiff_t j = 0; j < pitch; j += lanes<Scalar>)
      store<Scalar>(dx + j, load(dx + j) + scale[i] * (load(dy + j) * load(weight + j) - pull * load(x + j)));
  }
}

/// y = silu(gate) * up with silu(x) = x sigmoid(x); `gate_up` [rows, 2 width] holds gate then up, `width` is whole
/// packs.
///
/// Source: Shazeer 2020, arXiv 2002.05202, equation 6.
template <class Scalar>
void swiglu(std::ptrdiff_t rows, std::ptrdiff_t width, const Scalar* gate_up, Scalar* y) {
  for (std::ptrdiff_t i = 0; i < rows; ++i, gate_up += 2 * width, y += width)
    for (std::ptrdiff_t j = 0; j < width; j += lanes<Scalar>) {
      const pack<Scalar> gate = load(gate_up + j);
      store<Scalar>(y + j, gate / (1 + exp<Scalar>(-gate)) * load(gate_up + width + j));
    }
}

/// The gradient through swiglu into d_gate_up [rows, 2 width], and y again for the gradient of the next weight.
template <class Scalar>
void swiglu_backward(std::ptrdiff_t rows, std::ptrdiff_t width, const Scalar* gate_up, const Scalar* dy,
                     Scalar* d_gate_up, Scalar* y) {
  for (std::ptrdiff_t i = 0; i < rows; ++i, gate_up += 2 * width, d_gate_up += 2 * width, dy += width, y += width)
    for (std::ptrdiff_t j = 0; j < width; j += lanes<Scalar>) {
      const pack<Scalar> gate = load(gate_up + j), up = load(gate_up + width + j), d = load(dy + j);
      const pack<Scalar> sigmoid = 1 / (1 + exp<Scalar>(-gate)), silu = gate * sigmoid;
      store<Scalar>(y + j, silu * up);
      store<Scalar>(d_gate_up + j, d * up * (sigmoid + silu * (1 - sigmoid)));
      store<Scalar>(d_gate_up + width + j, d * silu);
    }
}

/// Turns the pairs (2i, 2i + 1) of each head by angles cosine, sine [head_width / 2]; the other way with Inverse.
///
/// Source: Su et al. 2021, arXiv 2104.09864, equation 34; adjacent pairs, as in Llama's own code and in llama2.c.
template <bool Inverse, class Scalar>
void rotate(std::ptrdiff_t heads, std::ptrdiff_t head_width, const Scalar* cosine, const Scalar* sine, Scalar* x) {
  for (std::ptrdiff_t head = 0; head < heads; ++head, x += head_width)
    for (std::ptrdiff_t i = 0; i < head_width / 2; ++i) {
      const Scalar a = x[2 * i], b = x[2 * i + 1], c = cosine[i], s = Inverse ? -sine[i] : sine[i];
      x[2 * i] = a * c - b * s;
      x[2 * i + 1] = a * s + b * c;
    }
}

/// How a row of scores became probabilities, so that the backward pass can do it again.
template <class Scalar>
struct softmax_state {
  Scalar largest = 0;
  Scalar scale = 0;  ///< 1 / sum of e^(score - largest)
};

/// Which lanes of the pack that starts at element `first` lie below `count`.
template <class Scalar>
RLHF_INLINE typename pack_types<Scalar>::integer lanes_below(std::ptrdiff_t first, std::ptrdiff_t count) {
  using integer = typename pack_types<Scalar>::integer;
  using element = decltype(exponential<Scalar>::bias);
  constexpr integer zero{};
  integer index;
  for (std::ptrdiff_t i = 0; i < lanes<Scalar>; ++i) index[i] = static_cast<std::remove_const_t<element>>(i);
  return index < zero + static_cast<std::remove_const_t<element>>(count - first);
}

/// The first `count` elements of the row become softmax(factor * score), the rest of its `width` (whole packs) zeros.
///
/// Every sum adds up whole packs and then their lanes, so that the width behind `count` does not change a bit.
template <class Scalar>
softmax_state<Scalar> softmax(std::ptrdiff_t count, std::ptrdiff_t width, Scalar factor, Scalar* row) {
  constexpr Scalar low = -1e30f;  // finite: it must not become NaN when subtracted from itself
  const pack<Scalar> zero{}, lowest = zero + low;
  pack<Scalar> top = lowest;
  const std::ptrdiff_t end = padded<Scalar>(count);
  for (std::ptrdiff_t j = 0; j < end; j += lanes<Scalar>) {
    pack<Scalar> score = load(row + j) * factor;
    score = lanes_below<Scalar>(j, count) ? score : lowest;
    top = score > top ? score : top;
    store<Scalar>(row + j, score);
  }
  const Scalar largest = largest_lane<Scalar>(top);
  pack<Scalar> sum{};
  for (std::ptrdiff_t j = 0; j < end; j += lanes<Scalar>) {
    pack<Scalar> e = exp<Scalar>(load(row + j) - largest);
    e = lanes_below<Scalar>(j, count) ? e : zero;
    sum += e;
    store<Scalar>(row + j, e);
  }
  const Scalar scale = 1 / sum_of_lanes<Scalar>(sum);
  for (std::ptrdiff_t j = 0; j < end; j += lanes<Scalar>) store<Scalar>(row + j, load(row + j) * scale);
  for (std::ptrdiff_t j = end; j < width; j += lanes<Scalar>) store<Scalar>(row + j, zero);
  return {largest, scale};
}

/// The same row again, up to rounding, from its scores and its state.
template <class Scalar>
void softmax_again(std::ptrdiff_t count, std::ptrdiff_t width, Scalar factor, softmax_state<Scalar> state,
                   Scalar* row) {
  const pack<Scalar> zero{};
  const std::ptrdiff_t end = padded<Scalar>(count);
  for (std::ptrdiff_t j = 0; j < end; j += lanes<Scalar>) {
    const pack<Scalar> e = exp<Scalar>(load(row + j) * factor - state.largest) * state.scale;
    store<Scalar>(row + j, lanes_below<Scalar>(j, count) ? e : zero);
  }
  for (std::ptrdiff_t j = end; j < width; j += lanes<Scalar>) store<Scalar>(row + j, zero);
}

/// d_row becomes the gradient of the scores: factor * p * (d_row - sum_of p * d_row), given that sum. Where p is 0 the
/// result is 0, whatever finite number was there.
template <class Scalar>
void softmax_backward(std::ptrdiff_t width, Scalar factor, const Scalar* p, Scalar sum, Scalar* d_row) {
  for (std::ptrdiff_t j = 0; j < width; j += lanes<Scalar>)
    store<Scalar>(d_row + j, factor * load(p + j) * (load(d_row + j) - sum));
}

}  // namespace align
