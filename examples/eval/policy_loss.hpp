#pragma once
// policy_loss: objectives of one token.

#include <string>

#include "choices.hpp"
#include "registry.hpp"
#include "rlhf/driver/importance.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/sequence_loss.hpp"
#include "rlhf/driver/token_selection.hpp"
#include "rlhf/objective/weighted.hpp"
#include "workspace.hpp"

namespace eval {

/// Zero for every token: what is left of a call is its term.
struct no_loss {
  template <rlhf::number V>
  RLHF_HD RLHF_INLINE V operator()(const rlhf::token<V>&) const {
    return V(rlhf::constant<V>(0));
  }
};

/// TRL's mean over rows and columns of a row's KL times its length: weight n / (B T), n the tokens of the row.
struct luspo_penalty_mean {
  double columns = 1;
  static constexpr bool uniform = false;
  [[nodiscard]] RLHF_HD constexpr double weight(double n, double, const rlhf::aggregation_counts& counts) const {
    return rlhf::aggregate_detail::over(n, columns * counts.sequences);
  }
};

/// Any of the objectives whose ratio weighs the gradient, chosen at run time.
struct any_weighted_objective {
  enum class kind {
    cispo,
    masked_importance,
    sapo,
    dro,
    dppo_total_variation,
    dppo_binary_kl,
    importance_with_pull,
    gspo_token,
    decoupled_ppo,
    topr,
    absolute_penalty
  };
  kind which;
  rlhf::cispo cispo{};
  rlhf::masked_importance masked{};
  rlhf::sapo sapo{};
  rlhf::direct_reward_optimisation dro{};
  rlhf::dppo_total_variation variation{};
  rlhf::dppo_binary_kl binary_kl{};
  rlhf::importance_with_pull pull{};
  rlhf::gspo_token gspo{};
  rlhf::decoupled_ppo decoupled{};
  rlhf::topr topr{};
  rlhf::kl_penalty<rlhf::absolute> penalty{};

  static constexpr unsigned reads = rlhf::field::old_logp | rlhf::field::advantage | rlhf::field::sequence_log_ratio;

  /// Calls `f` with the chosen one.
  template <class F>
  RLHF_HD constexpr auto chosen(const F& f) const {
    switch (which) {
      case kind::cispo:
        return f(cispo);
      case kind::masked_importance:
        return f(masked);
      case kind::sapo:
        return f(sapo);
      case kind::dro:
        return f(dro);
      case kind::dppo_total_variation:
        return f(variation);
      case kind::dppo_binary_kl:
        return f(binary_kl);
      case kind::importance_with_pull:
        return f(pull);
      case kind::gspo_token:
        return f(gspo);
      case kind::decoupled_ppo:
        return f(decoupled);
      case kind::topr:
        return f(topr);
      default:
        return f(penalty);
    }
  }
  [[nodiscard]] constexpr rlhf::status check() const {
    return chosen([](const auto& o) { return rlhf::check_of(o); });
  }
  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::token<V>& t) const {
    return chosen([&t](const auto& o) { return o(t); });
  }
  static constexpr int statistics_count = 1;
  static constexpr const char* statistics_names[] = {"clip_fraction"};
  template <rlhf::number V>
  RLHF_HD void statistics(const rlhf::token<V>& t, V (&out)[1]) const {
    out[0] = V(rlhf::constant<V>(rlhf::not_a_number));  // left out where the objective has none
    chosen([&](const auto& o) {
      if constexpr (requires { o.statistics(t, out); } &&
                    !std::same_as<decltype(o), const rlhf::kl_penalty<rlhf::absolute>&>)
        o.statistics(t, out);
    });
  }
};

/// One case of policy_loss: calls of the driver whose losses and gradients add up.
template <class B, class T>
class policy_case {
 public:
  explicit policy_case(const problem& p)
      : p_(p), rows_(p.extent("B")), columns_(p.extent("T")), sequences_(work_.rows(rows_, columns_)) {
    mask_ = mask_or_ones(p, "mask", rows_ * columns_);
  }

