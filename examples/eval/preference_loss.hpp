#pragma once
// preference_loss: objectives of a pair of responses, from sums [P] or from tokens [P][T].
//
// The driver is compiled for one objective, the run-time choice among all of them.

#include <algorithm>
#include <string>

#include "registry.hpp"
#include "rlhf/advantage/optimal_value.hpp"
#include "rlhf/algorithm/aot.hpp"
#include "rlhf/algorithm/kto_pair.hpp"
#include "rlhf/algorithm/tdpo.hpp"
#include "rlhf/algorithm/wpo.hpp"
#include "rlhf/driver/grouped.hpp"
#include "rlhf/driver/policy_loss.hpp"
#include "rlhf/driver/preference_loss.hpp"
#include "rlhf/driver/unpaired_loss.hpp"
#include "rlhf/objective/anchored.hpp"
#include "rlhf/objective/divergence.hpp"
#include "rlhf/objective/exploration.hpp"
#include "rlhf/objective/margin.hpp"
#include "rlhf/objective/negative_feedback.hpp"
#include "rlhf/objective/one_of.hpp"
#include "rlhf/objective/preference.hpp"
#include "rlhf/objective/reference_free.hpp"
#include "rlhf/objective/self_play.hpp"
#include "rlhf/objective/token.hpp"
#include "rlhf/objective/unpaired.hpp"
#include "workspace.hpp"

namespace eval {

/// Any pair objective.
using any_pair = rlhf::one_of<rlhf::dpo_sigmoid, rlhf::dpo_sigmoid_norm, rlhf::dpo_hinge, rlhf::ipo, rlhf::ipo_sum,
                              rlhf::dpo_robust, rlhf::rebel, rlhf::exo_pair, rlhf::nca_pair, rlhf::bco_pair,
                              rlhf::sppo_hard, rlhf::sppo, rlhf::apo_zero, rlhf::apo_down, rlhf::discopop,
                              rlhf::dpo_positive, rlhf::length_regularised_dpo, rlhf::reward_aware_dpo, rlhf::pcrm_dpo,
                              rlhf::dpo_offset, rlhf::inpo, rlhf::cpo, rlhf::cpo_hinge, rlhf::cpo_ipo, rlhf::simpo,
                              rlhf::simpo_hinge, rlhf::alphapo, rlhf::simper, rlhf::orpo, rlhf::slic_reference_free>;

/// Any of the divergences other than the reverse KL.
struct any_divergence {
  enum class kind { forward_kl, jensen_shannon, alpha };
  kind which = kind::forward_kl;
  rlhf::alpha_divergence alpha{};
  [[nodiscard]] constexpr rlhf::status check() const { return alpha.check(); }
  template <rlhf::number V>
  RLHF_HD V operator()(const V& a) const {
    switch (which) {
      case kind::forward_kl:
        return rlhf::forward_kl{}(a);
      case kind::jensen_shannon:
        return rlhf::jensen_shannon{}(a);
      default:
        return alpha(a);
    }
  }
};

/// A weighted sum of pair objectives on one view of the pair: as it stands, without a reference, under another divergence,
/// ranked by rewards. The library's wrappers, chosen at run time.
struct any_pair_loss {
  enum class kind { plain, free, divergence, ranked };
  static constexpr int most = 8;
  any_pair objective[most];
  double weight[most] = {};
  int count = 0;
  kind which = kind::plain;
  any_divergence divergence{};
  double optimism = 0;  ///< of the second sample's log-probability (XPO)
  double scale = 1;     ///< of implicit rewards
  bool without_reference = false;

  any_pair_loss() = default;
  any_pair_loss(const any_pair& o, double reward_scale) : count(1), scale(reward_scale) { add(0, o, 1); }
  void add(int k, const any_pair& o, double w) {
    objective[k] = o;
    weight[k] = w;
  }

  static constexpr unsigned reads = any_pair::reads | rlhf::field::rewards;
  [[nodiscard]] constexpr unsigned needs() const {
    unsigned bits = which == kind::ranked ? rlhf::field::rewards : 0;
    for (int k = 0; k < count; ++k) bits |= objective[k].needs();
    return which == kind::free ? bits & ~rlhf::field::references : bits;
  }
  [[nodiscard]] constexpr rlhf::status check() const {
    for (int k = 0; k < count; ++k)
      if (auto s = objective[k].check(); !s) return s;
    return divergence.check();
  }
  template <rlhf::number V>
  RLHF_HD V operator()(const rlhf::pair<V>& p) const {
    V loss = V(rlhf::constant<V>(0));
    for (int k = 0; k < count; ++k) loss = loss + viewed(objective[k], p) * rlhf::constant<V>(weight[k]);
    return optimism != 0 ? loss + p.rejected.logp * rlhf::constant<V>(optimism) : loss;
  }
  [[nodiscard]] RLHF_HD double reward_scale() const { return scale; }

