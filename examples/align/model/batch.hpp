#pragma once
// Ragged batches of tokens, and which tokens are predicted from which.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

namespace align {

/// A view of sequences one after the other: sequence i is tokens[offsets[i] ... offsets[i + 1]).
struct token_batch {
  std::span<const std::int32_t> tokens;
  std::span<const std::int64_t> offsets;  ///< [sequences + 1], from 0 to the number of tokens
};

/// The same, owned.
struct token_sequences {
  std::vector<std::int32_t> tokens = {};
  std::vector<std::int64_t> offsets = {0};

  [[nodiscard]] std::size_t size() const { return offsets.size() - 1; }
  [[nodiscard]] std::span<const std::int32_t> operator[](std::size_t i) const {
    return std::span(tokens).subspan(static_cast<std::size_t>(offsets[i]),
                                     static_cast<std::size_t>(offsets[i + 1] - offsets[i]));
  }
  void append(std::span<const std::int32_t> sequence) {
    tokens.insert(tokens.end(), sequence.begin(), sequence.end());
    offsets.push_back(static_cast<std::int64_t>(tokens.size()));
  }
  operator token_batch() const { return {tokens, offsets}; }
};

/// The sequences of `from` with these indices, in this order.
inline token_sequences select(const token_sequences& from, std::span<const std::int64_t> indices) {
  token_sequences out;
  for (const std::int64_t i : indices) out.append(from[static_cast<std::size_t>(i)]);
  return out;
}

/// Some tokens of a batch in the frame of prediction: target[i] is the token after token row[i]. Token arrays of the
/// losses (log-probabilities, advantages, ...) have an element for each, packed by `offsets` as the sequences are.
struct predictions {
  std::vector<std::int64_t> offsets = {0};  ///< [sequences + 1]
  std::vector<std::int64_t> rows = {};      ///< ascending indices of tokens whose logits are needed
  std::vector<std::int32_t> targets = {};
};

/// The predictions of all tokens but the first of each sequence; with `prompt_lengths` only of those after the prompt.
inline predictions predict(const token_batch& batch, std::span<const std::int64_t> prompt_lengths = {}) {
  if (!prompt_lengths.empty() && prompt_lengths.size() + 1 != batch.offsets.size())
    throw std::invalid_argument("predict: wants a prompt length for every sequence");
  predictions out;
  for (std::size_t s = 0; s + 1 < batch.offsets.size(); ++s) {
    const std::int64_t prompt = prompt_lengths.empty() ? 1 : std::max<std::int64_t>(1, prompt_lengths[s]);
    for (std::int64_t i = batch.offsets[s] + prompt; i < batch.offsets[s + 1]; ++i) {
      out.rows.push_back(i - 1);
      out.targets.push_back(batch.tokens[static_cast<std::size_t>(i)]);
    }
    out.offsets.push_back(static_cast<std::int64_t>(out.rows.size()));
  }
  return out;
}

/// The index of the last token of each sequence. Throws std::invalid_argument for an empty sequence.
inline std::vector<std::int64_t> last_tokens(std::span<const std::int64_t> offsets) {
  std::vector<std::int64_t> out;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    if (offsets[s + 1] == offsets[s]) throw std::invalid_argument("last_tokens: a sequence is empty");
    out.push_back(offsets[s + 1] - 1);
  }
  return out;
}

}  // namespace align