  [[nodiscard]] std::vector<double>& mask() { return mask_; }
  [[nodiscard]] workspace<B, T>& work() { return work_; }
  [[nodiscard]] rlhf::token_inputs<T, typename B::space>& in() { return in_; }
  [[nodiscard]] const rlhf::layout<typename B::space>& sequences() const { return sequences_; }
  [[nodiscard]] std::int64_t columns() const { return columns_; }

  /// Reads what the op knows. Without old_logp the policy is the one that sampled: ratio 1, slope kept.
  void bind() {
    if (optional_stream("loss_mask"))
      for (std::size_t i = 0; i < mask_.size(); ++i) mask_[i] = mask_[i] != 0 && p_.data("loss_mask")[i] != 0 ? 1 : 0;
    in_.logp = work_.in(p_, "logp");
    in_.old_logp = optional_stream("old_logp") ? work_.in(p_, "old_logp") : in_.logp;
    if (optional_stream("ref_logp")) in_.ref_logp = work_.in(p_, "ref_logp");
    if (optional_stream("advantage")) in_.advantage = work_.in(p_, "advantage");
    if (optional_stream("is_weight")) in_.weight = work_.in(p_, "is_weight");
    if (optional_stream("entropy")) in_.entropy = work_.in(p_, "entropy");
    if (optional_stream("keep"))
      in_.keep = work_.mask(p_["keep"].shape.size() == 1 ? spread(p_.data("keep"), columns_) : p_.data("keep"));
    if (optional_stream("drop")) {
      std::vector<double> kept;
      for (const double x : p_.data("drop")) kept.push_back(x == 0);
      in_.keep = work_.mask(kept);
    }
    if (optional_stream("score")) in_.score = work_.in(p_, "score");
    if (optional_stream("prox_logp")) {  // the clip is around the proximal policy, old_logp is the behaviour policy
      in_.rollout_logp = in_.old_logp;
      in_.old_logp = work_.in(p_, "prox_logp");
    }
    if (optional_stream("prompt_id")) in_.groups = work_.groups(p_.data("prompt_id"));
    in_.mask = work_.mask(mask_);
  }

  /// Adds one call of the driver. Its statistics are merged, its losses per token added where asked for.
  template <class Objective, class Term, class Aggregate>
  void add(const Objective& objective, const Term& term, const Aggregate& aggregate, bool per_token = true,
           bool statistics = true) {
    constexpr bool by_entropy = (rlhf::reads_of<Term>() & rlhf::field::entropy) != 0;
    const std::int64_t n = rows_ * columns_;
    rlhf::statistics found;
    rlhf::token_outputs<T, typename B::space> out;
    out.loss = work_.out(1);
    out.grad_logp = work_.out(n);
    out.per_token = work_.out(n);
    if (by_entropy) out.grad_entropy = work_.out(n);
    out.stats = &found;
    const rlhf::policy_loss<Objective, Term, Aggregate> loss{objective, term, aggregate};
    require(loss(work_.backend(), sequences_, in_, out));
    loss_ += work_.read_one(out.loss);
    sum(grad_logp_, work_.read(out.grad_logp));
    if (per_token) sum(per_token_, work_.read(out.per_token));
    if (by_entropy) sum(grad_entropy_, work_.read(out.grad_entropy));
    if (statistics) keep_new(found);
  }

  void finish(results& out) const {
    const results::shape shape{rows_, columns_};
    out.put("per_token", shape, per_token_);
    out.put("loss", loss_);
    out.gradient("logp", shape, grad_logp_);
    if (!grad_entropy_.empty()) out.gradient("entropy", shape, grad_entropy_);
    put(out, stats_);
  }

  /// Calls `f` with the aggregate of the case.
  template <class F>
  void aggregated(const F& f) const {
    const std::string mode = p_.settings.word("aggregation.mode");
    if (mode == "prompt-mean" && !p_.has("prompt_id"))
      throw failure{"missing_input", "inputs.prompt_id is missing (prompt-mean)"};
    with_aggregate(p_.settings, "aggregation.", mode, columns_, f);
  }