 private:
  template <rlhf::number V>
  [[nodiscard]] RLHF_HD V viewed(const any_pair& o, const rlhf::pair<V>& p) const {
    switch (which) {
      case kind::free:
        return rlhf::reference_free<call>{{&o}}(p);
      case kind::divergence:
        return rlhf::with_divergence<call, any_divergence>{{&o}, divergence}(p);
      case kind::ranked:
        return rlhf::ranked<call>{{&o}}(p);
      default:
        return call{&o}(p);
    }
  }
  /// One objective, compiled once however it is wrapped.
  struct call {
    const any_pair* objective;
    template <rlhf::number V>
    RLHF_HD V operator()(const rlhf::pair<V>& p) const {
      return run(*objective, p);
    }
    template <rlhf::number V>
    __attribute__((noinline)) RLHF_HD static V run(const any_pair& o, const rlhf::pair<V>& p) {
      return o(p);
    }
  };
};

/// Any of the ways in which a token counts.
struct any_reduction {
  enum class kind { plain, desensitised, clamped };
  kind which = kind::plain;
  rlhf::length_desensitised desensitised{};
  rlhf::clamped_log_ratio bounds{};
  static constexpr bool needs_position = true;
  [[nodiscard]] constexpr rlhf::status check() const {
    return which == kind::desensitised ? desensitised.check()
           : which == kind::clamped    ? bounds.check()
                                       : rlhf::status{};
  }
  template <rlhf::number V>
  RLHF_HD rlhf::contribution<V> operator()(const rlhf::response_token<V>& t) const {
    switch (which) {
      case kind::desensitised:
        return desensitised(t);
      case kind::clamped:
        return bounds(t);
      default:
        return rlhf::sum_of_tokens{}(t);
    }
  }
};

/// The names under which a case gives the two responses, and what else there is to read.
struct pair_names {
  std::string chosen = "chosen_logp", rejected = "rejected_logp", ref_chosen = "ref_chosen_logp",
              ref_rejected = "ref_rejected_logp", chosen_reward = "reward_chosen", rejected_reward = "reward_rejected";
  bool with_stats = true;
};

/// The token losses that belong to methods of pairs.
using any_pair_token =
    rlhf::one_of<rlhf::negative_log_likelihood, rlhf::bidirectional_negative_feedback, rlhf::nash_md_token>;

/// A sum of token losses of one side: its terms per row and what flows back.
struct token_terms {
  double loss = 0;
  std::vector<double> per_row, grad_logp, grad_entropy;
};
template <class B, class T>
[[nodiscard]] token_terms sum_of_tokens(workspace<B, T>& work, const problem& p, const any_pair_token& objective,
                                        const std::string& logp, const std::string& ref, const std::string& entropy,
                                        const std::string& mask, const std::vector<double>& advantage, double scale) {
  using space = typename B::space;
  const std::int64_t rows = p[logp].shape[0], columns = p[logp].shape[1], n = rows * columns;
  rlhf::token_inputs<T, space> in;
  in.logp = work.in(p, logp);
  if (!ref.empty()) in.ref_logp = work.in(p, ref);
  if (!entropy.empty()) in.entropy = work.in(p, entropy);
  if (!advantage.empty()) in.advantage = work.in(spread(advantage, columns));
  const std::vector<double> valid = mask_or_ones(p, mask, n);
  in.mask = work.mask(valid);
  rlhf::token_outputs<T, space> to;
  to.grad_logp = work.out(n);
  to.grad_entropy = work.out(n);
  to.per_token = work.out(n);
  // A sum over all tokens; `scale` is what the mean over rows makes of it.
  const rlhf::policy_loss<any_pair_token, rlhf::none, rlhf::token_sum> driver{objective, {}, {}};
  require(driver(work.backend(), work.rows(rows, columns), in, to));
  token_terms out;
  out.grad_logp = work.read(to.grad_logp);
  out.grad_entropy = work.read(to.grad_entropy);
  out.per_row.resize(static_cast<std::size_t>(rows));
  const std::vector<double> items = work.read(to.per_token);
  for (std::size_t i = 0; i < items.size(); ++i)
    if (valid[i] != 0) out.per_row[i / static_cast<std::size_t>(columns)] += items[i];
  for (const double x : out.per_row) out.loss += x * scale;
  for (auto* g : {&out.grad_logp, &out.grad_entropy})
    for (double& x : *g) x *= scale;
  return out;
}

/// The losses of single responses that belong to methods of pairs.
using any_response_term = rlhf::one_of<rlhf::optimism, rlhf::nash_md, rlhf::optimal_advantage_regression>;

/// A mean over responses given as sums, and what flows back.
struct response_terms {
  double loss = 0;
  std::vector<double> per_item, gradient;
};
template <class B, class T>
[[nodiscard]] response_terms mean_over_responses(workspace<B, T>& work, const any_response_term& objective,
                                                 const std::vector<double>& logp, const std::vector<double>& ref,
                                                 const std::vector<double>& label = {},
                                                 const std::vector<double>& reference_point = {}) {
  using space = typename B::space;
  const auto n = static_cast<std::int64_t>(logp.size());
  rlhf::unpaired_inputs<T, space> in;
  in.logp = work.in(logp);
  in.ref_logp = work.in(ref);
  if (!label.empty()) in.label = work.in(label);
  if (!reference_point.empty()) in.reference_point = work.in(reference_point);
  rlhf::unpaired_outputs<T, space> to;
  to.loss = work.out(1);
  to.grad_logp = work.out(n);
  to.per_response = work.out(n);
  require(rlhf::unpaired_loss<any_response_term>{objective, {}}(work.backend(), in, to));
  return {work.read_one(to.loss), work.read(to.per_response), work.read(to.grad_logp)};
}

/// Nash-MD: token by token, or of the whole response.
template <class B, class T>
void run_nash_md(const problem& p, results& out) {
  const double beta = p.settings.number("beta");
  const std::int64_t rows = p.extent("B"), columns = p.extent("T");
  const auto width = static_cast<std::size_t>(columns);
  workspace<B, T> work;
  response_terms whole;
  std::vector<double> gradient;
  if (p.settings.word("mode") == "token") {
    std::vector<double> advantage = p.data("prob");
    for (double& x : advantage) x -= 0.5;
    const token_terms found = sum_of_tokens<B, T>(work, p, rlhf::nash_md_token{beta}, "logp", "ref_logp", "", "mask",
                                                  advantage, 1 / static_cast<double>(rows));
    whole.loss = found.loss;
    whole.per_item = found.per_row;
    gradient = found.grad_logp;
  } else {
    const std::vector<double> mask = mask_or_ones(p, "mask", rows * columns);
    const auto sums = [&](const std::string& name) {
      std::vector<double> total(static_cast<std::size_t>(rows));
      for (std::size_t i = 0; i < mask.size(); ++i)
        if (mask[i] != 0) total[i / width] += p.data(name)[i];
      return total;
    };
    whole = mean_over_responses<B, T>(work, rlhf::nash_md{beta}, sums("logp"), sums("ref_logp"), p.data("prob"));
    for (std::size_t i = 0; i < mask.size(); ++i) gradient.push_back(mask[i] != 0 ? whole.gradient[i / width] : 0.0);
  }
  out.put("per_item", {rows}, whole.per_item);
  out.put("loss", whole.loss);
  out.gradient("logp", {rows, columns}, gradient);
}

/// One case of preference_loss: reads its arrays once, then calls the driver in the form that they have.
template <class B, class T>
class preference_case {
 public:
  preference_case(const problem& p, results& out, pair_names names = {})
      : p_(p),
        out_(out),
        names_(std::move(names)),
        pairs_(p.extent("P")),
        by_token_(p[names_.chosen].shape.size() == 2) {
    for (const std::string& name : {names_.chosen, names_.rejected, names_.ref_chosen, names_.ref_rejected})
      if (p_.declares(name)) same_rank(name);
    for (const char* name : {"chosen_mask", "rejected_mask"})
      if (!by_token_ && p.declares(name) && p.has(name))
        throw failure{"shape", text("inputs.", name, " goes with log-probabilities [P][T]; these are sums [P]")};
  }

  any_reduction reduction{};
  rlhf::chosen_nll nll{};
  bool weighted_by_wpo = false;
  double kl_weight = 0;  ///< TDPO: of the KL given per token
  /// Rewards that are not inputs as they are (win probabilities, scores less a penalty).
  std::vector<double> chosen_reward, rejected_reward;

