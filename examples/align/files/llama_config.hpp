#pragma once
// The config.json that lies beside a Llama model.

#include <string>
#include <string_view>

#include "align/model/parameters.hpp"

namespace align {

/// The sizes in a config.json of model_type "llama", and refused whatever this model cannot compute: another
/// activation, scaled rotary angles, biases, an output head of its own. std::runtime_error that begins with `name`.
[[nodiscard]] transformer_options read_llama_config(std::string_view json, const std::string& name);
[[nodiscard]] std::string write_llama_config(const transformer_options& options);

/// Whether a configuration says that the output head is a tensor of its own. Without a word of it the tensors decide.
[[nodiscard]] bool wants_own_head(std::string_view json, const std::string& name);

}  // namespace align
