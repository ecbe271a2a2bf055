#pragma once
// The weight of each token in an aggregate, from the layout and the mask.

#include "rlhf/backend/concept.hpp"
#include "rlhf/driver/item.hpp"
#include "rlhf/objective/aggregate.hpp"

namespace rlhf::inline v1 {

/// Which sequences belong to the same group (prompt), for group statistics and prompt means: group g holds the sequences
/// `order[groups[g].begin ... groups[g].end)`, or those numbers themselves where `order` is null.
/// A number that `order` names twice stands for one that it leaves out, and for that one nothing is written: not checked.
template <class Space = host_space>
struct grouping {
  layout<Space> groups{};
  const std::int64_t* order = nullptr;

  [[nodiscard]] RLHF_HD RLHF_INLINE constexpr std::int64_t operator[](std::int64_t i) const {
    return order != nullptr ? order[i] : i;
  }
};

/// Can the groups be walked, and do they hold `members` members?
[[nodiscard]] constexpr status check(const grouping<>& groups, std::int64_t members, const char* function) {
  if (auto s = check(groups.groups, function, "groups", "groups.offsets"); !s) return s;
  if (groups.groups.tokens != members) return remark::shape(function, "groups", groups.groups.tokens, members);
  for (std::int64_t i = 0; i < members; ++i)
    if (groups[i] < 0 || groups[i] >= members)
      return {errc::index,
              function,
              "groups.order",
              "has the element",
              static_cast<double>(groups[i]),
              0,
              "an index into the members of the groups"};
  return {};
}
[[nodiscard]] constexpr status check(const grouping<cuda_space>& groups, std::int64_t members, const char* function) {
  if (groups.groups.tokens != members) return remark::shape(function, "groups", groups.groups.tokens, members);
  return {};
}

namespace weights_detail {

/// 1 for every valid element.
template <class T, class Space>
struct count_valid {
  using scalar = T;
  static constexpr int sums = 1, maxima = 0;
  mask_view<Space> mask;
  double* per_sequence = nullptr;

  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return rlhf::unit_stride(mask); }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    const V one(number_traits<V>::constant(1)), zero(number_traits<V>::constant(0));
    acc.sum[0] = acc.sum[0] + select(load_mask<V>(mask, i), one, zero);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<1>& found) const { per_sequence[s] = found.sum[0]; }
};

/// The slots of each sequence: its tokens where there is no mask.
template <class Space>
struct count_slots {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  layout<Space> sequences;
  double* per_sequence;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, accumulator<V, 0, 0>&) const {
    const segment range = sequences[s];
    per_sequence[s] = static_cast<double>(range.end - range.begin);
  }
};

/// Tokens and non-empty sequences from the counts of the sequences.
struct count_sequences {
  using scalar = double;
  static constexpr int sums = 2, maxima = 0;
  const double* per_sequence;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, accumulator<V, 2, 0>& acc) const {
    acc.sum[0] = acc.sum[0] + per_sequence[s];
    acc.sum[1] = acc.sum[1] + (per_sequence[s] > 0 ? 1.0 : 0.0);
  }
};

/// Tokens of each group, given to each of its sequences.
template <class Space>
struct count_groups {
  using scalar = double;
  static constexpr int sums = 1, maxima = 0;
  grouping<Space> groups;
  const double* per_sequence;
  double* group_tokens;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] = acc.sum[0] + per_sequence[groups[i]];
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t g, const totals<1>& found) const {
    const segment range = groups.groups[g];
    for (std::int64_t i = range.begin; i < range.end; ++i) group_tokens[groups[i]] = found.sum[0];
  }
};

template <class Aggregate>
struct weigh_uniform {
  Aggregate aggregate;
  aggregation_counts counts;
  const totals<1>* tokens;
  double* out;
  RLHF_HD RLHF_INLINE void operator()() const {
    aggregation_counts c = counts;
    c.tokens = tokens->sum[0];
    *out = aggregate.weight(0, 0, c);
  }
};

template <class Aggregate>
struct weigh_sequences {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  Aggregate aggregate;
  aggregation_counts counts;
  const totals<2>* found;
  const double* per_sequence;
  const double* group_tokens;
  double* out;
  RLHF_HD RLHF_INLINE void prepare() {
    counts.tokens = found->sum[0];
    counts.nonempty = found->sum[1];
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, accumulator<V, 0, 0>&) const {
    out[s] = aggregate.weight(per_sequence[s], group_tokens != nullptr ? group_tokens[s] : 0, counts);
  }
};

}  // namespace weights_detail

