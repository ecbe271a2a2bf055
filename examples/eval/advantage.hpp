#pragma once
// advantage and whiten: from rewards to advantages. Estimators are chosen at run time, so that one kernel serves many.

#include <algorithm>
#include <cmath>
#include <string>

#include "choices.hpp"
#include "registry.hpp"
#include "rlhf/driver/advantage.hpp"
#include "rlhf/driver/combined_reward.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/driver/steps.hpp"
#include "rlhf/driver/token_baseline.hpp"
#include "workspace.hpp"

namespace eval {

/// Any estimator that sees the rewards and values of a sequence.
struct any_scan {
  enum class kind { gae, discounted, step, action };
  kind which = kind::gae;
  rlhf::gae gae{};
  rlhf::discounted_return discounted{};
  rlhf::step_advantage step{};
  rlhf::action_value action{};

  static constexpr unsigned reads = 0;
  static constexpr int scans = rlhf::gae::scans;
  /// Those of gae: the others have one recurrence, which reads no other.
  [[nodiscard]] static RLHF_HD constexpr int level(int k) { return rlhf::gae::level(k); }
  [[nodiscard]] constexpr rlhf::status check() const {
    return which == kind::gae ? gae.check() : which == kind::discounted ? discounted.check() : rlhf::status{};
  }
  [[nodiscard]] RLHF_HD double initial(int k, double bootstrap) const {
    switch (which) {
      case kind::gae:
        return gae.initial(k, bootstrap);
      case kind::discounted:
        return discounted.initial(k, bootstrap);
      case kind::step:
        return step.initial(k, bootstrap);
      default:
        return action.initial(k, bootstrap);
    }
  }
  template <rlhf::number V, class Scan>
  RLHF_HD rlhf::advantage_step<V> operator()(const rlhf::reward_step<V>& x, double bootstrap, Scan& scan) const {
    switch (which) {
      case kind::gae:
        return gae(x, bootstrap, scan);
      case kind::discounted:
        return discounted(x, bootstrap, scan);
      case kind::step:
        return step(x, bootstrap, scan);
      default:
        return action(x, bootstrap, scan);
    }
  }
};
[[nodiscard]] inline any_scan scan_of(const rlhf::gae& e) { return {.which = any_scan::kind::gae, .gae = e}; }
[[nodiscard]] inline any_scan scan_of(const rlhf::discounted_return& e) {
  return {.which = any_scan::kind::discounted, .discounted = e};
}
[[nodiscard]] inline any_scan scan_of(rlhf::step_advantage) { return {.which = any_scan::kind::step}; }
[[nodiscard]] inline any_scan scan_of(rlhf::action_value) { return {.which = any_scan::kind::action}; }
[[nodiscard]] inline const rlhf::td_lambda& scan_of(const rlhf::td_lambda& e) { return e; }
[[nodiscard]] inline const rlhf::vtrace& scan_of(const rlhf::vtrace& e) { return e; }

/// Any estimator of a group.
struct any_group {
  enum class kind { relative, leave_one_out, optimal, policy_gradient, mean_normalized, pass_at_k };
  kind which = kind::relative;
  rlhf::group_advantage relative{};
  rlhf::leave_one_out left_out{};
  rlhf::group_policy_gradient policy_gradient{};
  rlhf::mean_normalized normalized{};
  rlhf::pass_at_k best{};

