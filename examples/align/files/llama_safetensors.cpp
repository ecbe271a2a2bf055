#include "align/files/llama_safetensors.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <stdexcept>

#include "align/files/bytes.hpp"
#include "align/files/llama_config.hpp"
#include "align/files/save.hpp"

namespace align {

namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& what) {
  throw std::runtime_error(name + ": " + what);
}

constexpr const char* embedding_name = "model.embed_tokens.weight";
constexpr const char* head_name = "lm_head.weight";
/// What our writer calls the configuration in the metadata.
constexpr const char* config_key = "config";

/// Tensors of a layer in the order of the flat array, and whose heads' rows are turned.
struct layer_tensor {
  const char* name;
  int transformer_options::*turned;
};
constexpr std::array<layer_tensor, slices_per_layer> layer_tensors = {
    {{"input_layernorm", nullptr},
     {"self_attn.q_proj", &transformer_options::heads},
     {"self_attn.k_proj", &transformer_options::kv_heads},
     {"self_attn.v_proj", nullptr},
     {"self_attn.o_proj", nullptr},
     {"post_attention_layernorm", nullptr},
     {"mlp.gate_proj", nullptr},
     {"mlp.up_proj", nullptr},
     {"mlp.down_proj", nullptr}}};

struct named_slice {
  std::string name;
  parameter_slice slice;
  int turned_heads = 0;  ///< 0: the rows are in our order
};

std::vector<named_slice> named_slices(const transformer_options& options) {
  std::vector<named_slice> out;
  std::vector<parameter_slice> slices = parameter_slices(options);
  out.push_back({embedding_name, slices.front()});
  for (int layer = 0; layer < options.layers; ++layer)
    for (int k = 0; k < slices_per_layer; ++k) {
      const layer_tensor& t = layer_tensors[static_cast<std::size_t>(k)];
      out.push_back({"model.layers." + std::to_string(layer) + "." + t.name + ".weight",
                     slices[static_cast<std::size_t>(1 + layer * slices_per_layer + k)],
                     t.turned == nullptr ? 0 : options.*t.turned});
    }
  out.push_back({"model.norm.weight", slices.back()});
  return out;
}

/// to[their order] = from[our order] of the rows of a projection, or the other way round.
void turn_rows(std::span<const float> from, std::span<float> to, const named_slice& tensor, bool into_ours) {
  const std::int64_t rows = tensor.slice.shape[0], columns = tensor.slice.shape[1];
  const std::int64_t width = rows / tensor.turned_heads, half = width / 2;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t head = row / width, i = row % width;
    const std::int64_t theirs = row, ours = head * width + 2 * (i % half) + i / half;
    std::copy_n(from.data() + (into_ours ? theirs : ours) * columns, columns,
                to.data() + (into_ours ? ours : theirs) * columns);
  }
}

std::string text_of(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

/// Old exports hold the rotary frequencies of each layer, which follow from rope_theta.
bool is_frequencies(const std::string& name) { return name.ends_with(".self_attn.rotary_emb.inv_freq"); }

void check_same_head(const tensor_file& file, const std::string& name) {
  const tensor *const head = file.find(head_name), *const embedding = file.find(embedding_name);
  if (head == nullptr || embedding == nullptr) return;
  if (head->type != embedding->type || head->shape != embedding->shape || head->bytes != embedding->bytes)
    refuse(name, "lm_head.weight is not model.embed_tokens.weight, wants a model whose output head is its embedding");
}

}  // namespace

