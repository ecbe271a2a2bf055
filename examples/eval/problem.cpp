#include "problem.hpp"

#include <algorithm>
#include <stdexcept>

#include "failure.hpp"

namespace eval {

namespace {

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out;
  if (text.empty()) return out;
  std::size_t begin = 0;
  for (std::size_t end = text.find(at); end != std::string::npos; begin = end + 1, end = text.find(at, begin))
    out.push_back(text.substr(begin, end - begin));
  out.push_back(text.substr(begin));
  return out;
}

/// The extents of an alternative, with their sizes where they are known: "[B][T] = [4][5]".
std::string describe(const std::string& shape, const std::map<std::string, std::int64_t>& extents) {
  if (shape.empty()) return "a number";
  std::string names, sizes;
  for (const std::string& symbol : split(shape, ',')) {
    const auto found = extents.find(symbol);
    names += text("[", symbol, "]");
    sizes += text("[", found != extents.end() ? std::to_string(found->second) : symbol, "]");
  }
  return names == sizes ? names : names + " = " + sizes;
}

}  // namespace

input required(std::string name, std::string shapes) {
  return {std::move(name), shapes.empty() ? std::vector<std::string>{""} : split(shapes, '|'), true};
}
input optional(std::string name, std::string shapes) {
  return {std::move(name), shapes.empty() ? std::vector<std::string>{""} : split(shapes, '|'), false};
}

problem::problem(arguments settings_given, const inputs& declared, std::map<std::string, array> given)
    : settings(std::move(settings_given)), arrays_(std::move(given)) {
  for (const input& i : declared) declared_.push_back(i.name);
  extents_["1"] = 1;
  for (const auto& [name, value] : arrays_)
    if (std::find(declared_.begin(), declared_.end(), name) == declared_.end())
      throw failure{"unknown_input", text("inputs.", name, " is unknown", hint(name, declared_))};
  for (const input& i : declared) {
    const auto found = arrays_.find(i.name);
    if (found == arrays_.end()) {
      if (i.required) throw failure{"missing_input", text("inputs.", i.name, " is missing")};
      continue;
    }
    const std::vector<std::int64_t>& shape = found->second.shape;
    const auto fits = [&](const std::string& alternative) {
      const std::vector<std::string> symbols = split(alternative, ',');
      if (symbols.size() != shape.size()) return false;
      for (std::size_t k = 0; k < symbols.size(); ++k)
        if (extents_.contains(symbols[k]) && extents_[symbols[k]] != shape[k]) return false;
      return true;
    };
    const auto chosen = std::find_if(i.shapes.begin(), i.shapes.end(), fits);
    if (chosen == i.shapes.end()) {
      std::string wants;
      for (const std::string& s : i.shapes) wants += (wants.empty() ? "" : " or ") + describe(s, extents_);
      throw failure{"shape", text("inputs.", i.name, " is ", words(shape), ", wants ", wants)};
    }
    const std::vector<std::string> symbols = split(*chosen, ',');
    for (std::size_t k = 0; k < symbols.size(); ++k) extents_[symbols[k]] = shape[k];
  }
}

bool problem::declares(const std::string& name) const {
  return std::find(declared_.begin(), declared_.end(), name) != declared_.end();
}

bool problem::has(const std::string& name) const {
  if (!declares(name)) throw std::logic_error(text("rlhf-eval: input ", name, " is read but not declared"));
  return arrays_.contains(name);
}

const array& problem::operator[](const std::string& name) const {
  if (!has(name)) throw failure{"missing_input", text("inputs.", name, " is missing")};
  return arrays_.at(name);
}

std::int64_t problem::extent(const std::string& symbol) const {
  const auto found = extents_.find(symbol);
  return found == extents_.end() ? 0 : found->second;
}

}  // namespace eval