 private:
  [[nodiscard]] bool optional_stream(const std::string& name) const { return p_.declares(name) && p_.has(name); }
  static void sum(std::vector<double>& to, const std::vector<double>& x) {
    if (to.empty()) {
      to = x;
      return;
    }
    for (std::size_t i = 0; i < x.size(); ++i) to[i] += x[i];
  }
  /// Statistics of the same tokens from a second call are the same: only new names are taken.
  void keep_new(const rlhf::statistics& found) {
    rlhf::statistics fresh;
    for (int i = 0; i < found.size; ++i)
      if (stats_.find(found.entries[i].name) == nullptr) fresh.entries[fresh.size++] = found.entries[i];
    stats_.merge(fresh);
  }

  const problem& p_;
  workspace<B, T> work_;
  std::int64_t rows_, columns_;
  rlhf::layout<typename B::space> sequences_;
  std::vector<double> mask_;
  rlhf::token_inputs<T, typename B::space> in_;
  double loss_ = 0;
  std::vector<double> per_token_, grad_logp_, grad_entropy_;
  rlhf::statistics stats_;
};

[[nodiscard]] inline inputs token_arrays() {
  return {required("logp", "B,T"), optional("mask", "B,T"), optional("loss_mask", "B,T"), optional("old_logp", "B,T")};
}
[[nodiscard]] inline inputs advantage_arrays() {
  inputs list = token_arrays();
  for (const input& i : {required("advantage", "B|B,T"), optional("ref_logp", "B,T"), optional("is_weight", "B|B,T"),
                         optional("keep", "B|B,T"), optional("prompt_id", "B")})
    list.push_back(i);
  return list;
}

/// An objective with a ratio: at token or sequence level, with or without a KL term.
template <class B, class T, class Objective>
void ratio_objective(policy_case<B, T>& run, const arguments& a, const Objective& objective) {
  const bool by_sequence = a.word("level") == "sequence", penalised = a.given("kl.estimator");
  const std::string estimator = a.word("kl.estimator");
  const auto penalty = [&]<bool BySequence>() {
    auto e = make_estimator<BySequence>(a, "kl.", estimator);
    e.weighed = e.weighed || a.flag("kl.bias_correction");
    if (e.weighed && e.straight_through)
      throw failure{"argument", text("params.kl.bias_correction and the estimator ", estimator, " exclude each other")};
    return rlhf::kl_penalty<any_estimator<BySequence>>{e, a.number("kl.coef")};
  };
  if (penalised && a.word("aggregation.mode") == "luspo") {
    if (!by_sequence) throw failure{"argument", "params.level is \"token\", wants \"sequence\" (luspo with a KL term)"};
    run.aggregated([&](const auto& aggregate) { run.add(rlhf::sequence_ratio{objective}, rlhf::none{}, aggregate); });
    return run.add(rlhf::sequence_ratio{no_loss{}}, penalty.template operator()<true>(),
                   luspo_penalty_mean{static_cast<double>(run.columns())});
  }
  run.aggregated([&](const auto& aggregate) {
    if (by_sequence && penalised)
      return run.add(rlhf::sequence_ratio{objective}, penalty.template operator()<true>(), aggregate);
    if (by_sequence) return run.add(rlhf::sequence_ratio{objective}, rlhf::none{}, aggregate);
    if (penalised) return run.add(objective, penalty.template operator()<false>(), aggregate);
    run.add(objective, rlhf::none{}, aggregate);
  });
}

/// An objective without options of its own, from its arguments.
template <class B, class Make>
[[nodiscard]] auto alone(const Make& make) {
  return [make]<class T>(const problem& p, results& out) {
    policy_case<B, T> run(p);
    run.bind();
    run.aggregated([&](const auto& aggregate) { run.add(make(p.settings), rlhf::none{}, aggregate); });
    run.finish(out);
  };
}

/// Any of the ways in which the log-ratios of tokens become one of the sequence, chosen at run time.
struct any_sequence_ratio {
  bool mean = true;
  bool one_sided = false;
  rlhf::one_sided_log_ratio bounds{};
  [[nodiscard]] constexpr rlhf::status check() const { return bounds.check(); }
  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::token<V>& t) const {
    return one_sided ? bounds(t) : rlhf::averaged_log_ratio{}(t);
  }
};

/// Losses of whole sequences.
template <class B, class T>
struct sequence_case {
  using space = typename B::space;
  workspace<B, T> work;
  std::int64_t rows, columns;
  rlhf::sequence_inputs<T, space> in;
  rlhf::sequence_outputs<T, space> to;

