#include "align/data/answers.hpp"

#include <algorithm>
#include <utility>

#include "align/data/messages.hpp"
#include "align/data/row.hpp"

namespace align {

using nlohmann::json;

namespace {

/// Both answers as messages.
answered_prompt from_messages(std::vector<turn> prompt, bool has_prompt, const std::vector<turn>& chosen,
                              const std::vector<turn>& rejected) {
  if (has_prompt && is_verbatim(prompt)) {
    if (chosen[0].role == "assistant") {
      prompt[0].role = "user";
    } else {
      // Whole conversations beside their question.
      const auto asks = [&](const turn& t) { return t.role == "user" && t.content == prompt[0].content; };
      if (std::none_of(chosen.begin(), chosen.end(), asks)) throw bad_row("the prompt does not stand in chosen");
      has_prompt = false;
    }
  }
  if (!has_prompt) {
    if (chosen == rejected) throw bad_row("chosen and rejected are equal");
    prompt.assign(chosen.begin(), std::mismatch(chosen.begin(), chosen.end(), rejected.begin(), rejected.end()).first);
  }
  check_prompt(prompt);
  const std::string better = answer_text(prompt, chosen, "chosen"), worse = answer_text(prompt, rejected, "rejected");
  return {std::move(prompt), better, worse};
}

/// Both answers as text.
answered_prompt from_text(std::vector<turn> prompt, bool has_prompt, std::string chosen, std::string rejected) {
  if (!has_prompt) {
    if (chosen == rejected) throw bad_row("chosen and rejected are equal");
    const std::size_t at = common_prompt(chosen, rejected);
    prompt = text_prompt(chosen.substr(0, at));
    chosen.erase(0, at);
    rejected.erase(0, at);
  }
  const std::string better = answer_text(prompt, chosen), worse = answer_text(prompt, rejected);
  return {std::move(prompt), better, worse};
}

}  // namespace

bool is_verbatim(std::span<const turn> prompt) { return prompt.size() == 1 && prompt[0].role.empty(); }

std::vector<turn> text_prompt(const std::string& text) {
  return is_dialogue(text) ? parse_dialogue(text) : std::vector<turn>{{"", text}};
}

void check_prompt(std::span<const turn> prompt) {
  if (prompt.empty()) throw bad_row("the prompt is empty", "wants messages before the answer");
  if (prompt.back().role == "assistant") throw bad_row("the prompt ends with an assistant's message");
}

std::string answer_text(std::span<const turn> prompt, const std::string& text) {
  return !is_verbatim(prompt) && text.starts_with(' ') ? text.substr(1) : text;
}

std::string answer_text(std::span<const turn> prompt, std::span<const turn> messages, const std::string& key) {
  const bool repeats = messages.size() >= prompt.size() && std::equal(prompt.begin(), prompt.end(), messages.begin());
  const std::span<const turn> answer = repeats ? messages.subspan(prompt.size()) : messages;
  if (answer.empty()) throw bad_row(key + " has no answer", "wants an assistant's message after the prompt");
  if (answer.front().role != "assistant" || answer.back().role != "assistant")
    throw bad_row(key + " is no assistant's answer",
                  "got the roles " + answer.front().role + " to " + answer.back().role);
  return response_text(answer);
}

answered_prompt answers_of(const json& row, std::vector<turn> prompt, bool has_prompt) {
  const json &chosen = required(row, "chosen"), &rejected = required(row, "rejected");
  for (const auto& [key, value] : {std::pair{"chosen", &chosen}, std::pair{"rejected", &rejected}})
    if (!value->is_string() && !value->is_structured())
      throw bad_row(std::string(key) + " has the wrong type",
                    std::string("got ") + value->type_name() + ", wants text or messages");
  if (chosen.is_string() != rejected.is_string())
    throw bad_row("chosen and rejected have different types",
                  std::string("got ") + chosen.type_name() + " and " + rejected.type_name());
  if (chosen.is_string())
    return from_text(std::move(prompt), has_prompt, chosen.get<std::string>(), rejected.get<std::string>());
  return from_messages(std::move(prompt), has_prompt, turns_of(chosen, "chosen"), turns_of(rejected, "rejected"));
}

}  // namespace align
