#pragma once
// Advantages from a baseline for each position of a group's responses.

#include "rlhf/advantage/token_baseline.hpp"
#include "rlhf/driver/weights.hpp"

namespace rlhf::inline v1 {

/// What a token baseline reads.
template <class T = float, class Space = host_space>
struct token_baseline_inputs {
  grouping<Space> groups{};              ///< which sequences answer the same prompt
  view<const T, 1, Space> reward{};      ///< [tokens]
  view<const T, 1, Space> old_logp{};    ///< [tokens]
  view<const T, 1, Space> square_sum{};  ///< [tokens] sum of the squared probabilities of the vocabulary
  view<const T, 1, Space> importance{};  ///< [tokens] importance weight; 1 without it
  mask_view<Space> mask{};               ///< [tokens]
};

/// What it writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct token_baseline_outputs {
  view<T, 1, Space> advantage{};  ///< [tokens]
  view<T, 1, Space> returns{};    ///< [tokens] reward to go
};

namespace token_baseline_detail {

/// What a token has when its group is looked at: its slot, reward to go and summed squared gradient.
struct position {
  std::int64_t slot = -1;  ///< -1: nothing stands at this position
  double returns = 0;
  double weight = 0;
};

/// One thread walks a response, once from its end and once from its start.
template <class T, class Space>
struct walk_response {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  optimal_token_baseline how;
  layout<Space> sequences;
  token_baseline_inputs<T, Space> in;
  token_baseline_outputs<T, Space> out;
  double* to_go;          // by slot
  position* positions;    // by position
  std::int64_t* lengths;  // by sequence: valid tokens
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t, accumulator<V, 0, 0>&) const {}

  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<0>&) const {
    const segment range = sequences[s];
    double sum = 0;
    for (std::int64_t i = range.end - 1; i >= range.begin; --i) {
      const bool valid = !in.mask || in.mask[i] != 0;
      if (valid) sum += static_cast<double>(in.reward[i]);
      to_go[i] = sum;
      positions[i] = {};
      if (out.returns) out.returns[i] = valid ? static_cast<T>(sum) : T(0);
      if (out.advantage && !valid) out.advantage[i] = T(0);
    }
    double weight = 0;
    std::int64_t tokens = 0;
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      if (in.mask && in.mask[i] == 0) continue;
      weight += how.squared_gradient(static_cast<double>(in.old_logp[i]), static_cast<double>(in.square_sum[i]),
                                     in.importance ? static_cast<double>(in.importance[i]) : 1);
      positions[how.compact ? range.begin + tokens : i] = {i, to_go[i], weight};
      ++tokens;
    }
    lengths[s] = tokens;
  }
};

/// One thread walks a group, position by position.
template <class T, class Space>
struct walk_group {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  optimal_token_baseline how;
  layout<Space> sequences;
  grouping<Space> groups;
  const position* positions;
  const std::int64_t* lengths;
  view<T, 1, Space> advantage;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t, accumulator<V, 0, 0>&) const {}

  RLHF_HD RLHF_INLINE void finish(std::int64_t g, const totals<0>&) const {
    const segment members = groups.groups[g];
    const bool alone = members.end - members.begin < 2;
    std::int64_t longest = -1, first = -1, second = -1;  // a tie for the longest: the second is as long, no tail
    for (std::int64_t j = members.begin; j < members.end; ++j) {
      const std::int64_t s = groups[j], tokens = lengths[s];
      if (tokens > first) {
        second = first;
        first = tokens;
        longest = s;
      } else if (tokens > second) {
        second = tokens;
      }
    }
    bool more = true;
    for (std::int64_t t = 0; more; ++t) {
      more = false;
      double weight = 0, weighted = 0;
      for (std::int64_t j = members.begin; j < members.end; ++j) {
        const segment range = sequences[groups[j]];
        if (range.begin + t >= range.end) continue;
        more = true;
        const position& p = positions[range.begin + t];
        if (p.slot < 0) continue;
        weight += p.weight;
        weighted += p.weight * p.returns;
      }
      const double baseline = alone ? 0 : how.baseline(weight, weighted);
      for (std::int64_t j = members.begin; j < members.end; ++j) {
        const segment range = sequences[groups[j]];
        if (range.begin + t >= range.end) continue;
        const position& p = positions[range.begin + t];
        if (p.slot < 0) continue;
        const bool tail = how.zero_tail && groups[j] == longest && first > second && t >= second;
        advantage[p.slot] = static_cast<T>(p.returns - (tail ? 0 : baseline));
      }
    }
  }
};

}  // namespace token_baseline_detail

/// Advantages of tokens against the optimal token baseline of their group. Shapes [layout.tokens]; masked slots give exactly 0.
/// Errors: null, shape, index, argument, memory. Cost: two walks of each response, one of each group: a thread each.
struct token_baseline {
  optimal_token_baseline how{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const token_baseline_inputs<T, Space>& in,
                    const token_baseline_outputs<T, Space>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    using namespace token_baseline_detail;
    constexpr const char* name = "token_baseline";
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = rlhf::check(sequences, name); !s) return s;
    const std::int64_t n = sequences.tokens;
    const auto sized = [&](const auto& v, const char* what, bool required) -> status {
      if (!v) return required && n > 0 ? remark::null(name, what) : status{};
      return v.extent == n ? status{} : remark::shape(name, what, v.extent, n);
    };
    if (auto s = sized(in.reward, "reward", true); !s) return s;
    if (auto s = sized(in.old_logp, "old_logp", true); !s) return s;
    if (auto s = sized(in.square_sum, "square_sum", true); !s) return s;
    if (auto s = sized(in.importance, "importance", false); !s) return s;
    if (auto s = sized(in.mask, "mask", false); !s) return s;
    if (auto s = sized(out.advantage, "advantage", false); !s) return s;
    if (auto s = sized(out.returns, "returns", false); !s) return s;
    if (auto s = check(in.groups, sequences.sequences, name); !s) return s;
    if (auto s = how.check(); !s) return s;
    auto to_go = be.template scratch<double>(n);
    auto positions = be.template scratch<position>(n);
    auto lengths = be.template scratch<std::int64_t>(sequences.sequences);
    if (!to_go.data() || !positions.data() || !lengths.data()) return remark::memory(name);
    if (auto s = be.segment_reduce(sequences, walk_response<T, Space>{how, sequences, in, out, to_go.data(),
                                                                      positions.data(), lengths.data()});
        !s)
      return s;
    if (!out.advantage) return {};
    return be.segment_reduce(in.groups.groups, walk_group<T, Space>{how, sequences, in.groups, positions.data(),
                                                                    lengths.data(), out.advantage});
  }
};

}  // namespace rlhf::inline v1