  explicit sequence_case(const problem& p) : rows(p.extent("B")), columns(p.extent("T")) {
    in.logp = work.in(p, "logp");
    in.old_logp = work.in(p, p.has("old_logp") ? "old_logp" : "logp");
    in.mask = work.mask(mask_or_ones(p, "mask", rows * columns));
    to.loss = work.out(1);
    to.grad_logp = work.out(rows * columns);
    to.log_ratio = work.out(rows);
  }
  template <class Loss>
  void run(const Loss& loss, results& out) {
    require(loss(work.backend(), work.rows(rows, columns), in, to));
    out.put("loss", work.read_one(to.loss));
    out.gradient("logp", {rows, columns}, work.read(to.grad_logp));
  }
};

template <class B>
void add_sequence_objectives(registry& table) {
  const inputs arrays{required("logp", "B,T"), optional("old_logp", "B,T"), optional("mask", "B,T"),
                      required("advantage", "B|B,T")};
  const rlhf::ppo_clip clip;
  table.add("policy_loss", "rloo",
            {number("clip_low", clip.low, "the ratio is clipped at 1 - clip_low"),
             number("clip_high", clip.high, "the ratio is clipped at 1 + clip_high")},
            arrays, []<class T>(const problem& p, results& out) {
              sequence_case<B, T> run(p);
              run.in.advantage = run.work.in(p, "advantage");
              run.to.per_sequence = run.work.out(run.rows);
              rlhf::sequence_policy_loss loss{
                  rlhf::ppo_clip{.low = p.settings.number("clip_low"), .high = p.settings.number("clip_high")},
                  any_sequence_ratio{.mean = false}};
              loss.count_empty = true;
              run.run(loss, out);
              out.put("per_item", {run.rows}, run.work.read(run.to.per_sequence));
            });
  const rlhf::one_sided_log_ratio bounds;
  table.add("policy_loss", "gmpo",
            {number("clip_low", bounds.low, "the log-ratio of a token with A < 0 is at least its negative"),
             number("clip_high", bounds.high, "the log-ratio of a token with A > 0 is at most this"),
             number("eps", 0, "a published guard of a divisor; accepted, not copied")},
            arrays, []<class T>(const problem& p, results& out) {
              sequence_case<B, T> run(p);
              run.in.advantage = run.work.in(p, "advantage");
              run.to.per_sequence = run.work.out(run.rows);
              // An unclipped ratio is a clip that never binds.
              run.run(
                  rlhf::sequence_policy_loss{
                      rlhf::ppo_clip{.low = 1, .high = std::numeric_limits<double>::infinity()},
                      any_sequence_ratio{.one_sided = true,
                                         .bounds = {p.settings.number("clip_low"), p.settings.number("clip_high")}}},
                  out);
              out.put("per_item", {run.rows}, run.work.read(run.to.per_sequence));
              std::vector<double> ratio = run.work.read(run.to.log_ratio);
              for (double& x : ratio) x = std::exp(x);
              out.stat("ratio", {run.rows}, ratio);
            });
  table.add("policy_loss", "real",
            {number("tau", rlhf::real_classification{}.temperature, "temperature of the scores")},
            {required("logp", "B,T"), optional("old_logp", "B,T"), optional("mask", "B,T"), required("group", "B"),
             required("score", "B")},
            []<class T>(const problem& p, results& out) {
              sequence_case<B, T> run(p);
              run.in.score = run.work.in(p, "score");
              run.in.groups = run.work.groups(p.data("group"));
              const double tau = p.settings.number("tau");
              run.run(rlhf::group_sequence_loss<rlhf::real_classification, any_sequence_ratio>{{tau}}, out);
              std::vector<double> score = run.work.read(run.to.log_ratio);
              for (double& x : score) x /= tau;
              out.stat("score", {run.rows}, score);
            });
}

