#pragma once
// Token objectives over a batch of sequences: loss, exact gradient, statistics.

#include "rlhf/driver/weights.hpp"
#include "rlhf/objective/token.hpp"

namespace rlhf::inline v1 {

/// What a token objective may read. Token arrays have one element for each slot of the layout; `advantage`, `weight` and
/// `score` may instead have one for each sequence. Absent streams are fine where the formulas do not read them.
template <class T = float, class Space = host_space>
struct token_inputs {
  view<const T, 1, Space> logp{};          ///< of the policy being trained: differentiable
  view<const T, 1, Space> entropy{};       ///< differentiable where a term reads it (entropy_bonus)
  view<const T, 1, Space> old_logp{};      ///< of the policy that collected or scored the batch
  view<const T, 1, Space> ref_logp{};      ///< of the frozen reference
  view<const T, 1, Space> rollout_logp{};  ///< as the sampling engine reported it
  view<const T, 1, Space> advantage{};
  mask_view<Space> mask{};           ///< which slots are tokens of the loss; all without it
  mask_view<Space> keep{};           ///< where it is 0 the objective is dropped; denominators still count the token
  view<const T, 1, Space> weight{};  ///< importance weights: multiply the objective, not the penalty; constants
  grouping<Space> groups{};          ///< prompts, for prompt_mean
  view<const T, 1, Space> score{};   ///< of the response, for objectives that treat good ones otherwise (topr)
};

/// What policy_loss writes; an absent view is skipped.
template <class T = float, class Space = host_space>
struct token_outputs {
  view<T, 1, Space> loss{};          ///< one element
  view<T, 1, Space> grad_logp{};     ///< d loss / d logp
  view<T, 1, Space> grad_entropy{};  ///< d loss / d entropy
  view<T, 1, Space> per_token{};     ///< loss of each token before aggregation
  statistics* stats = nullptr;       ///< merged into; asking for it costs a second look at each token
};

namespace policy_detail {

template <class O>
inline constexpr bool is_sequence_ratio = false;
template <class O>
inline constexpr bool is_sequence_ratio<sequence_ratio<O>> = true;

/// The formula of a token inside an objective.
template <class O>
struct of_token {
  using type = O;
};
template <class O>
struct of_token<sequence_ratio<O>> {
  using type = O;
};

/// Mean log-ratio of each sequence, and 1 / its tokens.
template <class T, class Space>
struct mean_log_ratio {
  using scalar = compute_t<T>;
  static constexpr int sums = 2, maxima = 0;
  view<const T, 1, Space> logp, old_logp;
  mask_view<Space> mask;
  double* mean;
  double* inverse_count;

  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(logp) && rlhf::unit_stride(old_logp) && rlhf::unit_stride(mask);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 2, 0>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const mask_t<V> in = load_mask<V>(mask, i);
    acc.sum[0] = acc.sum[0] + select(in, load<V>(logp, i) - load<V>(old_logp, i), zero);
    acc.sum[1] = acc.sum[1] + select(in, one, zero);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<2>& found) const {
    inverse_count[s] = found.sum[1] > 0 ? 1 / found.sum[1] : 0;
    mean[s] = found.sum[0] * inverse_count[s];
  }
};

/// Sum of the derivatives of a sequence's tokens, divided by its length: what each of its tokens receives.
template <class T, class Space>
struct collect_sequence_gradient {
  using scalar = T;
  static constexpr int sums = 1, maxima = 0;
  const T* derivative;
  const double* inverse_count;
  double* out;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return true; }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] = acc.sum[0] + memory_traits<V>::load(derivative + i);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<1>& found) const {
    out[s] = found.sum[0] * inverse_count[s];
  }
};

template <class T, class Space>
struct add_sequence_gradient {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  const double* per_sequence;
  mask_view<Space> mask;
  view<T, 1, Space> gradient;
  view<T, 1, Space> grad_entropy;  // 0: beside a sequence_ratio nothing reads the entropy
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(mask) && rlhf::unit_stride(gradient) && rlhf::unit_stride(grad_entropy);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0)), share(number_traits<V>::constant(per_sequence[s]));
    store(gradient, i, load_or<V>(gradient, i, 0) + select(load_mask<V>(mask, i), share, zero));
    store(grad_entropy, i, zero);
  }
};

/// The inputs of a call whose advantage, weight or score has one element for each sequence, copied to the tokens.
template <class B, class T>
class spread_inputs {
  using space = typename B::space;
  using stream = view<const T, 1, space>;