  [[nodiscard]] constexpr rlhf::status check() const {
    switch (which) {
      case kind::relative:
        return relative.check();
      case kind::leave_one_out:
        return left_out.check();
      case kind::policy_gradient:
        return policy_gradient.check();
      case kind::mean_normalized:
        return normalized.check();
      case kind::pass_at_k:
        return best.check();
      default:
        return {};
    }
  }
  [[nodiscard]] constexpr bool looks_at_batch() const {
    return which == kind::policy_gradient || (which == kind::relative && relative.looks_at_batch());
  }
  template <class Reward, class Set>
  RLHF_HD void operator()(std::int64_t n, const Reward& reward, const Set& set,
                          const rlhf::reward_moments& batch) const {
    switch (which) {
      case kind::relative:
        return relative(n, reward, set, batch);
      case kind::leave_one_out:
        return left_out(n, reward, set, batch);
      case kind::optimal:
        return rlhf::optimal_baseline{}(n, reward, set, batch);
      case kind::policy_gradient:
        return policy_gradient(n, reward, set, batch);
      case kind::mean_normalized:
        return normalized(n, reward, set, batch);
      case kind::pass_at_k:
        return best(n, reward, set, batch);
    }
  }
};

/// The arrays of a [B][T] case, and the drivers called on them.
template <class B, class T>
class advantage_case {
 public:
  explicit advantage_case(const problem& p, const char* columns = "T")
      : p_(p), rows_(p.extent("B")), columns_(p.extent(columns)) {
    mask_ = work_.mask(p.declares("mask") && columns == std::string("T") ? mask_or_ones(p, "mask", rows_ * columns_)
                                                                         : std::vector<double>(size(), 1));
    advantage = work_.out(rows_ * columns_);
    returns = work_.out(rows_ * columns_);
  }

  workspace<B, T>& work() { return work_; }
  [[nodiscard]] results::shape shape() const { return {rows_, columns_}; }

  /// Scans all rows.
  template <class Estimator>
  void scan(const Estimator& estimator) {
    scan_rows(estimator, 0, rows_);
  }
  /// Scans some rows: an estimator has one set of numbers, and some peers have a number per row.
  template <class Estimator>
  void scan_rows(const Estimator& estimator, std::int64_t first, std::int64_t rows) {
    using space = typename B::space;
    if (!loaded_) load();
    const auto part = [&](const auto& v, std::int64_t width) {
      auto cut = v;
      if (cut) {
        cut.data += first * width;
        cut.extent = rows * width;
      }
      return cut;
    };
    rlhf::advantage_inputs<T, space> in;
    in.reward = part(in_.reward, columns_);
    in.value = part(in_.value, columns_);
    in.mask = part(mask_, columns_);
    in.bootstrap = part(in_.bootstrap, 1);
    in.baseline = part(in_.baseline, 1);
    in.next_value = part(in_.next_value, columns_);
    in.done = part(in_.done, columns_);
    in.logp = part(in_.logp, columns_);
    in.old_logp = part(in_.old_logp, columns_);
    const rlhf::advantage_estimate driver{scan_of(estimator)};
    require(driver(work_.backend(), work_.rows(rows, columns_), in,
                   rlhf::advantage_outputs<T, space>{part(advantage, columns_), part(returns, columns_)}));
  }
  /// Rewards that are not an input: the KL of the tokens times -beta, and a score at the last token.
  void shape_rewards(double beta, const std::string& score) {
    using space = typename B::space;
    load();
    const auto reward = work_.out(rows_ * columns_);
    rlhf::shaping_inputs<T, space> in;
    const bool kl = p_.declares("old_logp") && p_.has("old_logp");
    if (kl) p_.demand("ref_logp");
    in.old_logp = kl ? in_.old_logp : in_.value;  // without a KL they are not looked at, but must be there
    in.ref_logp = kl ? work_.in(p_, "ref_logp") : in_.value;
    if (!score.empty()) in.score = work_.in(p_, score);
    in.mask = mask_;
    rlhf::shaping_outputs<T, space> to;
    to.reward = reward;
    const rlhf::reward_shaping shaping{rlhf::kl_in_reward{rlhf::k1{}, kl ? beta : 0}};
    require(shaping(work_.backend(), work_.rows(rows_, columns_), in, to));
    in_.reward = reward;
  }
  void set_bootstrap(const std::string& name) {
    load();
    in_.bootstrap = work_.in(p_, name);
  }
  void set_value(const std::vector<double>& value) {
    load();
    in_.value = work_.in(value);
  }
  void set_mask(const std::vector<double>& mask) { mask_ = work_.mask(mask); }
  /// Whitens an array of the case.
  [[nodiscard]] std::vector<double> whitened(const rlhf::whiten& how,
                                             const rlhf::view<const T, 1, typename B::space>& x) {
    rlhf::whiten_inputs<T, typename B::space> in;
    in.x = x;
    in.mask = mask_;
    const auto out = work_.out(x.extent);
    require(rlhf::whitening{how}(work_.backend(), in, out));
    return work_.read(out);
  }

  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(rows_ * columns_); }

