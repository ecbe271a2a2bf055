#pragma once
// The losses as fused_linear calls them: the same drivers, given a part of the tokens or all of them.
//
// Each view of a loss has `by_parts` (may it be given some tokens at a time?), `of_logits` (does it want the logits
// themselves?), `reads_entropy()`, and `open`, which makes the session of one call: `check()` before anything is written,
// `run(begin, ...)` for tokens, `finish()` once.

#include "rlhf/driver/full_jensen_shannon.hpp"
#include "rlhf/driver/fused_linear_kernels.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/preference_inputs.hpp"

namespace rlhf::inline v1 {

/// What stands between stations 1 and 3, one element for each token of a call. Where the mask is 0, logp and entropy are 0 and
/// the gradients are not read.
template <class T = float, class Space = host_space>
struct linear_streams {
  view<T, 1, Space> logp{};
  view<T, 1, Space> entropy{};       ///< absent where nobody reads it
  view<T, 1, Space> grad_logp{};     ///< to be written
  view<T, 1, Space> grad_entropy{};  ///< to be written; absent where the loss does not read the entropy
  mask_view<Space> mask{};           ///< which tokens count
};

namespace linear_detail {

/// Can a loss be given some tokens at a time? policy_loss can, where no formula looks at its whole sequence.
template <class Loss>
inline constexpr bool separable = false;
template <class O, class P, class A>
inline constexpr bool separable<policy_loss<O, P, A>> =
    !policy_detail::is_sequence_ratio<O> && ((reads_of<O>() | reads_of<P>()) & field::sequence_log_ratio) == 0;

template <class Loss>
inline constexpr bool takes_entropy = true;
template <class O, class P, class A>
inline constexpr bool takes_entropy<policy_loss<O, P, A>> = ((reads_of<O>() | reads_of<P>()) & field::entropy) != 0;

/// The sum of what the parts left, in their order.
template <class T, class Cell>
struct sum_of_parts {
  const Cell* cells;
  std::int64_t parts;
  T* out;
  RLHF_HD RLHF_INLINE void operator()() const {
    double sum = 0;
    for (std::int64_t k = 0; k < parts; ++k) {
      if constexpr (std::same_as<Cell, T>)
        sum += static_cast<double>(cells[k]);
      else
        sum += cells[k].sum[0];
    }
    *out = static_cast<T>(sum);
  }
};

/// A loss that sees all tokens at once.
template <class F>
struct whole_session {
  F call;
  status given;
  status done{};
  [[nodiscard]] status check() const { return given; }
  [[nodiscard]] status run(std::int64_t, std::int64_t) { return done = call(); }
  [[nodiscard]] status finish() const { return done; }
};

/// policy_loss over parts of its tokens, weighed as in the whole.
template <class B, class T, class O, class P, class A>
class policy_parts {
  using space = typename B::space;
  using scalar = compute_t<T>;
  static constexpr const char* name = "policy_loss";

 public:
  policy_parts(B& be, const policy_loss<O, P, A>& loss, const layout<space>& sequences,
               const token_inputs<T, space>& in, const token_outputs<T, space>& out, std::int64_t parts)
      : be_(be),
        loss_(loss),
        sequences_(sequences),
        groups_(in.groups),
        spread_(be, sequences, in),
        cells_(be.template scratch<T>(parts)),
        weights_(be, sequences, in.mask, loss.aggregate),
        call_(policy_detail::call_of(loss.objective, loss.term, sequences.tokens, spread_.inputs(), out)) {}

