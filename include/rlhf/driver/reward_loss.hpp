#pragma once
// Reward-model objectives over pairs of scores: loss, exact gradient, statistics.

#include "rlhf/driver/weights.hpp"

namespace rlhf::inline v1 {

/// Scores [pairs] of the chosen and the rejected responses; or [tokens], token against token.
template <class T = float, class Space = host_space>
struct score_inputs {
  view<const T, 1, Space> chosen{};    ///< differentiable
  view<const T, 1, Space> rejected{};  ///< differentiable
  view<const T, 1, Space> margin{};
  view<const T, 1, Space> probability{};  ///< soft labels
  view<const T, 1, Space> weight{};       ///< multiplies a pair's loss; a constant
  mask_view<Space> mask{};
  view<const T, 1, Space> tie{};  ///< one element, differentiable: for models that know ties
};

/// What reward_loss writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct score_outputs {
  view<T, 1, Space> loss{};  ///< one element
  view<T, 1, Space> grad_chosen{};
  view<T, 1, Space> grad_rejected{};
  view<T, 1, Space> per_pair{};
  statistics* stats = nullptr;
  view<T, 1, Space> grad_tie{};  ///< one element
};

namespace reward_detail {

template <class T>
struct sum_all {
  using scalar = T;
  static constexpr int sums = 1, maxima = 0;
  const T* x;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return true; }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] = acc.sum[0] + memory_traits<V>::load(x + i);
  }
};

}  // namespace reward_detail

/// A score objective and how the pairs add up: \f$ L = \sum_p W\,w_p\,o(p) \f$, gradient in both scores. Shapes [pairs];
/// masked pairs give exactly 0.
///
/// Over sequences the scores are of tokens: the same position of the two responses is a pair, the mask says which positions
/// count (from the first difference on, say), and the aggregate is one of tokens, such as row_mean. Shapes [layout.tokens].
/// Empty: loss 0, `errc::empty_mask`. Errors: null, shape, argument, memory. Cost: one pass; two more with ties.
template <class Objective, class Aggregate = batch_mean>
struct reward_loss {
  Objective objective;
  Aggregate aggregate{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const score_inputs<T, Space>& in, const score_outputs<T, Space>& out) const {
    static_assert(Aggregate::uniform, "rlhf: pairs are aggregated with a uniform rule, such as batch_mean");
    static_assert(
        !requires(const Aggregate& a) { a.length; },
        "rlhf: a pair has no length to divide by, fixed_length is of tokens: use batch_mean");
    return run(be, layout<typename B::space>{nullptr, in.chosen.extent, 1, in.chosen.extent}, in, out);
  }
  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const score_inputs<T, Space>& in,
                    const score_outputs<T, Space>& out) const {
    if constexpr (std::same_as<typename B::space, host_space>)
      if (auto s = check(sequences, name); !s) return s;
    return run(be, sequences, in, out);
  }

 private:
  static constexpr const char* name = "reward_loss";

  template <class B, class T, class Space>
  status run(B& be, const layout<typename B::space>& sequences, const score_inputs<T, Space>& in,
             const score_outputs<T, Space>& out) const {
    static_assert(score_objective<Objective> || !pair_objective<Objective>,
                  "rlhf: this objective is of log-probabilities, not of a reward model's scores: call preference_loss");
    static_assert(score_objective<Objective> || !token_objective<Objective>,
                  "rlhf: this objective is of the tokens of one response, not of two scores: call policy_loss");
    static_assert(score_objective<Objective> || !value_objective<Objective>,
                  "rlhf: this objective is of single scores with a target, not of pairs of scores: call value_loss");
    static_assert(score_objective<Objective>,
                  "rlhf: a score objective is a struct with "
                  "`template <rlhf::number V> V operator()(const rlhf::score_pair<V>&) const`");
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    const std::int64_t pairs = sequences.tokens;
    item_call<score_pair, T, Space, Objective> call{};
    call.function = name;
    call.items = pairs;
    call.streams.variable[0] = in.chosen;
    call.streams.variable[1] = in.rejected;
    call.streams.constant[0] = in.margin;
    call.streams.constant[1] = in.probability;
    call.mask = in.mask;
    call.importance = in.weight;
    call.objective = objective;
    call.loss = out.loss;
    call.per_item = out.per_pair;
    call.gradient[0] = out.grad_chosen;
    call.gradient[1] = out.grad_rejected;
    call.stats = out.stats;
    if constexpr (requires { objective.use_margin; }) {
      if (objective.use_margin && !in.margin && pairs > 0) return remark::null(name, "margin");
      if (objective.soft_labels && !in.probability && pairs > 0) return remark::null(name, "probability");
    }
    constexpr bool ties = partials_of<score_pair, Objective>() > 2;
    auto tie = be.template scratch<T>(ties ? 2 * pairs : 0);  // the number at each pair, and its slope there
    auto slope = be.template scratch<totals<1>>(1);
    if (tie.data() == nullptr || slope.data() == nullptr) return remark::memory(name);
    if constexpr (ties) {
      if (!in.tie) return remark::null(name, "tie");
      if (in.tie.extent != 1) return remark::shape(name, "tie", in.tie.extent, 1);
      if (out.grad_tie && out.grad_tie.extent != 1) return remark::shape(name, "grad_tie", out.grad_tie.extent, 1);
      call.streams.variable[2] = {tie.data(), pairs};
      if (out.grad_tie) call.gradient[2] = {tie.data() + pairs, pairs};
    }
    if (auto s = item_detail::check(call); !s) return s;
    if constexpr (ties) {
      const layout<typename B::space> one_sequence{nullptr, 1, pairs, pairs};
      if (auto s = be.segment_map(one_sequence, broadcast_to_tokens<T, T>{in.tie.data, 1, tie.data()}, nullptr); !s)
        return s;
    }
    token_weights<B, compute_t<T>> weights(be, sequences, in.mask, aggregate);
    if (auto s = weights.compute(be, name, sequences, in.mask, aggregate); !s) return s;
    call.weight = weights.get();
    if (auto s = run_items(be, call); !s) return s;
    if constexpr (ties) {
      if (out.grad_tie) {
        if (auto s = be.map(pairs, reward_detail::sum_all<T>{tie.data() + pairs}, slope.data()); !s) return s;
        if (auto s = be.once(write_first_sum<T, totals<1>>{slope.data(), out.grad_tie.data}); !s) return s;
      }
    }
    if (weights.empty()) return remark::empty(name, "mask");
    return {};
  }
};
template <class O>
reward_loss(O) -> reward_loss<O>;
template <class O, class A>
reward_loss(O, A) -> reward_loss<O, A>;

}  // namespace rlhf::inline v1
