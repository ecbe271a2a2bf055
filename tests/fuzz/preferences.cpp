// Preference data of any bytes: what is read is UTF-8, and becomes text, tokens that fit, and a split.

#include "align/data/preferences.hpp"

#include "align/data/split.hpp"
#include "align/data/tokenised.hpp"
#include "align/data/utf8.hpp"
#include "fuzz.hpp"

std::vector<std::string> fuzz::seeds() {
  const std::string packed("\x1F\x8B\x08\0\0\0\0\0\x02\x03\xABVJT\xB2R0\xAC\xE5\x02\0\xFA\xA1G\\\x09\0\0\0", 29);
  std::vector<std::string> rows{
      R"({"prompt": "The sky is", "chosen": " blue.", "rejected": " green.", "margin": 1.5})",
      R"({"prompt": "Human: a\nAssistant: b\nHuman: c\n", "chosen": "d", "rejected": " e"})",
      R"({"chosen": "\n\nHuman: Hi\n\nAssistant: A", "rejected": "\n\nHuman: Hi\n\nAssistant: B"})",
      R"({"prompt": [{"role": "user", "content": "Q"}], "chosen": [{"role": "assistant", "content": "a"}],)"
      R"( "rejected": {"role": "assistant", "content": [{"type": "text", "text": "b"}]}})",
      R"({"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": "b"})",
      R"({"instruction": "I", "input": "J", "history": [["q", "r"]], "chosen": "3", "rejected": "4", "score_chosen": 1})",
      R"({"instruction": "I", "response1": "p", "response2": true, "annotator1": 1, "annotator2": 2, "annotator3": 0})",
      R"({"input": "I", "output_1": "a", "output_2": "b", "label": 1})",
      R"({"prompt": "p", "completion": "c", "label": true})",
      R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "a"}], "label": false})"};
  std::string array = "[" + rows[0], lines;
  for (const std::string& row : rows) {
    array += ",\n" + row;
    lines += row + "\n";
  }
  rows.insert(rows.end(), {array + "]", lines, packed, "\xEF\xBB\xBF" + rows[0]});
  return rows;
}

void fuzz::one_input(std::span<const std::byte> bytes) {
  const std::string text = text_of(bytes);
  refused_or(
      [&] { return align::parse_preferences(text, "input", {.skip_bad = true}); },
      [&](const align::preference_data& data) {
        for (const align::preference& pair : data.pairs)
          for (const std::string& said : {align::to_text(pair.prompt), pair.chosen, pair.rejected})
            require(align::first_invalid_utf8(said) == std::string_view::npos, "what is read is UTF-8");
        const align::sequence_limits limits{.context = 2 + static_cast<std::int64_t>(bytes.size() % 29)};
        const auto encode = [](std::string_view said) { return std::vector<std::int32_t>(said.begin(), said.end()); };
        const rlhf::preference_pairs pairs = align::tokenised_pairs(data.pairs, encode, limits).pairs;
        for (const rlhf::responses* side : {&pairs.chosen, &pairs.rejected})
          for (std::int64_t i = 0; i < side->size(); ++i)
            require(static_cast<std::int64_t>(side->prompt(i).size() + side->response(i).size()) <= limits.context,
                    "a sequence fits the context");
        (void)align::tokenised_responses(data.singles, encode, limits);
        const align::split_rows rows = align::split_by_prompt(data.pairs);
        require(rows.train.size() + rows.held_out.size() == data.pairs.size(), "a split keeps every row");
      });
  // A row that stops the reading is one that is counted otherwise.
  refused_or([&] { return align::parse_preferences(text, "input"); },
             [&](const align::preference_data& data) { require(data.skipped.empty(), "nothing is skipped unasked"); });
}
