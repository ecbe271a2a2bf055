#pragma once
// reward_shaping: rewards of tokens and responses before any loss.

#include "choices.hpp"
#include "registry.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/reward/kl_controller.hpp"
#include "rlhf/reward/length_shaping.hpp"
#include "rlhf/reward/running_scale.hpp"
#include "workspace.hpp"

namespace eval {

/// The arrays of a [B][T] case, and the driver called on them.
template <class B, class T>
struct shaping_case {
  using space = typename B::space;
  workspace<B, T> work;
  std::int64_t rows, columns;
  rlhf::shaping_inputs<T, space> in;
  rlhf::shaping_outputs<T, space> to;

  explicit shaping_case(const problem& p) : rows(p.extent("B")), columns(p.extent("T")) {
    in.old_logp = work.in(p, "old_logp");
    in.ref_logp = work.in(p, "ref_logp");
    in.score = work.in(p, "score");
    in.mask = work.mask(mask_or_ones(p, "mask", rows * columns));
    to.reward = work.out(rows * columns);
    to.kl = work.out(rows * columns);
    to.dpo_sum = work.out(rows);
  }
  template <class Rule>
  void run(const Rule& rule) {
    const rlhf::reward_shaping<Rule> shape{rule};
    require(shape(work.backend(), work.rows(rows, columns), in, to));
  }
};

/// A rule for each response by itself: `f(i)` is the reward of the i-th of `symbol`.
template <class F>
void put_rewards(const problem& p, results& out, const char* symbol, const F& f) {
  std::vector<double> rewards;
  for (std::size_t i = 0; i < static_cast<std::size_t>(p.extent(symbol)); ++i) rewards.push_back(f(i));
  out.put("reward", {p.extent(symbol)}, rewards);
}

/// How a response ended, how long it is, how often it repeats itself, and the scale of the scores.
inline void add_response_rewards(registry& table) {
  table.add("reward_shaping", "missing_eos",
            {number("penalty", rlhf::missing_eos{}.penalty, "what a missing end of text costs, or the reward of it"),
             word("form", "subtract", {"subtract", "replace"}, "taken off the reward, or in its place")},
            {required("reward", "K"), required("has_eos", "K")}, []<class T>(const problem& p, results& out) {
              const rlhf::missing_eos rule{p.settings.number("penalty"), p.settings.word("form") == "replace"};
              put_rewards(p, out, "K",
                          [&](std::size_t i) { return rule(p.data("reward")[i], p.data("has_eos")[i] != 0); });
            });
  table.add("reward_shaping", "stop_properly",
            {number("coef", rlhf::stop_properly{}.coefficient, "multiplies, or below 0 replaces, a cut-off reward")},
            {required("reward", "K"), required("truncated", "K")}, []<class T>(const problem& p, results& out) {
              const rlhf::stop_properly rule{p.settings.number("coef")};
              require(rule.check());
              put_rewards(p, out, "K",
                          [&](std::size_t i) { return rule(p.data("reward")[i], p.data("truncated")[i] != 0); });
            });
  const rlhf::cosine_length cosine{1};
  table.add("reward_shaping", "cosine_length",
            {required_number("max_len", "the length at which the cosine ends"),
             number("min_correct", cosine.min_correct, "reward of a right answer at max_len"),
             number("max_correct", cosine.max_correct, "reward of a right answer of length 0"),
             number("min_wrong", cosine.min_wrong, "reward of a wrong answer of length 0"),
             number("max_wrong", cosine.max_wrong, "reward of a wrong answer at max_len")},
            {required("length", "K"), required("correct", "K")}, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              const rlhf::cosine_length rule{a.number("max_len"), a.number("min_correct"), a.number("max_correct"),
                                             a.number("min_wrong"), a.number("max_wrong")};
              require(rule.check());
              put_rewards(p, out, "K",
                          [&](std::size_t i) { return rule(p.data("length")[i], p.data("correct")[i] != 0); });
            });
  const rlhf::repetition_penalty repetition;
  table.add("reward_shaping", "repetition",
            {number("n", static_cast<double>(repetition.n), "tokens of an n-gram"),
             number("max_penalty", repetition.max_penalty, "the reward where nothing but repetition is left")},
            {required("tokens", "K,L"), required("length", "K")}, []<class T>(const problem& p, results& out) {
              const rlhf::repetition_penalty rule{p.settings.integer_or("n", 1), p.settings.number("max_penalty")};
              require(rule.check());
              put_rewards(p, out, "K", [&](std::size_t i) {
                const double* const row = p.data("tokens").data() + i * static_cast<std::size_t>(p.extent("L"));
                const auto length = static_cast<std::int64_t>(p.data("length")[i]);
                if (length < 0 || length > p.extent("L"))
                  throw failure{"argument", "inputs.length holds a length outside the rows of tokens"};
                return rule(length, [row](std::int64_t j) { return row[j]; });
              });
            });
  table.add("reward_shaping", "running_scale",
            {word("form", "normalize", {"normalize", "scale"}, "(x - mean) / std, or x / std"),
             optional_number("clip", "bound of the result")},
            {required("score", "K,N")}, []<class T>(const problem& p, results& out) {
              rlhf::running_scale scale{p.settings.word("form") == "normalize", p.settings.bound("clip"), {}};
              const std::vector<double>& score = p.data("score");
              const auto columns = static_cast<std::size_t>(p.extent("N"));
              std::vector<double> rewards, deviations;
              for (std::size_t begin = 0; begin < score.size(); begin += columns) {
                for (std::size_t i = begin; i < begin + columns; ++i) scale.add(score[i]);
                deviations.push_back(scale.deviation());
                for (std::size_t i = begin; i < begin + columns; ++i) rewards.push_back(scale(score[i]));
              }
              out.put("reward", {p.extent("K"), p.extent("N")}, rewards);
              out.put("std", {p.extent("K")}, deviations);
              out.put("mean", scale.seen.mean);
            });
}

