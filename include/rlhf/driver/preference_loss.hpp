#pragma once
// Pair objectives over a batch of preference pairs: loss, exact gradient, statistics.

#include "rlhf/driver/weights.hpp"
#include "rlhf/objective/response.hpp"

namespace rlhf::inline v1 {

/// Pairs whose responses are already summed: log-probabilities [pairs], in nats.
template <class T = float, class Space = host_space>
struct pair_inputs {
  view<const T, 1, Space> chosen{};    ///< log pi(chosen | prompt): differentiable
  view<const T, 1, Space> rejected{};  ///< log pi(rejected | prompt): differentiable
  view<const T, 1, Space> ref_chosen{};
  view<const T, 1, Space> ref_rejected{};
  view<const T, 1, Space> chosen_length{};  ///< tokens; for objectives per token and for the NLL term
  view<const T, 1, Space> rejected_length{};
  view<const T, 1, Space> chosen_reward{};
  view<const T, 1, Space> rejected_reward{};
  view<const T, 1, Space> margin{};
  view<const T, 1, Space> weight{};  ///< multiplies a pair's loss; a constant
  mask_view<Space> mask{};           ///< which pairs count
};

template <class T = float, class Space = host_space>
struct pair_outputs {
  view<T, 1, Space> loss{};  ///< one element
  view<T, 1, Space> grad_chosen{};
  view<T, 1, Space> grad_rejected{};
  view<T, 1, Space> per_pair{};         ///< loss of each pair, without the NLL term
  view<T, 1, Space> reward_chosen{};    ///< implicit rewards beta (log pi - log pi_ref)
  view<T, 1, Space> reward_rejected{};
  view<T, 1, Space> nll{};  ///< one element: the NLL term before its weight
  statistics* stats = nullptr;
};

/// One side of the pairs as tokens: response i is sequence i of the layout.
template <class T = float, class Space = host_space>
struct response_tokens {
  layout<Space> sequences{};
  view<const T, 1, Space> logp{};      ///< differentiable
  view<const T, 1, Space> ref_logp{};  ///< 0 without it
  mask_view<Space> mask{};
};

template <class T = float, class Space = host_space>
struct token_pair_inputs {
  response_tokens<T, Space> chosen{};
  response_tokens<T, Space> rejected{};
  view<const T, 1, Space> chosen_reward{};
  view<const T, 1, Space> rejected_reward{};
  view<const T, 1, Space> margin{};
  view<const T, 1, Space> weight{};
  mask_view<Space> mask{};
};

/// The NLL (SFT) term on the chosen responses that keeps their likelihood up. Catalogue P-18.
enum class nll_reduction {
  token_mean,    ///< over all chosen tokens of the batch (TRL)
  sequence_mean  ///< mean over pairs of the mean over tokens (OpenRLHF)
};
struct chosen_nll {
  double weight = 0;  ///< 0: no term
  nll_reduction reduction = nll_reduction::token_mean;
  double tokens = 0;  ///< for token_mean: chosen tokens of the whole batch; 0: those of this call
};

namespace preference_detail {

template <class Objective>
[[nodiscard]] constexpr double reward_scale(const Objective& o) {
  if constexpr (requires { o.reward_scale(); })
    return o.reward_scale();
  else if constexpr (requires { o.beta; })
    return o.beta;
  else
    return 1;
}

/// Implicit rewards of both sides.
template <class T, class Space>
struct implicit_rewards {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  item_streams<pair, T, Space> streams;
  observer<pair> observe;
  view<T, 1, Space> chosen, rejected;
  [[nodiscard]] RLHF_HD bool unit_stride() const {
    return streams.unit_strides() && rlhf::unit_stride(chosen) && rlhf::unit_stride(rejected);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    const pair<V> p = streams.template plain<V>(i);
    store(chosen, i, observe.reward(p.chosen));
    store(rejected, i, observe.reward(p.rejected));
  }
};

/// Sums for the NLL term: -logp, tokens, -logp / tokens, pairs.
template <class T, class Space>
struct nll_sums {
  using scalar = compute_t<T>;
  static constexpr int sums = 4, maxima = 0;
  view<const T, 1, Space> logp, length;
  mask_view<Space> mask;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 4, 0>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const auto in = load_mask<V>(mask, i);
    const V nll = select(in, -load<V>(logp, i), zero), n = select(in, load<V>(length, i), zero);
    acc.sum[0] = acc.sum[0] + nll;
    acc.sum[1] = acc.sum[1] + n;
    acc.sum[2] = acc.sum[2] + nll / max(n, one);
    acc.sum[3] = acc.sum[3] + select(in, one, zero);
  }
};

template <class T, class Space>
struct add_nll {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  chosen_nll nll;
  const totals<4>* found;
  view<const T, 1, Space> length;
  mask_view<Space> mask;
  view<T, 1, Space> gradient;
  double scale = 0;
  RLHF_HD void prepare() {
    const double over = nll.reduction == nll_reduction::token_mean ? (nll.tokens > 0 ? nll.tokens : found->sum[1]) : found->sum[3];
    scale = over > 0 ? nll.weight / over : 0;
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    V slope(number_traits<V>::constant(-scale));
    if (nll.reduction == nll_reduction::sequence_mean) slope = slope / max(load<V>(length, i), one);
    store(gradient, i, load<V>(gradient, i) + select(load_mask<V>(mask, i), slope, zero));
  }
};

template <class T>
struct write_nll {
  chosen_nll nll;
  const totals<4>* found;
  T* loss;
  T* term;
  RLHF_HD void operator()() const {
    const bool by_token = nll.reduction == nll_reduction::token_mean;
    const double over = by_token ? (nll.tokens > 0 ? nll.tokens : found->sum[1]) : found->sum[3];
    const double value = over > 0 ? found->sum[by_token ? 0 : 2] / over : 0;
    if (term != nullptr) *term = static_cast<T>(value);
    if (loss != nullptr) *loss = static_cast<T>(static_cast<double>(*loss) + nll.weight * value);
  }
};

/// Position of each valid token in its response, counted from the response's end by the scan.
template <class T, class Space>
struct mark_positions {
  using scalar = T;
  static constexpr int scans = 1;
  mask_view<Space> mask;
  const double* length;
  T* position;
  [[nodiscard]] RLHF_HD T initial(std::int64_t, int) const { return 0; }
  template <class V, class Scan>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, Scan& scan) const {
    const V one(number_traits<V>::constant(1)), zero(number_traits<V>::constant(0));
    const V from_end = scan.inclusive(0, one, select(load_mask<V>(mask, i), one, zero));
    memory_traits<V>::store(position + i, V(number_traits<V>::constant(length[s] + 1)) - from_end);
  }
};

