#pragma once
// preference_loss: objectives of a pair of responses, from sums [P] or from tokens [P][T].

#include <string>

#include "registry.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/preference.hpp"
#include "workspace.hpp"

namespace eval {

/// Any of the divergences other than the reverse KL, chosen at run time.
struct any_divergence {
  enum class kind { forward_kl, jensen_shannon, alpha };
  kind which = kind::forward_kl;
  rlhf::alpha_divergence alpha{};
  template <rlhf::number V>
  RLHF_HD V operator()(const V& a) const {
    switch (which) {
      case kind::forward_kl:
        return rlhf::forward_kl{}(a);
      case kind::jensen_shannon:
        return rlhf::jensen_shannon{}(a);
      default:
        return alpha(a);
    }
  }
};

/// A pair objective as it stands, without a reference, or under another divergence: the library's wrappers, chosen at
/// run time.
template <class Objective>
struct any_reference {
  enum class kind { plain, free, divergence };
  Objective objective;
  kind which = kind::plain;
  any_divergence divergence{};
  bool without_reference = false;

  static constexpr unsigned reads = rlhf::reads_of<rlhf::reference_free<Objective>>();
  [[nodiscard]] constexpr rlhf::status check() const { return rlhf::check_of(objective); }
  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::pair<V>& p) const {
    switch (which) {
      case kind::free:
        return rlhf::reference_free<Objective>{objective}(p);
      case kind::divergence:
        return rlhf::with_divergence<Objective, any_divergence>{objective, divergence}(p);
      default:
        return objective(p);
    }
  }
  [[nodiscard]] RLHF_HD double reward_scale() const { return objective.beta; }
};

/// Any of the ways in which a token counts other than plainly, chosen at run time.
struct any_reduction {
  bool clamped = false;
  rlhf::length_desensitised desensitised{};
  rlhf::clamped_log_ratio bounds{};
  static constexpr bool needs_position = true;
  template <rlhf::number V>
  RLHF_HD rlhf::contribution<V> operator()(const rlhf::response_token<V>& t) const {
    if (clamped) return bounds(t);
    return desensitised(t);
  }
};

/// One case of preference_loss: reads its arrays once, then calls the driver in the form that they have.
template <class B, class T>
class preference_case {
 public:
  preference_case(const problem& p, results& out)
      : p_(p), out_(out), pairs_(p.extent("P")), by_token_(p["chosen_logp"].shape.size() == 2) {
    for (const char* side : {"chosen", "rejected"}) {
      const std::string name = side;
      same_rank(name + "_logp");
      same_rank(text("ref_", name, "_logp"));
      if (!by_token_ && p.has(name + "_mask"))
        throw failure{"shape", text("inputs.", name, "_mask goes with log-probabilities [P][T]; these are sums [P]")};
    }
  }

  /// `rewards`: the objective reads the rewards of the responses.
  template <class Objective>
  void run(const Objective& objective) {
    const arguments& a = p_.settings;
    if (!a.given("ld_alpha") && !a.given("humanline")) return reduced(objective, rlhf::sum_of_tokens{});
    if (!by_token_)
      throw failure{"shape", "params.ld_alpha and params.humanline want log-probabilities [P][T], not sums [P]"};
    if (a.given("ld_alpha") && a.given("humanline"))
      throw failure{"argument", "params.ld_alpha and params.humanline exclude each other"};
    any_reduction r;
    r.clamped = a.given("humanline");
    if (r.clamped) r.bounds = {a.low("humanline"), a.high("humanline")};
    if (!r.clamped) r.desensitised = {a.number("ld_alpha")};
    reduced(objective, r);
  }

  /// The mean over all chosen tokens; every item of it is that mean.
  void run_sft() {
    if (!by_token_) throw failure{"shape", "inputs.chosen_logp is [P], wants [P][T] (sft)"};
    called(rlhf::none{}, rlhf::sum_of_tokens{}, rlhf::chosen_nll{.weight = 1});
    for (double& item : per_item_) item = nll_;
    finish();
  }

 private:
  template <class Objective, class Reduction>
  void reduced(const Objective& objective, const Reduction& reduction) {
    const arguments& a = p_.settings;
    const double weight = a.number("nll_weight");
    called(objective, reduction,
           {weight,
            a.word("nll_reduction") == "sequence_mean" ? rlhf::nll_reduction::sequence_mean
                                                       : rlhf::nll_reduction::token_mean,
            0});
    if (weight != 0) out_.put("nll", nll_);
    finish();
  }

