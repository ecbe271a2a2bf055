// Preferences as tokens: what is cut, and what is counted.

#include "align/data/tokenised.hpp"

#include <string>
#include <vector>

#include "align/data.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

using tokens = std::vector<std::int32_t>;

namespace {

/// A token for each byte, beside begin (1) and end (2).
tokens encode(std::string_view text) { return {text.begin(), text.end()}; }

tokens copy(std::span<const std::int32_t> x) { return {x.begin(), x.end()}; }

align::preference pair_of(const std::string& prompt, const std::string& chosen, const std::string& rejected) {
  align::preference pair;
  pair.prompt = {{"", prompt}};
  pair.chosen = chosen;
  pair.rejected = rejected;
  return pair;
}

align::tokenised_preferences cut(const align::preference& pair, std::int64_t context) {
  return align::tokenised_pairs(std::vector{pair}, encode, {.context = context});
}

void check_sides(const align::tokenised_preferences& found, const tokens& prompt, const tokens& chosen,
                 const tokens& rejected) {
  REQUIRE(found.pairs.chosen.size() == 1);
  REQUIRE(found.pairs.rejected.size() == 1);
  CHECK(copy(found.pairs.chosen.prompt(0)) == prompt);
  CHECK(copy(found.pairs.rejected.prompt(0)) == prompt);
  CHECK(copy(found.pairs.chosen.response(0)) == chosen);
  CHECK(copy(found.pairs.rejected.response(0)) == rejected);
}

}  // namespace

TEST_CASE("a pair that fits is begin, prompt, response, end") {
  const align::tokenised_preferences found = cut(pair_of("abc", "de", "f"), 7);
  check_sides(found, {1, 'a', 'b', 'c'}, {'d', 'e', 2}, {'f', 2});
  CHECK((found.prompts_cut == 0 && found.responses_cut == 0 && found.equal == 0));
  CHECK(found.records == std::vector<std::int64_t>{0});
}

TEST_CASE("a prompt loses its beginning, the same on both sides") {
  const align::tokenised_preferences one = cut(pair_of("abc", "de", "f"), 6);
  check_sides(one, {1, 'b', 'c'}, {'d', 'e', 2}, {'f', 2});
  CHECK((one.prompts_cut == 1 && one.responses_cut == 0));
  const align::tokenised_preferences all = cut(pair_of("abc", "f", "de"), 4);
  check_sides(all, {1}, {'f', 2}, {'d', 'e', 2});
  CHECK((all.prompts_cut == 1 && all.responses_cut == 0));
}

TEST_CASE("a response that does not fit loses its end and the end token") {
  const align::tokenised_preferences found = cut(pair_of("abc", "defg", "h"), 4);
  check_sides(found, {1}, {'d', 'e', 'f'}, {'h', 2});
  CHECK((found.prompts_cut == 1 && found.responses_cut == 1));
  const align::tokenised_preferences exact = cut(pair_of("", "def", ""), 4);  // only the end token does not fit
  check_sides(exact, {1}, {'d', 'e', 'f'}, {2});
  CHECK((exact.prompts_cut == 0 && exact.responses_cut == 1));
}

TEST_CASE("pairs that the cut makes equal are left out") {
  const std::vector records{pair_of("a", "xyz1", "xyz2"), pair_of("a", "b", "c")};
  const align::tokenised_preferences found = align::tokenised_pairs(records, encode, {.context = 4});
  check_sides(found, {1, 'a'}, {'b', 2}, {'c', 2});
  CHECK((found.equal == 1 && found.responses_cut == 2 && found.prompts_cut == 1));
  CHECK(found.records == std::vector<std::int64_t>{1});
}

TEST_CASE("labelled responses are cut in the same way; other ends, other tokens") {
  align::labelled record;
  record.prompt = {{"user", "q"}};
  record.response = "ab";
  record.desirable = true;
  const align::tokenised_labels found =
      align::tokenised_responses(std::vector{record}, encode, {.context = 6, .begin = 7, .end = 8});
  CHECK(copy(found.responses.prompt(0)) == tokens{7, ':', ' '});
  CHECK(copy(found.responses.response(0)) == tokens{'a', 'b', 8});
  CHECK((found.desirable == std::vector<std::uint8_t>{1} && found.prompts_cut == 1 && found.responses_cut == 0));
}

TEST_CASE("a context without room is refused") {
  CHECK(refusal([] { cut(pair_of("a", "b", "c"), 1); }) ==
        "tokenised_pairs: context is 1, wants at least 2 (the begin token and one of the response)");
  check_sides(cut(pair_of("a", "b", "c"), 2), {1}, {'b'}, {'c'});
}