  typename workspace<B, T>::variable advantage, returns;

 private:
  void load() {
    if (loaded_) return;
    loaded_ = true;
    const auto get = [&](const char* name) {
      return p_.declares(name) ? work_.in(p_, name) : typename workspace<B, T>::constant{};
    };
    in_.reward = get("reward");
    in_.value = get("value");
    in_.bootstrap = get("bootstrap_value");
    in_.baseline = get("baseline");
    in_.next_value = get("next_value");
    in_.logp = get("logp");
    in_.old_logp = get("old_logp");
    if (p_.declares("done") && p_.has("done")) in_.done = work_.mask(p_.data("done"));
  }

  const problem& p_;
  workspace<B, T> work_;
  std::int64_t rows_, columns_;
  rlhf::mask_view<typename B::space> mask_;
  rlhf::advantage_inputs<T, typename B::space> in_;
  bool loaded_ = false;
};

/// Group advantages of rewards.
template <class B, class T>
[[nodiscard]] typename workspace<B, T>::variable grouped(workspace<B, T>& work, const problem& p,
                                                         const any_group& estimator,
                                                         const typename workspace<B, T>::constant& reward,
                                                         const typename workspace<B, T>::constant& weight = {}) {
  rlhf::group_inputs<T, typename B::space> in;
  in.groups = work.groups(p.data("group"));
  in.reward = reward;
  in.weight = weight;
  const auto out = work.out(p.extent("N"));
  require(rlhf::grouped<any_group>{estimator}(work.backend(), in, out));
  return out;
}
/// Those of the rewards of a case, as they are.
template <class B, class T>
[[nodiscard]] std::vector<double> grouped(workspace<B, T>& work, const problem& p, const any_group& estimator) {
  return work.read(grouped<B, T>(work, p, estimator, work.in(p, "reward")));
}
[[nodiscard]] inline any_group group_of(const rlhf::group_advantage& e) {
  return {.which = any_group::kind::relative, .relative = e};
}
[[nodiscard]] inline any_group group_of(const rlhf::leave_one_out& e) {
  return {.which = any_group::kind::leave_one_out, .left_out = e};
}

/// An estimator of a group that needs nothing but the rewards.
template <class B, class Make>
[[nodiscard]] auto group_objective(const Make& make) {
  return [make]<class T>(const problem& p, results& out) {
    workspace<B, T> work;
    out.put("advantage", {p.extent("N")}, grouped<B, T>(work, p, make(p.settings)));
  };
}

/// Whitens numbers of responses over those whose reward is a number.
template <class B, class T>
[[nodiscard]] std::vector<double> whiten_responses(workspace<B, T>& work, const rlhf::whiten& how,
                                                   const typename workspace<B, T>::variable& x,
                                                   const std::vector<double>& scored) {
  rlhf::whiten_inputs<T, typename B::space> in;
  in.x = x;
  in.mask = work.mask(scored);
  const auto out = work.out(x.extent);
  require(rlhf::whitening{how}(work.backend(), in, out));
  return work.read(out);
}
/// The same at each of their tokens.
template <class B, class T>
[[nodiscard]] std::vector<double> whiten_tokens(workspace<B, T>& work, const problem& p, const rlhf::whiten& how,
                                                const std::vector<double>& x) {
  rlhf::whiten_inputs<T, typename B::space> in;
  in.x = work.in(spread(x, p.extent("T")));
  in.mask = work.mask(p.data("mask"));
  const auto out = work.out(in.x.extent);
  require(rlhf::whitening{how}(work.backend(), in, out));
  return work.read(out);
}

/// 1 for each response with at least one reward that is a number.
[[nodiscard]] inline std::vector<double> scored_rows(const std::vector<double>& rewards, std::int64_t functions) {
  std::vector<double> out;
  for (auto row = rewards.begin(); row != rewards.end(); row += functions)
    out.push_back(std::any_of(row, row + functions, [](double r) { return r == r; }) ? 1.0 : 0.0);
  return out;
}

