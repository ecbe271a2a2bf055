#pragma once
// Curves of formulas: an item at each x, and the formula's value and slopes there, from dual numbers.

#include <cmath>

#include "figures.hpp"
#include "rlhf/math/fields.hpp"

namespace plots {

using dual = rlhf::dual<double, 2>;

[[nodiscard]] inline point read(const dual& y) { return {y.value, y.partial[0], y.partial[1]}; }

/// Pairs with the margin D = a - b, half of it on either side; ten tokens each, the first the better one.
[[nodiscard]] inline rlhf::pair<dual> pair_at(double margin) {
  rlhf::pair<dual> p;
  p.chosen.logp = dual::variable(-10 + margin / 2, 0);
  p.rejected.logp = dual::variable(-10 - margin / 2, 1);
  p.chosen.ref_logp = p.rejected.ref_logp = -10;
  p.chosen.previous_logp = p.rejected.previous_logp = -10;
  p.chosen.length = p.rejected.length = 10;
  p.chosen.reward = 0.9;
  p.rejected.reward = 0.1;
  p.margin = 2;
  return p;
}
template <class Objective>
[[nodiscard]] curve pair(const char* name, const Objective& o) {
  return {name, [o](double x) { return read(o(pair_at(x))); }};
}

/// A token whose ratio to the old policy is x, with the slope in its log-probability.
template <class Objective>
[[nodiscard]] curve token(const char* name, const Objective& o, double advantage) {
  return {name, [o, advantage](double x) {
            rlhf::token<dual> t;
            t.old_logp = t.ref_logp = t.rollout_logp = -1.5;
            t.logp = dual::variable(-1.5 + std::log(x), 0);
            t.advantage = advantage;
            t.score = advantage;
            t.sequence_log_ratio = std::log(x);
            return read(o(t));
          }};
}

/// A token whose log-ratio to the reference is x, the policy being the one that sampled.
template <class Estimator>
[[nodiscard]] curve divergence(const char* name, const Estimator& o) {
  return {name, [o](double x) {
            rlhf::token<dual> t;
            t.old_logp = t.ref_logp = t.rollout_logp = -4;
            t.logp = dual::variable(-4 + x, 0);
            return read(o(t));
          }};
}

/// A token whose log-probability is x, with an entropy of its own.
template <class Objective>
[[nodiscard]] curve likelihood(const char* name, const Objective& o, double advantage = 1, double entropy = 1) {
  return {name, [o, advantage, entropy](double x) {
            rlhf::token<dual> t;
            t.old_logp = t.ref_logp = t.rollout_logp = -1.5;
            t.logp = dual::variable(x, 0);
            t.entropy = dual::variable(entropy, 1);
            t.advantage = advantage;
            return read(o(t));
          }};
}

template <class Score>
[[nodiscard]] curve score(const char* name, const Score& o) {
  return {name, [o](double x) { return read(o(dual::variable(x, 0))); }};
}
/// A function of a number that nothing is differentiated in.
template <class Function>
[[nodiscard]] curve function(const char* name, const Function& f) {
  return {name, [f](double x) { return point{static_cast<double>(f(x)), 0, 0}; }};
}

template <class Objective>
[[nodiscard]] curve response(const char* name, const Objective& o, double label, double reference_point = 0) {
  return {name, [o, label, reference_point](double x) {
            rlhf::labelled_response<dual> r;
            r.logp = dual::variable(-10 + x, 0);
            r.ref_logp = -10;
            r.label = label;
            r.reference_point = reference_point;
            r.length = 10;
            return read(o(r));
          }};
}

template <class Objective>
[[nodiscard]] curve scores(const char* name, const Objective& o, double tie = 0, double probability = 1) {
  return {name, [o, tie, probability](double x) {
            rlhf::score_pair<rlhf::dual<double, 3>> p;
            p.chosen = rlhf::dual<double, 3>::variable(x, 0);
            p.rejected = rlhf::dual<double, 3>::variable(0, 1);
            p.tie = rlhf::dual<double, 3>::variable(tie, 2);
            p.margin = 2;
            p.probability = probability;
            const auto y = o(p);
            return point{y.value, y.partial[0], y.partial[2]};
          }};
}

template <class Objective>
[[nodiscard]] curve value(const char* name, const Objective& o) {
  return {name, [o](double x) {
            rlhf::value_item<dual> v;
            v.value = dual::variable(x, 0);
            v.old_value = 0;
            v.returns = 1;
            return read(o(v));
          }};
}

}  // namespace plots
