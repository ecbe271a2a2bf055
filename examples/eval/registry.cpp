#include "registry.hpp"

#include <algorithm>

#include "failure.hpp"

namespace eval {

const objective& registry::find(const std::string& op, const std::string& name) const {
  std::vector<std::string> ops, names;
  for (const objective& row : rows_) {
    if (row.op == op && row.name == name) return row;
    if (std::find(ops.begin(), ops.end(), row.op) == ops.end()) ops.push_back(row.op);
    if (row.op == op) names.push_back(row.name);
  }
  if (names.empty()) throw failure{"unknown_op", text("op \"", op, "\" is unknown", hint(op, ops))};
  throw failure{"unknown_objective", text("objective \"", name, "\" of ", op, " is unknown", hint(name, names))};
}

}  // namespace eval