[[nodiscard]] inline rlhf::group_scale make_scale(const std::string& scale) {
  return scale == "group"   ? rlhf::group_scale::group
         : scale == "batch" ? rlhf::group_scale::batch
                            : rlhf::group_scale::none;
}
[[nodiscard]] inline rlhf::lone_response make_lone(const std::string& single) {
  return single == "raw" ? rlhf::lone_response::raw : rlhf::lone_response::zero;
}

[[nodiscard]] inline rlhf::gap make_gap(const std::string& mode) {
  return mode == "zero"       ? rlhf::gap::zero
         : mode == "plain"    ? rlhf::gap::plain
         : mode == "raw_next" ? rlhf::gap::raw_next
         : mode == "reset"    ? rlhf::gap::reset
                              : rlhf::gap::carry;
}

/// Estimators of a group other than GRPO's.
template <class B>
void add_group_advantage(registry& table) {
  const inputs responses{required("reward", "N"), required("group", "N")};
  const parameter single = word("single", "zero", {"zero", "raw"}, "what a group of one gives");
  const parameter scale = word("scale", "group", {"group", "batch", "none"}, "whose standard deviation divides");
  const rlhf::group_advantage group;

  table.add("advantage", "rloo",
            {single, flag("normalize", false, "whiten the advantages over the call"),
             number("eps", 1e-4, "normalize: added to the standard deviation"), number("beta", 0, "weight of kl"),
             optional_interval("reward_clip", "bounds of the reward, before the KL is subtracted")},
            {required("reward", "N"), required("group", "N"), optional("kl", "N")},
            []<class T>(const problem& p, results& out) {
              using space = typename B::space;
              const arguments& a = p.settings;
              workspace<B, T> work;
              const std::int64_t n = p.extent("N");
              rlhf::rewards_inputs<T, space> in;
              in.rewards = {work.in(p, "reward").data, n, 1};
              in.penalty = work.in(p, "kl");
              const auto reward = work.out(n);
              require(rlhf::reward_combination{{p.has("kl") ? a.number("beta") : 0, a.low("reward_clip"),
                                                a.high("reward_clip")}}(work.backend(), in, reward));
              rlhf::leave_one_out estimator;
              estimator.lone = make_lone(a.word("single"));
              const auto advantage = grouped<B, T>(work, p, group_of(estimator), reward);
              out.put("advantage", {n},
                      a.flag("normalize") ? whiten_responses<B, T>(work, {false, rlhf::spread::plus, a.number("eps")},
                                                                   advantage, scored_rows(p.data("reward"), 1))
                                          : work.read(advantage));
            });
  table.add("advantage", "group_loo_std",
            {flag("normalize", true, "divide by the standard deviation of the others"),
             number("eps", rlhf::leave_one_out{}.epsilon, "added to that deviation")},
            {required("reward", "N"), required("group", "N"), optional("valid", "N")},
            []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              workspace<B, T> work;
              std::vector<double> reward = p.data("reward");
              const std::vector<double> valid = mask_or_ones(p, "valid", p.extent("N"));
              for (std::size_t i = 0; i < reward.size(); ++i)
                if (valid[i] == 0) reward[i] = rlhf::not_a_number;  // no reward
              const any_group estimator =
                  group_of(rlhf::leave_one_out{rlhf::lone_response::zero, a.flag("normalize"), a.number("eps")});
              out.put("advantage", {p.extent("N")}, work.read(grouped<B, T>(work, p, estimator, work.in(reward))));
            });
  table.add("advantage", "opo", {}, {required("reward", "N"), required("length", "N"), required("group", "N")},
            []<class T>(const problem& p, results& out) {
              workspace<B, T> work;
              out.put("advantage", {p.extent("N")},
                      work.read(grouped<B, T>(work, p, {.which = any_group::kind::optimal}, work.in(p, "reward"),
                                              work.in(p, "length"))));
            });
  table.add("advantage", "gpg", {number("f_norm", rlhf::group_policy_gradient{}.divisor, "divides the advantages")},
            responses, group_objective<B>([](const arguments& a) -> any_group {
              return {.which = any_group::kind::policy_gradient, .policy_gradient = {a.number("f_norm")}};
            }));
  table.add("advantage", "maxrl",
            {word("form", "eps", {"eps", "zero_if_nonpositive"}, "divide by mean + eps, or by a mean above 0"),
             number("eps", rlhf::mean_normalized{}.epsilon, "form eps: added to the mean")},
            responses, group_objective<B>([](const arguments& a) -> any_group {
              return {.which = any_group::kind::mean_normalized,
                      .normalized = {a.word("form") == "zero_if_nonpositive", a.number("eps")}};
            }));
  table.add("advantage", "grpo_passk",
            {flag("norm_by_std", rlhf::pass_at_k{}.normalize, "divide by the group's standard deviation"),
             number("eps", rlhf::pass_at_k{}.epsilon, "added to that deviation")},
            responses, group_objective<B>([](const arguments& a) -> any_group {
              return {.which = any_group::kind::pass_at_k, .best = {a.flag("norm_by_std"), a.number("eps")}};
            }));

  // Several reward functions [N][K].
  const inputs functions{required("rewards", "N,K"), optional("reward_weight", "K"), required("group", "N")};
  table.add("advantage", "grpo_multi", {scale, number("eps", group.epsilon, "added to the standard deviation"), single},
            functions, []<class T>(const problem& p, results& out) {
              using space = typename B::space;
              const arguments& a = p.settings;
              workspace<B, T> work;
              rlhf::rewards_inputs<T, space> in;
              in.rewards = work.matrix(p["rewards"]);
              in.weight = work.in(p, "reward_weight");
              const auto reward = work.out(p.extent("N"));
              require(rlhf::reward_combination{}(work.backend(), in, reward));
              out.put(
                  "advantage", {p.extent("N")},
                  work.read(grouped<B, T>(work, p,
                                          group_of(rlhf::group_advantage{make_scale(a.word("scale")), a.number("eps"),
                                                                         make_lone(a.word("single"))}),
                                          reward)));
            });
  inputs with_mask = functions;
  with_mask.push_back(optional("mask", "N,T"));
  table.add(
      "advantage", "gdpo",
      {word("batch_norm", "samples", {"samples", "tokens"}, "what the sum is whitened over"),
       number("eps", group.epsilon, "added to the standard deviations; tokens: to those of groups"), single,
       number("count_guard", 0, "a published guard of a count; accepted, not copied")},
      with_mask, []<class T>(const problem& p, results& out) {
        using space = typename B::space;
        const arguments& a = p.settings;
        workspace<B, T> work;
        const std::int64_t n = p.extent("N");
        rlhf::rewards_inputs<T, space> in;
        in.rewards = work.matrix(p["rewards"]);
        in.weight = work.in(p, "reward_weight");
        const any_group estimator =
            group_of(rlhf::group_advantage{rlhf::group_scale::group, a.number("eps"), make_lone(a.word("single"))});
        const auto sum = work.out(n);
        require(rlhf::decoupled_groups<any_group>{estimator}(work.backend(), work.groups(p.data("group")), in, sum));
        if (a.word("batch_norm") == "samples")
          return out.put("advantage", {n},
                         whiten_responses<B, T>(work, {false, rlhf::spread::plus, a.number("eps")}, sum,
                                                scored_rows(p.data("rewards"), p.extent("K"))));
        p.demand("mask");
        out.put("advantage", {n, p.extent("T")}, whiten_tokens<B, T>(work, p, {}, work.read(sum)));
      });
}