  template <class Objective, class Reduction>
  void called(const Objective& objective, const Reduction& reduction, const rlhf::chosen_nll& nll) {
    using space = typename B::space;
    const std::int64_t chosen = by_token_ ? pairs_ * p_.extent("C") : pairs_;
    const std::int64_t rejected = by_token_ ? pairs_ * p_.extent("R") : pairs_;
    rlhf::pair_outputs<T, space> to;
    to.loss = work_.out(1);
    to.grad_chosen = work_.out(chosen);
    to.grad_rejected = work_.out(rejected);
    to.per_pair = work_.out(pairs_);
    to.reward_chosen = work_.out(pairs_);
    to.reward_rejected = work_.out(pairs_);
    if (nll.weight != 0) to.nll = work_.out(1);
    to.stats = &stats_;
    const rlhf::preference_loss<Objective, rlhf::batch_mean, Reduction> loss{objective, {}, nll, reduction};
    if (by_token_) {
      rlhf::token_pair_inputs<T, space> in;
      in.chosen = side("chosen", "C");
      in.rejected = side("rejected", "R");
      in.chosen_reward = reward("reward_chosen");
      in.rejected_reward = reward("reward_rejected");
      require(loss(work_.backend(), in, to));
    } else if constexpr (std::same_as<Reduction, rlhf::sum_of_tokens>) {
      rlhf::pair_inputs<T, space> in;
      in.chosen = work_.in(p_, "chosen_logp");
      in.rejected = work_.in(p_, "rejected_logp");
      in.ref_chosen = work_.in(p_, "ref_chosen_logp");
      in.ref_rejected = work_.in(p_, "ref_rejected_logp");
      in.chosen_length = work_.in(p_, "chosen_len");
      in.rejected_length = work_.in(p_, "rejected_len");
      in.chosen_reward = reward("reward_chosen");
      in.rejected_reward = reward("reward_rejected");
      require(loss(work_.backend(), in, to));
    }
    per_item_ = work_.read(to.per_pair);
    loss_ = work_.read_one(to.loss);
    if (nll.weight != 0) nll_ = work_.read_one(to.nll);
    grad_chosen_ = work_.read(to.grad_chosen);
    grad_rejected_ = work_.read(to.grad_rejected);
    reward_chosen_ = work_.read(to.reward_chosen);
    reward_rejected_ = work_.read(to.reward_rejected);
  }

  void finish() {
    out_.put("per_item", {pairs_}, per_item_);
    out_.put("loss", loss_);
    out_.gradient("chosen_logp", p_["chosen_logp"].shape, grad_chosen_);
    out_.gradient("rejected_logp", p_["rejected_logp"].shape, grad_rejected_);
    out_.stat("reward_chosen", {pairs_}, reward_chosen_);
    out_.stat("reward_rejected", {pairs_}, reward_rejected_);
    out_.stat("accuracy", stats_["rewards/accuracies"]);
    out_.stat("margin_mean", stats_["rewards/margins"]);
    put(out_, stats_);
  }

  [[nodiscard]] rlhf::response_tokens<T, typename B::space> side(const std::string& name, const char* width) {
    const std::int64_t columns = p_.extent(width);
    rlhf::response_tokens<T, typename B::space> out;
    out.sequences = work_.rows(pairs_, columns);
    out.logp = work_.in(p_, name + "_logp");
    out.ref_logp = work_.in(p_, text("ref_", name, "_logp"));
    out.mask = work_.mask(mask_or_ones(p_, name + "_mask", pairs_ * columns));
    return out;
  }
  [[nodiscard]] typename workspace<B, T>::constant reward(const std::string& name) {
    return p_.declares(name) ? work_.in(p_, name) : typename workspace<B, T>::constant{};
  }
  void same_rank(const std::string& name) const {
    if (p_.has(name) && (p_[name].shape.size() == 2) != by_token_)
      throw failure{"shape", text("inputs.", name, " is ", words(p_[name].shape), ", wants ",
                                  (by_token_ ? "[P][T]" : "[P]"), " as inputs.chosen_logp")};
  }

  const problem& p_;
  results& out_;
  workspace<B, T> work_;
  std::int64_t pairs_;
  bool by_token_;
  rlhf::statistics stats_;
  double loss_ = 0, nll_ = 0;
  std::vector<double> per_item_, grad_chosen_, grad_rejected_, reward_chosen_, reward_rejected_;
};

/// A pair objective made from the arguments.
template <class B, class Make>
[[nodiscard]] auto pair_objective(const Make& make) {
  return [make]<class T>(const problem& p, results& out) { preference_case<B, T>(p, out).run(make(p.settings)); };
}

