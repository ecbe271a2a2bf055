#pragma once
// Rewards from comparisons by maximum likelihood: Newton's method on the library's reward-model losses.

#include <Eigen/Cholesky>
#include <Eigen/IterativeLinearSolvers>
#include <Eigen/SparseCholesky>
#include <Eigen/SparseCore>
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

namespace detail {

/// Does a walk from item 0 come to all `items`? `neighbours(a, visit)` calls `visit(b)` for every b one step from a.
template <class Neighbours>
[[nodiscard]] bool reaches_all(Eigen::Index items, const Neighbours& neighbours) {
  std::vector<char> seen(static_cast<std::size_t>(items), 0);
  std::vector<Eigen::Index> open{0};
  seen[0] = 1;
  std::size_t count = 1;
  while (!open.empty()) {
    const Eigen::Index a = open.back();
    open.pop_back();
    neighbours(a, [&](Eigen::Index b) {
      if (at(seen, b)) return;
      at(seen, b) = 1;
      ++count;
      open.push_back(b);
    });
  }
  return count == seen.size();
}

}  // namespace detail

/// Where every response is reached from every other along "beat": only then does the likelihood of a free score for each
/// response have a maximum. Source: Ford 1957; Hunter 2004, assumption 1.
[[nodiscard]] inline bool strongly_connected(const matrix& wins) {
  const auto reaches_all = [&](bool forward) {
    return detail::reaches_all(wins.rows(), [&](Eigen::Index a, const auto& visit) {
      for (Eigen::Index b = 0; b < wins.rows(); ++b)
        if ((forward ? wins(a, b) : wins(b, a)) > 0) visit(b);
    });
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

/// How often `winner` was preferred to `loser`.
struct win_count {
  Eigen::Index winner = 0, loser = 0;
  double count = 0;
};

/// Counts of wins between many items of which few pairs ever met.
struct sparse_wins {
  Eigen::Index items = 0;
  std::vector<win_count> counts;

  void check() const {
    detail::want(items >= 1, "sparse_wins", "items", static_cast<double>(items), "at least 1");
    for (const win_count& w : counts) {
      detail::want(std::min(w.winner, w.loser) >= 0 && std::max(w.winner, w.loser) < items, "sparse_wins", "an item",
                   static_cast<double>(std::max(w.winner, w.loser)), "from 0 to items - 1");
      detail::want(w.count >= 0 && std::isfinite(w.count), "sparse_wins", "a count", w.count, "0 or more");
    }
  }
};

/// The same for counts by pairs, in time linear in their number.
[[nodiscard]] inline bool strongly_connected(const sparse_wins& wins) {
  const auto reaches_all = [&](bool forward) {
    std::vector<std::vector<Eigen::Index>> next(static_cast<std::size_t>(wins.items));
    for (const win_count& w : wins.counts)
      if (w.count > 0) detail::at(next, forward ? w.winner : w.loser).push_back(forward ? w.loser : w.winner);
    return detail::reaches_all(wins.items, [&](Eigen::Index a, const auto& visit) {
      for (const Eigen::Index b : detail::at(next, a)) visit(b);
    });
  };
  return wins.items > 0 && reaches_all(true) && reaches_all(false);
}

namespace detail {

/// The mean loss of scores, its gradient, and the second derivative of each pair; a graph's weighted Laplacian has them all.
template <class Loss>
struct score_likelihood {
  const Loss& loss_of;
  const sparse_wins& wins;
  double ridge, total;

  double loss = 0;
  vector gradient = {};
  std::vector<double> bend = {};

  void evaluate(const vector& theta) {
    using second = dual<dual<double>>;
    loss = ridge / 2 * theta.squaredNorm();
    gradient = ridge * theta;
    bend.clear();
    for (const win_count& w : wins.counts) {
      score_pair<second> p;
      p.chosen = second::variable(dual<double>::variable(theta[w.winner] - theta[w.loser], 0), 0);
      p.rejected = second(dual<double>(0.0));
      p.probability = dual<double>(1.0);
      const second l = loss_of(p);
      const double share = w.count / total;
      loss += share * l.value.value;
      gradient[w.winner] += share * l.partial[0].value;
      gradient[w.loser] -= share * l.partial[0].value;
      bend.push_back(share * l.partial[0].partial[0]);
    }
  }
  /// The second derivatives, without the first `held` items.
  [[nodiscard]] Eigen::SparseMatrix<double> laplacian(Eigen::Index held) const {
    const Eigen::Index n = wins.items - held;
    std::vector<Eigen::Triplet<double>> cells;
    for (Eigen::Index i = 0; i < n; ++i) cells.emplace_back(i, i, ridge);
    for (std::size_t k = 0; k < bend.size(); ++k) {
      const Eigen::Index a = wins.counts[k].winner - held, b = wins.counts[k].loser - held;
      if (a == b) continue;
      if (a >= 0) cells.emplace_back(a, a, bend[k]);
      if (b >= 0) cells.emplace_back(b, b, bend[k]);
      if (a >= 0 && b >= 0) cells.emplace_back(a, b, -bend[k]), cells.emplace_back(b, a, -bend[k]);
    }
    Eigen::SparseMatrix<double> out(n, n);
    out.setFromTriplets(cells.begin(), cells.end());
    return out;
  }
};

/// x of A x = b for A symmetric and positive: by Cholesky, dense or sparse; where the factor would be large by conjugate
/// gradients.
[[nodiscard]] inline vector solve_positive(const Eigen::SparseMatrix<double>& a, const vector& b) {
  const double n = static_cast<double>(a.rows()), cells = static_cast<double>(a.nonZeros());
  if (a.rows() == 0) return b;
  if (10 * cells > n * n && n <= 3000) return matrix(a).llt().solve(b);
  if (n <= 200 || cells <= 3.5 * n) {  // few edges fill in little
    const Eigen::SimplicialLDLT<Eigen::SparseMatrix<double>> factor(a);
    want(factor.info() == Eigen::Success, "fit_scores", "the smallest second derivative", 0, "more than 0");
    return factor.solve(b);
  }
  Eigen::ConjugateGradient<Eigen::SparseMatrix<double>, Eigen::Lower | Eigen::Upper> solver;
  solver.setTolerance(1e-10);  // a step that is not quite Newton's goes down too
  solver.compute(a);
  return solver.solve(b);
}

}  // namespace detail

/// Scores of items from counts by pairs, with sum 0, by damped Newton steps on the graph of comparisons: the second derivatives
/// are its weighted Laplacian, solved by Cholesky, where that fills in by conjugate gradients. Without a ridge item 0 is held.
/// Refuses where no maximum exists and there is no ridge. `curvature` stays empty: it would be items^2 numbers.
template <score_objective Loss>
[[nodiscard]] fitted_reward fit_scores(const Loss& loss, const sparse_wins& wins, const fit_options& options = {}) {
  or_throw(check_of(loss));
  wins.check();
  detail::want(options.ridge >= 0, "fit_scores", "ridge", options.ridge, "0 or more");
  double total = 0;
  for (const win_count& w : wins.counts) total += w.count;
  if (options.ridge == 0 && !strongly_connected(wins))
    throw std::invalid_argument(
        "fit_scores: the graph of wins is not strongly connected, so no finite scores are most likely; wants "
        "comparisons "
        "that lead from every response to every other, or a ridge");
  detail::want(total > 0 || wins.items == 1, "fit_scores", "the number of comparisons", total, "at least 1");
  const Eigen::Index n = wins.items, held = options.ridge > 0 ? 0 : 1;
  fitted_reward out;
  out.theta = vector::Zero(n);
  detail::score_likelihood<Loss> here{loss, wins, options.ridge, std::max(total, 1.0)}, there = here;
  here.evaluate(out.theta);
  for (;; ++out.steps) {
    out.loss = here.loss;
    out.gradient_norm = here.gradient.cwiseAbs().maxCoeff();
    out.converged = out.gradient_norm <= options.tolerance;
    if (out.converged || out.steps >= options.most) return out;
    vector step = vector::Zero(n);
    step.tail(n - held) = detail::solve_positive(here.laplacian(held), here.gradient.tail(n - held));
    if (held > 0) step.array() -= step.mean();
    for (double share = 1;; share /= 2) {
      const vector next = out.theta - share * step;
      there.evaluate(next);
      const bool lower = there.loss < here.loss || there.gradient.cwiseAbs().maxCoeff() < out.gradient_norm;
      if (!lower && share < 1e-10) return out;
      if (!lower) continue;
      out.theta = next;
      std::swap(here.loss, there.loss), here.gradient.swap(there.gradient), here.bend.swap(there.bend);
      break;
    }
  }
}

/// Scores of responses from a table of wins, with sum 0. Refuses where no maximum exists and there is no ridge.
template <score_objective Loss>
[[nodiscard]] fitted_reward fit_scores(const Loss& loss, const matrix& wins, const fit_options& options = {}) {
  detail::want(wins.rows() == wins.cols() && wins.rows() > 0, "fit_scores", "the number of columns of wins",
               static_cast<double>(wins.cols()), "that of rows");
  sparse_wins sparse{wins.rows(), {}};
  double total = 0;
  for (Eigen::Index a = 0; a < wins.rows(); ++a)
    for (Eigen::Index b = 0; b < wins.cols(); ++b)
      if (wins(a, b) != 0) sparse.counts.push_back({a, b, wins(a, b)}), total += wins(a, b);
  fitted_reward out = fit_scores(loss, sparse, options);
  detail::score_likelihood<Loss> at{loss, sparse, options.ridge, std::max(total, 1.0)};
  at.evaluate(out.theta);
  out.curvature = matrix(at.laplacian(0));
  return out;
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
