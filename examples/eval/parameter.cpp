#include "parameter.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "failure.hpp"

namespace eval {

namespace {

std::string join(const std::vector<std::string>& list, const char* between) {
  std::string out;
  for (const std::string& s : list) {
    if (!out.empty()) out += between;
    out += s;
  }
  return out;
}

const char* wanted(parameter::kind type) {
  switch (type) {
    case parameter::kind::number:
      return "a number";
    case parameter::kind::flag:
      return "true or false";
    case parameter::kind::word:
      return "a string";
    case parameter::kind::interval:
      return "[low, high]";
    case parameter::kind::numbers:
      return "a list of numbers";
    case parameter::kind::words:
      return "a list of strings";
  }
  return "";
}

bool fits(parameter::kind type, const setting& s) {
  switch (type) {
    case parameter::kind::number:
      return std::holds_alternative<double>(s);
    case parameter::kind::flag:
      return std::holds_alternative<bool>(s);
    case parameter::kind::word:
      return std::holds_alternative<std::string>(s);
    case parameter::kind::interval:
      return std::holds_alternative<std::vector<double>>(s) && std::get<std::vector<double>>(s).size() == 2;
    case parameter::kind::numbers:
      return std::holds_alternative<std::vector<double>>(s);
    case parameter::kind::words:
      return std::holds_alternative<std::vector<std::string>>(s);
  }
  return false;
}

/// The numbers that JSON cannot write are written as words.
setting as_number(const setting& s) {
  const auto* word = std::get_if<std::string>(&s);
  if (word != nullptr && *word == "inf") return std::numeric_limits<double>::infinity();
  if (word != nullptr && *word == "-inf") return -std::numeric_limits<double>::infinity();
  return s;
}

/// Does the name stand for an object of parameters?
bool is_prefix(const std::string& name, const parameters& declared) {
  return std::any_of(declared.begin(), declared.end(),
                     [&](const parameter& p) { return p.name.compare(0, name.size() + 1, name + ".") == 0; });
}

}  // namespace

parameter number(std::string name, double fallback, std::string meaning) {
  return {std::move(name), parameter::kind::number, fallback, std::move(meaning)};
}
parameter required_number(std::string name, std::string meaning) {
  return {.name = std::move(name),
          .type = parameter::kind::number,
          .fallback = {},
          .meaning = std::move(meaning),
          .required = true};
}
parameter optional_number(std::string name, std::string meaning) {
  return {std::move(name), parameter::kind::number, {}, std::move(meaning), {}, true};
}
parameter nullable_number(std::string name, double fallback, std::string meaning) {
  return {std::move(name), parameter::kind::number, fallback, std::move(meaning), {}, true};
}
parameter flag(std::string name, bool fallback, std::string meaning) {
  return {std::move(name), parameter::kind::flag, fallback, std::move(meaning)};
}
parameter word(std::string name, std::string fallback, std::vector<std::string> choices, std::string meaning) {
  return {std::move(name), parameter::kind::word, std::move(fallback), std::move(meaning), std::move(choices)};
}
parameter optional_word(std::string name, std::vector<std::string> choices, std::string meaning) {
  return {std::move(name), parameter::kind::word, {}, std::move(meaning), std::move(choices), true};
}
parameter optional_interval(std::string name, std::string meaning) {
  return {std::move(name), parameter::kind::interval, {}, std::move(meaning), {}, true};
}

parameter list_of_numbers(std::string name, std::string meaning) {
  return {std::move(name), parameter::kind::numbers, std::vector<double>{}, std::move(meaning)};
}
parameter list_of_words(std::string name, std::string meaning) {
  return {std::move(name), parameter::kind::words, std::vector<std::string>{}, std::move(meaning)};
}

parameters operator+(parameters a, const parameters& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::string words(const setting& s) {
  if (const auto* x = std::get_if<double>(&s)) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", *x);
    return text;
  }
  if (const auto* b = std::get_if<bool>(&s)) return *b ? "true" : "false";
  if (const auto* w = std::get_if<std::string>(&s)) return '"' + *w + '"';
  if (const auto* v = std::get_if<std::vector<double>>(&s)) {
    std::string out;
    for (const double x : *v) out += (out.empty() ? "[" : ", ") + words(setting(x));
    return out.empty() ? "[]" : out + "]";
  }
  if (const auto* v = std::get_if<std::vector<std::string>>(&s)) return text("[\"", join(*v, "\", \""), "\"]");
  return "null";
}

arguments::arguments(const parameters& declared, const std::map<std::string, setting>& given) {
  std::vector<std::string> known;
  for (const parameter& p : declared) known.push_back(p.name);
  for (const auto& entry : given) {
    const std::string& name = entry.first;
    const setting& written = entry.second;
    if (std::holds_alternative<std::monostate>(written) && is_prefix(name, declared)) continue;  // "kl": null
    const auto found =
        std::find_if(declared.begin(), declared.end(), [&](const parameter& p) { return p.name == name; });
    if (found == declared.end())
      throw failure{"unknown_param", text("params.", name, " is unknown", hint(name, known))};
    const setting value = found->type == parameter::kind::number ? as_number(written) : written;
    const bool null = std::holds_alternative<std::monostate>(value);
    if (null ? !found->nullable : !fits(found->type, value))
      throw failure{"argument", text("params.", name, " is ", words(value), ", wants ", wanted(found->type))};
    if (const auto* word = std::get_if<std::string>(&value);
        word != nullptr && !found->choices.empty() &&
        std::find(found->choices.begin(), found->choices.end(), *word) == found->choices.end())
      throw failure{"argument",
                    text("params.", name, " is \"", *word, "\", wants one of ", join(found->choices, ", "))};
    settings_[name] = value;
  }
  for (const parameter& p : declared) {
    if (settings_.contains(p.name)) continue;
    if (p.required) throw failure{"argument", text("params.", p.name, " is missing, wants ", wanted(p.type))};
    settings_[p.name] = p.fallback;
  }
}

const setting& arguments::at(const std::string& name) const {
  const auto found = settings_.find(name);
  if (found == settings_.end())
    throw std::logic_error(text("rlhf-eval: parameter ", name, " is read but not declared"));
  return found->second;
}

bool arguments::given(const std::string& name) const { return !std::holds_alternative<std::monostate>(at(name)); }
double arguments::number(const std::string& name) const { return std::get<double>(at(name)); }
double arguments::number_or(const std::string& name, double off) const { return given(name) ? number(name) : off; }
std::int64_t arguments::integer_or(const std::string& name, std::int64_t off) const {
  if (!given(name)) return off;
  const double x = number(name);
  if (!(std::abs(x) < 0x1p53 && x == std::floor(x)))
    throw failure{"argument", text("params.", name, " is ", words(setting(x)), ", wants a whole number")};
  return static_cast<std::int64_t>(x);
}
bool arguments::flag(const std::string& name) const { return std::get<bool>(at(name)); }
std::string arguments::word(const std::string& name) const {
  return given(name) ? std::get<std::string>(at(name)) : "";
}
std::vector<double> arguments::numbers(const std::string& name) const {
  return std::get<std::vector<double>>(at(name));
}
std::vector<std::string> arguments::list(const std::string& name) const {
  return std::get<std::vector<std::string>>(at(name));
}
double arguments::low(const std::string& name) const {
  return given(name) ? std::get<std::vector<double>>(at(name))[0] : -std::numeric_limits<double>::infinity();
}
double arguments::high(const std::string& name) const {
  return given(name) ? std::get<std::vector<double>>(at(name))[1] : std::numeric_limits<double>::infinity();
}

}  // namespace eval