/// The same, also without a reference and under another divergence.
template <class B, class Make>
[[nodiscard]] auto divergent_pair_objective(const Make& make) {
  return [make]<class T>(const problem& p, results& out) {
    const arguments& a = p.settings;
    const std::string f = a.word("f_divergence");
    any_reference<decltype(make(a))> objective{make(a)};
    if (a.flag("reference_free")) {
      if (f != "reverse_kl")
        throw failure{"argument", "params.reference_free and params.f_divergence exclude each other"};
      objective.which = any_reference<decltype(make(a))>::kind::free;
      objective.without_reference = true;
    } else {
      p.demand("ref_chosen_logp");
      p.demand("ref_rejected_logp");
    }
    if (f != "reverse_kl") objective.which = any_reference<decltype(make(a))>::kind::divergence;
    if (f == "js_divergence") objective.divergence.which = any_divergence::kind::jensen_shannon;
    if (f == "alpha_divergence") objective.divergence = {any_divergence::kind::alpha, {.alpha = a.number("f_alpha")}};
    preference_case<B, T>(p, out).run(objective);
  };
}

/// Fills the table: one row an objective.
template <class B>
void add_preference_loss(registry& table) {
  const inputs arrays{required("chosen_logp", "P|P,C"),     required("rejected_logp", "P|P,R"),
                      optional("ref_chosen_logp", "P|P,C"), optional("ref_rejected_logp", "P|P,R"),
                      optional("chosen_mask", "P,C"),       optional("rejected_mask", "P,R"),
                      optional("chosen_len", "P"),          optional("rejected_len", "P")};
  inputs with_rewards = arrays;
  with_rewards.push_back(required("reward_chosen", "P"));
  with_rewards.push_back(required("reward_rejected", "P"));

  const parameters common{
      optional_number("ld_alpha", "weight of the tokens beyond the shorter response's length"),
      optional_interval("humanline", "bounds of each token's log-ratio"),
      number("nll_weight", 0, "weight of the NLL term on the chosen responses"),
      word("nll_reduction", "token_mean", {"token_mean", "sequence_mean"}, "how the NLL term adds up")};
  const parameters pairs =
      parameters{flag("reference_free", false, "the reference's log-probabilities are taken as 0"),
                 word("f_divergence", "reverse_kl", {"reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"},
                      "the divergence whose scores replace the log-ratios"),
                 number("f_alpha", rlhf::alpha_divergence{}.alpha, "alpha_divergence: its alpha")} +
      common;
  const auto beta = [](double value) { return parameters{number("beta", value, "scale of the log-ratios")}; };
  const auto smoothing = [](double value) {
    return parameters{number("label_smoothing", value, "probability that a label is flipped")};
  };

  table.add("preference_loss", "sigmoid", beta(rlhf::dpo_sigmoid{}.beta) + smoothing(0) + pairs, arrays,
            divergent_pair_objective<B>([](const arguments& a) {
              return rlhf::dpo_sigmoid{a.number("beta"), a.number("label_smoothing")};
            }));
  table.add("preference_loss", "sigmoid_norm", beta(rlhf::dpo_sigmoid_norm{}.beta) + smoothing(0) + pairs, arrays,
            divergent_pair_objective<B>([](const arguments& a) {
              return rlhf::dpo_sigmoid_norm{a.number("beta"), a.number("label_smoothing")};
            }));
  table.add("preference_loss", "hinge", beta(rlhf::dpo_hinge{}.beta) + pairs, arrays,
            divergent_pair_objective<B>([](const arguments& a) { return rlhf::dpo_hinge{a.number("beta")}; }));
  table.add("preference_loss", "ipo", beta(rlhf::ipo{}.beta) + pairs, arrays,
            divergent_pair_objective<B>([](const arguments& a) { return rlhf::ipo{a.number("beta")}; }));
  table.add("preference_loss", "ipo_sum", beta(rlhf::ipo_sum{}.beta) + pairs, arrays,
            divergent_pair_objective<B>([](const arguments& a) { return rlhf::ipo_sum{a.number("beta")}; }));
  table.add("preference_loss", "robust",
            beta(rlhf::dpo_robust{}.beta) + smoothing(rlhf::dpo_robust{}.label_smoothing) + pairs, arrays,
            divergent_pair_objective<B>([](const arguments& a) {
              return rlhf::dpo_robust{a.number("beta"), a.number("label_smoothing")};
            }));
  for (const bool paper : {false, true})
    table.add("preference_loss", paper ? "rebel_paper" : "rebel",
              parameters{number("eta", rlhf::rebel{}.eta, "scale of the rewards")} + common, with_rewards,
              pair_objective<B>([paper](const arguments& a) {
                return rlhf::rebel{a.number("eta"), paper};
              }));
  table.add("preference_loss", "sft", {}, arrays,
            []<class T>(const problem& p, results& out) { preference_case<B, T>(p, out).run_sft(); });
}

}  // namespace eval
