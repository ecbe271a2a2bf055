#pragma once
// Human preferences as users bring them: pairs of responses, or single responses with a label, in the forms of the usual
// trainers and data sets. docs/preference-data.md shows each with an example.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "align/data/dialogue.hpp"

namespace align {

/// Two responses to one prompt, of which people prefer the first; or neither, where ties are kept.
struct preference {
  std::vector<turn> prompt = {};
  std::string chosen = {};
  std::string rejected = {};
  std::optional<double> margin = {};  ///< `margin`, or score_chosen - score_rejected, where the data have them
  double agreement = 1;  ///< the share of the votes that went to `chosen`, ties half; 1 where none are told; 1/2: a tie
  std::int64_t line = 0;  ///< where the row begins in its file

  /// No majority for either: `chosen` is the first one of the row.
  [[nodiscard]] bool tied() const { return agreement == 0.5; }
};

/// One response to a prompt, which people find good or not.
struct labelled {
  std::vector<turn> prompt = {};
  std::string response = {};
  bool desirable = false;
  std::int64_t line = 0;
};

/// Rows that were left out for one reason.
struct skipped_rows {
  std::int64_t count = 0;
  std::int64_t first_line = 0;
  std::string first_message = {};
};

/// What a file holds.
struct preference_data {
  std::vector<preference> pairs = {};
  std::vector<labelled> singles = {};
  std::int64_t rows = 0;
  std::int64_t ties = 0;                             ///< rows without a majority for a response
  std::map<std::string, std::int64_t> forms = {};    ///< rows of each form, by the names of the documentation
  std::map<std::string, skipped_rows> skipped = {};  ///< with skip_bad: malformed rows, by reason
};

struct reading_options {
  bool skip_bad = false;   ///< count malformed rows instead of stopping at the first
  bool keep_ties = false;  ///< rows without a majority are pairs too, tied ones; else they give none
};

/// Reads JSON lines, or one JSON array, plain or gzip; the form is found out row by row. Throws std::runtime_error:
/// "FILE:LINE: reason (what the row has, what it should)" for a malformed row unless `skip_bad`, and always for a file that
/// cannot be read, damaged gzip data, an array that is not well put together, and a row over 64 MiB.
[[nodiscard]] preference_data read_preferences(const std::string& path, const reading_options& options = {});

/// The same from memory; `name` stands in messages.
[[nodiscard]] preference_data parse_preferences(std::string_view bytes, const std::string& name,
                                                const reading_options& options = {});

}  // namespace align
