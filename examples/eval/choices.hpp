#pragma once
// Library formulas chosen by name at run time, so that one kernel serves all of them. Each choice is a switch over the
// library's own structs: nothing is computed here. Unlike formulas of the library they are not forced inline, which would
// triple the time to compile.

#include <cstdint>
#include <string>

#include "failure.hpp"
#include "parameter.hpp"
#include "rlhf/advantage/whiten.hpp"
#include "rlhf/objective/aggregate.hpp"
#include "rlhf/objective/kl.hpp"

namespace eval {

/// Any of the KL estimators. `BySequence`: where it is weighed by a ratio, then by the sequence's.
template <bool BySequence = false>
struct any_estimator {
  enum class kind { k1, absolute, k2, k3 };
  kind which = kind::k3;
  bool straight_through = false;  // its value with the gradient of k2
  bool weighed = false;           // times the ratio
  double log_ratio_bound = rlhf::infinity;
  double bound = rlhf::infinity;

  static constexpr unsigned reads = rlhf::field::ref_logp;
  static constexpr bool beside_sequence_ratio = BySequence;

  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::token<V>& t) const {
    switch (which) {
      case kind::k1:
        return of(rlhf::k1{bound}, t);
      case kind::absolute:
        return of(rlhf::absolute{}, t);
      case kind::k2:
        return of(rlhf::k2{bound}, t);
      default:
        return of(rlhf::k3{log_ratio_bound, bound}, t);
    }
  }

 private:
  template <class Estimator, rlhf::number V>
  RLHF_HD V of(const Estimator& estimator, const rlhf::token<V>& t) const {
    using weigher =
        std::conditional_t<BySequence, rlhf::sequence_weighted<Estimator>, rlhf::importance_weighted<Estimator>>;
    if (straight_through) return rlhf::value_and_gradient<Estimator>{estimator, {}}(t);
    if (weighed) return weigher{estimator}(t);
    return estimator(t);
  }
};

/// `prefix` is "kl." or "", where the estimator's parameters are.
template <bool BySequence = false>
[[nodiscard]] any_estimator<BySequence> make_estimator(const arguments& a, const std::string& prefix,
                                                       const std::string& name) {
  using kind = typename any_estimator<BySequence>::kind;
  any_estimator<BySequence> e;
  std::string base = name;
  if (base.ends_with("+")) {
    e.straight_through = true;
    base.pop_back();
  } else if (base.ends_with("_ratio")) {
    e.weighed = true;
    base.resize(base.size() - 6);
  }
  e.which = base == "k1" ? kind::k1 : base == "abs" ? kind::absolute : base == "k2" ? kind::k2 : kind::k3;
  e.log_ratio_bound = a.bound(prefix + "input_clamp");
  e.bound = a.bound(prefix + "output_clamp");
  return e;
}

inline const std::vector<std::string> estimator_names{"k1",   "abs", "k2",       "k3",      "k1+",
                                                      "abs+", "k3+", "k3_ratio", "k1_ratio"};

[[nodiscard]] inline parameters estimator_bounds(const std::string& prefix) {
  return {optional_number(prefix + "input_clamp", "bound of the log-ratio before k3"),
          optional_number(prefix + "output_clamp", "bound of the estimate")};
}

/// Any of the aggregates whose weight is the same for every token.
struct any_uniform {
  enum class kind { token_mean, token_sum, fixed_length, length_weighted };
  kind which = kind::token_mean;
  rlhf::token_mean mean{};
  rlhf::token_sum sum{};
  rlhf::fixed_length fixed{1};
  rlhf::length_weighted_mean weighted{};
  static constexpr bool uniform = true;

  [[nodiscard]] RLHF_HD constexpr double weight(double n, double g, const rlhf::aggregation_counts& counts) const {
    switch (which) {
      case kind::token_sum:
        return sum.weight(n, g, counts);
      case kind::fixed_length:
        return fixed.weight(n, g, counts);
      case kind::length_weighted:
        return weighted.weight(n, g, counts);
      default:
        return mean.weight(n, g, counts);
    }
  }
};

/// Any of the aggregates whose weight depends on the sequence.
struct any_weighted {
  enum class kind { row_mean, sequence_mean_token_mean, sequence_mean_token_sum };
  kind which = kind::row_mean;
  rlhf::row_mean row{};
  rlhf::sequence_mean_token_mean mean{};
  rlhf::sequence_mean_token_sum sum{};
  static constexpr bool uniform = false;

