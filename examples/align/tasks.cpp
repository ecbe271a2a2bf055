// The three things that rlhf-align works on.

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "align/data/bag_of_words.hpp"
#include "align/data/judgement.hpp"
#include "align/data/lexicon.hpp"
#include "align/data/preferences.hpp"
#include "align/data/split.hpp"
#include "align/data/tokenised.hpp"
#include "align/files/load.hpp"
#include "align/files/tokenizer.hpp"
#include "align/names.hpp"
#include "align/task.hpp"

namespace align {
namespace {

rlhf::responses as_responses(const token_sequences& sequences) {
  rlhf::responses out;
  for (std::size_t i = 0; i < sequences.size(); ++i) out.add(sequences[i].first(1), sequences[i].subspan(1));
  return out;
}
rlhf::preference_pairs as_pairs(const preference_pairs& pairs) {
  return {as_responses(pairs.chosen), as_responses(pairs.rejected)};
}

/// A pretrained model with its tokenizer.
std::shared_ptr<const tokenizer> begin_with_model(const settings& s, task& t) {
  model_file model = load_model(s.model);
  auto tokens = std::make_shared<const tokenizer>(load_tokenizer(s.tokenizer, model.options.vocabulary));
  t.shape = model.options;
  t.start = std::move(model.parameters);
  t.new_tokens = s.how.new_tokens;
  t.text = [tokens](std::span<const std::int32_t> some) { return tokens->decode(some); };
  return tokens;
}

/// Preferences as text and in tokens, side by side.
struct read_pairs {
  std::vector<preference> records;
  tokenised_preferences tokens;
};

nlohmann::ordered_json told(const preference_data& data) {
  nlohmann::ordered_json skipped = nlohmann::ordered_json::object();
  for (const auto& [reason, rows] : data.skipped)
    skipped[reason] = {{"rows", rows.count}, {"first", rows.first_message}};
  return {{"rows", data.rows},
          {"pairs", data.pairs.size()},
          {"ties", data.ties},
          {"forms", data.forms},
          {"skipped", std::move(skipped)}};
}

std::vector<std::int64_t> lengths(const std::vector<preference>& records, const std::vector<std::int64_t>& which,
                                  std::string preference::*side) {
  std::vector<std::int64_t> out;
  for (const std::int64_t i : which)
    out.push_back(static_cast<std::int64_t>((records[static_cast<std::size_t>(i)].*side).size()));
  return out;
}

}  // namespace

task names_task(const settings& s) {
  const names_data names = read_names({.directory = s.data, .seed = s.seed});
  const rlhf::random_key key{s.seed, 4};
  task t;
  t.what = subject::names;
  t.corpus = as_responses(encode(names.train));
  t.corpus_held_out = as_responses(encode(names.held_out));
  t.reward_pairs = as_pairs(female_over_male(names.train, static_cast<std::size_t>(s.how.reward_pairs), key));
  t.reward_held_out = as_pairs(female_over_male(names.held_out, 2000, key));
  t.prompts = {{name_tokens::begin}};
  t.judged_prompts = t.prompts;
  t.new_tokens = s.how.new_tokens;
  t.end_token = name_tokens::end;
  t.text = [](std::span<const std::int32_t> tokens) { return name_tokens::decode(tokens); };
  t.title = "Aligning a small language model of names";
  t.story =
      "A character model was fitted to English first names. A reward model learned from pairs of a female and a male "
      "name which "
      "one is preferred. Then the character model was aligned to that reward, and best-of-n is drawn beside it as what "
      "sampling "
      "alone can do.";
  t.unit = "name";
  return t;
}

task stories_task(const settings& s) {
  task t;
  t.what = subject::stories;
  const auto tokens = begin_with_model(s, t);
  const auto words = std::make_shared<const lexicon>(read_lexicon(s.lexicon));
  if (t.shape.context < s.how.prompt_tokens + s.how.new_tokens + 1)
    throw std::invalid_argument("--new-tokens: " + std::to_string(s.how.prompt_tokens) + " of a prompt and " +
                                std::to_string(s.how.new_tokens) + " new tokens do not fit the model's context of " +
                                std::to_string(t.shape.context));
  // A token depends on the one before it only in the space after begin, which a completion does not have.
  t.rule = [tokens, words](std::span<const std::int32_t> response) { return words->reward(tokens->decode(response)); };
  t.prompts = {{tokenizer::begin}};
  t.judged_prompts = t.prompts;
  t.begins = true;
  t.end_token = tokenizer::begin;  // llama2.c's stories follow each other with it between them
  t.title = "Aligning a story teller to cheerfulness";
  t.story =
      "A pretrained model continues stories that it began itself. The reward of a continuation is its sentiment: the "
      "sum of its words' "
      "valences in a lexicon, divided by 3. It is exact, so that no method can be flattered by a learned reward's "
      "errors. Every method "
      "starts from the same model; best-of-n is drawn beside them as what sampling alone can do.";
  t.unit = "continuation";
  return t;
}

task pairs_task(const settings& s) {
  task t;
  t.what = subject::pairs;
  const auto tokens = begin_with_model(s, t);
  const encode_function encode = [tokens](std::string_view text) { return tokens->encode(text, false); };
  const sequence_limits limits{.context = t.shape.context, .begin = tokenizer::begin, .end = tokenizer::end};
  t.end_token = tokenizer::end;

  const preference_data data = read_preferences(s.pairs, {.skip_bad = s.skip_bad});
  nlohmann::ordered_json found = told(data);
  if (data.pairs.empty())
    throw std::runtime_error(s.pairs + ": no pairs to learn from (" + std::to_string(data.rows) + " rows, " +
                             std::to_string(data.singles.size()) + " of them unpaired)");
  read_pairs train, held_out;
  if (s.eval_pairs.empty()) {
    const split_rows rows = split_by_prompt(std::span<const preference>(data.pairs), {.seed = s.seed});
    train.records = select_rows(std::span<const preference>(data.pairs), std::span<const std::size_t>(rows.train));
    held_out.records =
        select_rows(std::span<const preference>(data.pairs), std::span<const std::size_t>(rows.held_out));
  } else {
    train.records = data.pairs;
    preference_data other = read_preferences(s.eval_pairs, {.skip_bad = s.skip_bad});
    held_out.records = std::move(other.pairs);
    found["eval"] = told(other);
  }
  train.tokens = tokenised_pairs(train.records, encode, limits);
  held_out.tokens = tokenised_pairs(held_out.records, encode, limits);
  if (train.tokens.pairs.chosen.size() == 0 || held_out.tokens.pairs.chosen.size() == 0)
    throw std::runtime_error(s.pairs + ": " + std::to_string(train.tokens.pairs.chosen.size()) +
                             " pairs to train on and " + std::to_string(held_out.tokens.pairs.chosen.size()) +
                             " to judge by; both need some");
  found["train"] = train.tokens.pairs.chosen.size();
  found["held_out"] = held_out.tokens.pairs.chosen.size();
  found["prompts_cut"] = train.tokens.prompts_cut + held_out.tokens.prompts_cut;
  found["responses_cut"] = train.tokens.responses_cut + held_out.tokens.responses_cut;
  t.tables["data"] = found.dump();
  std::fprintf(stderr,
               "pairs          %lld to train on, %lld held out; cut to the context: %lld prompts, %lld responses\n",
               static_cast<long long>(train.tokens.pairs.chosen.size()),
               static_cast<long long>(held_out.tokens.pairs.chosen.size()),
               static_cast<long long>(train.tokens.prompts_cut + held_out.tokens.prompts_cut),
               static_cast<long long>(train.tokens.responses_cut + held_out.tokens.responses_cut));
  for (const auto& [reason, rows] : data.skipped)
    std::fprintf(stderr, "               %lld rows skipped: %s (first: %s)\n", static_cast<long long>(rows.count),
                 reason.c_str(), rows.first_message.c_str());

  // Lengths in bytes of the text as it was given, the same measure for every model.
  const auto chosen_length = lengths(held_out.records, held_out.tokens.records, &preference::chosen),
             rejected_length = lengths(held_out.records, held_out.tokens.records, &preference::rejected);
  t.judge_pairs = [chosen_length, rejected_length](std::span<const float> chosen, std::span<const float> rejected) {
    return to_json(judge(std::vector<double>(chosen.begin(), chosen.end()),
                         std::vector<double>(rejected.begin(), rejected.end()), chosen_length, rejected_length))
        .dump();
  };
  const bag_of_words baseline = bag_of_words::fit(train.records, {.seed = s.seed});
  std::vector<float> chosen, rejected;
  for (const std::int64_t i : held_out.tokens.records) {
    chosen.push_back(static_cast<float>(baseline.score(held_out.records[static_cast<std::size_t>(i)].chosen)));
    rejected.push_back(static_cast<float>(baseline.score(held_out.records[static_cast<std::size_t>(i)].rejected)));
  }
  t.tables["bag of words"] = t.judge_pairs(chosen, rejected);

  t.reward_pairs = train.tokens.pairs;
  t.preference = train.tokens.pairs;
  t.reward_held_out = held_out.tokens.pairs;
  const std::int64_t room = t.shape.context - std::max<std::int64_t>(1, s.how.new_tokens);
  const auto prompts = [&](const rlhf::responses& from, rlhf::prompt_list& to) {
    for (std::int64_t i = 0; i < from.size(); ++i) {
      std::vector<std::int32_t> one(from.prompt(i).begin(), from.prompt(i).end());
      // What does not leave room for a response loses its beginning, as in the pairs.
      if (const auto size = static_cast<std::int64_t>(one.size()); size > room)
        one.erase(one.begin() + 1, one.begin() + 1 + (size - std::max<std::int64_t>(1, room)));
      to.push_back(std::move(one));
    }
  };
  prompts(train.tokens.pairs.chosen, t.prompts);
  prompts(held_out.tokens.pairs.chosen, t.judged_prompts);
  t.title = "Learning from preferences";
  t.story =
      "A reward model and a policy (DPO) learned from pairs of responses of which people preferred one. What both say "
      "about pairs "
      "that neither has seen is in the table of held-out preferences, with word counts and length as baselines beside "
      "them.";
  t.unit = "response";
  return t;
}

}  // namespace align
