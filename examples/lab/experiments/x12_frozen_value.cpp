// X12: DVPO's advantages from a frozen critic, as published, as released, and with the end put right.

#include "lab/advantages.hpp"
#include "lab/support.hpp"
#include "rlhf/objective/token.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

/// The released code's advantage in closed form: no reward, no value behind the end.
double closed_form(const std::vector<double>& v, std::size_t t, double lambda) {
  double sum = -v[t], weight = 1 - lambda;
  for (std::size_t k = t + 1; k < v.size(); ++k, weight *= lambda) sum += weight * v[k];
  return sum;
}

enum class mode { static_value, difference, gae_zero, gae_bootstrap };

/// A tree with scores in [0, 1] for whole responses, and the exact values of a behaviour policy as the frozen critic.
struct tree {
  static constexpr std::int64_t length = 4;
  token_mdp mdp{1, 3, length};
  table value;  // of every prefix, under the behaviour
  double best = 0;

  explicit tree(const random_numbers& numbers) {
    std::uint32_t next = 0;
    mdp.set_scores([&](std::int64_t, std::span<const std::int32_t>) {
      return numbers.uniform({.sample = 5, .position = next++});
    });
    value = policy_value(mdp, random_policy(mdp, numbers, 2, 0.5), mdp.rewards());
    for (const double s : over_responses(mdp, mdp.rewards())) best = std::max(best, s);
  }

  /// Expected gradient of ppo_clip at the policy itself, in its logits, with advantages of the given kind.
  [[nodiscard]] table gradient(const table& policy, mode how, double lambda) const {
    table out(policy.size(), 0.0);
    const std::vector<double> scores = over_responses(mdp, mdp.rewards());
    mdp.each_response([&](std::int64_t y, std::int64_t prefix, std::int64_t last) {
      std::int64_t path[length], token_at[length], p = prefix;
      token_at[length - 1] = last;
      for (std::int64_t t = length - 1; t >= 0; --t) {
        path[t] = p;
        if (t > 0) token_at[t - 1] = mdp.last_token(p), p = mdp.parent(p);
      }
      std::vector<double> v, none(length, 0.0);
      double logp = 0;
      for (std::int64_t t = 0; t < length; ++t) {
        v.push_back(value[static_cast<std::size_t>(path[t])]);
        logp += policy[static_cast<std::size_t>(mdp.cell(0, path[t], token_at[t]))];
      }
      const std::vector<double> after = {scores[static_cast<std::size_t>(y)]};
      const std::vector<double> a = how == mode::static_value ? advantages(action_value{}, length, none, v, after)
                                    : how == mode::difference ? advantages(gae{1, 0}, length, none, v, after)
                                    : how == mode::gae_zero   ? advantages(gae{1, lambda}, length, none, v)
                                                              : advantages(gae{1, lambda}, length, none, v, after);
      for (std::int64_t t = 0; t < length; ++t) {
        token<dual<double>> item;
        const double own = policy[static_cast<std::size_t>(mdp.cell(0, path[t], token_at[t]))];
        item.logp = dual<double>::variable(own, 0);
        item.old_logp = own;
        item.advantage = a[static_cast<std::size_t>(t)];
        const double slope = -std::exp(logp) * ppo_clip{}(item).partial[0];
        for (std::int64_t k = 0; k < mdp.vocabulary(); ++k) {
          const auto c = static_cast<std::size_t>(mdp.cell(0, path[t], k));
          out[c] += slope * ((k == token_at[t] ? 1.0 : 0.0) - std::exp(policy[c]));
        }
      }
    });
    return out;
  }
  /// The expected score after gradient ascent, as a share of the way from the uniform policy to the best response.
  [[nodiscard]] double trained(mode how, double lambda, int steps) const {
    table logits(static_cast<std::size_t>(mdp.cells()), 0.0);
    const auto worth = [&] { return policy_value(mdp, token_softmax(mdp, logits), mdp.rewards())[0]; };
    const double start = worth();
    for (int i = 0; i < steps; ++i) {
      const table g = gradient(token_softmax(mdp, logits), how, lambda);
      for (std::size_t c = 0; c < g.size(); ++c) logits[c] += 20 * g[c];
    }
    return (worth() - start) / (best - start);
  }
};

