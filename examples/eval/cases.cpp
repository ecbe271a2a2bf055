#include "cases.hpp"

#include <cmath>
#include <limits>

#include "failure.hpp"

namespace eval {

namespace {

bool read_number(const json& value, double& out) {
  if (value.is_number()) {
    out = value.get<double>();
  } else if (value.is_boolean()) {
    out = value.get<bool>() ? 1 : 0;
  } else if (value == "nan") {
    out = std::numeric_limits<double>::quiet_NaN();
  } else if (value == "inf" || value == "-inf") {
    out = value == "inf" ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  } else {
    return false;
  }
  return true;
}

/// Appends the numbers of `value`, whose nesting from `depth` on must be `shape`.
void flatten(const json& value, std::size_t depth, const std::string& name, array& out) {
  if (depth == out.shape.size()) {
    double x = 0;
    if (!read_number(value, x))
      throw failure{"shape", text(name, " is ", text_of(value), ", wants a number, \"nan\", \"inf\" or \"-inf\"")};
    out.data.push_back(x);
    return;
  }
  if (!value.is_array())
    throw failure{"shape",
                  text(name, " is ", text_of(value), ", wants an array of ", std::to_string(out.shape[depth]))};
  if (static_cast<std::int64_t>(value.size()) != out.shape[depth])
    throw failure{"shape", text(name, " has ", std::to_string(value.size()), " elements, wants ",
                                std::to_string(out.shape[depth]), " as ", name.substr(0, name.rfind('[')), "[0]")};
  for (std::size_t i = 0; i < value.size(); ++i)
    flatten(value[i], depth + 1, text(name, "[", std::to_string(i), "]"), out);
}

setting read_setting(const json& value, const std::string& name) {
  if (value.is_null()) return {};
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) {
    if (!value.empty() && value[0].is_string() && value[0] != "inf" && value[0] != "-inf") {
      std::vector<std::string> words;
      for (const json& element : value) {
        if (!element.is_string()) throw failure{"case", text(name, " holds ", text_of(element), " among strings")};
        words.push_back(element.get<std::string>());
      }
      return words;
    }
    std::vector<double> list;
    for (const json& element : value) {
      double x = 0;
      if (!read_number(element, x)) throw failure{"case", text(name, " holds ", text_of(element), ", wants numbers")};
      list.push_back(x);
    }
    return list;
  }
  throw failure{"case",
                text(name, " is ", text_of(value), ", wants a number, a string, true, false, null or [low, high]")};
}

/// Objects inside `params` become names with dots.
void read_settings(const json& params, const std::string& prefix, std::map<std::string, setting>& out) {
  for (const auto& [key, value] : params.items()) {
    if (value.is_object())
      read_settings(value, prefix + key + ".", out);
    else
      out[prefix + key] = read_setting(value, text("params.", prefix, key));
  }
}

const json& field(const json& object, const char* name, bool (json::*is)() const noexcept, const char* wants) {
  const auto found = object.find(name);
  if (found == object.end()) throw failure{"case", text(std::string("the case has no \""), name, "\"")};
  if (!(*found.*is)())
    throw failure{"case", text(std::string("\""), name, "\" is ", text_of(*found), ", wants ", wants)};
  return *found;
}

/// A number as JSON, or its name where JSON cannot write it.
json written(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  return x;
}

json nested(const array& a, std::size_t depth, std::size_t& at) {
  if (depth == a.shape.size()) return written(a.data[at++]);
  json out = json::array();
  for (std::int64_t i = 0; i < a.shape[depth]; ++i) out.push_back(nested(a, depth + 1, at));
  return out;
}

json object_of(const results::list& list) {
  json out = json::object();
  for (const auto& [name, value] : list) {
    std::size_t at = 0;
    out[name] = nested(value, 0, at);
  }
  return out;
}

}  // namespace

array read_array(const json& value, const std::string& name) {
  array out;
  for (const json* level = &value; level->is_array(); level = &level->front()) {
    out.shape.push_back(static_cast<std::int64_t>(level->size()));
    if (level->empty()) break;
  }
  flatten(value, 0, name, out);
  return out;
}

std::string text_of(const json& value) {
  // What is not UTF-8 in an input must not stop the output.
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

test_case read_case(const std::string& line, std::string& id) {
  json object;
  try {
    object = json::parse(line);
  } catch (const json::parse_error& e) {
    throw failure{"json", text("not JSON at byte ", std::to_string(e.byte))};
  } catch (const json::exception&) {
    throw failure{"json", "holds a number that no double can"};
  }
  if (!object.is_object()) throw failure{"case", text("the line is ", text_of(object), ", wants an object")};
  test_case out;
  out.id = id = field(object, "id", &json::is_string, "a string").get<std::string>();
  out.op = field(object, "op", &json::is_string, "a string").get<std::string>();
  out.objective = field(object, "objective", &json::is_string, "a string").get<std::string>();
  if (object.contains("params"))
    read_settings(field(object, "params", &json::is_object, "an object"), "", out.settings);
  for (const auto& [name, value] : field(object, "inputs", &json::is_object, "an object").items())
    out.arrays[name] = read_array(value, text("inputs.", name));
  if (object.contains("expect")) out.expect = field(object, "expect", &json::is_object, "an object");
  if (object.contains("tolerance"))
    out.tolerance = field(object, "tolerance", &json::is_number, "a number").get<double>();
  return out;
}

json write_results(const std::string& id, const results& r) {
  json outputs = object_of(r.outputs);
  if (!r.stats.empty()) outputs["stats"] = object_of(r.stats);
  json out = json::object();
  out["id"] = id;
  out["outputs"] = std::move(outputs);
  out["grad"] = object_of(r.gradients);
  return out;
}

}  // namespace eval