  /// What the parameters that all objectives share ask for.
  void read_common() {
    const arguments& a = p_.settings;
    nll = {a.number("nll_weight"),
           a.word("nll_reduction") == "sequence_mean" ? rlhf::nll_reduction::sequence_mean
                                                      : rlhf::nll_reduction::token_mean,
           0};
    if (a.given("ld_alpha") && a.given("humanline"))
      throw failure{"argument", "params.ld_alpha and params.humanline exclude each other"};
    if (!by_token_ && (a.given("ld_alpha") || a.given("humanline")))
      throw failure{"shape", "params.ld_alpha and params.humanline want log-probabilities [P][T], not sums [P]"};
    if (a.given("ld_alpha")) {
      reduction.which = any_reduction::kind::desensitised;
      reduction.desensitised = {a.number("ld_alpha")};
    }
    if (a.given("humanline")) {
      reduction.which = any_reduction::kind::clamped;
      reduction.bounds = {a.low("humanline"), a.high("humanline")};
    }
  }

  void run(const any_pair_loss& objective) {
    for (const std::string& name : {names_.ref_chosen, names_.ref_rejected})
      if ((rlhf::needs_of(objective) & rlhf::field::references) != 0) p_.demand(name);
    evaluate(objective);
    if (nll.weight != 0) out_.put("nll", nll_);
    finish();
  }
  /// The NLL term stands in every item, with its weight.
  void run_with_nll_in_items(const any_pair_loss& objective) {
    if (!by_token_ && nll.weight != 0)
      throw failure{"shape", text("inputs.", names_.chosen, " is [P], wants [P][T] (sft)")};
    evaluate(objective);
    for (double& item : per_item_) item += nll.weight * nll_;
    finish();
  }
  /// Ranks in place of pairs.
  void run_aot(const any_pair_loss& objective, bool paired) {
    if (by_token_) throw failure{"shape", "aot wants sums [P]"};
    const auto to = outputs(pairs_, pairs_);
    require(rlhf::aot<any_pair_loss>{objective, paired}(work_.backend(), sums(), to));
    read(to);
    finish();
  }

  void evaluate(const any_pair_loss& objective) {
    const std::int64_t chosen = by_token_ ? pairs_ * p_.extent("C") : pairs_;
    const std::int64_t rejected = by_token_ ? pairs_ * p_.extent("R") : pairs_;
    const auto to = outputs(chosen, rejected);
    if (by_token_) {
      rlhf::token_pair_inputs<T, space> in;
      in.chosen = side("chosen", "C", names_.chosen, names_.ref_chosen);
      in.rejected = side("rejected", "R", names_.rejected, names_.ref_rejected);
      in.chosen_reward = reward(names_.chosen_reward, chosen_reward);
      in.rejected_reward = reward(names_.rejected_reward, rejected_reward);
      if (kl_weight > 0) in.margin = kl_offset(objective.scale, in);
      if (weighted_by_wpo) {
        const auto weight = work_.out(pairs_);
        require(rlhf::wpo_weights(work_.backend(), in.chosen, work_.in(p_, "chosen_log_sum_p2"), in.rejected,
                                  work_.in(p_, "rejected_log_sum_p2"), weight));
        in.weight = weight;
      }
      const rlhf::preference_loss<any_pair_loss, rlhf::batch_mean, any_reduction> loss{objective, {}, nll, reduction};
      require(loss(work_.backend(), in, to));
    } else {
      require(rlhf::preference_loss<any_pair_loss>{objective, {}, nll, {}}(work_.backend(), sums(), to));
    }
    read(to);
  }

  void finish() {
    out_.put("per_item", {static_cast<std::int64_t>(per_item_.size())}, per_item_);
    out_.put("loss", loss_);
    out_.gradient(names_.chosen, p_[names_.chosen].shape, grad_chosen_);
    out_.gradient(names_.rejected, p_[names_.rejected].shape, grad_rejected_);
    if (!names_.with_stats) return;
    out_.stat("reward_chosen", {pairs_}, reward_chosen_);
    out_.stat("reward_rejected", {pairs_}, reward_rejected_);
    out_.stat("accuracy", stats_["rewards/accuracies"]);
    out_.stat("margin_mean", stats_["rewards/margins"]);
    put(out_, stats_);
  }
  void add_to_loss(double term) { loss_ += term; }
  /// A mean over responses of their own beside the pairs.
  void add_optimism(double coefficient, const std::string& name, bool in_items) {
    optimism_ = mean_over_responses<B, T>(work_, rlhf::optimism{coefficient}, p_.data(name), p_.data("ref_" + name));
    loss_ += optimism_.loss;
    for (std::size_t i = 0; in_items && i < per_item_.size(); ++i) per_item_[i] += optimism_.per_item[i];
  }
  void put_optimism(const problem& p, results& out, const std::string& name) const {
    out.gradient(name, p[name].shape, optimism_.gradient);
  }
  /// Items of both sides, one after the other.
  void finish_as_kto(double beta) {
    if (by_token_) throw failure{"shape", "kto_pair wants sums [P]"};
    rlhf::pair_outputs<T, space> to;
    to.loss = work_.out(1);
    to.grad_chosen = work_.out(pairs_);
    to.grad_rejected = work_.out(pairs_);
    to.per_pair = work_.out(2 * pairs_);
    require(rlhf::kto_pair{beta}(work_.backend(), sums(), to));
    per_item_ = work_.read(to.per_pair);
    loss_ = work_.read_one(to.loss);
    grad_chosen_ = work_.read(to.grad_chosen);
    grad_rejected_ = work_.read(to.grad_rejected);
    finish();
  }
  /// What flows into the KL of each token is a multiple of what flows into its log-probability.
  void put_kl_gradients(double chosen, double rejected) {
    const auto times = [](std::vector<double> g, double by) {
      for (double& x : g) x *= by;
      return g;
    };
    out_.gradient("chosen_kl", p_["chosen_kl"].shape, times(grad_chosen_, chosen));
    out_.gradient("rejected_kl", p_["rejected_kl"].shape, times(grad_rejected_, rejected));
  }

 private:
  using space = typename B::space;