 public:
  spread_inputs(B& be, const layout<space>& sequences, const token_inputs<T, space>& in)
      : given_(in),
        advantage_(be.template scratch<T>(per_sequence(in.advantage, sequences) ? sequences.tokens : 0)),
        weight_(be.template scratch<T>(per_sequence(in.weight, sequences) ? sequences.tokens : 0)),
        score_(be.template scratch<T>(per_sequence(in.score, sequences) ? sequences.tokens : 0)),
        spread_(in) {
    const auto replace = [&](stream& v, const T* by) {
      if (per_sequence(v, sequences)) v = stream(by, sequences.tokens);
    };
    replace(spread_.advantage, advantage_.data());
    replace(spread_.weight, weight_.data());
    replace(spread_.score, score_.data());
  }
  /// Is the memory there?
  [[nodiscard]] explicit operator bool() const { return advantage_.data() && weight_.data() && score_.data(); }
  [[nodiscard]] const token_inputs<T, space>& inputs() const { return spread_; }
  [[nodiscard]] status copy(B& be, const layout<space>& sequences) {
    const auto to_tokens = [&](const stream& from, T* to) {
      if (!per_sequence(from, sequences)) return status{};
      return be.segment_map(sequences, broadcast_to_tokens<T, T>{from.data, from.stride, to}, nullptr);
    };
    if (auto s = to_tokens(given_.advantage, advantage_.data()); !s) return s;
    if (auto s = to_tokens(given_.weight, weight_.data()); !s) return s;
    return to_tokens(given_.score, score_.data());
  }

 private:
  [[nodiscard]] static bool per_sequence(const stream& v, const layout<space>& sequences) {
    return v && v.extent == sequences.sequences && v.extent != sequences.tokens;
  }
  using buffer = decltype(std::declval<B&>().template scratch<T>(0));
  token_inputs<T, space> given_;
  buffer advantage_, weight_, score_;
  token_inputs<T, space> spread_;
};

/// A call of the kernel of all item losses, from named inputs (a token's each) and outputs. Its weight is still open.
template <class Objective, class Term, class T, class Space>
[[nodiscard]] item_call<token, T, Space, Objective, Term> call_of(const Objective& objective, const Term& term,
                                                                  std::int64_t tokens, const token_inputs<T, Space>& in,
                                                                  const token_outputs<T, Space>& out) {
  item_call<token, T, Space, Objective, Term> call{};
  call.function = "policy_loss";
  call.items = tokens;
  call.streams.variable[0] = in.logp;
  call.streams.variable[1] = in.entropy;
  call.streams.constant[0] = in.old_logp;
  call.streams.constant[1] = in.ref_logp;
  call.streams.constant[2] = in.rollout_logp;
  call.streams.constant[3] = in.advantage;
  call.streams.constant[5] = in.score;
  call.mask = in.mask;
  call.keep = in.keep;
  call.importance = in.weight;
  call.objective = objective;
  call.term = term;
  call.loss = out.loss;
  call.per_item = out.per_token;
  call.gradient[0] = out.grad_logp;
  call.gradient[1] = out.grad_entropy;
  call.stats = out.stats;
  return call;
}

/// The objective of a sequence_ratio seen from a token: its log-ratio is the sequence's, constant in the token; the
/// derivative with respect to the sequence's log-ratio goes into the slot of the entropy, which no ratio objective reads.
template <class Objective>
struct at_sequence_ratio {
  Objective objective;
  static constexpr int partials = 2;

  [[nodiscard]] constexpr status check() const { return check_of(objective); }
  template <number V>
  [[nodiscard]] RLHF_HD RLHF_INLINE token<V> moved(const token<V>& t) const {
    token<V> s = t;
    s.logp = t.variable_sequence_log_ratio();
    s.old_logp = value_t<V>(constant<V>(0));
    s.entropy = V(constant<V>(0));
    return s;
  }
  template <number V>
  RLHF_HD RLHF_INLINE V operator()(const token<V>& t) const {
    return objective(moved(t));
  }
  static constexpr int statistics_count = statistics_count_of<Objective>();
  using statistics_of = Objective;
  template <number V, std::size_t N>
  RLHF_HD RLHF_INLINE void statistics(const token<V>& t, V (&out)[N]) const {
    objective.statistics(moved(t), out);
  }
};

}  // namespace policy_detail

