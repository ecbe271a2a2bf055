// Word lists and the reward made of them.

#include "align/data/lexicon.hpp"

#include <string>

#include "align/data.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

namespace {

align::lexicon parse(std::string_view text) { return align::parse_lexicon(text, "x"); }
std::string error_of(std::string_view text) {
  return refusal([&] { (void)parse(text); });
}

const align::lexicon words = parse(
    "good\t1.9\t0.9434\t[2, 1, 1, 3, 2, 4, 2, 2, 1, 1]\n"
    ":)\t2.0\t1.18322\t[2, 2, 1, 1, 1, 1, 4, 3, 4, 1]\r\n"
    "\n"
    ":D\t2.3\t0.78102\t[2, 3, 2, 2, 4, 2, 3, 3, 1, 1]\n"
    "don't like\t-2\n"
    "fed up\t-1.8\t0.74833\t[-2, -3, -1, -2, -1, -3, -2, -1, -1, -2]\n"
    "up\t0.5\n"
    "can't\t-1\n"
    "na\xC3\xAFve\t-1\n");

}  // namespace

TEST_CASE("words, emoticons and entries of several words add up") {
  CHECK(words.size() == 8);
  CHECK(words.repeated() == 0);
  CHECK(words.sum("") == 0);
  CHECK(words.sum("  \n nothing of that") == 0);
  CHECK(words.sum("good") == Approx(1.9));
  CHECK(words.reward("Good, GOOD \"good\"! good") == Approx(4 * 1.9 / 3));
  CHECK(words.sum("goodness gooood") == 0);
  CHECK(words.sum("a :) b") == Approx(2.0));
  CHECK(words.sum("good :) - good") == Approx(5.8));
  CHECK(words.sum("a:) :), :d") == 0);
  CHECK(words.sum(":D\n:)") == Approx(4.3));
  CHECK(words.sum("I am fed up, really") == Approx(-1.8));
  CHECK(words.sum("Fed\nUP") == Approx(-1.8));
  CHECK(words.sum("up fed") == Approx(0.5));
  CHECK(words.sum("I don't like it; I can't.") == Approx(-3));
  CHECK(words.sum("'can't'") == Approx(-1));
  CHECK(words.sum("good-natured...good") == Approx(3.8));
  CHECK(words.sum("na\xC3\xAFve") == Approx(-1));
  REQUIRE(words.find(":D") != nullptr);
  CHECK(*words.find(":D") == 2.3);
  CHECK(words.find(":d") == nullptr);
}

TEST_CASE("an entry given again is counted, the last line holds") {
  const align::lexicon twice = parse("a\t1\na\t2\nb\t1");
  CHECK((twice.size() == 2 && twice.repeated() == 1 && *twice.find("a") == 2));
}

TEST_CASE("lines that are no entries say where and why") {
  const std::string fields = " fields (wants word and valence, or word, mean, deviation and ratings, tabs between)";
  CHECK(error_of("a\t1\ngood") == "x:2: the line has 1" + fields);
  CHECK(error_of("good 1") == "x:1: the line has 1" + fields);
  CHECK(error_of("a\t1\t2") == "x:1: the line has 3" + fields);
  CHECK(error_of("a\t1\t2\t[1]\t") == "x:1: the line has 5" + fields);
  CHECK(error_of(" \t1") == "x:1: the word is empty");
  CHECK(error_of("a\tb") == "x:1: the valence is no number (got `b`)");
  CHECK(error_of("a\t") == "x:1: the valence is no number (got ``)");
  CHECK(error_of("a\t1x") == "x:1: the valence is no number (got `1x`)");
  CHECK(error_of("a\tinf") == "x:1: the valence is no number (got `inf`)");
  CHECK(error_of("a\t1\tz\t[1]") == "x:1: the deviation is no number (got `z`)");
  CHECK(error_of("a\t1\t-1\t[1]") == "x:1: the deviation is negative (got `-1`)");
  for (const std::string ratings : {"", "1", "[]", "[1", "[1,]", "[1 2]", "[1, x]", "[1.5]"})
    CHECK(error_of("a\t1\t1\t" + ratings) ==
          "x:1: the ratings are no list of whole numbers (got `" + ratings + "`, wants [1, 2, ...])");
  CHECK(error_of("a\xFF\t1") == "x:1: not UTF-8 (byte 2 of the line)");
  CHECK(error_of("") == "x: the word list is empty");
  CHECK(error_of(std::string(5000, 'a')) == "x:1: the row is longer than 4096 bytes");
  CHECK(refusal([] { (void)align::read_lexicon("/nonexistent"); }) ==
        "/nonexistent: cannot be opened (No such file or directory)");
}

TEST_CASE("real word lists") {
  if (const std::string path = align_tests::real_file("sentiment/vader_lexicon.txt"); !path.empty()) {
    const align::lexicon vader = align::read_lexicon(path);
    CHECK((vader.size() == 7506 && vader.repeated() == 14));
    CHECK(*vader.find("good") == 1.9);
    CHECK(vader.reward("The food was GOOD, but the service was horrible :(") == Approx((1.9 - 2.5 - 1.9) / 3));
  }
  if (const std::string path = align_tests::real_file("sentiment/afinn-165.tsv"); !path.empty()) {
    const align::lexicon afinn = align::read_lexicon(path);
    CHECK((afinn.size() == 3382 && afinn.repeated() == 0));
    CHECK(afinn.sum("abandoned, with bad luck") == -4);
  }
}
