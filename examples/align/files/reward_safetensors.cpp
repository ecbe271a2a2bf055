#include "align/files/reward_safetensors.hpp"

#include <algorithm>
#include <stdexcept>

#include "align/files/llama_safetensors.hpp"

namespace align {

void save_reward_model(const std::filesystem::path& path, const transformer_options& options,
                       std::span<const float> parameters) {
  const auto dimension = static_cast<std::size_t>(options.dimension), trunk = parameters.size() - dimension - 1;
  tensor_file file =
      tensors_from_model({options, {parameters.begin(), parameters.begin() + static_cast<std::ptrdiff_t>(trunk)}});
  file.tensors.push_back(float_tensor("score.weight", {1, options.dimension}, parameters.subspan(trunk, dimension)));
  file.tensors.push_back(float_tensor("score.bias", {1}, parameters.subspan(trunk + dimension)));
  save_safetensors(path, file);
}

void load_reward_model(const std::filesystem::path& path, const transformer_options& options,
                       std::span<float> parameters) {
  tensor_file file = load_safetensors(path);
  std::vector<float> head;
  for (const char* name : {"score.weight", "score.bias"}) {
    const tensor* part = file.find(name);
    if (part == nullptr)
      throw std::runtime_error(path.string() + ": no reward model: the tensor " + name + " is missing");
    const std::vector<float> values = floats(*part, path.string());
    head.insert(head.end(), values.begin(), values.end());
  }
  std::erase_if(file.tensors, [](const tensor& t) { return t.name.starts_with("score."); });
  const std::vector<float> trunk = model_from_tensors(file, options, path.string()).parameters;
  if (trunk.size() + head.size() != parameters.size())
    throw std::runtime_error(path.string() + ": " + std::to_string(trunk.size() + head.size()) +
                             " parameters, wanted " + std::to_string(parameters.size()));
  std::copy(head.begin(), head.end(), std::copy(trunk.begin(), trunk.end(), parameters.begin()));
}

}  // namespace align
