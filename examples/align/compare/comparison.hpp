#pragma once
// Algorithms held against each other: several of them run with several seeds, and what finished runs say together.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "align/compare/tuning.hpp"
#include "align/run/results.hpp"
#include "align/run/settings.hpp"

namespace align {

/// Chooses settings (tuning.hpp) where there are tries, runs each variant with each seed in a folder of its own
/// (comparison_runs.hpp) and joins them in report.html and the files beside it. What is finished stays; what was interrupted goes
/// on to the same bits. Throws std::runtime_error: a folder with a run of other settings, and what single runs throw.
void run_comparison(request asked);

/// Joins finished runs by method: copies of a curve count once, runs with other settings have a label of their own, made of the
/// name of their folder. Throws std::runtime_error: a folder without a finished run, runs of different tasks.
void write_comparison(const std::vector<std::string>& runs, const std::string& out);

/// A curve that takes part in a comparison, and what it is held against.
struct compared_curve {
  std::string method = {}, label = {}, title = {}, color = {};
  std::uint64_t seed = 0;
  std::vector<curve_point> points = {};            ///< from the start on; empty where nothing was sampled
  std::vector<curve_point> best_of_n = {};         ///< of the same start
  double deviation = 1;                            ///< of the start's rewards
  std::map<std::string, std::string> judged = {};  ///< how held-out preferences were ranked, as JSON
  std::optional<method_memory> memory = {};        ///< none: an earlier version's run, or nothing was trained
  std::int64_t peak = 0;                           ///< resident bytes; 0 where it is not known
};

struct comparison {
  std::string title = {}, unit = {};  ///< of the report; one response
  std::vector<compared_curve> curves = {};
  std::vector<std::string> folders = {};  ///< of the runs
  std::string settings = {};              ///< of all of them, for the reader; may be empty
  std::vector<tried> tuning = {};         ///< what settings were chosen among; may be empty
  double price = 0;                       ///< of a nat of KL: J is the reward less what the KL costs
  bool maximised = false;                 ///< J is what the first label maximises
};

/// Writes report.html, comparison.json, compare.csv (a line a label), curves.csv (means of all evaluations), report.json (all
/// points), preferences.csv where held-out preferences were ranked, and tuning.csv where settings were chosen, into `out`. Means
/// over seeds have 95 % intervals of Student's t. The first label is what the others are compared with.
void write_joined(const comparison& all, const std::string& out);

}  // namespace align
