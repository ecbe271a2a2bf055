#pragma once
// The arrays of a case of reward_loss, and the drivers called on them.

#include <cmath>
#include <string>
#include <vector>

#include "problem.hpp"
#include "results.hpp"
#include "reward_choices.hpp"
#include "rlhf/driver/odin_loss.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/ranking_loss.hpp"
#include "rlhf/driver/reward_loss.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "rlhf/driver/value_loss.hpp"
#include "rlhf/objective/token.hpp"
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

/// An objective of pairs made from the problem; `weight` names the input that multiplies a pair's loss, if any.
template <class B, class Make>
[[nodiscard]] auto score_objective(const Make& make, const std::string& weight = "") {
  return [make, weight]<class T>(const problem& p, results& out) {
    workspace<B, T> work;
    const std::int64_t pairs = p.extent("P");
    rlhf::score_inputs<T, typename B::space> in;
    in.chosen = work.in(p, "chosen_reward");
    in.rejected = work.in(p, "rejected_reward");
    for (const char* name : {"margin", "similarity", "delta_star"})
      if (p.declares(name) && p.has(name)) in.margin = work.in(p, name);
    if (p.declares("prob")) in.probability = work.in(p, "prob");
    if (!weight.empty()) in.weight = work.in(p, weight);
    rlhf::statistics found;
    rlhf::score_outputs<T, typename B::space> to;
    to.loss = work.out(1);
    to.per_pair = work.out(pairs);
    to.grad_chosen = work.out(pairs);
    to.grad_rejected = work.out(pairs);
    to.stats = &found;
    any_score_pair objective = make(p);
    require(rlhf::reward_loss{objective}(work.backend(), in, to));
    // Losses of pairs are stated without the centring, which is a term of its own beside them.
    std::vector<double> per_item = work.read(to.per_pair);
    if (objective.bradley_terry.center > 0) {
      objective.bradley_terry.center = 0;
      const auto uncentred = work.out(pairs);
      require(rlhf::reward_loss{objective}(work.backend(), in, {.per_pair = uncentred}));
      per_item = work.read(uncentred);
    }
    put_pairs(work, p, to, per_item, out);
    put(out, found);
  };
}

/// Objectives of pairs that may end in a tie; `tie` names the input that says how strong ties are.
template <class B>
[[nodiscard]] auto tie_objective(const std::string& tie) {
  return [tie]<class T>(const problem& p, results& out) {
    workspace<B, T> work;
    const std::int64_t pairs = p.extent("P");
    rlhf::score_inputs<T, typename B::space> in;
    in.chosen = work.in(p, "first_reward");
    in.rejected = work.in(p, "second_reward");
    in.tie = work.in(p, tie);
    rlhf::statistics found;
    rlhf::score_outputs<T, typename B::space> to;
    to.loss = work.out(1);
    to.per_pair = work.out(pairs);
    to.grad_chosen = work.out(pairs);
    to.grad_rejected = work.out(pairs);
    to.grad_tie = work.out(1);
    to.stats = &found;
    const rlhf::reward_loss loss{any_tie{tie == "log_nu"}};
    constexpr double points[] = {1, 0, 0.5};  // of the first, by outcome
    std::vector<double> scored;
    for (const double outcome : p.data("outcome")) {
      if (outcome != 0 && outcome != 1 && outcome != 2)
        throw failure{"argument", "inputs.outcome wants 0 (first), 1 (second) or 2 (tie)"};
      scored.push_back(points[static_cast<int>(outcome)]);
    }
    in.probability = work.in(scored);
    require(loss(work.backend(), in, to));
    const results::shape shape{pairs};
    out.put("per_item", shape, work.read(to.per_pair));
    out.put("loss", work.read_one(to.loss));
    out.gradient("first_reward", shape, work.read(to.grad_chosen));
    out.gradient("second_reward", shape, work.read(to.grad_rejected));
    out.gradient(tie, p[tie].shape, work.read(to.grad_tie));
    put(out, found);
    // The loss of an outcome is minus the log of its probability.
    std::vector<double> probability(3 * scored.size());
    for (std::size_t k = 0; k < 3; ++k) {
      in.probability = work.in(std::vector<double>(scored.size(), points[k]));
      const auto each = work.out(pairs);
      require(loss(work.backend(), in, {.per_pair = each}));
      const std::vector<double> losses = work.read(each);
      for (std::size_t i = 0; i < losses.size(); ++i) probability[3 * i + k] = std::exp(-losses[i]);
    }
    out.put("prob", {pairs, 3}, probability);
  };
}

