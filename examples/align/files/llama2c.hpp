#pragma once
// Models in llama2.c's file format, in and out.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "align/files/model_file.hpp"

namespace align {

/// A model out of the bytes of such a file: seven int32 (dimension, hidden, layers, heads, kv heads, vocabulary, context),
/// then float32 tensors kind by kind, each kind for all layers, then two tables of rotary angles, which are not read:
/// they follow from the sizes.
///
/// The size of the file is compared with that of the header before anything is allocated by it. Errors are
/// std::runtime_error that begin with `name`. The format has no place for rope_theta and norm_epsilon: they are 10000
/// and 1e-5, as in llama2.c's own program.
/// Source: karpathy/llama2.c, the layout that its program reads ("version 0" of its exporter).
[[nodiscard]] model_file read_llama2c(std::span<const std::byte> bytes, const std::string& name);
[[nodiscard]] model_file load_llama2c(const std::filesystem::path& path);

/// The bytes of such a file, rotary tables included. `name` is for errors.
[[nodiscard]] std::vector<std::byte> write_llama2c(const model_file& model, const std::string& name);
void save_llama2c(const std::filesystem::path& path, const model_file& model);

}  // namespace align