/// Sums a side's tokens into its responses, and keeps each token's slope for the way back.
template <class T, class Space, class Reduction>
struct sum_responses {
  using scalar = compute_t<T>;
  static constexpr int sums = 3, maxima = 0;
  Reduction reduction;
  response_tokens<T, Space> side;
  const scalar* position;  // null where the reduction does not ask
  const scalar* shorter;   // [tokens]
  scalar* slope;
  T* logp;
  T* ref_logp;
  T* plain;
  [[nodiscard]] RLHF_HD bool unit_stride() const {
    return rlhf::unit_stride(side.logp) && rlhf::unit_stride(side.ref_logp) && rlhf::unit_stride(side.mask);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 3, 0>& acc) const {
    const V zero(number_traits<V>::constant(0));
    const mask_t<V> in = load_mask<V>(side.mask, i);
    response_token<dual<V, 1>> t;
    t.logp = dual<V, 1>::variable(load<V>(side.logp, i), 0);
    t.ref_logp = load_or<V>(side.ref_logp, i, 0);
    if (position != nullptr) {
      t.position = memory_traits<V>::load(position + i);
      t.shorter = memory_traits<V>::load(shorter + i);
    }
    const contribution<dual<V, 1>> c = reduction(t);
    acc.sum[0] = acc.sum[0] + select(in, c.logp.value, zero);
    acc.sum[1] = acc.sum[1] + select(in, c.ref_logp, zero);
    acc.sum[2] = acc.sum[2] + select(in, t.logp.value, zero);
    memory_traits<V>::store(slope + i, select(in, c.logp.partial[0], zero));
  }
  RLHF_HD void finish(std::int64_t s, const totals<3>& found) const {
    logp[s] = static_cast<T>(found.sum[0]);
    ref_logp[s] = static_cast<T>(found.sum[1]);
    plain[s] = static_cast<T>(found.sum[2]);
  }
};