  [[nodiscard]] rlhf::pair_outputs<T, space> outputs(std::int64_t chosen, std::int64_t rejected) {
    rlhf::pair_outputs<T, space> to;
    to.loss = work_.out(1);
    to.grad_chosen = work_.out(chosen);
    to.grad_rejected = work_.out(rejected);
    to.per_pair = work_.out(pairs_);
    to.reward_chosen = work_.out(pairs_);
    to.reward_rejected = work_.out(pairs_);
    if (nll.weight != 0) to.nll = work_.out(1);
    to.stats = &stats_;
    return to;
  }
  void read(const rlhf::pair_outputs<T, space>& to) {
    per_item_ = work_.read(to.per_pair);
    loss_ = work_.read_one(to.loss);
    if (nll.weight != 0) nll_ = work_.read_one(to.nll);
    grad_chosen_ = work_.read(to.grad_chosen);
    grad_rejected_ = work_.read(to.grad_rejected);
    reward_chosen_ = work_.read(to.reward_chosen);
    reward_rejected_ = work_.read(to.reward_rejected);
  }
  [[nodiscard]] rlhf::pair_inputs<T, space> sums() {
    rlhf::pair_inputs<T, space> in;
    in.chosen = given(names_.chosen);
    in.rejected = given(names_.rejected);
    in.ref_chosen = given(names_.ref_chosen);
    in.ref_rejected = given(names_.ref_rejected);
    in.chosen_length = given("chosen_len");
    in.rejected_length = given("rejected_len");
    in.previous_chosen = given("prev_chosen_logp");
    in.previous_rejected = given("prev_rejected_logp");
    in.margin = given("delta_star");
    in.chosen_reward = reward(names_.chosen_reward, chosen_reward);
    in.rejected_reward = reward(names_.rejected_reward, rejected_reward);
    return in;
  }
  [[nodiscard]] rlhf::response_tokens<T, space> side(const std::string& name, const char* width,
                                                     const std::string& logp, const std::string& ref) {
    const std::int64_t columns = p_.extent(width);
    rlhf::response_tokens<T, space> out;
    out.sequences = work_.rows(pairs_, columns);
    out.logp = given(logp);
    out.ref_logp = given(ref);
    out.mask = work_.mask(mask_or_ones(p_, name + "_mask", pairs_ * columns));
    return out;
  }
  [[nodiscard]] typename workspace<B, T>::constant kl_offset(double beta, const rlhf::token_pair_inputs<T, space>& in) {
    const auto offset = work_.out(pairs_);
    require(rlhf::tdpo_offset<B, T, space>(work_.backend(), beta, kl_weight, in.chosen.sequences, given("chosen_kl"),
                                           in.chosen.mask, in.rejected.sequences, given("rejected_kl"),
                                           in.rejected.mask, offset));
    return offset;
  }
  [[nodiscard]] typename workspace<B, T>::constant given(const std::string& name) {
    return p_.declares(name) ? work_.in(p_, name) : typename workspace<B, T>::constant{};
  }
  [[nodiscard]] typename workspace<B, T>::constant reward(const std::string& name, const std::vector<double>& made) {
    return made.empty() ? given(name) : work_.in(made);
  }
  void same_rank(const std::string& name) const {
    if (p_.has(name) && (p_[name].shape.size() == 2) != by_token_)
      throw failure{"shape", text("inputs.", name, " is ", words(p_[name].shape), ", wants ",
                                  (by_token_ ? "[P][T]" : "[P]"), " as inputs.", names_.chosen)};
  }

