#pragma once
// The parameters of an objective: declared once with their defaults, read by name.

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace eval {

/// What a parameter may be set to; monostate is null: the feature is off.
using setting = std::variant<std::monostate, double, bool, std::string, std::vector<double>, std::vector<std::string>>;

/// A declared parameter. Its name has dots where the case nests objects: `aggregation.mode`.
struct parameter {
  enum class kind { number, flag, word, interval, numbers, words };
  std::string name;
  kind type;
  setting fallback;  ///< what it is where the case does not say
  std::string meaning;
  std::vector<std::string> choices = {};  ///< the words it may be
  bool nullable = false;                  ///< may a case write null, which turns the feature off?
  bool required = false;
};

using parameters = std::vector<parameter>;

[[nodiscard]] parameter number(std::string name, double fallback, std::string meaning);
[[nodiscard]] parameter required_number(std::string name, std::string meaning);
/// A number that is null (off) unless given.
[[nodiscard]] parameter optional_number(std::string name, std::string meaning);
/// A number with a default that null turns off.
[[nodiscard]] parameter nullable_number(std::string name, double fallback, std::string meaning);
[[nodiscard]] parameter flag(std::string name, bool fallback, std::string meaning);
[[nodiscard]] parameter word(std::string name, std::string fallback, std::vector<std::string> choices,
                             std::string meaning);
/// A word that is null (off) unless given.
[[nodiscard]] parameter optional_word(std::string name, std::vector<std::string> choices, std::string meaning);
/// [low, high], null (off) unless given.
[[nodiscard]] parameter optional_interval(std::string name, std::string meaning);

/// A list, empty unless given.
[[nodiscard]] parameter list_of_numbers(std::string name, std::string meaning);
[[nodiscard]] parameter list_of_words(std::string name, std::string meaning);

/// One list after the other.
[[nodiscard]] parameters operator+(parameters a, const parameters& b);

/// A setting as a case would write it.
[[nodiscard]] std::string words(const setting& s);

/// The settings of a case, checked against a declaration. Asking for a name that is not declared is a mistake of this
/// program and throws std::logic_error.
class arguments {
 public:
  arguments() = default;
  /// Throws `failure` on a name that is not declared, a wrong type, an unknown word, a missing required parameter.
  arguments(const parameters& declared, const std::map<std::string, setting>& given);

  [[nodiscard]] bool given(const std::string& name) const;  ///< is it not null?
  [[nodiscard]] double number(const std::string& name) const;
  /// The number, or `off` where it is null.
  [[nodiscard]] double number_or(const std::string& name, double off) const;
  /// A number that must be whole, or `off` where it is null. Throws `failure`.
  [[nodiscard]] std::int64_t integer_or(const std::string& name, std::int64_t off) const;
  /// The number, or infinity where it is null: how this library turns a bound off.
  [[nodiscard]] double bound(const std::string& name) const {
    return number_or(name, std::numeric_limits<double>::infinity());
  }
  [[nodiscard]] bool flag(const std::string& name) const;
  [[nodiscard]] std::string word(const std::string& name) const;  ///< empty where it is null
  [[nodiscard]] std::vector<double> numbers(const std::string& name) const;
  [[nodiscard]] std::vector<std::string> list(const std::string& name) const;
  [[nodiscard]] double low(const std::string& name) const;  ///< of an interval; -infinity where it is null
  [[nodiscard]] double high(const std::string& name) const;

 private:
  [[nodiscard]] const setting& at(const std::string& name) const;
  std::map<std::string, setting> settings_;
};

}  // namespace eval