  [[nodiscard]] RLHF_HD constexpr double weight(double n, double g, const rlhf::aggregation_counts& counts) const {
    switch (which) {
      case kind::sequence_mean_token_mean:
        return mean.weight(n, g, counts);
      case kind::sequence_mean_token_sum:
        return sum.weight(n, g, counts);
      default:
        return row.weight(n, g, counts);
    }
  }
};

inline const std::vector<std::string> aggregation_names{"token-mean",
                                                        "token-sum",
                                                        "bnpo",
                                                        "dapo",
                                                        "dr_grpo",
                                                        "seq-mean-token-mean",
                                                        "seq-mean-token-sum",
                                                        "seq-mean-token-sum-norm",
                                                        "grpo",
                                                        "luspo",
                                                        "prompt-mean"};

/// The numbers of an aggregation, whatever its mode; a mode takes what it knows.
[[nodiscard]] inline parameters aggregation_numbers(const std::string& prefix) {
  return {optional_number(prefix + "batch_num_tokens", "token-mean: tokens of the whole batch; null: of this call"),
          optional_number(prefix + "global_batch_size", "seq-mean-*: sequences of the whole batch; null: of this call"),
          number(prefix + "dp_size", 1, "token-mean, token-sum, seq-mean-*: the mean times the number of processes"),
          optional_number(prefix + "num_items_in_batch", "dapo: tokens of the whole batch; null: of this call"),
          number(prefix + "num_processes", 1, "dapo: the mean times the number of processes"),
          optional_number(prefix + "max_completion_length", "dr_grpo: the constant length (required there)"),
          optional_number(prefix + "loss_scale_factor", "seq-mean-token-sum-norm: the divisor; null: the columns"),
          number(prefix + "eps", 0, "a published guard of a divisor; accepted, not copied")};
}

[[nodiscard]] inline parameters aggregation_parameters() {
  return parameters{word("aggregation.mode", "token-mean", aggregation_names, "how the tokens add up")} +
         aggregation_numbers("aggregation.");
}

/// Calls `f` with the aggregate that the mode names; `columns` is the width of the padded rows.
template <class F>
void with_aggregate(const arguments& a, const std::string& prefix, const std::string& mode, std::int64_t columns,
                    const F& f) {
  const auto global = [&](const char* name) { return a.number_or(prefix + name, 0); };
  any_uniform u;
  any_weighted w;
  if (mode == "prompt-mean") return f(rlhf::prompt_mean{});
  if (mode == "grpo") return f(w);
  if (mode.starts_with("seq-mean-")) {
    const double sequences = global("global_batch_size"), scale = a.number(prefix + "dp_size");
    w.mean = {sequences, scale};
    w.sum = {sequences, scale,
             mode.ends_with("-norm") ? a.number_or(prefix + "loss_scale_factor", static_cast<double>(columns)) : 1};
    w.which = mode == "seq-mean-token-mean" ? any_weighted::kind::sequence_mean_token_mean
                                            : any_weighted::kind::sequence_mean_token_sum;
    return f(w);
  }
  if (mode == "token-mean") u.mean = {global("batch_num_tokens"), a.number(prefix + "dp_size")};
  if (mode == "dapo") u.mean = {global("num_items_in_batch"), a.number(prefix + "num_processes")};
  if (mode == "token-sum") {
    u.which = any_uniform::kind::token_sum;
    u.sum = {a.number(prefix + "dp_size")};
  }
  if (mode == "dr_grpo") {
    if (!a.given(prefix + "max_completion_length"))
      throw failure{"argument", text("params.", prefix, "max_completion_length is missing, wants a number (dr_grpo)")};
    u.which = any_uniform::kind::fixed_length;
    u.fixed = {a.number(prefix + "max_completion_length")};
  }
  if (mode == "luspo") u.which = any_uniform::kind::length_weighted;
  f(u);
}

inline const std::vector<std::string> whitening_names{"unbiased_rsqrt", "biased_rsqrt", "biased_clamp", "std_plus"};

[[nodiscard]] inline rlhf::whiten make_whiten(const std::string& kind, bool shift_mean) {
  rlhf::whiten how;
  how.biased = kind.starts_with("biased");
  how.shift_mean = shift_mean;
  if (kind == "biased_clamp") how.divisor = rlhf::spread::clamped;
  if (kind == "std_plus") {
    how.biased = true;
    how.divisor = rlhf::spread::plus;
    how.epsilon = 1e-5;
  }
  return how;
}

}  // namespace eval
