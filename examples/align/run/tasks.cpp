// The three things that rlhf-align works on.

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "align/data/bag_of_words.hpp"
#include "align/data/judgement.hpp"
#include "align/data/lexicon.hpp"
#include "align/data/names.hpp"
#include "align/data/preferences.hpp"
#include "align/data/split.hpp"
#include "align/data/tokenised.hpp"
#include "align/files/load.hpp"
#include "align/files/tokenizer.hpp"
#include "align/run/algorithms.hpp"
#include "align/run/task.hpp"

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

bool names(const settings& s, const char* algorithm) {
  return std::find(s.algorithms.begin(), s.algorithms.end(), algorithm) != s.algorithms.end();
}

/// Whether the text of a token holds one of some characters, looked up once for all tokens.
template <class Text>
std::function<bool(std::int32_t)> ends_with(const Text& text, std::int32_t vocabulary, const char* characters) {
  std::vector<bool> ends;
  for (std::int32_t token = 0; token < vocabulary; ++token)
    ends.push_back(text(std::span<const std::int32_t>(&token, 1)).find_first_of(characters) != std::string::npos);
  return [ends](std::int32_t token) { return ends[static_cast<std::size_t>(token)]; };
}

/// A pretrained model with its tokenizer.
std::shared_ptr<const tokenizer> begin_with_model(const settings& s, task& t) {
  if (names(s, "sft") && s.subject() != subject::pairs)
    throw std::invalid_argument(
        "--algorithm sft: there is no text to learn from; give --pairs, whose preferred responses it learns");
  model_file model = load_model(s.model);
  auto tokens = std::make_shared<const tokenizer>(load_tokenizer(s.tokenizer, model.options.vocabulary));
  t.shape = model.options;
  t.start = std::move(model.parameters);
  t.new_tokens = s.how.new_tokens;
  t.text = [tokens](std::span<const std::int32_t> some) { return tokens->decode(some); };
  t.ends_segment = ends_with([tokens](std::span<const std::int32_t> some) { return tokens->decode(some); },
                             model.options.vocabulary, ".!?");
  return tokens;
}

rlhf::labelled_responses as_labels(const tokenised_labels& from) {
  rlhf::labelled_responses out{from.responses, {}, {}};
  for (const std::uint8_t desirable : from.desirable) out.label.push_back(desirable != 0 ? 1.0f : 0.0f);
  return out;
}

/// What people like: the chosen responses of pairs, and those with a good label.
rlhf::responses preferred(const rlhf::preference_pairs& pairs, const rlhf::labelled_responses& singles) {
  rlhf::responses out = pairs.chosen;
  for (std::int64_t i = 0; i < singles.response.size(); ++i)
    if (singles.label[static_cast<std::size_t>(i)] > 0.5f) out.add(singles.response, i);
  return out;
}

