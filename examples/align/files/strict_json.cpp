#include "align/files/strict_json.hpp"

#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <vector>

#include "align/files/bytes.hpp"

namespace align {

nlohmann::json parse_strictly(std::string_view text, const std::string& name, int depth) {
  using json = nlohmann::json;
  std::vector<std::set<std::string>> keys;  // of the objects and arrays that are open
  const auto watch = [&](int, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (static_cast<int>(keys.size()) == depth)
          throw std::runtime_error(name + ": JSON is nested deeper than " + std::to_string(depth));
        keys.emplace_back();
        break;
      case json::parse_event_t::object_end:
      case json::parse_event_t::array_end:
        keys.pop_back();
        break;
      case json::parse_event_t::key: {
        const auto& key = value.get_ref<const std::string&>();
        if (!keys.back().insert(key).second)
          throw std::runtime_error(name + ": \"" + shown(key) + "\" is given twice in one JSON object");
        break;
      }
      case json::parse_event_t::value:
        break;
    }
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::exception& problem) {
    // Without the library's number of the error, and of a long line only its beginning.
    const std::string what = problem.what();
    const std::size_t end = what.find("] ");
    throw std::runtime_error(name + ": no JSON: " + shown(end == std::string::npos ? what : what.substr(end + 2)));
  }
}

}  // namespace align
