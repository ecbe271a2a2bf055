#pragma once
// The formulations of alignment as concepts: what a problem offers, not how it is stored.

#include <concepts>
#include <cstdint>
#include <span>

#include "rlhf/math/random.hpp"

namespace rlhf::inline v1 {

/// A contextual bandit: a prompt x drawn with `weight(x)`, one of `actions()` responses, a reward. The view of alignment in
/// which a whole response is one action.
template <class B>
concept contextual_bandit = requires(const B& b, std::int64_t x, std::int64_t y) {
  { b.contexts() } -> std::convertible_to<std::int64_t>;
  { b.actions() } -> std::convertible_to<std::int64_t>;
  { b.weight(x) } -> std::convertible_to<double>;
  { b.reward(x, y) } -> std::convertible_to<double>;
};

/// A Markov decision process with finitely many states and actions: `expect(s, a, v)` is the mean of v over the successors of
/// (s, a), `visit(s, a, f)` calls f(successor, probability).
template <class M>
concept finite_mdp =
    requires(const M& m, std::int64_t s, std::int64_t a, std::span<const double> v, void (*f)(std::int64_t, double)) {
      { m.states() } -> std::convertible_to<std::int64_t>;
      { m.actions(s) } -> std::convertible_to<std::int64_t>;
      { m.first(s) } -> std::convertible_to<std::int64_t>;  // (s, a) is number first(s) + a of all state-action pairs
      { m.reward(s, a) } -> std::convertible_to<double>;
      { m.expect(s, a, v) } -> std::convertible_to<double>;
      m.visit(s, a, f);
    };

/// Who compares two responses to a context: `probability(x, a, b)` that a is preferred to b.
template <class P>
concept preference_model = requires(const P& p, std::int64_t x, std::int64_t a, std::int64_t b) {
  { p.probability(x, a, b) } -> std::convertible_to<double>;
};

/// The outcome of one comparison, as points of the first response.
enum class verdict { lost, tied, won };

/// Who gives labels: `compare(x, a, b, numbers, at)` draws one, a function of the numbers' key and the index alone.
template <class P>
concept preference_oracle =
    preference_model<P> && requires(const P& p, std::int64_t x, const random_numbers& numbers, random_index at) {
      { p.compare(x, x, x, numbers, at) } -> std::same_as<verdict>;
    };

}  // namespace rlhf::inline v1
