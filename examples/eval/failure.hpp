#pragma once
// What can be wrong with a case.

#include <string>
#include <vector>

namespace eval {

/// Strings one after the other.
template <class... Parts>
[[nodiscard]] std::string text(const Parts&... parts) {
  std::string out;
  (out.append(parts), ...);
  return out;
}

/// Thrown where a case cannot be evaluated: a short code for programs, words for people.
struct failure {
  std::string code;
  std::string message;
};

/// The known name that a mistyped one is closest to; empty where there is none.
[[nodiscard]] std::string nearest(const std::string& name, const std::vector<std::string>& known);

/// " (nearest known: x)", or nothing.
[[nodiscard]] std::string hint(const std::string& name, const std::vector<std::string>& known);

}  // namespace eval
