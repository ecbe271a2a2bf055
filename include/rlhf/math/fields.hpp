#pragma once
// What a formula sees of one item: bundles of named fields.
//
// A field of type V is differentiable: a driver seeds it as a variable of a dual number. A field of type value_t<V> is a
// constant of the loss: no derivative can pass through it, so a stop-gradient cannot be forgotten. A formula names the
// fields it uses; a field that the caller did not provide is NaN, so that a missing input is loud.

#include <cstdint>

#include "rlhf/core/status.hpp"
#include "rlhf/math/dual.hpp"

namespace rlhf::inline v1 {

/// One token of a sequence. Log-probabilities are in nats.
template <number V>
struct token {
  V logp{};     ///< log pi(y_t) of the policy being trained, nats
  V entropy{};  ///< entropy of its distribution at this position, nats

  value_t<V> old_logp{};            ///< log-probability under the policy that the batch was scored with, nats
  value_t<V> ref_logp{};            ///< log-probability under the frozen reference, nats
  value_t<V> rollout_logp{};        ///< log-probability that the sampling engine reported, nats
  value_t<V> advantage{};           ///< advantage of this token, in units of reward
  value_t<V> sequence_log_ratio{};  ///< mean of logp - old_logp over the sequence this token belongs to, nats
  value_t<V> score{};               ///< score of the response this token belongs to

  /// The same, differentiable; only beside a sequence_ratio objective, whose driver keeps it in the entropy's place.
  [[nodiscard]] RLHF_HD RLHF_INLINE const V& variable_sequence_log_ratio() const { return entropy; }

  static constexpr int variables = 2;
  static constexpr int constants = 6;
  static constexpr int partials = 1;  // the entropy is seeded too where a formula says `partials = 2`
  static constexpr const char* variable_names[] = {"logp", "entropy"};
  static constexpr const char* gradient_names[] = {"grad_logp", "grad_entropy"};
  static constexpr const char* loss_name = "per_token";
  static constexpr const char* constant_names[] = {"old_logp",  "ref_logp",           "rollout_logp",
                                                   "advantage", "sequence_log_ratio", "score"};

  template <class F>
  static RLHF_HD RLHF_INLINE void visit(token& t, F&& f) {
    f.variable(0, t.logp);
    f.variable(1, t.entropy);
    f.constant(0, t.old_logp);
    f.constant(1, t.ref_logp);
    f.constant(2, t.rollout_logp);
    f.constant(3, t.advantage);
    f.constant(4, t.sequence_log_ratio);
    f.constant(5, t.score);
  }
};

/// One response of a pair: its log-probability as a whole (the sum over its tokens) and what else is known of it.
template <number V>
struct response {
  V logp{};                    ///< under the policy being trained: the sum over its tokens, nats
  value_t<V> ref_logp{};       ///< the same under the frozen reference
  value_t<V> length{};         ///< tokens; below 1 it counts as 1 where it divides
  value_t<V> reward{};         ///< its score or the probability that it wins, as the formula says
  value_t<V> previous_logp{};  ///< under the policy of the last iteration, where that is not the reference, nats

  /// log pi(y|x) - log pi_ref(y|x).
  [[nodiscard]] RLHF_HD RLHF_INLINE V log_ratio() const { return logp - ref_logp; }
  /// A length that may be divided by: at least 1.
  [[nodiscard]] RLHF_HD RLHF_INLINE value_t<V> divisor() const { return max(length, constant<V>(1)); }
};

/// A chosen and a rejected response to the same prompt.
template <number V>
struct pair {
  response<V> chosen{};
  response<V> rejected{};
  value_t<V> margin{};  ///< how much better the chosen one is, where the data say so

  /// The difference of the log-ratios.
  [[nodiscard]] RLHF_HD RLHF_INLINE V log_ratio_margin() const { return chosen.log_ratio() - rejected.log_ratio(); }

  static constexpr int variables = 2;
  static constexpr int constants = 9;
  static constexpr int partials = 2;
  static constexpr const char* variable_names[] = {"chosen", "rejected"};
  static constexpr const char* gradient_names[] = {"grad_chosen", "grad_rejected"};
  static constexpr const char* loss_name = "per_pair";
  static constexpr const char* constant_names[] = {"ref_chosen",      "ref_rejected",    "chosen_length",
                                                   "rejected_length", "chosen_reward",   "rejected_reward",
                                                   "margin",          "previous_chosen", "previous_rejected"};

