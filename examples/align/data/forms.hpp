#pragma once
// From one row of JSON to a preference: which form it has, and what it says.

#include <nlohmann/json.hpp>
#include <string>

#include "align/data/preferences.hpp"

namespace align {

/// Adds what a row says to `data`; a tie as a pair only where they are kept. Throws bad_row, and adds nothing then.
void read_form(const nlohmann::json& row, std::int64_t line, bool keep_ties, preference_data& data);

}  // namespace align
