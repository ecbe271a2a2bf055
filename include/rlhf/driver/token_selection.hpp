#pragma once
// Which tokens of a batch: the largest of something, exactly, without a sort.

#include <cstdint>

#include "rlhf/driver/weights.hpp"
#include "rlhf/math/random.hpp"
#include "rlhf/math/sortable.hpp"
#include "rlhf/objective/selection.hpp"

namespace rlhf::inline v1 {

/// What a choice of tokens reads: [tokens], `advantage` [tokens] or [sequences].
template <class T = float, class Space = host_space>
struct selection_inputs {
  view<const T, 1, Space> logp{};
  view<const T, 1, Space> old_logp{};
  view<const T, 1, Space> advantage{};
  mask_view<Space> mask{};
  view<const T, 1, Space> entropy{};
};

namespace selection_detail {

/// Where the search for the k-th largest stands.
struct search {
  double want = 0;          // k
  std::uint64_t value = 0;  // as far as its bits are known
  double ties = 0;          // of the elements equal to it, how many are among the k
  std::uint64_t last = 0;   // index of the last of those
};

/// How many candidates are at least `value` with one more bit.
struct count_from {
  using scalar = double;
  static constexpr int sums = 1, maxima = 0;
  const double* keys;
  const std::uint8_t* candidates;
  const search* state;
  std::uint64_t bit;
  std::uint64_t bound = 0;
  RLHF_HD RLHF_INLINE void prepare() { bound = state->value | bit; }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] += candidates[i] != 0 && sortable(keys[i]) >= bound ? 1 : 0;
  }
};
struct take_bit {
  search* state;
  const totals<1>* found;
  std::uint64_t bit;
  RLHF_HD RLHF_INLINE void operator()() const {
    if (found->sum[0] >= state->want) state->value |= bit;
  }
};

struct count_above {
  using scalar = double;
  static constexpr int sums = 1, maxima = 0;
  const double* keys;
  const std::uint8_t* candidates;
  const search* state;
  std::uint64_t value = 0;
  RLHF_HD RLHF_INLINE void prepare() { value = state->value; }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] += candidates[i] != 0 && sortable(keys[i]) > value ? 1 : 0;
  }
};
struct note_ties {
  search* state;
  const totals<1>* above;
  RLHF_HD RLHF_INLINE void operator()() const { state->ties = state->want - above->sum[0]; }
};

/// How many of the elements equal to the value come before an index.
struct count_ties {
  using scalar = double;
  static constexpr int sums = 1, maxima = 0;
  const double* keys;
  const std::uint8_t* candidates;
  const search* state;
  std::uint64_t bit;
  std::uint64_t value = 0, bound = 0;
  RLHF_HD RLHF_INLINE void prepare() {
    value = state->value;
    bound = state->last | bit;
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] += candidates[i] != 0 && static_cast<std::uint64_t>(i) < bound && sortable(keys[i]) == value ? 1 : 0;
  }
};
struct take_index_bit {
  search* state;
  const totals<1>* found;
  std::uint64_t bit;
  RLHF_HD RLHF_INLINE void operator()() const {
    if (found->sum[0] < state->ties) state->last |= bit;
  }
};

template <class Space>
struct mark {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  const double* keys;
  const std::uint8_t* candidates;
  const search* state;
  view<std::uint8_t, 1, Space> out;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    const std::uint64_t key = sortable(keys[i]);
    const bool first = key > state->value || (key == state->value && static_cast<std::uint64_t>(i) <= state->last);
    out[i] = candidates[i] != 0 && state->want > 0 && first ? 1 : 0;
  }
};

/// Finds the want-th largest of the candidates' keys; `state->want` is set, between 1 and how many there are, or 0.
template <class B>
[[nodiscard]] status find_value(B& be, std::int64_t n, const double* keys, const std::uint8_t* candidates,
                                search* state, totals<1>* cell) {
  for (int k = 63; k >= 0; --k) {
    const std::uint64_t bit = std::uint64_t{1} << k;
    if (auto s = be.map(n, count_from{keys, candidates, state, bit}, cell); !s) return s;
    if (auto s = be.once(take_bit{state, cell, bit}); !s) return s;
  }
  return {};
}

/// The last index that is chosen among equals: the first ones are.
template <class B>
[[nodiscard]] status find_last(B& be, std::int64_t n, const double* keys, const std::uint8_t* candidates, search* state,
                               totals<1>* cell) {
  if (auto s = be.map(n, count_above{keys, candidates, state}, cell); !s) return s;
  if (auto s = be.once(note_ties{state, cell}); !s) return s;
  std::uint64_t bit = 1;
  while (bit < static_cast<std::uint64_t>(n)) bit <<= 1;
  for (; bit > 0; bit >>= 1) {
    if (auto s = be.map(n, count_ties{keys, candidates, state, bit}, cell); !s) return s;
    if (auto s = be.once(take_index_bit{state, cell, bit}); !s) return s;
  }
  return {};
}

/// Sums for the mean log-probability and the mean advantage.
template <class T, class Space>
struct add_means {
  using scalar = compute_t<T>;
  static constexpr int sums = 3, maxima = 0;
  view<const T, 1, Space> logp, advantage;
  mask_view<Space> mask;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 3, 0>& acc) const {
    if (mask && mask[i] == 0) return;
    acc.sum[0] += V(1);
    acc.sum[1] += load_or<V>(logp, i, 0);
    acc.sum[2] += load_or<V>(advantage, i, 0);
  }
};