/// A per-sequence value copied to each of its tokens.
template <class T, class S>
struct broadcast_to_tokens {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  const S* per_sequence;
  std::int64_t stride;
  T* out;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return true; }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, 0, 0>&) const {
    memory_traits<V>::store(out + i, V(static_cast<T>(per_sequence[s * stride])));
  }
};

/// Computes the weights and keeps the memory they live in. `T` is the arithmetic type of the call.
template <class B, class T>
class token_weights {
  using space = typename B::space;

 public:
  template <aggregation Aggregate>
  token_weights(B& be, const layout<space>& sequences, const mask_view<space>& mask, const Aggregate&,
                const grouping<space>& = {})
      : each_(be.template scratch<T>(Aggregate::uniform ? 0 : sequences.tokens)),
        per_sequence_(be.template scratch<double>(Aggregate::uniform ? 0 : 3 * sequences.sequences)),
        cell_(be.template scratch<double>(1)),
        tokens_(be.template scratch<totals<1>>(1)),
        found_(be.template scratch<totals<2>>(1)),
        masked_(static_cast<bool>(mask)) {}

  template <aggregation Aggregate>
  [[nodiscard]] status compute(B& be, const char* function, const layout<space>& sequences,
                               const mask_view<space>& mask, const Aggregate& aggregate,
                               const grouping<space>& groups = {}) {
    using namespace weights_detail;
    if (each_.data() == nullptr || per_sequence_.data() == nullptr || cell_.data() == nullptr ||
        tokens_.data() == nullptr || found_.data() == nullptr)
      return remark::memory(function);
    if (auto s = check_of(aggregate); !s) return s;
    aggregation_counts counts;
    counts.tokens = static_cast<double>(sequences.tokens);
    counts.sequences = static_cast<double>(sequences.sequences);
    counts.groups = static_cast<double>(groups.groups.sequences);
    if constexpr (Aggregate::uniform) {
      if (!masked_) {
        weight_.uniform = aggregate.weight(0, 0, counts);
        empty_ = sequences.tokens == 0;
        return {};
      }
      if (auto s = be.map(sequences.tokens, count_valid<T, space>{mask}, tokens_.data()); !s) return s;
      if (auto s = be.once(weigh_uniform<Aggregate>{aggregate, counts, tokens_.data(), cell_.data()}); !s) return s;
      weight_.cell = cell_.data();
      if constexpr (B::synchronous) {
        totals<1> counted;
        if (auto s = read_cell(be, tokens_.data(), counted); !s) return s;
        empty_ = counted.sum[0] == 0;
      }
    } else {
      double* const counted = per_sequence_.data();
      double* const weights = counted + sequences.sequences;
      double* group_tokens = nullptr;
      if (auto s = masked_ ? be.segment_reduce(sequences, count_valid<T, space>{mask, counted})
                           : be.map(sequences.sequences, count_slots<space>{sequences, counted}, nullptr);
          !s)
        return s;
      if (auto s = be.map(sequences.sequences, count_sequences{counted}, found_.data()); !s) return s;
      if constexpr (requires { Aggregate::grouped; }) {
        if (auto s = check(groups, sequences.sequences, function); !s) return s;
        group_tokens = weights + sequences.sequences;
        if (auto s = be.segment_reduce(groups.groups, count_groups<space>{groups, counted, group_tokens}); !s) return s;
      }
      if (auto s = be.map(sequences.sequences,
                          weigh_sequences<Aggregate>{aggregate, counts, found_.data(), counted, group_tokens, weights},
                          nullptr);
          !s)
        return s;
      if (auto s = be.segment_map(sequences, broadcast_to_tokens<T, double>{weights, 1, each_.data()}, nullptr); !s)
        return s;
      weight_.each = each_.data();
      if constexpr (B::synchronous) {
        totals<2> valid;
        if (auto s = read_cell(be, found_.data(), valid); !s) return s;
        empty_ = valid.sum[0] == 0;
      }
    }
    return {};
  }

  [[nodiscard]] const item_weight<T>& get() const { return weight_; }
  /// No valid token at all; known only where the backend is synchronous.
  [[nodiscard]] bool empty() const { return empty_; }

 private:
  using buffer = decltype(std::declval<B&>().template scratch<T>(0));
  using doubles = decltype(std::declval<B&>().template scratch<double>(0));
  buffer each_;
  doubles per_sequence_;
  doubles cell_;
  decltype(std::declval<B&>().template scratch<totals<1>>(0)) tokens_;
  decltype(std::declval<B&>().template scratch<totals<2>>(0)) found_;
  bool masked_;
  bool empty_ = false;
  item_weight<T> weight_;
};

}  // namespace rlhf::inline v1