  [[nodiscard]] status check() {
    if constexpr (std::same_as<space, host_space>)
      if (auto s = rlhf::check(sequences_, name); !s) return s;
    if (!spread_ || !cells_.data()) return remark::memory(name);
    if (auto s = item_detail::check(call_); !s) return s;
    if (auto s = spread_.copy(be_, sequences_); !s) return s;
    return weights_.compute(be_, name, sequences_, call_.mask, loss_.aggregate, groups_);
  }
  [[nodiscard]] status run(std::int64_t begin, std::int64_t n) {
    auto part = call_;
    part.items = n;
    for (auto& v : part.streams.variable) v = part_of(v, begin, n);
    for (auto& v : part.streams.constant) v = part_of(v, begin, n);
    part.mask = part_of(part.mask, begin, n);
    part.keep = part_of(part.keep, begin, n);
    part.importance = part_of(part.importance, begin, n);
    part.per_item = part_of(part.per_item, begin, n);
    for (auto& v : part.gradient) v = part_of(v, begin, n);
    part.weight = weights_.get();
    if (part.weight.each != nullptr) part.weight.each += begin;
    part.loss = {cells_.data() + parts_++, 1};
    return run_items(be_, part);
  }
  [[nodiscard]] status finish() {
    if (call_.loss)
      if (auto s = be_.once(sum_of_parts<T, T>{cells_.data(), parts_, call_.loss.data}); !s) return s;
    return weights_.empty() ? remark::empty(name, "mask") : status{};
  }

 private:
  B& be_;
  policy_loss<O, P, A> loss_;
  layout<space> sequences_;
  grouping<space> groups_;
  policy_detail::spread_inputs<B, T> spread_;
  decltype(std::declval<B&>().template scratch<T>(0)) cells_;
  token_weights<B, scalar> weights_;
  item_call<token, T, space, O, P> call_;
  std::int64_t parts_ = 0;
};

template <class Loss>
struct parts_of {};
template <class O, class P, class A>
struct parts_of<policy_loss<O, P, A>> {
  template <class B, class T>
  using type = policy_parts<B, T, O, P, A>;
};

/// The parts of a loss, and what was wrong before it was called.
template <class Parts>
struct parts_session {
  status given;
  Parts parts;
  [[nodiscard]] status check() { return given ? parts.check() : given; }
  [[nodiscard]] status run(std::int64_t begin, std::int64_t n) { return parts.run(begin, n); }
  [[nodiscard]] status finish() { return parts.finish(); }
};

/// What fused_linear computes must not come from the caller too.
[[nodiscard]] RLHF_INLINE status not_given(const char* function, bool given) {
  if (!given) return {};
  return {errc::argument,
          function,
          "logp, entropy, mask or a gradient",
          "given by the caller:",
          1,
          0,
          "none: fused_linear computes them, and has the mask"};
}

/// A row's weight where it counts.
template <class T, class Space>
struct weigh_rows {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  item_weight<T> weight;
  mask_view<Space> mask;
  T* out;
  RLHF_HD RLHF_INLINE void prepare() { weight.prepare(); }
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return rlhf::unit_stride(mask); }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    memory_traits<V>::store(out + i,
                            select(load_mask<V>(mask, i), weight.template at<V>(i), V(number_traits<V>::constant(0))));
  }
};
template <class T>
struct weighted_sum {
  using scalar = T;
  static constexpr int sums = 1, maxima = 0;
  const T* weight;
  const T* value;  // 0 where the row does not count
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return true; }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 1, 0>& acc) const {
    acc.sum[0] = acc.sum[0] + memory_traits<V>::load(weight + i) * memory_traits<V>::load(value + i);
  }
};
template <class T, class Space>
struct copy_values {
  using scalar = T;
  static constexpr int sums = 0, maxima = 0;
  const T* from;
  view<T, 1, Space> to;
  [[nodiscard]] RLHF_HD RLHF_INLINE bool unit_stride() const { return rlhf::unit_stride(to); }
  template <class V>
  RLHF_HD RLHF_INLINE void operator()(std::int64_t i, accumulator<V, 0, 0>&) const {
    store(to, i, memory_traits<V>::load(from + i));
  }
};

}  // namespace linear_detail

/// A loss of tokens: policy_loss, sft, sequence_policy_loss, or anything called as
/// `loss(be, sequences, inputs, outputs)` whose inputs have `logp` and `mask` (and `entropy`) and whose outputs have
/// `grad_logp` (and `grad_entropy`). Those are fused_linear's: leave them out.
template <class Loss, class Inputs, class Outputs, class Space = host_space>
struct over_tokens {
  Loss loss;
  layout<Space> sequences;
  Inputs in;
  Outputs out;

