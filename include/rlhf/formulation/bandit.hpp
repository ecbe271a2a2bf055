#pragma once
// Alignment as a contextual bandit: a response is one action.

#include <vector>

#include "rlhf/formulation/check.hpp"
#include "rlhf/formulation/concepts.hpp"

namespace rlhf::inline v1 {

/// A bandit whose rewards are a table [contexts, actions]; contexts are drawn with `weights`, uniformly where none are given.
class tabular_bandit {
 public:
  tabular_bandit(std::int64_t contexts, std::int64_t actions, std::vector<double> rewards,
                 std::vector<double> weights = {})
      : contexts_(contexts), actions_(actions), rewards_(std::move(rewards)), weights_(std::move(weights)) {
    using namespace formulation_detail;
    want(contexts >= 1, "tabular_bandit", "contexts", static_cast<double>(contexts), "at least 1");
    want(actions >= 1, "tabular_bandit", "actions", static_cast<double>(actions), "at least 1");
    want_size(rewards_.size(), contexts * actions, "tabular_bandit", "rewards");
    for (const double r : rewards_) want(std::isfinite(r), "tabular_bandit", "a reward", r, "a finite number");
    if (weights_.empty()) weights_.assign(static_cast<std::size_t>(contexts), 1.0 / static_cast<double>(contexts));
    want_size(weights_.size(), contexts, "tabular_bandit", "weights");
    want_distribution(weights_, "tabular_bandit", "weights");
  }

  [[nodiscard]] std::int64_t contexts() const { return contexts_; }
  [[nodiscard]] std::int64_t actions() const { return actions_; }
  [[nodiscard]] double weight(std::int64_t context) const { return formulation_detail::at(weights_, context); }
  [[nodiscard]] double reward(std::int64_t context, std::int64_t action) const {
    return rewards(context)[static_cast<std::size_t>(action)];
  }
  /// All rewards of a context.
  [[nodiscard]] std::span<const double> rewards(std::int64_t context) const {
    return std::span(rewards_).subspan(static_cast<std::size_t>(context * actions_),
                                       static_cast<std::size_t>(actions_));
  }

 private:
  std::int64_t contexts_, actions_;
  std::vector<double> rewards_, weights_;
};

static_assert(contextual_bandit<tabular_bandit>);

}  // namespace rlhf::inline v1
