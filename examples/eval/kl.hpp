#pragma once
// kl: estimators from one sample, and the divergence over the whole vocabulary.

#include <string>

#include "choices.hpp"
#include "registry.hpp"
#include "rlhf/driver/full_kl.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "workspace.hpp"

namespace eval {

template <class B>
void add_kl(registry& table) {
  const parameter again = optional_word("estimator", {}, "the objective's name again; not read");
  for (const std::string& name : estimator_names) {
    inputs arrays{required("logp", "B,T"), required("ref_logp", "B,T"), optional("mask", "B,T")};
    arrays.push_back(name.ends_with("_ratio") ? required("old_logp", "B,T") : optional("old_logp", "B,T"));
    table.add("kl", name, parameters{again} + estimator_bounds(""), arrays,
              [name]<class T>(const problem& p, results& out) {
                workspace<B, T> work;
                const std::int64_t rows = p.extent("B"), columns = p.extent("T"), n = rows * columns;
                rlhf::token_inputs<T, typename B::space> in;
                in.logp = work.in(p, "logp");
                in.ref_logp = work.in(p, "ref_logp");
                in.old_logp = work.in(p, "old_logp");
                in.mask = work.mask(mask_or_ones(p, "mask", n));
                rlhf::statistics found;
                rlhf::token_outputs<T, typename B::space> to;
                to.loss = work.out(1);
                to.grad_logp = work.out(n);
                to.per_token = work.out(n);
                to.stats = &found;
                const rlhf::kl_penalty<any_estimator<>> penalty{make_estimator(p.settings, "", name), 1};
                const rlhf::policy_loss loss{rlhf::none{}, penalty, rlhf::token_sum{}};
                require(loss(work.backend(), work.rows(rows, columns), in, to));
                out.put("value", {rows, columns}, work.read(to.per_token));
                out.put("loss", work.read_one(to.loss));
                out.gradient("logp", {rows, columns}, work.read(to.grad_logp));
                out.stat("mean", found["kl_mean"]);
              });
  }

  table.add("kl", "full",
            {word("direction", "reverse", {"reverse", "forward"}, "KL(pi || ref), or KL(ref || pi)"),
             number("temperature", 1, "divides the logits of both"),
             optional_number("vocab", "columns that are the vocabulary; null: all")},
            {required("logits", "N,V"), required("ref_logits", "N,V"), optional("mask", "N")},
            []<class T>(const problem& p, results& out) {
              workspace<B, T> work;
              const std::int64_t rows = p.extent("N"), columns = p.extent("V");
              rlhf::full_kl_inputs<T, typename B::space> in;
              in.logits = work.matrix(p["logits"]);
              in.ref_logits = work.matrix(p["ref_logits"]);
              if (p.has("mask")) in.mask = work.mask(p.data("mask"));
              in.vocabulary = p.settings.integer_or("vocab", 0);
              in.temperature = p.settings.number("temperature");
              in.direction =
                  p.settings.word("direction") == "forward" ? rlhf::kl_direction::forward : rlhf::kl_direction::reverse;
              rlhf::full_kl_outputs<T, T, typename B::space> to;
              to.kl = work.out(rows);
              to.grad_logits = work.out(rows, columns);
              require(rlhf::full_kl(work.backend(), in, to));
              const std::vector<double> value = work.read(to.kl);
              double loss = 0;
              for (const double x : value) loss += x;
              out.put("value", {rows}, value);
              out.put("loss", loss);
              out.gradient("logits", {rows, columns}, work.read(to.grad_logits));
            });
}

}  // namespace eval