model_file model_from_tensors(const tensor_file& file, const transformer_options& options, const std::string& name) {
  check_sizes(options, name);
  // A lying configuration must not make us allocate: all bytes of the parameters are in the file, 2 or 4 for each.
  std::int64_t elements = 0;
  std::map<std::string_view, const tensor*> given;
  for (const tensor& t : file.tensors) {
    given[t.name] = &t;
    elements += static_cast<std::int64_t>(t.bytes.size()) / size_of(t.type);
  }
  if (static_cast<std::size_t>(options.layers) * slices_per_layer > file.tensors.size() ||
      parameter_count(options) > elements) {
    if (const tensor* const t = file.find(embedding_name);
        t != nullptr && t->shape != std::vector<std::int64_t>{options.vocabulary, options.dimension})
      refuse(name, "tensor " + t->name + " has shape " + text_of(t->shape) + ", wants " +
                       text_of({options.vocabulary, options.dimension}));
    refuse(name, "has " + std::to_string(file.tensors.size()) + " tensors of " + std::to_string(elements) +
                     " elements, too few for " + std::to_string(options.layers) + " layers and " +
                     std::to_string(parameter_count(options)) + " parameters (is it one of several parts?)");
  }
  check_same_head(file, name);
  model_file model{options, std::vector<float>(static_cast<std::size_t>(parameter_count(options)))};
  for (const named_slice& wanted : named_slices(options)) {
    const auto found = given.find(wanted.name);
    if (found == given.end()) refuse(name, "tensor " + wanted.name + " is missing");
    const tensor& t = *found->second;
    if (t.shape != wanted.slice.shape)
      refuse(name, "tensor " + t.name + " has shape " + text_of(t.shape) + ", wants " + text_of(wanted.slice.shape));
    const std::vector<float> values = floats(t, name);
    check_finite(values, name, "tensor " + t.name);
    const auto to =
        std::span(model.parameters)
            .subspan(static_cast<std::size_t>(wanted.slice.offset), static_cast<std::size_t>(wanted.slice.size));
    if (wanted.turned_heads > 0)
      turn_rows(values, to, wanted, true);
    else
      std::copy(values.begin(), values.end(), to.begin());
    given.erase(found);
  }
  for (const auto& [key, unused] : given)
    if (key != head_name && !is_frequencies(std::string(key)))
      refuse(name,
             "tensor " + shown(key) + " is no part of a Llama model of " + std::to_string(options.layers) + " layers");
  return model;
}

tensor_file tensors_from_model(const model_file& model) {
  tensor_file file;
  // "format" is what transformers looks at; the configuration is there so that the file can stand alone.
  file.metadata = {{"format", "pt"}, {config_key, write_llama_config(model.options)}};
  for (const named_slice& out : named_slices(model.options)) {
    const auto from =
        std::span(model.parameters)
            .subspan(static_cast<std::size_t>(out.slice.offset), static_cast<std::size_t>(out.slice.size));
    std::vector<float> values(from.begin(), from.end());
    if (out.turned_heads > 0) turn_rows(from, values, out, false);
    file.tensors.push_back(float_tensor(out.name, out.slice.shape, values));
  }
  return file;
}

model_file read_llama_safetensors(std::span<const std::byte> bytes, const std::string& name, std::string_view config,
                                  const std::string& config_name) {
  const tensor_file file = read_safetensors(bytes, name);
  const auto own = file.metadata.find(config_key);
  if (config.empty() && own == file.metadata.end())
    refuse(name, "does not say its numbers of heads; wants a config.json beside it");
  const std::string own_name = name + " (metadata)";
  const transformer_options options =
      config.empty() ? read_llama_config(own->second, own_name) : read_llama_config(config, config_name);
  if (!config.empty() && own != file.metadata.end() && read_llama_config(own->second, own_name) != options)
    refuse(name, "the sizes in its metadata are not those of " + config_name);
  const bool untied = config.empty() ? wants_own_head(own->second, own_name) : wants_own_head(config, config_name);
  if (untied && file.find(head_name) == nullptr)
    refuse(name, "tensor lm_head.weight is missing, and tie_word_embeddings is false");
  return model_from_tensors(file, options, name);
}

model_file load_llama_safetensors(const std::filesystem::path& path) {
  const std::filesystem::path config = std::filesystem::path(path).replace_filename("config.json");
  std::vector<std::byte> text;
  if (std::filesystem::exists(config)) {
    text = read_whole(config, 1 << 20);
    if (text.empty()) refuse(config.string(), "is empty");
  }
  return read_llama_safetensors(read_whole(path, largest_model_file), path.string(), as_text(text), config.string());
}

void save_llama_safetensors(const std::filesystem::path& path, const model_file& model) {
  check_model(model, path.string());
  save_safetensors(path, tensors_from_model(model));
  save_file(std::filesystem::path(path).replace_filename("config.json"),
            std::string_view(write_llama_config(model.options)));
}

}  // namespace align
