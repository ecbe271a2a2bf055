#pragma once
// token_logp: logits to log-probabilities, and back.

#include "registry.hpp"
#include "rlhf/driver/token_logp.hpp"
#include "workspace.hpp"

namespace eval {

template <class B>
void add_token_logp(registry& table) {
  const rlhf::logits_inputs<> defaults;
  table.add("token_logp", "token_logp",
            {optional_number("vocab", "columns that are the vocabulary; null: all"),
             number("temperature", defaults.temperature, "divides the logits"),
             number("ignore_index", static_cast<double>(defaults.ignore_index), "rows with this target give 0")},
            {required("logits", "N,V"), required("target", "N"), optional("dlogp", "N"), optional("dentropy", "N")},
            []<class T>(const problem& p, results& out) {
              workspace<B, T> work;
              const std::int64_t rows = p.extent("N"), columns = p.extent("V");
              const std::vector<double> ones(static_cast<std::size_t>(rows), 1.0),
                  zeros(static_cast<std::size_t>(rows), 0.0);
              const std::vector<double> dlogp = p.has("dlogp") ? p.data("dlogp") : ones;
              const std::vector<double> dentropy = p.has("dentropy") ? p.data("dentropy") : zeros;

              rlhf::logits_inputs<T, typename B::space> in;
              in.logits = work.matrix(p["logits"]);
              in.target = work.integers(p, "target");
              in.vocabulary = p.settings.integer_or("vocab", 0);
              in.temperature = p.settings.number("temperature");
              in.ignore_index = p.settings.integer_or("ignore_index", 0);
              rlhf::statistics found;
              rlhf::logp_outputs<T, typename B::space> to;
              to.logp = work.out(rows);
              to.entropy = work.out(rows);
              to.lse = work.out(rows);
              to.square_sum = work.out(rows);
              to.argmax = work.out_integers(rows);
              to.stats = &found;
              require(rlhf::token_logp(work.backend(), in, to));

              const auto gradient = work.out(rows, columns);
              rlhf::logp_gradients<T, typename B::space> from;
              from.lse = to.lse;
              from.entropy = to.entropy;
              from.grad_logp = work.in(dlogp);
              from.grad_entropy = work.in(dentropy);
              require(rlhf::token_logp_backward(work.backend(), in, from, gradient));

              const std::vector<double> logp = work.read(to.logp), entropy = work.read(to.entropy);
              double loss = 0;
              for (std::size_t i = 0; i < logp.size(); ++i) loss += dlogp[i] * logp[i] + dentropy[i] * entropy[i];
              out.put("logp", {rows}, logp);
              out.put("entropy", {rows}, entropy);
              out.put("lse", {rows}, work.read(to.lse));
              out.put("sum_p2", {rows}, work.read(to.square_sum));
              out.put("argmax", {rows}, work.read(to.argmax));
              out.put("loss", loss);
              out.gradient("logits", {rows, columns}, work.read(gradient));
              put(out, found);
            });
}

}  // namespace eval
