#pragma once
// reward_shaping: rewards of tokens and responses before any loss.

#include "choices.hpp"
#include "registry.hpp"
#include "rlhf/driver/reward_shaping.hpp"
#include "rlhf/reward/kl_controller.hpp"
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

template <class B>
void add_reward_shaping(registry& table) {
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
