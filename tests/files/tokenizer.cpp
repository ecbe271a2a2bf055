// The tokenizer: its file, its tokens against the plain algorithm, and every text back again.

#include "align/files/tokenizer.hpp"

#include <array>
#include <chrono>
#include <limits>

#include "allocation.hpp"
#include "models.hpp"
#include "pieces.hpp"
#include "support/catch.hpp"

using align::tokenizer;

namespace {

std::string refusal(const std::string& bytes, int vocabulary = 0) {
  return error_of([&] { (void)align::read_tokenizer(bytes_of(bytes), "FILE", vocabulary); });
}

std::vector<std::string> spelled(const tokenizer& tokens, const std::string& text) {
  std::vector<std::string> out;
  for (const std::int32_t token : tokens.encode(text, false))
    out.push_back(tokens.pieces()[static_cast<std::size_t>(token)].bytes);
  return out;
}

/// A random text of letters that the small tokenizer likes, now and then any byte.
std::string random_text(const rlhf::random_numbers& numbers, std::uint32_t which, std::uint32_t length) {
  static constexpr std::string_view letters = "aaannnbb s,t<>\xc3\xa9\xe2\x82\xac";
  std::string text;
  for (std::uint32_t i = 0; i < length; ++i) {
    const auto draw = [&](std::uint32_t below, std::uint32_t d) {
      return numbers.integer(below, {.prompt = which, .position = i, .draw = d});
    };
    text += draw(20, 0) == 0 ? static_cast<char>(draw(256, 1)) : letters[draw(letters.size(), 2)];
  }
  return text;
}

}  // namespace

TEST_CASE("pairs are joined by score, the leftmost first") {
  using strings = std::vector<std::string>;
  const tokenizer tokens = fuzz::small_tokenizer();
  CHECK(spelled(tokens, "").empty());
  CHECK(tokens.encode("") == std::vector<std::int32_t>{1});
  // " a" is worth less than "an", so "an" is joined first, and then with the space.
  CHECK(spelled(tokens, "an") == strings{" an"});
  CHECK(spelled(tokens, "ss sss") == strings{" ", "ss", " ", "ss", "s"});
  CHECK(spelled(tokens, "\xc3\xa9t\xe2\x82\xac") == strings{" ", "\xc3\xa9t", "\xe2\x82\xac"});
  // A character that is no piece, and bytes that are no character.
  CHECK(spelled(tokens, "\xc3\xa0") == strings{" ", "<0xC3>", "<0xA0>"});
  CHECK(spelled(tokens, "\x80") == strings{" ", "<0x80>"});
  // What spells a mark or a byte is text.
  CHECK(spelled(tokens, "<s>") == strings{" ", "<", "s", ">"});
  CHECK(tokens.encode("a", false).size() + 1 == tokens.encode("a").size());
}

TEST_CASE("random texts get the plain algorithm's tokens and come back") {
  const tokenizer tokens = fuzz::small_tokenizer();
  const rlhf::random_numbers numbers{{.seed = 11}};
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const std::string text = random_text(numbers, i, 1 + i % 60);
    const auto encoded = tokens.encode(text);
    if (encoded != fuzz::plain_encode(tokens, text)) FAIL("other tokens of text " << i);
    if (tokens.decode(encoded) != text) FAIL("another text than " << i);
  }
}

TEST_CASE("random vocabularies too, with equal scores and pieces given twice") {
  const rlhf::random_numbers numbers{{.seed = 12}};
  for (std::uint32_t v = 0; v < 40; ++v) {
    auto pieces = fuzz::fixed_pieces();
    for (std::uint32_t i = 0; i < 30; ++i) {
      const auto draw = [&](std::uint32_t below, std::uint32_t d) {
        return numbers.integer(below, {.prompt = v, .position = i, .draw = d});
      };
      std::string bytes;
      for (std::uint32_t c = 0, n = draw(5, 0); c < n; ++c) bytes += " ab"[draw(3, 1 + c)];
      pieces.push_back({bytes, -static_cast<float>(draw(4, 9))});
    }
    const tokenizer tokens(pieces, "random");
    for (std::uint32_t i = 0; i < 25; ++i) {
      std::string text;
      for (std::uint32_t c = 0; c < i; ++c)
        text += "ab "[numbers.integer(3, {.prompt = v, .sample = i, .position = c})];
      const auto encoded = tokens.encode(text);
      if (encoded != fuzz::plain_encode(tokens, text)) FAIL("vocabulary " << v << ", text \"" << text << "\"");
      if (tokens.decode(encoded) != text) FAIL("vocabulary " << v << " does not give back \"" << text << "\"");
    }
  }
}

