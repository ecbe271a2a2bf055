#include "align/data/row.hpp"

#include <set>
#include <vector>

#include "align/data/utf8.hpp"

namespace align {

using nlohmann::json;

nlohmann::json parse_row(std::string_view text) {
  if (const std::size_t at = first_invalid_utf8(text); at != std::string_view::npos)
    throw bad_row("not UTF-8", "byte " + std::to_string(at + 1) + " of the row");

  int values = 0;
  std::vector<std::set<std::string>> open;  // the keys of each object that is open
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth >= deepest_row) throw bad_row("nested too deeply", "wants at most " + std::to_string(deepest_row));
    if (++values > most_values_in_row)
      throw bad_row("too many values", "wants at most " + std::to_string(most_values_in_row));
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end) open.pop_back();
    if (event == json::parse_event_t::key && !open.back().insert(value.get<std::string>()).second)
      throw bad_row("a key stands twice in one object", value.get<std::string>().substr(0, 40));
    return true;
  };
  try {
    json row = json::parse(text, watch);
    if (!row.is_object()) throw bad_row("no JSON object", std::string("got ") + row.type_name());
    return row;
  } catch (const json::parse_error& error) {
    throw bad_row("no JSON", "stopped at byte " + std::to_string(error.byte) + " of the row");
  } catch (const json::exception&) {
    throw bad_row("no JSON", "a number is out of range");
  }
}

}  // namespace align
