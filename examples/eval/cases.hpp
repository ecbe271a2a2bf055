#pragma once
// Cases from JSON lines, and results as JSON.

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "array.hpp"
#include "parameter.hpp"
#include "results.hpp"

namespace eval {

using json = nlohmann::ordered_json;

/// One line of a case file, read but not yet checked against an objective.
struct test_case {
  std::string id;
  std::string op;
  std::string objective;
  std::map<std::string, setting> settings;
  std::map<std::string, array> arrays;
  std::optional<json> expect;
  double tolerance = 1e-9;
};

/// Reads a line. `id` receives the case's id as soon as it is known. Throws `failure` (json, case, shape).
[[nodiscard]] test_case read_case(const std::string& line, std::string& id);

/// Nested numbers as an array; "nan", "inf" and "-inf" are numbers, true and false are 1 and 0. Throws `failure`.
[[nodiscard]] array read_array(const json& value, const std::string& name);

/// The results as `{"id", "outputs": {..., "stats": {...}}, "grad": {...}}`.
[[nodiscard]] json write_results(const std::string& id, const results& r);

/// One line of text; doubles with up to 17 digits, as many as it takes to read the same double again.
[[nodiscard]] std::string text_of(const json& value);

}  // namespace eval
