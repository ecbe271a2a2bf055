#pragma once
// Value objectives over a batch of sequences: loss, exact gradient, statistics.

#include "rlhf/driver/moments.hpp"
#include "rlhf/objective/value.hpp"

namespace rlhf::inline v1 {

/// Predictions of a critic and what they should have been.
template <class T = float, class Space = host_space>
struct value_inputs {
  view<const T, 1, Space> value{};      ///< [tokens] predictions: differentiable
  view<const T, 1, Space> old_value{};  ///< [tokens] predictions at rollout time
  view<const T, 1, Space> returns{};    ///< [tokens] targets
  mask_view<Space> mask{};
  grouping<Space> groups{};
};

/// What value_loss writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct value_outputs {
  view<T, 1, Space> loss{};  ///< one element
  view<T, 1, Space> grad_value{};
  view<T, 1, Space> per_token{};
  statistics* stats = nullptr;  ///< also explained_variance = 1 - Var(G - V) / Var(G), 0 where Var(G) is 0
};

namespace value_detail {

template <class T, class Space>
struct residuals {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  view<const T, 1, Space> value, returns;
  T* out;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(value) && rlhf::unit_stride(returns);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    memory_traits<V>::store(out + i, load<V>(returns, i) - load<V>(value, i));
  }
};

}  // namespace value_detail

/// A value objective and how the tokens add up: \f$ L = \sum_{it} W_{it}\,o(t) \f$, gradient in the values. Shapes
/// [layout.tokens]; masked slots give exactly 0.
/// Empty: loss 0, `errc::empty_mask`. Errors: null, shape, argument, memory. Cost: as policy_loss; statistics add five
/// passes, because explained variance takes two for each of its variances.
template <class Objective = clipped_value, class Aggregate = token_mean>
struct value_loss {
  Objective objective{};
  Aggregate aggregate{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const value_inputs<T, Space>& in,
                    const value_outputs<T, Space>& out) const {
    static_assert(
        value_objective<Objective> || !token_objective<Objective>,
        "rlhf: this objective is of a policy's log-probabilities, not of a critic's values: call policy_loss");
    static_assert(value_objective<Objective> || !score_objective<Objective>,
                  "rlhf: this objective is of pairs of scores, not of single ones with a target: call reward_loss");
    static_assert(value_objective<Objective>,
                  "rlhf: a value objective is a struct with "
                  "`template <rlhf::number V> V operator()(const rlhf::value_item<V>&) const`");
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "value_loss";
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = check(sequences, name); !s) return s;
    item_call<value_item, T, Space, Objective> call{};
    call.function = name;
    call.items = sequences.tokens;
    call.streams.variable[0] = in.value;
    call.streams.constant[0] = in.old_value;
    call.streams.constant[1] = in.returns;
    call.mask = in.mask;
    call.objective = objective;
    call.loss = out.loss;
    call.per_item = out.per_token;
    call.gradient[0] = out.grad_value;
    call.stats = out.stats;
    if (auto s = item_detail::check(call); !s) return s;
    token_weights<B, compute_t<T>> weights(be, sequences, in.mask, aggregate);
    if (auto s = weights.compute(be, name, sequences, in.mask, aggregate, in.groups); !s) return s;
    call.weight = weights.get();
    if (auto s = run_items(be, call); !s) return s;
    if (out.stats != nullptr)
      if (auto s = explain(be, in, *out.stats); !s) return s;
    if (weights.empty()) return remark::empty(name, "mask");
    return {};
  }

 private:
  template <class B, class T, class Space>
  [[nodiscard]] static status explain(B& be, const value_inputs<T, Space>& in, statistics& stats) {
    constexpr const char* name = "value_loss";
    const std::int64_t n = in.value.extent;
    auto residual = be.template scratch<T>(n);
    auto cells = be.template scratch<moments>(2);
    if (!residual.data() || !cells.data()) return remark::memory(name);
    if (auto s = be.map(n, value_detail::residuals<T, Space>{in.value, in.returns, residual.data()}, nullptr); !s)
      return s;
    if (auto s = masked_moments(be, name, view<const T, 1, Space>(residual.data(), n), in.mask, cells.data()); !s)
      return s;
    if (auto s = masked_moments(be, name, in.returns, in.mask, cells.data() + 1); !s) return s;
    moments left, all;
    if (auto s = read_cell(be, cells.data(), left); !s) return s;
    if (auto s = read_cell(be, cells.data() + 1, all); !s) return s;
    stats.add_explained("explained_variance", all.count, {left.mean, left.m2}, {all.mean, all.m2});
    return {};
  }
};
template <class O>
value_loss(O) -> value_loss<O>;
template <class O, class A>
value_loss(O, A) -> value_loss<O, A>;

}  // namespace rlhf::inline v1
