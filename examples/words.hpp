#pragma once
// Invented words, and a rule that likes some of them: the task on which networks of other libraries are trained (torch/, ggml/).

#include <algorithm>
#include <string>
#include <vector>

#include "rlhf/core/view.hpp"
#include "rlhf/math/random.hpp"
#include "rlhf/policy/responses.hpp"
#include "rlhf/train/pairs.hpp"

namespace words {

inline constexpr std::int64_t vocabulary = 28;  ///< end, a to z, begin
inline constexpr std::int32_t end = 0, begin = 27;

/// Two to four syllables, then the end: ba, ne, ti, ...
inline rlhf::responses invented(std::int64_t count) {
  const std::string consonants = "bdfgklmnprstvz", vowels = "aeiou";
  const rlhf::random_numbers numbers({.seed = 1, .stream = 1});
  rlhf::responses all;
  const std::int32_t prompt[] = {begin};
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint32_t draw = 0;
    const auto one_of = [&](std::size_t n) {
      return static_cast<std::size_t>(numbers.uniform({static_cast<std::uint32_t>(i), 0, 0, draw++}) *
                                      static_cast<double>(n));
    };
    std::vector<std::int32_t> word;
    for (std::size_t syllables = 2 + one_of(3); syllables > 0; --syllables) {
      word.push_back(consonants[one_of(consonants.size())] - 'a' + 1);
      word.push_back(vowels[one_of(vowels.size())] - 'a' + 1);
    }
    word.push_back(end);
    all.add(prompt, word);
  }
  return all;
}

/// Likes the letter a, and words that end.
struct likes_a {
  void rewards(const rlhf::responses& batch, std::span<float> out) const {
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      const auto word = batch.response(i);
      out[static_cast<std::size_t>(i)] =
          static_cast<float>(std::ranges::count(word, 1)) - (word.back() == end ? 0.0f : 1.0f);
    }
  }
};

inline rlhf::prompt_list prompts(std::size_t n) { return rlhf::prompt_list(n, {begin}); }

/// Pairs of what a policy draws, labelled by the rule; equals are left out.
template <class Policy>
rlhf::preference_pairs judged_pairs(Policy& p, std::size_t prompt_count) {
  const rlhf::responses drawn = p.sample(prompts(prompt_count), 2, {.seed = 2, .stream = 2});
  std::vector<float> score(static_cast<std::size_t>(drawn.size()));
  likes_a{}.rewards(drawn, score);
  rlhf::preference_pairs pairs;
  for (std::int64_t i = 0; i < drawn.size(); i += 2) {
    const float first = score[static_cast<std::size_t>(i)], second = score[static_cast<std::size_t>(i) + 1];
    if (first == second) continue;
    pairs.chosen.add(drawn, first > second ? i : i + 1);
    pairs.rejected.add(drawn, first > second ? i + 1 : i);
  }
  return pairs;
}

template <class Policy>
double mean_reward(Policy& p) {
  const rlhf::responses drawn = p.sample(prompts(256), 1, {.seed = 9, .stream = 9});
  std::vector<float> score(256);
  likes_a{}.rewards(drawn, score);
  double sum = 0;
  for (const float s : score) sum += static_cast<double>(s);
  return sum / 256;
}

template <class Policy>
std::string some(Policy& p) {
  const rlhf::responses drawn = p.sample(prompts(6), 1, {.seed = 10, .stream = 10});
  std::string out;
  for (std::int64_t i = 0; i < drawn.size(); ++i) {
    for (const std::int32_t t : drawn.response(i))
      if (t > end && t < begin) out.push_back(static_cast<char>('a' + t - 1));
    out.push_back(' ');
  }
  return out;
}

/// Draws n responses to each prompt. `probabilities(next)` are the distributions after the prompts of `next`, row after row: every step
/// reads whole prefixes again, which is short to read. A sampler in earnest keeps the network's state.
template <class Probabilities>
rlhf::responses sample_prefixes(const rlhf::prompt_list& prompts, std::int64_t n, rlhf::random_key key,
                                std::int32_t end_token, std::int64_t max_tokens, Probabilities&& probabilities) {
  const rlhf::random_numbers numbers(key);
  const auto samples = static_cast<std::size_t>(n);
  rlhf::prompt_list text;
  for (const auto& prompt : prompts) text.insert(text.end(), samples, prompt);
  std::vector<std::size_t> open(text.size());
  for (std::size_t i = 0; i < open.size(); ++i) open[i] = i;
  for (std::int64_t t = 0; t < max_tokens && !open.empty(); ++t) {
    rlhf::responses next;  // one token more, whichever it will be
    for (const std::size_t i : open) next.add(text[i], std::span(&end_token, 1));
    const std::vector<float> all = probabilities(next);
    const auto columns = static_cast<std::int64_t>(all.size() / open.size());
    const rlhf::view<const float, 2> rows(all.data(), next.size(), columns);
    for (std::size_t k = 0; k < open.size(); ++k) {
      const std::size_t i = open[k];
      const double u = numbers.uniform({static_cast<std::uint32_t>(i / samples),
                                        static_cast<std::uint32_t>(i % samples), static_cast<std::uint32_t>(t)});
      const float* const row = rows.row(static_cast<std::int64_t>(k));
      double below = 0;
      std::int32_t token = 0;
      while (token < columns - 1 && u >= (below += static_cast<double>(row[token]))) ++token;
      text[i].push_back(token);
    }
    std::erase_if(open, [&](std::size_t i) { return text[i].back() == end_token; });
  }
  rlhf::responses out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::span<const std::int32_t> all = text[i];
    const std::size_t begin_of_response = prompts[i / samples].size();
    out.add(all.first(begin_of_response), all.subspan(begin_of_response));
  }
  return out;
}

}  // namespace words
