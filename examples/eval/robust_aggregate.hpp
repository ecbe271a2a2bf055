#pragma once
// robust_aggregate: the worst case of a weighted mean. The gradient is the weights.

#include "registry.hpp"
#include "rlhf/driver/robust_aggregate.hpp"
#include "workspace.hpp"

namespace eval {

/// A set made from the arguments.
template <class B, class Make>
[[nodiscard]] auto robust_set(const Make& make) {
  return [make]<class T>(const problem& p, results& out) {
    workspace<B, T> work;
    const std::int64_t n = p.extent("N");
    rlhf::robust_inputs<T, typename B::space> in;
    in.loss = work.in(p, "loss");
    in.weight = work.in(p, "weight");
    rlhf::statistics found;
    rlhf::robust_outputs<T, typename B::space> to;
    to.loss = work.out(1);
    to.weight = work.out(n);
    to.dual = work.out(1);
    to.stats = &found;
    const rlhf::robust_aggregate worst{make(p.settings), p.settings.number("lambda")};
    require(worst(work.backend(), in, to));
    out.put("loss", work.read_one(to.loss));
    out.put("dual", work.read_one(to.dual));
    out.gradient("loss", {n}, work.read(to.weight));
    put(out, found);
  };
}

template <class B>
void add_robust_aggregate(registry& table) {
  const parameters common{optional_word("kind", {}, "the objective's name again; not read"),
                          number("lambda", 1, "share of the worst case; the rest is the mean")};
  const inputs arrays{required("loss", "N"), optional("weight", "N")};
  table.add("robust_aggregate", "kl_penalty",
            common + parameters{number("tau", rlhf::tilted_mean{}.temperature, "temperature of the penalty")}, arrays,
            robust_set<B>([](const arguments& a) { return rlhf::tilted_mean{a.number("tau")}; }));
  table.add("robust_aggregate", "kl_ball",
            common + parameters{number("rho", rlhf::kl_ball{}.radius, "largest KL(w || q)")}, arrays,
            robust_set<B>([](const arguments& a) { return rlhf::kl_ball{a.number("rho")}; }));
  table.add("robust_aggregate", "chi2_ball",
            common + parameters{number("rho", rlhf::chi_square_ball{}.radius, "largest sum q (w / q - 1)^2 / 2")},
            arrays, robust_set<B>([](const arguments& a) { return rlhf::chi_square_ball{a.number("rho")}; }));
  table.add("robust_aggregate", "cvar",
            common + parameters{number("alpha", rlhf::conditional_value_at_risk{}.alpha, "share of the worst losses")},
            arrays,
            robust_set<B>([](const arguments& a) { return rlhf::conditional_value_at_risk{a.number("alpha")}; }));
}

}  // namespace eval