/// REINFORCE with a weight, or with a term on chosen tokens.
template <class B>
void add_composed_objectives(registry& table) {
  const parameters aggregation = aggregation_parameters();
  const rlhf::vespo_weight vespo;
  table.add("policy_loss", "vespo",
            parameters{number("k_pos", vespo.k_positive, "power of w where A >= 0"),
                       number("lambda_pos", vespo.lambda_positive, "rate of decay where A >= 0"),
                       number("k_neg", vespo.k_negative, "power of w where A < 0"),
                       number("lambda_neg", vespo.lambda_negative, "rate of decay where A < 0")} +
                aggregation,
            advantage_arrays(), []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              policy_case<B, T> run(p);
              run.bind();
              const bool by_row = p["advantage"].shape.size() == 1;
              const std::int64_t rows = p.extent("B"), n = rows * run.columns();
              rlhf::importance_inputs<T, typename B::space> in;
              in.logp = run.in().logp;
              in.rollout_logp = run.in().old_logp;
              in.advantage = run.in().advantage;
              in.weight = run.in().weight;
              in.mask = run.in().mask;
              rlhf::importance_outputs<T, typename B::space> to;
              to.weight = run.work().out(n);
              if (by_row) to.sequence_weight = run.work().out(rows);
              const rlhf::importance_weights weights{rlhf::vespo_weight{a.number("k_pos"), a.number("lambda_pos"),
                                                                        a.number("k_neg"), a.number("lambda_neg")}};
              require(weights(run.work().backend(), run.sequences(), in, to));
              run.in().weight = {to.weight.data, n};
              run.aggregated([&](const auto& how) { run.add(rlhf::reinforce{}, rlhf::none{}, how); });
              run.finish(out);
              if (by_row) out.stat("phi", {rows}, run.work().read(to.sequence_weight));
            });

  table.add("policy_loss", "kl_cov",
            parameters{number("kl_cov_ratio", rlhf::kl_covariance{}.fraction, "share of the tokens that pay"),
                       number("ppo_kl_coef", 1, "what they pay: this times |log-ratio|")} +
                aggregation,
            advantage_arrays(), []<class T>(const problem& p, results& out) {
              policy_case<B, T> run(p);
              run.bind();
              const std::int64_t n = p.extent("B") * run.columns();
              const auto selected = run.work().out_bytes(n);
              const rlhf::kl_covariance choice{.fraction = p.settings.number("kl_cov_ratio")};
              const auto& in = run.in();
              const rlhf::selection_inputs<T, typename B::space> from{in.logp, in.old_logp, in.advantage, in.mask, {}};
              require(rlhf::select_tokens(run.work().backend(), run.sequences(), choice, from, selected));
              run.aggregated([&](const auto& how) {
                run.add(rlhf::ppo_clip{.low = 1, .high = std::numeric_limits<double>::infinity()}, rlhf::none{}, how);
              });
              run.in().ref_logp = in.old_logp;
              run.in().keep = rlhf::view<const std::uint8_t, 1, typename B::space>(selected.data, n);
              const any_weighted_objective price{.which = any_weighted_objective::kind::absolute_penalty,
                                                 .penalty = {{}, p.settings.number("ppo_kl_coef")}};
              run.aggregated([&](const auto& how) { run.add(price, rlhf::none{}, how); });
              run.finish(out);
              out.stat("selected", {p.extent("B"), run.columns()}, run.work().read(selected));
            });
}