  const problem& p_;
  results& out_;
  pair_names names_;
  workspace<B, T> work_;
  std::int64_t pairs_;
  bool by_token_;
  rlhf::statistics stats_;
  double loss_ = 0, nll_ = 0;
  response_terms optimism_;
  std::vector<double> per_item_, grad_chosen_, grad_rejected_, reward_chosen_, reward_rejected_;
};

/// A pair objective by its name in `loss_types` of a mixture.
[[nodiscard]] inline any_pair mixed_objective(const std::string& name, const arguments& a) {
  const double beta = a.number("beta");
  if (name == "sigmoid") return rlhf::dpo_sigmoid{beta, a.number("label_smoothing")};
  if (name == "sigmoid_norm") return rlhf::dpo_sigmoid_norm{beta, a.number("label_smoothing")};
  if (name == "hinge") return rlhf::dpo_hinge{beta};
  if (name == "ipo") return rlhf::ipo{beta};
  if (name == "ipo_sum") return rlhf::ipo_sum{beta};
  if (name == "robust") return rlhf::dpo_robust{beta, a.number("label_smoothing")};
  if (name == "exo_pair") return rlhf::exo_pair{beta, a.number("label_smoothing")};
  if (name == "nca_pair") return rlhf::nca_pair{beta};
  if (name == "bco_pair") return rlhf::bco_pair{beta, a.number("delta")};
  if (name == "sppo_hard") return rlhf::sppo_hard{beta};
  if (name == "apo_zero") return rlhf::apo_zero{beta};
  if (name == "apo_down") return rlhf::apo_down{beta};
  if (name == "discopop") return rlhf::discopop{beta, a.number("discopop_tau")};
  throw failure{"argument", text("params.loss_types names \"", name, "\", which is no pair loss that mixes")};
}

/// sigmoid, or the IPO of sums: what online methods choose between.
[[nodiscard]] inline any_pair online_objective(const arguments& a) {
  if (a.word("loss_type") == "ipo") return rlhf::ipo_sum{a.number("beta")};
  return rlhf::dpo_sigmoid{a.number("beta")};
}

/// TPO's four losses of chosen against rejected.
[[nodiscard]] inline any_pair triple_objective(const arguments& a) {
  const double beta = a.number("beta");
  const std::string type = a.word("loss_type");
  if (type == "hinge") return rlhf::cpo_hinge{beta};
  if (type == "ipo") return rlhf::cpo_ipo{beta};
  if (type == "tpo-l") return rlhf::simpo{beta, a.number("gamma"), a.number("label_smoothing")};
  return rlhf::cpo{beta, a.number("label_smoothing")};
}

/// TDPO from logits: the whole of it is one call of the library.
template <class B, class T>
void run_tdpo(const problem& p, results& out) {
  using space = typename B::space;
  const arguments& a = p.settings;
  workspace<B, T> work;
  const std::int64_t pairs = p.extent("P"), vocabulary = p.extent("V");
  const auto side = [&](const std::string& name, std::int64_t columns) {
    const auto matrix = [&](const std::string& logits) {
      return rlhf::view<const T, 2, space>(work.in(p, logits).data, pairs * columns, vocabulary);
    };
    rlhf::tdpo_side<T, space> s;
    s.sequences = work.rows(pairs, columns);
    s.logits = matrix(name + "_logits");
    s.ref_logits = matrix(text("ref_", name, "_logits"));
    s.target = work.integers(p, name + "_target");
    s.mask = work.mask(mask_or_ones(p, name + "_mask", pairs * columns));
    s.grad_logits = work.out(pairs * columns, vocabulary);
    s.kl = work.out(pairs * columns);
    return s;
  };
  const auto chosen = side("chosen", p.extent("C")), rejected = side("rejected", p.extent("R"));
  rlhf::pair_outputs<T, space> to;
  to.loss = work.out(1);
  to.per_pair = work.out(pairs);
  to.reward_chosen = work.out(pairs);
  to.reward_rejected = work.out(pairs);
  const rlhf::tdpo loss{a.number("beta"), a.number("alpha"),
                        a.number("version") == 1 ? rlhf::tdpo_version::tdpo1 : rlhf::tdpo_version::tdpo2, 1, 0};
  require(loss(work.backend(), chosen, rejected, to));
  out.put("per_item", {pairs}, work.read(to.per_pair));
  out.put("loss", work.read_one(to.loss));
  const auto sum = [&](const auto& s, const std::string& name, std::int64_t columns) {
    const std::vector<double> kl = work.read(s.kl), mask = mask_or_ones(p, name + "_mask", pairs * columns);
    std::vector<double> total(static_cast<std::size_t>(pairs));
    for (std::size_t i = 0; i < kl.size(); ++i)
      if (mask[i] != 0) total[i / static_cast<std::size_t>(columns)] += kl[i];
    return total;
  };
  out.stat("kl_chosen", {pairs}, sum(chosen, "chosen", p.extent("C")));
  out.stat("kl_rejected", {pairs}, sum(rejected, "rejected", p.extent("R")));
  std::vector<double> margin = work.read(to.reward_chosen), other = work.read(to.reward_rejected);
  for (std::size_t i = 0; i < margin.size(); ++i) margin[i] = (margin[i] - other[i]) / a.number("beta");
  out.stat("margin", {pairs}, margin);
  out.gradient("chosen_logits", {pairs, p.extent("C"), vocabulary}, work.read(chosen.grad_logits));
  out.gradient("rejected_logits", {pairs, p.extent("R"), vocabulary}, work.read(rejected.grad_logits));
}

/// Fills the table: one row an objective.
template <class B>
void add_preference_loss(registry& table) {
  const inputs logps{required("chosen_logp", "P|P,C"), required("rejected_logp", "P|P,R")};
  const inputs more{optional("chosen_mask", "P,C"), optional("rejected_mask", "P,R"), optional("chosen_len", "P"),
                    optional("rejected_len", "P")};
  const inputs references{optional("ref_chosen_logp", "P|P,C"), optional("ref_rejected_logp", "P|P,R")};
  const auto join = [](inputs a, const inputs& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  };
  const inputs free = join(logps, more), arrays = join(free, references);
  const auto with = [&](const char* chosen, const char* rejected) {
    return join(arrays, {required(chosen, "P"), required(rejected, "P")});
  };

  const parameters common{
      optional_number("ld_alpha", "weight of the tokens beyond the shorter response's length"),
      optional_interval("humanline", "bounds of each token's log-ratio"),
      number("nll_weight", 0, "weight of the NLL term on the chosen responses"),
      word("nll_reduction", "token_mean", {"token_mean", "sequence_mean"}, "how the NLL term adds up")};
  const parameters views =
      parameters{flag("reference_free", false, "the reference's log-probabilities are taken as 0"),
                 word("f_divergence", "reverse_kl", {"reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"},
                      "the divergence whose scores replace the log-ratios"),
                 number("f_alpha", rlhf::alpha_divergence{}.alpha, "alpha_divergence: its alpha")};
  const auto beta = [](double value) { return parameters{number("beta", value, "scale of the log-ratios")}; };
  const auto smoothing = [](double value) {
    return parameters{number("label_smoothing", value, "probability that a label is flipped")};
  };

  /// An objective with a reference, also without one and under another divergence.
  const auto add = [&](const char* name, const parameters& own, const inputs& in, pair_names names, auto make) {
    table.add("preference_loss", name, own + views + common, in, [=]<class T>(const problem& p, results& out) {
      const arguments& a = p.settings;
      const any_pair objective = make(a);
      any_pair_loss loss(objective, objective.reward_scale());
      const std::string f = a.word("f_divergence");
      if (a.flag("reference_free")) {
        if (f != "reverse_kl")
          throw failure{"argument", "params.reference_free and params.f_divergence exclude each other"};
        loss.which = any_pair_loss::kind::free;
        loss.without_reference = true;
      }
      if (f != "reverse_kl") loss.which = any_pair_loss::kind::divergence;
      if (f == "js_divergence") loss.divergence.which = any_divergence::kind::jensen_shannon;
      if (f == "alpha_divergence") loss.divergence = {any_divergence::kind::alpha, {.alpha = a.number("f_alpha")}};
      preference_case<B, T> run(p, out, names);
      run.read_common();
      run.run(loss);
    });
  };
  /// One that has none.
  const auto add_free = [&](const char* name, const parameters& own, auto make) {
    table.add("preference_loss", name, own + common, free, [=]<class T>(const problem& p, results& out) {
      any_pair_loss loss(make(p.settings), 1);
      loss.without_reference = true;
      preference_case<B, T> run(p, out, {.with_stats = false});
      run.read_common();
      run.run(loss);
    });
  };

  add("sigmoid", beta(rlhf::dpo_sigmoid{}.beta) + smoothing(0), arrays, {}, [](const arguments& a) {
    return rlhf::dpo_sigmoid{a.number("beta"), a.number("label_smoothing")};
  });
  add("sigmoid_norm", beta(rlhf::dpo_sigmoid_norm{}.beta) + smoothing(0), arrays, {}, [](const arguments& a) {
    return rlhf::dpo_sigmoid_norm{a.number("beta"), a.number("label_smoothing")};
  });
  add("hinge", beta(rlhf::dpo_hinge{}.beta), arrays, {},
      [](const arguments& a) { return rlhf::dpo_hinge{a.number("beta")}; });
  add("ipo", beta(rlhf::ipo{}.beta), arrays, {}, [](const arguments& a) { return rlhf::ipo{a.number("beta")}; });
  add("ipo_sum", beta(rlhf::ipo_sum{}.beta), arrays, {},
      [](const arguments& a) { return rlhf::ipo_sum{a.number("beta")}; });
  add("robust", beta(rlhf::dpo_robust{}.beta) + smoothing(rlhf::dpo_robust{}.label_smoothing), arrays, {},
      [](const arguments& a) {
        return rlhf::dpo_robust{a.number("beta"), a.number("label_smoothing")};
      });
  add("exo_pair", beta(rlhf::exo_pair{}.beta) + smoothing(rlhf::exo_pair{}.label_smoothing), arrays, {},
      [](const arguments& a) {
        return rlhf::exo_pair{a.number("beta"), a.number("label_smoothing")};
      });
  add("nca_pair", beta(rlhf::nca_pair{}.beta), arrays, {},
      [](const arguments& a) { return rlhf::nca_pair{a.number("beta")}; });
  add("bco_pair", beta(rlhf::bco_pair{}.beta) + parameters{number("delta", 0, "shift of both rewards")}, arrays, {},
      [](const arguments& a) {
        return rlhf::bco_pair{a.number("beta"), a.number("delta")};
      });
  add("sppo_hard", beta(rlhf::sppo_hard{}.beta), arrays, {},
      [](const arguments& a) { return rlhf::sppo_hard{a.number("beta")}; });
  add("apo_zero", beta(rlhf::apo_zero{}.beta), arrays, {},
      [](const arguments& a) { return rlhf::apo_zero{a.number("beta")}; });
  add("apo_down", beta(rlhf::apo_down{}.beta), arrays, {},
      [](const arguments& a) { return rlhf::apo_down{a.number("beta")}; });
  add("discopop",
      beta(rlhf::discopop{}.beta) +
          parameters{number("discopop_tau", rlhf::discopop{}.temperature, "temperature of the mixing")},
      arrays, {}, [](const arguments& a) {
        return rlhf::discopop{a.number("beta"), a.number("discopop_tau")};
      });
  add("dpop",
      beta(rlhf::dpo_positive{}.beta) + smoothing(0) +
          parameters{number("dpop_lambda", rlhf::dpo_positive{}.lambda, "weight of the chosen one's fall")},
      arrays, {}, [](const arguments& a) {
        return rlhf::dpo_positive{a.number("beta"), a.number("dpop_lambda"), a.number("label_smoothing")};
      });
  for (const char* name : {"lr_dpo", "r_dpo"})
    add(name,
        beta(rlhf::length_regularised_dpo{}.beta) +
            parameters{number("len_reg_alpha", rlhf::length_regularised_dpo{}.alpha, "weight of the length")},
        arrays, {}, [](const arguments& a) {
          return rlhf::length_regularised_dpo{a.number("beta"), a.number("len_reg_alpha")};
        });
  using distance = rlhf::reward_aware_dpo::distance;
  for (const auto& [name, measure] : {std::pair{"rpo_bwd_kl", distance::backward_kl},
                                      {"rpo_fwd_kl", distance::forward_kl},
                                      {"rpo_sq", distance::square}})
    add(name, beta(rlhf::reward_aware_dpo{}.beta) + parameters{number("eta", 1, "scale of the true rewards")},
        with("gt_chosen", "gt_rejected"), {.chosen_reward = "gt_chosen", .rejected_reward = "gt_rejected"},
        [measure = measure](const arguments& a) {
          return rlhf::reward_aware_dpo{a.number("beta"), a.number("eta"), measure};
        });
  for (const bool paper : {false, true})
    add(paper ? "rebel_paper" : "rebel", parameters{number("eta", rlhf::rebel{}.eta, "scale of the rewards")},
        with("reward_chosen", "reward_rejected"), {}, [paper](const arguments& a) {
          return rlhf::rebel{a.number("eta"), paper};
        });
  add("sppo", beta(rlhf::sppo{}.beta), with("prob_chosen", "prob_rejected"),
      {.chosen_reward = "prob_chosen", .rejected_reward = "prob_rejected"},
      [](const arguments& a) { return rlhf::sppo{a.number("beta")}; });
  add("pcrm_dpo", beta(rlhf::pcrm_dpo{}.beta) + smoothing(0), join(arrays, {required("delta_star", "P")}), {},
      [](const arguments& a) {
        return rlhf::pcrm_dpo{a.number("beta"), a.number("label_smoothing")};
      });
  add("inpo",
      parameters{number("tau", rlhf::inpo{}.tau, "pull to the reference"),
                 number("inv_step", rlhf::inpo{}.inverse_step, "inverse step size")},
      join(arrays, {required("prev_chosen_logp", "P"), required("prev_rejected_logp", "P")}), {},
      [](const arguments& a) {
        return rlhf::inpo{a.number("tau"), a.number("inv_step")};
      });

  add_free("cpo", beta(rlhf::cpo{}.beta) + smoothing(0), [](const arguments& a) {
    return rlhf::cpo{a.number("beta"), a.number("label_smoothing")};
  });
  add_free("cpo_hinge", beta(rlhf::cpo_hinge{}.beta),
           [](const arguments& a) { return rlhf::cpo_hinge{a.number("beta")}; });
  add_free("cpo_ipo", beta(rlhf::cpo_ipo{}.beta), [](const arguments& a) { return rlhf::cpo_ipo{a.number("beta")}; });
  const auto gamma = [](double value) { return parameters{number("gamma", value, "target margin of the logit")}; };
  add_free("simpo", beta(rlhf::simpo{}.beta) + gamma(rlhf::simpo{}.gamma) + smoothing(0), [](const arguments& a) {
    return rlhf::simpo{a.number("beta"), a.number("gamma"), a.number("label_smoothing")};
  });
  add_free("simpo_hinge", beta(rlhf::simpo_hinge{}.beta) + gamma(rlhf::simpo_hinge{}.gamma), [](const arguments& a) {
    return rlhf::simpo_hinge{a.number("beta"), a.number("gamma")};
  });
  add_free("alphapo",
           beta(rlhf::alphapo{}.beta) + gamma(rlhf::alphapo{}.gamma) +
               parameters{number("alpha", rlhf::alphapo{}.alpha, "shape of the score; 0 is SimPO")},
           [](const arguments& a) {
             return rlhf::alphapo{a.number("beta"), a.number("gamma"), a.number("alpha")};
           });
  add_free("simper", {}, [](const arguments&) { return rlhf::simper{}; });
  add_free("orpo", beta(rlhf::orpo{}.beta), [](const arguments& a) { return rlhf::orpo{a.number("beta")}; });
  {
    // Here `nll_weight` is of the sum per pair, a part of the objective.
    const rlhf::slic_reference_free slic;
    table.add("preference_loss", "slic_ref_free",
              beta(slic.beta) + parameters{number("nll_weight", slic.nll_weight, "of the chosen response's sum")}, free,
              []<class T>(const problem& p, results& out) {
                const arguments& a = p.settings;
                preference_case<B, T>(p, out, {.with_stats = false})
                    .run({rlhf::slic_reference_free{a.number("beta"), a.number("nll_weight")}, 1});
              });
  }

  table.add("preference_loss", "sppo_single", beta(rlhf::sppo{}.beta), join(arrays, {required("prob_chosen", "P")}),
            []<class T>(const problem& p, results& out) {
              // One p for the chosen one, its complement for the other.
              preference_case<B, T> run(p, out);
              run.chosen_reward = p.data("prob_chosen");
              for (const double x : run.chosen_reward) run.rejected_reward.push_back(1 - x);
              const double scale = p.settings.number("beta");
              run.run({rlhf::sppo{scale}, scale});
            });
  table.add("preference_loss", "sft", {}, arrays, []<class T>(const problem& p, results& out) {
    preference_case<B, T> run(p, out);
    run.nll = {.weight = 1};
    run.run_with_nll_in_items({});
  });

  const parameters mixing = parameters{list_of_words("loss_types", "the losses that are added, sft among them"),
                                       list_of_numbers("loss_weights", "their weights; 1 each without"),
                                       number("delta", 0, "bco_pair: shift of both rewards"),
                                       number("discopop_tau", rlhf::discopop{}.temperature, "discopop: temperature"),
                                       flag("wpo", false, "weigh pairs by their probability under the policy")} +
                            beta(0.1) + smoothing(0);
  const auto mix = []<class T>(const problem& p, results& out) {
    const arguments& a = p.settings;
    const std::vector<std::string> types = a.list("loss_types");
    std::vector<double> weights = a.numbers("loss_weights");
    if (weights.empty()) weights.assign(types.size(), 1.0);
    if (weights.size() != types.size())
      throw failure{"argument", text("params.loss_weights has ", std::to_string(weights.size()), " numbers, wants ",
                                     std::to_string(types.size()), " as params.loss_types")};
    preference_case<B, T> run(p, out);
    any_pair_loss loss;
    loss.scale = a.number("beta");
    for (std::size_t k = 0; k < types.size(); ++k) {
      if (types[k] == "sft") {
        run.nll.weight += weights[k];
      } else {
        if (loss.count == any_pair_loss::most)
          throw failure{"argument",
                        text("params.loss_types has more than ", std::to_string(any_pair_loss::most), " pair losses")};
        loss.add(loss.count++, mixed_objective(types[k], a), weights[k]);
      }
    }
    run.weighted_by_wpo = a.flag("wpo");
    if (run.weighted_by_wpo)
      for (const char* name : {"chosen_log_sum_p2", "rejected_log_sum_p2"}) p.demand(name);
    run.run_with_nll_in_items(loss);
  };
  const inputs with_squares =
      join(arrays, {optional("chosen_log_sum_p2", "P,C"), optional("rejected_log_sum_p2", "P,R")});
  table.add("preference_loss", "mix", mixing, with_squares, mix);
  table.add("preference_loss", "wpo", mixing, with_squares, mix);
  table.add("preference_loss", "dpo_bco",
            beta(0.1) + parameters{number("delta", 0, "shift of both rewards"),
                                   number("bco_gamma", 0, "weight of BCO beside DPO")},
            arrays, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              const double share = a.number("bco_gamma");
              any_pair_loss loss;
              loss.scale = a.number("beta");
              loss.count = 2;
              loss.add(0, rlhf::dpo_sigmoid{loss.scale}, 1 / (1 + share));
              loss.add(1, rlhf::bco_pair{loss.scale, a.number("delta")}, share / (1 + share));
              preference_case<B, T>(p, out).run(loss);
            });

