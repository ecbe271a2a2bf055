#pragma once
// Preferences that need not be transitive as a game against oneself: minimax winners and their regularised cousins.

#include <vector>

#include "rlhf/formulation/preferences.hpp"
#include "rlhf/theory/mirror_descent.hpp"
#include "rlhf/theory/population.hpp"

namespace rlhf::inline v1::theory {

/// The symmetric game of a preference matrix: who plays y against y' wins with probability P[y, y'].
struct preference_game {
  matrix preference;

  explicit preference_game(matrix p) : preference(std::move(p)) {
    using namespace detail;
    want(preference.rows() == preference.cols() && preference.rows() > 0, "preference_game", "the number of columns",
         static_cast<double>(preference.cols()), "that of rows");
    const double skew = (preference + preference.transpose() - matrix::Ones(preference.rows(), preference.cols()))
                            .cwiseAbs()
                            .maxCoeff();
    want(skew <= 1e-12, "preference_game", "the largest |P + P^T - 1|", skew, "0");
  }
  explicit preference_game(const preference_matrix& p)
      : preference_game(matrix(Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
            p.values().data(), p.actions(), p.actions()))) {}

  [[nodiscard]] Eigen::Index actions() const { return preference.rows(); }
  /// How often each response wins against a policy.
  [[nodiscard]] vector win_rates(const vector& logp) const { return preference * probabilities(logp); }
  /// \f$ 2\,(\max_y P(y>\pi) - 1/2) \f$: what both players together could gain by deviating; 0 at a minimax winner.
  [[nodiscard]] double duality_gap(const vector& logp) const { return 2 * (win_rates(logp).maxCoeff() - 0.5); }

  /// \f$ \pi\propto\mu\,e^{P\pi/\tau} \f$ as a residual: the range of \f$ P\pi - \tau\log(\pi/\mu) \f$, 0 at the regularised Nash policy.
  [[nodiscard]] double nash_residual(const vector& logp, const vector& ref_logp, double tau) const {
    return range_of(win_rates(logp) - tau * (logp - ref_logp));
  }
  /// The Nash policy regularised by tau KL(.||mu) by damped iteration in logits, the damping taken back while it circles.
  /// Throws where it does not arrive.
  [[nodiscard]] vector regularised_nash(const vector& ref_logp, double tau, double tolerance = 1e-12) const {
    detail::want_beta(tau, "regularised_nash");
    detail::want_size(static_cast<std::size_t>(ref_logp.size()), actions(), "regularised_nash", "ref_logp");
    // A circle of angular speed w in log space is stable for step < 2 tau / (tau^2 + w^2), and w is at most 1/2.
    for (double damping = std::min(0.5, tau); damping > 1e-6; damping /= 2) {
      vector logp = ref_logp;
      for (int i = 0; i < static_cast<int>(200 / damping); ++i) {
        logp = log_softmax((1 - damping) * logp + damping * (ref_logp + win_rates(logp) / tau));
        if (nash_residual(logp, ref_logp, tau) <= tolerance * std::max(1.0, tau)) return logp;
      }
    }
    throw std::invalid_argument("regularised_nash: no fixed point within " + detail::text_of(tolerance) + " at tau " +
                                detail::text_of(tau));
  }
  /// A minimax winner: the average of optimistic self-play, until its duality gap is at most `tolerance`. Where that takes long,
  /// whom self-play still plays is asked: the policy over those alone against which each of them draws, by elimination.
  [[nodiscard]] vector minimax_winner(double tolerance = 1e-8, std::int64_t most = 2000000) const;

 private:
  /// The policy over the responses of at least this mass against which each of them wins one half, of smallest norm; empty
  /// where that is no policy.
  [[nodiscard]] vector drawn_against(const vector& mass, double least) const {
    std::vector<Eigen::Index> played;
    for (Eigen::Index y = 0; y < mass.size(); ++y)
      if (mass[y] >= least) played.push_back(y);
    const auto n = static_cast<Eigen::Index>(played.size());
    matrix system = matrix::Ones(n + 1, n);
    system.topRows(n) = preference(played, played).array() - 0.5;
    const vector p = log_linear::pseudo_solve(system, vector::Unit(n + 1, n));
    if (!(p.minCoeff() >= 0)) return {};
    vector out = vector::Zero(actions());
    out(played) = p / p.sum();
    return out.array().log();
  }
};