/// The objectives that share any_weighted_objective.
template <class B>
void add_weighted_objectives(registry& table) {
  using any = any_weighted_objective;
  using kind = any::kind;
  const parameters aggregation = aggregation_parameters();
  const parameter log_clamp = optional_number("log_ratio_clamp", "bound of the log-ratio before exp");
  const auto add = [&](const char* name, const parameters& own, const auto& make, const inputs& more = {}) {
    inputs arrays = advantage_arrays();
    arrays.insert(arrays.end(), more.begin(), more.end());
    table.add("policy_loss", name, own + parameters{log_clamp} + aggregation, arrays, alone<B>(make));
  };
  const auto clip = [](double low, double high) {
    return parameters{number("clip_low", low, "how far down the token may move"),
                      number("clip_high", high, "how far up it may move")};
  };

  const auto add_cispo = [&](const char* name, double low, double high, bool through) {
    add(name,
        parameters{nullable_number("ratio_min", low, "lower bound of the ratio; null: none"),
                   nullable_number("ratio_max", high, "upper bound of the ratio; null: none")},
        [through](const arguments& a) {
          return any{.which = kind::cispo,
                     .cispo = {a.number_or("ratio_min", 0), a.bound("ratio_max"), a.bound("log_ratio_clamp"), through}};
        });
  };
  add_cispo("cispo", rlhf::cispo{}.low, rlhf::cispo{}.high, false);
  add_cispo("cispo_through", 0.8, 1.2, true);
  add_cispo("tis_reinforce", 0, 1, false);
  add("rollout_is", clip(rlhf::masked_importance{}.low, rlhf::masked_importance{}.high), [](const arguments& a) {
    return any{.which = kind::masked_importance, .masked = {a.number("clip_low"), a.number("clip_high")}};
  });
  add("sapo",
      parameters{number("tau_pos", rlhf::sapo{}.temperature_positive, "temperature where A > 0"),
                 number("tau_neg", rlhf::sapo{}.temperature_negative, "temperature elsewhere")},
      [](const arguments& a) {
        return any{.which = kind::sapo, .sapo = {a.number("tau_pos"), a.number("tau_neg"), a.bound("log_ratio_clamp")}};
      });
  for (const char* name : {"dro_beta", "tau"})
    add(name == std::string("tau") ? "kimi" : "dro",
        parameters{number(name, rlhf::direct_reward_optimisation{}.beta, "weight of the squared log-ratio")},
        [name](const arguments& a) { return any{.which = kind::dro, .dro = {a.number(name)}}; });
  const rlhf::dppo_total_variation variation;
  add("dppo_tv",
      clip(variation.low, variation.high) +
          parameters{nullable_number("ratio_max", variation.ratio_bound, "upper bound of the weight"),
                     flag("through_ratio", false, "the gradient goes through the ratio")},
      [](const arguments& a) {
        return any{.which = kind::dppo_total_variation,
                   .variation = {a.number("clip_low"), a.number("clip_high"), a.bound("ratio_max"),
                                 a.bound("log_ratio_clamp"), a.flag("through_ratio")}};
      });
  const rlhf::dppo_binary_kl binary_kl;
  add("dppo_kl",
      clip(binary_kl.low, binary_kl.high) +
          parameters{nullable_number("ratio_max", binary_kl.ratio_bound, "upper bound of the weight")},
      [](const arguments& a) {
        return any{.which = kind::dppo_binary_kl,
                   .binary_kl = {a.number("clip_low"), a.number("clip_high"), a.bound("ratio_max"),
                                 a.bound("log_ratio_clamp")}};
      });
  const rlhf::importance_with_pull pull;
  add("ipo_prime",
      parameters{number("max_abs_diff", pull.bound, "tokens whose probability moved further lose the gain"),
                 number("kl_tau", pull.pull, "weight of the squared log-ratio")},
      [](const arguments& a) {
        return any{.which = kind::importance_with_pull, .pull = {a.number("max_abs_diff"), a.number("kl_tau")}};
      });
  add("gspo_token", clip(rlhf::gspo_token{}.low, rlhf::gspo_token{}.high), [](const arguments& a) {
    return any{.which = kind::gspo_token,
               .gspo = {a.number("clip_low"), a.number("clip_high"),
                        a.number_or("log_ratio_clamp", rlhf::gspo_token{}.log_ratio_bound)}};
  });
  add("decoupled_ppo",
      clip(rlhf::decoupled_ppo{}.low, rlhf::decoupled_ppo{}.high) +
          parameters{optional_number("behav_cap", "tokens with a larger behaviour weight are dropped")},
      [](const arguments& a) {
        return any{.which = kind::decoupled_ppo,
                   .decoupled = {a.number("clip_low"), a.number("clip_high"), a.bound("behav_cap")}};
      },
      {required("prox_logp", "B,T")});
  add("topr",
      parameters{number("w_pos", rlhf::topr{}.positive, "weight of responses that scored above 0"),
                 number("w_neg", rlhf::topr{}.negative, "weight of the others")},
      [](const arguments& a) {
        return any{.which = kind::topr, .topr = {a.number("w_pos"), a.number("w_neg")}};
      },
      {required("score", "B")});
}