template <class B>
void add_reward_shaping(registry& table) {
  add_response_rewards(table);
  const inputs arrays{required("old_logp", "B,T"), required("ref_logp", "B,T"), optional("mask", "B,T"),
                      optional("score", "B")};
  const parameter clip = optional_interval("score_clip", "bounds of the score before it is used");

  table.add(
      "reward_shaping", "kl_in_reward",
      parameters{word("kl.estimator", "k1", estimator_names, "what is subtracted"),
                 number("kl_coef", rlhf::kl_in_reward<rlhf::k1>{}.coefficient, "its coefficient"),
                 word("placement", "last", {"last", "after_eos", "last_column"}, "which slot receives the score"),
                 clip} +
          estimator_bounds("kl."),
      arrays, []<class T>(const problem& p, results& out) {
        const arguments& a = p.settings;
        const std::string placement = a.word("placement");
        shaping_case<B, T> run(p);
        run.run(rlhf::kl_in_reward<any_estimator<>>{make_estimator(a, "kl.", a.word("kl.estimator")),
                                                    a.number("kl_coef"),
                                                    placement == "last"        ? rlhf::score_placement::last
                                                    : placement == "after_eos" ? rlhf::score_placement::after_eos
                                                                               : rlhf::score_placement::last_column,
                                                    {a.low("score_clip"), a.high("score_clip")}});
        out.put("reward", {run.rows, run.columns}, run.work.read(run.to.reward));
        out.put("kl", {run.rows, run.columns}, run.work.read(run.to.kl));
      });

  // The same rewards of the tokens, summed over the row, and the score beside them: a row without tokens keeps it.
  table.add("reward_shaping", "sequence_kl",
            {number("beta", rlhf::kl_in_reward<rlhf::k1>{}.coefficient, "coefficient of the row's k1"), clip}, arrays,
            []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              shaping_case<B, T> run(p);
              run.in.score = {};
              run.run(rlhf::kl_in_reward<rlhf::k1>{{}, a.number("beta")});
              const auto row_sums = [&](const std::vector<double>& x) {
                std::vector<double> sums(static_cast<std::size_t>(run.rows));
                for (std::size_t i = 0; i < x.size(); ++i) sums[i / static_cast<std::size_t>(run.columns)] += x[i];
                return sums;
              };
              const rlhf::score_clip clipped{a.low("score_clip"), a.high("score_clip")};
              std::vector<double> reward = row_sums(run.work.read(run.to.reward));
              if (p.has("score"))
                for (std::size_t i = 0; i < reward.size(); ++i) reward[i] += clipped(p.data("score")[i]);
              out.put("reward", {run.rows}, reward);
              out.put("kl", {run.rows}, row_sums(run.work.read(run.to.kl)));
            });

  const rlhf::rto_reward rto;
  inputs rto_arrays = arrays;
  rto_arrays.push_back(optional("dpo_logp", "B,T"));
  rto_arrays.push_back(optional("segment", "B,T"));
  table.add("reward_shaping", "rto",
            {number("beta1", rto.beta1, "weight of the DPO policy's log-ratio"),
             number("beta2", rto.beta2, "weight of the KL penalty"), number("beta3", rto.beta3, "weight of the score"),
             nullable_number("clip", rto.clip, "bound of a token's DPO reward; null: none"),
             word("mode", "dense", {"dense", "semi", "eos", "shaping_only"}, "where the DPO rewards are paid")},
            rto_arrays, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              const std::string mode = a.word("mode");
              shaping_case<B, T> run(p);
              run.in.dpo_logp = run.work.in(p, "dpo_logp");
              if (p.has("segment")) run.in.segment = run.work.integers(p, "segment");
              run.run(rlhf::rto_reward{a.number("beta1"), a.number("beta2"), a.number("beta3"), a.bound("clip"),
                                       mode == "dense"  ? rlhf::rto_mode::dense
                                       : mode == "semi" ? rlhf::rto_mode::semi
                                       : mode == "eos"  ? rlhf::rto_mode::eos
                                                        : rlhf::rto_mode::shaping_only});
              out.put("reward", {run.rows, run.columns}, run.work.read(run.to.reward));
              out.put("dpo_sum", {run.rows}, run.work.read(run.to.dpo_sum));
              out.put("kl", {run.rows, run.columns}, run.work.read(run.to.kl));
            });

  const rlhf::adaptive_kl_controller controller;
  table.add("reward_shaping", "adaptive_kl",
            {number("init", controller.coefficient, "the coefficient to start from"),
             number("target", controller.target, "the KL to hold"),
             number("horizon", controller.horizon, "how slowly the coefficient follows")},
            {required("kl", "K"), required("n", "K")}, []<class T>(const problem& p, results& out) {
              rlhf::adaptive_kl_controller c{p.settings.number("init"), p.settings.number("target"),
                                             p.settings.number("horizon")};
              std::vector<double> coefficients;
              for (std::size_t i = 0; i < p.data("kl").size(); ++i) {
                c.update(p.data("kl")[i], p.data("n")[i]);
                coefficients.push_back(c.coefficient);
              }
              out.put("coef", {p.extent("K")}, coefficients);
            });

  table.add("reward_shaping", "soft_overlong",
            {required_number("max_length", "the length that may not be passed"),
             required_number("buffer", "tokens before it that cost"),
             number("factor", rlhf::soft_overlong{1, 1}.factor, "the cost at max_length"),
             word("form", "floor", {"floor", "capped", "unbounded"}, "what lies beyond max_length")},
            {required("length", "K")}, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              const std::string form = a.word("form");
              using beyond = rlhf::soft_overlong::beyond;
              const rlhf::soft_overlong penalty{a.number("max_length"), a.number("buffer"), a.number("factor"),
                                                form == "floor"    ? beyond::floor
                                                : form == "capped" ? beyond::capped
                                                                   : beyond::unbounded};
              std::vector<double> rewards;
              for (const double length : p.data("length")) rewards.push_back(penalty(length));
              out.put("reward", {p.extent("K")}, rewards);
            });
}

}  // namespace eval