/// Estimators from transitions, from frozen values, from rollouts, and per position of a group.
template <class B>
void add_step_advantage(registry& table) {
  const parameter gamma = number("gamma", 1, "discount");
  const parameter lam = number("lam", rlhf::gae{}.lambda, "lambda");
  const auto estimate = [](const auto& make) {
    return [make]<class T>(const problem& p, results& out) {
      advantage_case<B, T> run(p);
      run.scan(make(p.settings));
      out.put("advantage", run.shape(), run.work().read(run.advantage));
      out.put("returns", run.shape(), run.work().read(run.returns));
    };
  };

  table.add("advantage", "remax", {gamma},
            {required("reward", "B,T"), required("baseline", "B"), optional("mask", "B,T")},
            estimate([](const arguments& a) { return rlhf::discounted_return{a.number("gamma")}; }));

  inputs transitions{required("reward", "B,T"), required("value", "B,T"), optional("next_value", "B,T"),
                     optional("done", "B,T"),   optional("mask", "B,T"),  optional("bootstrap_value", "B")};
  table.add("advantage", "td_lambda", {gamma, lam}, transitions, estimate([](const arguments& a) {
              return rlhf::td_lambda{a.number("gamma"), a.number("lam")};
            }));
  transitions.push_back(required("logp", "B,T"));
  transitions.push_back(required("old_logp", "B,T"));
  table.add("advantage", "vtrace",
            {gamma, nullable_number("rho_bar", 1, "bound of the weight of the error; null: none"),
             nullable_number("c_bar", 1, "bound of the weight of what follows; null: none"),
             number("lam", 1, "times that weight")},
            transitions, estimate([](const arguments& a) {
              return rlhf::vtrace{a.number("gamma"), a.bound("rho_bar"), a.bound("c_bar"), a.number("lam")};
            }));

  table.add("advantage", "dvpo",
            {word("mode", "gae", {"gae", "static_q", "td_delta"}, "GAE, the next value, or the next minus this one"),
             word("terminal", "bootstrap", {"zero", "bootstrap"}, "what stands behind the last token: 0 or q_end"),
             gamma, lam, number("beta", 0, "weight of the KL of the tokens")},
            {required("value", "B,T"), optional("mask", "B,T"), optional("q_end", "B"), optional("old_logp", "B,T"),
             optional("ref_logp", "B,T")},
            []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              const std::string mode = a.word("mode");
              advantage_case<B, T> run(p);
              run.shape_rewards(a.number("beta"), "");
              if (a.word("terminal") == "bootstrap") {
                p.demand("q_end");
                run.set_bootstrap("q_end");
              }
              if (mode == "static_q")
                run.scan(rlhf::action_value{});
              else
                run.scan(rlhf::gae{a.number("gamma"), mode == "gae" ? a.number("lam") : 0});
              out.put("advantage", run.shape(), run.work().read(run.advantage));
            });
  table.add("advantage", "gvm_targets",
            {word("mode", "td_lambda", {"mc", "td0", "td_lambda"}, "lambda 1, 0, or lam"), gamma, lam},
            {required("value", "B,T"), required("label", "B"), optional("mask", "B,T")},
            []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              const std::string mode = a.word("mode");
              advantage_case<B, T> run(p);
              run.shape_rewards(0, "label");
              run.scan(rlhf::gae{a.number("gamma"), mode == "mc" ? 1 : mode == "td0" ? 0 : a.number("lam")});
              out.put("returns", run.shape(), run.work().read(run.returns));
            });

  table.add("advantage", "vine_value", {}, {required("returns", "P,K")}, []<class T>(const problem& p, results& out) {
    workspace<B, T> work;
    const std::int64_t states = p.extent("P");
    rlhf::rollout_value_outputs<T, typename B::space> to;
    to.value = work.out(states);
    to.variance = work.out(states);
    require(rlhf::rollout_values{}(work.backend(), work.rows(states, p.extent("K")), work.in(p, "returns"), to));
    out.put("value", {states}, work.read(to.value));
    out.put("variance", {states}, work.read(to.variance));
  });
  table.add("advantage", "vineppo", {optional_number("cap", "steps whose value is estimated; null: all")},
            {required("score", "B"), required("value", "B,S"), required("steps", "B"), optional("step_of_token", "B,T"),
             optional("mask", "B,T")},
            []<class T>(const problem& p, results& out) {
              const std::int64_t rows = p.extent("B"), steps = p.extent("S");
              advantage_case<B, T> run(p, "S");
              std::vector<double> value = p.data("value"), there(run.size(), 0);
              const std::int64_t cap = p.settings.integer_or("cap", steps);
              for (std::int64_t i = 0; i < rows * steps; ++i) {
                const auto at = static_cast<std::size_t>(i);
                there[at] =
                    static_cast<double>(i % steps) < p.data("steps")[static_cast<std::size_t>(i / steps)] ? 1 : 0;
                if (i % steps >= cap) value[at] = rlhf::not_a_number;  // not estimated
              }
              run.set_value(value);
              run.set_mask(there);
              run.set_bootstrap("score");
              run.scan(rlhf::step_advantage{});
              out.put("step_advantage", run.shape(), run.work().read(run.advantage));
              if (!p.has("step_of_token")) return;
              rlhf::step_inputs<T, typename B::space> in;
              in.steps = run.work().rows(rows, steps);
              in.x = run.advantage;
              in.step = run.work().integers(p, "step_of_token");
              in.mask = run.work().mask(mask_or_ones(p, "mask", rows * p.extent("T")));
              const auto tokens = run.work().out(rows * p.extent("T"));
              require(rlhf::steps_to_tokens{}(run.work().backend(), run.work().rows(rows, p.extent("T")), in, tokens));
              out.put("advantage", {rows, p.extent("T")}, run.work().read(tokens));
            });

  const rlhf::optimal_token_baseline optimal;
  table.add("advantage", "optimal_token_baseline",
            {number("eps", optimal.epsilon, "added to the divisor of the baseline"),
             flag("compact", optimal.compact, "positions count valid tokens only (tool use)"),
             flag("handle_zero_tail", optimal.zero_tail, "no baseline for what is longer than the second-longest")},
            {required("reward", "N,T"), optional("mask", "N,T"), required("group", "N"), required("old_logp", "N,T"),
             required("sum_p2", "N,T"), optional("is_weight", "N,T")},
            []<class T>(const problem& p, results& out) {
              using space = typename B::space;
              const arguments& a = p.settings;
              workspace<B, T> work;
              const std::int64_t rows = p.extent("N"), columns = p.extent("T"), n = rows * columns;
              rlhf::token_baseline_inputs<T, space> in;
              in.groups = work.groups(p.data("group"));
              in.reward = work.in(p, "reward");
              in.old_logp = work.in(p, "old_logp");
              in.square_sum = work.in(p, "sum_p2");
              in.importance = work.in(p, "is_weight");
              in.mask = work.mask(mask_or_ones(p, "mask", n));
              rlhf::token_baseline_outputs<T, space> to;
              to.advantage = work.out(n);
              to.returns = work.out(n);
              const rlhf::token_baseline driver{{a.number("eps"), a.flag("compact"), a.flag("handle_zero_tail")}};
              require(driver(work.backend(), work.rows(rows, columns), in, to));
              out.put("advantage", {rows, columns}, work.read(to.advantage));
              out.put("returns", {rows, columns}, work.read(to.returns));
            });
}