/// Keys and candidates of a choice.
template <class Choice, class T, class Space>
struct prepare_keys {
  using scalar = double;
  static constexpr int sums = 2, maxima = 0;  // candidates, valid tokens
  Choice choice;
  selection_inputs<T, Space> in;
  const totals<3>* found;
  double* keys;
  std::uint8_t* candidates;
  double mean_logp = 0, mean_advantage = 0;

  RLHF_HD RLHF_INLINE void prepare() {
    const double n = found->sum[0] > 0 ? found->sum[0] : 1;
    mean_logp = found->sum[1] / n;
    mean_advantage = found->sum[2] / n;
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 2, 0>& acc) const {
    keys[i] = 0;
    candidates[i] = 0;
    if (in.mask && in.mask[i] == 0) return;
    acc.sum[1] += 1;
    selection_token t;
    t.index = i;
    t.item.logp = load_or<double>(in.logp, i, not_a_number);
    t.item.old_logp = load_or<double>(in.old_logp, i, not_a_number);
    t.item.advantage = load_or<double>(in.advantage, i, not_a_number);
    t.item.entropy = load_or<double>(in.entropy, i, not_a_number);
    t.covariance = (t.item.advantage - mean_advantage) * (t.item.logp - mean_logp);
    const double key = choice.key(t);
    keys[i] = key;
    candidates[i] = key == key && choice.candidate(t) ? 1 : 0;
    acc.sum[0] += candidates[i];
  }
};

template <class Choice>
struct start_search {
  Choice choice;
  const totals<2>* found;
  search* state;
  RLHF_HD RLHF_INLINE void operator()() const {
    const double want = choice.count(found->sum[1]);
    *state = {};
    if (ties_of<Choice>()) state->last = ~std::uint64_t{0};
    state->want = want < found->sum[0] ? want : found->sum[0];
  }
};

}  // namespace selection_detail

/// Marks the tokens that a choice takes: of its candidates the ones with the largest keys, as many as it says; among equals
/// the first ones, or all of them where the choice says `ties = true`. kl_covariance and clip_covariance are choices.
///
/// Shapes [layout.tokens], advantage [layout.tokens] or [layout.sequences]. Masked slots and keys that are NaN are never taken.
/// Errors: null, shape, argument, memory. Cost: 64 + log2(tokens) passes over the tokens, bit by bit: exact, the same for
/// every backend, and no memory but a key a token.
template <class B, class Choice, class T = float, class Space = typename B::space>
  requires backend<B>
status select_tokens(B& be, const layout<typename B::space>& sequences, const Choice& choice,
                     const selection_inputs<T, Space>& inputs, const view<std::uint8_t, 1, Space>& out) {
  static_assert(std::same_as<Space, typename B::space>,
                "rlhf: these views live in another memory space than the backend works in");
  using namespace selection_detail;
  constexpr const char* name = "select_tokens";
  const std::int64_t n = sequences.tokens;
  if constexpr (std::same_as<Space, host_space>)
    if (auto s = check(sequences, name); !s) return s;
  selection_inputs<T, Space> in = inputs;
  const bool spread = in.advantage && in.advantage.extent == sequences.sequences && in.advantage.extent != n;
  const auto sized = [&](const auto& v, const char* what, bool required) -> status {
    if (!v) return required && n > 0 ? remark::null(name, what) : status{};
    return v.extent == n ? status{} : remark::shape(name, what, v.extent, n);
  };
  if (auto s = sized(in.logp, "logp", (Choice::reads & selection_reads::logp) != 0); !s) return s;
  if (auto s = sized(in.old_logp, "old_logp", (Choice::reads & selection_reads::old_logp) != 0); !s) return s;
  if (auto s = sized(in.entropy, "entropy", (Choice::reads & selection_reads::entropy) != 0); !s) return s;
  if (!spread)
    if (auto s = sized(in.advantage, "advantage", (Choice::reads & selection_reads::advantage) != 0); !s) return s;
  if (auto s = sized(in.mask, "mask", false); !s) return s;
  if (auto s = sized(out, "selected", true); !s) return s;
  if (auto s = choice.check(); !s) return s;

  auto advantage = be.template scratch<T>(spread ? n : 0);
  auto keys = be.template scratch<double>(n);
  auto candidates = be.template scratch<std::uint8_t>(n);
  auto means = be.template scratch<totals<3>>(1);
  auto counts = be.template scratch<totals<2>>(1);
  auto cell = be.template scratch<totals<1>>(1);
  auto state = be.template scratch<search>(1);
  if (!advantage.data() || !keys.data() || !candidates.data() || !means.data() || !counts.data() || !cell.data() ||
      !state.data())
    return remark::memory(name);
  if (spread) {
    if (auto s = be.segment_map(
            sequences, broadcast_to_tokens<T, T>{in.advantage.data, in.advantage.stride, advantage.data()}, nullptr);
        !s)
      return s;
    in.advantage = {advantage.data(), n};
  }
  if (auto s = be.map(n, add_means<T, Space>{in.logp, in.advantage, in.mask}, means.data()); !s) return s;
  if (auto s = be.map(n, prepare_keys<Choice, T, Space>{choice, in, means.data(), keys.data(), candidates.data()},
                      counts.data());
      !s)
    return s;
  if (auto s = be.once(start_search<Choice>{choice, counts.data(), state.data()}); !s) return s;
  if (auto s = find_value(be, n, keys.data(), candidates.data(), state.data(), cell.data()); !s) return s;
  if constexpr (!ties_of<Choice>())
    if (auto s = find_last(be, n, keys.data(), candidates.data(), state.data(), cell.data()); !s) return s;
  return be.map(n, mark<Space>{keys.data(), candidates.data(), state.data(), out}, nullptr);
}

}  // namespace rlhf::inline v1