  static constexpr bool of_logits = false;
  static constexpr bool by_parts = linear_detail::separable<Loss>;
  static constexpr bool with_entropy = requires(Inputs& i, Outputs& o) { i.entropy, o.grad_entropy; };
  [[nodiscard]] static constexpr bool reads_entropy() { return with_entropy && linear_detail::takes_entropy<Loss>; }

  template <class L, class Index, class B, class Product, class T>
  [[nodiscard]] auto open(B& be, const Product&, const linear_inputs<L, Space, Index>&,
                          const linear_streams<T, Space>& all, std::int64_t rows) const {
    const status given = check(all.logp.extent);
    Inputs from = in;
    Outputs to = out;
    from.logp = all.logp;
    from.mask = all.mask;
    to.grad_logp = all.grad_logp;
    if constexpr (with_entropy) {
      from.entropy = all.entropy;
      to.grad_entropy = all.grad_entropy;
    }
    if constexpr (by_parts) {
      using parts = typename linear_detail::parts_of<Loss>::template type<B, T>;
      const std::int64_t count = rows > 0 ? (all.logp.extent - 1) / rows + 1 : 0;
      return linear_detail::parts_session<parts>{given, parts(be, loss, sequences, from, to, count)};
    } else {
      const auto call = [&be, whole = loss, from, to, s = sequences] { return whole(be, s, from, to); };
      return linear_detail::whole_session<decltype(call)>{call, given};
    }
  }

 private:
  [[nodiscard]] status check(std::int64_t tokens) const {
    if (sequences.tokens != tokens) return remark::shape("over_tokens", "sequences", sequences.tokens, tokens);
    bool given = in.logp || in.mask || out.grad_logp;
    if constexpr (with_entropy) given = given || in.entropy || out.grad_entropy;
    return linear_detail::not_given("over_tokens", given);
  }
};
template <class Loss, class Space, class Inputs, class Outputs>
over_tokens(Loss, layout<Space>, Inputs, Outputs) -> over_tokens<Loss, Inputs, Outputs, Space>;

/// A loss of pairs (preference_loss and the like): the tokens of the chosen responses come first and those of the rejected
/// ones behind them, each in its layout of `in`. `logp` and `mask` of both sides and the gradients are fused_linear's: leave
/// them out.
template <class Loss, class T = float, class Space = host_space>
struct over_pairs {
  Loss loss;
  token_pair_inputs<T, Space> in;
  pair_outputs<T, Space> out;

  static constexpr bool of_logits = false, by_parts = false;
  [[nodiscard]] static constexpr bool reads_entropy() { return false; }

  template <class L, class Index, class B, class Product>
  [[nodiscard]] auto open(B& be, const Product&, const linear_inputs<L, Space, Index>&,
                          const linear_streams<T, Space>& all, std::int64_t) const {
    using linear_detail::part_of;
    const std::int64_t chosen = in.chosen.sequences.tokens, rejected = in.rejected.sequences.tokens;
    token_pair_inputs<T, Space> from = in;
    pair_outputs<T, Space> to = out;
    from.chosen.logp = part_of(all.logp, 0, chosen);
    from.rejected.logp = part_of(all.logp, chosen, rejected);
    from.chosen.mask = part_of(all.mask, 0, chosen);
    from.rejected.mask = part_of(all.mask, chosen, rejected);
    to.grad_chosen = part_of(all.grad_logp, 0, chosen);
    to.grad_rejected = part_of(all.grad_logp, chosen, rejected);
    const auto call = [&be, whole = loss, from, to] { return whole(be, from, to); };
    return linear_detail::whole_session<decltype(call)>{call, check(all.logp.extent)};
  }

 private:
  [[nodiscard]] status check(std::int64_t tokens) const {
    const std::int64_t both = in.chosen.sequences.tokens + in.rejected.sequences.tokens;
    if (both != tokens) return remark::shape("over_pairs", "chosen and rejected", both, tokens);
    return linear_detail::not_given("over_pairs", in.chosen.logp || in.rejected.logp || in.chosen.mask ||
                                                      in.rejected.mask || out.grad_chosen || out.grad_rejected);
  }
};
template <class Loss, class T, class Space>
over_pairs(Loss, token_pair_inputs<T, Space>, pair_outputs<T, Space>) -> over_pairs<Loss, T, Space>;