template <class B>
void add_advantage(registry& table) {
  const rlhf::gae gae;
  const parameter guard = number("count_guard", 0, "a published guard of a count; accepted, not copied");
  const parameter gaps =
      word("mask_mode", "carry", {"carry", "zero", "plain", "raw_next"}, "what the recursion does outside the mask");
  const parameter gamma = number("gamma", gae.gamma, "discount");
  const parameter whiten = optional_word("whiten", whitening_names, "how the advantages are whitened; null: not");
  const inputs steps{required("reward", "B,T"), required("value", "B,T"), optional("mask", "B,T"),
                     optional("bootstrap_value", "B")};

  table.add("advantage", "gae", {gamma, number("lam", gae.lambda, "lambda"), gaps, whiten, guard}, steps,
            []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              advantage_case<B, T> run(p);
              run.scan(rlhf::gae{a.number("gamma"), a.number("lam"), make_gap(a.word("mask_mode"))});
              out.put("advantage", run.shape(), run.work().read(run.advantage));
              out.put("returns", run.shape(), run.work().read(run.returns));
              if (a.given("whiten"))
                out.put("whitened", run.shape(), run.whitened(make_whiten(a.word("whiten"), true), run.advantage));
            });

  // Advantages with one lambda, returns with another; the advantages' may depend on the length of the row.
  table.add("advantage", "gae_decoupled",
            {gamma,
             optional_number("lam_policy",
                             "lambda of the advantages; null: 1 - 1 / max(alpha n, 1), n the tokens of the row"),
             optional_number("alpha", "of that rule"), number("lam_value", 1, "lambda of the returns"), gaps},
            steps, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              if (!a.given("lam_policy") && !a.given("alpha"))
                throw failure{"argument", "params.lam_policy or params.alpha is missing"};
              const rlhf::gap mode = make_gap(a.word("mask_mode"));
              advantage_case<B, T> run(p);
              run.scan(rlhf::gae{a.number("gamma"), a.number("lam_value"), mode});
              const std::vector<double> returns = run.work().read(run.returns);
              const std::int64_t rows = p.extent("B"), columns = p.extent("T");
              const std::vector<double> mask = mask_or_ones(p, "mask", rows * columns);
              for (std::int64_t i = 0; i < rows; ++i) {
                const auto begin = mask.begin() + i * columns;
                const auto tokens = static_cast<double>(columns - std::count(begin, begin + columns, 0.0));
                const double adaptive = rlhf::length_adaptive_lambda{a.number_or("alpha", 0)}(tokens);
                run.scan_rows(rlhf::gae{a.number("gamma"), a.number_or("lam_policy", adaptive), mode}, i, 1);
              }
              out.put("advantage", run.shape(), run.work().read(run.advantage));
              out.put("returns", run.shape(), returns);
            });

  table.add("advantage", "reinforce_plus_plus",
            {number("gamma", rlhf::discounted_return{}.gamma, "discount"),
             word("gap", "carry", {"carry", "zero", "reset"}, "what the recursion does outside the mask"),
             optional_word("whiten", whitening_names, "how the returns are whitened; null: not"), guard},
            {required("reward", "B,T"), optional("mask", "B,T")}, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              advantage_case<B, T> run(p);
              run.scan(rlhf::discounted_return{a.number("gamma"), make_gap(a.word("gap"))});
              out.put("returns", run.shape(), run.work().read(run.returns));
              out.put("advantage", run.shape(),
                      a.given("whiten") ? run.whitened(make_whiten(a.word("whiten"), true), run.returns)
                                        : run.work().read(run.advantage));
            });

  const rlhf::group_advantage group;
  const inputs responses{required("reward", "N"), required("group", "N")};
  const parameter single = word("single", "zero", {"zero", "raw"}, "what a group of one gives");
  table.add("advantage", "grpo",
            {word("scale", "group", {"group", "batch", "none"}, "whose standard deviation divides"),
             number("eps", group.epsilon, "added to the standard deviation"), single,
             number("ddof", 1, "1: n - 1 in the variance; 0: n")},
            responses, group_objective<B>([](const arguments& a) {
              return group_of(rlhf::group_advantage{make_scale(a.word("scale")), a.number("eps"),
                                                    make_lone(a.word("single")), a.number("ddof") == 0});
            }));

  // Rewards minus their group's mean at every token, whitened over the batch.
  table.add("advantage", "reinforce_plus_plus_baseline",
            {word("whiten", "unbiased_rsqrt", whitening_names, "how the advantages are whitened"), single, guard},
            {required("reward", "N"), required("group", "N"), required("mask", "N,T")},
            []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              workspace<B, T> work;
              rlhf::group_advantage centred;
              centred.scale = rlhf::group_scale::none;
              centred.lone = make_lone(a.word("single"));
              out.put("advantage", {p.extent("N"), p.extent("T")},
                      whiten_tokens<B, T>(work, p, make_whiten(a.word("whiten"), true),
                                          grouped<B, T>(work, p, group_of(centred))));
            });

  add_group_advantage<B>(table);
  add_step_advantage<B>(table);

  for (const std::string& kind : whitening_names)
    table.add("whiten", kind,
              {optional_word("kind", {}, "the objective's name again; not read"),
               flag("shift_mean", rlhf::whiten{}.shift_mean, "false adds the mean back"), guard},
              {required("x", "B,T"), optional("mask", "B,T")}, [kind]<class T>(const problem& p, results& out) {
                advantage_case<B, T> run(p);
                out.put("value", run.shape(),
                        run.whitened(make_whiten(kind, p.settings.flag("shift_mean")), run.work().in(p, "x")));
              });
}

}  // namespace eval
