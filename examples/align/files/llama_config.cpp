#include "align/files/llama_config.hpp"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "align/files/bytes.hpp"
#include "align/files/model_file.hpp"
#include "align/files/strict_json.hpp"

namespace align {

namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& name, const std::string& what) {
  throw std::runtime_error(name + ": " + what);
}

int whole(const json& config, const char* key, const std::string& name) {
  if (!config.contains(key)) refuse(name, std::string(key) + " is missing");
  const json& value = config[key];
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<std::uint64_t>() > 1u << 30) ||
      value.get<std::int64_t>() > 1 << 30 || value.get<std::int64_t>() < 1)
    refuse(name, std::string(key) + " is " + shown(value.dump()) + ", wants a whole number of 1 or more");
  return value.get<int>();
}

double number(const json& config, const char* key, const std::string& name) {
  if (!config.contains(key)) refuse(name, std::string(key) + " is missing");
  if (!config[key].is_number())
    refuse(name, std::string(key) + " is " + shown(config[key].dump()) + ", wants a number");
  return config[key].get<double>();
}

/// Whether the key is there and says something else than its ordinary value.
bool differs(const json& config, const char* key, const json& ordinary) {
  return config.contains(key) && !config[key].is_null() && config[key] != ordinary;
}

double rope_theta(const json& config, const std::string& name) {
  // Newer files have an object of all rotary parameters; older ones may leave the usual 10000 out.
  const json* from = &config;
  if (config.contains("rope_parameters") && !config["rope_parameters"].is_null()) {
    from = &config["rope_parameters"];
    if (!from->is_object()) refuse(name, "rope_parameters is no object");
    if (differs(*from, "rope_type", "default"))
      refuse(name, "rope_parameters: rope_type is " + shown((*from)["rope_type"].dump()) + ", wants \"default\"");
  }
  return from->contains("rope_theta") ? number(*from, "rope_theta", name) : 10000;
}

}  // namespace

transformer_options read_llama_config(std::string_view text, const std::string& name) {
  const json config = parse_strictly(text, name, 16);
  if (!config.is_object()) refuse(name, "wants a JSON object");
  if (!config.contains("model_type") || config["model_type"] != "llama")
    refuse(name, "model_type is " + (config.contains("model_type") ? shown(config["model_type"].dump()) : "missing") +
                     ", wants \"llama\"");
  struct supported {
    const char* key;
    json value;
  };
  for (const supported& s :
       {supported{"hidden_act", "silu"}, supported{"rope_scaling", nullptr}, supported{"attention_bias", false},
        supported{"mlp_bias", false}, supported{"quantization_config", nullptr}})
    if (differs(config, s.key, s.value))
      refuse(name, std::string(s.key) + " is " + shown(config[s.key].dump()) + ", wants " + s.value.dump());
  transformer_options o;
  o.vocabulary = whole(config, "vocab_size", name);
  o.dimension = whole(config, "hidden_size", name);
  o.hidden = whole(config, "intermediate_size", name);
  o.layers = whole(config, "num_hidden_layers", name);
  o.heads = whole(config, "num_attention_heads", name);
  o.kv_heads = differs(config, "num_key_value_heads", nullptr) ? whole(config, "num_key_value_heads", name) : o.heads;
  o.context = whole(config, "max_position_embeddings", name);
  o.norm_epsilon = number(config, "rms_norm_eps", name);
  o.rope_theta = rope_theta(config, name);
  check_sizes(o, name);
  if (differs(config, "head_dim", o.dimension / o.heads))
    refuse(name, "head_dim is " + shown(config["head_dim"].dump()) +
                     ", wants hidden_size / num_attention_heads = " + std::to_string(o.dimension / o.heads));
  return o;
}

std::string write_llama_config(const transformer_options& o) {
  const json config = {{"architectures", {"LlamaForCausalLM"}},
                       {"model_type", "llama"},
                       {"hidden_act", "silu"},
                       {"vocab_size", o.vocabulary},
                       {"hidden_size", o.dimension},
                       {"intermediate_size", o.hidden},
                       {"num_hidden_layers", o.layers},
                       {"num_attention_heads", o.heads},
                       {"num_key_value_heads", o.kv_heads},
                       {"max_position_embeddings", o.context},
                       {"rms_norm_eps", o.norm_epsilon},
                       {"rope_theta", o.rope_theta},
                       {"tie_word_embeddings", true},
                       {"torch_dtype", "float32"}};
  return config.dump(2) + "\n";
}

bool wants_own_head(std::string_view config, const std::string& name) {
  const json parsed = parse_strictly(config, name, 16);
  return parsed.contains("tie_word_embeddings") && parsed["tie_word_embeddings"] == false;
}

}  // namespace align
