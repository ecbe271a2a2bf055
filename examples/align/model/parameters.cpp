#include "align/model/parameters.hpp"

#include <utility>

namespace align {

const char* what_is_wrong(const transformer_options& o) {
  if (o.vocabulary < 1 || o.dimension < 1 || o.hidden < 1 || o.layers < 1 || o.heads < 1 || o.kv_heads < 1 ||
      o.context < 1)
    return "every size must be at least 1";
  if (o.dimension % o.heads != 0 || o.dimension / o.heads % 2 != 0)
    return "heads must divide dimension into an even width";
  if (o.heads % o.kv_heads != 0) return "kv_heads must divide heads";
  return nullptr;
}

std::int64_t parameter_count(const transformer_options& o) {
  const std::int64_t d = o.dimension, kv = d / o.heads * o.kv_heads, hidden = o.hidden;
  const std::int64_t layer = 2 * d + 2 * d * d + 2 * kv * d + 3 * hidden * d;
  return o.vocabulary * d + o.layers * layer + d;
}

std::vector<parameter_slice> parameter_slices(const transformer_options& o) {
  const std::int64_t d = o.dimension, kv = d / o.heads * o.kv_heads, hidden = o.hidden;
  std::vector<parameter_slice> slices;
  std::int64_t size = 0;
  const auto add = [&](std::string name, std::vector<std::int64_t> shape) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : shape) elements *= extent;
    slices.push_back({std::move(name), std::move(shape), size, elements});
    size += elements;
  };
  add("tok_embeddings.weight", {o.vocabulary, d});
  for (int l = 0; l < o.layers; ++l) {
    const std::string layer = "layers." + std::to_string(l) + ".";
    add(layer + "attention_norm.weight", {d});
    add(layer + "attention.wq.weight", {d, d});
    add(layer + "attention.wk.weight", {kv, d});
    add(layer + "attention.wv.weight", {kv, d});
    add(layer + "attention.wo.weight", {d, d});
    add(layer + "ffn_norm.weight", {d});
    add(layer + "feed_forward.w1.weight", {hidden, d});
    add(layer + "feed_forward.w3.weight", {hidden, d});
    add(layer + "feed_forward.w2.weight", {d, hidden});
  }
  add("norm.weight", {d});
  return slices;
}

}  // namespace align
