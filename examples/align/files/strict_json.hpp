#pragma once
// JSON out of files that nobody vouches for.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace align {

/// Parses a whole text. Nesting deeper than `depth`, a key given twice in one object, and whatever is no JSON are
/// std::runtime_error that begin with `name`.
[[nodiscard]] nlohmann::json parse_strictly(std::string_view text, const std::string& name, int depth);

}  // namespace align