/// Anything else: `call(be, streams)` reads `streams.logp` (and `entropy`, if `entropy` is set) of all tokens and writes
/// every element of `streams.grad_logp` (and `grad_entropy`).
template <class Call>
struct over_all {
  Call call;
  bool entropy = false;

  static constexpr bool of_logits = false, by_parts = false;
  [[nodiscard]] constexpr bool reads_entropy() const { return entropy; }

  template <class L, class Index, class B, class Product, class Space, class T>
  [[nodiscard]] auto open(B& be, const Product&, const linear_inputs<L, Space, Index>&,
                          const linear_streams<T, Space>& all, std::int64_t) const {
    const auto bound = [&be, whole = call, all] { return whole(be, all); };
    return linear_detail::whole_session<decltype(bound)>{bound, {}};
  }
};
template <class Call>
over_all(Call) -> over_all<Call>;
template <class Call>
over_all(Call, bool) -> over_all<Call>;

/// The generalised Jensen-Shannon divergence of rows of logits, as over_rows calls one (full_jensen_shannon has the formula).
struct jensen_shannon_rows {
  double beta = 0.5;  ///< 0: KL(teacher || student), 1: KL(student || teacher)
  template <class B, class L, class T, class Space>
  status operator()(B& be, const full_kl_inputs<L, Space>& in, const full_kl_outputs<L, T, Space>& out) const {
    return full_jensen_shannon(be, in, out, beta);
  }
};

/// Distillation: a divergence of each row from a teacher's, whose logits come from its own head, a chunk at a time.
///
/// \f$ L = \sum_t W_t\,D(p_t, q_t) \f$, W from the aggregate and fused_linear's mask. `divergence(be, full_kl_inputs,
/// full_kl_outputs)` is jensen_shannon_rows, or a struct or lambda around full_kl, full_total_variation and their like.
/// The temperature divides the logits of both.
template <class Divergence, class Aggregate = token_mean, class L = float, class Space = host_space>
struct over_rows {
  Divergence divergence;
  linear_head<L, Space>
      teacher;  ///< as many tokens; at least the columns of the vocabulary, more are not read; its depth may be another
  layout<Space> sequences{};  ///< for aggregates that look at sequences; of the tokens
  Aggregate aggregate{};
  view<compute_t<L>, 1, Space> loss{};       ///< one element
  view<compute_t<L>, 1, Space> per_token{};  ///< [tokens] the divergence, nats

  static constexpr bool of_logits = true, by_parts = true;
  [[nodiscard]] static constexpr bool reads_entropy() { return false; }

  template <class M, class Index, class B, class Product>
  [[nodiscard]] auto open(B& be, const Product& product, const linear_inputs<L, Space, Index>& in,
                          const linear_streams<compute_t<L>, Space>&, std::int64_t rows) const {
    static_assert(std::same_as<M, L>, "rlhf: student and teacher are stored in the same type");
    return session<B, Product, Index>(be, product, *this, in, rows);
  }

 private:
  template <class B, class Product, class Index>
  class session {
    using T = compute_t<L>;
    static constexpr const char* name = "over_rows";

   public:
    session(B& be, const Product& product, const over_rows& what, const linear_inputs<L, Space, Index>& in,
            std::int64_t rows)
        : be_(be),
          product_(product),
          what_(what),
          in_(in),
          tokens_(in.head.tokens()),
          vocabulary_(in.vocabulary > 0 ? in.vocabulary : in.head.columns()),
          sequences_(what.sequences.tokens > 0 ? what.sequences : layout<Space>{nullptr, tokens_, 1, tokens_}),
          logits_(be.template scratch<L>(rows * what.teacher.columns())),
          streams_(be.template scratch<T>(2 * rows)),
          cells_(be.template scratch<totals<1>>(rows > 0 ? (tokens_ - 1) / rows + 1 : 0)),
          weights_(be, sequences_, in.mask, what.aggregate),
          rows_(rows) {}

