#pragma once
// unpaired_loss: objectives of single labelled responses, and of demonstrations.

#include <string>

#include "registry.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/reference_point.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/objective/token.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "rlhf/objective/weighted.hpp"
#include "workspace.hpp"

namespace eval {

/// Any of the unpaired objectives, chosen at run time.
struct any_unpaired {
  enum class kind { kto, apo_zero, bco, rating, binary, reward };
  kind which = kind::kto;
  double beta = 0.1;
  double desirable_weight = 1;
  double undesirable_weight = 1;

  static constexpr unsigned reads = rlhf::field::label | rlhf::field::ref_logp;
  [[nodiscard]] constexpr rlhf::status check() const {
    switch (which) {
      case kind::kto:
        return rlhf::kto{beta, desirable_weight, undesirable_weight}.check();
      case kind::apo_zero:
        return rlhf::apo_zero_unpaired{beta, desirable_weight, undesirable_weight}.check();
      default:
        return rlhf::bco{beta}.check();
    }
  }
  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::labelled_response<V>& r) const {
    switch (which) {
      case kind::kto:
        return rlhf::kto{beta, desirable_weight, undesirable_weight}(r);
      case kind::apo_zero:
        return rlhf::apo_zero_unpaired{beta, desirable_weight, undesirable_weight}(r);
      case kind::bco:
        return rlhf::bco{beta}(r);
      case kind::rating:
        return rlhf::una_rating{beta}(r);
      case kind::binary:
        return rlhf::una_binary{beta}(r);
      default:
        return rlhf::una_reward{beta}(r);
    }
  }
};

/// Either of the losses of demonstrations.
struct any_demonstration {
  bool dynamic = false;
  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::token<V>& t) const {
    return dynamic ? rlhf::dynamic_fine_tuning{}(t) : rlhf::negative_log_likelihood{}(t);
  }
};

/// The arrays of responses [N], and the driver called on them. `label` names the input that is the label.
template <class B, class T>
class unpaired_case {
 public:
  unpaired_case(const problem& p, const std::string& label) : p_(p) {
    in.logp = work_.in(p, "logp");
    in.ref_logp = work_.in(p, "ref_logp");
    in.label = work_.in(p, label);
  }
  workspace<B, T>& work() { return work_; }

  void run(const any_unpaired& objective, results& out) {
    const std::int64_t n = p_.extent("N");
    rlhf::statistics found;
    rlhf::unpaired_outputs<T, typename B::space> to;
    to.loss = work_.out(1);
    to.grad_logp = work_.out(n);
    to.per_response = work_.out(n);
    to.stats = &found;
    require(rlhf::unpaired_loss{objective}(work_.backend(), in, to));
    out.put("per_item", {n}, work_.read(to.per_response));
    out.put("loss", work_.read_one(to.loss));
    out.gradient("logp", {n}, work_.read(to.grad_logp));
    put(out, found);
  }

  rlhf::unpaired_inputs<T, typename B::space> in;

 private:
  const problem& p_;
  workspace<B, T> work_;
};