  for (const bool paired : {true, false})
    table.add("preference_loss", paired ? "aot" : "aot_unpaired", beta(0.1) + smoothing(0), arrays,
              [paired]<class T>(const problem& p, results& out) {
                const arguments& a = p.settings;
                const rlhf::dpo_sigmoid dpo{a.number("beta"), a.number("label_smoothing")};
                preference_case<B, T>(p, out).run_aot({dpo, dpo.beta}, paired);
              });

  const inputs with_kl = join(arrays, {required("chosen_kl", "P,C"), required("rejected_kl", "P,R")});
  for (const bool second : {false, true})
    table.add("preference_loss", second ? "tdpo2" : "tdpo1",
              beta(rlhf::tdpo{}.beta) + parameters{number("alpha", rlhf::tdpo{}.alpha, "tdpo2: weight of the KL")},
              with_kl, [second]<class T>(const problem& p, results& out) {
                const arguments& a = p.settings;
                const double scale = a.number("beta"), alpha = second ? a.number("alpha") : 1;
                preference_case<B, T> run(p, out);
                run.kl_weight = alpha;
                run.run({rlhf::dpo_offset{scale}, scale});
                run.put_kl_gradients(second ? 0 : alpha, alpha);
              });
  table.add(
      "preference_loss", "tdpo_logits",
      beta(rlhf::tdpo{}.beta) +
          parameters{number("alpha", rlhf::tdpo{}.alpha, "TDPO2: weight of the KL"), number("version", 2, "1 or 2")},
      {required("chosen_logits", "P,C,V"), required("ref_chosen_logits", "P,C,V"), required("rejected_logits", "P,R,V"),
       required("ref_rejected_logits", "P,R,V"), required("chosen_target", "P,C"), required("rejected_target", "P,R"),
       optional("chosen_mask", "P,C"), optional("rejected_mask", "P,R")},
      []<class T>(const problem& p, results& out) { run_tdpo<B, T>(p, out); });

