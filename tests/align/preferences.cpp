// Every form of preference data, every way to get a row wrong.

#include "align/data/preferences.hpp"

#include <string>
#include <vector>

#include "align/data.hpp"
#include "align/data/row.hpp"
#include "align/data/split.hpp"
#include "align/data/utf8.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

using align::preference;
using align::turn;
using turns = std::vector<turn>;

namespace {

align::preference_data read(std::string_view row) { return align::parse_preferences(row, "x"); }

preference pair_of(std::string_view row, const std::string& form) {
  const align::preference_data data = read(row);
  CAPTURE(row);
  REQUIRE(data.pairs.size() == 1);
  CHECK(data.singles.empty());
  CHECK(data.forms == std::map<std::string, std::int64_t>{{form, 1}});
  return data.pairs[0];
}

align::labelled single_of(std::string_view row, const std::string& form) {
  const align::preference_data data = read(row);
  CAPTURE(row);
  REQUIRE(data.singles.size() == 1);
  CHECK(data.pairs.empty());
  CHECK(data.forms == std::map<std::string, std::int64_t>{{form, 1}});
  return data.singles[0];
}

void check_pair(const preference& found, const turns& prompt, const std::string& chosen, const std::string& rejected) {
  CHECK(found.prompt == prompt);
  CHECK(found.chosen == chosen);
  CHECK(found.rejected == rejected);
}

std::string error_of(std::string_view row) {
  return refusal([&] { read(row); });
}

}  // namespace

TEST_CASE("text with an explicit prompt stays as it is") {
  check_pair(pair_of(R"({"prompt": "The sky is", "chosen": " blue.", "rejected": " green."})", "explicit prompt"),
             {{"", "The sky is"}}, " blue.", " green.");
  check_pair(pair_of(R"({"prompt": "", "chosen": "a", "rejected": ""})", "explicit prompt"), {{"", ""}}, "a", "");
  check_pair(pair_of(R"({"system": "S", "prompt": "Q", "chosen": "a", "rejected": "b"})", "explicit prompt"),
             {{"system", "S"}, {"user", "Q"}}, "a", "b");
  check_pair(pair_of(R"({"prompt": "Human: Hi\nAssistant: Hello\nHuman: Why?\n", "chosen": "a", "rejected": " b"})",
                     "explicit prompt"),
             {{"user", "Hi"}, {"assistant", "Hello"}, {"user", "Why?"}}, "a", "b");
}

TEST_CASE("text without a prompt is cut after the last whole word in common") {
  const auto check = [](const std::string& chosen, const std::string& rejected, const std::string& prompt) {
    const preference found =
        pair_of(R"({"chosen": ")" + chosen + R"(", "rejected": ")" + rejected + R"("})", "implicit prompt");
    CHECK(to_text(found.prompt) == prompt);
    CHECK(prompt + found.chosen == chosen);
    CHECK(prompt + found.rejected == rejected);
  };
  check("The sky is blue.", "The sky is green.", "The sky is");
  check("The sky is blue.", "The sky is black.", "The sky is");
  check("The sky is", "The sky is blue", "The sky is");
  check("The sky", "The skyline", "The");
  check("Hello", "Help", "");
  check("same  \u00e9 x", "same  \u00e8 x", "same");
}

TEST_CASE("dialogues in text are cut at the last assistant's turn in common") {
  check_pair(pair_of(R"({"chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: A or\n\nB?\n\nAssistant: B.",)"
                     R"( "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: A or\n\nB?\n\nAssistant: Bah"})",
                     "implicit prompt"),
             {{"user", "Hi"}, {"assistant", "Hello"}, {"user", "A or\n\nB?"}}, "B.", "Bah");
  check_pair(pair_of(R"({"chosen": "\n\nHuman: Hi\n\nAssistant:", "rejected": "\n\nHuman: Hi\n\nAssistant: x"})",
                     "implicit prompt"),
             {{"user", "Hi"}}, "", "x");
  // The dialogues part early: what follows is of the response.
  check_pair(pair_of(R"({"chosen": "\n\nHuman: Hi\n\nAssistant: A\n\nHuman: q\n\nAssistant: c",)"
                     R"( "rejected": "\n\nHuman: Hi\n\nAssistant: B"})",
                     "implicit prompt"),
             {{"user", "Hi"}}, "A\n\nHuman: q\n\nAssistant: c", "B");
}

