// E19: natural gradients, mirror descent, soft value iteration and the plain policy gradient, at their rates.

#include "lab/support.hpp"
#include "rlhf/formulation/tabular.hpp"
#include "rlhf/theory/log_linear.hpp"
#include "rlhf/theory/mirror_descent.hpp"
#include "rlhf/theory/soft_value.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

constexpr std::int64_t states = 6, actions = 4;
constexpr double discount = 0.9;

dense_mdp random_mdp(const random_numbers& numbers) {
  std::vector<double> p, r;
  for (std::uint32_t row = 0; row < states * actions; ++row) {
    vector z(states);
    for (Eigen::Index s = 0; s < states; ++s)
      z[s] = std::log(
          -std::log(1 - numbers.uniform({.sample = 1, .position = row, .draw = static_cast<std::uint32_t>(s)})) + 1e-9);
    const vector q = probabilities(log_softmax(z));
    p.insert(p.end(), q.data(), q.data() + q.size());
    r.push_back(numbers.uniform({.sample = 2, .position = row}));
  }
  return {states, actions, p, r};
}

struct result {
  double contraction = 0, monotone = infinity, natural_excess = -infinity, soft_excess = -infinity, soft_iteration = 0,
         plain_slope = 0, bellman = -infinity;
  curve natural{"natural gradient", {}, {}, false}, bound{"its bound", {}, {}, false},
      plain{"policy gradient, bandit", {}, {}, false};
};

result measure(const random_numbers& numbers) {
  result out;
  // Mirror descent towards a reference: the range of log pi_t - log pi* shrinks by exactly 1 - eta beta.
  {
    const vector reward = normal_vector(numbers, 10, 1), ref = log_softmax(normal_vector(numbers, 10, 2));
    const mirror_step step{.step = 0.3, .temperature = 0.5};
    const vector best = regularised_bandit{reward, ref, 0.5}.best();
    vector logp = log_softmax(normal_vector(numbers, 10, 3));
    for (int t = 0; t < 30; ++t) {
      const double before = range_of(logp - best);
      logp = step(logp, reward, ref);
      out.contraction = std::max(out.contraction, std::fabs(range_of(logp - best) - 0.85 * before));
    }
  }
  const dense_mdp mdp = random_mdp(numbers);
  const vector even = uniform_logp(actions).replicate(states, 1);
  // Natural policy gradient without regularisation.
  {
    const soft_criterion c{.discount = discount, .temperature = 0};
    const vector best = soft_value_iteration(mdp, c, 1e-12).value;
    const double eta = 0.1;
    vector policy = even, value = evaluate(mdp, c, policy);
    for (int t = 1; t <= 200; ++t) {
      policy = natural_step(mdp, c, policy, eta);
      const vector next = evaluate(mdp, c, policy);
      out.monotone = std::min(out.monotone, (next - value).minCoeff());
      value = next;
      const double gap = (best - value).maxCoeff();
      const double bound =
          std::log(static_cast<double>(actions)) / (eta * t) + 1 / ((1 - discount) * (1 - discount) * t);
      out.natural_excess = std::max(out.natural_excess, gap - bound);
      out.natural.x.push_back(t), out.natural.y.push_back(std::max(gap, 1e-12));
      out.bound.x.push_back(t), out.bound.y.push_back(bound);
    }
  }
  // With entropy: linear, and with the largest step soft policy iteration.
  {
    const double tau = 0.2;
    const soft_criterion c{.discount = discount, .temperature = tau};
    const solved_mdp best = soft_value_iteration(mdp, c, 1e-13);
    for (const double share : {1.0, 0.5, 0.1}) {
      const double step = share * (1 - discount) / tau;
      vector policy = even;
      const double c1 = (best.q - q_values(mdp, discount, evaluate(mdp, c, policy))).cwiseAbs().maxCoeff() +
                        2 * tau * (1 - share) * (best.policy - policy).cwiseAbs().maxCoeff();
      for (int t = 0; t < 60; ++t) {
        const vector q = q_values(mdp, discount, evaluate(mdp, c, policy));
        const vector greedy = soft_greedy(mdp, c, q);
        policy = natural_step(mdp, c, policy, step);
        if (share == 1.0) out.soft_iteration = std::max(out.soft_iteration, (policy - greedy).cwiseAbs().maxCoeff());
        const double error = (best.q - q_values(mdp, discount, evaluate(mdp, c, policy))).cwiseAbs().maxCoeff();
        out.soft_excess = std::max(out.soft_excess, error - (c1 * discount * std::pow(1 - step * tau, t) + 1e-10));
      }
    }
    vector v = normal_vector(numbers, states, 7, 10);
    for (int t = 0; t < 100; ++t) {
      const vector next = soft_bellman(mdp, c, v);
      out.bellman = std::max(
          out.bellman, (next - best.value).cwiseAbs().maxCoeff() - discount * (v - best.value).cwiseAbs().maxCoeff());
      v = next;
    }
  }
  // The plain softmax gradient on a bandit: of order 1/t.
  {
    vector reward(10), logits = vector::Zero(10);
    for (Eigen::Index y = 0; y < 10; ++y) reward[y] = 0.1 * static_cast<double>(y);
    double at[2] = {};
    constexpr int from = 1 << 14, to = 1 << 17;
    for (int t = 1; t <= to; ++t) {
      const vector p = probabilities(log_softmax(logits));
      const double value = p.dot(reward);
      logits += 0.4 * (p.array() * (reward.array() - value)).matrix();
      if (t == from) at[0] = 0.9 - value;
      if (t == to) at[1] = 0.9 - value;
      if ((t & (t - 1)) == 0) out.plain.x.push_back(t), out.plain.y.push_back(0.9 - value);
    }
    out.plain_slope = std::log(at[1] / at[0]) / std::log(static_cast<double>(to) / from);
  }
  return out;
}