  table.add("preference_loss", "bnf",
            {number("guard", rlhf::bidirectional_negative_feedback{}.guard, "in both ratios")},
            {required("chosen_logp", "P,C"), required("rejected_logp", "P,R"), required("ref_chosen_logp", "P,C"),
             required("ref_rejected_logp", "P,R"), required("chosen_entropy", "P,C"),
             required("rejected_entropy", "P,R"), optional("chosen_mask", "P,C"), optional("rejected_mask", "P,R")},
            []<class T>(const problem& p, results& out) {
              workspace<B, T> work;
              const std::int64_t pairs = p.extent("P");
              std::vector<double> sign(static_cast<std::size_t>(pairs));
              const auto tokens = [&](const char* mask, const char* columns) {
                const std::int64_t width = p.extent(columns);
                const std::vector<double> m = mask_or_ones(p, mask, pairs * width);
                std::vector<double> n(static_cast<std::size_t>(pairs));
                for (std::size_t i = 0; i < m.size(); ++i) n[i / static_cast<std::size_t>(width)] += m[i] != 0 ? 1 : 0;
                return n;
              };
              const std::vector<double> c = tokens("chosen_mask", "C"), r = tokens("rejected_mask", "R");
              double shortest = std::numeric_limits<double>::infinity();
              for (std::size_t i = 0; i < sign.size(); ++i) shortest = std::min({shortest, c[i], r[i]});
              for (double& x : sign) x = 1 / std::max(shortest, 1.0);
              const rlhf::bidirectional_negative_feedback objective{p.settings.number("guard")};
              const double scale = 1 / static_cast<double>(pairs);
              const auto up = sum_of_tokens<B, T>(work, p, objective, "chosen_logp", "ref_chosen_logp",
                                                  "chosen_entropy", "chosen_mask", sign, scale);
              for (double& x : sign) x = -x;
              const auto down = sum_of_tokens<B, T>(work, p, objective, "rejected_logp", "ref_rejected_logp",
                                                    "rejected_entropy", "rejected_mask", sign, scale);
              std::vector<double> items = up.per_row;
              for (std::size_t i = 0; i < items.size(); ++i) items[i] += down.per_row[i];
              out.put("per_item", {pairs}, items);
              out.put("loss", up.loss + down.loss);
              out.gradient("chosen_logp", p["chosen_logp"].shape, up.grad_logp);
              out.gradient("rejected_logp", p["rejected_logp"].shape, down.grad_logp);
              out.gradient("chosen_entropy", p["chosen_logp"].shape, up.grad_entropy);
              out.gradient("rejected_entropy", p["rejected_logp"].shape, down.grad_entropy);
            });
  table.add(
      "preference_loss", "tpo",
      beta(0.01) + smoothing(0) + gamma(0.5) +
          parameters{word("loss_type", "sigmoid", {"sigmoid", "hinge", "ipo", "tpo-l"}, "of chosen against rejected"),
                     number("alpha", 1, "weight of the NLL of the gold response")},
      join(free, {required("gold_logp", "P,G"), optional("gold_mask", "P,G")}),
      []<class T>(const problem& p, results& out) {
        const arguments& a = p.settings;
        preference_case<B, T> run(p, out, {.with_stats = false});
        run.evaluate({triple_objective(a), 1});
        workspace<B, T> work;
        const std::int64_t n = p.extent("P") * p.extent("G");
        double tokens = 0;
        for (const double x : mask_or_ones(p, "gold_mask", n)) tokens += x != 0 ? 1 : 0;
        const double weight = a.number("alpha");
        const auto gold = sum_of_tokens<B, T>(work, p, rlhf::negative_log_likelihood{}, "gold_logp", "", "",
                                              "gold_mask", {}, 1 / std::max(tokens, 1.0));
        run.add_to_loss(weight * gold.loss);
        run.finish();
        out.put("nll", gold.loss);
        std::vector<double> gradient = gold.grad_logp;
        for (double& x : gradient) x *= weight;
        out.gradient("gold_logp", p["gold_logp"].shape, gradient);
      });

