// The names data and its tokens.

#include "align/data/names.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace tokens = align::name_tokens;

TEST_CASE("names become tokens and names again") {
  CHECK(tokens::encode("Ab-z") == std::vector<std::int32_t>{0, 2, 3, 28, 27, 1});
  CHECK(tokens::encode("") == std::vector<std::int32_t>{0, 1});
  CHECK(tokens::decode(tokens::encode("Mary-Ann")) == "mary-ann");
  CHECK(tokens::decode(std::vector<std::int32_t>{0, 2, 3}) == "ab");
  CHECK(tokens::decode(std::vector<std::int32_t>{0, 2, 1, 3}) == "a");
  CHECK_THROWS_AS(tokens::encode("o'neil"), std::invalid_argument);
  const auto prompts = tokens::prompts(3);
  CHECK(prompts.size() == 3);
  CHECK(prompts.tokens == std::vector<std::int32_t>{0, 0, 0});
}

TEST_CASE("the lists are read whole, split without overlap, and always in the same way") {
  const auto data = align::read_names();
  CHECK(data.train.size() + data.held_out.size() == 8841 - 419 - 1);  // two lists, names in both, one too long
  CHECK(data.held_out.size() == 842);
  std::set<std::string> train, held_out;
  int female = 0, male = 0, both = 0;
  for (const auto* part : {&data.train, &data.held_out})
    for (const auto& name : *part) {
      (part == &data.train ? train : held_out).insert(name.text);
      female += name.female, male += name.male, both += name.female && name.male;
      CHECK((name.text.size() >= 2 && name.text.size() <= 14));
    }
  CHECK(train.size() == data.train.size());
  CHECK(std::none_of(held_out.begin(), held_out.end(), [&](const auto& name) { return train.count(name) > 0; }));
  CHECK(female == 4943);
  CHECK(male == 3897);
  CHECK(both == 419);

  const auto again = align::read_names();
  CHECK(encode(again.train).tokens == encode(data.train).tokens);
  CHECK(encode(align::read_names({.seed = 2}).train).tokens != encode(data.train).tokens);
  CHECK(align::read_names({.held_out = 0}).held_out.empty());

  const auto sequences = encode(data.train);
  for (std::size_t s = 0; s < sequences.size(); ++s)
    REQUIRE((sequences[s].size() <= 16 && sequences[s].front() == tokens::begin && sequences[s].back() == tokens::end));
}

TEST_CASE("preferred names are female and not male, rejected ones the other way") {
  const auto data = align::read_names();
  std::set<std::string> female, male;
  for (const auto& name : data.held_out) {
    if (name.female && !name.male) female.insert(name.text);
    if (name.male && !name.female) male.insert(name.text);
  }
  const auto pairs = align::female_over_male(data.held_out, 500, {.seed = 1});
  REQUIRE(pairs.chosen.size() == 500);
  REQUIRE(pairs.rejected.size() == 500);
  std::set<std::string> seen;
  for (std::size_t i = 0; i < 500; ++i) {
    CHECK(female.count(tokens::decode(pairs.chosen[i])) == 1);
    CHECK(male.count(tokens::decode(pairs.rejected[i])) == 1);
    seen.insert(tokens::decode(pairs.chosen[i]));
  }
  CHECK(seen.size() > 250);
  CHECK(align::female_over_male(data.held_out, 500, {.seed = 1}).chosen.tokens == pairs.chosen.tokens);
  CHECK(align::female_over_male(data.held_out, 500, {.seed = 2}).chosen.tokens != pairs.chosen.tokens);
  CHECK_THROWS_AS(align::female_over_male({}, 1, {}), std::invalid_argument);
}

TEST_CASE("files that are not there or hold something else are refused with their place") {
  const auto directory = std::filesystem::temp_directory_path() / "rlhf-test-names";
  std::filesystem::remove_all(directory);
  CHECK_THROWS_AS(align::read_names({.directory = directory.string()}), std::runtime_error);
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "female.txt") << "Eva\r\nAda\r\n\r\n";
  std::ofstream(directory / "male.txt") << "Bob\nJos\xc3\xa9\n";
  std::string message;
  try {
    (void)align::read_names({.directory = directory.string()});
  } catch (const std::runtime_error& problem) {
    message = problem.what();
  }
  CHECK(message.find("male.txt:2:") != std::string::npos);
  std::ofstream(directory / "male.txt") << "Bob\nAda";
  const auto data = align::read_names({.directory = directory.string(), .held_out = 0});
  CHECK(data.train.size() == 3);
  std::filesystem::remove_all(directory);
}
