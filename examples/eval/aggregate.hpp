#pragma once
// aggregate: how losses per token add up. The gradient is the weight of each token.

#include <string>

#include "choices.hpp"
#include "registry.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "workspace.hpp"

namespace eval {

/// A token whose loss is given: the stream of log-probabilities is taken as the losses.
struct given_loss {
  template <rlhf::number V>
  RLHF_HD RLHF_INLINE V operator()(const rlhf::token<V>& t) const {
    return t.logp;
  }
};

/// Runs an aggregation of given losses; `gradient` receives the weight of each slot.
template <class B, class T, class Aggregate>
double aggregate_given(const problem& p, const Aggregate& how, std::int64_t rows, std::int64_t columns,
                       const std::vector<double>& losses, const std::vector<double>& mask,
                       std::vector<double>& gradient) {
  workspace<B, T> work;
  rlhf::token_inputs<T, typename B::space> in;
  in.logp = work.in(losses);
  in.mask = work.mask(mask);
  if (p.has("prompt_id")) in.groups = work.groups(p.data("prompt_id"));
  rlhf::token_outputs<T, typename B::space> to;
  to.loss = work.out(1);
  to.grad_logp = work.out(rows * columns);
  const rlhf::policy_loss<given_loss, rlhf::none, Aggregate> loss{given_loss{}, {}, how};
  require(loss(work.backend(), work.rows(rows, columns), in, to));
  gradient = work.read(to.grad_logp);
  return work.read_one(to.loss);
}

template <class B>
void add_aggregate(registry& table) {
  const parameters settings =
      parameters{optional_word("mode", {}, "the objective's name again; not read")} + aggregation_numbers("");
  for (const std::string& mode : aggregation_names) {
    if (mode == "luspo") continue;  // below: its losses are per row
    table.add("aggregate", mode, settings,
              {required("per_token", "B,T"), optional("mask", "B,T"),
               mode == "prompt-mean" ? required("prompt_id", "B") : optional("prompt_id", "B")},
              [mode]<class T>(const problem& p, results& out) {
                const std::int64_t rows = p.extent("B"), columns = p.extent("T");
                std::vector<double> gradient;
                with_aggregate(p.settings, "", mode, columns, [&](const auto& how) {
                  out.put("loss", aggregate_given<B, T>(p, how, rows, columns, p.data("per_token"),
                                                        mask_or_ones(p, "mask", rows * columns), gradient));
                });
                out.gradient("per_token", {rows, columns}, gradient);
              });
  }

  // Losses of whole rows. Under luspo a row's loss stands at each of its tokens; in a plain mean it is an item by itself.
  for (const bool by_length : {true, false}) {
    table.add("aggregate", by_length ? "luspo" : "seq-mean", settings,
              {required("per_token", "B|B,1"), required("mask", "B,T"), optional("prompt_id", "B")},
              [by_length]<class T>(const problem& p, results& out) {
                const array& given = p["per_token"];
                const std::int64_t rows = p.extent("B"), columns = by_length ? p.extent("T") : 1;
                std::vector<double> gradient;
                const auto run = [&](const auto& how, const std::vector<double>& mask) {
                  out.put("loss",
                          aggregate_given<B, T>(p, how, rows, columns, spread(given.data, columns), mask, gradient));
                };
                if (by_length)
                  run(any_uniform{.which = any_uniform::kind::length_weighted}, p.data("mask"));
                else
                  run(rlhf::batch_mean{}, std::vector<double>(static_cast<std::size_t>(rows), 1.0));
                std::vector<double> per_row(given.data.size());
                for (std::size_t i = 0; i < gradient.size(); ++i)
                  per_row[i / static_cast<std::size_t>(columns)] += gradient[i];
                out.gradient("per_token", given.shape, per_row);
              });
  }
}

}  // namespace eval