  template <class F>
  static RLHF_HD RLHF_INLINE void visit(pair& p, F&& f) {
    f.variable(0, p.chosen.logp);
    f.variable(1, p.rejected.logp);
    f.constant(0, p.chosen.ref_logp);
    f.constant(1, p.rejected.ref_logp);
    f.constant(2, p.chosen.length);
    f.constant(3, p.rejected.length);
    f.constant(4, p.chosen.reward);
    f.constant(5, p.rejected.reward);
    f.constant(6, p.margin);
    f.constant(7, p.chosen.previous_logp);
    f.constant(8, p.rejected.previous_logp);
  }
};

/// The scores a reward model gives to the two responses of a pair.
template <number V>
struct score_pair {
  V chosen{};                ///< score of the better response, or the first one
  V rejected{};              ///< score of the other
  value_t<V> margin{};       ///< how far apart they should be, or another number of the pair, as the formula says
  value_t<V> probability{};  ///< that the chosen one is really preferred, where the labels are soft
  V tie{};                   ///< how strong ties are, one number for all pairs: a variable of models that know ties

  static constexpr int variables = 3;
  static constexpr int constants = 2;
  static constexpr int partials = 2;  // the tie is seeded too where a formula says `partials = 3`
  static constexpr const char* variable_names[] = {"chosen", "rejected", "tie"};
  static constexpr const char* gradient_names[] = {"grad_chosen", "grad_rejected", "grad_tie"};
  static constexpr const char* loss_name = "per_pair";
  static constexpr const char* constant_names[] = {"margin", "probability"};

  template <class F>
  static RLHF_HD RLHF_INLINE void visit(score_pair& p, F&& f) {
    f.variable(0, p.chosen);
    f.variable(1, p.rejected);
    f.variable(2, p.tie);
    f.constant(0, p.margin);
    f.constant(1, p.probability);
  }
};

/// A value prediction and what it should have been.
template <number V>
struct value_item {
  V value{};               ///< the prediction, in units of reward
  value_t<V> old_value{};  ///< the prediction at rollout time
  value_t<V> returns{};    ///< the target

  static constexpr int variables = 1;
  static constexpr int constants = 2;
  static constexpr int partials = 1;
  static constexpr const char* variable_names[] = {"value"};
  static constexpr const char* gradient_names[] = {"grad_value"};
  static constexpr const char* loss_name = "per_token";
  static constexpr const char* constant_names[] = {"old_value", "returns"};

  template <class F>
  static RLHF_HD RLHF_INLINE void visit(value_item& v, F&& f) {
    f.variable(0, v.value);
    f.constant(0, v.old_value);
    f.constant(1, v.returns);
  }
};

/// One response with a label of its own instead of a partner.
template <number V>
struct labelled_response {
  V logp{};  ///< of the whole response: the sum over its tokens, nats

  value_t<V> label{};            ///< 1: desirable, 0: not; where a formula regresses on ratings, the rating
  value_t<V> ref_logp{};         ///< the same under the frozen reference
  value_t<V> reference_point{};  ///< what its reward is compared with: KTO's KL in nats, BCO's delta in units of reward
  value_t<V> length{};           ///< tokens

  /// log pi(y|x) - log pi_ref(y|x).
  [[nodiscard]] RLHF_HD RLHF_INLINE V log_ratio() const { return logp - ref_logp; }
  [[nodiscard]] RLHF_HD RLHF_INLINE mask_t<V> desirable() const { return label > constant<V>(0.5); }

  static constexpr int variables = 1;
  static constexpr int constants = 4;
  static constexpr int partials = 1;
  static constexpr const char* variable_names[] = {"logp"};
  static constexpr const char* gradient_names[] = {"grad_logp"};
  static constexpr const char* loss_name = "per_response";
  static constexpr const char* constant_names[] = {"label", "ref_logp", "reference_point", "length"};

