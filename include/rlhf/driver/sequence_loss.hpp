#pragma once
// Losses of whole sequences from the log-ratios of their tokens, and the gradient back to the tokens.

#include "rlhf/driver/weights.hpp"
#include "rlhf/objective/sequence.hpp"

namespace rlhf::inline v1 {

/// What losses of sequences read. `advantage` has one element for each sequence, or one for each token: then a sequence's
/// is the mean over its tokens.
template <class T = float, class Space = host_space>
struct sequence_inputs {
  view<const T, 1, Space> logp{};      ///< [tokens] differentiable
  view<const T, 1, Space> old_logp{};  ///< [tokens]
  view<const T, 1, Space> advantage{};
  mask_view<Space> mask{};          ///< [tokens]
  view<const T, 1, Space> score{};  ///< [sequences] rewards, for losses of groups
  grouping<Space> groups{};         ///< prompts, for losses of groups
};

/// What they write; an absent view is skipped.
template <class T = float, class Space = host_space>
struct sequence_outputs {
  view<T, 1, Space> loss{};          ///< one element
  view<T, 1, Space> grad_logp{};     ///< [tokens] d loss / d logp
  view<T, 1, Space> per_sequence{};  ///< [sequences] loss of each before the mean; of group_sequence_loss: [groups]
  view<T, 1, Space> log_ratio{};     ///< [sequences] as the loss saw it; 0 of a sequence without tokens
  statistics* stats = nullptr;       ///< of sequence_policy_loss: its items are sequences
};

namespace sequence_detail {

/// What the tokens of a sequence add up to.
template <class T>
struct sums_of_sequences {
  T* log_ratio;
  T* zero;        // the old policy's side, of which the log-ratio holds the rest
  T* advantage;   // the mean over tokens; not written where the caller gave it
  double* share;  // of a token in the mean: 1 / n, or 1
  std::uint8_t* nonempty;
};

template <class T, class Space, class Reduction>
struct reduce {
  using scalar = compute_t<T>;
  static constexpr int sums = 3, maxima = 0;
  Reduction reduction;
  view<const T, 1, Space> logp, old_logp, advantage;
  mask_view<Space> mask;
  sums_of_sequences<T> to;
  view<T, 1, Space> log_ratio;

  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(logp) && rlhf::unit_stride(old_logp) && rlhf::unit_stride(advantage) &&
           rlhf::unit_stride(mask);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 3, 0>& acc) const {
    const V zero(number_traits<V>::constant(0)), one(number_traits<V>::constant(1));
    const mask_t<V> in = load_mask<V>(mask, i);
    token<V> t;
    t.logp = load<V>(logp, i);
    t.old_logp = load<V>(old_logp, i);
    t.advantage = load_or<V>(advantage, i, 0);
    acc.sum[0] = acc.sum[0] + select(in, reduction(t), zero);
    acc.sum[1] = acc.sum[1] + select(in, one, zero);
    acc.sum[2] = acc.sum[2] + select(in, t.advantage, zero);
  }
  RLHF_HD RLHF_INLINE void finish(std::int64_t s, const totals<3>& found) const {
    const double n = found.sum[1];
    to.share[s] = reduction.mean ? (n > 0 ? 1 / n : 0) : 1;
    to.log_ratio[s] = static_cast<T>(found.sum[0] * to.share[s]);
    to.zero[s] = T(0);
    to.advantage[s] = static_cast<T>(n > 0 ? found.sum[2] / n : 0);
    to.nonempty[s] = n > 0 ? 1 : 0;
    if (log_ratio) log_ratio[s] = to.log_ratio[s];
  }
};

/// d loss / d log-ratio of the sequence, times what the token's own contribution passes on.
template <class T, class Space, class Reduction>
struct spread {
  using scalar = compute_t<T>;
  static constexpr int sums = 0, maxima = 0;
  Reduction reduction;
  view<const T, 1, Space> logp, old_logp, advantage;
  mask_view<Space> mask;
  const T* slope;
  const double* share;
  view<T, 1, Space> gradient;

  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const {
    return rlhf::unit_stride(logp) && rlhf::unit_stride(old_logp) && rlhf::unit_stride(advantage) &&
           rlhf::unit_stride(mask) && rlhf::unit_stride(gradient);
  }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t s, std::int64_t i, accumulator<V, 0, 0>&) const {
    const V zero(number_traits<V>::constant(0));
    token<dual<V>> t;
    t.logp = dual<V>::variable(load<V>(logp, i), 0);
    t.old_logp = load<V>(old_logp, i);
    t.advantage = load_or<V>(advantage, i, 0);
    const V passed(number_traits<V>::constant(static_cast<double>(slope[s]) * share[s]));
    store(gradient, i, select(load_mask<V>(mask, i), derivative(reduction(t)) * passed, zero));
  }
};

