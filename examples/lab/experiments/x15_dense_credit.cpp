// X15: what a reward for every token is good for, and when it is good for nothing.

#include "lab/advantages.hpp"
#include "lab/support.hpp"
#include "rlhf/reward/shaping.hpp"

namespace lab {
namespace {

using namespace rlhf;
using namespace rlhf::theory;

/// A tree, its soft-optimal policy in the role of the DPO policy, and RTO's reward from it.
struct problem {
  token_mdp mdp;
  table ref, dense, sparse;
  soft_solution best;

  problem(token_mdp tree, double beta)
      : mdp(std::move(tree)), ref(uniform_tokens(mdp)), best(soft_optimal(mdp, ref, beta)) {
    const rto_reward rto{.beta1 = beta, .beta2 = 0, .beta3 = 0, .clip = infinity};
    for (std::size_t c = 0; c < ref.size(); ++c) dense.push_back(rto.token_reward(best.policy[c], ref[c]));
    sparse.assign(ref.size(), 0.0);
    const std::vector<double> returns = over_responses(mdp, mdp.rewards());
    mdp.each_response([&](std::int64_t y, std::int64_t p, std::int64_t a) {
      sparse[static_cast<std::size_t>(mdp.cell(0, p, a))] = returns[static_cast<std::size_t>(y)];
    });
  }
  /// Calls f(cells, probability) for every response of the reference policy.
  template <class F>
  void each_path(F&& f) const {
    mdp.each_response([&](std::int64_t, std::int64_t prefix, std::int64_t last) {
      std::vector<std::int64_t> cells = {mdp.cell(0, prefix, last)};
      for (std::int64_t p = prefix; p > 0; p = mdp.parent(p))
        cells.insert(cells.begin(), mdp.cell(0, mdp.parent(p), mdp.last_token(p)));
      f(cells, std::exp(static_cast<double>(cells.size()) * ref[0]));
    });
  }
};

/// At each position one token, drawn by lot, is worth 1, and the other -1.
token_mdp by_position(const random_numbers& numbers, std::int64_t horizon) {
  token_mdp mdp(1, 2, horizon);
  std::vector<double> rewards;
  for (std::int64_t p = 0; p < mdp.prefixes(); ++p) {
    const double first = numbers.integer(2, {.position = static_cast<std::uint32_t>(mdp.length(p))}) == 0 ? 1 : -1;
    rewards.push_back(first);
    rewards.push_back(-first);
  }
  mdp.set_rewards(std::move(rewards));
  return mdp;
}

/// Variance of the one-sample policy gradient at the uniform policy with logits for each position, by enumeration.
double gradient_variance(const problem& p, const table& rewards, double lambda) {
  double second = 0;
  vector mean = vector::Zero(p.mdp.horizon() * p.mdp.vocabulary());
  p.each_path([&](const std::vector<std::int64_t>& cells, double probability) {
    std::vector<double> r, v(cells.size(), 0.0);
    for (const auto c : cells) r.push_back(rewards[static_cast<std::size_t>(c)]);
    const auto a = advantages(gae{1, lambda}, static_cast<std::int64_t>(cells.size()), r, v);
    double square = 0;
    for (std::size_t t = 0; t < cells.size(); ++t)
      for (std::int64_t k = 0; k < p.mdp.vocabulary(); ++k) {
        const bool chosen = cells[t] % p.mdp.vocabulary() == k;
        const double slope = a[t] * ((chosen ? 1.0 : 0.0) - std::exp(p.ref[0]));
        mean[static_cast<std::int64_t>(t) * p.mdp.vocabulary() + k] += probability * slope;
        square += slope * slope;
      }
    second += probability * square;
  });
  return second - mean.squaredNorm();
}

struct errors {
  double advantage = 0, mean = 0, control = 0;
};

errors compare(const random_numbers& numbers, double beta) {
  const problem p(random_tree(numbers, 2, 5), beta);
  errors out;
  // The soft advantage Q* - V* of every (s, a), against lambda = 0 with a critic that knows nothing.
  for (std::int64_t s = 0; s < p.mdp.prefixes(); ++s) {
    double under = 0;
    for (std::int64_t a = 0; a < p.mdp.vocabulary(); ++a) {
      const auto c = static_cast<std::size_t>(p.mdp.cell(0, s, a));
      const double after = p.mdp.completes(s, a) ? 0 : p.best.value[static_cast<std::size_t>(p.mdp.child(s, a))];
      const double soft = p.mdp.rewards()[c] + after - p.best.value[static_cast<std::size_t>(s)];
      const double found = advantages(gae{1, 0}, 1, {p.dense[c]}, {0.0})[0];
      out.advantage = std::max(out.advantage, std::fabs(found - soft));
      under += std::exp(p.best.policy[c]) * (soft - beta * (p.best.policy[c] - p.ref[c]));
    }
    out.mean = std::max(out.mean, std::fabs(under));  // E_{pi*}[Q* - V* - beta log pi*/ref] = 0
  }
  // The control: the same reward with a critic that is shifted with it is PPO on the plain reward, for every lambda.
  p.each_path([&](const std::vector<std::int64_t>& cells, double) {
    std::vector<double> plain, shaped, critic, shifted;
    for (const auto c : cells) {
      const auto s = static_cast<std::size_t>(c / p.mdp.vocabulary());
      plain.push_back(p.mdp.rewards()[static_cast<std::size_t>(c)]);
      shaped.push_back(p.dense[static_cast<std::size_t>(c)]);
      critic.push_back(numbers.normal({.sample = 9, .position = static_cast<std::uint32_t>(s)}));
      shifted.push_back(critic.back() - p.best.value[s]);
    }
    for (const double lambda : {0.0, 0.5, 0.95, 1.0}) {
      const auto length = static_cast<std::int64_t>(cells.size());
      const auto a = advantages(gae{1, lambda}, length, plain, critic),
                 b = advantages(gae{1, lambda}, length, shaped, shifted);
      for (std::size_t t = 0; t < a.size(); ++t) out.control = std::max(out.control, std::fabs(a[t] - b[t]));
    }
  });
  return out;
}

outcome run(const laboratory& lab) {
  const double betas[] = {0.3, 1.0};
  const auto exact = lab.repeat(40, [&](std::size_t i) { return compare(lab.numbers(i), betas[i % 2]); });
  errors worst;
  for (const errors& e : exact) {
    worst.advantage = std::max(worst.advantage, e.advantage);
    worst.mean = std::max(worst.mean, e.mean);
    worst.control = std::max(worst.control, e.control);
  }
  const std::vector<double> horizons = {2, 4, 6, 8, 10, 12};
  const double beta = 1, soft = beta * std::log(std::cosh(1 / beta));  // V(s) less V(s') at every position
  struct pairing {
    double dense = 0, sparse = 0;
  };
  const auto all = lab.repeat(static_cast<int>(horizons.size()), [&](std::size_t k) {
    const problem p(by_position(lab.numbers(100 + k), static_cast<std::int64_t>(horizons[k])), beta);
    return pairing{gradient_variance(p, p.dense, 0), gradient_variance(p, p.sparse, 1)};
  });
  curve dense{"token rewards, lambda 0", horizons, {}, false},
      sparse{"score at the end, lambda 1", horizons, {}, false};
  std::vector<double> less_one, ratio;
  double error = 0;
  for (std::size_t k = 0; k < all.size(); ++k) {
    const double h = horizons[k];
    error =
        std::max({error, std::fabs(all[k].sparse - h * (h - 1) / 2), std::fabs(all[k].dense - h * soft * soft / 2)});
    dense.y.push_back(all[k].dense), sparse.y.push_back(all[k].sparse);
    less_one.push_back(h - 1), ratio.push_back(all[k].sparse / all[k].dense);
  }
  outcome out;
  out.checks = {
      identity("token reward with no critic, &lambda; = 0: advantage less the soft advantage of &pi;*", worst.advantage,
               1e-12),
      identity("whose mean under &pi;*, less &beta; log(&pi;*/&pi;<sub>ref</sub>), is 0", worst.mean, 1e-12),
      identity("control: critic shifted with the reward, any &lambda;: change of an advantage", worst.control, 1e-12),
      identity("variances of the gradient less H(H &minus; 1)/2, score at the end, and Hc&sup2;/2, token rewards",
               error, 1e-10),
      close("slope of their ratio in H &minus; 1", log_slope(less_one, ratio), 1, 1e-9)};
  out.plots = {{"Variance of a one-sample gradient",
                "length H",
                "variance, summed over parameters",
                {sparse, dense},
                true,
                true}};
  out.note =
      "For the variances one of two tokens is worth 1 at each position and the other &minus;1, and the policy is "
      "uniform with logits "
      "for each position. The return R has E R&sup2; = H, and each of the H positions adds E R&sup2;/2 less the square "
      "of its mean "
      "gradient, 1/2: H(H &minus; 1)/2 in all. A token's reward is &plusmn;1 less c = &beta; log cosh(1/&beta;), does "
      "not see the "
      "other positions, and adds (1 + c&sup2;)/2 &minus; 1/2. The control is the other half of the truth: with a "
      "critic that knows "
      "the potential nothing is gained at all.";
  return out;
}

}  // namespace

experiment x15_dense_credit() {
  return {"X15",
          "Dense and sparse credit",
          "DPO's token rewards give every token its soft advantage without any critic; a score at the end needs "
          "&lambda; = 1, and its "
          "gradient's variance is larger by a factor that grows like the length.",
          "Zhong et al. 2024, arXiv 2404.18922; the control is derived",
          "<i>&beta; log &pi;*/&pi;<sub>ref</sub> (a|s) = Q*(s,a) &minus; V*(s)</i>",
          "Random trees over 2 tokens, rewards normal and independent, the soft-optimal policy in the role of DPO's; "
          "the policy to "
          "be improved is uniform. Variances by enumeration of all responses, lengths of 3 to 9.",
          run};
}

}  // namespace lab
