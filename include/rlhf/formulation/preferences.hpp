#pragma once
// Who compares responses, and how: oracles that give probabilities and draw labels with the caller's random numbers.

#include <algorithm>
#include <utility>
#include <vector>

#include "rlhf/formulation/check.hpp"
#include "rlhf/formulation/concepts.hpp"
#include "rlhf/math/fields.hpp"

namespace rlhf::inline v1 {

/// Scores and a model of comparisons: the probability of an outcome is e^-loss of the reward model's own loss, so that
/// `scored_preferences<bradley_terry>` labels as bradley_terry believes that people do; likewise thurstone, davidson and
/// rao_kupper (whose strength of ties is `tie`). One formula, read both ways.
///
/// Scores are a table [contexts, actions].
template <score_objective Loss>
class scored_preferences {
 public:
  scored_preferences(std::int64_t contexts, std::int64_t actions, std::vector<double> scores, Loss loss = {},
                     double tie = -infinity)
      : actions_(actions), scores_(std::move(scores)), loss_(loss), tie_(tie) {
    using namespace formulation_detail;
    want(contexts >= 1 && actions >= 1, "scored_preferences", "contexts or actions", 0, "at least 1");
    want_size(scores_.size(), contexts * actions, "scored_preferences", "scores");
    for (const double s : scores_) want(std::isfinite(s), "scored_preferences", "a score", s, "a finite number");
  }
  /// Of the outcome that gives the first response that many points: 1, 0 or, where the model knows ties, 1/2.
  [[nodiscard]] double outcome_probability(std::int64_t x, std::int64_t a, std::int64_t b, double points) const {
    score_pair<double> p{score(x, a), score(x, b), 0, points, tie_};
    if constexpr (!knows_ties) {
      if (points == 0) std::swap(p.chosen, p.rejected);  // its loss is that of the response that won
      p.probability = 1;
    }
    return std::exp(-loss_(p));
  }
  /// That a is preferred; a tie counts half.
  [[nodiscard]] double probability(std::int64_t x, std::int64_t a, std::int64_t b) const {
    if constexpr (knows_ties) return outcome_probability(x, a, b, 1) + 0.5 * outcome_probability(x, a, b, 0.5);
    return outcome_probability(x, a, b, 1);
  }
  [[nodiscard]] verdict compare(std::int64_t x, std::int64_t a, std::int64_t b, const random_numbers& numbers,
                                random_index at) const {
    const double u = numbers.uniform(at), won = outcome_probability(x, a, b, 1);
    if (u < won) return verdict::won;
    if constexpr (knows_ties)
      if (u < won + outcome_probability(x, a, b, 0.5)) return verdict::tied;
    return verdict::lost;
  }
  [[nodiscard]] double score(std::int64_t x, std::int64_t a) const {
    return formulation_detail::at(scores_, x * actions_ + a);
  }

 private:
  static constexpr bool knows_ties = (reads_of<Loss>() & field::tie) != 0;

  std::int64_t actions_;
  std::vector<double> scores_;
  Loss loss_;
  double tie_;
};

/// Any preferences at all, transitive or not: the matrix P[a, b] = P(a > b), P + P^T = 1, the same for every context.
class preference_matrix {
 public:
  preference_matrix(std::int64_t actions, std::vector<double> probabilities)
      : actions_(actions), probabilities_(std::move(probabilities)) {
    using namespace formulation_detail;
    want(actions >= 1, "preference_matrix", "actions", static_cast<double>(actions), "at least 1");
    want_size(probabilities_.size(), actions * actions, "preference_matrix", "probabilities");
    for (std::int64_t a = 0; a < actions; ++a)
      for (std::int64_t b = 0; b <= a; ++b) {
        const double p = at(probabilities_, a * actions + b), sum = p + at(probabilities_, b * actions + a);
        want(p >= 0 && p <= 1, "preference_matrix", "a probability", p, "between 0 and 1");
        want(std::fabs(sum - 1) <= 1e-12, "preference_matrix",
             "P[" + std::to_string(a) + "," + std::to_string(b) + "] + P[" + std::to_string(b) + "," +
                 std::to_string(a) + "]",
             sum, "1 (1/2 on the diagonal)");
      }
  }
  [[nodiscard]] std::int64_t actions() const { return actions_; }
  [[nodiscard]] std::span<const double> values() const { return probabilities_; }
  [[nodiscard]] double probability(std::int64_t, std::int64_t a, std::int64_t b) const {
    return formulation_detail::at(probabilities_, a * actions_ + b);
  }
  [[nodiscard]] verdict compare(std::int64_t x, std::int64_t a, std::int64_t b, const random_numbers& numbers,
                                random_index at) const {
    return numbers.uniform(at) < probability(x, a, b) ? verdict::won : verdict::lost;
  }

