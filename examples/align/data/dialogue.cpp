#include "align/data/dialogue.hpp"

#include <algorithm>

namespace align {

namespace {

constexpr std::string_view human = "Human:", assistant = "Assistant:", blanks = " \t\r\n";

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) + 1 - begin);
}

std::string_view speaker(std::string_view role) {
  return role == "system" ? "System:" : role == "tool" ? "Tool:" : role == "assistant" ? assistant : human;
}

void append_turn(std::string& text, const turn& t) {
  if (!text.empty()) text += "\n\n";
  text += speaker(t.role);
  text += ' ';
  text += t.content;
}

/// What stands before a speaker's name in this text.
std::string_view separator(std::string_view text) {
  const bool blank_lines = text.substr(0, 8) == "\n\nHuman:" || text.find("\n\nAssistant:") != std::string_view::npos;
  return blank_lines ? "\n\n" : "\n";
}

bool speaker_at(std::string_view text, std::size_t at, std::string_view who) {
  return text.substr(at, who.size()) == who;
}

}  // namespace

std::string to_text(std::span<const turn> prompt) {
  if (prompt.size() == 1 && prompt[0].role.empty()) return prompt[0].content;
  std::string text;
  for (const turn& t : prompt) append_turn(text, t);
  if (!prompt.empty()) append_turn(text, {"assistant", ""});
  return text;
}

std::string response_text(std::span<const turn> turns) {
  std::string text = turns.empty() ? std::string() : turns[0].content;
  for (std::size_t i = 1; i < turns.size(); ++i) {
    text += "\n\n";
    text += speaker(turns[i].role);
    text += ' ';
    text += turns[i].content;
  }
  return text;
}

bool is_dialogue(std::string_view text) {
  const std::size_t begin = text.find_first_not_of("\r\n");
  return begin != std::string_view::npos && speaker_at(text, begin, human);
}

std::vector<turn> parse_dialogue(std::string_view text) {
  const std::string_view between = separator(text);
  std::vector<turn> turns;
  std::size_t at = std::min(text.find_first_not_of("\r\n"), text.size());
  while (at < text.size()) {
    const bool theirs = speaker_at(text, at, human);
    const std::size_t begin = at + (theirs ? human : assistant).size();
    std::size_t end = text.find(between, begin);
    while (end != std::string_view::npos && !speaker_at(text, end + between.size(), human) &&
           !speaker_at(text, end + between.size(), assistant))
      end = text.find(between, end + 1);
    const bool last = end == std::string_view::npos;
    const std::string_view said = trimmed(text.substr(begin, last ? std::string_view::npos : end - begin));
    turns.push_back({theirs ? "user" : "assistant", std::string(said)});
    at = last ? text.size() : end + between.size();
  }
  if (!turns.empty() && turns.back().role == "assistant" && turns.back().content.empty()) turns.pop_back();
  return turns;
}

std::size_t common_prompt(std::string_view chosen, std::string_view rejected) {
  const std::size_t shorter = std::min(chosen.size(), rejected.size());
  std::size_t common = 0;
  while (common < shorter && chosen[common] == rejected[common]) ++common;
  const std::string_view shared = chosen.substr(0, common);
  if (is_dialogue(shared)) {
    const std::string mark = std::string(separator(shared)) + std::string(assistant);
    if (const std::size_t at = shared.rfind(mark); at != std::string_view::npos) return at + mark.size();
  }
  // Back to a place where both go on with a blank or end: a word is not cut.
  const auto ends_word = [&](std::string_view text, std::size_t at) {
    return at == text.size() || blanks.find(text[at]) != std::string_view::npos;
  };
  while (common > 0 && !(ends_word(chosen, common) && ends_word(rejected, common))) --common;
  while (common > 0 && blanks.find(chosen[common - 1]) != std::string_view::npos) --common;
  return common;
}

}  // namespace align
