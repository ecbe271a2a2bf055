#pragma once
// reward_loss: objectives of the scores of pairs, lists and ensembles, and of labels.

#include <string>

#include "registry.hpp"
#include "reward_cases.hpp"
#include "rlhf/driver/ensemble_reward.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/objective/preference.hpp"

namespace eval {

template <class B>
void add_reward_loss(registry& table) {
  const parameter kind = optional_word("kind", {}, "the objective's name again; not read");
  const rlhf::bradley_terry defaults;
  const parameters smoothing{
      number("label_smoothing", defaults.label_smoothing, "probability that a label is flipped")};
  const parameters center{number("center", defaults.center, "weight of the squared sum of the scores")};
  const inputs scores{required("chosen_reward", "P"), required("rejected_reward", "P")};
  const auto with = [&](const input& more) {
    inputs list = scores;
    list.push_back(more);
    return list;
  };

  inputs bradley_terry = with(optional("margin", "P"));
  bradley_terry.push_back(optional("prob", "P"));
  table.add("reward_loss", "bradley_terry", parameters{kind} + smoothing + center, bradley_terry,
            score_objective<B>([](const problem& p) {
              any_score_pair pair;
              pair.bradley_terry = {p.settings.number("label_smoothing"), p.settings.number("center"), p.has("margin"),
                                    p.has("prob")};
              return pair;
            }));
  table.add("reward_loss", "log_exp", {kind}, scores,
            score_objective<B>([](const problem&) { return any_score_pair{}; }));
  // The margin multiplies the loss.
  table.add("reward_loss", "scaled_bt", {kind}, with(required("margin", "P")),
            score_objective<B>([](const problem&) { return any_score_pair{}; }, "margin"));

  // Robust to flipped labels: the pair objective of that name on scores, which are log-ratios to a reference of 0.
  table.add(
      "reward_loss", "bt_robust",
      {kind, number("label_smoothing", rlhf::dpo_robust{}.label_smoothing, "probability that a label is flipped")},
      scores, []<class T>(const problem& p, results& out) {
        workspace<B, T> work;
        const std::int64_t pairs = p.extent("P");
        const std::vector<double> zeros(static_cast<std::size_t>(pairs), 0.0);
        rlhf::pair_inputs<T, typename B::space> in;
        in.chosen = work.in(p, "chosen_reward");
        in.rejected = work.in(p, "rejected_reward");
        in.ref_chosen = work.in(zeros);
        in.ref_rejected = work.in(zeros);
        rlhf::statistics found;
        rlhf::pair_outputs<T, typename B::space> to;
        to.loss = work.out(1);
        to.per_pair = work.out(pairs);
        to.grad_chosen = work.out(pairs);
        to.grad_rejected = work.out(pairs);
        to.stats = &found;
        const rlhf::preference_loss loss{rlhf::dpo_robust{1, p.settings.number("label_smoothing")}};
        require(loss(work.backend(), in, to));
        put_pairs(work, p, to, work.read(to.per_pair), out);
        out.stat("accuracy", found["rewards/accuracies"]);
        out.stat("margin", found["rewards/margins"]);
      });

  table.add("reward_loss", "thurstone",
            {kind, number("sd", rlhf::thurstone{}.standard_deviation, "standard deviation of a score's noise")}, scores,
            score_objective<B>([](const problem& p) {
              any_score_pair pair;
              pair.which = any_score_pair::kind::thurstone;
              pair.thurstone = {p.settings.number("sd")};
              return pair;
            }));
  for (const std::string tie : {"log_theta", "log_nu"})
    table.add(
        "reward_loss", tie == "log_nu" ? "davidson" : "rao_kupper", {kind},
        {required("first_reward", "P"), required("second_reward", "P"), required("outcome", "P"), required(tie, "|1")},
        tie_objective<B>(tie));

  const rlhf::similarity_cap cap;
  inputs capped = with(optional("similarity", "P"));
  capped.push_back(optional("delta_star", "P"));
  const auto constrained = [](const problem& p) {
    const arguments& a = p.settings;
    if (!p.has("delta_star")) p.demand("similarity");
    any_score_pair pair;
    pair.which = any_score_pair::kind::prior_constrained;
    pair.prior = {!p.has("delta_star"), {a.number("b1"), a.number("b2"), a.number("b3")}};
    return pair;
  };
  const auto run_constrained = score_objective<B>(constrained);
  table.add("reward_loss", "pcrm",
            {kind, number("b1", cap.scale, "the cap is b1 / (similarity + b2) + b3"),
             number("b2", cap.offset, "see b1"), number("b3", cap.shift, "see b1")},
            capped, [constrained, run_constrained]<class T>(const problem& p, results& out) {
              run_constrained.template operator()<T>(p, out);
              std::vector<double> caps = p.data(p.has("delta_star") ? "delta_star" : "similarity");
              if (!p.has("delta_star"))
                for (double& x : caps) x = constrained(p).prior.cap(x);
              out.put("delta_star", {p.extent("P")}, caps);
            });
  const inputs spans{required("chosen_reward", "P,T"), required("rejected_reward", "P,T"), required("start", "P"),
                     required("end", "P")};
  inputs capped_spans = spans;
  capped_spans.push_back(required("delta_star", "P"));
  table.add("reward_loss", "bt_token_span", {kind}, spans,
            token_span_objective<B>(any_score_pair::kind::bradley_terry));
  table.add("reward_loss", "pcrm_token", {kind}, capped_spans,
            token_span_objective<B>(any_score_pair::kind::prior_constrained));

  const inputs lists{required("score", "B,K"), optional("count", "B")};
  table.add("reward_loss", "plackett_luce", {kind, optional_number("top_m", "choices that count; null: all")}, lists,
            ranking_objective<B>([](const arguments& a) {
              return any_ranking{false, {a.integer_or("top_m", 0)}};
            }));
  table.add("reward_loss", "kwise_pairs", {kind}, lists, ranking_objective<B>([](const arguments&) {
              return any_ranking{true, {}};
            }));

  table.add("reward_loss", "regression", {kind}, {required("prediction", "B,H"), required("label", "B,H")},
            []<class T>(const problem& p, results& out) { run_regression<B, T>(p, out); });
  table.add("reward_loss", "prm_ce", {kind}, {required("logits", "B,T,C"), required("label", "B,T")},
            []<class T>(const problem& p, results& out) { run_step_labels<B, T>(p, out); });

  const rlhf::odin odin;
  table.add(
      "reward_loss", "odin",
      {kind, number("c_o", odin.orthogonality, "weight of the heads' inner product"),
       number("c_l", odin.correlation, "weight of the correlations with the length"),
       flag("third_term", odin.total_correlation, "also that of the summed score")},
      {required("quality", "N"), required("length_score", "N"), required("length", "N"), required("head_dot", "|1")},
      []<class T>(const problem& p, results& out) { run_odin<B, T>(p, out); });

  table.add("reward_loss", "ensemble",
            {word("kind", "mean", {"mean", "wco", "uwo", "lcb", "median"}, "how the members become one reward"),
             number("lam", rlhf::uncertainty_weighted{}.lambda, "uwo: weight of the variance"),
             number("k", rlhf::lower_confidence_bound{}.deviations, "lcb: standard deviations below the mean"),
             number("ddof", 0, "1: n - 1 in the variance; 0: n")},
            {required("reward", "M,N")}, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              const std::string how = a.word("kind");
              const bool sample = a.number("ddof") != 0;
              any_ensemble choice;
              choice.which = how == "mean"  ? any_ensemble::kind::mean
                             : how == "wco" ? any_ensemble::kind::worst
                             : how == "uwo" ? any_ensemble::kind::uncertainty
                             : how == "lcb" ? any_ensemble::kind::bound
                                            : any_ensemble::kind::median;
              choice.uncertainty = {a.number("lam"), sample};
              choice.bound = {a.number("k"), sample};
              workspace<B, T> work;
              const std::int64_t members = p.extent("M"), n = p.extent("N");
              const auto gradient = work.out(members, n);
              rlhf::ensemble_outputs<T, typename B::space> to;
              to.reward = work.out(n);
              to.grad_score = gradient;
              require(rlhf::ensemble_reward{choice}(work.backend(), work.matrix(p["reward"]), to));
              const std::vector<double> value = work.read(to.reward);
              double loss = 0;
              for (const double x : value) loss += x;
              out.put("value", {n}, value);
              out.put("loss", loss);
              out.gradient("reward", {members, n}, work.read(gradient));
            });
}

}  // namespace eval
