#pragma once
// reward_loss: objectives of the scores of a pair.

#include "registry.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/reward/bradley_terry.hpp"
#include "workspace.hpp"

namespace eval {

/// What the two drivers of a pair write alike.
template <class Work, class Outputs>
void put_pairs(const Work& work, const problem& p, const Outputs& to, const std::vector<double>& per_item,
               results& out) {
  const results::shape pairs{p.extent("P")};
  out.put("per_item", pairs, per_item);
  out.put("loss", work.read_one(to.loss));
  out.gradient("chosen_reward", pairs, work.read(to.grad_chosen));
  out.gradient("rejected_reward", pairs, work.read(to.grad_rejected));
}

/// A Bradley-Terry objective made from the problem; `weight` names the input that multiplies a pair's loss, if any.
template <class B, class Make>
[[nodiscard]] auto score_objective(const Make& make, const std::string& weight = "") {
  return [make, weight]<class T>(const problem& p, results& out) {
    workspace<B, T> work;
    const std::int64_t pairs = p.extent("P");
    rlhf::score_inputs<T, typename B::space> in;
    in.chosen = work.in(p, "chosen_reward");
    in.rejected = work.in(p, "rejected_reward");
    if (p.declares("margin")) in.margin = work.in(p, "margin");
    if (p.declares("prob")) in.probability = work.in(p, "prob");
    if (!weight.empty()) in.weight = work.in(p, weight);
    rlhf::statistics found;
    rlhf::score_outputs<T, typename B::space> to;
    to.loss = work.out(1);
    to.per_pair = work.out(pairs);
    to.grad_chosen = work.out(pairs);
    to.grad_rejected = work.out(pairs);
    to.stats = &found;
    auto objective = make(p);
    require(rlhf::reward_loss{objective}(work.backend(), in, to));
    // Losses of pairs are stated without the centring, which is a term of its own beside them.
    std::vector<double> per_item = work.read(to.per_pair);
    if (objective.center > 0) {
      objective.center = 0;
      const auto uncentred = work.out(pairs);
      require(rlhf::reward_loss{objective}(work.backend(), in, {.per_pair = uncentred}));
      per_item = work.read(uncentred);
    }
    put_pairs(work, p, to, per_item, out);
    put(out, found);
  };
}

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
              return rlhf::bradley_terry{.label_smoothing = p.settings.number("label_smoothing"),
                                         .center = p.settings.number("center"),
                                         .use_margin = p.has("margin"),
                                         .soft_labels = p.has("prob")};
            }));
  table.add("reward_loss", "log_exp", {kind}, scores,
            score_objective<B>([](const problem&) { return rlhf::bradley_terry{}; }));
  // The margin multiplies the loss.
  table.add("reward_loss", "scaled_bt", {kind}, with(required("margin", "P")),
            score_objective<B>([](const problem&) { return rlhf::bradley_terry{}; }, "margin"));

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
}

}  // namespace eval