/// The middle of a group loss: one thread walks a prompt's responses.
template <class T, class Space, class Formula>
struct group_kernel {
  using scalar = double;
  static constexpr int sums = 0, maxima = 0;
  Formula formula;
  grouping<Space> groups;
  const T* log_ratio;
  view<const T, 1, Space> score;
  double scale;  // 1 / prompts
  T* slope;
  double* loss;
  view<T, 1, Space> per_group;

  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t, accumulator<V, 0, 0>&) const {}
  RLHF_HD RLHF_INLINE void finish(std::int64_t g, const totals<0>&) const {
    const segment range = groups.groups[g];
    loss[g] = formula(
        range.end - range.begin,
        [&](std::int64_t j) { return static_cast<double>(log_ratio[groups[range.begin + j]]); },
        [&](std::int64_t j) { return static_cast<double>(score[groups[range.begin + j]]); },
        [&](std::int64_t j, double d) { slope[groups[range.begin + j]] = static_cast<T>(d * scale); });
    if (per_group) per_group[g] = static_cast<T>(loss[g]);
  }
};

struct mean_of_groups {
  using scalar = double;
  static constexpr int sums = 1, maxima = 0;
  const double* loss;
  double scale;
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t g, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] = acc.sum[0] + loss[g] * scale;
  }
};

/// The two passes over tokens that every loss of sequences has, and the memory between them.
template <class B, class T, class Reduction>
class passes {
  using space = typename B::space;

 public:
  passes(B& be, const layout<space>& sequences)
      : numbers_(be.template scratch<T>(4 * sequences.sequences)),
        share_(be.template scratch<double>(sequences.sequences)),
        nonempty_(be.template scratch<std::uint8_t>(sequences.sequences)),
        tokens_(be.template scratch<T>(sequences.tokens)),
        rows_(sequences.sequences) {}

  [[nodiscard]] bool allocated() const {
    return numbers_.data() != nullptr && share_.data() != nullptr && nonempty_.data() != nullptr &&
           tokens_.data() != nullptr;
  }
  [[nodiscard]] T* log_ratio() const { return numbers_.data(); }
  [[nodiscard]] view<const T, 1, space> zeros() const { return {numbers_.data() + rows_, rows_}; }
  [[nodiscard]] T* mean_advantage() const { return numbers_.data() + 2 * rows_; }
  [[nodiscard]] T* slope() const { return numbers_.data() + 3 * rows_; }
  [[nodiscard]] const std::uint8_t* nonempty() const { return nonempty_.data(); }

