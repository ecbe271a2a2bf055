#pragma once
// What fused_linear takes and gives, and the small kernels around its products.

#include <algorithm>

#include "rlhf/backend/concept.hpp"
#include "rlhf/core/statistics.hpp"
#include "rlhf/driver/logp_kernels.hpp"
#include "rlhf/math/product.hpp"

namespace rlhf::inline v1 {

/// A linear layer in front of a softmax: \f$ z_t = h_t W + b \f$, logits of token t.
template <class L = float, class Space = host_space>
struct linear_head {
  view<const L, 2, Space> hidden{};  ///< [tokens, d]
  view<const L, 2, Space> weight{};  ///< [d, columns], or [columns, d] with `transposed`
  bool transposed = false;           ///< the weight has a row for each token of the vocabulary, as trainers store it
  view<const L, 1, Space> bias{};    ///< [columns]; none without it

  [[nodiscard]] constexpr std::int64_t tokens() const { return hidden.rows; }
  [[nodiscard]] constexpr std::int64_t depth() const { return hidden.columns; }
  [[nodiscard]] constexpr std::int64_t columns() const { return transposed ? weight.rows : weight.columns; }
};

/// What fused_linear reads. `L` is the stored type: float, double, bfloat16 or float16.
template <class L = float, class Space = host_space, class Index = std::int32_t>
struct linear_inputs {
  linear_head<L, Space> head{};
  view<const Index, 1, Space> target{};  ///< [tokens] what each is scored at; losses of whole distributions need none
  mask_view<Space> mask{};               ///< [tokens]; of the others hidden state and target may be anything
  std::int64_t vocabulary = 0;           ///< columns beyond it are padding; 0: all
  double temperature = 1;                ///< divides the logits
  std::int64_t ignore_index = -100;      ///< a token with this target is masked too
};

/// What it writes; an absent view is not computed. `Hidden` and `Weight` are stored types: L or its arithmetic type. The
/// gradient of the weight is a sum over chunks and rounded after each, so float is the default for 16-bit weights.
template <class L = float, class Space = host_space, class Hidden = L, class Weight = compute_t<L>>
struct linear_outputs {
  view<Hidden, 2, Space> grad_hidden{};    ///< [tokens, d]
  view<Weight, 2, Space> grad_weight{};    ///< as the weight lies
  view<Weight, 1, Space> grad_bias{};      ///< [columns]
  bool add = false;                        ///< add to grad_weight and grad_bias, as micro-batches do
  view<compute_t<L>, 1, Space> logp{};     ///< [tokens] log-probability of the target, nats
  view<compute_t<L>, 1, Space> entropy{};  ///< [tokens] of the whole distribution, nats
  statistics* stats = nullptr;             ///< of token_logp
};

namespace linear_detail {

/// 1 for every token that counts, its target or the ignored index; sums targets outside the vocabulary.
template <class Index, class Space>
struct mark_live {
  using scalar = double;
  static constexpr int sums = 1, maxima = 0;
  view<const Index, 1, Space> target;  // or absent
  mask_view<Space> mask;
  std::int64_t vocabulary, ignore_index;
  std::uint8_t* live;
  Index* cleaned;

  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    const bool in = !mask || mask[i] != 0;
    const auto id = in && target ? static_cast<std::int64_t>(target[i]) : ignore_index;
    const bool alive = in && (!target || id != ignore_index);
    live[i] = alive ? 1 : 0;
    cleaned[i] = static_cast<Index>(id);
    acc.sum[0] += alive && target && (id < 0 || id >= vocabulary) ? 1 : 0;
  }
};

template <class L>
struct copy_column {
  const L* from;
  L* to;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t j) const {
    memory_traits<V>::store(to + j, memory_traits<V>::load(from + j));
  }
};

/// Rows of tokens that count, zeros elsewhere: 0 times whatever lies there would be NaN in the weight's gradient.
template <class T, class L, class Space>
struct live_rows {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  view<const L, 2, Space> from;
  view<L, 2, Space> to;
  const std::uint8_t* live;
  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 0, 0>&) const {
    if (live[r] != 0)
      team.each(to.columns, copy_column<L>{from.row(r), to.row(r)});
    else
      team.each(to.columns, logp_detail::clear_column<T, L>{to.row(r)});
  }
};

