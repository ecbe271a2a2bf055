#pragma once
// Pair objectives over a batch of preference pairs: loss, exact gradient, statistics.

#include "rlhf/driver/preference_kernels.hpp"

namespace rlhf::inline v1 {

/// A pair objective, how the pairs add up, an optional NLL term, and how tokens add up to responses.
///
/// \f$ L = \sum_p W\,w_p\,o(p) + \lambda\,\mathrm{NLL}(\text{chosen}) \f$. Called with pair_inputs it takes sums [pairs]; with
/// token_pair_inputs it sums the tokens itself and returns gradients per token.
/// Shapes: [pairs], or the token layouts of the two sides (both with as many sequences as there are pairs). Masked pairs and
/// tokens: inputs may be anything, outputs are exactly 0. A response without tokens has log-probability 0.
/// Empty: loss 0, `errc::empty_mask`. Errors: null, shape, argument, memory, before anything is written.
/// Cost: one pass over the pairs (two with per-pair rewards or the NLL term); for tokens, two passes over each side (five where
/// the reduction asks for positions). Sides that are padded alike are walked together.
template <class Objective, class Aggregate = batch_mean, class Reduction = sum_of_tokens>
struct preference_loss {
  Objective objective;
  Aggregate aggregate{};
  chosen_nll nll{};
  Reduction reduction{};