  [[nodiscard]] status check(const char* name, const Reduction& reduction, const layout<space>& sequences,
                             const sequence_inputs<T, space>& in, const sequence_outputs<T, space>& out) const {
    const std::int64_t n = sequences.tokens;
    const auto sized = [&](const auto& v, const char* what, std::int64_t want, bool required) -> status {
      if (!v) return required && want > 0 ? remark::null(name, what) : status{};
      return v.extent == want ? status{} : remark::shape(name, what, v.extent, want);
    };
    if (auto s = sized(in.logp, "logp", n, true); !s) return s;
    if (auto s = sized(in.old_logp, "old_logp", n, true); !s) return s;
    if (auto s = sized(in.advantage, "advantage", in.advantage.extent == rows_ ? rows_ : n, false); !s) return s;
    if (auto s = sized(in.mask, "mask", n, false); !s) return s;
    if (auto s = sized(out.grad_logp, "grad_logp", n, false); !s) return s;
    if (auto s = sized(out.log_ratio, "log_ratio", rows_, false); !s) return s;
    if (out.loss && out.loss.extent != 1) return remark::shape(name, "loss", out.loss.extent, 1);
    return check_of(reduction);
  }
  [[nodiscard]] status forward(B& be, const Reduction& reduction, const layout<space>& sequences,
                               const sequence_inputs<T, space>& in, const view<T, 1, space>& log_ratio) {
    advantage_ = in.advantage;
    if (in.advantage && in.advantage.extent == rows_ && rows_ != sequences.tokens) {
      if (auto s = be.segment_map(
              sequences, broadcast_to_tokens<T, T>{in.advantage.data, in.advantage.stride, tokens_.data()}, nullptr);
          !s)
        return s;
      advantage_ = {tokens_.data(), sequences.tokens};
    }
    return be.segment_reduce(sequences, reduce<T, space, Reduction>{reduction,
                                                                    in.logp,
                                                                    in.old_logp,
                                                                    advantage_,
                                                                    in.mask,
                                                                    {numbers_.data(), numbers_.data() + rows_,
                                                                     mean_advantage(), share_.data(), nonempty_.data()},
                                                                    log_ratio});
  }
  [[nodiscard]] status backward(B& be, const Reduction& reduction, const layout<space>& sequences,
                                const sequence_inputs<T, space>& in, const view<T, 1, space>& gradient) const {
    if (!gradient) return {};
    return be.segment_map(sequences,
                          spread<T, space, Reduction>{reduction, in.logp, in.old_logp, advantage_, in.mask, slope(),
                                                      share_.data(), gradient},
                          nullptr);
  }

 private:
  decltype(std::declval<B&>().template scratch<T>(0)) numbers_;
  decltype(std::declval<B&>().template scratch<double>(0)) share_;
  decltype(std::declval<B&>().template scratch<std::uint8_t>(0)) nonempty_;
  decltype(std::declval<B&>().template scratch<T>(0)) tokens_;
  std::int64_t rows_;
  view<const T, 1, space> advantage_{};
};

}  // namespace sequence_detail

/// A token objective of whole sequences: \f$ \frac1B \sum_i o(R_i, A_i) \f$, the mean over all B sequences.
///
/// The reduction makes the log-ratio of a sequence: `summed_log_ratio` with ppo_clip is RLOO, `one_sided_log_ratio` with
/// importance_sampling is GMPO. A sequence without tokens has ratio 1: its loss is 0, or the objective's there where
/// `count_empty` says so (TRL's RLOO); it counts in the mean either way. Masked slots: inputs may be anything, the gradient is
/// 0. Errors: null, shape, argument, memory. Cost: two passes over the tokens.
template <class Objective, class Reduction, class Aggregate = batch_mean>
struct sequence_policy_loss {
  Objective objective;
  Reduction reduction{};
  Aggregate aggregate{};
  bool count_empty = false;  ///< sequences without tokens have the objective's loss at ratio 1

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const sequence_inputs<T, Space>& in,
                    const sequence_outputs<T, Space>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    static_assert(
        token_objective<Objective> || !requires(const Objective& o) { o.objective; },
        "rlhf: here the ratio is already the sequence's, so sequence_ratio has nothing to wrap: give its objective");
    static_assert(
        token_objective<Objective>,
        "rlhf: the objective of a sequence is a token objective that sees the sequence's log-ratio, such as ppo_clip");
    static_assert(
        requires(const Reduction& r) { r.mean; },
        "rlhf: the reduction makes the log-ratio of a sequence: summed_log_ratio, averaged_log_ratio or "
        "one_sided_log_ratio");
    constexpr const char* name = "sequence_policy_loss";
    const std::int64_t rows = sequences.sequences;
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = check(sequences, name); !s) return s;
    sequence_detail::passes<B, T, Reduction> tokens(be, sequences);
    if (!tokens.allocated()) return remark::memory(name);
    if (auto s = tokens.check(name, reduction, sequences, in, out); !s) return s;

    item_call<token, T, Space, Objective> call{};
    call.function = name;
    call.items = rows;
    call.streams.variable[0] = {tokens.log_ratio(), rows};
    call.streams.constant[0] = tokens.zeros();
    // As many packed tokens as sequences: of tokens, as in policy_loss. Of no tokens the mean is 0.
    if (in.advantage || sequences.tokens == 0)
      call.streams.constant[3] =
          in.advantage.extent == rows && (rows != sequences.tokens || sequences.offsets == nullptr)
              ? in.advantage
              : view<const T, 1, Space>(tokens.mean_advantage(), rows);
    if (!count_empty) call.mask = view<const std::uint8_t, 1, Space>(tokens.nonempty(), rows);
    call.objective = objective;
    call.loss = out.loss;
    call.per_item = out.per_sequence;
    call.gradient[0] = {tokens.slope(), rows};
    call.stats = out.stats;
    if (auto s = item_detail::check(call); !s) return s;

    if (auto s = tokens.forward(be, reduction, sequences, in, out.log_ratio); !s) return s;
    layout<Space> each{};
    each.sequences = each.tokens = rows;
    each.width = 1;
    token_weights<B, compute_t<T>> weights(be, each, mask_view<Space>{}, aggregate);
    if (auto s = weights.compute(be, name, each, mask_view<Space>{}, aggregate); !s) return s;
    call.weight = weights.get();
    if (auto s = run_items(be, call); !s) return s;
    if (auto s = tokens.backward(be, reduction, sequences, in, out.grad_logp); !s) return s;
    return weights.empty() ? remark::empty(name, "layout") : status{};
  }
};
template <class O, class R>
sequence_policy_loss(O, R) -> sequence_policy_loss<O, R>;

