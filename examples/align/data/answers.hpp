#pragma once
// The two answers of a row and the prompt they share, whether it stands apart, stands in them, or both.

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "align/data/dialogue.hpp"

namespace align {

struct answered_prompt {
  std::vector<turn> prompt = {};
  std::string chosen = {};
  std::string rejected = {};
};

/// The answers under `chosen` and `rejected`. With `has_prompt` they answer `prompt`; else the prompt is what both begin
/// with. Throws bad_row.
[[nodiscard]] answered_prompt answers_of(const nlohmann::json& row, std::vector<turn> prompt, bool has_prompt);

/// Whether a prompt is text that stands before its answers as it is.
[[nodiscard]] bool is_verbatim(std::span<const turn> prompt);
/// A prompt from text: verbatim, or the turns of a dialogue.
[[nodiscard]] std::vector<turn> text_prompt(const std::string& text);
/// Throws bad_row for messages that nobody could answer: none, or the assistant's last.
void check_prompt(std::span<const turn> prompt);

/// An answer in text as it follows to_text(prompt), which ends with the space that a dialogue has after `Assistant:`.
[[nodiscard]] std::string answer_text(std::span<const turn> prompt, const std::string& text);
/// An answer in messages, with or without the prompt before it. Throws bad_row, naming `key`.
[[nodiscard]] std::string answer_text(std::span<const turn> prompt, std::span<const turn> messages,
                                      const std::string& key);

}  // namespace align
