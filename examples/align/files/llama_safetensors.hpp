#pragma once
// Models as Hugging Face's Llama: model.safetensors with config.json beside it.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "align/files/model_file.hpp"
#include "align/files/safetensors.hpp"

namespace align {

/// A model out of tensors with these sizes: shapes, names and numbers are checked, errors name the tensor.
///
/// The rows of q_proj and k_proj change places, within each head: those files turn elements i and i + width/2 together,
/// this model 2i and 2i + 1. So row i of the first half is our row 2i, and of the second our row 2i + 1.
/// Source: Su et al. 2021, arXiv 2104.09864, equation 34, and the order of rows of transformers' LlamaForCausalLM.
[[nodiscard]] model_file model_from_tensors(const tensor_file& file, const transformer_options& options,
                                            const std::string& name);
[[nodiscard]] tensor_file tensors_from_model(const model_file& model);

/// A model out of the bytes of both files. `config` may be empty: then the sizes are in the metadata, where
/// save_llama_safetensors puts them; where both are, they must agree.
[[nodiscard]] model_file read_llama_safetensors(std::span<const std::byte> bytes, const std::string& name,
                                                std::string_view config, const std::string& config_name);

/// Reads `path` and, if it is there, config.json in its folder.
[[nodiscard]] model_file load_llama_safetensors(const std::filesystem::path& path);
/// Writes `path` and config.json in its folder, each whole or not at all.
void save_llama_safetensors(const std::filesystem::path& path, const model_file& model);

}  // namespace align
