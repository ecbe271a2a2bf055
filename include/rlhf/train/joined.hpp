#pragma once
// Several parts of responses in one batch, one forward pass for all, and sums over the tokens of a response.

#include <algorithm>
#include <span>
#include <vector>

#include "rlhf/core/view.hpp"
#include "rlhf/policy/responses.hpp"

namespace rlhf::inline v1 {

namespace batch_detail {

/// Sums over the tokens of each response.
[[nodiscard]] inline std::vector<double> response_sums(const responses& batch, std::span<const float> of_token) {
  std::vector<double> sums(static_cast<std::size_t>(batch.size()));
  for (std::size_t i = 0; i < sums.size(); ++i)
    for (std::int64_t t = batch.response_offsets()[i]; t < batch.response_offsets()[i + 1]; ++t)
      sums[i] += static_cast<double>(of_token[static_cast<std::size_t>(t)]);
  return sums;
}

/// The number of a response for each of its tokens.
[[nodiscard]] inline std::vector<float> to_tokens(const responses& batch, std::span<const float> of_response) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < batch.size(); ++i)
    out.insert(out.end(), batch.response(i).size(), of_response[static_cast<std::size_t>(i)]);
  return out;
}

/// Some pairs and what is fixed of them: chosen (or first) responses, then the others, then those of the bonus.
struct joined {
  responses batch;
  std::vector<float> old_logp, ref_logp;
  std::int64_t pairs = 0;

  /// Where the tokens of part k begin; k = 3 is the end.
  [[nodiscard]] std::int64_t begin(std::int64_t k) const {
    return batch.response_offsets()[static_cast<std::size_t>(std::min(k * pairs, batch.size()))];
  }
  /// Offsets of part k, from 0.
  [[nodiscard]] std::vector<std::int64_t> offsets(std::int64_t k) const {
    std::vector<std::int64_t> out;
    for (std::int64_t i = k * pairs; i <= (k + 1) * pairs; ++i)
      out.push_back(batch.response_offsets()[static_cast<std::size_t>(i)] - begin(k));
    return out;
  }
  /// Part k of something of tokens; nothing of nothing.
  [[nodiscard]] view<const float> part(const std::vector<float>& v, std::int64_t k) const {
    if (v.empty()) return {};
    return {v.data() + begin(k), begin(k + 1) - begin(k)};
  }
  [[nodiscard]] view<float> part(std::vector<float>& v, std::int64_t k) const {
    if (v.empty()) return {};
    return {v.data() + begin(k), begin(k + 1) - begin(k)};
  }
  /// Sums over the responses of part k.
  [[nodiscard]] std::vector<float> whole(const std::vector<float>& v, std::int64_t k) const {
    std::vector<float> out;
    for (std::int64_t i = k * pairs; i < (k + 1) * pairs; ++i) {
      double sum = 0;
      for (std::int64_t t = batch.response_offsets()[static_cast<std::size_t>(i)];
           t < batch.response_offsets()[static_cast<std::size_t>(i) + 1]; ++t)
        sum += static_cast<double>(v[static_cast<std::size_t>(t)]);
      out.push_back(static_cast<float>(sum));
    }
    return out;
  }
};

}  // namespace batch_detail

}  // namespace rlhf::inline v1