/// Objectives of pairs of tokens, over the positions [start, end) of each pair.
template <class B>
[[nodiscard]] auto token_span_objective(any_score_pair::kind which) {
  return [which]<class T>(const problem& p, results& out) {
    workspace<B, T> work;
    const std::int64_t pairs = p.extent("P"), columns = p.extent("T"), n = pairs * columns;
    std::vector<double> inside(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const auto row = static_cast<std::size_t>(i / columns);
      const auto column = static_cast<double>(i % columns);
      inside[static_cast<std::size_t>(i)] = column >= p.data("start")[row] && column < p.data("end")[row] ? 1 : 0;
    }
    rlhf::score_inputs<T, typename B::space> in;
    in.chosen = work.in(p, "chosen_reward");
    in.rejected = work.in(p, "rejected_reward");
    in.mask = work.mask(inside);
    if (p.declares("delta_star")) in.margin = work.in(spread(p.data("delta_star"), columns));
    rlhf::statistics found;
    rlhf::score_outputs<T, typename B::space> to;
    to.loss = work.out(1);
    to.per_pair = work.out(n);
    to.grad_chosen = work.out(n);
    to.grad_rejected = work.out(n);
    to.stats = &found;
    const rlhf::reward_loss loss{any_score_pair{.which = which}, rlhf::row_mean{}};
    require(loss(work.backend(), work.rows(pairs, columns), in, to));
    const std::vector<double> tokens = work.read(to.per_pair);
    std::vector<double> per_item(static_cast<std::size_t>(pairs)), count(per_item);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      per_item[i / static_cast<std::size_t>(columns)] += tokens[i];
      count[i / static_cast<std::size_t>(columns)] += inside[i];
    }
    for (std::size_t i = 0; i < per_item.size(); ++i) per_item[i] /= count[i] > 0 ? count[i] : 1;
    out.put("per_item", {pairs}, per_item);
    out.put("loss", work.read_one(to.loss));
    out.gradient("chosen_reward", {pairs, columns}, work.read(to.grad_chosen));
    out.gradient("rejected_reward", {pairs, columns}, work.read(to.grad_rejected));
    put(out, found);
  };
}

/// Objectives of ranked lists: the first `count` scores of a row, the best first.
template <class B, class Make>
[[nodiscard]] auto ranking_objective(const Make& make) {
  return [make]<class T>(const problem& p, results& out) {
    workspace<B, T> work;
    const std::int64_t lists = p.extent("B"), columns = p.extent("K");
    std::vector<double> inside(static_cast<std::size_t>(lists * columns), 1);
    if (p.has("count"))
      for (std::int64_t i = 0; i < lists * columns; ++i)
        inside[static_cast<std::size_t>(i)] =
            static_cast<double>(i % columns) < p.data("count")[static_cast<std::size_t>(i / columns)] ? 1 : 0;
    rlhf::ranking_inputs<T, typename B::space> in;
    in.score = work.in(p, "score");
    in.mask = work.mask(inside);
    rlhf::ranking_outputs<T, typename B::space> to;
    to.loss = work.out(1);
    to.grad_score = work.out(lists * columns);
    to.per_list = work.out(lists);
    require(rlhf::ranking_loss{make(p.settings)}(work.backend(), work.rows(lists, columns), in, to));
    out.put("per_item", {lists}, work.read(to.per_list));
    out.put("loss", work.read_one(to.loss));
    out.gradient("score", {lists, columns}, work.read(to.grad_score));
  };
}