TEST_CASE("messages, with and without a prompt of their own") {
  const turns hi{{"user", "Hi"}};
  const std::string user = R"({"role": "user", "content": "Hi"})", a = R"({"role": "assistant", "content": "A"})",
                    b = R"({"role": "assistant", "content": "B"})", more = R"({"role": "user", "content": "?"})";
  const auto row = [](const std::string& prompt, const std::string& chosen, const std::string& rejected) {
    return "{" + (prompt.empty() ? "" : "\"prompt\": " + prompt + ", ") + "\"chosen\": " + chosen +
           ", \"rejected\": " + rejected + "}";
  };
  check_pair(pair_of(row("[" + user + "]", "[" + a + "]", "[" + b + "]"), "explicit prompt"), hi, "A", "B");
  check_pair(pair_of(row("[" + user + "]", a, b), "explicit prompt"), hi, "A", "B");
  check_pair(pair_of(row("[" + user + "]", "\" A\"", "\"B\""), "explicit prompt"), hi, "A", "B");
  check_pair(pair_of(row("\"Hi\"", "[" + a + "]", "[" + b + "]"), "explicit prompt"), hi, "A", "B");
  const std::string whole_a = "[" + user + ", " + a + "]", whole_b = "[" + user + ", " + b + "]";
  check_pair(pair_of(row("", whole_a, whole_b), "implicit prompt"), hi, "A", "B");
  check_pair(pair_of(row("\"Hi\"", whole_a, whole_b), "explicit prompt"), hi, "A", "B");
  check_pair(pair_of(row("[" + user + "]", whole_a, whole_b), "explicit prompt"), hi, "A", "B");
  check_pair(pair_of(row("", "[" + user + ", " + a + ", " + more + ", " + b + "]", whole_b), "implicit prompt"), hi,
             "A\n\nHuman: ?\n\nAssistant: B", "B");
  check_pair(
      pair_of(
          row(R"([{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}])", a, b),
          "explicit prompt"),
      hi, "A", "B");

  CHECK(error_of(row("\"Who\"", whole_a, whole_b)) == "x:1: the prompt does not stand in chosen");
  CHECK(error_of(row("", whole_a, "[" + user + "]")) ==
        "x:1: rejected has no answer (wants an assistant's message after the prompt)");
  CHECK(error_of(row("", whole_a, "[" + user + ", " + more + "]")) ==
        "x:1: rejected is no assistant's answer (got the roles user to user)");
  CHECK(error_of(row("", whole_a, whole_a)) == "x:1: chosen and rejected are equal");
  CHECK(error_of(row("", "[" + a + "]", "[" + b + "]")) ==
        "x:1: the prompt is empty (wants messages before the answer)");
  CHECK(error_of(row("[" + a + "]", a, b)) == "x:1: the prompt ends with an assistant's message");
  CHECK(error_of(row("[]", a, b)) == "x:1: prompt is an empty list (wants messages)");
  CHECK(error_of(row("[1]", a, b)) == "x:1: prompt holds no message (got number, wants an object)");
  CHECK(error_of(row("[{\"role\": \"user\"}]", a, b)) ==
        "x:1: prompt has a message without content (wants role and content, or from and value)");
  CHECK(error_of(row("[{\"role\": \"judge\", \"content\": \"\"}]", a, b)) ==
        "x:1: prompt role is unknown (got judge, wants user, assistant, system or tool)");
  CHECK(error_of(row("[{\"role\": \"user\", \"content\": 1}]", a, b)) ==
        "x:1: prompt content has the wrong type (got number, wants text)");
  CHECK(error_of(row("[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]", a, b)) ==
        "x:1: prompt content has a part that is no text (wants parts of type text)");
  CHECK(error_of(row("\"Hi\"", a, "\"B\"")) == "x:1: chosen and rejected have different types (got object and string)");
}

