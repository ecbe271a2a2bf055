#pragma once
// Rewards from comparisons by maximum likelihood: Newton's method on the library's reward-model losses.

#include <Eigen/Cholesky>
#include <vector>

#include "rlhf/math/fields.hpp"
#include "rlhf/theory/log_linear.hpp"

namespace rlhf::inline v1::theory {

/// Comparisons with linear rewards: row i is phi(winner) - phi(loser), seen `count[i]` times (once where none is given).
struct comparisons {
  matrix difference;
  vector count = {};
  [[nodiscard]] double weight(Eigen::Index i) const { return count.size() > 0 ? count[i] : 1; }
  [[nodiscard]] double total() const { return count.size() > 0 ? count.sum() : static_cast<double>(difference.rows()); }
};

/// A count of wins W[a, b] (a preferred to b) as comparisons of unit vectors.
[[nodiscard]] inline comparisons comparisons_of(const matrix& wins) {
  detail::want(wins.rows() == wins.cols() && wins.rows() > 0, "comparisons_of", "the number of columns of wins",
               static_cast<double>(wins.cols()), "that of rows");
  const Eigen::Index n = wins.rows(), rows = (wins.array() > 0).count();
  comparisons out{matrix::Zero(rows, n), vector(rows)};
  Eigen::Index i = 0;
  for (Eigen::Index a = 0; a < n; ++a)
    for (Eigen::Index b = 0; b < n; ++b) {
      detail::want(wins(a, b) >= 0 && std::isfinite(wins(a, b)), "comparisons_of", "a count", wins(a, b), "0 or more");
      if (!(wins(a, b) > 0)) continue;
      out.difference(i, a) += 1;
      out.difference(i, b) -= 1;
      out.count[i++] = wins(a, b);
    }
  return out;
}

/// Where every response is reached from every other along "beat": only then does the likelihood of a free score for each
/// response have a maximum. Source: Ford 1957; Hunter 2004, assumption 1.
[[nodiscard]] inline bool strongly_connected(const matrix& wins) {
  const auto reaches_all = [&](bool forward) {
    std::vector<char> seen(static_cast<std::size_t>(wins.rows()), 0);
    std::vector<Eigen::Index> open{0};
    seen[0] = 1;
    std::size_t count = 1;
    while (!open.empty()) {
      const Eigen::Index a = open.back();
      open.pop_back();
      for (Eigen::Index b = 0; b < wins.rows(); ++b)
        if ((forward ? wins(a, b) : wins(b, a)) > 0 && !detail::at(seen, b)) {
          detail::at(seen, b) = 1;
          ++count;
          open.push_back(b);
        }
    }
    return count == seen.size();
  };
  return wins.rows() > 0 && reaches_all(true) && reaches_all(false);
}

/// How a fit ended. `diverged`: the data are separated, some direction lowers the loss for ever and there is no maximum; what
/// is in theta then is only where the search stopped.
struct fitted_reward {
  vector theta;
  double loss = 0;           ///< mean over the comparisons, with the ridge
  matrix curvature;          ///< second derivatives of the mean loss, with the ridge
  double gradient_norm = 0;  ///< largest element
  int steps = 0;
  bool converged = false;
  bool diverged = false;
};

struct fit_options {
  double ridge = 0;  ///< lambda of + lambda/2 |theta|^2 beside the MEAN loss
  double tolerance = 1e-11;
  int most = 100;
};

namespace detail {

/// Damped Newton for a convex function given as f(theta) -> {loss, gradient, hessian}. `recedes(d)` says whether moving along d
/// can never raise the loss.
template <class F, class Recedes>
[[nodiscard]] fitted_reward newton(F&& f, Recedes&& recedes, vector start, const fit_options& options) {
  want(options.ridge >= 0, "fit", "ridge", options.ridge, "0 or more");
  fitted_reward out;
  out.theta = std::move(start);
  auto [loss, gradient, hessian] = f(out.theta);
  for (;; ++out.steps) {
    out.loss = loss;
    out.curvature = hessian;
    out.gradient_norm = gradient.cwiseAbs().maxCoeff();
    out.converged = out.gradient_norm <= options.tolerance;
    const vector step = log_linear::pseudo_solve(hessian, gradient);
    // A minimum at infinity: the gradient vanishes there too, but the step does not, and it never meets resistance.
    if (options.ridge == 0 && out.theta.cwiseAbs().maxCoeff() > 0 && (recedes(out.theta) || recedes(vector(-step)))) {
      out.diverged = true;
      out.converged = false;
      return out;
    }
    if (out.converged || out.steps >= options.most) return out;
    double share = 1;
    for (;; share /= 2) {
      vector next = out.theta - share * step;
      auto there = f(next);
      const bool lower = there.loss < loss || there.gradient.cwiseAbs().maxCoeff() < out.gradient_norm;
      if (!lower && share < 1e-10) return out;
      if (!lower) continue;
      out.theta = std::move(next);
      loss = there.loss, gradient = std::move(there.gradient), hessian = std::move(there.hessian);
      break;
    }
  }
}

struct likelihood {
  double loss;
  vector gradient;
  matrix hessian;
};

}  // namespace detail

/// Maximum likelihood of linear rewards under a reward-model loss (bradley_terry, thurstone, ...).
///
/// Separated data are found: `diverged` is set where a direction d has <x_i, d> >= 0 for all comparisons and > 0 for one, the
/// exact condition under which Bradley and Terry's likelihood has no maximum (Albert and Anderson 1984). With a ridge a
/// maximum always exists.
template <score_objective Loss>
[[nodiscard]] fitted_reward fit_reward(const Loss& loss, const comparisons& data, const fit_options& options = {}) {
  or_throw(check_of(loss));
  const matrix& x = data.difference;
  detail::want(x.rows() >= 1 && x.cols() >= 1, "fit_reward", "the number of comparisons", static_cast<double>(x.rows()),
               "at least 1");
  detail::want(x.allFinite(), "fit_reward", "a difference of features", not_a_number, "a finite number");
  if (data.count.size() > 0)
    detail::want_size(static_cast<std::size_t>(data.count.size()), x.rows(), "fit_reward", "count");
  const double total = data.total();
  using second = dual<dual<double>>;
  const auto f = [&](const vector& theta) {
    const vector margin = x * theta;
    vector slope(x.rows()), bend(x.rows());
    double sum = 0;
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
      score_pair<second> p;
      p.chosen = second::variable(dual<double>::variable(margin[i], 0), 0);
      p.rejected = second(dual<double>(0.0));
      p.probability = dual<double>(1.0);
      const second l = loss(p);
      const double w = data.weight(i) / total;
      sum += w * l.value.value;
      slope[i] = w * l.partial[0].value;
      bend[i] = w * l.partial[0].partial[0];
    }
    detail::likelihood out{sum + options.ridge / 2 * theta.squaredNorm(), x.transpose() * slope + options.ridge * theta,
                           x.transpose() * bend.asDiagonal() * x};
    out.hessian.diagonal().array() += options.ridge;
    return out;
  };
  const auto recedes = [&](const vector& d) {
    const vector along = x * d;
    const double size = along.cwiseAbs().maxCoeff();
    return size > 0 && along.minCoeff() >= -1e-9 * size;
  };
  return detail::newton(f, recedes, vector::Zero(x.cols()), options);
}