template <class B>
void add_unpaired_loss(registry& table) {
  using kind = any_unpaired::kind;
  const inputs responses{required("logp", "N"), required("ref_logp", "N"), required("label", "N")};
  const auto with = [&](inputs more) {
    more.insert(more.begin(), responses.begin(), responses.end());
    return more;
  };
  const auto beta = [](double value) { return parameters{number("beta", value, "scale of the log-ratios")}; };
  const parameters weights{
      number("desirable_weight", rlhf::kto{}.desirable_weight, "weight of the responses with label 1"),
      number("undesirable_weight", rlhf::kto{}.undesirable_weight, "weight of the others")};
  const auto weighted = [](kind which, const arguments& a) {
    return any_unpaired{which, a.number("beta"), a.number("desirable_weight"), a.number("undesirable_weight")};
  };

  table.add("unpaired_loss", "kto",
            beta(rlhf::kto{}.beta) + weights +
                parameters{word("kl_mean", "all", {"all", "nonzero"},
                                "the KL's divisor: all mismatched responses, or those whose log-ratio is not 0")},
            with({required("kl_logp", "M"), required("kl_ref_logp", "M")}),
            [weighted]<class T>(const problem& p, results& out) {
              unpaired_case<B, T> run(p, "label");
              auto& work = run.work();
              const auto kl = work.out(1);
              rlhf::log_ratio_inputs<T, typename B::space> mismatched;
              mismatched.logp = work.in(p, "kl_logp");
              mismatched.ref_logp = work.in(p, "kl_ref_logp");
              const rlhf::kto_reference_point estimate{p.settings.word("kl_mean") == "nonzero"};
              require(estimate(work.backend(), mismatched, kl));
              run.in.reference_point = kl;
              out.put("kl", work.read_one(kl));
              run.run(weighted(kind::kto, p.settings), out);
            });
  table.add("unpaired_loss", "apo_zero_unpaired", beta(rlhf::apo_zero_unpaired{}.beta) + weights, responses,
            [weighted]<class T>(const problem& p, results& out) {
              unpaired_case<B, T>(p, "label").run(weighted(kind::apo_zero, p.settings), out);
            });
  table.add("unpaired_loss", "bco",
            beta(rlhf::bco{}.beta) +
                parameters{flag("update", true, "the batch's rewards are taken into the running moments first"),
                           number("mean", 0, "of the rewards before the call"),
                           number("var", 1, "of the rewards before the call"),
                           number("count", rlhf::running_reference{}.rewards.count, "how many they were")},
            with({optional("udm_weight", "N")}), []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              unpaired_case<B, T> run(p, "label");
              auto& work = run.work();
              const double count = a.number("count");
              rlhf::running_reference running{a.number("beta"), {count, a.number("mean"), a.number("var") * count}};
              if (a.flag("update")) {
                rlhf::log_ratio_inputs<T, typename B::space> all;
                all.logp = run.in.logp;
                all.ref_logp = run.in.ref_logp;
                require(running.update(work.backend(), all));
              }
              run.in.reference_point = work.in(std::vector<double>{running.mean()});
              if (p.has("udm_weight")) {  // of the undesirable ones
                std::vector<double> weight = p.data("udm_weight");
                for (std::size_t i = 0; i < weight.size(); ++i)
                  if (p.data("label")[i] > 0.5) weight[i] = 1;
                run.in.weight = work.in(weight);
              }
              out.put("delta", running.mean());
              out.put("var", running.variance());
              out.put("count", running.rewards.count);
              run.run({kind::bco, a.number("beta")}, out);
            });
  table.add("unpaired_loss", "una",
            parameters{word("kind", "mse", {"mse", "bce", "reward"},
                            "(sigma(z) - y)^2, the cross-entropy of sigma(z) and y, or (z - y)^2")} +
                beta(rlhf::una_rating{}.beta),
            {required("logp", "N"), required("ref_logp", "N"), required("target", "N"), optional("weight", "N")},
            []<class T>(const problem& p, results& out) {
              const std::string name = p.settings.word("kind");
              unpaired_case<B, T> run(p, "target");
              run.in.weight = run.work().in(p, "weight");
              run.run({name == "mse"   ? kind::rating
                       : name == "bce" ? kind::binary
                                       : kind::reward,
                       p.settings.number("beta")},
                      out);
            });

  for (const bool dynamic : {false, true})
    table.add("unpaired_loss", dynamic ? "dft" : "sft",
              {optional_number("num_items", "tokens of the whole batch; null: of this call")},
              {required("logp", "B,T"), optional("mask", "B,T")}, [dynamic]<class T>(const problem& p, results& out) {
                const std::int64_t rows = p.extent("B"), columns = p.extent("T"), n = rows * columns;
                workspace<B, T> work;
                rlhf::token_inputs<T, typename B::space> in;
                in.logp = work.in(p, "logp");
                in.mask = work.mask(mask_or_ones(p, "mask", n));
                rlhf::statistics found;
                rlhf::token_outputs<T, typename B::space> to;
                to.loss = work.out(1);
                to.grad_logp = work.out(n);
                to.per_token = work.out(n);
                to.stats = &found;
                const rlhf::token_mean mean{.tokens = p.settings.number_or("num_items", 0)};
                const rlhf::policy_loss loss{any_demonstration{dynamic}, rlhf::none{}, mean};
                require(loss(work.backend(), work.rows(rows, columns), in, to));
                out.put("per_token", {rows, columns}, work.read(to.per_token));
                out.put("loss", work.read_one(to.loss));
                out.gradient("logp", {rows, columns}, work.read(to.grad_logp));
                put(out, found);
              });
}

}  // namespace eval
