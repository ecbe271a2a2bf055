#pragma once
// Reward-model objectives over pairs of scores: loss, exact gradient, statistics.

#include "rlhf/driver/weights.hpp"

namespace rlhf::inline v1 {

/// Scores [pairs] of the chosen and the rejected responses.
template <class T = float, class Space = host_space>
struct score_inputs {
  view<const T, 1, Space> chosen{};    ///< differentiable
  view<const T, 1, Space> rejected{};  ///< differentiable
  view<const T, 1, Space> margin{};
  view<const T, 1, Space> probability{};  ///< soft labels
  view<const T, 1, Space> weight{};       ///< multiplies a pair's loss; a constant
  mask_view<Space> mask{};
};

/// What reward_loss writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct score_outputs {
  view<T, 1, Space> loss{};  ///< one element
  view<T, 1, Space> grad_chosen{};
  view<T, 1, Space> grad_rejected{};
  view<T, 1, Space> per_pair{};
  statistics* stats = nullptr;
};

/// A score objective and how the pairs add up: \f$ L = \sum_p W\,w_p\,o(p) \f$, gradient in both scores. Shapes [pairs];
/// masked pairs give exactly 0.
/// Empty: loss 0, `errc::empty_mask`. Errors: null, shape, argument, memory. Cost: one pass.
template <class Objective, class Aggregate = batch_mean>
struct reward_loss {
  Objective objective;
  Aggregate aggregate{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const score_inputs<T, Space>& in, const score_outputs<T, Space>& out) const {
    static_assert(score_objective<Objective>,
                  "rlhf: a score objective is a struct with "
                  "`template <rlhf::number V> V operator()(const rlhf::score_pair<V>&) const`");
    static_assert(Aggregate::uniform, "rlhf: pairs are aggregated with a uniform rule, such as batch_mean");
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "reward_loss";
    const std::int64_t pairs = in.chosen.extent;
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
    if (auto s = item_detail::check(call); !s) return s;
    const layout<Space> one_each{nullptr, pairs, 1, pairs};
    token_weights<B, compute_t<T>> weights(be, one_each, in.mask, aggregate);
    if (auto s = weights.compute(be, name, one_each, in.mask, aggregate); !s) return s;
    call.weight = weights.get();
    if (auto s = run_items(be, call); !s) return s;
    if (weights.empty()) return remark::empty(name, "mask");
    return {};
  }
};
template <class O>
reward_loss(O) -> reward_loss<O>;
template <class O, class A>
reward_loss(O, A) -> reward_loss<O, A>;

}  // namespace rlhf::inline v1