/// A token objective, a term added to it (a penalty, a bonus), and how the tokens add up.
///
/// \f$ L = \sum_{it} W_{it}\,[\,w_{it} k_{it}\, o(t) + p(t)\,] \f$ with W from the aggregate and the mask, w the importance
/// weights, k the keep mask; the gradient is exact, by dual numbers, with respect to logp (and entropy).
/// Shapes: token arrays [layout.tokens]. Masked slots: their inputs may be anything, their outputs are exactly 0.
/// Empty: loss and gradients 0 and `errc::empty_mask`. Errors: null, shape, argument, memory, before anything is written.
/// Cost: one pass over the tokens for uniform aggregates (plus one over the mask, if there is one); a pass over the mask
/// and one of scratch per token for the others; two more passes for sequence_ratio.
template <class Objective, class Term = none, class Aggregate = token_mean>
struct policy_loss {
  Objective objective;
  Term term{};
  Aggregate aggregate{};

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const token_inputs<T, Space>& in,
                    const token_outputs<T, Space>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    using formula = typename policy_detail::of_token<Objective>::type;
    constexpr bool of_tokens = token_objective<formula>;
    static_assert(of_tokens || !pair_objective<formula>,
                  "rlhf: this objective compares two whole responses, a token has no partner: call preference_loss");
    static_assert(of_tokens || !unpaired_objective<formula>,
                  "rlhf: this objective is of a whole response with a label, not of a token: call unpaired_loss");
    static_assert(of_tokens || !score_objective<formula>,
                  "rlhf: this objective is of a reward model's scores, not of log-probabilities: call reward_loss");
    static_assert(of_tokens || !value_objective<formula>,
                  "rlhf: this objective is of a critic's values, not of log-probabilities: call value_loss");
    static_assert(
        !requires(const formula& f) { f.mean; },
        "rlhf: this makes the log-ratio of a sequence and is no loss: give it to sequence_policy_loss as its "
        "reduction");
    static_assert(of_tokens && token_objective<Term>,
                  "rlhf: a token objective is a struct with "
                  "`template <rlhf::number V> V operator()(const rlhf::token<V>&) const`");
    static_assert(aggregation<Aggregate>,
                  "rlhf: the aggregate needs `static constexpr bool uniform` and "
                  "`double weight(double tokens, double group_tokens, const aggregation_counts&)`");
    using scalar = compute_t<T>;
    constexpr const char* name = "policy_loss";
    static_assert(!policy_detail::is_sequence_ratio<Objective> || !(reads_of<Term>() & field::entropy),
                  "rlhf: give the entropy bonus its own policy_loss{none{}, entropy_bonus{}} beside a sequence_ratio");
    static_assert(policy_detail::is_sequence_ratio<Objective> || !beside_sequence_ratio_of<Term>(),
                  "rlhf: sequence_weighted goes beside a sequence_ratio objective");
    constexpr bool by_sequence = policy_detail::is_sequence_ratio<Objective>;
    constexpr bool reads_sequence =
        by_sequence || ((reads_of<Objective>() | reads_of<Term>()) & field::sequence_log_ratio);
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = check(sequences, name); !s) return s;

    policy_detail::spread_inputs<B, T> spread(be, sequences, in);
    auto log_ratio = be.template scratch<T>(reads_sequence ? sequences.tokens : 0);
    auto slope = be.template scratch<T>(by_sequence ? sequences.tokens : 0);
    auto means = be.template scratch<double>(reads_sequence ? 2 * sequences.sequences : 0);
    if (!spread || !log_ratio.data() || !slope.data() || !means.data()) return remark::memory(name);

    auto call = policy_detail::call_of(wrapped(), term, sequences.tokens, spread.inputs(), out);
    call.observe.with_entropy = !by_sequence;
    if constexpr (reads_sequence) {
      if (!in.old_logp && sequences.tokens > 0) return remark::null(name, "old_logp");
      call.streams.constant[4] = {log_ratio.data(), sequences.tokens};
    }
    if (auto s = item_detail::check(call); !s) return s;

    if (auto s = spread.copy(be, sequences); !s) return s;
    if constexpr (reads_sequence) {
      double* const mean = means.data();
      double* const inverse_count = mean + sequences.sequences;
      if (auto s = be.segment_reduce(
              sequences, policy_detail::mean_log_ratio<T, Space>{in.logp, in.old_logp, in.mask, mean, inverse_count});
          !s)
        return s;
      if (auto s = be.segment_map(sequences, broadcast_to_tokens<T, double>{mean, 1, log_ratio.data()}, nullptr); !s)
        return s;
      if constexpr (by_sequence) {
        call.streams.variable[1] = {log_ratio.data(), sequences.tokens};
        call.gradient[1] = {slope.data(), sequences.tokens};
      }
    }

    token_weights<B, scalar> weights(be, sequences, in.mask, aggregate);
    if (auto s = weights.compute(be, name, sequences, in.mask, aggregate, in.groups); !s) return s;
    call.weight = weights.get();
    if (auto s = run_items(be, call); !s) return s;

    if constexpr (by_sequence) {
      if (out.grad_logp || out.grad_entropy) {
        double* const share = means.data();  // the means have served
        double* const inverse_count = share + sequences.sequences;
        if (auto s = be.segment_reduce(
                sequences, policy_detail::collect_sequence_gradient<T, Space>{slope.data(), inverse_count, share});
            !s)
          return s;
        if (auto s = be.segment_map(
                sequences,
                policy_detail::add_sequence_gradient<T, Space>{share, in.mask, out.grad_logp, out.grad_entropy},
                nullptr);
            !s)
          return s;
      }
    }
    if (weights.empty()) return remark::empty(name, "mask");
    return {};
  }

 private:
  static constexpr auto wrap(const Objective& o) {
    if constexpr (policy_detail::is_sequence_ratio<Objective>)
      return policy_detail::at_sequence_ratio<decltype(o.objective)>{o.objective};
    else
      return o;
  }
  using called_objective = decltype(wrap(std::declval<const Objective&>()));
  [[nodiscard]] called_objective wrapped() const { return wrap(objective); }
};
template <class O>
policy_loss(O) -> policy_loss<O>;
template <class O, class P>
policy_loss(O, P) -> policy_loss<O, P>;
template <class O, class P, class A>
policy_loss(O, P, A) -> policy_loss<O, P, A>;

}  // namespace rlhf::inline v1