/// The first half of the responses are chosen, the second half rejected.
template <class B, class T>
void run_odin(const problem& p, results& out) {
  workspace<B, T> work;
  const std::int64_t n = p.extent("N"), pairs = n / 2;
  if (n % 2 != 0) throw failure{"shape", "inputs.quality wants an even number of responses: chosen, then rejected"};
  const auto half = [&](const auto& v, std::int64_t k) {
    auto cut = v;
    cut.data += k * pairs;
    cut.extent = pairs;
    return cut;
  };
  const auto quality = work.in(p, "quality"), length_score = work.in(p, "length_score"), length = work.in(p, "length");
  rlhf::odin_inputs<T, typename B::space> in;
  in.chosen = {half(quality, 0), half(length_score, 0), half(length, 0)};
  in.rejected = {half(quality, 1), half(length_score, 1), half(length, 1)};
  in.head_product = work.in(p, "head_dot");
  const auto grad_quality = work.out(n), grad_length_score = work.out(n);
  rlhf::statistics found;
  rlhf::odin_outputs<T, typename B::space> to;
  to.loss = work.out(1);
  to.grad_chosen = {half(grad_quality, 0), half(grad_length_score, 0)};
  to.grad_rejected = {half(grad_quality, 1), half(grad_length_score, 1)};
  to.grad_head_product = work.out(1);
  to.per_pair = work.out(pairs);
  to.stats = &found;
  const arguments& a = p.settings;
  require(rlhf::odin_loss{{a.number("c_o"), a.number("c_l"), a.flag("third_term")}}(work.backend(), in, to));
  out.put("per_item", {pairs}, work.read(to.per_pair));
  out.put("loss", work.read_one(to.loss));
  out.gradient("quality", {n}, work.read(grad_quality));
  out.gradient("length_score", {n}, work.read(grad_length_score));
  out.gradient("head_dot", p["head_dot"].shape, work.read(to.grad_head_product));
  put(out, found);
}

/// Labels that are not there are -100.
[[nodiscard]] inline std::vector<double> labelled(const std::vector<double>& label) {
  std::vector<double> mask;
  for (const double x : label) mask.push_back(x != -100 ? 1 : 0);
  return mask;
}

/// Attributes regressed on ratings: a value loss whose tokens are the attributes that have one.
template <class B, class T>
void run_regression(const problem& p, results& out) {
  workspace<B, T> work;
  const std::int64_t rows = p.extent("B"), columns = p.extent("H"), n = rows * columns;
  rlhf::value_inputs<T, typename B::space> in;
  in.value = work.in(p, "prediction");
  in.returns = work.in(p, "label");
  in.mask = work.mask(labelled(p.data("label")));
  rlhf::value_outputs<T, typename B::space> to;
  to.loss = work.out(1);
  to.grad_value = work.out(n);
  const rlhf::value_loss loss{rlhf::squared_value{1}, rlhf::token_mean{}};
  require(loss(work.backend(), work.rows(rows, columns), in, to));
  out.put("loss", work.read_one(to.loss));
  out.gradient("prediction", {rows, columns}, work.read(to.grad_value));
}

/// Steps classified: log-probabilities of the labels, their negative mean, and the way back to the logits.
template <class B, class T>
void run_step_labels(const problem& p, results& out) {
  workspace<B, T> work;
  const array& given = p["logits"];
  const std::int64_t rows = p.extent("B"), columns = p.extent("T"), classes = p.extent("C"), n = rows * columns;
  rlhf::logits_inputs<T, typename B::space> in;
  in.logits = work.matrix(array{{n, classes}, given.data});
  in.target = work.integers(p, "label");
  rlhf::logp_outputs<T, typename B::space> station;
  station.logp = work.out(n);
  station.lse = work.out(n);
  require(rlhf::token_logp(work.backend(), in, station));
  rlhf::token_inputs<T, typename B::space> tokens;
  tokens.logp = station.logp;
  tokens.mask = work.mask(labelled(p.data("label")));
  rlhf::token_outputs<T, typename B::space> to;
  to.loss = work.out(1);
  to.grad_logp = work.out(n);
  const rlhf::policy_loss loss{rlhf::negative_log_likelihood{}};
  require(loss(work.backend(), work.rows(rows, columns), tokens, to));
  rlhf::logp_gradients<T, typename B::space> from;
  from.lse = station.lse;
  from.grad_logp = to.grad_logp;
  const auto gradient = work.out(n, classes);
  require(rlhf::token_logp_backward(work.backend(), in, from, gradient));
  out.put("loss", work.read_one(to.loss));
  out.gradient("logits", given.shape, work.read(gradient));
}

}  // namespace eval