  /// Rock, paper, scissors: each beats the next with probability 1/2 + strength.
  [[nodiscard]] static preference_matrix cycle(std::int64_t actions, double strength) {
    std::vector<double> p(static_cast<std::size_t>(actions * actions), 0.5);
    for (std::int64_t a = 0; a < actions; ++a) {
      const std::int64_t b = (a + 1) % actions;
      if (actions < 3) break;
      formulation_detail::at(p, a * actions + b) = 0.5 + strength;
      formulation_detail::at(p, b * actions + a) = 0.5 - strength;
    }
    return {actions, std::move(p)};
  }

 private:
  std::int64_t actions_;
  std::vector<double> probabilities_;
};

/// A crowd: each comparison is made by an annotator drawn at random, who prefers what he rated higher among what he rated.
///
/// `ratings` [annotators, actions], NaN where there is none: real lists of ratings as they are. Equal ratings are a tie. Who
/// has not rated both is not asked; where nobody has, it is a tie. Crowds of transitive people may be intransitive.
class annotator_pool {
 public:
  annotator_pool(std::int64_t annotators, std::int64_t actions, std::vector<double> ratings)
      : annotators_(annotators), actions_(actions), ratings_(std::move(ratings)) {
    using namespace formulation_detail;
    want(annotators >= 1, "annotator_pool", "annotators", static_cast<double>(annotators), "at least 1");
    want(actions >= 1, "annotator_pool", "actions", static_cast<double>(actions), "at least 1");
    want_size(ratings_.size(), annotators * actions, "annotator_pool", "ratings");
    for (const double r : ratings_)
      want(!std::isinf(r), "annotator_pool", "a rating", r, "a number, or NaN where there is none");
  }
  [[nodiscard]] double probability(std::int64_t, std::int64_t a, std::int64_t b) const {
    double points = 0, asked = 0;
    for (std::int64_t who = 0; who < annotators_; ++who) {
      const double left = rating(who, a), right = rating(who, b);
      if (std::isnan(left) || std::isnan(right)) continue;
      points += left > right ? 1 : left < right ? 0 : 0.5;
      asked += 1;
    }
    return asked > 0 ? points / asked : 0.5;
  }
  [[nodiscard]] verdict compare(std::int64_t, std::int64_t a, std::int64_t b, const random_numbers& numbers,
                                random_index at) const {
    std::vector<std::int64_t> able;
    for (std::int64_t who = 0; who < annotators_; ++who)
      if (!std::isnan(rating(who, a)) && !std::isnan(rating(who, b))) able.push_back(who);
    if (able.empty()) return verdict::tied;
    const std::int64_t who = able[numbers.integer(static_cast<std::uint32_t>(able.size()), at)];
    const double left = rating(who, a), right = rating(who, b);
    return left > right ? verdict::won : left < right ? verdict::lost : verdict::tied;
  }

 private:
  [[nodiscard]] double rating(std::int64_t who, std::int64_t action) const {
    return formulation_detail::at(ratings_, who * actions_ + action);
  }
  std::int64_t annotators_, actions_;
  std::vector<double> ratings_;
};

static_assert(preference_oracle<preference_matrix> && preference_oracle<annotator_pool>);

/// A ranking from Plackett and Luce's model: the best drawn from the softmax of all scores, the next from that of the rest, ...
/// The first `size` places (0: all); element k draws at `at.draw` + k.
[[nodiscard]] inline std::vector<std::int64_t> plackett_luce_ranking(std::span<const double> scores,
                                                                     const random_numbers& numbers, random_index at,
                                                                     std::int64_t size = 0) {
  const auto n = static_cast<std::int64_t>(scores.size());
  formulation_detail::want(n >= 1, "plackett_luce_ranking", "the number of scores", static_cast<double>(n),
                           "at least 1");
  // The order of Gumbel-perturbed scores has exactly this law.
  std::vector<std::pair<double, std::int64_t>> keys;
  for (std::int64_t k = 0; k < n; ++k) {
    random_index own = at;
    own.draw += static_cast<std::uint32_t>(k);
    const double u = 1 - numbers.uniform(own);  // in (0, 1]
    keys.emplace_back(-scores[static_cast<std::size_t>(k)] + std::log(-std::log(u)), k);
  }
  std::sort(keys.begin(), keys.end());
  std::vector<std::int64_t> out;
  for (const auto& key : keys) out.push_back(key.second);
  if (size > 0 && size < n) out.resize(static_cast<std::size_t>(size));
  return out;
}

}  // namespace rlhf::inline v1
