#include "align/data/tokenised.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace align {

namespace {

using tokens = std::vector<std::int32_t>;

void check(const sequence_limits& limits, const char* function) {
  if (limits.context < 2)
    throw std::invalid_argument(std::string(function) + ": context is " + std::to_string(limits.context) +
                                ", wants at least 2 (the begin token and one of the response)");
}

/// The response with its end, cut where it does not fit behind the begin token.
tokens response_tokens(std::string_view text, const encode_function& encode, const sequence_limits& limits,
                       std::int64_t& cut) {
  tokens out = encode(text);
  out.push_back(limits.end);
  const auto room = static_cast<std::size_t>(limits.context - 1);
  if (out.size() > room) {
    out.resize(room);
    ++cut;
  }
  return out;
}

/// Begin and what of the prompt's end fits before a response of so many tokens.
tokens prompt_tokens(std::span<const turn> prompt, std::size_t response, const encode_function& encode,
                     const sequence_limits& limits, std::int64_t& cut) {
  const tokens whole = encode(to_text(prompt));
  const std::size_t room = static_cast<std::size_t>(limits.context) - 1 - response;
  const std::size_t kept = std::min(whole.size(), room);
  if (kept < whole.size()) ++cut;
  tokens out{limits.begin};
  out.insert(out.end(), whole.end() - static_cast<std::ptrdiff_t>(kept), whole.end());
  return out;
}

}  // namespace

tokenised_preferences tokenised_pairs(std::span<const preference> records, const encode_function& encode,
                                      const sequence_limits& limits) {
  check(limits, "tokenised_pairs");
  tokenised_preferences out;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const tokens chosen = response_tokens(records[i].chosen, encode, limits, out.responses_cut);
    const tokens rejected = response_tokens(records[i].rejected, encode, limits, out.responses_cut);
    const std::size_t longer = std::max(chosen.size(), rejected.size());
    const tokens prompt = prompt_tokens(records[i].prompt, longer, encode, limits, out.prompts_cut);
    if (chosen == rejected) {
      ++out.equal;
      continue;
    }
    out.pairs.chosen.add(prompt, chosen);
    out.pairs.rejected.add(prompt, rejected);
    out.records.push_back(static_cast<std::int64_t>(i));
  }
  return out;
}

tokenised_labels tokenised_responses(std::span<const labelled> records, const encode_function& encode,
                                     const sequence_limits& limits) {
  check(limits, "tokenised_responses");
  tokenised_labels out;
  for (const labelled& record : records) {
    const tokens response = response_tokens(record.response, encode, limits, out.responses_cut);
    out.responses.add(prompt_tokens(record.prompt, response.size(), encode, limits, out.prompts_cut), response);
    out.desirable.push_back(record.desirable ? 1 : 0);
  }
  return out;
}

}  // namespace align
