#pragma once
// Tiny models whose files are a few hundred bytes.

#include "align/files/model_file.hpp"

namespace fuzz {

inline align::model_file tiny_model() {
  align::model_file model;
  model.options = {.vocabulary = 3, .dimension = 4, .hidden = 2, .layers = 2, .heads = 2, .kv_heads = 1, .context = 2};
  for (std::int64_t i = 0; i < align::parameter_count(model.options); ++i)
    model.parameters.push_back(static_cast<float>(i % 17) / 8 - 1);
  return model;
}

}  // namespace fuzz