/// Scores of responses from wins, with sum 0. Refuses where no maximum exists and there is no ridge.
template <score_objective Loss>
[[nodiscard]] fitted_reward fit_scores(const Loss& loss, const matrix& wins, const fit_options& options = {}) {
  const comparisons data = comparisons_of(wins);
  if (options.ridge == 0 && !strongly_connected(wins))
    throw std::invalid_argument(
        "fit_scores: the graph of wins is not strongly connected, so no finite scores are most likely; wants "
        "comparisons "
        "that lead from every response to every other, or a ridge");
  return fit_reward(loss, data, options);
}

/// The same by minorisation: \f$ w_i\leftarrow W_i\big/\sum_j n_{ij}/(w_i+w_j) \f$, whose likelihood never falls. Scores log w
/// with sum 0. Source: Zermelo 1929; Hunter 2004, Annals of Statistics 32, 384. Calls watch(scores) after each sweep.
template <class Watch>
[[nodiscard]] vector fit_scores_by_minorisation(const matrix& wins, int sweeps, Watch&& watch) {
  if (!strongly_connected(wins))
    throw std::invalid_argument("fit_scores_by_minorisation: the graph of wins is not strongly connected");
  const Eigen::Index n = wins.rows();
  vector w = vector::Ones(n);
  for (int k = 0; k < sweeps; ++k) {
    for (Eigen::Index i = 0; i < n; ++i) {
      double sum = 0;
      for (Eigen::Index j = 0; j < n; ++j)
        if (j != i) sum += (wins(i, j) + wins(j, i)) / (w[i] + w[j]);
      w[i] = (wins.row(i).sum() - wins(i, i)) / sum;
    }
    w /= std::exp(w.array().log().mean());
    watch(vector(w.array().log()));
  }
  return w.array().log();
}

/// The most likely reward in the ball |theta| <= radius, where it always exists: the ridge that just keeps it there.
template <score_objective Loss>
[[nodiscard]] fitted_reward fit_reward_in_ball(const Loss& loss, const comparisons& data, double radius) {
  detail::want(radius > 0 && std::isfinite(radius), "fit_reward_in_ball", "radius", radius, "more than 0");
  fitted_reward free = fit_reward(loss, data);
  if (free.converged && free.theta.norm() <= radius) return free;
  double low = 0, high = 1;  // of the ridge
  while (fit_reward(loss, data, {.ridge = high}).theta.norm() > radius) high *= 4;
  fitted_reward out;
  for (int i = 0; i < 200 && high - low > 1e-14 * high; ++i) {
    const double middle = low > 0 ? std::sqrt(low * high) : high / 4;
    if (middle < 1e-12) {
      low = middle;
      continue;
    }
    out = fit_reward(loss, data, {.ridge = middle});
    (out.theta.norm() > radius ? low : high) = middle;
  }
  return fit_reward(loss, data, {.ridge = high});
}

}  // namespace rlhf::inline v1::theory