TEST_CASE("every byte and pairs of bytes come back") {
  const tokenizer tokens = fuzz::small_tokenizer();
  for (int first = 0; first < 256; ++first) {
    const std::string one(1, static_cast<char>(first));
    if (tokens.decode(tokens.encode(one)) != one) FAIL("byte " << first);
    for (int second = 0; second < 256; ++second) {
      const std::string two = one + static_cast<char>(second);
      if (tokens.decode(tokens.encode(two)) != two) FAIL("bytes " << first << ", " << second);
    }
  }
}

TEST_CASE("one space is left out after begin, and marks are nothing") {
  const tokenizer tokens = fuzz::small_tokenizer();
  CHECK(tokens.decode(tokens.encode("  an")) == "  an");
  CHECK(tokens.decode(tokens.encode("an", false)) == " an");
  auto two = tokens.encode("an");
  two.push_back(tokenizer::end);
  const auto second = tokens.encode("ba");
  two.insert(two.end(), second.begin(), second.end());
  CHECK(tokens.decode(two) == "anba");
  const std::array<std::int32_t, 1> outside = {tokens.vocabulary()};
  CHECK_THROWS_WITH(tokens.decode(outside), "tokenizer: token 286 is outside the vocabulary of 286");
  const std::array<std::int32_t, 1> negative = {-1};
  CHECK_THROWS_AS(tokens.decode(negative), std::invalid_argument);
}

TEST_CASE("a long text takes no quadratic time") {
  const tokenizer tokens = fuzz::small_tokenizer();
  const rlhf::random_numbers numbers{{.seed = 13}};
  const auto seconds = [&](const std::string& text) {
    const auto start = std::chrono::steady_clock::now();
    const auto encoded = tokens.encode(text);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    CHECK(tokens.decode(encoded) == text);
    return taken.count();
  };
  std::string same;
  for (int i = 0; i < 50000; ++i) same += "na";
  // The plain algorithm looks at 10^9 pairs here, which takes minutes.
  CHECK(seconds(random_text(numbers, 0, 100000)) < 5);
  CHECK(seconds(same) < 5);
}

TEST_CASE("a tokenizer's file comes back, and only for its model") {
  const tokenizer tokens = fuzz::small_tokenizer();
  const std::string bytes = text_of(align::write_tokenizer(tokens));
  const tokenizer again = align::read_tokenizer(bytes_of(bytes), "FILE", 286);
  CHECK(again.vocabulary() == 286);
  CHECK(text_of(align::write_tokenizer(again)) == bytes);
  CHECK(refusal(bytes, 512) == "FILE: has 286 pieces, the model wants 512");
  const temporary_folder folder;
  put(folder / "tok.bin", bytes);
  CHECK(align::load_tokenizer(folder / "tok.bin").encode("banana") == tokens.encode("banana"));
  CHECK(contains(error_of([&] { (void)align::load_tokenizer(folder / "none"); }), "No such file"));
}

TEST_CASE("a tokenizer's file that is cut anywhere is refused") {
  const std::string bytes = text_of(align::write_tokenizer(fuzz::small_tokenizer()));
  // Behind the fixed pieces a cut between two pieces is another, smaller vocabulary: only the model can tell.
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const std::string message = refusal(bytes.substr(0, length), 286);
    if (!message.starts_with("FILE: ")) FAIL("at " << length << ": " << message);
  }
  CHECK(refusal("") == "FILE: at byte 0: wanted the length of the longest piece (4 bytes), got the end of the file");
  CHECK(refusal(bytes.substr(0, 15)) == "FILE: at byte 12: wanted piece 0 (5 bytes), got only 3");
  CHECK(contains(refusal(bytes.substr(0, 17)), "has 1 pieces, wants 259"));
}

TEST_CASE("a tokenizer's file that lies is refused and does not allocate") {
  const std::string bytes = text_of(align::write_tokenizer(fuzz::small_tokenizer()));
  CHECK(contains(refusal(with(bytes, 0, -1)), "FILE: the longest piece has -1 bytes, wants 1 to 4096"));
  CHECK(contains(refusal(with(bytes, 0, 1 << 30)), "the longest piece has 1073741824 bytes"));
  CHECK(refusal(with(bytes, 8, 1 << 30)) == "FILE: piece 0 has 1073741824 bytes, the longest has 8");
  CHECK(refusal(with(bytes, 8, -1)) == "FILE: piece 0 has -1 bytes, the longest has 8");
  reset_allocations();
  (void)refusal(with(with(bytes, 0, 4096), 8, 4096));
  (void)refusal(with(with(bytes, 0, std::numeric_limits<int>::max()), 8, std::numeric_limits<int>::max()));
  CHECK(largest_allocation < 20 * bytes.size());
  CHECK(contains(refusal(with(bytes, 4, std::numeric_limits<float>::quiet_NaN())),
                 "FILE: piece 0 has a score that is no finite number"));
  std::string other = bytes;
  other[other.find("<0x41>")] = '[';
  CHECK(refusal(other) == "FILE: piece 68 is \"[0x41>\", wants <0x41>: the bytes begin at piece 3");
}
