#pragma once
// How well scores agree with people's preferences, and how much of that is length.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "align/data/calibration.hpp"

namespace align {

/// A share of pairs, ties counted half, with Wilson's interval of 95 %.
struct pair_share {
  std::int64_t pairs = 0;
  std::int64_t ties = 0;
  double share = 0;  ///< NaN without pairs, and the interval is [0, 1]
  double low = 0;
  double high = 1;
};

/// What `judge` finds. A score is right where the chosen response has the higher one.
struct judgement {
  pair_share accuracy = {};
  pair_share longer_wins = {};     ///< what "the longer one is better" would get; ties are pairs of equal length
  pair_share longer_chosen = {};   ///< accuracy where people chose the longer one
  pair_share shorter_chosen = {};  ///< accuracy where people chose the shorter one
  /// How far margins go with length differences: \f$ \sum d\,\ell / \sqrt{\sum d^2 \sum \ell^2} \f$, which does not depend on
  /// which of the two is called chosen. NaN when either is always 0.
  double length_correlation = 0;
  align::calibration calibration = {};
};

/// Judges scores [pairs] against lengths [pairs] in any unit. Calibration is of the probabilities that `law` makes of margins. Throws std::invalid_argument for no pairs, other sizes, or a
/// score that is not finite.
[[nodiscard]] judgement judge(std::span<const double> chosen, std::span<const double> rejected,
                              std::span<const std::int64_t> chosen_length,
                              std::span<const std::int64_t> rejected_length, const win_law& law = {});

/// Lines for a terminal. What is undefined is written `-`.
[[nodiscard]] std::string to_table(const judgement& found);
/// For a report. What is undefined or infinite is null.
[[nodiscard]] nlohmann::ordered_json to_json(const judgement& found);

}  // namespace align