/// The gradient of a response, handed to its tokens; the NLL term's reaches every valid token alike.
template <class T, class Space>
struct spread_gradient {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  const T* per_pair;
  const T* nll;  // null without the term
  const scalar* slope;
  mask_view<Space> mask;
  view<T, 1, Space> gradient;
  [[nodiscard]] RLHF_HD bool unit_stride() const { return rlhf::unit_stride(mask) && rlhf::unit_stride(gradient); }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0));
    V g = V(number_traits<V>::constant(static_cast<double>(per_pair[s]))) * memory_traits<V>::load(slope + i);
    if (nll != nullptr) g = g + V(number_traits<V>::constant(static_cast<double>(nll[s])));
    store(gradient, i, select(load_mask<V>(mask, i), g, zero));
  }
};

template <class T>
struct write_lengths {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  const double* chosen;
  const double* rejected;
  T* chosen_length;
  T* rejected_length;
  double* shorter;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    chosen_length[i] = static_cast<T>(chosen[i]);
    rejected_length[i] = static_cast<T>(rejected[i]);
    shorter[i] = chosen[i] < rejected[i] ? chosen[i] : rejected[i];
  }
};

}  // namespace preference_detail

/// A pair objective, how the pairs add up, an optional NLL term, and how tokens add up to responses.
///
/// \f$ L = \sum_p W\,w_p\,o(p) + \lambda\,\mathrm{NLL}(\text{chosen}) \f$. Called with pair_inputs it takes sums [pairs]; with
/// token_pair_inputs it sums the tokens itself and returns gradients per token.
/// Shapes: [pairs], or the token layouts of the two sides (both with as many sequences as there are pairs). Masked pairs and
/// tokens: inputs may be anything, outputs are exactly 0. A response without tokens has log-probability 0.
/// Empty: loss 0, `errc::empty_mask`. Errors: null, shape, argument, memory, before anything is written.
/// Cost: one pass over the pairs (two with per-pair rewards or the NLL term); for tokens, two passes over each side.
template <class Objective, class Aggregate = batch_mean, class Reduction = sum_of_tokens>
struct preference_loss {
  Objective objective;
  Aggregate aggregate{};
  chosen_nll nll{};
  Reduction reduction{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out) const {
    static_assert(pair_objective<Objective>, "rlhf: a pair objective is a struct with "
                                             "`template <rlhf::number V> V operator()(const rlhf::pair<V>&) const`");
    static_assert(Aggregate::uniform, "rlhf: pairs are aggregated with a uniform rule, such as batch_mean");
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
    if (auto s = check_side(in.chosen, "chosen.logp", "chosen.ref_logp", "chosen.mask", out.grad_chosen, "grad_chosen"); !s)
      return s;
    if (auto s = check_side(in.rejected, "rejected.logp", "rejected.ref_logp", "rejected.mask", out.grad_rejected,
                            "grad_rejected");
        !s)
      return s;
    if (in.rejected.sequences.sequences != pairs)
      return remark::shape(name, "rejected", in.rejected.sequences.sequences, pairs);
    constexpr bool references = (reads_of<Objective>() & field::references) != 0;
    if (references && pairs > 0 && !in.chosen.ref_logp) return remark::null(name, "chosen.ref_logp");
    if (references && pairs > 0 && !in.rejected.ref_logp) return remark::null(name, "rejected.ref_logp");

    // [pairs]: chosen, rejected, their references, plain sums, lengths, gradients, NLL gradient.
    auto sums = be.template scratch<T>(11 * pairs);
    auto counts = be.template scratch<double>(3 * pairs);
    const std::int64_t slots = in.chosen.sequences.tokens + in.rejected.sequences.tokens;
    auto slopes = be.template scratch<scalar>(slots);
    auto positions = be.template scratch<scalar>(Reduction::needs_position ? 2 * slots : 0);
    if (!sums.data() || !counts.data() || !slopes.data() || !positions.data()) return remark::memory(name);
    const auto column = [&](int k) { return sums.data() + k * pairs; };
    const auto as_view = [&](int k) { return view<T, 1, Space>(column(k), pairs); };

    using weights_detail::count_valid;
    if (auto s = be.segment_reduce(in.chosen.sequences, count_valid<scalar, Space>{in.chosen.mask, counts.data()}); !s) return s;
    if (auto s = be.segment_reduce(in.rejected.sequences, count_valid<scalar, Space>{in.rejected.mask, counts.data() + pairs}); !s)
      return s;
    if (auto s = be.map(pairs,
                        write_lengths<T>{counts.data(), counts.data() + pairs, column(6), column(7), counts.data() + 2 * pairs},
                        static_cast<totals<0>*>(nullptr));
        !s)
      return s;
    if (auto s = sum_side(be, in.chosen, pairs, counts.data(), counts.data() + 2 * pairs, slopes.data(), positions.data(),
                          column(0), column(2), column(4));
        !s)
      return s;
    scalar* const rejected_slopes = slopes.data() + in.chosen.sequences.tokens;
    if (auto s = sum_side(be, in.rejected, pairs, counts.data() + pairs, counts.data() + 2 * pairs, rejected_slopes,
                          positions.data(), column(1), column(3), column(5));
        !s)
      return s;

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
    summed.weight = in.weight;
    summed.mask = in.mask;
    pair_outputs<T, Space> per_pair = out;
    per_pair.grad_chosen = as_view(8);
    per_pair.grad_rejected = as_view(9);
    // The NLL term is of the plain sum, whatever the reduction; its gradient is kept apart.
    if (nll.weight != 0)
      if (auto s = be.map(pairs, zero_fill<T>{column(10)}, static_cast<totals<0>*>(nullptr)); !s) return s;
    const status done = run(be, summed, per_pair, view<const T, 1, Space>(as_view(4)), as_view(10));
    if (!done && done.code != errc::empty_mask) return done;

    const T* const nll_gradient = nll.weight != 0 ? column(10) : nullptr;
    if (out.grad_chosen)
      if (auto s = be.segment_map(in.chosen.sequences,
                                  spread_gradient<T, Space>{column(8), nll_gradient, slopes.data(), in.chosen.mask, out.grad_chosen},
                                  static_cast<totals<0>*>(nullptr));
          !s)
        return s;
    if (out.grad_rejected)
      if (auto s = be.segment_map(in.rejected.sequences,
                                  spread_gradient<T, Space>{column(9), nullptr, rejected_slopes, in.rejected.mask, out.grad_rejected},
                                  static_cast<totals<0>*>(nullptr));
          !s)
        return s;
    return done;
  }