TEST_CASE("ShareGPT, Alpaca and questions") {
  check_pair(pair_of(R"({"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}],)"
                     R"( "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}})",
                     "ShareGPT"),
             {{"system", "S"}, {"user", "Q"}}, "a", "b");
  check_pair(
      pair_of(R"({"system": "S", "messages": [{"role": "user", "content": "Q"}], "chosen": "a", "rejected": "b"})",
              "ShareGPT"),
      {{"system", "S"}, {"user", "Q"}}, "a", "b");
  check_pair(
      pair_of(R"({"instruction": "Add", "input": "1 2", "history": [["q", "r"]], "chosen": "3", "rejected": "4"})",
              "Alpaca"),
      {{"user", "q"}, {"assistant", "r"}, {"user", "Add\n\n1 2"}}, "3", "4");
  check_pair(
      pair_of(R"({"instruction": "Add", "input": "", "system": null, "chosen": "3", "rejected": "4"})", "Alpaca"),
      {{"user", "Add"}}, "3", "4");
  check_pair(pair_of(R"({"system": "S", "question": "Q", "chosen": "3", "rejected": "4"})", "question"),
             {{"system", "S"}, {"user", "Q"}}, "3", "4");
  CHECK(error_of(R"({"instruction": "Add", "history": 1, "chosen": "3", "rejected": "4"})") ==
        "x:1: history has the wrong type (got number, wants a list)");
  CHECK(error_of(R"({"instruction": "Add", "history": [["a"]], "chosen": "3", "rejected": "4"})") ==
        "x:1: history holds no pair of texts");
  CHECK(error_of(R"({"instruction": "Add", "input": 1, "chosen": "3", "rejected": "4"})") ==
        "x:1: input has the wrong type (got number, wants text)");
}

TEST_CASE("PandaLM's votes and LLMBar's labels") {
  const auto votes = [](const std::string& one, const std::string& two, const std::string& three) {
    return R"({"instruction": "I", "input": "J", "response1": "p", "response2": true, "annotator1": )" + one +
           ", \"annotator2\": " + two + ", \"annotator3\": " + three + "}";
  };
  const preference first = pair_of(votes("1", "0", "1"), "PandaLM");
  check_pair(first, {{"user", "I\n\nJ"}}, "p", "true");
  CHECK(first.agreement == Approx(2.5 / 3));
  const preference second = pair_of(votes("2", "2", "1"), "PandaLM");
  check_pair(second, {{"user", "I\n\nJ"}}, "true", "p");
  CHECK(second.agreement == Approx(2.0 / 3));
  for (const auto& tie : {votes("0", "0", "1"), votes("0", "1", "2"), votes("0", "0", "0")}) {
    const align::preference_data data = read(tie);
    CHECK((data.pairs.empty() && data.ties == 1 && data.rows == 1));
    const align::preference_data kept = align::parse_preferences(tie, "x", {.keep_ties = true});
    REQUIRE((kept.pairs.size() == 1 && kept.ties == 1 && kept.rows == 1));
    check_pair(kept.pairs[0], {{"user", "I\n\nJ"}}, "p", "true");
    CHECK((kept.pairs[0].tied() && kept.pairs[0].line == 1));
  }
  CHECK_FALSE((first.tied() || second.tied()));
  // In the order of the file.
  const align::preference_data all = align::parse_preferences(
      votes("1", "1", "0") + "\n" + votes("1", "2", "0") + "\n" + votes("2", "2", "2"), "x", {.keep_ties = true});
  REQUIRE(all.pairs.size() == 3);
  CHECK((!all.pairs[0].tied() && all.pairs[1].tied() && !all.pairs[2].tied() && all.ties == 1));
  CHECK(error_of(votes("3", "0", "1")) == "x:1: annotator1 is out of range (got 3, wants 0 to 2)");
  CHECK(error_of(votes("1", "\"1\"", "1")) == "x:1: annotator2 has the wrong type (got string, wants 0 to 2)");

  check_pair(pair_of(R"({"input": "I", "output_1": "a", "output_2": "b", "label": 1})", "LLMBar"), {{"user", "I"}}, "a",
             "b");
  check_pair(pair_of(R"({"input": "I", "output_1": "a", "output_2": "b", "label": 2})", "LLMBar"), {{"user", "I"}}, "b",
             "a");
  CHECK(error_of(R"({"input": "I", "output_1": "a", "output_2": "b", "label": 0})") ==
        "x:1: label is out of range (got 0, wants 1 to 2)");
  CHECK(error_of(R"({"input": "I", "output_1": "a", "label": 1})") == "x:1: output_2 is missing");
}