outcome run(const laboratory& lab) {
  const auto errors = lab.repeat(100, [&](std::size_t i) {
    const auto v = normals(lab.numbers(i), 9, 1);
    const double lambdas[] = {0, 0.5, 0.95, 1}, lambda = lambdas[i % 4], end = lab.numbers(i).normal({.sample = 2});
    const std::vector<double> none(9, 0.0);
    const auto zero = advantages(gae{1, lambda}, 9, none, v), right = advantages(gae{1, 1}, 9, none, v, {end});
    double worst = 0;
    for (std::size_t t = 0; t < v.size(); ++t) {
      worst = std::max(worst, std::fabs(zero[t] - closed_form(v, t, lambda)));
      worst = std::max(worst, std::fabs(right[t] - (end - v[t])));
    }
    return worst;
  });

  const std::vector<double> lambdas = {0, 0.5, 0.8, 0.95, 1};
  struct trained {
    std::vector<double> zero, bootstrap;
    double fixed = 0, difference = 0, vanishing = 0;
  };
  const auto all = lab.repeat(lab.repetitions(24, 10), [&](std::size_t i) {
    const tree problem(lab.numbers(500 + i));
    trained t;
    for (const double lambda : lambdas) {
      t.zero.push_back(problem.trained(mode::gae_zero, lambda, 60));
      t.bootstrap.push_back(problem.trained(mode::gae_bootstrap, lambda, 60));
    }
    t.fixed = problem.trained(mode::static_value, 0, 60);
    t.difference = problem.trained(mode::difference, 0, 60);
    const table even = uniform_tokens(problem.mdp);
    for (const double g : problem.gradient(even, mode::gae_zero, 1)) t.vanishing = std::max(t.vanishing, std::fabs(g));
    return t;
  });
  const auto gather = [&](auto&& pick) {
    std::vector<double> out;
    for (const trained& t : all) out.push_back(pick(t));
    return out;
  };
  const auto mean = [&](auto&& pick) { return estimate_of(gather(pick)).mean; };
  double vanishing = 0;
  for (const trained& t : all) vanishing = std::max(vanishing, t.vanishing);

  outcome out;
  out.checks = {
      identity("closed form of the released advantage, and Q<sub>end</sub> &minus; V<sub>t</sub> with the end's value",
               largest(errors), 1e-12),
      identity("&lambda; = 1 without the end's value: largest element of the expected gradient", vanishing, 1e-12),
      at_least("share of the possible gain after training: the end's value, &lambda; = 1",
               gather([](const trained& t) { return t.bootstrap[4]; }), 0.7),
      at_most("the released way, &lambda; = 1", gather([](const trained& t) { return t.zero[4]; }), 0.01),
      at_least("the end's value less the released way, &lambda; = 0.95",
               gather([](const trained& t) { return t.bootstrap[3] - t.zero[3]; }), 0.2),
      at_least("the released way gets worse: &lambda; = 0.5 less &lambda; = 0.95",
               gather([](const trained& t) { return t.zero[1] - t.zero[3]; }), 0.0),
      at_least("static value A<sub>t</sub> = V<sub>t+1</sub>, the paper's",
               gather([](const trained& t) { return t.fixed; }), 0.6)};
  curve zero{"no value behind the end (released)", lambdas, {}, false},
      bootstrap{"value behind the end", lambdas, {}, false}, fixed{"static V(t+1)", lambdas, {}, false},
      difference{"V(t+1) - V(t)", lambdas, {}, false};
  for (std::size_t k = 0; k < lambdas.size(); ++k) {
    zero.y.push_back(mean([&](const trained& t) { return t.zero[k]; }));
    bootstrap.y.push_back(mean([&](const trained& t) { return t.bootstrap[k]; }));
    fixed.y.push_back(mean([](const trained& t) { return t.fixed; }));
    difference.y.push_back(mean([](const trained& t) { return t.difference; }));
  }
  out.plots = {{"What training gains with a frozen critic",
                "lambda",
                "share of the possible gain",
                {bootstrap, zero, fixed, difference}}};
  out.note =
      "With &lambda; = 1 and nothing behind the end the advantage is &minus;V<sub>t</sub>, which does not depend on "
      "the token "
      "chosen: its expected gradient is 0, whatever the critic knows.";
  return out;
}

}  // namespace

experiment x12_frozen_value() {
  return {"X12",
          "The end of a frozen critic's response",
          "Advantages of a frozen critic with nothing behind the last token lose their signal as &lambda; grows, and "
          "all of it at "
          "&lambda; = 1; with the value behind the end they learn.",
          "Huang et al. 2025, arXiv 2502.16944, and its released code; the closed form is derived",
          "<i>A<sub>t</sub> = &minus;V<sub>t</sub> + (1&minus;&lambda;) &sum;<sub>l&ge;1</sub> "
          "&lambda;<sup>l&minus;1</sup> "
          "V<sub>t+l</sub></i> &nbsp; against &nbsp; <i>A<sub>t</sub> = Q<sub>end</sub> &minus; V<sub>t</sub></i>",
          "Closed forms on random values. Then trees of 3 tokens and 4 steps with uniform scores, a critic that is "
          "exact for a random "
          "behaviour policy and frozen, and 60 steps along the exact gradient of <code>ppo_clip</code>.",
          run};
}

}  // namespace lab