    [[nodiscard]] status check() {
      if (auto s = linear_detail::check(what_.teacher, name, "teacher.hidden", "teacher.weight", "teacher.bias"); !s)
        return s;
      if (what_.teacher.tokens() != tokens_) return remark::shape(name, "teacher", what_.teacher.tokens(), tokens_);
      if (sequences_.tokens != tokens_) return remark::shape(name, "sequences", sequences_.tokens, tokens_);
      if (tokens_ > 0 && what_.teacher.columns() < vocabulary_)
        return {errc::shape,
                name,
                "teacher.weight",
                "has columns:",
                static_cast<double>(what_.teacher.columns()),
                0,
                "at least the vocabulary"};
      if (what_.loss && what_.loss.extent != 1) return remark::shape(name, "loss", what_.loss.extent, 1);
      if (what_.per_token && what_.per_token.extent != tokens_)
        return remark::shape(name, "per_token", what_.per_token.extent, tokens_);
      if constexpr (std::same_as<Space, host_space>)
        if (auto s = rlhf::check(sequences_, name); !s) return s;
      if (!logits_.data() || !streams_.data() || !cells_.data()) return remark::memory(name);
      return weights_.compute(be_, name, sequences_, in_.mask, what_.aggregate);
    }
    [[nodiscard]] status run(std::int64_t begin, const view<L, 2, Space>& student) {
      using namespace linear_detail;
      const std::int64_t n = student.rows;
      const view<L, 2, Space> others(logits_.data(), n, vocabulary_, what_.teacher.columns());
      if (auto s = logits_of(be_, product_, columns_of(what_.teacher, vocabulary_), begin, others); !s) return s;
      item_weight<T> weight = weights_.get();
      if (weight.each != nullptr) weight.each += begin;
      const mask_view<Space> mask = part_of(in_.mask, begin, n);
      if (auto s = be_.map(n, weigh_rows<T, Space>{weight, mask, streams_.data()}, nullptr); !s) return s;
      full_kl_inputs<L, Space> from;
      from.logits = student;
      from.ref_logits = others;
      from.mask = mask;
      from.vocabulary = vocabulary_;
      from.temperature = in_.temperature;
      full_kl_outputs<L, T, Space> to;
      to.kl = {streams_.data() + rows_, n};
      to.grad_kl = view<T, 1, Space>(streams_.data(), n);
      to.grad_logits = student;
      if (auto s = what_.divergence(be_, from, to); !s) return s;
      if (what_.per_token)
        if (auto s = be_.map(n, copy_values<T, Space>{to.kl.data, part_of(what_.per_token, begin, n)}, nullptr); !s)
          return s;
      return be_.map(n, weighted_sum<T>{streams_.data(), to.kl.data}, cells_.data() + parts_++);
    }
    [[nodiscard]] status finish() {
      if (what_.loss)
        if (auto s = be_.once(linear_detail::sum_of_parts<T, totals<1>>{cells_.data(), parts_, what_.loss.data}); !s)
          return s;
      return weights_.empty() ? remark::empty(name, "mask") : status{};
    }

   private:
    template <class S>
    using buffer = decltype(std::declval<B&>().template scratch<S>(0));
    B& be_;
    Product product_;
    over_rows what_;
    linear_inputs<L, Space, Index> in_;
    std::int64_t tokens_, vocabulary_;
    layout<Space> sequences_;
    buffer<L> logits_;
    buffer<T> streams_;
    buffer<totals<1>> cells_;
    token_weights<B, T> weights_;
    std::int64_t rows_, parts_ = 0;
  };
};
template <class Divergence, class L, class Space>
over_rows(Divergence, linear_head<L, Space>) -> over_rows<Divergence, token_mean, L, Space>;
template <class Divergence, class L, class Space>
over_rows(Divergence, linear_head<L, Space>, layout<Space>) -> over_rows<Divergence, token_mean, L, Space>;
template <class Divergence, class L, class Space, class Aggregate>
over_rows(Divergence, linear_head<L, Space>, layout<Space>, Aggregate) -> over_rows<Divergence, Aggregate, L, Space>;
template <class Divergence, class L, class Space, class Aggregate, class Loss>
over_rows(Divergence, linear_head<L, Space>, layout<Space>, Aggregate, Loss)
    -> over_rows<Divergence, Aggregate, L, Space>;

}  // namespace rlhf::inline v1
