#pragma once
// advantage and whiten: from rewards to advantages.

#include <algorithm>
#include <cmath>
#include <string>

#include "choices.hpp"
#include "registry.hpp"
#include "rlhf/driver/advantage.hpp"
#include "workspace.hpp"

namespace eval {

/// The arrays of a [B][T] case, and the drivers called on them.
template <class B, class T>
class advantage_case {
 public:
  explicit advantage_case(const problem& p) : p_(p), rows_(p.extent("B")), columns_(p.extent("T")) {
    mask_ = work_.mask(mask_or_ones(p, "mask", rows_ * columns_));
    advantage = work_.out(rows_ * columns_);
    returns = work_.out(rows_ * columns_);
  }

  workspace<B, T>& work() { return work_; }
  [[nodiscard]] results::shape shape() const { return {rows_, columns_}; }

  /// Scans all rows.
  template <class Estimator>
  void scan(const Estimator& estimator) {
    scan_rows(estimator, 0, rows_);
  }
  /// Scans some rows: an estimator has one set of numbers, and some peers have a number per row.
  template <class Estimator>
  void scan_rows(const Estimator& estimator, std::int64_t first, std::int64_t rows) {
    using space = typename B::space;
    if (!reward_) {
      reward_ = work_.in(p_, "reward");
      if (p_.declares("value")) value_ = work_.in(p_, "value");
      if (p_.declares("bootstrap_value")) bootstrap_ = work_.in(p_, "bootstrap_value");
    }
    const auto part = [&](const auto& v, std::int64_t width) {
      auto cut = v;
      if (cut) {
        cut.data += first * width;
        cut.extent = rows * width;
      }
      return cut;
    };
    rlhf::advantage_inputs<T, space> in;
    in.reward = part(reward_, columns_);
    in.value = part(value_, columns_);
    in.mask = part(mask_, columns_);
    in.bootstrap = part(bootstrap_, 1);
    const rlhf::advantage_estimate<Estimator> driver{estimator};
    require(driver(work_.backend(), work_.rows(rows, columns_), in,
                   rlhf::advantage_outputs<T, space>{part(advantage, columns_), part(returns, columns_)}));
  }
  /// Whitens an array of the case.
  [[nodiscard]] std::vector<double> whitened(const rlhf::whiten& how,
                                             const rlhf::view<const T, 1, typename B::space>& x) {
    rlhf::whiten_inputs<T, typename B::space> in;
    in.x = x;
    in.mask = mask_;
    const auto out = work_.out(x.extent);
    require(rlhf::whitening{how}(work_.backend(), in, out));
    return work_.read(out);
  }

  typename workspace<B, T>::variable advantage, returns;

 private:
  const problem& p_;
  workspace<B, T> work_;
  std::int64_t rows_, columns_;
  rlhf::mask_view<typename B::space> mask_;
  typename workspace<B, T>::constant reward_, value_, bootstrap_;
};

/// Group advantages of the rewards of a case.
template <class B, class T>
[[nodiscard]] std::vector<double> grouped(workspace<B, T>& work, const problem& p,
                                          const rlhf::group_advantage& estimator) {
  rlhf::group_inputs<T, typename B::space> in;
  in.groups = work.groups(p.data("group"));
  in.reward = work.in(p, "reward");
  const auto out = work.out(p.extent("N"));
  require(rlhf::grouped<rlhf::group_advantage>{estimator}(work.backend(), in, out));
  return work.read(out);
}

[[nodiscard]] inline rlhf::gap make_gap(const std::string& mode) {
  return mode == "zero"       ? rlhf::gap::zero
         : mode == "plain"    ? rlhf::gap::plain
         : mode == "raw_next" ? rlhf::gap::raw_next
         : mode == "reset"    ? rlhf::gap::reset
                              : rlhf::gap::carry;
}

template <class B>
void add_advantage(registry& table) {
  const rlhf::gae gae;
  const parameter guard = number("count_guard", 0, "a published guard of a count; accepted, not copied");
  const parameter gaps =
      word("mask_mode", "carry", {"carry", "zero", "plain", "raw_next"}, "what the recursion does outside the mask");
  const parameter gamma = number("gamma", gae.gamma, "discount");
  const parameter whiten = optional_word("whiten", whitening_names, "how the advantages are whitened; null: not");
  const inputs steps{required("reward", "B,T"), required("value", "B,T"), optional("mask", "B,T"),
                     optional("bootstrap_value", "B")};

  table.add("advantage", "gae", {gamma, number("lam", gae.lambda, "lambda"), gaps, whiten, guard}, steps,
            []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              advantage_case<B, T> run(p);
              run.scan(rlhf::gae{a.number("gamma"), a.number("lam"), make_gap(a.word("mask_mode"))});
              out.put("advantage", run.shape(), run.work().read(run.advantage));
              out.put("returns", run.shape(), run.work().read(run.returns));
              if (a.given("whiten"))
                out.put("whitened", run.shape(), run.whitened(make_whiten(a.word("whiten"), true), run.advantage));
            });