 private:
  template <class T>
  struct zero_fill {
    using scalar = double;
    static constexpr int sums = 0, maxima = 0;
    T* out;
    template <class V>
    RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
      out[i] = T(0);
    }
  };

  template <class T, class Space>
  [[nodiscard]] static status check_side(const response_tokens<T, Space>& side, const char* logp, const char* ref,
                                         const char* mask, const view<T, 1, Space>& gradient, const char* grad) {
    constexpr const char* name = "preference_loss";
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = rlhf::check(side.sequences, name); !s) return s;
    const std::int64_t n = side.sequences.tokens;
    if (!side.logp && n > 0) return remark::null(name, logp);
    if (side.logp.extent != n) return remark::shape(name, logp, side.logp.extent, n);
    if (side.ref_logp && side.ref_logp.extent != n) return remark::shape(name, ref, side.ref_logp.extent, n);
    if (side.mask && side.mask.extent != n) return remark::shape(name, mask, side.mask.extent, n);
    if (gradient && gradient.extent != n) return remark::shape(name, grad, gradient.extent, n);
    return {};
  }

  template <class B, class T, class Space, class Scalar>
  [[nodiscard]] status sum_side(B& be, const response_tokens<T, Space>& side, std::int64_t, const double* lengths,
                                const double* shorter, Scalar* slopes, Scalar* positions, T* logp, T* ref_logp,
                                T* plain) const {
    using namespace preference_detail;
    Scalar* position = nullptr;
    Scalar* shorter_of_token = nullptr;
    if constexpr (Reduction::needs_position) {
      position = positions;
      shorter_of_token = positions + side.sequences.tokens;
      if (auto s = be.segment_scan(side.sequences, mark_positions<Scalar, Space>{side.mask, lengths, position}); !s) return s;
      if (auto s = be.segment_map(side.sequences, broadcast_to_tokens<Scalar, double>{shorter, 1, shorter_of_token},
                                  static_cast<totals<0>*>(nullptr));
          !s)
        return s;
    }
    return be.segment_reduce(side.sequences, sum_responses<T, Space, Reduction>{reduction, side, position, shorter_of_token,
                                                                                slopes, logp, ref_logp, plain});
  }

  /// The pass over pairs. `plain` is what the NLL term is taken of, `nll_gradient` where its gradient is added.
  template <class B, class T, class Space>
  [[nodiscard]] status run(B& be, const pair_inputs<T, Space>& in, const pair_outputs<T, Space>& out,
                           const view<const T, 1, Space>& plain, const view<T, 1, Space>& nll_gradient) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    using namespace preference_detail;
    constexpr const char* name = "preference_loss";
    const std::int64_t pairs = in.chosen.extent;
    item_call<rlhf::pair, T, Space, Objective> call{};
    call.function = name;
    call.items = pairs;
    call.streams.variable[0] = in.chosen;
    call.streams.variable[1] = in.rejected;
    const view<const T, 1, Space> constants[] = {in.ref_chosen,    in.ref_rejected,    in.chosen_length, in.rejected_length,
                                                 in.chosen_reward, in.rejected_reward, in.margin};
    for (int k = 0; k < rlhf::pair<double>::constants; ++k) call.streams.constant[k] = constants[k];
    call.mask = in.mask;
    call.importance = in.weight;
    call.objective = objective;
    call.observe.beta = reward_scale(objective);
    if constexpr (requires { Objective::without_reference; }) call.observe.without_reference = true;
    call.loss = out.loss;
    call.per_item = out.per_pair;
    call.gradient[0] = out.grad_chosen;
    call.gradient[1] = out.grad_rejected;
    call.stats = out.stats;
    if (auto s = item_detail::check(call); !s) return s;
    if (nll.weight != 0 && pairs > 0 && !in.chosen_length) return remark::null(name, "chosen_length");
    for (const auto& [v, what] : {named{out.reward_chosen, "reward_chosen"}, named{out.reward_rejected, "reward_rejected"}})
      if (v && v.extent != pairs) return remark::shape(name, what, v.extent, pairs);

    const layout<Space> one_each{nullptr, pairs, 1, pairs};
    token_weights<B, compute_t<T>> weights(be, one_each, in.mask, aggregate);
    if (auto s = weights.compute(be, name, one_each, in.mask, aggregate); !s) return s;
    call.weight = weights.get();
    if (auto s = run_items(be, call); !s) return s;
    if (out.reward_chosen || out.reward_rejected)
      if (auto s = be.map(pairs, implicit_rewards<T, Space>{call.streams, call.observe, out.reward_chosen, out.reward_rejected},
                          static_cast<totals<0>*>(nullptr));
          !s)
        return s;
    if (nll.weight != 0) {
      auto found = be.template scratch<totals<4>>(1);
      if (!found.data()) return remark::memory(name);
      if (auto s = be.map(pairs, nll_sums<T, Space>{plain, in.chosen_length, in.mask}, found.data()); !s) return s;
      if (auto s = be.once(write_nll<T>{nll, found.data(), out.loss.data, out.nll.data}); !s) return s;
      if (nll_gradient)
        if (auto s = be.map(pairs, add_nll<T, Space>{nll, found.data(), in.chosen_length, in.mask, nll_gradient},
                            static_cast<totals<0>*>(nullptr));
            !s)
          return s;
    }
    if (weights.empty()) return remark::empty(name, "mask");
    return {};
  }

  template <class T, class Space>
  struct named {
    view<T, 1, Space> v;
    const char* what;
  };
  template <class T, class Space>
  named(view<T, 1, Space>, const char*) -> named<T, Space>;
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
