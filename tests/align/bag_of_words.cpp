// The word-count baseline.

#include "align/data/bag_of_words.hpp"

#include <string>
#include <vector>

#include "align/data.hpp"
#include "align/data/split.hpp"
#include "rlhf/math/random.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

using align::preference;

namespace {

preference pair_of(const std::string& chosen, const std::string& rejected) {
  preference pair;
  pair.chosen = chosen;
  pair.rejected = rejected;
  return pair;
}

/// The mean over ten seeds of the accuracy on held-out prompts, as in docs/preference-data.md.
double held_out_accuracy(std::span<const preference> pairs, const align::bag_of_words_options& options) {
  double mean = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    double right = 0;
    const align::split_rows rows = align::split_by_prompt(pairs, {.seed = seed});
    const auto model =
        align::bag_of_words::fit(align::select_rows(pairs, std::span<const std::size_t>(rows.train)), options);
    for (const std::size_t row : rows.held_out) {
      const double margin = model.score(pairs[row].chosen) - model.score(pairs[row].rejected);
      right += margin > 0 ? 1 : margin == 0 ? 0.5 : 0;
    }
    mean += right / static_cast<double>(rows.held_out.size()) / 10;
  }
  return mean;
}

}  // namespace

TEST_CASE("a word that only the better ones have is found") {
  const rlhf::random_numbers random({.seed = 1});
  const std::vector<std::string> words{"red", "green", "blue", "it's"};
  std::vector<preference> pairs;
  for (std::uint32_t i = 0; i < 200; ++i) {
    const auto word = [&](std::uint32_t draw) { return words[random.integer(4, {.prompt = i, .draw = draw})]; };
    pairs.push_back(pair_of("Good, " + word(0) + "! " + word(1), word(2) + " " + word(3) + " bad"));
  }
  pairs.push_back(pair_of("once", "red"));
  const align::bag_of_words model = align::bag_of_words::fit(pairs, {.epochs = 50});
  CHECK(model.words() == 6);  // `once` stands in one response only
  CHECK(model.weight("good") > 0.05);
  CHECK(model.weight("bad") < -0.05);
  for (const std::string& word : words) CHECK(std::abs(model.weight(word)) < 0.6 * model.weight("good"));
  CHECK(model.weight("once") == 0);
  CHECK(model.score("GOOD good") == Approx(2 * model.weight("good")));
  CHECK(model.score("unknown?") == 0);

  const align::bag_of_words again = align::bag_of_words::fit(pairs, {.epochs = 50});
  CHECK(again.weight("good") == model.weight("good"));
  const align::bag_of_words held = align::bag_of_words::fit(pairs, {.epochs = 50, .weight_decay = 100});
  CHECK(held.weight("good") < 0.7 * model.weight("good"));
}

TEST_CASE("no pairs, no model; no words, no opinion") {
  CHECK(refusal([] { (void)align::bag_of_words::fit({}); }) == "bag_of_words: there are no pairs to learn from");
  const std::vector<preference> pairs{pair_of("?", "!")};
  CHECK(align::bag_of_words::fit(pairs).score("anything") == 0);
}

TEST_CASE("real preferences") {
  struct expected {
    const char* file;
    double accuracy;
  };
  for (const expected& e : {expected{"preferences/oasst_en_val_pairs.json", 0.651},
                            {"preferences/hh_harmless_test.jsonl.gz", 0.609},
                            {"preferences/pandalm.json", 0.653},
                            {"preferences/llamafactory_dpo_en_demo.json", 0.591}}) {
    const std::string path = align_tests::real_file(e.file);
    if (path.empty()) continue;
    const align::preference_data data = align::read_preferences(path, {.skip_bad = true});
    INFO(e.file);
    CHECK(held_out_accuracy(data.pairs, {}) == Approx(e.accuracy).margin(0.005));
  }
}
