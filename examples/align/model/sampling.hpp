#pragma once
// Completions of prompts, drawn from a model token by token with a cache of keys and values.

#include <cstdint>
#include <span>
#include <vector>

#include "align/model/batch.hpp"
#include "align/model/models.hpp"

namespace align {

struct sampling_options {
  int samples = 1;             ///< completions per prompt
  double temperature = 1;      ///< logits are divided by it; 0 takes the most probable token (the first of equals)
  std::int64_t top_k = 0;      ///< all but the k most probable tokens go; 0: none
  double top_p = 1;            ///< of those left, the fewest most probable stay whose share is at least this; 1: all
  int max_new_tokens = 0;      ///< at most so many; 0: until the context is full
  std::int32_t end_token = 1;  ///< ends a completion and is its last token; negative: no token does
  rlhf::random_key key = {};
  std::uint32_t first_sample = 0;  ///< number of the first sample, for drawing more of the same prompts later
  int batch = 64;                  ///< sequences that one thread advances together; does not change the results
  std::span<const std::int64_t> longest = {};  ///< [prompts] of a sequence with its prompt; empty: max_new_tokens alone
};

/// A second model, to draw every token from what is proportional to the first one's probability to the power `power` times
/// the second one's to `other_power`. Both have the same vocabulary and context.
template <class Scalar>
struct sampling_mixture {
  const language_model<Scalar>* other = nullptr;  ///< none: the first model alone
  double power = 1, other_power = 0;
};

/// Prompts with their completions. Sequence p * samples + k is sample k of prompt p.
template <class Scalar>
struct rollout {
  token_sequences sequences;                 ///< prompt and completion
  std::vector<std::int64_t> prompt_lengths;  ///< [sequences]
  std::vector<std::uint8_t> finished;        ///< [sequences] 1: ended by the end token; 0: cut off
  predictions completion;                    ///< the completions' tokens in the frame of prediction
  std::vector<Scalar> logp;                  ///< log-probability of each under the distribution it was drawn from
  std::vector<Scalar> support;               ///< probability that top_k and top_p left to each, 0 < support <= 1
};

/// Draws `samples` completions of every prompt.
///
/// The token at a position depends on the model, the tokens before it, and the random number with index (prompt,
/// sample, position) only, where position counts from the start of the sequence and `prompt_ids` (by default 0, 1, 2,
/// ...) names the prompts: neither the other prompts of the call nor threads nor `batch` change it. At temperature 0
/// every recorded log-probability is 0, that of a certain event. Wrong options or tokens, an empty prompt, or one that
/// leaves no room in the context throw std::invalid_argument. `mixed` adds a second model.
///
/// Truncation is that of rlhf::surviving_mass: temperature, then top_k, then top_p of what that leaves. Tokens as probable
/// as the last one kept are kept too. What is left is drawn in proportion, and the recorded log-probability says so:
/// log p(token) - log support, p at the temperature.
///
/// What prompts have in common is read once: sequences that are drawn together (`batch` of them) take keys and values of
/// the longest beginning that they share with an earlier one from there, with the bits that reading it again would give.
template <class Scalar>
rollout<Scalar> sample(rlhf::thread_pool& pool, const language_model<Scalar>& model, const token_batch& prompts,
                       const sampling_options& options, std::span<const std::uint32_t> prompt_ids = {},
                       const sampling_mixture<Scalar>& mixed = {});

extern template rollout<float> sample(rlhf::thread_pool&, const language_model<float>&, const token_batch&,
                                      const sampling_options&, std::span<const std::uint32_t>,
                                      const sampling_mixture<float>&);
extern template rollout<double> sample(rlhf::thread_pool&, const language_model<double>&, const token_batch&,
                                       const sampling_options&, std::span<const std::uint32_t>,
                                       const sampling_mixture<double>&);

}  // namespace align