  // Advantages with one lambda, returns with another; the advantages' may depend on the length of the row.
  table.add("advantage", "gae_decoupled",
            {gamma,
             optional_number("lam_policy",
                             "lambda of the advantages; null: 1 - 1 / max(alpha n, 1), n the tokens of the row"),
             optional_number("alpha", "of that rule"), number("lam_value", 1, "lambda of the returns"), gaps},
            steps, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              if (!a.given("lam_policy") && !a.given("alpha"))
                throw failure{"argument", "params.lam_policy or params.alpha is missing"};
              const rlhf::gap mode = make_gap(a.word("mask_mode"));
              advantage_case<B, T> run(p);
              run.scan(rlhf::gae{a.number("gamma"), a.number("lam_value"), mode});
              const std::vector<double> returns = run.work().read(run.returns);
              const std::int64_t rows = p.extent("B"), columns = p.extent("T");
              const std::vector<double> mask = mask_or_ones(p, "mask", rows * columns);
              for (std::int64_t i = 0; i < rows; ++i) {
                const auto begin = mask.begin() + i * columns;
                const auto tokens = static_cast<double>(columns - std::count(begin, begin + columns, 0.0));
                const double adaptive = 1 - 1 / std::max(a.number_or("alpha", 0) * tokens, 1.0);
                run.scan_rows(rlhf::gae{a.number("gamma"), a.number_or("lam_policy", adaptive), mode}, i, 1);
              }
              out.put("advantage", run.shape(), run.work().read(run.advantage));
              out.put("returns", run.shape(), returns);
            });

  table.add("advantage", "reinforce_plus_plus",
            {number("gamma", rlhf::discounted_return{}.gamma, "discount"),
             word("gap", "carry", {"carry", "zero", "reset"}, "what the recursion does outside the mask"),
             optional_word("whiten", whitening_names, "how the returns are whitened; null: not"), guard},
            {required("reward", "B,T"), optional("mask", "B,T")}, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              advantage_case<B, T> run(p);
              run.scan(rlhf::discounted_return{a.number("gamma"), make_gap(a.word("gap"))});
              out.put("returns", run.shape(), run.work().read(run.returns));
              out.put("advantage", run.shape(),
                      a.given("whiten") ? run.whitened(make_whiten(a.word("whiten"), true), run.returns)
                                        : run.work().read(run.advantage));
            });

  const rlhf::group_advantage group;
  const parameter single = word("single", "zero", {"zero", "raw"}, "what a group of one gives");
  table.add("advantage", "grpo",
            {word("scale", "group", {"group", "batch", "none"}, "whose standard deviation divides"),
             number("eps", group.epsilon, "added to the standard deviation"), single,
             number("ddof", 1, "1: n - 1 in the variance; 0: n")},
            {required("reward", "N"), required("group", "N")}, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              const std::string scale = a.word("scale");
              workspace<B, T> work;
              out.put("advantage", {p.extent("N")},
                      grouped<B, T>(work, p,
                                    {scale == "group"   ? rlhf::group_scale::group
                                     : scale == "batch" ? rlhf::group_scale::batch
                                                        : rlhf::group_scale::none,
                                     a.number("eps"),
                                     a.word("single") == "raw" ? rlhf::lone_response::raw : rlhf::lone_response::zero,
                                     a.number("ddof") == 0}));
            });

  // Rewards minus their group's mean at every token, whitened over the batch.
  table.add("advantage", "reinforce_plus_plus_baseline",
            {word("whiten", "unbiased_rsqrt", whitening_names, "how the advantages are whitened"), single, guard},
            {required("reward", "N"), required("group", "N"), required("mask", "N,T")},
            []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              workspace<B, T> work;
              rlhf::group_advantage centred;
              centred.scale = rlhf::group_scale::none;
              centred.lone = a.word("single") == "raw" ? rlhf::lone_response::raw : rlhf::lone_response::zero;
              const std::int64_t columns = p.extent("T");
              rlhf::whiten_inputs<T, typename B::space> in;
              in.x = work.in(spread(grouped<B, T>(work, p, centred), columns));
              in.mask = work.mask(p.data("mask"));
              const auto whitened = work.out(in.x.extent);
              require(rlhf::whitening{make_whiten(a.word("whiten"), true)}(work.backend(), in, whitened));
              out.put("advantage", {p.extent("N"), columns}, work.read(whitened));
            });

  for (const std::string& kind : whitening_names)
    table.add("whiten", kind,
              {optional_word("kind", {}, "the objective's name again; not read"),
               flag("shift_mean", rlhf::whiten{}.shift_mean, "false adds the mean back"), guard},
              {required("x", "B,T"), optional("mask", "B,T")}, [kind]<class T>(const problem& p, results& out) {
                advantage_case<B, T> run(p);
                out.put("value", run.shape(),
                        run.whitened(make_whiten(kind, p.settings.flag("shift_mean")), run.work().in(p, "x")));
              });
}

}  // namespace eval
