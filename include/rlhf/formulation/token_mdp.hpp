#pragma once
// Alignment as a Markov decision process over tokens: the state is the prompt and what has been written so far.

#include <algorithm>
#include <vector>

#include "rlhf/formulation/check.hpp"
#include "rlhf/formulation/concepts.hpp"

namespace rlhf::inline v1 {

/// The tree of all responses of at most `horizon` tokens over a small vocabulary. An action appends its token; the response
/// is complete after `horizon` tokens or after the token `end`, where there is one, and then nothing more happens.
///
/// Prefixes are numbered as a complete tree: the empty one is 0, the children of p are V p + 1 ... V p + V, so a child's number
/// is larger than its parent's and one backward loop over the numbers is dynamic programming. A `table` has an element for
/// every prompt, prefix and token: rewards, log-probabilities of a policy, Q values. Elements behind an `end` are never read.
/// Source of the formulation: Zhong et al. 2024, arXiv 2404.18922, section 3.
class token_mdp {
 public:
  token_mdp(std::int64_t prompts, std::int64_t vocabulary, std::int64_t horizon, std::int64_t end = -1)
      : prompts_(prompts), vocabulary_(vocabulary), horizon_(horizon), end_(end) {
    using formulation_detail::want;
    want(prompts >= 1, "token_mdp", "prompts", static_cast<double>(prompts), "at least 1");
    want(vocabulary >= 2, "token_mdp", "vocabulary", static_cast<double>(vocabulary), "at least 2 tokens");
    want(horizon >= 1, "token_mdp", "horizon", static_cast<double>(horizon), "at least 1");
    want(end >= -1 && end < vocabulary, "token_mdp", "end", static_cast<double>(end), "a token, or -1 for none");
    double cells = static_cast<double>(prompts);
    level_.push_back(0);
    for (std::int64_t t = 0, width = 1; t < horizon; ++t, width *= vocabulary) {
      cells *= static_cast<double>(vocabulary);
      want(cells <= 2e8, "token_mdp", "the number of responses", cells, "at most 2e8");
      level_.push_back(level_.back() + width);
    }
    reward_.assign(static_cast<std::size_t>(this->cells()), 0.0);
  }

  [[nodiscard]] std::int64_t prompts() const { return prompts_; }
  [[nodiscard]] std::int64_t vocabulary() const { return vocabulary_; }
  [[nodiscard]] std::int64_t horizon() const { return horizon_; }
  [[nodiscard]] std::int64_t end() const { return end_; }
  /// Prefixes shorter than the horizon: states in which there is something to choose, and those behind an `end`.
  [[nodiscard]] std::int64_t prefixes() const { return level_.back(); }
  [[nodiscard]] std::int64_t child(std::int64_t prefix, std::int64_t token) const {
    return vocabulary_ * prefix + 1 + token;
  }
  [[nodiscard]] std::int64_t parent(std::int64_t prefix) const { return (prefix - 1) / vocabulary_; }
  [[nodiscard]] std::int64_t last_token(std::int64_t prefix) const { return (prefix - 1) % vocabulary_; }
  [[nodiscard]] std::int64_t length(std::int64_t prefix) const {
    return std::upper_bound(level_.begin(), level_.end(), prefix) - level_.begin() - 1;
  }
  /// Is the response complete with this token?
  [[nodiscard]] bool completes(std::int64_t prefix, std::int64_t token) const {
    return token == end_ || prefix >= level_[static_cast<std::size_t>(horizon_ - 1)];
  }
  /// Can the prefix be written at all? Not behind an `end`.
  [[nodiscard]] bool reachable(std::int64_t prefix) const {
    for (; prefix > 0 && end_ >= 0; prefix = parent(prefix))
      if (last_token(prefix) == end_) return false;
    return true;
  }
  /// The tokens of a prefix, the first one first.
  [[nodiscard]] std::vector<std::int32_t> tokens(std::int64_t prefix) const {
    std::vector<std::int32_t> out;
    for (; prefix > 0; prefix = parent(prefix)) out.push_back(static_cast<std::int32_t>(last_token(prefix)));
    std::reverse(out.begin(), out.end());
    return out;
  }

  /// Where (prompt, prefix, token) lies in a table, and how long one is.
  [[nodiscard]] std::int64_t cell(std::int64_t prompt, std::int64_t prefix, std::int64_t token) const {
    return (prompt * prefixes() + prefix) * vocabulary_ + token;
  }
  [[nodiscard]] std::int64_t cells() const { return prompts_ * prefixes() * vocabulary_; }

  [[nodiscard]] double reward(std::int64_t prompt, std::int64_t prefix, std::int64_t token) const {
    return formulation_detail::at(reward_, cell(prompt, prefix, token));
  }
  [[nodiscard]] std::span<const double> rewards() const { return reward_; }
  /// A reward for every token: a whole table.
  token_mdp& set_rewards(std::vector<double> table) {
    formulation_detail::want_size(table.size(), cells(), "token_mdp: set_rewards", "table");
    for (const double r : table)
      formulation_detail::want(std::isfinite(r), "token_mdp: set_rewards", "a reward", r, "a finite number");
    reward_ = std::move(table);
    return *this;
  }
  /// A reward for the whole response, paid with its last token: score(prompt, tokens).
  template <class Score>
  token_mdp& set_scores(Score&& score) {
    std::fill(reward_.begin(), reward_.end(), 0.0);
    for (std::int64_t x = 0; x < prompts_; ++x)
      each_response([&](std::int64_t, std::int64_t prefix, std::int64_t token) {
        std::vector<std::int32_t> response = tokens(prefix);
        response.push_back(static_cast<std::int32_t>(token));
        formulation_detail::at(reward_, cell(x, prefix, token)) = score(x, std::span<const std::int32_t>(response));
      });
    return *this;
  }

  /// Calls f(number, prefix, token) for every complete response, by its last prefix and token; numbers count from 0.
  template <class F>
  void each_response(F&& f) const {
    std::int64_t number = 0;
    for (std::int64_t prefix = 0; prefix < prefixes(); ++prefix) {
      if (!reachable(prefix)) continue;
      for (std::int64_t token = 0; token < vocabulary_; ++token)
        if (completes(prefix, token)) f(number++, prefix, token);
    }
  }
  [[nodiscard]] std::int64_t responses() const {
    std::int64_t count = 0;
    each_response([&](std::int64_t, std::int64_t, std::int64_t) { ++count; });
    return count;
  }

 private:
  std::int64_t prompts_, vocabulary_, horizon_, end_;
  std::vector<std::int64_t> level_;  // the first prefix of each length
  std::vector<double> reward_;
};

}  // namespace rlhf::inline v1