TEST_CASE("single responses with a label") {
  const align::labelled text =
      single_of(R"({"prompt": "The sky is", "completion": " blue", "label": true})", "labelled completion");
  CHECK((text.prompt == turns{{"", "The sky is"}} && text.response == " blue" && text.desirable));
  const align::labelled said = single_of(
      R"({"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "a"}], "label": 0})",
      "labelled completion");
  CHECK((said.prompt == turns{{"user", "Q"}} && said.response == "a" && !said.desirable));
  const align::labelled conversation = single_of(
      R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "a"}], "label": false})",
      "labelled conversation");
  CHECK((conversation.prompt == turns{{"user", "Q"}} && conversation.response == "a" && !conversation.desirable));
  CHECK(single_of(
            R"({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "a"}], "kto_tag": true})",
            "labelled conversation")
            .desirable);
  CHECK(error_of(R"({"prompt": "p", "completion": "c", "label": "yes"})") ==
        "x:1: label is no label (got string, wants true or false)");
  CHECK(error_of(R"({"prompt": "p", "completion": "c"})") == "x:1: kto_tag is missing");
  CHECK(error_of(R"({"prompt": "p", "label": true})") == "x:1: completion is missing");
  CHECK(error_of(R"({"messages": [{"role": "user", "content": "Q"}], "label": true})") ==
        "x:1: messages is no assistant's answer (got the roles user to user)");
  CHECK(error_of(R"({"messages": [{"role": "assistant", "content": "Q"}], "label": true})") ==
        "x:1: the prompt is empty (wants messages before the answer)");
}

TEST_CASE("margins, given or from scores") {
  const auto margin = [](const std::string& more) {
    return pair_of(R"({"chosen": "a", "rejected": "b")" + more + "}", "implicit prompt").margin;
  };
  CHECK_FALSE(margin("").has_value());
  CHECK_FALSE(margin(R"(, "margin": null, "score_chosen": null)").has_value());
  CHECK(margin(R"(, "margin": 0.5)") == 0.5);
  CHECK(margin(R"(, "score_chosen": 3, "score_rejected": 4.5)") == -1.5);
  const std::string pair = R"({"chosen": "a", "rejected": "b")";
  CHECK(error_of(pair + R"(, "margin": "1"})") == "x:1: margin has the wrong type (got string, wants a number)");
  CHECK(error_of(pair + R"(, "score_chosen": 1})") == "x:1: score_chosen and score_rejected want each other");
  CHECK(error_of(pair + R"(, "score_chosen": 1e308, "score_rejected": -1e308})") ==
        "x:1: the scores are too far apart");
}