/// A loss of the responses to each prompt together, \f$ \frac1G \sum_g l_g \f$: real_classification. Reads groups and score.
/// `prompts` is G of the whole batch, for a batch in pieces; 0: those of the call.
/// Errors: null, shape, index, argument, memory. Cost: two passes over the tokens, a few over each group.
template <class Formula, class Reduction = averaged_log_ratio>
struct group_sequence_loss {
  Formula formula{};
  Reduction reduction{};
  double prompts = 0;  ///< G of the whole batch; 0: those of the call

  template <class B, class T = float, class Space = typename B::space>
    requires backend<B>
  status operator()(B& be, const layout<typename B::space>& sequences, const sequence_inputs<T, Space>& in,
                    const sequence_outputs<T, Space>& out) const {
    static_assert(std::same_as<Space, typename B::space>,
                  "rlhf: these views live in another memory space than the backend works in");
    constexpr const char* name = "group_sequence_loss";
    const std::int64_t rows = sequences.sequences, groups = in.groups.groups.sequences;
    if constexpr (std::same_as<Space, host_space>)
      if (auto s = check(sequences, name); !s) return s;
    if (auto s = check(in.groups, rows, name); !s) return s;
    if (!in.score && rows > 0) return remark::null(name, "score");
    if (in.score.extent != rows) return remark::shape(name, "score", in.score.extent, rows);
    if (out.per_sequence && out.per_sequence.extent != groups)
      return remark::shape(name, "per_sequence", out.per_sequence.extent, groups);
    sequence_detail::passes<B, T, Reduction> tokens(be, sequences);
    auto losses = be.template scratch<double>(groups);
    auto total = be.template scratch<totals<1>>(1);
    if (!tokens.allocated() || !losses.data() || !total.data()) return remark::memory(name);
    if (auto s = tokens.check(name, reduction, sequences, in, out); !s) return s;
    if (auto s = check_of(formula); !s) return s;
    if (!(prompts >= 0)) return remark::argument(name, "prompts", prompts, "0 (count them) or more");
    const double all = prompts > 0 ? prompts : static_cast<double>(groups), scale = all > 0 ? 1 / all : 0;

    if (auto s = tokens.forward(be, reduction, sequences, in, out.log_ratio); !s) return s;
    if (auto s = be.segment_reduce(
            in.groups.groups,
            sequence_detail::group_kernel<T, Space, Formula>{formula, in.groups, tokens.log_ratio(), in.score, scale,
                                                             tokens.slope(), losses.data(), out.per_sequence});
        !s)
      return s;
    if (auto s = be.map(groups, sequence_detail::mean_of_groups{losses.data(), scale}, total.data()); !s) return s;
    if (out.loss)
      if (auto s = be.once(write_first_sum<T, totals<1>>{total.data(), out.loss.data}); !s) return s;
    return tokens.backward(be, reduction, sequences, in, out.grad_logp);
  }
};
template <class F>
group_sequence_loss(F) -> group_sequence_loss<F>;

}  // namespace rlhf::inline v1
