#pragma once
// Conversations as turns and as plain text.

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace align {

/// What one side said. `role` is system, user, assistant or tool; an empty role marks text that is taken as it stands.
struct turn {
  std::string role = {};
  std::string content = {};

  friend bool operator==(const turn&, const turn&) = default;
};

/// A prompt as text for a model without a chat template of its own. Text that is no conversation stays as it is, byte for
/// byte. Turns are written `Human: ...`, `Assistant: ...`, `System: ...` and `Tool: ...` with a blank line between them, and
/// after the last one `Assistant: ` asks for the answer; the response follows at once:
///
///     System: Be brief.
///
///     Human: What is 2 + 2?
///
///     Assistant: 4
///
/// It is the form of the hh-rlhf data, without the blank line they begin with.
[[nodiscard]] std::string to_text(std::span<const turn> prompt);

/// Whether text is a dialogue in that form: it begins, after blank lines, with `Human:`.
[[nodiscard]] bool is_dialogue(std::string_view text);

/// The turns of a dialogue in text, blanks around each dropped. A speaker stands at the beginning of a line, after a blank
/// line if the text has that form anywhere (hh-rlhf), else after any line (OASST). A last `Assistant:` with nothing after it
/// is no turn.
[[nodiscard]] std::vector<turn> parse_dialogue(std::string_view text);

/// Where the responses begin in two texts without a prompt of their own. Of dialogues: after the last `Assistant:` that
/// stands in what both have in common. Of other texts: after the last whole word of what both have in common.
[[nodiscard]] std::size_t common_prompt(std::string_view chosen, std::string_view rejected);

/// What comes after the prompt when it is more than one turn: the first is the assistant's, the others follow in the form
/// of to_text.
[[nodiscard]] std::string response_text(std::span<const turn> turns);

}  // namespace align
