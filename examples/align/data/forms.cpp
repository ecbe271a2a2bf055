#include "align/data/forms.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "align/data/answers.hpp"
#include "align/data/messages.hpp"
#include "align/data/row.hpp"

namespace align {

using nlohmann::json;

namespace {

std::string got(const json& value) { return std::string("got ") + value.type_name(); }

std::optional<double> number_of(const json& row, const char* key) {
  const json* value = optional(row, key);
  if (value == nullptr) return {};
  if (!value->is_number()) throw bad_row(std::string(key) + " has the wrong type", got(*value) + ", wants a number");
  return value->get<double>();
}

std::optional<double> margin_of(const json& row) {
  if (const auto margin = number_of(row, "margin")) return margin;
  const auto chosen = number_of(row, "score_chosen"), rejected = number_of(row, "score_rejected");
  if (chosen.has_value() != rejected.has_value()) throw bad_row("score_chosen and score_rejected want each other");
  if (!chosen) return {};
  const double margin = *chosen - *rejected;
  if (!std::isfinite(margin)) throw bad_row("the scores are too far apart");
  return margin;
}

/// Instruction, with its input after a blank line where there is one.
std::string instruction_of(const json& row) {
  std::string text = text_of(required(row, "instruction"), "instruction");
  const json* input = optional(row, "input");
  const std::string more = input != nullptr ? text_of(*input, "input") : std::string();
  return more.empty() ? text : text + "\n\n" + more;
}

std::vector<turn> system_turn(const json& row) {
  const json* system = optional(row, "system");
  if (system == nullptr) return {};
  const std::string text = text_of(*system, "system");
  return text.empty() ? std::vector<turn>{} : std::vector<turn>{{"system", text}};
}

/// System, history of [question, answer] pairs, question.
std::vector<turn> question_prompt(const json& row, const std::string& question) {
  std::vector<turn> prompt = system_turn(row);
  if (const json* history = optional(row, "history")) {
    if (!history->is_array()) throw bad_row("history has the wrong type", got(*history) + ", wants a list");
    for (const json& exchange : *history) {
      if (!exchange.is_array() || exchange.size() != 2) throw bad_row("history holds no pair of texts");
      prompt.push_back({"user", text_of(exchange[0], "history")});
      prompt.push_back({"assistant", text_of(exchange[1], "history")});
    }
  }
  prompt.push_back({"user", question});
  return prompt;
}

/// A conversation with the system's text before it, where that stands apart.
std::vector<turn> conversation_prompt(const json& row, const char* key) {
  std::vector<turn> prompt = system_turn(row);
  const std::vector<turn> turns = turns_of(required(row, key), key);
  prompt.insert(prompt.end(), turns.begin(), turns.end());
  return prompt;
}

/// The value of `prompt`: text or messages.
std::vector<turn> prompt_of(const json& row) {
  const json& value = required(row, "prompt");
  if (value.is_string()) return text_prompt(value.get<std::string>());
  if (!value.is_array()) throw bad_row("prompt has the wrong type", got(value) + ", wants text or messages");
  std::vector<turn> prompt = turns_of(value, "prompt");
  check_prompt(prompt);
  return prompt;
}

const char* conversation_key(const json& row) {
  return row.contains("conversations") ? "conversations" : row.contains("messages") ? "messages" : nullptr;
}

const char* read_pair(const json& row, preference& out) {
  const char* form = "implicit prompt";
  std::vector<turn> prompt;
  bool has_prompt = true;
  if (row.contains("prompt")) {
    prompt = system_turn(row);
    std::vector<turn> said = prompt_of(row);
    if (!prompt.empty() && is_verbatim(said)) said[0].role = "user";
    prompt.insert(prompt.end(), said.begin(), said.end());
    form = "explicit prompt";
  } else if (const char* key = conversation_key(row)) {
    prompt = conversation_prompt(row, key);
    check_prompt(prompt);
    form = "ShareGPT";
  } else if (row.contains("instruction")) {
    prompt = question_prompt(row, instruction_of(row));
    form = "Alpaca";
  } else if (row.contains("question")) {
    prompt = question_prompt(row, text_of(row.at("question"), "question"));
    form = "question";
  } else {
    has_prompt = false;
  }
  answered_prompt found = answers_of(row, std::move(prompt), has_prompt);
  out.prompt = std::move(found.prompt);
  out.chosen = std::move(found.chosen);
  out.rejected = std::move(found.rejected);
  out.margin = margin_of(row);
  return form;
}

int integer_of(const json& row, const char* key, int low, int high) {
  const json& value = required(row, key);
  const std::string wants = "wants " + std::to_string(low) + " to " + std::to_string(high);
  if (!value.is_number_integer()) throw bad_row(std::string(key) + " has the wrong type", got(value) + ", " + wants);
  const auto number = value.get<std::int64_t>();
  if (number < low || number > high)
    throw bad_row(std::string(key) + " is out of range", "got " + std::to_string(number) + ", " + wants);
  return static_cast<int>(number);
}

/// PandaLM's responses went through a format that made booleans of some words.
std::string spoken(const json& row, const char* key) {
  const json& value = required(row, key);
  return value.is_boolean() ? (value.get<bool>() ? "true" : "false") : text_of(value, key);
}

/// Three votes: 0 for a tie, 1 or 2. Where neither response has two of them the row is a tie.
void read_votes(const json& row, preference& out) {
  int votes[3] = {};
  for (const char* key : {"annotator1", "annotator2", "annotator3"}) ++votes[integer_of(row, key, 0, 2)];
  out.prompt = {{"user", instruction_of(row)}};
  out.chosen = spoken(row, "response1");
  out.rejected = spoken(row, "response2");
  if (votes[1] < 2 && votes[2] < 2) {
    out.agreement = 0.5;
    return;
  }
  if (votes[2] > votes[1]) std::swap(out.chosen, out.rejected);
  out.agreement = (std::max(votes[1], votes[2]) + 0.5 * votes[0]) / 3;
}

void read_two_outputs(const json& row, preference& out) {
  const int better = integer_of(row, "label", 1, 2);
  out.prompt = {{"user", text_of(required(row, "input"), "input")}};
  out.chosen = text_of(required(row, "output_1"), "output_1");
  out.rejected = text_of(required(row, "output_2"), "output_2");
  if (better == 2) std::swap(out.chosen, out.rejected);
}

bool label_of(const json& row, const char* key) {
  const json& value = required(row, key);
  if (value.is_boolean()) return value.get<bool>();
  if (value == 0 || value == 1) return value == 1;
  throw bad_row(std::string(key) + " is no label", got(value) + ", wants true or false");
}

const char* read_single(const json& row, labelled& out) {
  out.desirable = label_of(row, row.contains("label") ? "label" : "kto_tag");
  if (const char* key = conversation_key(row); key != nullptr && !row.contains("completion")) {
    std::vector<turn> turns = conversation_prompt(row, key);
    out.response = answer_text({}, std::span(turns).last(1), key);
    turns.pop_back();
    check_prompt(turns);
    out.prompt = std::move(turns);
    return "labelled conversation";
  }
  const json& completion = required(row, "completion");
  out.prompt = prompt_of(row);
  if (completion.is_structured()) {
    if (is_verbatim(out.prompt)) out.prompt[0].role = "user";
    out.response = answer_text(out.prompt, turns_of(completion, "completion"), "completion");
  } else {
    out.response = answer_text(out.prompt, text_of(completion, "completion"));
  }
  return "labelled completion";
}

[[noreturn]] void no_form(const json& row) {
  std::string keys;
  int shown = 0;
  for (const auto& item : row.items())
    if (++shown <= 8) keys += (keys.empty() ? "" : ", ") + item.key().substr(0, 40);
  throw bad_row("none of the known forms", "got the keys " + (keys.empty() ? "none" : keys) +
                                               (shown > 8 ? ", ..." : "") +
                                               "; wants chosen and rejected, or completion and label");
}

}  // namespace

void read_form(const json& row, std::int64_t line, bool keep_ties, preference_data& data) {
  const bool pair = row.contains("chosen") || row.contains("rejected");
  const bool votes = row.contains("response1") && row.contains("annotator1");
  const bool outputs = row.contains("output_1") || row.contains("output_2");
  if (!pair && !votes && !outputs) {
    if (!row.contains("completion") && !row.contains("label") && !row.contains("kto_tag")) no_form(row);
    labelled single;
    const char* const form = read_single(row, single);
    single.line = line;
    data.singles.push_back(std::move(single));
    ++data.forms[form];
    return;
  }
  preference found;
  const char* form = "PandaLM";
  if (pair) {
    form = read_pair(row, found);
  } else if (votes) {
    read_votes(row, found);
  } else {
    read_two_outputs(row, found);
    form = "LLMBar";
  }
  if (found.chosen == found.rejected) throw bad_row("chosen and rejected are equal");
  found.line = line;
  ++data.forms[form];
  data.ties += found.tied() ? 1 : 0;
  if (keep_ties || !found.tied()) data.pairs.push_back(std::move(found));
}

}  // namespace align
