#pragma once
// The two views of alignment and the way between them: a response as one action, a response as a path of tokens.

#include <limits>
#include <vector>

#include "rlhf/formulation/bandit.hpp"
#include "rlhf/formulation/token_mdp.hpp"

namespace rlhf::inline v1 {

/// Sums a table of token quantities along every response: [prompts, responses], in the order of each_response. Rewards become
/// returns, log-probabilities of tokens those of responses.
[[nodiscard]] inline std::vector<double> over_responses(const token_mdp& mdp, std::span<const double> table) {
  formulation_detail::want_size(table.size(), mdp.cells(), "over_responses", "table");
  using formulation_detail::at;
  std::vector<double> out, before(static_cast<std::size_t>(mdp.prefixes()));
  for (std::int64_t x = 0; x < mdp.prompts(); ++x) {
    for (std::int64_t p = 1; p < mdp.prefixes(); ++p) {
      const std::int64_t parent = mdp.parent(p);
      at(before, p) = at(before, parent) + at(table, mdp.cell(x, parent, mdp.last_token(p)));
    }
    mdp.each_response([&](std::int64_t, std::int64_t prefix, std::int64_t token) {
      out.push_back(at(before, prefix) + at(table, mdp.cell(x, prefix, token)));
    });
  }
  return out;
}

/// The token view as a bandit: every response an action, its reward the return.
[[nodiscard]] inline tabular_bandit as_bandit(const token_mdp& mdp, std::vector<double> prompt_weights = {}) {
  const std::vector<double> returns = over_responses(mdp, mdp.rewards());
  const auto responses = static_cast<std::int64_t>(returns.size()) / mdp.prompts();
  return {mdp.prompts(), responses, returns, std::move(prompt_weights)};
}

/// The bandit as a token MDP with responses of one token.
[[nodiscard]] inline token_mdp as_token_mdp(const tabular_bandit& bandit) {
  token_mdp mdp(bandit.contexts(), bandit.actions(), 1);
  return mdp.set_scores([&](std::int64_t x, std::span<const std::int32_t> y) { return bandit.reward(x, y.front()); });
}

/// A distribution over responses as a policy of tokens: the conditional log-probabilities of every prefix, from
/// log-probabilities [prompts, responses]. Where a prefix has probability 0 its tokens are uniform.
[[nodiscard]] inline std::vector<double> as_token_policy(const token_mdp& mdp, std::span<const double> response_logp) {
  using formulation_detail::at;
  const std::int64_t responses = mdp.responses(), v = mdp.vocabulary();
  formulation_detail::want_size(response_logp.size(), mdp.prompts() * responses, "as_token_policy", "response_logp");
  constexpr double none = -std::numeric_limits<double>::infinity();
  std::vector<double> table(static_cast<std::size_t>(mdp.cells()), none);
  for (std::int64_t x = 0; x < mdp.prompts(); ++x) {
    mdp.each_response([&](std::int64_t y, std::int64_t prefix, std::int64_t token) {
      at(table, mdp.cell(x, prefix, token)) = at(response_logp, x * responses + y);
    });
    for (std::int64_t p = mdp.prefixes() - 1; p >= 0; --p) {
      double* const row = table.data() + mdp.cell(x, p, 0);
      const double top = *std::max_element(row, row + v);
      double sum = 0;
      for (std::int64_t k = 0; k < v; ++k) sum += top > none ? std::exp(row[k] - top) : 1;
      const double mass = top > none ? top + std::log(sum) : 0;
      if (p > 0 && top > none) at(table, mdp.cell(x, mdp.parent(p), mdp.last_token(p))) = mass;
      for (std::int64_t k = 0; k < v; ++k) row[k] = top > none ? row[k] - mass : -std::log(sum);
    }
  }
  return table;
}

/// A token MDP as a finite MDP with discount 1: one state for each prompt and prefix, and a last one, in which nothing happens
/// any more. Holds a pointer: the MDP must outlive it.
class token_states {
 public:
  explicit token_states(const token_mdp& mdp) : mdp_(&mdp) {}
  [[nodiscard]] std::int64_t states() const { return mdp_->prompts() * mdp_->prefixes() + 1; }
  [[nodiscard]] std::int64_t pairs() const { return mdp_->cells() + 1; }
  [[nodiscard]] std::int64_t first(std::int64_t s) const { return s * mdp_->vocabulary(); }
  [[nodiscard]] std::int64_t actions(std::int64_t s) const { return s + 1 < states() ? mdp_->vocabulary() : 1; }
  [[nodiscard]] double reward(std::int64_t s, std::int64_t a) const {
    return s + 1 < states() ? formulation_detail::at(mdp_->rewards(), first(s) + a) : 0;
  }
  [[nodiscard]] double expect(std::int64_t s, std::int64_t a, std::span<const double> v) const {
    return v[static_cast<std::size_t>(next(s, a))];
  }
  template <class F>
  void visit(std::int64_t s, std::int64_t a, F&& f) const {
    f(next(s, a), 1.0);
  }

 private:
  [[nodiscard]] std::int64_t next(std::int64_t s, std::int64_t a) const {
    const std::int64_t prefixes = mdp_->prefixes(), prefix = s % prefixes;
    if (s + 1 == states() || mdp_->completes(prefix, a)) return states() - 1;
    return s - prefix + mdp_->child(prefix, a);
  }
  const token_mdp* mdp_;
};

static_assert(finite_mdp<token_states>);

}  // namespace rlhf::inline v1