  const auto with_optimism = [](auto run, const problem& p, results& out, double coefficient, const std::string& name,
                                bool in_items) {
    run.add_optimism(coefficient, name, in_items);
    run.finish();
    run.put_optimism(p, out, name);
  };
  table.add("preference_loss", "selm",
            beta(0.1) + parameters{number("alpha", 1e-3, "weight of the optimism, times beta")},
            join(arrays, {required("bonus_logp", "P"), required("ref_bonus_logp", "P")}),
            [with_optimism]<class T>(const problem& p, results& out) {
              const double scale = p.settings.number("beta");
              preference_case<B, T> run(p, out, {.with_stats = false});
              run.evaluate({rlhf::dpo_sigmoid{scale}, scale});
              with_optimism(run, p, out, p.settings.number("alpha") * scale, "bonus_logp", true);
            });
  table.add("preference_loss", "vpo",
            beta(0.1) + parameters{number("alpha", 1e-3, "weight of the optimism, times beta"),
                                   word("mode", "online", {"online", "offline"}, "optimism, or pessimism")},
            join(arrays, {required("cal_logp", "C2"), required("ref_cal_logp", "C2")}),
            [with_optimism]<class T>(const problem& p, results& out) {
              const double scale = p.settings.number("beta"), sign = p.settings.word("mode") == "online" ? 1 : -1;
              preference_case<B, T> run(p, out, {.with_stats = false});
              run.evaluate({rlhf::dpo_sigmoid{scale}, scale});
              with_optimism(run, p, out, sign * p.settings.number("alpha") * scale, "cal_logp", false);
            });
  table.add("preference_loss", "nash_md",
            beta(0.1) + parameters{word("mode", "sequence", {"token", "sequence"}, "token: without the cross terms")},
            {required("logp", "B,T"), required("ref_logp", "B,T"), optional("mask", "B,T"), required("prob", "B")},
            []<class T>(const problem& p, results& out) { run_nash_md<B, T>(p, out); });
  table.add("preference_loss", "a2po",
            {number("beta1", rlhf::optimal_value{}.beta, "temperature of the value"),
             number("beta2", rlhf::optimal_advantage_regression{}.beta, "scale of the log-ratio")},
            {required("logp", "B"), required("ref_logp", "B"), required("reward", "B"), required("reward_ref", "B,N")},
            []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              workspace<B, T> work;
              const std::int64_t rows = p.extent("B"), n = p.extent("N");
              rlhf::group_inputs<T, typename B::space> groups;
              groups.groups.groups = work.rows(rows, n);
              groups.reward = work.in(p, "reward_ref");
              const auto values = work.out(rows * n);
              require(rlhf::grouped<rlhf::optimal_value>{{a.number("beta1")}}(work.backend(), groups, values));
              const std::vector<double> all = work.read(values);
              std::vector<double> value;
              for (std::int64_t i = 0; i < rows; ++i) value.push_back(all[static_cast<std::size_t>(i * n)]);
              const auto found = mean_over_responses<B, T>(work, rlhf::optimal_advantage_regression{a.number("beta2")},
                                                           p.data("logp"), p.data("ref_logp"), p.data("reward"), value);
              out.put("per_item", {rows}, found.per_item);
              out.put("loss", found.loss);
              out.put("value", {rows}, value);
              out.gradient("logp", {rows}, found.gradient);
            });
  table.add("preference_loss", "kto_pair", beta(0.1), arrays, []<class T>(const problem& p, results& out) {
    const double scale = p.settings.number("beta");
    preference_case<B, T> run(p, out);
    run.evaluate({rlhf::dpo_sigmoid{scale}, scale});  // for the rewards
    run.finish_as_kto(scale);
  });

  const inputs samples{required("first_logp", "P"),     required("second_logp", "P"),
                       optional("ref_first_logp", "P"), optional("ref_second_logp", "P"),
                       required("first_score", "P"),    required("second_score", "P"),
                       optional("first_has_eos", "P"),  optional("second_has_eos", "P")};
  const parameters online = beta(0.1) + parameters{word("loss_type", "sigmoid", {"sigmoid", "ipo"}, "ipo: of sums")};
  table.add("preference_loss", "online_dpo",
            online + parameters{optional_number("missing_eos_penalty", "taken off the score of a text without end")},
            samples, []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              const auto scores = [&](const std::string& side) {
                std::vector<double> s = p.data(side + "_score");
                if (a.given("missing_eos_penalty"))
                  for (std::size_t i = 0; i < s.size(); ++i)
                    s[i] -= p.data(side + "_has_eos")[i] == 0 ? a.number("missing_eos_penalty") : 0;
                return s;
              };
              preference_case<B, T> run(
                  p, out, {"first_logp", "second_logp", "ref_first_logp", "ref_second_logp", "", "", false});
              run.chosen_reward = scores("first");
              run.rejected_reward = scores("second");
              any_pair_loss loss(online_objective(a), a.number("beta"));
              loss.which = any_pair_loss::kind::ranked;
              run.run(loss);
              std::vector<double> first;
              for (std::size_t i = 0; i < run.chosen_reward.size(); ++i)
                first.push_back(run.chosen_reward[i] >= run.rejected_reward[i] ? 1 : 0);
              out.put("first_is_chosen", {static_cast<std::int64_t>(first.size())}, first);
            });
  table.add("preference_loss", "xpo", online + parameters{number("alpha", 1e-5, "weight of the optimism")},
            {required("policy_logp", "P"), required("sampled_ref_logp", "P"), optional("ref_policy_logp", "P"),
             optional("ref_sampled_ref_logp", "P"), required("policy_wins", "P")},
            []<class T>(const problem& p, results& out) {
              const arguments& a = p.settings;
              preference_case<B, T> run(p, out,
                                        {"policy_logp", "sampled_ref_logp", "ref_policy_logp", "ref_sampled_ref_logp",
                                         "policy_wins", "", false});
              run.rejected_reward.assign(p.data("policy_wins").size(), 0.5);
              any_pair_loss loss(online_objective(a), a.number("beta"));
              loss.which = any_pair_loss::kind::ranked;
              loss.optimism = a.number("alpha");
              run.run(loss);
            });
}

}  // namespace eval