outcome run(const laboratory& lab) {
  const auto all = lab.repeat(lab.repetitions(12, 4), [&](std::size_t i) { return measure(lab.numbers(i)); });
  result w = all[0];
  for (const result& r : all) {
    w.contraction = std::max(w.contraction, r.contraction), w.monotone = std::min(w.monotone, r.monotone);
    w.natural_excess = std::max(w.natural_excess, r.natural_excess),
    w.soft_excess = std::max(w.soft_excess, r.soft_excess);
    w.soft_iteration = std::max(w.soft_iteration, r.soft_iteration), w.bellman = std::max(w.bellman, r.bellman);
  }
  outcome out;
  out.checks = {
      identity("mirror descent with &eta;&beta; = 0.15: a round's range less 0.85 times the last, largest",
               w.contraction, 1e-12),
      at_most("natural gradient: gap beyond log A/(&eta;T) + 1/((1&minus;&gamma;)&sup2;T)", w.natural_excess, 0),
      at_least("and no state's value ever falls: smallest change", w.monotone, -1e-10),
      at_most("with entropy: |Q* &minus; Q<sub>t+1</sub>| beyond C&gamma;(1 &minus; &eta;&tau;)<sup>t</sup>",
              w.soft_excess, 0),
      identity("with the largest step: natural gradient less soft policy iteration", w.soft_iteration, 1e-11),
      at_most("soft value iteration: error beyond &gamma; times the last", w.bellman, 1e-12),
      close("plain policy gradient: slope of the gap in t, from 2<sup>14</sup> to 2<sup>17</sup>", w.plain_slope, -1,
            0.02)};
  out.plots = {
      {"One MDP of 6 states and 4 actions", "round", "largest gap of a state", {w.natural, w.bound}, true, true},
      {"A bandit of 10 arms", "round", "gap", {w.plain}, true, true}};
  return out;
}

}  // namespace

experiment e19_policy_gradient() {
  return {"E19",
          "Rates of policy gradients",
          "Mirror descent towards a reference contracts by exactly 1 &minus; &eta;&beta;; natural gradients keep to "
          "their 1/T and linear "
          "bounds; the plain softmax gradient is of order 1/t.",
          "Agarwal et al. 2019, arXiv 1908.00261; Cen et al. 2020, arXiv 2007.06558; Mei et al. 2020, arXiv 2005.06392",
          "<i>&pi;<sub>t+1</sub> &prop; &pi;<sub>t</sub><sup>1&minus;&eta;&tau;/(1&minus;&gamma;)</sup> "
          "e<sup>&eta;Q<sub>&tau;</sub>/(1&minus;&gamma;)</sup></i>",
          "Random MDPs of 6 states and 4 actions, discount 0.9, exact Q values; &tau; = 0.2. The plain gradient with "
          "step 0.4 on 10 "
          "arms worth 0 to 0.9.",
          run};
}

}  // namespace lab
