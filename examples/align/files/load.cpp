#include "align/files/load.hpp"

#include <cstdio>
#include <stdexcept>
#include <string>

#include "align/files/bytes.hpp"
#include "align/files/llama2c.hpp"
#include "align/files/llama_safetensors.hpp"

namespace align {

namespace {

/// The first bytes of a file; none if it cannot be read, which the reader of the format will say better.
std::string beginning(const std::filesystem::path& path) {
  std::string bytes(10, '\0');
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return {};
  bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file));
  std::fclose(file);
  return bytes;
}

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  throw std::runtime_error(path.string() + ": " + what);
}

}  // namespace

model_file load_model(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    if (!std::filesystem::exists(path / "model.safetensors")) refuse(path, "this folder has no model.safetensors");
    return load_llama_safetensors(path / "model.safetensors");
  }
  const std::string start = beginning(path);
  if (start.starts_with("PK\x03\x04") || start.starts_with("\x80\x02"))
    refuse(path, "is PyTorch's own format, wants safetensors or llama2.c's");
  if (start.starts_with("GGUF")) refuse(path, "is GGUF, wants safetensors or llama2.c's format");
  // The header of safetensors is JSON behind its 8-byte length. There llama2.c has its number of layers, which may be 123.
  if ((start.size() == 10 && start[8] == '{' && start[9] != '\0') || path.extension() == ".safetensors")
    return load_llama_safetensors(path);
  if (start.starts_with("{")) refuse(path, "is JSON, wants the file of the parameters");
  return load_llama2c(path);
}

void save_model(const std::filesystem::path& path, const model_file& model) {
  if (path.extension() == ".bin") return save_llama2c(path, model);
  if (path.extension() == ".safetensors") return save_llama_safetensors(path, model);
  refuse(path, "the name of a model ends in .bin (llama2.c) or .safetensors");
}

}  // namespace align
