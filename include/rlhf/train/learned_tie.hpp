#pragma once
// The number of a reward model that says how strong ties are, learned beside its scores.

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "rlhf/core/statistics.hpp"
#include "rlhf/core/throw.hpp"
#include "rlhf/math/fields.hpp"
#include "rlhf/math/functions.hpp"
#include "rlhf/train/optimizer.hpp"
#include "rlhf/train/pairs.hpp"
#include "rlhf/train/schedule.hpp"

namespace rlhf::inline v1 {

/// The field `tie` of davidson and rao_kupper as a loop learns it: one parameter x, any real, with an optimiser of its own.
///
/// The loss reads x itself as Davidson's \f$ \log\nu \f$, and \f$ \mathrm{softplus}(x) = \log(1+e^x) \f$, which is positive, as
/// Rao-Kupper's \f$ \log\theta \f$ (a formula whose number is positive says so by `positive_tie`). Then \f$ e^x \f$ is nu of the
/// one and theta - 1 of the other, and under both two responses with the same score tie with probability
/// \f$ e^x/(2+e^x) \f$. x is held in [-60, 60], where a float tells the number from 0 and infinity: data without ties push it
/// down without end, data of nothing but ties up.
/// `parameter` and the optimiser are state of the run: saved with the model's, it goes on to the same bits. A rate of 0 keeps
/// the number as it is.
/// Example: `learned_tie<> tie{.parameter = tie_start(pairs)};
///           train_reward_model(be, model, update, pairs, options, ignore_progress{}, reward_loss{davidson{}}, tie);`
template <class Schedule = constant_schedule>
struct learned_tie {
  float parameter = 0;  ///< x
  Schedule rate{};
  adamw optimiser{.options = {.weight_decay = 0}};

  static constexpr float lowest = -60, highest = 60;

  [[nodiscard]] std::span<float> parameters() { return {&parameter, 1}; }
  /// The probability that two responses with the same score tie.
  [[nodiscard]] double between_equals() const { return sigmoid(static_cast<double>(parameter) - std::log(2.0)); }
};

/// Where to begin: the parameter at which a tie of equals is as likely as ties are among these pairs,
/// \f$ \log\frac{2(t+1/2)}{n-t+1/2} \f$ with t ties of n pairs. For scores that are all the same it is the maximum of the
/// likelihood, but for the halves (Jeffreys' prior), which keep it finite with no ties and with nothing else. Pairs without
/// probabilities have no ties.
[[nodiscard]] inline float tie_start(const preference_pairs& pairs) {
  const auto ties = static_cast<double>(std::count(pairs.probability.begin(), pairs.probability.end(), 0.5f));
  const auto others = static_cast<double>(pairs.chosen.size()) - ties;
  return static_cast<float>(std::log(2 * (ties + 0.5) / (others + 0.5)));
}

/// No number of ties: the loss reads none.
struct no_tie {};

namespace tie_detail {

/// Does a loss of scores say that it reads the field `tie`? Of a reward_loss its objective says so.
template <class Loss>
[[nodiscard]] constexpr bool reads_tie() {
  if constexpr (requires { Loss::reads; })
    return (reads_of<Loss>() & field::tie) != 0;
  else if constexpr (requires(const Loss& loss) { loss.objective; })
    return reads_tie<decltype(Loss::objective)>();
  else
    return false;
}

/// Does it want the number positive?
template <class Loss>
[[nodiscard]] constexpr bool positive_tie() {
  if constexpr (requires { Loss::positive_tie; })
    return Loss::positive_tie;
  else if constexpr (requires(const Loss& loss) { loss.objective; })
    return positive_tie<decltype(Loss::objective)>();
  else
    return false;
}

/// The number as a loss reads it.
template <class Loss>
[[nodiscard]] float number_for(float parameter) {
  return positive_tie<Loss>() ? static_cast<float>(softplus(static_cast<double>(parameter))) : parameter;
}

/// Refuses a number that cannot be learned from, and pairs that do not say how they ended.
template <class Tie>
void check(const Tie& tie, const preference_pairs& pairs, const char* function) {
  if (!(tie.parameter >= Tie::lowest && tie.parameter <= Tie::highest))
    throw error(remark::argument(function, "tie.parameter", static_cast<double>(tie.parameter), "-60 to 60"));
  if (pairs.probability.empty()) throw error(remark::shape(function, "pairs.probability", 0, pairs.chosen.size()));
  preference_train_detail::check_numbers(
      pairs.probability, function, "pairs.probability", [](float p) { return p == 0 || p == 0.5f || p == 1; },
      "1 (won), 0 (lost) or 1/2 (a tie)");
}

/// A step against the slope in the number as the loss read it; one that is not finite is dropped.
template <class Loss, class Tie>
void step(Tie& tie, float slope) {
  if (positive_tie<Loss>()) slope *= static_cast<float>(sigmoid(static_cast<double>(tie.parameter)));
  if (std::isfinite(slope))
    tie.optimiser.step(tie.parameters(), std::span<const float>(&slope, 1), tie.rate(tie.optimiser.steps));
  tie.parameter = std::clamp(tie.parameter, Tie::lowest, Tie::highest);
}

/// What a loss told of pairs some of which are ties, put right: they count in no accuracy, and have a share of their own.
/// `probability` and scores [pairs], chosen before rejected.
inline void add_metrics(const statistics& of_loss, std::span<const float> probability, std::span<const float> scores,
                        float number, statistics& metrics) {
  double ties = 0, right = 0;
  const std::size_t n = probability.size();
  for (std::size_t i = 0; i < n; ++i) {
    const float p = probability[i], gap = scores[i] - scores[n + i];
    ties += p == 0.5f ? 1 : 0;
    right += (p == 1 && gap > 0) || (p == 0 && gap < 0) ? 1 : 0;
  }
  for (int i = 0; i < of_loss.size; ++i)
    if (!same_name(of_loss.entries[i].name, "accuracy")) metrics.add(of_loss.entries[i]);
  metrics.add("accuracy", right, static_cast<double>(n) - ties);
  metrics.add("tie", static_cast<double>(number), 1);
  metrics.add("tie_share", ties, static_cast<double>(n));
}

}  // namespace tie_detail

}  // namespace rlhf::inline v1
