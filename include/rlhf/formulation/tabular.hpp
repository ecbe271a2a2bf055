#pragma once
// Finite Markov decision processes with stochastic transitions, sparse or dense.

#include <utility>
#include <vector>

#include "rlhf/formulation/check.hpp"
#include "rlhf/formulation/concepts.hpp"

namespace rlhf::inline v1 {

/// A successor and its probability.
using successor = std::pair<std::int64_t, double>;

/// An MDP with few successors to each action; states may have different numbers of actions. Built action by action:
/// `add(state, reward, successors)` with the states in order, then read only.
class sparse_mdp {
 public:
  explicit sparse_mdp(std::int64_t states) : states_(states) {
    formulation_detail::want(states >= 1, "sparse_mdp", "states", static_cast<double>(states), "at least 1");
  }
  void add(std::int64_t state, double reward, std::span<const successor> successors) {
    using namespace formulation_detail;
    const auto open = static_cast<std::int64_t>(first_.size()) - 1;  // the state that actions were last added to
    want(state >= 0 && state < states_, "sparse_mdp", "state", static_cast<double>(state), "a state");
    want(state == open || state == open + 1, "sparse_mdp", "state", static_cast<double>(state),
         "states in order, none without actions");
    want(std::isfinite(reward), "sparse_mdp", "reward", reward, "a finite number");
    std::vector<double> p;
    for (const auto& [next, probability] : successors) {
      want(next >= 0 && next < states_, "sparse_mdp", "a successor", static_cast<double>(next), "a state");
      p.push_back(probability);
    }
    want_distribution(p, "sparse_mdp",
                      "the probabilities of action " + std::to_string(state == open ? pairs() - first_.back() : 0) +
                          " in state " + std::to_string(state));
    if (state != open) first_.push_back(pairs());
    reward_.push_back(reward);
    successors_.insert(successors_.end(), successors.begin(), successors.end());
    begin_.push_back(static_cast<std::int64_t>(successors_.size()));
  }
  /// Throws unless every state has an action.
  void check() const {
    formulation_detail::want(static_cast<std::int64_t>(first_.size()) == states_, "sparse_mdp",
                             "the number of states with actions", static_cast<double>(first_.size()), "all states");
  }

  [[nodiscard]] std::int64_t states() const { return states_; }
  [[nodiscard]] std::int64_t pairs() const { return static_cast<std::int64_t>(reward_.size()); }
  [[nodiscard]] std::int64_t first(std::int64_t s) const { return formulation_detail::at(first_, s); }
  [[nodiscard]] std::int64_t actions(std::int64_t s) const {
    return (s + 1 < static_cast<std::int64_t>(first_.size()) ? first(s + 1) : pairs()) - first(s);
  }
  [[nodiscard]] double reward(std::int64_t s, std::int64_t a) const {
    return formulation_detail::at(reward_, first(s) + a);
  }
  [[nodiscard]] double expect(std::int64_t s, std::int64_t a, std::span<const double> v) const {
    double sum = 0;
    visit(s, a, [&](std::int64_t next, double p) { sum += p * v[static_cast<std::size_t>(next)]; });
    return sum;
  }
  template <class F>
  void visit(std::int64_t s, std::int64_t a, F&& f) const {
    const std::int64_t pair = first(s) + a;
    for (auto k = formulation_detail::at(begin_, pair); k < formulation_detail::at(begin_, pair + 1); ++k) {
      const auto& [next, p] = formulation_detail::at(successors_, k);
      f(next, p);
    }
  }

 private:
  std::int64_t states_;
  std::vector<std::int64_t> first_, begin_{0};
  std::vector<double> reward_;
  std::vector<successor> successors_;
};

/// An MDP with a full matrix of transitions: probabilities [states, actions, states], rewards [states, actions].
class dense_mdp {
 public:
  dense_mdp(std::int64_t states, std::int64_t actions, std::vector<double> probabilities, std::vector<double> rewards)
      : states_(states), actions_(actions), probabilities_(std::move(probabilities)), rewards_(std::move(rewards)) {
    using namespace formulation_detail;
    want(states >= 1, "dense_mdp", "states", static_cast<double>(states), "at least 1");
    want(actions >= 1, "dense_mdp", "actions", static_cast<double>(actions), "at least 1");
    want_size(probabilities_.size(), states * actions * states, "dense_mdp", "probabilities");
    want_size(rewards_.size(), states * actions, "dense_mdp", "rewards");
    for (const double r : rewards_) want(std::isfinite(r), "dense_mdp", "a reward", r, "a finite number");
    for (std::int64_t s = 0; s < states; ++s)
      for (std::int64_t a = 0; a < actions; ++a)
        want_distribution(row(s, a), "dense_mdp",
                          "the probabilities of action " + std::to_string(a) + " in state " + std::to_string(s));
  }

  [[nodiscard]] std::int64_t states() const { return states_; }
  [[nodiscard]] std::int64_t pairs() const { return states_ * actions_; }
  [[nodiscard]] std::int64_t first(std::int64_t s) const { return s * actions_; }
  [[nodiscard]] std::int64_t actions(std::int64_t) const { return actions_; }
  [[nodiscard]] double reward(std::int64_t s, std::int64_t a) const {
    return formulation_detail::at(rewards_, first(s) + a);
  }
  [[nodiscard]] std::span<const double> row(std::int64_t s, std::int64_t a) const {
    return std::span(probabilities_)
        .subspan(static_cast<std::size_t>((first(s) + a) * states_), static_cast<std::size_t>(states_));
  }
  [[nodiscard]] double expect(std::int64_t s, std::int64_t a, std::span<const double> v) const {
    const auto p = row(s, a);
    double part[4] = {};  // four sums at a time, in a fixed order
    std::size_t k = 0;
    for (; k + 4 <= p.size(); k += 4)
      for (std::size_t j = 0; j < 4; ++j) part[j] += p[k + j] * v[k + j];
    for (; k < p.size(); ++k) part[0] += p[k] * v[k];
    return (part[0] + part[1]) + (part[2] + part[3]);
  }
  template <class F>
  void visit(std::int64_t s, std::int64_t a, F&& f) const {
    const auto p = row(s, a);
    for (std::size_t next = 0; next < p.size(); ++next)
      if (p[next] > 0) f(static_cast<std::int64_t>(next), p[next]);
  }

 private:
  std::int64_t states_, actions_;
  std::vector<double> probabilities_, rewards_;
};

static_assert(finite_mdp<sparse_mdp> && finite_mdp<dense_mdp>);

}  // namespace rlhf::inline v1
