#pragma once
// First names: a language of 29 letters that a tiny model learns in seconds, with a real label for a reward model.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "align/model/batch.hpp"
#include "rlhf/math/random.hpp"

namespace align {

/// A token per character: the letters a to z (upper case is read as lower) and the hyphen.
namespace name_tokens {

inline constexpr std::int32_t begin = 0;  ///< the first token of every sequence, and the whole of every prompt
inline constexpr std::int32_t end = 1;    ///< the last token of every complete name
inline constexpr std::int32_t letter_a = 2;
inline constexpr std::int32_t hyphen = 28;
inline constexpr int vocabulary = 29;

/// begin, the characters, end. Throws std::invalid_argument for a character that has no token.
[[nodiscard]] std::vector<std::int32_t> encode(std::string_view name);
/// The characters, without begin, up to the first end.
[[nodiscard]] std::string decode(std::span<const std::int32_t> tokens);
/// `count` prompts that ask for a name: begin alone.
[[nodiscard]] token_sequences prompts(std::size_t count);

}  // namespace name_tokens

/// A name in lower case, and in which of the two lists it stands; some stand in both.
struct labelled_name {
  std::string text;
  bool female = false;
  bool male = false;
};

struct names_options {
  std::string directory = {};  ///< with female.txt and male.txt; empty: the files of the source tree
  std::uint64_t seed = 1;      ///< of the split
  double held_out = 0.1;       ///< the share of names kept for evaluation
  std::size_t longest = 14;    ///< longer names are left out: with begin and end they must fit the context
};

/// The names, each once, in random order, in two disjoint parts.
struct names_data {
  std::vector<labelled_name> train = {};
  std::vector<labelled_name> held_out = {};
};

/// Reads the two lists, a name a line. Throws std::runtime_error, with file and line, for what cannot be read.
[[nodiscard]] names_data read_names(const names_options& options = {});

/// The encoded names in their order, for maximum likelihood.
[[nodiscard]] token_sequences encode(std::span<const labelled_name> names);

/// Pairs of names, the first of which is preferred.
struct preference_pairs {
  token_sequences chosen = {};
  token_sequences rejected = {};
};

/// `count` random pairs (with replacement) of a female name, chosen, and a male name, rejected. Names that stand in
/// both lists are left out. Throws std::invalid_argument when there is none of a kind.
[[nodiscard]] preference_pairs female_over_male(std::span<const labelled_name> names, std::size_t count,
                                                rlhf::random_key key);

}  // namespace align
