#pragma once
// Conversations in JSON: OpenAI's role and content, ShareGPT's from and value.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "align/data/dialogue.hpp"

namespace align {

/// The value of a key. Throws bad_row when it is missing.
[[nodiscard]] const nlohmann::json& required(const nlohmann::json& row, const char* key);
/// The value of a key; null when it is missing or null.
[[nodiscard]] const nlohmann::json* optional(const nlohmann::json& row, const char* key);

/// A string. Throws bad_row, naming `key`, for anything else.
[[nodiscard]] std::string text_of(const nlohmann::json& value, const std::string& key);

/// The turns of a list of messages, or of a single message. Content is text or a list of text parts. Throws bad_row,
/// naming `key`.
[[nodiscard]] std::vector<turn> turns_of(const nlohmann::json& value, const std::string& key);

}  // namespace align
