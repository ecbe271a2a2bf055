#pragma once
// A row of a data file as JSON, and what is said when it is none.

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace align {

/// What is wrong with a row: `reason()` is the same for all rows with the same fault and is what they are counted by;
/// `what()` adds in brackets what this row has.
class bad_row : public std::runtime_error {
 public:
  explicit bad_row(const std::string& reason, const std::string& detail = {})
      : std::runtime_error(detail.empty() ? reason : reason + " (" + detail + ")"), reason_(reason) {}
  [[nodiscard]] const std::string& reason() const { return reason_; }

 private:
  std::string reason_;
};

/// Bounds that no row of preferences comes near, and beyond which JSON is not parsed on.
inline constexpr int deepest_row = 64;
inline constexpr int most_values_in_row = 1'000'000;

/// The JSON object in `text`. Throws bad_row for text that is not UTF-8, is no JSON or no object, is nested too deeply, has
/// too many values, or gives a key twice in one object.
[[nodiscard]] nlohmann::json parse_row(std::string_view text);

}  // namespace align