/// The bias in every row.
template <class T, class L, class Space>
struct bias_rows {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  view<const L, 1, Space> bias;
  view<L, 2, Space> to;
  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 0, 0>&) const {
    team.each(to.columns, copy_column<L>{bias.data, to.row(r)});
  }
};

/// One number everywhere in a matrix.
template <class T, class S, class Space>
struct clear_rows {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  view<S, 2, Space> to;
  template <class Team>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t r, Team& team, accumulator<T, 0, 0>&) const {
    team.each(to.columns, logp_detail::clear_column<T, S>{to.row(r)});
  }
};

/// Elements [begin, begin + n) of a view; an absent one stays so.
template <class V>
[[nodiscard]] constexpr V part_of(const V& v, std::int64_t begin, std::int64_t n) {
  V part = v;
  if (!v) return part;
  part.data = v.data + begin * v.stride;
  part.extent = n;
  return part;
}
template <class T, class Space>
[[nodiscard]] constexpr view<T, 2, Space> rows_of(const view<T, 2, Space>& v, std::int64_t begin, std::int64_t n) {
  return v ? view<T, 2, Space>(v.row(begin), n, v.columns, v.pitch) : v;
}

/// The first columns of a head: its padding is never read.
template <class L, class Space>
[[nodiscard]] constexpr linear_head<L, Space> columns_of(linear_head<L, Space> head, std::int64_t columns) {
  (head.transposed ? head.weight.rows : head.weight.columns) = columns;
  if (head.bias) head.bias.extent = columns;
  return head;
}

/// The logits of some rows: one product, and the bias before it.
template <class B, class Product, class L, class Space>
[[nodiscard]] status logits_of(B& be, const Product& product, const linear_head<L, Space>& head, std::int64_t begin,
                               const view<L, 2, Space>& logits) {
  const bool with_bias = static_cast<bool>(head.bias);
  if (with_bias)
    if (auto s = be.rows(logits.rows, bias_rows<compute_t<L>, L, Space>{head.bias, logits}, nullptr); !s) return s;
  return product(be, factor<L, Space>{rows_of(head.hidden, begin, logits.rows), false},
                 factor<L, Space>{head.weight, head.transposed}, logits, with_bias);
}

/// Do the views of a head fit together?
template <class L, class Space>
[[nodiscard]] status check(const linear_head<L, Space>& head, const char* name, const char* hidden, const char* weight,
                           const char* bias) {
  if (head.hidden.rows < 0 || head.hidden.columns < 0 || head.columns() < 0)
    return {errc::shape, name, hidden, "has an extent of", -1, 0, "0 or more"};
  if (head.tokens() > 0 && !head.hidden) return remark::null(name, hidden);
  if (head.tokens() > 0 && !head.weight) return remark::null(name, weight);
  const std::int64_t depth = head.transposed ? head.weight.columns : head.weight.rows;
  if (depth != head.depth())
    return {errc::shape,
            name,
            weight,
            head.transposed ? "columns" : "rows",
            static_cast<double>(depth),
            static_cast<double>(head.depth()),
            nullptr};
  const auto rows_apart = [&](const char* argument, const auto& rows) -> status {
    if (rows.rows <= 1 || rows.pitch >= rows.columns) return {};
    return remark::overlap(name, argument, rows.pitch);
  };
  if (auto s = rows_apart(hidden, head.hidden); !s) return s;
  if (auto s = rows_apart(weight, head.weight); !s) return s;
  if (head.bias && head.bias.extent != head.columns())
    return remark::shape(name, bias, head.bias.extent, head.columns());
  if (head.bias && head.bias.stride != 1)
    return {errc::stride, name, bias, "has a stride of", static_cast<double>(head.bias.stride), 0, "1"};
  return {};
}

}  // namespace linear_detail

}  // namespace rlhf::inline v1