  template <class F>
  static RLHF_HD RLHF_INLINE void visit(labelled_response& r, F&& f) {
    f.variable(0, r.logp);
    f.constant(0, r.label);
    f.constant(1, r.ref_logp);
    f.constant(2, r.reference_point);
    f.constant(3, r.length);
  }
};

/// The fields that a formula reads, as bits, so that a driver can say which input is missing: an optional member
/// `static constexpr unsigned reads = field::old_logp | field::advantage;` of the formula.
namespace field {

inline constexpr unsigned old_logp = 1u << 0, ref_logp = 1u << 1, rollout_logp = 1u << 2, advantage = 1u << 3,
                          sequence_log_ratio = 1u << 4, score = 1u << 5, entropy = 1u << 17;
inline constexpr unsigned ref_chosen = 1u << 0, ref_rejected = 1u << 1, chosen_length = 1u << 2,
                          rejected_length = 1u << 3, chosen_reward = 1u << 4, rejected_reward = 1u << 5,
                          pair_margin = 1u << 6, previous_chosen = 1u << 7, previous_rejected = 1u << 8;
inline constexpr unsigned references = ref_chosen | ref_rejected, lengths = chosen_length | rejected_length,
                          rewards = chosen_reward | rejected_reward, previous = previous_chosen | previous_rejected;
inline constexpr unsigned score_margin = 1u << 0, probability = 1u << 1, tie = 1u << 18;
inline constexpr unsigned old_value = 1u << 0, returns = 1u << 1;
inline constexpr unsigned label = 1u << 0, reference_point = 1u << 2, length = 1u << 3;  // and ref_logp, as above

}  // namespace field

/// What a formula declares to read; nothing where it declares nothing.
template <class Formula>
[[nodiscard]] constexpr unsigned reads_of() {
  if constexpr (requires { Formula::reads; })
    return Formula::reads;
  else
    return 0;
}

/// Does a formula say what it reads? One that does not may read anything.
template <class Formula>
[[nodiscard]] constexpr bool declares_reads() {
  return requires { Formula::reads; } || requires(const Formula& f) { f.needs(); };
}

/// What this very object reads: its `needs()` where that depends on its members, else all that its type may read.
template <class Formula>
[[nodiscard]] constexpr unsigned needs_of(const Formula& f) {
  if constexpr (requires { f.needs(); })
    return f.needs();
  else
    return reads_of<Formula>();
}

/// Does a formula read the differentiable log-ratio of the sequence? It says so with `beside_sequence_ratio = true`.
template <class Formula>
[[nodiscard]] constexpr bool beside_sequence_ratio_of() {
  if constexpr (requires { Formula::beside_sequence_ratio; })
    return Formula::beside_sequence_ratio;
  else
    return false;
}

/// A formula's own check of its hyperparameters; ok where it has none.
template <class Formula>
[[nodiscard]] constexpr status check_of(const Formula& f) {
  if constexpr (requires { f.check(); })
    return f.check();
  else
    return {};
}

/// No formula: as an objective or a term it contributes nothing and costs nothing.
struct none {};

/// How many variables of an item a formula is differentiated in: what the item says, or more where the formula says so.
template <template <class> class Item, class... Formulas>
[[nodiscard]] constexpr int partials_of() {
  int most = Item<double>::partials;
  const auto consider = [&most]<class F>(const F*) {
    if constexpr (requires { F::partials; }) most = F::partials > most ? F::partials : most;
  };
  (consider(static_cast<const Formulas*>(nullptr)), ...);
  return most;
}

/// The same of formulas alone, for a formula that is made of others: 0 where none says anything.
template <class... Formulas>
[[nodiscard]] constexpr int most_partials_of() {
  int most = 0;
  const auto consider = [&most]<class F>(const F*) {
    if constexpr (requires { F::partials; }) most = F::partials > most ? F::partials : most;
  };
  (consider(static_cast<const Formulas*>(nullptr)), ...);
  return most;
}

/// A formula over items of the given kind: one templated call operator that gives the loss of an item.
template <class Formula, template <class> class Item>
concept formula_of = std::same_as<Formula, none> ||
                     requires(const Formula& f, const Item<double>& item, const Item<dual<double>>& seeded) {
                       { f(item) } -> std::convertible_to<double>;
                       { f(seeded) } -> std::convertible_to<dual<double>>;
                     };
template <class O>
concept token_objective = formula_of<O, token>;
template <class O>
concept pair_objective = formula_of<O, pair>;
template <class O>
concept score_objective = formula_of<O, score_pair>;
template <class O>
concept value_objective = formula_of<O, value_item>;
template <class O>
concept unpaired_objective = formula_of<O, labelled_response>;

}  // namespace rlhf::inline v1
