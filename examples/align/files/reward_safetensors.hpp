#pragma once
// Reward models on disk: a Llama with the head of transformers' LlamaForSequenceClassification, and its bias.

#include <filesystem>
#include <span>

#include "align/model/parameters.hpp"

namespace align {

/// Writes a trunk's parameters followed by the head's weight [dimension] and bias [1] as safetensors: the Llama names, then
/// `score.weight` and `score.bias`.
void save_reward_model(const std::filesystem::path& path, const transformer_options& options,
                       std::span<const float> parameters);
/// Reads such a file into `parameters`; std::runtime_error where it is another model.
void load_reward_model(const std::filesystem::path& path, const transformer_options& options,
                       std::span<float> parameters);

}  // namespace align