  /// What it reads of a pair, as bits of rlhf::field: what the objective says, the references where it does not say, and
  /// where the reduction wants them (`needs_reference`; one that does not say does).
  [[nodiscard]] constexpr unsigned needs() const {
    const unsigned own = declares_reads<Objective>() ? needs_of(objective) : field::references;
    if constexpr (requires { requires !Reduction::needs_reference; })
      return own;
    else
      return own | field::references;
  }

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out) const {
    static_assert(std::same_as<Reduction, sum_of_tokens>,
                  "rlhf: this reduction works on tokens: call with token_pair_inputs");
    return run(be, in, out, in.chosen, out.grad_chosen);
  }

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const token_pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out) const {
    using namespace preference_detail;
    using scalar = compute_t<T>;
    constexpr const char* name = "preference_loss";
    const std::int64_t pairs = in.chosen.sequences.sequences;
    if (auto s = check_of(reduction); !s) return s;
    if (auto s = check_side(in.chosen, "chosen.sequences", "chosen.sequences.offsets", "chosen.logp", "chosen.ref_logp",
                            "chosen.mask", out.grad_chosen, "grad_chosen");
        !s)
      return s;
    if (auto s = check_side(in.rejected, "rejected.sequences", "rejected.sequences.offsets", "rejected.logp",
                            "rejected.ref_logp", "rejected.mask", out.grad_rejected, "grad_rejected");
        !s)
      return s;
    if (in.rejected.sequences.sequences != pairs)
      return remark::shape(name, "rejected.sequences", in.rejected.sequences.sequences, pairs, "sequences");
    const bool references = (needs_of(objective) & field::references) != 0;
    if (references && in.chosen.sequences.tokens > 0 && !in.chosen.ref_logp)
      return remark::null(name, "chosen.ref_logp");
    if (references && in.rejected.sequences.tokens > 0 && !in.rejected.ref_logp)
      return remark::null(name, "rejected.ref_logp");

    // [pairs]: chosen, rejected, their references, plain sums, lengths, gradients, NLL gradient.
    auto sums = be.template scratch<T>(11 * pairs);
    constexpr bool unit_slope = has_unit_slope<Reduction>();
    const std::int64_t first = in.chosen.sequences.tokens, slots = first + in.rejected.sequences.tokens;
    auto slopes = be.template scratch<scalar>(unit_slope ? 0 : slots);
    auto positions = be.template scratch<scalar>(Reduction::needs_position ? 2 * slots : 0);
    auto counts = be.template scratch<double>(Reduction::needs_position ? 3 * pairs : 0);
    if (!sums.data() || !slopes.data() || !positions.data() || !counts.data()) return remark::memory(name);
    const auto column = [&](int k) { return sums.data() + k * pairs; };
    const auto as_view = [&](int k) { return view<T, 1, Space>(column(k), pairs); };
    scalar* const chosen_slopes = unit_slope ? nullptr : slopes.data();
    scalar* const rejected_slopes = unit_slope ? nullptr : slopes.data() + first;

    using summing = sum_responses<T, Space, Reduction>;
    summing chosen{reduction, in.chosen, nullptr, nullptr, chosen_slopes, column(0), column(2), column(4), column(6)};
    summing rejected{reduction, in.rejected, nullptr,   nullptr,  rejected_slopes,
                     column(1), column(3),   column(5), column(7)};
    if constexpr (Reduction::needs_position) {
      chosen.position = positions.data();
      chosen.shorter = chosen.position + first;
      rejected.position = chosen.position + 2 * first;
      rejected.shorter = chosen.position + first + slots;
      if (auto s = place_tokens(be, in, counts.data(), positions.data()); !s) return s;
    }
    const layout<Space> both = both_of(in.chosen.sequences, in.rejected.sequences);
    if (both.sequences > 0) {
      if (auto s = be.segment_reduce(both, two_sides<summing>{chosen, rejected, first, pairs}); !s) return s;
    } else {
      if (auto s = be.segment_reduce(in.chosen.sequences, chosen); !s) return s;
      if (auto s = be.segment_reduce(in.rejected.sequences, rejected); !s) return s;
    }

    pair_inputs<T, Space> summed;
    summed.chosen = as_view(0);
    summed.rejected = as_view(1);
    summed.ref_chosen = as_view(2);
    summed.ref_rejected = as_view(3);
    summed.chosen_length = as_view(6);
    summed.rejected_length = as_view(7);
    summed.chosen_reward = in.chosen_reward;
    summed.rejected_reward = in.rejected_reward;
    summed.margin = in.margin;
    summed.previous_chosen = in.previous_chosen;
    summed.previous_rejected = in.previous_rejected;
    summed.weight = in.weight;
    summed.mask = in.mask;
    pair_outputs<T, Space> per_pair = out;
    per_pair.grad_chosen = as_view(8);
    per_pair.grad_rejected = as_view(9);
    // The NLL term is of the plain sum, whatever the reduction; its gradient is kept apart.
    if (nll.weight != 0)
      if (auto s = be.map(pairs, fill<T>{column(10), T(0)}, nullptr); !s) return s;
    const status done = run(be, summed, per_pair, view<const T, 1, Space>(as_view(4)), as_view(10));
    if (!done && done.code != errc::empty_mask) return done;

    using spreading = spread_gradient<T, Space, unit_slope>;
    const spreading to_chosen{column(8), nll.weight != 0 ? column(10) : nullptr, chosen_slopes, in.chosen.mask,
                              out.grad_chosen};
    const spreading to_rejected{column(9), nullptr, rejected_slopes, in.rejected.mask, out.grad_rejected};
    if (both.sequences > 0 && out.grad_chosen && out.grad_rejected) {
      if (auto s = be.segment_map(both, two_sides<spreading>{to_chosen, to_rejected, first, pairs}, nullptr); !s)
        return s;
      return done;
    }
    if (out.grad_chosen)
      if (auto s = be.segment_map(in.chosen.sequences, to_chosen, nullptr); !s) return s;
    if (out.grad_rejected)
      if (auto s = be.segment_map(in.rejected.sequences, to_rejected, nullptr); !s) return s;
    return done;
  }

 private:
  template <class T, class Space>
  [[nodiscard]] static status check_side(const response_tokens<T, Space>& side, const char* sequences,
                                         const char* offsets, const char* logp, const char* ref, const char* mask,
                                         const view<T, 1, Space>& gradient, const char* grad) {
    constexpr const char* name = "preference_loss";
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = rlhf::check(side.sequences, name, sequences, offsets); !s) return s;
    const std::int64_t n = side.sequences.tokens;
    if (!side.logp && n > 0) return remark::null(name, logp);
    if (side.logp.extent != n) return remark::shape(name, logp, side.logp.extent, n);
    if (side.ref_logp && side.ref_logp.extent != n) return remark::shape(name, ref, side.ref_logp.extent, n);
    if (side.mask && side.mask.extent != n) return remark::shape(name, mask, side.mask.extent, n);
    if (gradient && gradient.extent != n) return remark::shape(name, grad, gradient.extent, n);
    return {};
  }

  /// Both sides as one layout, where they are padded alike and the second one lies as the first against 16 bytes; else one
  /// without sequences.
  template <class Space>
  [[nodiscard]] static layout<Space> both_of(const layout<Space>& chosen, const layout<Space>& rejected) {
    const std::int64_t n = chosen.sequences * chosen.width;
    if (chosen.offsets != nullptr || rejected.offsets != nullptr || chosen.width != rejected.width ||
        chosen.tokens != n || rejected.tokens != n || n % 16 != 0)
      return {};
    return {nullptr, 2 * chosen.sequences, chosen.width, 2 * n};
  }

  /// Position of each token and the length of its pair's shorter response: for each side, one after the other.
  template <class B, class T, class Space, class Scalar>
  [[nodiscard]] static status place_tokens(B& be, const token_pair_inputs<T, Space>& in, double* counts,
                                           Scalar* positions) {
    using namespace preference_detail;
    const std::int64_t pairs = in.chosen.sequences.sequences;
    const response_tokens<T, Space>* const sides[] = {&in.chosen, &in.rejected};
    for (int k = 0; k < 2; ++k)
      if (sides[k]->mask)
        if (auto s = be.segment_reduce(sides[k]->sequences,
                                       weights_detail::count_valid<Scalar, Space>{sides[k]->mask, counts + k * pairs});
            !s)
          return s;
    double* const shorter = counts + 2 * pairs;
    if (auto s = be.map(pairs,
                        write_lengths<Space>{{in.chosen.sequences, static_cast<bool>(in.chosen.mask)},
                                             {in.rejected.sequences, static_cast<bool>(in.rejected.mask)},
                                             counts,
                                             counts + pairs,
                                             shorter},
                        nullptr);
        !s)
      return s;
    for (int k = 0; k < 2; ++k) {
      const layout<Space>& sequences = sides[k]->sequences;
      if (auto s =
              be.segment_scan(sequences, mark_positions<Scalar, Space>{sides[k]->mask, counts + k * pairs, positions});
          !s)
        return s;
      positions += sequences.tokens;
      if (auto s = be.segment_map(sequences, broadcast_to_tokens<Scalar, double>{shorter, 1, positions}, nullptr); !s)
        return s;
      positions += sequences.tokens;
    }
    return {};
  }

  /// The pass over pairs. `plain` is what the NLL term is taken of, `nll_gradient` where its gradient is added.
  template <class B, class T, class Space>
  [[nodiscard]] status run(B& be, const pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out,
                           const view<const T, 1, Space>& plain, const view<T, 1, Space>& nll_gradient) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    static_assert(pair_objective<Objective>,
                  "rlhf: a pair objective is a struct with "
                  "`template <rlhf::number V> V operator()(const rlhf::pair<V>&) const`");
    static_assert(pair_objective<Objective> || !unpaired_objective<Objective>,
                  "rlhf: this objective is of one labelled response, and a pair has no label: call unpaired_loss");
    static_assert(pair_objective<Objective> || !score_objective<Objective>,
                  "rlhf: this objective is of a reward model's scores, not of log-probabilities: call reward_loss");
    static_assert(Aggregate::uniform, "rlhf: pairs are aggregated with a uniform rule, such as batch_mean");
    static_assert(
        !requires(const Aggregate& a) { a.length; },
        "rlhf: a pair has no length to divide by, fixed_length is of tokens: use batch_mean");
    using namespace preference_detail;
    constexpr const char* name = "preference_loss";
    const std::int64_t pairs = in.chosen.extent;
    item_call<rlhf::pair, T, Space, Objective> call{};
    call.function = name;
    call.items = pairs;
    call.streams.variable[0] = in.chosen;
    call.streams.variable[1] = in.rejected;
    const view<const T, 1, Space> constants[] = {in.ref_chosen,      in.ref_rejected,    in.chosen_length,
                                                 in.rejected_length, in.chosen_reward,   in.rejected_reward,
                                                 in.margin,          in.previous_chosen, in.previous_rejected};
    for (int k = 0; k < rlhf::pair<double>::constants; ++k) call.streams.constant[k] = constants[k];
    call.mask = in.mask;
    call.importance = in.weight;
    call.objective = objective;
    call.observe.beta = reward_scale(objective);
    if constexpr (requires { objective.without_reference; })
      call.observe.without_reference = objective.without_reference;
    call.loss = out.loss;
    call.per_item = out.per_pair;
    call.gradient[0] = out.grad_chosen;
    call.gradient[1] = out.grad_rejected;
    call.stats = out.stats;
    if (auto s = item_detail::check(call); !s) return s;
    if (auto s = nll.check(); !s) return s;
    const bool with_nll = nll.weight != 0 || out.nll;
    if (with_nll && pairs > 0 && !in.chosen_length) return remark::null(name, "chosen_length");
    if (out.nll && out.nll.extent != 1) return remark::shape(name, "nll", out.nll.extent, 1);
    if (out.reward_chosen && out.reward_chosen.extent != pairs)
      return remark::shape(name, "reward_chosen", out.reward_chosen.extent, pairs);
    if (out.reward_rejected && out.reward_rejected.extent != pairs)
      return remark::shape(name, "reward_rejected", out.reward_rejected.extent, pairs);

    const layout<Space> one_each{nullptr, pairs, 1, pairs};
    token_weights<B, compute_t<T>> weights(be, one_each, in.mask, aggregate);
    if (auto s = weights.compute(be, name, one_each, in.mask, aggregate); !s) return s;
    call.weight = weights.get();
    if (auto s = run_items(be, call); !s) return s;
    if (out.reward_chosen || out.reward_rejected)
      if (auto s = be.map(
              pairs,
              implicit_rewards<T, Space>{call.streams, call.observe, in.mask, out.reward_chosen, out.reward_rejected},
              nullptr);
          !s)
        return s;
    if (with_nll) {
      auto found = be.template scratch<totals<4>>(1);
      if (!found.data()) return remark::memory(name);
      if (auto s = be.map(pairs, nll_sums<T, Space>{plain, in.chosen_length, in.mask}, found.data()); !s) return s;
      if (auto s = be.once(write_nll<T>{nll, found.data(), out.loss.data, out.nll.data}); !s) return s;
      if (nll_gradient && nll.weight != 0)
        if (auto s =
                be.map(pairs, add_nll<T, Space>{nll, found.data(), in.chosen_length, in.mask, nll_gradient}, nullptr);
            !s)
          return s;
    }
    if (weights.empty()) return remark::empty(name, "mask");
    return {};
  }
};
template <class O>
preference_loss(O) -> preference_loss<O>;
template <class O, class A>
preference_loss(O, A) -> preference_loss<O, A>;
template <class O, class A>
preference_loss(O, A, chosen_nll) -> preference_loss<O, A>;
template <class O, class A, class R>
preference_loss(O, A, chosen_nll, R) -> preference_loss<O, A, R>;

}  // namespace rlhf::inline v1