TEST_CASE("rows that are none say where and why") {
  CHECK(error_of("\n{\"chosen\": \"a\"}") == "x:2: rejected is missing");
  CHECK(error_of(R"({"chosen": null, "rejected": "a"})") ==
        "x:1: chosen has the wrong type (got null, wants text or messages)");
  CHECK(error_of(R"({"chosen": "a", "rejected": 1})") ==
        "x:1: rejected has the wrong type (got number, wants text or messages)");
  CHECK(error_of(R"({"prompt": null, "chosen": "a", "rejected": "b"})") ==
        "x:1: prompt has the wrong type (got null, wants text or messages)");
  CHECK(error_of(R"({"chosen": "a", "rejected": "a"})") == "x:1: chosen and rejected are equal");
  CHECK(error_of(R"({"prompt": "", "chosen": "", "rejected": ""})") == "x:1: chosen and rejected are equal");
  CHECK(error_of(R"({"text": "a", "id": 1})") ==
        "x:1: none of the known forms (got the keys id, text; wants chosen and rejected, or completion and label)");
  CHECK(error_of("{}") ==
        "x:1: none of the known forms (got the keys none; wants chosen and rejected, or completion and label)");
  CHECK(error_of("{\"chosen\": ") == "x:1: no JSON (stopped at byte 11 of the row)");
  CHECK(error_of("chosen") == "x:1: no JSON (stopped at byte 1 of the row)");
  CHECK(error_of("{\n}") == "x:1: no JSON (stopped at byte 2 of the row)");
  CHECK(error_of("{\"chosen\": 1e999}") == "x:1: no JSON (a number is out of range)");
  CHECK(error_of("[[1]]") == "x:1: no JSON object (got array)");
  CHECK(error_of("{\"a\": \"\xFF\"}") == "x:1: not UTF-8 (byte 8 of the row)");
  CHECK(error_of(R"({"chosen": "a", "chosen": "b"})") == "x:1: a key stands twice in one object (chosen)");
  CHECK(error_of(R"({"a": {"chosen": 1}, "chosen": "b", "rejected": "c"})") == "no refusal");
  CHECK(error_of(std::string(100'000, '{')) == "x:1: no JSON (stopped at byte 2 of the row)");
  const std::string deep = "{\"a\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  CHECK(error_of(deep) == "x:1: nested too deeply (wants at most 64)");
  std::string wide = "{\"a\": [0";
  for (int i = 0; i < 1'000'000; ++i) wide += ",0";
  CHECK(error_of(wide + "]}") == "x:1: too many values (wants at most 1000000)");
}

TEST_CASE("with skip_bad malformed rows are counted by reason, broken files are not read on") {
  const std::string rows =
      "{\"chosen\": \"a\", \"rejected\": \"b\"}\n{\"chosen\": 1, \"rejected\": \"b\"}\nno\n"
      "{\"chosen\": null, \"rejected\": \"b\"}\n{\"prompt\": \"p\", \"completion\": \"c\", \"label\": true}\n";
  const align::preference_data data = align::parse_preferences(rows, "x", {.skip_bad = true});
  CHECK((data.rows == 5 && data.pairs.size() == 1 && data.singles.size() == 1));
  CHECK((data.pairs[0].line == 1 && data.singles[0].line == 5));
  REQUIRE(data.skipped.size() == 2);
  const align::skipped_rows& type = data.skipped.at("chosen has the wrong type");
  CHECK((type.count == 2 && type.first_line == 2));
  CHECK(type.first_message == "x:2: chosen has the wrong type (got number, wants text or messages)");
  CHECK(data.skipped.at("no JSON").count == 1);
  CHECK(refusal([] {
          (void)align::parse_preferences("[{}", "x", {.skip_bad = true});
        }).starts_with("x:1: the array never"));

  const align_tests::temporary_file file("pairs.json", "[{\"chosen\": \"a\",\n \"rejected\": \"b\"},\n{}]");
  CHECK(
      refusal([&] { (void)align::read_preferences(file.path()); }).starts_with(file.path() + ":3: none of the known"));
}

TEST_CASE("prompts become text") {
  CHECK(align::to_text({}).empty());
  CHECK(to_text(turns{{"", "as it\nis "}}) == "as it\nis ");
  CHECK(to_text(turns{{"system", "S"}, {"user", "Q"}, {"assistant", "A"}, {"tool", "T"}, {"user", "R"}}) ==
        "System: S\n\nHuman: Q\n\nAssistant: A\n\nTool: T\n\nHuman: R\n\nAssistant: ");
  const turns said{{"user", "a\n\nb"}, {"assistant", "c"}, {"user", "d"}};
  CHECK(align::parse_dialogue(to_text(said)) == said);
  CHECK(align::parse_dialogue("\n\nHuman: a\nHuman: b\n\nAssistant: c") ==
        turns{{"user", "a\nHuman: b"}, {"assistant", "c"}});
}

TEST_CASE("UTF-8 is checked to the letter") {
  const auto bad = [](std::string_view text) { return align::first_invalid_utf8(text); };
  constexpr auto fine = std::string_view::npos;
  for (const char* text : {"", "a", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                           "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
    CHECK(bad(text) == fine);
  for (const char* text :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xC2", "\xE1\x80", "\xF1\x80\x80", "\xC2\x41", "\xFF"})
    CHECK(bad(std::string("ab") + text) == 2);
}

TEST_CASE("a prompt's pairs stand on one side, whatever else is in the file") {
  std::vector<preference> pairs;
  for (int i = 0; i < 3000; ++i) {
    preference pair;
    pair.prompt = {{"user", "prompt " + std::to_string(i % 1000)}};
    pairs.push_back(pair);
  }
  const align::split_rows rows = align::split_by_prompt(pairs);
  CHECK(rows.train.size() + rows.held_out.size() == 3000);
  CHECK(rows.held_out.size() ==
        Approx(600).margin(3 * 3 * 12.7));  // three standard deviations of a binomial, times three
  std::vector<int> side(1000, -1);
  for (const std::size_t row : rows.train) side[row % 1000] = 0;
  for (const std::size_t row : rows.held_out) REQUIRE(side[row % 1000] != 0);
  CHECK(align::select_rows<preference>(pairs, rows.held_out).size() == rows.held_out.size());

  // Rows added do not move the others; another seed does.
  const std::vector<preference> fewer(pairs.begin(), pairs.begin() + 500);
  const align::split_rows part = align::split_by_prompt(fewer);
  CHECK(std::equal(part.held_out.begin(), part.held_out.end(), rows.held_out.begin()));
  CHECK(align::split_by_prompt(fewer, {.seed = 2}).held_out != part.held_out);
  CHECK(align::split_by_prompt(fewer, {.held_out = 0}).held_out.empty());
  CHECK(align::split_by_prompt(fewer, {.held_out = 1}).train.empty());
  CHECK(refusal([&] { (void)align::split_by_prompt(fewer, {.held_out = 1.5}); }) ==
        "split_by_prompt: held_out is 1.500000, wants 0 to 1");
}

TEST_CASE("the examples of the documentation are read as what it calls them") {
  std::ifstream page(RLHF_TESTS_DIR "/../docs/preference-data.md");
  std::string rows;
  for (std::string line; std::getline(page, line);)
    if (line.starts_with("{\"")) rows += line + "\n";
  const align::preference_data data = read(rows);
  CHECK(data.forms == std::map<std::string, std::int64_t>{{"explicit prompt", 3},
                                                          {"implicit prompt", 3},
                                                          {"ShareGPT", 1},
                                                          {"Alpaca", 1},
                                                          {"question", 1},
                                                          {"PandaLM", 1},
                                                          {"LLMBar", 1},
                                                          {"labelled completion", 2},
                                                          {"labelled conversation", 1}});
  for (const preference& pair : data.pairs) CHECK(pair.chosen.find_first_of("4b") != std::string::npos);
  CHECK(error_of("\n\n\n\n\n\n{\"chosen\": null, \"rejected\": \"a\"}") ==
        "x:7: chosen has the wrong type (got null, wants text or messages)");
}

TEST_CASE("real files are read whole") {
  struct expected {
    const char* file;
    std::size_t pairs, singles;
    std::int64_t ties, skipped;
  };
  for (const expected& e : {expected{"preferences/llamafactory_dpo_en_demo.json", 300, 0, 0, 0},
                            {"preferences/llamafactory_kto_en_demo.json", 0, 300, 0, 0},
                            {"preferences/oasst_en_val_pairs.json", 1021, 0, 0, 1},
                            {"preferences/hh_harmless_test.jsonl.gz", 2312, 0, 0, 0},
                            {"preferences/pandalm.json", 894, 0, 105, 0},
                            {"preferences/llmbar/Natural.json", 100, 0, 0, 0}}) {
    const std::string path = align_tests::real_file(e.file);
    if (path.empty()) continue;
    const align::preference_data data = align::read_preferences(path, {.skip_bad = true});
    INFO(e.file);
    CHECK((data.pairs.size() == e.pairs && data.singles.size() == e.singles && data.ties == e.ties));
    CHECK(data.rows - data.ties - static_cast<std::int64_t>(data.pairs.size() + data.singles.size()) == e.skipped);
  }
}
