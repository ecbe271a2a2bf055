#pragma once
// Distributionally robust objectives over few units, exactly: worst cases over all weights of a set, and learning against them.

#include "rlhf/objective/robust.hpp"
#include "rlhf/theory/population.hpp"

namespace rlhf::inline v1::theory {

/// The worst mean of losses over a set of weights, by the search that the set itself describes.
struct worst_mean_result {
  double value = 0;
  vector weight;    ///< that attain it, sum 1; the gradient in the losses where that exists
  double dual = 0;  ///< see the set
  /// Whether the set has bounds that matter here: `base` where it leaves the weights as they are (radius 0, or equal losses),
  /// `top_alone` where its radius is so large that the largest losses take all: a larger one changes nothing more.
  weight_search::answer found = weight_search::answer::open;
};

/// \f$ \sup_{w\in U(q)}\sum_s w_s l_s \f$ for U of tilted_mean (a penalty: of it tau KL is taken off), kl_ball, chi_square_ball or
/// conditional_value_at_risk around the weights `base`, which add up to 1. What has no weight gets none.
///
/// The same formulas as the driver `robust_aggregate`, without a backend: for exact problems of a few units.
template <class Set>
[[nodiscard]] worst_mean_result worst_mean(const Set& set, const vector& loss, const vector& base) {
  or_throw(set.check());
  detail::want_size(static_cast<std::size_t>(base.size()), loss.size(), "worst_mean", "base");
  detail::want_distribution(span_of(base), "worst_mean", "base");
  loss_survey survey{.mass = 1, .top = -infinity, .bottom = infinity};
  const Eigen::Index n = loss.size();
  for (Eigen::Index s = 0; s < n; ++s) {
    if (!(base[s] > 0)) continue;
    detail::want(std::isfinite(loss[s]), "worst_mean", "a loss", loss[s], "a finite number");
    survey.mean += base[s] * loss[s];
    survey.top = std::max(survey.top, loss[s]);
    survey.bottom = std::min(survey.bottom, loss[s]);
  }
  for (Eigen::Index s = 0; s < n; ++s) {
    if (!(base[s] > 0)) continue;
    survey.variance += base[s] * (loss[s] - survey.mean) * (loss[s] - survey.mean);
    if (loss[s] >= survey.top) survey.top_share += base[s];
  }
  weight_search search = set.start(survey);
  if constexpr (Set::steps > 0) {
    for (int k = 0; k < Set::steps && search.found == weight_search::answer::open; ++k) {
      weight_measure sum;
      for (Eigen::Index s = 0; s < n; ++s) {
        if (!(base[s] > 0)) continue;
        weight_measure one;
        set.measure(loss[s] - survey.top, search.x, one);
        for (int i = 0; i < 2; ++i) sum.sum[i] += base[s] * one.sum[i], sum.max[i] = std::max(sum.max[i], one.max[i]);
      }
      set.step(search, sum);
    }
  }
  worst_mean_result out{0, vector::Zero(n), set.dual(survey, search), search.found};
  double share = 1;  // of the factors, or the mass that is still to be given out
  if (search.found == weight_search::answer::base) {
    out.weight = base;
  } else if (search.found == weight_search::answer::top_alone) {
    for (Eigen::Index s = 0; s < n; ++s) out.weight[s] = loss[s] >= survey.top ? base[s] / survey.top_share : 0;
  } else if constexpr (Set::ties_in_order) {
    for (Eigen::Index s = 0; s < n; ++s)
      if (loss[s] - survey.top > search.high) share -= out.weight[s] = base[s] / set.alpha;
    for (Eigen::Index s = 0; s < n; ++s)
      if (loss[s] - survey.top == search.high && base[s] > 0)
        share -= out.weight[s] = std::max(0.0, std::min(share, base[s] / set.alpha));
    share = 1;
  } else {
    for (Eigen::Index s = 0; s < n; ++s)
      if (base[s] > 0) out.weight[s] = base[s] * set.factor(loss[s] - survey.top, search.x);
    share = out.weight.sum();
    out.weight /= share;
  }
  double weighted = 0;
  for (Eigen::Index s = 0; s < n; ++s)
    if (out.weight[s] > 0) weighted += out.weight[s] * loss[s];
  out.value = search.found == weight_search::answer::open ? set.value(survey, share, weighted) : weighted;
  return out;
}

/// What a policy is worth at least where responses are drawn not quite from it: \f$ \inf_{p\in U(\pi)}E_p r \f$, over all
/// responses to a prompt.
template <class Set>
[[nodiscard]] double worst_value(const Set& set, const vector& logp, const vector& reward) {
  return -worst_mean(set, -reward, probabilities(logp)).value;
}

/// The worst case over a chi-square ball in closed form, \f$ \bar l+\sqrt{2\rho\,\mathrm{Var}_q(l)} \f$. Units without weight in q
/// get none, whatever their loss. It holds while no other weight is 0, \f$ \rho\le\mathrm{Var}/(2(\bar l-\min l)^2) \f$; a larger radius is refused, since the formula then exceeds the worst case.
/// Source: Duchi and Namkoong 2019, JMLR 20(68), section 2.
[[nodiscard]] inline double variance_penalised_mean(double radius, const vector& loss, const vector& base) {
  detail::want_size(static_cast<std::size_t>(base.size()), loss.size(), "variance_penalised_mean", "base");
  detail::want_distribution(span_of(base), "variance_penalised_mean", "base");
  detail::want(radius >= 0, "variance_penalised_mean", "radius", radius, "0 or more");
  double mean = 0, variance = 0, lowest = infinity;
  for (Eigen::Index s = 0; s < loss.size(); ++s) {
    if (!(base[s] > 0)) continue;
    detail::want(std::isfinite(loss[s]), "variance_penalised_mean", "a loss", loss[s], "a finite number");
    mean += base[s] * loss[s];
    lowest = std::min(lowest, loss[s]);
  }
  for (Eigen::Index s = 0; s < loss.size(); ++s)
    if (base[s] > 0) variance += base[s] * (loss[s] - mean) * (loss[s] - mean);
  const double room = mean - lowest;
  if (room > 0 && radius > variance / (2 * room * room))
    detail::refuse(
        "variance_penalised_mean", "radius", radius,
        ("at most " + detail::text_of(variance / (2 * room * room)) + ", from where on a weight is 0").c_str());
  return mean + std::sqrt(2 * radius * variance);
}

/// Parameters that are best in the worst case, with a proof.
struct robust_solution {
  vector theta;
  vector loss;       ///< of each unit
  vector weight;     ///< a distribution within the set for which theta is best: with `loss` a saddle point
  double value = 0;  ///< the worst mean at theta
  double gap = 0;    ///< value less a lower bound on every parameter's worst case: theta is within this of the best
  weight_search::answer found =
      weight_search::answer::open;  ///< of the worst mean at theta: `base`: no radius, or all losses equal
  int rounds = 0;
  bool converged = false;
};

/// Minimises \f$ \sup_{w\in U(q)}\sum_s w_s l_s(\theta) \f$, as DRTO does with spans as units, for convex losses of few units.
/// `units(theta)` gives a population_loss in the parameters for each.
///
/// By the dual problem: \f$ D(w)=\min_\theta\sum_s w_s l_s(\theta) \f$ is concave with gradient l(theta(w)); w is a mean of
/// worst weights found on the way, and gives share from the least bad of them to those at theta(w) as far as D rises (Frank and
/// Wolfe, pairwise). The worst case at theta(w) less D(w) bounds what is lacking, whatever
/// the set, kinks of the worst case included: there the saddle point's weights are not the worst mean's own, but between them.
/// Source: Lacoste-Julien and Jaggi 2015, arXiv 1511.05932; for robust learning Jin et al. 2026, arXiv 2604.08577 (DRTO), whose exact set is not published.
template <class Set, class Units>
[[nodiscard]] robust_solution learn_robustly(const Set& set, const vector& base, const Units& units, vector theta,
                                             double tolerance = 1e-8, int most = 2000) {
  static_assert(Set::steps > 0,
                "rlhf: a penalty is smooth, minimise it as it is; learn_robustly wants a set with a radius or a share");
  detail::want(tolerance > 0, "learn_robustly", "tolerance", tolerance, "more than 0");
  detail::want_distribution(span_of(base), "learn_robustly", "base");
  const auto losses = [&](const vector& at) {
    const std::vector<population_loss> all = units(at);
    detail::want_size(all.size(), base.size(), "learn_robustly", "the units");
    vector out(base.size());
    for (Eigen::Index s = 0; s < out.size(); ++s) out[s] = detail::at(all, s).loss;
    return out;
  };
  const auto best_for = [&](const vector& weight, const vector& from) {
    const auto weighted = [&](const log_linear& p) {
      const std::vector<population_loss> all = units(p.theta);
      population_loss sum{0, vector::Zero(from.size()), matrix::Zero(from.size(), from.size())};
      for (Eigen::Index s = 0; s < weight.size(); ++s) {
        sum.loss += weight[s] * detail::at(all, s).loss;
        sum.gradient += weight[s] * detail::at(all, s).gradient;
        sum.hessian += weight[s] * detail::at(all, s).hessian;
      }
      return sum;
    };
    return minimise(weighted, log_linear{{}, from}, 1e-12).policy.theta;
  };
  struct part {
    vector weight;
    double share;
  };
  std::vector<part> parts{{base, 1}};
  robust_solution out;
  out.weight = base;
  out.theta = best_for(base, theta);
  for (;; ++out.rounds) {
    out.loss = losses(out.theta);
    const worst_mean_result worst = worst_mean(set, out.loss, base);
    out.value = worst.value;
    out.found = worst.found;
    out.gap = worst.value - out.weight.dot(out.loss);
    out.converged = out.gap <= tolerance * (1 + std::fabs(out.value));
    if (out.converged || out.rounds >= most) return out;
    // From the least bad of the weights that the mean is made of to the worst ones.
    std::size_t least = 0;
    for (std::size_t i = 1; i < parts.size(); ++i)
      if (parts[i].weight.dot(out.loss) < parts[least].weight.dot(out.loss)) least = i;
    const vector way = worst.weight - parts[least].weight;
    // D's slope along the way falls: bisect where it becomes 0.
    double low = 0, high = parts[least].share;
    vector there = best_for(out.weight + high * way, out.theta);
    if (way.dot(losses(there)) >= 0) low = high;
    while (high - low > 1e-15 * high) {
      const double middle = low + (high - low) / 2;
      if (!(middle > low && middle < high)) break;
      there = best_for(out.weight + middle * way, out.theta);
      (way.dot(losses(there)) >= 0 ? low : high) = middle;
    }
    if (!(low > 0)) return out;  // D does not rise any more in numbers
    parts[least].share -= low;
    parts.push_back({worst.weight, low});
    std::erase_if(parts, [](const part& p) { return !(p.share > 0); });
    out.weight.setZero();
    for (const part& p : parts) out.weight += p.share * p.weight;
    out.theta = best_for(out.weight, there);
  }
}

}  // namespace rlhf::inline v1::theory
