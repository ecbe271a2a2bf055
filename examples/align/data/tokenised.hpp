#pragma once
// Preferences as tokens, cut to a model's context.

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "align/data/preferences.hpp"
#include "rlhf/policy/responses.hpp"
#include "rlhf/train/preference.hpp"

namespace align {

/// The tokens of a text, without begin and end of text.
using encode_function = std::function<std::vector<std::int32_t>(std::string_view)>;

/// What a sequence may hold, and the tokens around it.
struct sequence_limits {
  std::int64_t context = 0;  ///< most tokens of prompt and response together, both ends counted; at least 2
  std::int32_t begin = 1;    ///< before every prompt
  std::int32_t end = 2;      ///< after every response that is whole
};

/// Pairs in tokens. A sequence is begin, prompt, response, end; prompt and response are encoded apart.
///
/// A pair whose longer side does not fit loses tokens from the left of its prompt, after begin, the same on both sides, so
/// that both answer the same question. A response that does not fit with nothing but begin before it loses its end, and the
/// end token with it: it has not ended there. Pairs whose cut responses are the same are left out.
struct tokenised_preferences {
  rlhf::preference_pairs pairs = {};
  std::vector<std::int64_t> records = {};  ///< which record each pair is
  std::int64_t prompts_cut = 0;            ///< pairs
  std::int64_t responses_cut = 0;          ///< responses
  std::int64_t equal = 0;                  ///< pairs left out
};
/// Throws std::invalid_argument for a context under 2.
[[nodiscard]] tokenised_preferences tokenised_pairs(std::span<const preference> records, const encode_function& encode,
                                                    const sequence_limits& limits);

/// Labelled responses in tokens, cut in the same way; element i is record i.
struct tokenised_labels {
  rlhf::responses responses = {};
  std::vector<std::uint8_t> desirable = {};
  std::int64_t prompts_cut = 0;
  std::int64_t responses_cut = 0;
};
[[nodiscard]] tokenised_labels tokenised_responses(std::span<const labelled> records, const encode_function& encode,
                                                   const sequence_limits& limits);

}  // namespace align
