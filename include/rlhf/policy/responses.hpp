#pragma once
// What policies sample, score and learn from: responses to prompts, packed one after the other.

#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "rlhf/core/layout.hpp"

namespace rlhf::inline v1 {

/// Responses, each with the prompt it answers. Sequence i is its prompt followed by its response.
///
/// Token quantities (log-probabilities, values, rewards, advantages) live in the response frame: one element for each
/// response token, responses one after the other, so that no shift by one and no mask is left to get wrong. Element t of
/// response i speaks of the token `response(i)[t]`, predicted from everything before it.
class responses {
 public:
  /// Adds a response. A prompt has at least one token (begin-of-text counts), so that every response token has something
  /// it is predicted from.
  void add(std::span<const std::int32_t> prompt, std::span<const std::int32_t> response) {
    if (prompt.empty()) throw std::invalid_argument("responses: a prompt needs at least one token");
    tokens_.insert(tokens_.end(), prompt.begin(), prompt.end());
    tokens_.insert(tokens_.end(), response.begin(), response.end());
    offsets_.push_back(static_cast<std::int64_t>(tokens_.size()));
    prompt_lengths_.push_back(static_cast<std::int64_t>(prompt.size()));
    response_offsets_.push_back(response_offsets_.back() + static_cast<std::int64_t>(response.size()));
  }
  void add(const responses& other, std::int64_t i) { add(other.prompt(i), other.response(i)); }

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(prompt_lengths_.size()); }
  [[nodiscard]] std::span<const std::int32_t> prompt(std::int64_t i) const {
    return {tokens_.data() + at(offsets_, i), static_cast<std::size_t>(at(prompt_lengths_, i))};
  }
  [[nodiscard]] std::span<const std::int32_t> response(std::int64_t i) const {
    const std::int64_t begin = at(offsets_, i) + at(prompt_lengths_, i);
    return {tokens_.data() + begin, static_cast<std::size_t>(at(offsets_, i + 1) - begin)};
  }

  /// All tokens, prompts included, and where each sequence begins [size() + 1].
  [[nodiscard]] std::span<const std::int32_t> tokens() const { return tokens_; }
  [[nodiscard]] std::span<const std::int64_t> offsets() const { return offsets_; }
  /// Where each response begins in the response frame [size() + 1].
  [[nodiscard]] std::span<const std::int64_t> response_offsets() const { return response_offsets_; }
  [[nodiscard]] std::int64_t response_tokens() const { return response_offsets_.back(); }
  /// The response frame as drivers see it.
  [[nodiscard]] rlhf::layout<> layout() const { return packed(response_offsets_); }

  /// The given responses, in the given order.
  [[nodiscard]] responses select(std::span<const std::int64_t> rows) const {
    responses out;
    for (const std::int64_t row : rows) out.add(*this, row);
    return out;
  }
  /// The response-frame elements of the given responses, in the given order.
  template <class T>
  [[nodiscard]] std::vector<T> select(std::span<const std::int64_t> rows, std::span<const T> per_token) const {
    std::vector<T> out;
    for (const std::int64_t row : rows)
      out.insert(out.end(), per_token.begin() + at(response_offsets_, row),
                 per_token.begin() + at(response_offsets_, row + 1));
    return out;
  }

 private:
  [[nodiscard]] static std::int64_t at(const std::vector<std::int64_t>& v, std::int64_t i) {
    return v[static_cast<std::size_t>(i)];
  }

  std::vector<std::int32_t> tokens_;
  std::vector<std::int64_t> offsets_{0};
  std::vector<std::int64_t> prompt_lengths_;
  std::vector<std::int64_t> response_offsets_{0};
};

/// Prompts to sample responses for.
using prompt_list = std::vector<std::vector<std::int32_t>>;

}  // namespace rlhf::inline v1
