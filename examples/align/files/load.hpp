#pragma once
// A model from a path, whatever its format.

#include <filesystem>

#include "align/files/model_file.hpp"

namespace align {

/// Reads a model in llama2.c's format or in safetensors, told apart by their contents; of a folder, its
/// model.safetensors. Errors are std::runtime_error that name the file.
[[nodiscard]] model_file load_model(const std::filesystem::path& path);

/// Writes a model as its name ends: .bin is llama2.c's format, .safetensors the other, with config.json beside it.
void save_model(const std::filesystem::path& path, const model_file& model);

}  // namespace align