nlohmann::ordered_json told(const preference_data& data) {
  nlohmann::ordered_json skipped = nlohmann::ordered_json::object();
  for (const auto& [reason, rows] : data.skipped)
    skipped[reason] = {{"rows", rows.count}, {"first_line", rows.first_line}};
  return {{"rows", data.rows},
          {"pairs", std::ranges::count_if(data.pairs, [](const preference& p) { return !p.tied(); })},
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
  t.reward.pairs = as_pairs(female_over_male(names.train, static_cast<std::size_t>(s.how.reward_pairs), key));
  t.reward.held_out = as_pairs(female_over_male(names.held_out, 2000, key));
  t.prompts = {{name_tokens::begin}};
  t.judged_prompts = t.prompts;
  t.new_tokens = s.how.new_tokens;
  t.end_token = name_tokens::end;
  t.text = [](std::span<const std::int32_t> tokens) { return name_tokens::decode(tokens); };
  t.ends_segment = ends_with(t.text, name_tokens::vocabulary, "aeiouyAEIOUY");
  t.algorithms = default_algorithms(t.what);
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
  if (names(s, "reward_model"))
    throw std::invalid_argument("--algorithm reward_model: the reward is the lexicon's, there is nothing to learn");
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
  t.algorithms = default_algorithms(t.what);
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

  const bool ties = knows_ties(s.reward_loss);
  const preference_data data = read_preferences(s.pairs, {.skip_bad = s.skip_bad, .keep_ties = ties});
  preference_data judged;
  nlohmann::ordered_json found = told(data);
  if (!s.eval_pairs.empty()) {
    judged = read_preferences(s.eval_pairs, {.skip_bad = s.skip_bad});
    found["eval"] = told(judged);
  }
  // What is held out: the other file, or a fifth of the prompts.
  const auto parts = [&]<class Record>(const std::vector<Record>& all, const std::vector<Record>& other) {
    const std::span<const Record> rows(all);
    if (!s.eval_pairs.empty()) return std::pair{all, other};
    const split_rows split = split_by_prompt(rows, {.seed = s.seed});
    return std::pair{select_rows(rows, std::span<const std::size_t>(split.train)),
                     select_rows(rows, std::span<const std::size_t>(split.held_out))};
  };
  auto [train, held_out] = parts(data.pairs, judged.pairs);
  auto [train_singles, held_out_singles] = parts(data.singles, judged.singles);
  // A tie says nothing of which is better: the reward model alone learns from it, beside the pairs that all learn from, and
  // nothing is judged by it.
  std::vector<preference> compared = ties ? train : std::vector<preference>{};
  for (std::vector<preference>* of : {&train, &held_out})
    std::erase_if(*of, [](const preference& p) { return p.tied(); });
  if (const auto most = static_cast<std::size_t>(s.how.most_pairs); most > 0) {
    if (ties && train.size() > most) {
      std::size_t decided = 0, end = 0;
      while (decided < most) decided += compared[end++].tied() ? 0u : 1u;
      compared.resize(end);
    }
    train.resize(std::min(train.size(), most));
    train_singles.resize(std::min(train_singles.size(), most));
  }
  const tokenised_preferences pairs = tokenised_pairs(train, encode, limits),
                              other = tokenised_pairs(held_out, encode, limits),
                              with_ties = tokenised_pairs(compared, encode, limits);
  const tokenised_labels singles = tokenised_responses(train_singles, encode, limits),
                         other_singles = tokenised_responses(held_out_singles, encode, limits);
  const std::int64_t to_learn = pairs.pairs.chosen.size() + singles.responses.size(),
                     to_judge = other.pairs.chosen.size() + other_singles.responses.size();
  if (to_learn == 0 || to_judge == 0)
    throw std::runtime_error(s.pairs + ": " + std::to_string(data.rows) + " rows give " + std::to_string(to_learn) +
                             " preferences to learn from and " + std::to_string(to_judge) +
                             " to judge by; both need some");
  // Ties alone teach nothing: where nothing else is paired, the reward is learned from labels.
  const bool from_ties = ties && pairs.pairs.chosen.size() > 0;
  const tokenised_preferences& scored = from_ties ? with_ties : pairs;
  const std::vector<preference>& scored_rows = from_ties ? compared : train;
  const std::int64_t prompts_cut =
                         scored.prompts_cut + other.prompts_cut + singles.prompts_cut + other_singles.prompts_cut,
                     responses_cut = scored.responses_cut + other.responses_cut + singles.responses_cut +
                                     other_singles.responses_cut;
  found["pairs_to_learn"] = pairs.pairs.chosen.size();
  found["pairs_held_out"] = other.pairs.chosen.size();
  found["labels_to_learn"] = singles.responses.size();
  found["labels_held_out"] = other_singles.responses.size();
  found["prompts_cut"] = prompts_cut;
  found["responses_cut"] = responses_cut;
  const auto tied = std::ranges::count_if(
      scored.records, [&](std::int64_t i) { return scored_rows[static_cast<std::size_t>(i)].tied(); });
  if (from_ties) found["ties_to_learn"] = tied;
  t.tables["data"] = found.dump();
  const auto say = [](const char* what, std::int64_t learn, std::int64_t judge_by) {
    if (learn + judge_by > 0)
      std::fprintf(stderr, "%-14s %lld to learn from, %lld held out\n", what, static_cast<long long>(learn),
                   static_cast<long long>(judge_by));
  };
  say("pairs", pairs.pairs.chosen.size(), other.pairs.chosen.size());
  if (tied > 0) std::fprintf(stderr, "%-14s %lld to learn from\n", "ties", static_cast<long long>(tied));
  say("labels", singles.responses.size(), other_singles.responses.size());
  if (prompts_cut + responses_cut > 0)
    std::fprintf(stderr, "               cut to the model's context of %d: %lld prompts, %lld responses\n",
                 t.shape.context, static_cast<long long>(prompts_cut), static_cast<long long>(responses_cut));
  for (const auto& [reason, rows] : data.skipped)
    std::fprintf(stderr, "               %lld rows skipped: %s (first: %s)\n", static_cast<long long>(rows.count),
                 reason.c_str(), rows.first_message.c_str());

  t.reward = {scored.pairs, other.pairs, as_labels(singles), as_labels(other_singles)};
  for (const std::int64_t i : scored.records) {
    // Where nobody said by how much: the lead of the votes, 1 where there were none.
    const preference& record = scored_rows[static_cast<std::size_t>(i)];
    t.reward.pairs.margin.push_back(static_cast<float>(record.margin.value_or(2 * record.agreement - 1)));
    t.reward.pairs.probability.push_back(static_cast<float>(record.agreement));
  }
  if (std::ranges::all_of(t.reward.pairs.probability, [](float p) { return p == 1; }))
    t.reward.pairs.probability.clear();  // nobody voted
  if (names(s, "sft")) {
    t.corpus = preferred(t.reward.pairs, t.reward.labels);
    t.corpus_held_out = preferred(t.reward.held_out, t.reward.held_out_labels);
  }
  t.preference = pairs.pairs;
  const unsigned there =
      (pairs.pairs.chosen.size() > 0 ? need::pairs : 0u) | (singles.responses.size() > 0 ? need::labels : 0u);
  const auto lacks = [there](const std::string& algorithm, unsigned kind) {
    const algorithm_entry* const known = find_algorithm(algorithm);
    return known != nullptr && (known->needs & kind & ~there) != 0;
  };
  for (const std::string& a : default_algorithms(t.what))
    if (!lacks(a, need::pairs | need::labels)) t.algorithms.push_back(a);
  for (const std::string& a : s.algorithms) {
    if (lacks(a, need::pairs))
      throw std::runtime_error("--algorithm " + a + " wants pairs, but " + s.pairs +
                               " has single responses only: kto learns from those");
    if (lacks(a, need::labels))
      throw std::runtime_error("--algorithm " + a + " wants single responses with labels, but " + s.pairs +
                               " has pairs only: dpo learns from those");
  }
  if (other.pairs.chosen.size() > 0) {
    // Lengths in bytes of the text as it was given, the same measure for every model.
    const auto chosen_length = lengths(held_out, other.records, &preference::chosen),
               rejected_length = lengths(held_out, other.records, &preference::rejected);
    t.judge_pairs = [chosen_length, rejected_length](std::span<const float> chosen, std::span<const float> rejected,
                                                     const win_law& law) {
      return to_json(judge(std::vector<double>(chosen.begin(), chosen.end()),
                           std::vector<double>(rejected.begin(), rejected.end()), chosen_length, rejected_length, law))
          .dump();
    };
    if (!train.empty()) {
      const bag_of_words baseline = bag_of_words::fit(train, {.seed = s.seed});
      std::vector<float> chosen, rejected;
      for (const std::int64_t i : other.records) {
        chosen.push_back(static_cast<float>(baseline.score(held_out[static_cast<std::size_t>(i)].chosen)));
        rejected.push_back(static_cast<float>(baseline.score(held_out[static_cast<std::size_t>(i)].rejected)));
      }
      t.tables["bag of words"] = t.judge_pairs(chosen, rejected, {});
    }
  }

  const std::int64_t room = std::max<std::int64_t>(1, t.shape.context - std::max<std::int64_t>(1, s.how.new_tokens));
  const auto prompts = [&](const rlhf::responses& from, rlhf::prompt_list& to) {
    for (std::int64_t i = 0; i < from.size(); ++i) {
      std::vector<std::int32_t> one(from.prompt(i).begin(), from.prompt(i).end());
      // What does not leave room for a response loses its beginning, as in the pairs.
      if (const auto size = static_cast<std::int64_t>(one.size()); size > room)
        one.erase(one.begin() + 1, one.begin() + 1 + (size - room));
      to.push_back(std::move(one));
    }
  };
  for (const rlhf::responses* from : {&t.preference.chosen, &t.reward.labels.response}) prompts(*from, t.prompts);
  for (const rlhf::responses* from : {&t.reward.held_out.chosen, &t.reward.held_out_labels.response})
    prompts(*from, t.judged_prompts);
  t.title = "Learning from preferences";
  t.story =
      "A reward model and a policy learned from what people prefer: DPO from pairs of responses, KTO from single ones "
      "with a label. What "
      "they say about preferences that none of them has seen is below, with word counts and length as baselines.";
  t.unit = "response";
  return t;
}

task task_of(const settings& s) {
  switch (s.subject()) {
    case subject::names:
      return names_task(s);
    case subject::stories:
      return stories_task(s);
    case subject::pairs:
      return pairs_task(s);
  }
  throw std::logic_error("no such subject");
}

}  // namespace align
