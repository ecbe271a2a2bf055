#pragma once
// Objectives over single labelled responses: loss, exact gradient, statistics.

#include "rlhf/driver/weights.hpp"

namespace rlhf::inline v1 {

/// Responses one by one: the sums of their tokens' log-probabilities, and what is known of each. Shapes [responses].
template <class T = float, class Space = host_space>
struct unpaired_inputs {
  view<const T, 1, Space> logp{};  ///< differentiable
  view<const T, 1, Space> ref_logp{};
  view<const T, 1, Space> label{};            ///< 1: desirable, 0: not; or a rating
  view<const T, 1, Space> reference_point{};  ///< one element for all, or [responses]
  view<const T, 1, Space> length{};
  view<const T, 1, Space> weight{};  ///< multiplies a response's loss; a constant
  mask_view<Space> mask{};
};

/// What unpaired_loss writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct unpaired_outputs {
  view<T, 1, Space> loss{};  ///< one element
  view<T, 1, Space> grad_logp{};
  view<T, 1, Space> per_response{};
  statistics* stats = nullptr;
};

/// An unpaired objective and how the responses add up: \f$ L = \sum_i W\,w_i\,o(i) \f$, gradient in the log-probabilities.
/// Masked responses give exactly 0. Statistics: shares of the two labels, implicit rewards and log-probabilities of each.
/// Empty: loss 0, `errc::empty_mask`. Errors: null, shape, argument, memory. Cost: one pass, and one more to spread a
/// reference point that is given once.
template <class Objective, class Aggregate = batch_mean>
struct unpaired_loss {
  Objective objective{};
  Aggregate aggregate{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const unpaired_inputs<T, Space>& in, const unpaired_outputs<T, Space>& out) const {
    static_assert(unpaired_objective<Objective>,
                  "rlhf: an unpaired objective is a struct with "
                  "`template <rlhf::number V> V operator()(const rlhf::labelled_response<V>&) const`");
    static_assert(unpaired_objective<Objective> || !pair_objective<Objective>,
                  "rlhf: this objective compares two responses, and these come one by one: call preference_loss");
    static_assert(unpaired_objective<Objective> || !token_objective<Objective>,
                  "rlhf: this objective is of tokens, not of whole responses: call policy_loss");
    static_assert(
        !requires(const Aggregate& a) { a.length; },
        "rlhf: a response as a whole has no length to divide by, fixed_length is of tokens: use batch_mean");
    static_assert(Aggregate::uniform, "rlhf: responses are aggregated with a uniform rule, such as batch_mean");
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "unpaired_loss";
    const std::int64_t responses = in.logp.extent;
    item_call<labelled_response, T, Space, Objective> call{};
    call.function = name;
    call.items = responses;
    call.streams.variable[0] = in.logp;
    call.streams.constant[0] = in.label;
    call.streams.constant[1] = in.ref_logp;
    call.streams.constant[2] = in.reference_point;
    call.streams.constant[3] = in.length;
    call.mask = in.mask;
    call.importance = in.weight;
    call.objective = objective;
    if constexpr (requires { objective.beta; }) call.observe.beta = objective.beta;
    call.loss = out.loss;
    call.per_item = out.per_response;
    call.gradient[0] = out.grad_logp;
    call.stats = out.stats;

    const bool once = in.reference_point && in.reference_point.extent == 1 && responses != 1;
    auto spread = be.template scratch<T>(once ? responses : 0);
    if (spread.data() == nullptr) return remark::memory(name);
    if (once) call.streams.constant[2] = {spread.data(), responses};
    if (auto s = item_detail::check(call); !s) return s;
    if (once) {
      const layout<Space> one_sequence{nullptr, 1, responses, responses};
      const broadcast_to_tokens<T, T> kernel{in.reference_point.data, 1, spread.data()};
      if (auto s = be.segment_map(one_sequence, kernel, nullptr); !s) return s;
    }
    const layout<Space> one_each{nullptr, responses, 1, responses};
    token_weights<B, compute_t<T>> weights(be, one_each, in.mask, aggregate);
    if (auto s = weights.compute(be, name, one_each, in.mask, aggregate); !s) return s;
    call.weight = weights.get();
    if (auto s = run_items(be, call); !s) return s;
    if (weights.empty()) return remark::empty(name, "mask");
    return {};
  }
};
template <class O>
unpaired_loss(O) -> unpaired_loss<O>;
template <class O, class A>
unpaired_loss(O, A) -> unpaired_loss<O, A>;

}  // namespace rlhf::inline v1
