#pragma once
// Completions of prompts, drawn from a model token by token with a cache of keys and values.

#include <cstdint>
#include <span>
#include <vector>

#include "align/batch.hpp"
#include "align/models.hpp"

namespace align {

struct sampling_options {
  int samples = 1;             ///< completions per prompt
  double temperature = 1;      ///< logits are divided by it; 0 takes the most probable token (the first of equals)
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
};

/// Draws `samples` completions of every prompt.
///
/// The token at a position depends on the model, the tokens before it, and the random number with index (prompt,
/// sample, position) only, where position counts from the start of the sequence and `prompt_ids` (by default 0, 1, 2,
/// ...) names the prompts: neither the other prompts of the call nor threads nor `batch` change it. At temperature 0
/// every recorded log-probability is 0, that of a certain event. Wrong options or tokens, an empty prompt, or one that
/// leaves no room in the context throw std::invalid_argument. `mixed` adds a second model.
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