/// One player's state in optimistic multiplicative weights: the payoffs of the last round are counted twice less once.
/// With `optimism` 0 it is Hedge, plain multiplicative weights, whose last iterate circles.
/// Source: Rakhlin and Sridharan 2013, arXiv 1311.1869; Daskalakis and Panageas 2018, arXiv 1807.04252.
struct multiplicative_weights {
  double step = 0.1;
  double optimism = 1;
  vector logp;
  vector last_payoff = {};

  void play(const preference_game& game) {
    const vector payoff = game.win_rates(logp);
    const vector guess = last_payoff.size() > 0 ? vector(payoff + optimism * (payoff - last_payoff)) : payoff;
    logp = mirror_step{.step = step}(logp, guess);
    last_payoff = payoff;
  }
};

inline vector preference_game::minimax_winner(double tolerance, std::int64_t most) const {
  multiplicative_weights player{.step = 0.25, .optimism = 1, .logp = uniform_logp(actions())};
  vector sum = vector::Zero(actions());
  double weight = 0;
  for (std::int64_t t = 1; t <= most; ++t) {
    player.play(*this);
    sum += static_cast<double>(t) * probabilities(player.logp);  // later rounds count more
    weight += static_cast<double>(t);
    if (t % 64 != 0) continue;
    const vector average = (sum / weight).array().log();
    if (duality_gap(average) <= tolerance) return average;
    if (duality_gap(player.logp) <= tolerance) return player.logp;
    if ((t & (t - 1)) != 0) continue;  // at powers of two
    for (const double least : {1e-2, 1e-3, 1e-4, 1e-6})
      if (const vector p = drawn_against(probabilities(average), least); p.size() > 0 && duality_gap(p) <= tolerance)
        return p;
  }
  throw std::invalid_argument("minimax_winner: the duality gap is still above " + detail::text_of(tolerance) +
                              " after " + std::to_string(most) + " rounds");
}

/// Nash-MD: a step of mirror descent from, and against, the geometric mixture with the reference.
/// \f$ m_t\propto\pi_t^{1-\eta\tau}\mu^{\eta\tau},\ \pi_{t+1}\propto m_t e^{\eta P m_t} \f$.
/// Source: Munos et al. 2023, arXiv 2312.00886, equation 6.
[[nodiscard]] inline vector nash_md_step(const preference_game& game, const vector& logp, const vector& ref_logp,
                                         double tau, double step) {
  detail::want(step > 0 && step * tau <= 1, "nash_md_step", "step", step, "0 < step <= 1 / tau");
  const vector opponent = mixed(geometric_mixture(step * tau), logp, ref_logp);
  return mirror_step{.step = step}(opponent, game.win_rates(opponent));
}

/// Online mirror descent in self-play, the step that INPO's pair loss has as its population minimiser:
/// \f$ \pi_{t+1}\propto\pi_t^{1-\eta\tau}\mu^{\eta\tau}e^{\eta P\pi_t} \f$. Source: Zhang et al. 2024, arXiv 2407.00617.
[[nodiscard]] inline vector self_play_step(const preference_game& game, const vector& logp, const vector& ref_logp,
                                           double tau, double step) {
  return mirror_step{.step = step, .temperature = tau}(logp, game.win_rates(logp), ref_logp);
}

/// The largest constant step with which self_play_step settles, in a circle of angular speed w around the equilibrium:
/// \f$ 2\tau/(\tau^2+w^2) \f$; for rock, paper, scissors of strength c, w = c / sqrt 3.
[[nodiscard]] inline double largest_stable_step(double tau, double speed) {
  return 2 * tau / (tau * tau + speed * speed);
}

}  // namespace rlhf::inline v1::theory