/// Fills the table. An objective is one row: its name, its parameters, its inputs, and the calls that make it up.
template <class B>
void add_policy_loss(registry& table) {
  const rlhf::ppo_clip defaults;
  const parameters aggregation = aggregation_parameters();
  const parameters clip{number("clip_low", defaults.low, "the ratio is clipped at 1 - clip_low"),
                        number("clip_high", defaults.high, "the ratio is clipped at 1 + clip_high"),
                        optional_number("delta", "upper bound of the unclipped ratio"),
                        optional_number("dual_clip", "c: the loss is at most -c A where A < 0"),
                        optional_number("log_ratio_clamp", "bound of the log-ratio before exp")};
  const auto level = [](const char* fallback) {
    return parameters{
        word("level", fallback, {"token", "sequence"}, "one ratio per token, or one length-normalised ratio per row")};
  };
  const parameters kl =
      parameters{optional_word("kl.estimator", estimator_names, "KL estimator of the term; null: no term"),
                 number("kl.coef", rlhf::kl_penalty<>{}.coefficient, "coefficient of the KL term"),
                 flag("kl.bias_correction", false, "the estimate times the ratio (of the level)")} +
      estimator_bounds("kl.");
  const auto ppo = [](const arguments& a) {
    return rlhf::ppo_clip{a.number("clip_low"), a.number("clip_high"), a.bound("dual_clip"), a.bound("delta"),
                          a.bound("log_ratio_clamp")};
  };

  const auto ratio = [ppo]<class T>(const problem& p, results& out) {
    policy_case<B, T> run(p);
    run.bind();
    ratio_objective(run, p.settings, ppo(p.settings));
    run.finish(out);
  };
  table.add("policy_loss", "ppo_clip", clip + level("token") + kl + aggregation, advantage_arrays(), ratio);
  table.add("policy_loss", "grpo_sequence", clip + level("sequence") + kl + aggregation, advantage_arrays(), ratio);

  inputs with_entropy = advantage_arrays();
  with_entropy.push_back(required("entropy", "B,T"));
  table.add(
      "policy_loss", "ppo_clip_entropy",
      clip + level("token") + kl + aggregation +
          parameters{
              number("entropy_coef", rlhf::entropy_bonus{}.coefficient, "the bonus is this times the entropy"),
              word("entropy_reduction", "aggregation", {"aggregation", "token-mean"}, "how the entropies add up")},
      with_entropy, [ppo]<class T>(const problem& p, results& out) {
        const rlhf::entropy_bonus bonus{p.settings.number("entropy_coef")};
        policy_case<B, T> run(p);
        run.bind();
        ratio_objective(run, p.settings, ppo(p.settings));
        const auto add = [&](const auto& aggregate) { run.add(rlhf::none{}, bonus, aggregate, false); };
        if (p.settings.word("entropy_reduction") == "token-mean")
          add(any_uniform{});
        else
          run.aggregated(add);
        run.finish(out);
      });

  table.add("policy_loss", "reinforce", aggregation, advantage_arrays(),
            alone<B>([](const arguments&) { return rlhf::reinforce{}; }));
  // An unclipped ratio is a clip that never binds.
  table.add("policy_loss", "importance_sampling", aggregation, advantage_arrays(), alone<B>([](const arguments&) {
              return rlhf::ppo_clip{.low = 1, .high = std::numeric_limits<double>::infinity()};
            }));

  add_weighted_objectives<B>(table);
  add_sequence_objectives<B>(table);
  add_composed_objectives<B>(table);

  inputs with_drop = advantage_arrays();
  with_drop.push_back(required("drop", "B,T"));
  table.add("policy_loss", "clip_cov", clip + aggregation, with_drop,
            alone<B>([ppo](const arguments& a) { return ppo(a); }));

  table.add("policy_loss", "positive_nll", {number("weight", 0.1, "the term's weight")},
            {required("logp", "B,T"), optional("mask", "B,T"), required("score", "B")},
            []<class T>(const problem& p, results& out) {
              any_uniform mean;
              mean.mean.scale = p.settings.number("weight");
              policy_case<B, T> run(p);
              const std::vector<double> score = spread(p.data("score"), run.columns());
              for (std::size_t i = 0; i < score.size(); ++i) run.mask()[i] *= score[i] > 0 ? 1 : 0;
              run.bind();
              run.add(rlhf::negative_log_likelihood{}, rlhf::none{}, mean);
              run.finish(out);
            });
}

}  // namespace eval
