#pragma once
// is_correction: importance weights and rejections from the log-ratios to the sampling engine.

#include <string>

#include "registry.hpp"
#include "rlhf/driver/importance.hpp"
#include "workspace.hpp"

namespace eval {

/// Runs a correction. Those of whole sequences give one weight each; `measure` names what their rejection looked at.
template <class B, class T>
void correct(const problem& p, results& out, const rlhf::importance_correction& correction, bool by_token,
             const char* measure = nullptr) {
  workspace<B, T> work;
  const std::int64_t rows = p.extent("B"), columns = p.extent("T");
  rlhf::importance_inputs<T, typename B::space> in;
  in.logp = work.in(p, p.declares("old_logp") ? "old_logp" : "logp");
  in.rollout_logp = work.in(p, "rollout_logp");
  if (p.declares("advantage")) in.advantage = work.in(p, "advantage");
  in.mask = work.mask(mask_or_ones(p, "mask", rows * columns));
  rlhf::importance_outputs<T, typename B::space> to;
  if (by_token)
    to.weight = work.out(rows * columns);
  else
    to.sequence_weight = work.out(rows);
  if (measure != nullptr) to.sequence_measure = work.out(rows);
  const rlhf::importance_weights<rlhf::importance_correction> weights{correction};
  require(weights(work.backend(), work.rows(rows, columns), in, to));
  if (by_token)
    out.put("weight", {rows, columns}, work.read(to.weight));
  else
    out.put("weight", {rows}, work.read(to.sequence_weight));
  if (measure != nullptr) out.put(measure, {rows}, work.read(to.sequence_measure));
}

template <class B>
void add_is_correction(registry& table) {
  const parameter again = optional_word("name", {}, "the objective's name again; not read");
  const parameter clamp = optional_number("log_clamp", "bound of the log-ratio before exp");
  const parameter free_low = optional_number("min", "lower bound of the ratio; null: none");
  const inputs arrays{required("old_logp", "B,T"), required("rollout_logp", "B,T"), optional("mask", "B,T")};
  const auto bounds = [](double low, double high) {
    return parameters{number("min", low, "lower bound of the ratio"), number("max", high, "upper bound of the ratio")};
  };
  const auto add = [&](const char* name, const parameters& settings, bool by_token, const char* measure,
                       const auto& make) {
    table.add("is_correction", name, settings + parameters{again, clamp}, arrays,
              [by_token, measure, make]<class T>(const problem& p, results& out) {
                rlhf::importance_correction correction = make(p.settings);
                correction.weight.log_ratio_bound = p.settings.bound("log_clamp");
                correct<B, T>(p, out, correction, by_token, measure);
              });
  };
  add("token_truncate", parameters{number("max", 2, "upper bound of the weight"), free_low}, true, nullptr,
      [](const arguments& a) { return rlhf::truncated_token_weights(a.number("max"), a.number_or("min", 0)); });
  add("tis_two_sided", bounds(0.5, 5), true, nullptr,
      [](const arguments& a) { return rlhf::truncated_token_weights(a.number("max"), a.number("min")); });
  add("sequence_truncate", parameters{number("max", 3, "upper bound of the weight"), free_low}, false, nullptr,
      [](const arguments& a) { return rlhf::truncated_sequence_weights(a.number("max"), a.number_or("min", 0)); });
  for (const char* name : {"token_mask", "icepop"})
    add(name, bounds(0.5, 2), true, nullptr,
        [](const arguments& a) { return rlhf::masked_token_weights(a.number("min"), a.number("max")); });
  add("sequence_mask", parameters{number("max", 3, "the largest weight that is kept"), free_low}, false, nullptr,
      [](const arguments& a) { return rlhf::masked_sequence_weights(a.number("max"), a.number_or("min", 0)); });
  add("seq_mask_tis", bounds(0.8, 1.2), true, "geo_mean",
      [](const arguments& a) { return rlhf::sequence_masked_token_weights(a.number("min"), a.number("max")); });
  add("geometric_mask", bounds(0.99, 1.01), false, "geo_mean",
      [](const arguments& a) { return rlhf::geometric_sequence_mask(a.number("min"), a.number("max")); });

  table.add(
      "is_correction", "opsm",
      {again, required_number("threshold", "the largest mean of log pi_rollout - log pi that is kept")},
      {required("logp", "B,T"), required("rollout_logp", "B,T"), optional("mask", "B,T"), required("advantage", "B")},
      []<class T>(const problem& p, results& out) {
        correct<B, T>(p, out, rlhf::off_policy_sequence_mask(p.settings.number("threshold")), false, "seq_kl");
      });
}

}  // namespace eval
