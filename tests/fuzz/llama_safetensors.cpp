// Hugging Face's files of a model. An input is two bytes of length, so much config.json, then model.safetensors.

#include "align/files/llama_safetensors.hpp"

#include "align/files/llama_config.hpp"
#include "fuzz.hpp"
#include "models.hpp"

std::vector<std::string> fuzz::seeds() {
  const align::model_file model = tiny_model();
  const align::tensor_file file = align::tensors_from_model(model);
  align::tensor_file plain = file;
  plain.metadata.clear();
  const std::string config = align::write_llama_config(model.options);
  std::string length(2, '\0');
  std::string empty = length;
  length[0] = static_cast<char>(config.size() & 255u);
  length[1] = static_cast<char>(config.size() >> 8);
  return {empty + text_of(align::write_safetensors(file, "with metadata")),
          length + config + text_of(align::write_safetensors(plain, "with config"))};
}

void fuzz::one_input(std::span<const std::byte> bytes) {
  if (bytes.size() < 2) return;
  const std::size_t length = std::to_integer<std::size_t>(bytes[0]) + 256 * std::to_integer<std::size_t>(bytes[1]);
  const auto rest = bytes.subspan(2);
  const std::string config = text_of(rest.first(std::min(length, rest.size())));
  refused_or([&] { return align::read_llama_safetensors(rest.subspan(config.size()), "input", config, "config"); },
             [&](const align::model_file& model) {
               const auto once = align::write_safetensors(align::tensors_from_model(model), "once");
               const align::model_file again = align::read_llama_safetensors(once, "again", "", "none");
               require(again.options == model.options && again.parameters == model.parameters, "the same model");
             });
}
