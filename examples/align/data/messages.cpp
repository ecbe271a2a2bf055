#include "align/data/messages.hpp"

#include <iterator>
#include <string_view>
#include <utility>

#include "align/data/row.hpp"

namespace align {

using nlohmann::json;

namespace {

std::string got(const json& value) { return std::string("got ") + value.type_name(); }

std::string role_of(const json& value, const std::string& key) {
  static constexpr std::pair<std::string_view, const char*> known[] = {
      {"user", "user"},        {"human", "user"},    {"prompter", "user"},   {"assistant", "assistant"},
      {"gpt", "assistant"},    {"bot", "assistant"}, {"model", "assistant"}, {"system", "system"},
      {"developer", "system"}, {"tool", "tool"},     {"observation", "tool"}};
  const std::string role = text_of(value, key);
  for (const auto& [name, meaning] : known)
    if (role == name) return meaning;
  throw bad_row(key + " is unknown", "got " + role.substr(0, 40) + ", wants user, assistant, system or tool");
}

/// Text, or the texts of a list of parts, one after the other.
std::string content_of(const json& value, const std::string& key) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) throw bad_row(key + " has the wrong type", got(value) + ", wants text");
  std::string content;
  for (const json& part : value) {
    const json* type = part.is_object() ? optional(part, "type") : nullptr;
    if (type == nullptr || *type != "text")
      throw bad_row(key + " has a part that is no text", "wants parts of type text");
    content += text_of(required(part, "text"), key + " part");
  }
  return content;
}

turn turn_of(const json& value, const std::string& key) {
  if (!value.is_object()) throw bad_row(key + " holds no message", got(value) + ", wants an object");
  const bool share_gpt = value.contains("from") && !value.contains("role");
  const char* const role = share_gpt ? "from" : "role";
  const char* const content = share_gpt ? "value" : "content";
  for (const char* const name : {role, content})
    if (!value.contains(name))
      throw bad_row(key + " has a message without " + name, "wants role and content, or from and value");
  return {role_of(value.at(role), key + " " + role), content_of(value.at(content), key + " " + content)};
}

}  // namespace

const json& required(const json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end()) throw bad_row(std::string(key) + " is missing");
  return *found;
}

const json* optional(const json& row, const char* key) {
  const auto found = row.find(key);
  return found == row.end() || found->is_null() ? nullptr : &*found;
}

std::string text_of(const json& value, const std::string& key) {
  if (!value.is_string()) throw bad_row(key + " has the wrong type", got(value) + ", wants text");
  return value.get<std::string>();
}

std::vector<turn> turns_of(const json& value, const std::string& key) {
  if (value.is_object()) return {turn_of(value, key)};
  if (!value.is_array()) throw bad_row(key + " has the wrong type", got(value) + ", wants a list of messages");
  std::vector<turn> turns;
  for (const json& message : value) turns.push_back(turn_of(message, key));
  if (turns.empty()) throw bad_row(key + " is an empty list", "wants messages");
  return turns;
}

}  // namespace align
