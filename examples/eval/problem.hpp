#pragma once
// A case as an op sees it: checked parameters, checked arrays, named extents.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "array.hpp"
#include "parameter.hpp"

namespace eval {

/// A declared input. `shapes` are its alternatives, each a list of extents by name ("B,T"; "" is a single number, "1"
/// is 1): the first input that has an extent says how large it is, the others must agree.
struct input {
  std::string name;
  std::vector<std::string> shapes;
  bool required = true;
};

using inputs = std::vector<input>;

[[nodiscard]] input required(std::string name, std::string shapes);  // alternatives with | between them
[[nodiscard]] input optional(std::string name, std::string shapes);

/// Everything an objective is called with. Asking for an array that is not declared throws std::logic_error.
class problem {
 public:
  /// Throws `failure` on a name that is not declared, a missing input, a shape that does not fit.
  problem(arguments settings, const inputs& declared, std::map<std::string, array> given);

  const arguments settings;

  [[nodiscard]] bool declares(const std::string& name) const;
  [[nodiscard]] bool has(const std::string& name) const;
  /// Throws `failure` where an array that is optional in general is missing.
  void demand(const std::string& name) const { (void)(*this)[name]; }
  [[nodiscard]] const array& operator[](const std::string& name) const;
  [[nodiscard]] const std::vector<double>& data(const std::string& name) const { return (*this)[name].data; }
  /// How large an extent is; 0 where no input has it.
  [[nodiscard]] std::int64_t extent(const std::string& symbol) const;

 private:
  std::map<std::string, array> arrays_;
  std::map<std::string, std::int64_t> extents_;
  std::vector<std::string> declared_;
};

}  // namespace eval
